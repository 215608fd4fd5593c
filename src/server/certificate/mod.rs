//! The server's certificate: PEM files, self-signed, or ACME (RFC 8555).
