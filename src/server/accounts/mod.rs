//! Who has an account here: names, SCRAM keys, tombstones.
