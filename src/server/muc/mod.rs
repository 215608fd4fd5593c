//! XEP-0045: rooms.
