//! Every IQ request gets a result or an error (RFC 6120, 8.2.3). Pure but for the clock; ad-hoc commands are handed on.

use jid::{BareJid, Jid};
use minidom::Element;
use xmpp_parsers::iq::{Iq, IqHeader, IqPayload};
use xmpp_parsers::stanza_error::{DefinedCondition, ErrorType, StanzaError};

use super::capabilities;
use crate::gateway::command;
use crate::xmpp::element::{element, text_element};
use crate::xmpp::ns;

/// An incoming request.
#[derive(Clone, Debug)]
pub struct Asked {
    pub from: Option<Jid>,
    /// Which of a component's addresses was asked; `None` for a client, which has one.
    pub to: Option<Jid>,
    pub id: String,
    pub set: bool,
    pub payload: Element,
}

impl Asked {
    /// The reply, addressed back and from where it was asked, where that is known.
    pub fn reply(&self, outcome: Result<Option<Element>, StanzaError>) -> Iq {
        let payload = match outcome {
            Ok(payload) => IqPayload::Result(payload),
            Err(error) => IqPayload::Error(error),
        };
        let header = IqHeader {
            from: self.to.clone(),
            to: self.from.clone(),
            id: self.id.clone(),
        };
        Iq::assemble(header, payload)
    }
}

/// What to do with a request.
#[derive(Debug)]
pub enum Answer {
    Now(Result<Option<Element>, DefinedCondition>),
    /// The server tells of a roster change; take it in and confirm.
    RosterPush,
    /// XEP-0050: execute, or list (disco#items of the commands' node).
    Command,
    Commands,
}

/// What answering depends on.
pub struct Context<'a> {
    pub own: &'a BareJid,
    pub name: &'a str,
    /// Whether the sender may see our presence: XEP-0012 is told to no one else (section 4).
    pub sees_presence: bool,
}

/// An error of the type that RFC 6120, 8.3.3 gives its condition. Never with local detail.
pub fn error(condition: DefinedCondition) -> StanzaError {
    let type_ = match condition {
        DefinedCondition::BadRequest | DefinedCondition::NotAcceptable => ErrorType::Modify,
        DefinedCondition::Forbidden
        | DefinedCondition::NotAuthorized
        | DefinedCondition::SubscriptionRequired => ErrorType::Auth,
        DefinedCondition::ResourceConstraint => ErrorType::Wait,
        _ => ErrorType::Cancel,
    };
    StanzaError {
        type_,
        by: None,
        defined_condition: condition,
        texts: std::collections::BTreeMap::new(),
        other: None,
    }
}

/// Decides what a request gets.
pub fn answer(asked: &Asked, context: &Context<'_>) -> Answer {
    let payload = &asked.payload;
    let from_server = asked
        .from
        .as_ref()
        .is_none_or(|from| from.resource().is_none() && (from.to_bare() == *context.own));
    if payload.is("query", ns::ROSTER) && asked.set {
        // RFC 6121, 2.1.6: only from our own account (CVE-2015-8688).
        return if from_server {
            Answer::RosterPush
        } else {
            Answer::Now(Err(DefinedCondition::ServiceUnavailable))
        };
    }
    if payload.is("command", ns::COMMANDS) {
        return if asked.set {
            Answer::Command
        } else {
            Answer::Now(Err(DefinedCondition::BadRequest))
        };
    }
    if asked.set {
        return Answer::Now(Err(DefinedCondition::ServiceUnavailable));
    }
    let node = payload.attr("node");
    Answer::Now(match (payload.name(), payload.ns().as_str()) {
        ("query", ns::DISCO_INFO) if node == Some(ns::COMMANDS) => Ok(Some(commands_info())),
        ("query", ns::DISCO_INFO) if capabilities::is_own_node(node, context.name) => Ok(Some(
            capabilities::own(context.name, node.map(Into::into)).into(),
        )),
        ("query", ns::DISCO_INFO) => node
            .and_then(command::find)
            .map(|command| Some(command_info(command.name)))
            .ok_or(DefinedCondition::ItemNotFound),
        ("query", ns::DISCO_ITEMS) if node == Some(ns::COMMANDS) => return Answer::Commands,
        ("query", ns::DISCO_ITEMS) => Ok(Some(capabilities::no_items())),
        ("ping", ns::PING) => Ok(None),
        ("query", ns::VERSION) => Ok(Some(version())),
        ("time", ns::TIME) => Ok(Some(time())),
        ("query", ns::LAST) if context.sees_presence => {
            // A bot is never idle.
            Ok(Some(element("query", ns::LAST, &[("seconds", "0")])))
        }
        ("query", ns::LAST) => Err(DefinedCondition::Forbidden),
        _ => Err(DefinedCondition::ServiceUnavailable),
    })
}

fn commands_info() -> Element {
    let mut query = element("query", ns::DISCO_INFO, &[("node", ns::COMMANDS)]);
    let identity = [
        ("category", "automation"),
        ("type", "command-list"),
        ("name", "Commands"),
    ];
    query.append_child(element("identity", ns::DISCO_INFO, &identity));
    query
}

