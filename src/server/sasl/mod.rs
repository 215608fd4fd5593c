//! SASL for the server (RFC 4422): mechanisms as state machines without I/O.
