//! XEP-0215: External Service Discovery. STUN and TURN servers for calls, with names and passwords that are valid for a time:
//! made from a secret that the service knows too, as coturn and others take them (draft-uberti-behave-turn-rest-00, 2.2).

use base64::prelude::{BASE64_STANDARD, Engine};
use hmac::{Hmac, Mac};
use jid::NodeRef;
use minidom::Element;
use secrecy::ExposeSecret;
use sha1::Sha1;

use super::super::router::{IqType, Reply, Request, Router, Target};
use super::super::{Server, StanzaError};
use crate::config::ExternalService;
use crate::xmpp::element::{element, set};
use crate::xmpp::{datetime, ns};

/// As long as a call lasts, and then some: a relay asks for them again while it is used.
const LIFETIME: i64 = 86_400_000;

pub(super) fn register(router: &mut Router, _: &Server) -> anyhow::Result<()> {
    let domain = [Target::Domain];
    router.disco(&domain, ns::EXT_DISCO);
    router.iq(&domain, IqType::Get, "services", ns::EXT_DISCO, services)?;
    router.iq(
        &domain,
        IqType::Get,
        "credentials",
        ns::EXT_DISCO,
        credentials,
    )
}

/// The local part of who asks: relays cost, and are for people of this server.
fn person(request: &Request) -> Result<&str, StanzaError> {
    let from = &request.from;
    let is_local = request.server.is_local(from.domain().as_str());
    let name = from.node().filter(|_| is_local);
    name.map(NodeRef::as_str).ok_or_else(StanzaError::forbidden)
}

/// 3.1 and 3.2.
async fn services(request: Request) -> Reply {
    let person = person(&request)?;
    let kind = request.payload.attr("type");
    let settings = request.server.settings();
    let wanted = settings.external_services.iter();
    let wanted = wanted.filter(|service| kind.is_none_or(|kind| service.kind == kind));
    let mut answer = Element::bare("services", ns::EXT_DISCO);
    if let Some(kind) = kind {
        set(&mut answer, "type", kind);
    }
    for service in wanted {
        answer.append_child(describe(service, person, datetime::now())?);
    }
    Ok(Some(answer))
}

/// 3.3: for those that are asked about.
async fn credentials(request: Request) -> Reply {
    let person = person(&request)?;
    let settings = request.server.settings();
    let asked: Vec<_> = request
        .payload
        .children()
        .filter(|service| service.is("service", ns::EXT_DISCO))
        .map(|service| {
            (
                service.attr("host"),
                service.attr("type"),
                service.attr("port"),
            )
        })
        .collect();
    if asked.is_empty()
        || asked
            .iter()
            .any(|(host, kind, _)| host.is_none() || kind.is_none())
    {
        return Err(StanzaError::bad_request().text("A service has a host and a type"));
    }
    let is_asked = |service: &&ExternalService| {
        let number = service.port.to_string();
        service.secret.is_some()
            && asked.iter().any(|(host, kind, port)| {
                *host == Some(&service.host)
                    && *kind == Some(&service.kind)
                    && port.is_none_or(|port| port == number)
            })
    };
    let mut answer = Element::bare("credentials", ns::EXT_DISCO);
    for service in settings.external_services.iter().filter(is_asked) {
        answer.append_child(describe(service, person, datetime::now())?);
    }
    match answer.children().next() {
        Some(_) => Ok(Some(answer)),
        None => Err(StanzaError::item_not_found()),
    }
}

fn describe(service: &ExternalService, person: &str, now: i64) -> Result<Element, StanzaError> {
    let port = service.port.to_string();
    let attributes = [
        ("type", service.kind.as_str()),
        ("host", &service.host),
        ("port", &port),
        ("transport", &service.transport),
    ];
    let mut described = element("service", ns::EXT_DISCO, &attributes);
    if let Some(secret) = &service.secret {
        // To the second, as it stands in the name.
        let until = now.saturating_add(LIFETIME).div_euclid(1_000);
        let name = format!("{until}:{person}");
        let password = password(secret.expose_secret(), &name)?;
        set(&mut described, "restricted", "1");
        set(&mut described, "username", &name);
        set(&mut described, "password", &password);
        set(
            &mut described,
            "expires",
            &datetime::stamp(until.saturating_mul(1_000)),
        );
    }
    Ok(described)
}