/// XEP-0050, 2.2.
fn command_info(node: &str) -> Element {
    let mut query = element("query", ns::DISCO_INFO, &[("node", node)]);
    let identity = [
        ("category", "automation"),
        ("type", "command-node"),
        ("name", node),
    ];
    query.append_child(element("identity", ns::DISCO_INFO, &identity));
    for feature in [ns::COMMANDS, ns::DATA_FORMS] {
        query.append_child(element("feature", ns::DISCO_INFO, &[("var", feature)]));
    }
    query
}

/// XEP-0092; without the operating system, which is nobody's business.
fn version() -> Element {
    let mut query = element("query", ns::VERSION, &[]);
    query.append_child(text_element("name", ns::VERSION, "moltis"));
    query.append_child(text_element(
        "version",
        ns::VERSION,
        env!("CARGO_PKG_VERSION"),
    ));
    query
}

/// XEP-0202.
fn time() -> Element {
    let format = &time::format_description::well_known::Rfc3339;
    let now = time::OffsetDateTime::now_utc();
    let now = now.replace_nanosecond(0).unwrap_or(now);
    let mut result = element("time", ns::TIME, &[]);
    result.append_child(text_element("tzo", ns::TIME, "+00:00"));
    result.append_child(text_element(
        "utc",
        ns::TIME,
        &now.format(format).unwrap_or_default(),
    ));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(payload: &str, set: bool, from: &str, sees_presence: bool) -> Answer {
        let own = BareJid::new("bot@example.net").unwrap();
        let asked = Asked {
            from: Jid::new(from).ok(),
            to: None,
            id: "1".into(),
            set,
            payload: payload.parse().unwrap(),
        };
        answer(
            &asked,
            &Context {
                own: &own,
                name: "Moltis",
                sees_presence,
            },
        )
    }

    #[test]
    fn every_request_gets_a_result_or_an_error() {
        struct Case {
            name: &'static str,
            payload: &'static str,
            set: bool,
            sees_presence: bool,
            expected: Result<&'static str, DefinedCondition>,
        }
        let get = |name, payload, expected| Case {
            name,
            payload,
            set: false,
            sees_presence: false,
            expected,
        };
        let cases = [
            get("ping", "<ping xmlns='urn:xmpp:ping'/>", Ok("")),
            get(
                "version",
                "<query xmlns='jabber:iq:version'/>",
                Ok("moltis"),
            ),
            get("time", "<time xmlns='urn:xmpp:time'/>", Ok("+00:00")),
            get(
                "disco#info",
                "<query xmlns='http://jabber.org/protocol/disco#info'/>",
                Ok("bot"),
            ),
            get(
                "disco#info of the commands",
                "<query xmlns='http://jabber.org/protocol/disco#info' node='http://jabber.org/protocol/commands'/>",
                Ok("command-list"),
            ),
            get(
                "disco#info of a command",
                "<query xmlns='http://jabber.org/protocol/disco#info' node='ping'/>",
                Ok("command-node"),
            ),
            get(
                "disco#info of a stale hash",
                "<query xmlns='http://jabber.org/protocol/disco#info' node='https://x#y'/>",
                Err(DefinedCondition::ItemNotFound),
            ),
            get(
                "disco#items",
                "<query xmlns='http://jabber.org/protocol/disco#items'/>",
                Ok("disco#items"),
            ),
            get(
                "last activity of a stranger",
                "<query xmlns='jabber:iq:last'/>",
                Err(DefinedCondition::Forbidden),
            ),
            Case {
                name: "last activity of a contact",
                payload: "<query xmlns='jabber:iq:last'/>",
                set: false,
                sees_presence: true,
                expected: Ok("seconds"),
            },
            get(
                "something unknown",
                "<query xmlns='urn:unknown'/>",
                Err(DefinedCondition::ServiceUnavailable),
            ),
            Case {
                name: "something unknown to set",
                payload: "<query xmlns='urn:unknown'/>",
                set: true,
                sees_presence: false,
                expected: Err(DefinedCondition::ServiceUnavailable),
            },
            Case {
                name: "a forged roster push",
                payload: "<query xmlns='jabber:iq:roster'><item jid='evil@x' subscription='both'/></query>",
                set: true,
                sees_presence: false,
                expected: Err(DefinedCondition::ServiceUnavailable),
            },
        ];
        for case in cases {
            let Answer::Now(outcome) = ask(case.payload, case.set, "a@b/c", case.sees_presence)
            else {
                panic!("{} is not answered now", case.name)
            };
            match (outcome, case.expected) {
                (Ok(payload), Ok(part)) => {
                    let xml = payload.as_ref().map(String::from).unwrap_or_default();
                    assert!(xml.contains(part), "{}: {xml}", case.name);
                }
                (Err(refused), Err(condition)) => assert_eq!(refused, condition, "{}", case.name),
                (outcome, expected) => panic!("{}: {outcome:?} instead of {expected:?}", case.name),
            }
        }
    }

    #[test]
    fn a_roster_push_counts_only_from_our_own_account() {
        let push = "<query xmlns='jabber:iq:roster'><item jid='a@x' subscription='both'/></query>";
        assert!(matches!(
            ask(push, true, "bot@example.net", false),
            Answer::RosterPush
        ));
        assert!(matches!(
            ask(push, true, "bot@example.net/other", false),
            Answer::Now(Err(_))
        ));
        assert!(matches!(
            ask(push, true, "example.net", false),
            Answer::Now(Err(_))
        ));
    }
}
