//! XEP-0060: nodes and items, shared by PEP (XEP-0163) and the pubsub service.
