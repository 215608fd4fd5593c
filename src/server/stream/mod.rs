//! A client's stream: bytes, TLS, SASL, bind and stream management (RFC 6120, RFC 7395, XEP-0198).

pub mod xml;
