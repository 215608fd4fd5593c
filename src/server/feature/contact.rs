//! XEP-0157: Contact Addresses. Whom to write to about abuse and the like, in the disco#info of the domain.

use std::collections::BTreeMap;
use std::sync::Arc;

use minidom::Element;

use super::super::Server;
use super::super::pubsub::form::{field, form};
use super::super::router::Router;
use crate::xmpp::ns;

pub(super) fn register(router: &mut Router, _: &Server) -> anyhow::Result<()> {
    router.disco_form(Arc::new(|server: &Server| {
        addresses(&server.settings().contact)
    }));
    Ok(())
}

/// The form; `None` where nobody is named.
fn addresses(contact: &BTreeMap<String, Vec<String>>) -> Option<Element> {
    let fields: Vec<Element> = contact
        .iter()
        .filter(|(_, addresses)| !addresses.is_empty())
        .map(|(purpose, addresses)| {
            let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
            field(&format!("{purpose}-addresses"), "list-multi", &addresses)
        })
        .collect();
    (!fields.is_empty()).then(|| form("result", ns::SERVER_INFO, fields))
}

#[cfg(test)]
mod tests {
    use super::super::super::Settings;
    use super::super::super::testing::{client, with};
    use super::*;

    #[tokio::test]
    async fn the_domain_names_whom_to_write_to() {
        let mut settings = Settings::new("example.org");
        let abuse = vec!["mailto:abuse@example.org".to_owned()];
        settings.contact = BTreeMap::from([("abuse".to_owned(), abuse)]);
        let server = with(settings, &["juliet"]).await;
        let mut juliet = client(&server, "juliet/balcony").await;
        let query = format!("<query xmlns='{}'/>", ns::DISCO_INFO);
        let answer = String::from(&juliet.ask("get", "example.org", &query).await);
        assert!(answer.contains("abuse-addresses") && answer.contains("mailto:abuse@example.org"));
        assert!(addresses(&BTreeMap::new()).is_none());
    }
}
