//! XEP-0092: Software Version, without the operating system, which is nobody's business.

use minidom::Element;

use super::super::Server;
use super::super::router::{IqType, Router, Target};
use crate::xmpp::element::text_element;
use crate::xmpp::ns;

pub(super) fn register(router: &mut Router, _: &Server) -> anyhow::Result<()> {
    router.disco(&[Target::Domain], ns::VERSION);
    router.iq(
        &[Target::Domain],
        IqType::Get,
        "query",
        ns::VERSION,
        |_| async { Ok(Some(version())) },
    )
}

fn version() -> Element {
    let mut query = Element::bare("query", ns::VERSION);
    for (name, text) in [("name", "moltis"), ("version", env!("CARGO_PKG_VERSION"))] {
        query.append_child(text_element(name, ns::VERSION, text));
    }
    query
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{client, server};

    #[tokio::test]
    async fn the_domain_says_what_it_runs() {
        let server = server(&["juliet"]).await;
        let mut juliet = client(&server, "juliet/balcony").await;
        let query = "<query xmlns='jabber:iq:version'/>";
        let answer = juliet.ask("get", "example.org", query).await;
        assert!(String::from(&answer).contains(env!("CARGO_PKG_VERSION")));
    }
}