fn password(secret: &str, name: &str) -> Result<String, StanzaError> {
    let mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes());
    let mut mac = mac.map_err(|_impossible| StanzaError::internal_server_error())?;
    mac.update(name.as_bytes());
    Ok(BASE64_STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::super::super::Settings;
    use super::super::super::testing::{Client, client, with};
    use super::*;

    fn service(kind: &str, secret: Option<&str>) -> ExternalService {
        ExternalService {
            kind: kind.to_owned(),
            host: "turn.example.org".to_owned(),
            port: 3478,
            transport: "udp".to_owned(),
            secret: secret.map(Into::into),
        }
    }

    async fn juliet() -> Client {
        let mut settings = Settings::new("example.org");
        settings.external_services = vec![service("stun", None), service("turn", Some("north"))];
        client(&with(settings, &["juliet"]).await, "juliet/balcony").await
    }

    /// Type and password of each.
    fn told(answer: &Element) -> Vec<(String, Option<String>)> {
        let services = answer.children().next().unwrap().children();
        services
            .map(|service| {
                let text = |name| service.attr(name).map(str::to_owned);
                (text("type").unwrap(), text("password"))
            })
            .collect()
    }

    #[test]
    fn a_password_is_what_the_relay_computes() {
        // printf '%s' 1400000000:juliet | openssl dgst -sha1 -hmac north -binary | base64
        let now = 1_400_000_000_000 - LIFETIME;
        let described = describe(&service("turn", Some("north")), "juliet", now).unwrap();
        assert_eq!(described.attr("username"), Some("1400000000:juliet"));
        assert_eq!(
            described.attr("password"),
            Some("ABz7Wkt1QfHDzo3qYztoGEnTwP4=")
        );
        assert_eq!(described.attr("expires"), Some("2014-05-13T16:53:20.000Z"));
        assert_eq!(described.attr("restricted"), Some("1"));
    }

    #[tokio::test]
    async fn services_are_told_with_passwords_for_a_time() {
        let mut juliet = juliet().await;
        let all = juliet
            .ask(
                "get",
                "example.org",
                "<services xmlns='urn:xmpp:extdisco:2'/>",
            )
            .await;
        let all = told(&all);
        assert_eq!(all.len(), 2);
        assert!(matches!(&all[0], (kind, None) if kind == "stun"));
        assert!(matches!(&all[1], (kind, Some(_)) if kind == "turn"));
        let some = "<services xmlns='urn:xmpp:extdisco:2' type='stun'/>";
        assert_eq!(told(&juliet.ask("get", "example.org", some).await).len(), 1);
    }

    #[tokio::test]
    async fn credentials_are_for_what_is_asked_for() {
        let mut juliet = juliet().await;
        for (service, expected) in [
            ("<service host='turn.example.org' type='turn'/>", "result"),
            (
                "<service host='turn.example.org' type='turn' port='3478'/>",
                "result",
            ),
            (
                "<service host='turn.example.org' type='turn' port='1'/>",
                "error",
            ),
            ("<service host='turn.example.org' type='stun'/>", "error"),
            ("<service host='elsewhere.example' type='turn'/>", "error"),
            ("<service type='turn'/>", "error"),
            ("", "error"),
        ] {
            let ask = format!("<credentials xmlns='urn:xmpp:extdisco:2'>{service}</credentials>");
            let answer = juliet.ask("get", "example.org", &ask).await;
            assert_eq!(answer.attr("type"), Some(expected), "{service}");
        }
    }
}
