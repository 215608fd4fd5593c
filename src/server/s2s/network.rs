//! How other servers are found and reached.

use futures::future::BoxFuture;

use super::failure::Failure;
use crate::xmpp::connector::Pipe;
use crate::xmpp::dns::Target;

/// The Internet, or in tests something smaller.
pub trait Network: Send + Sync {
    /// Where a domain's service for other servers is, best first.
    fn targets<'a>(&'a self, domain: &'a str) -> BoxFuture<'a, Result<Vec<Target>, Failure>>;

    fn connect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Box<dyn Pipe>, Failure>>;
}
