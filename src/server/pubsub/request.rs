//! What somebody asks of a pubsub service: `<pubsub/>` and its owner's form, read into one [`Request`].

use jid::{BareJid, Jid};
use minidom::Element;

use super::error::{nodeid_required, with};
use super::form::{Filled, NODE_CONFIG, PUBLISH_OPTIONS, SUBSCRIBE_OPTIONS};
use super::node::{Affiliation, SubscriptionState};
use super::page::Paging;
use crate::server::StanzaError;
use crate::xmpp::element::child_text;
use crate::xmpp::ns;

/// The most items, or entries of a list, that one request may name.
const MAX_LIST: usize = 1_000;
/// Node and item ids are at most as long as a part of a JID, which many of them are.
const MAX_ID: usize = 3_071;

/// An item as it is published.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewItem {
    pub id: Option<String>,
    pub payload: Option<Element>,
}

/// What is asked. `node` is never empty.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    Publish {
        node: String,
        item: Option<NewItem>,
        options: Option<Filled>,
    },
    Retract {
        node: String,
        ids: Vec<String>,
        notify: bool,
    },
    Items {
        node: String,
        ids: Vec<String>,
        max: Option<usize>,
        paging: Paging,
    },
    /// Without a node, the service makes up a name (XEP-0060, 8.1.2).
    Create {
        node: Option<String>,
        configure: Option<Filled>,
    },
    GetConfiguration {
        node: String,
    },
    Configure {
        node: String,
        form: Filled,
    },
    /// The configuration that new nodes have.
    Defaults,
    Delete {
        node: String,
        redirect: Option<String>,
    },
    Purge {
        node: String,
    },
    Subscribe {
        node: String,
        jid: Jid,
        options: Option<Filled>,
    },
    Unsubscribe {
        node: String,
        jid: Jid,
        subid: Option<String>,
    },
    GetOptions {
        node: String,
        jid: Jid,
        subid: Option<String>,
    },
    SetOptions {
        node: String,
        jid: Jid,
        subid: Option<String>,
        form: Filled,
    },
    /// One's own, at one node or all.
    Subscriptions {
        node: Option<String>,
    },
    Affiliations {
        node: Option<String>,
    },
    /// Everybody's, for an owner.
    GetSubscribers {
        node: String,
    },
    SetSubscribers {
        node: String,
        changes: Vec<(Jid, SubscriptionState)>,
    },
    GetAffiliates {
        node: String,
    },
    SetAffiliates {
        node: String,
        changes: Vec<(BareJid, Affiliation)>,
    },
}

impl Request {
    /// The node that is asked about.
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Defaults => None,
            Self::Create { node, .. }
            | Self::Subscriptions { node }
            | Self::Affiliations { node } => node.as_deref(),
            Self::Publish { node, .. }
            | Self::Retract { node, .. }
            | Self::Items { node, .. }
            | Self::GetConfiguration { node }
            | Self::Configure { node, .. }
            | Self::Delete { node, .. }
            | Self::Purge { node }
            | Self::Subscribe { node, .. }
            | Self::Unsubscribe { node, .. }
            | Self::GetOptions { node, .. }
            | Self::SetOptions { node, .. }
            | Self::GetSubscribers { node }
            | Self::SetSubscribers { node, .. }
            | Self::GetAffiliates { node }
            | Self::SetAffiliates { node, .. } => Some(node),
        }
    }

    /// Reads the payload of an IQ; `set` tells an IQ set from a get.
    pub fn parse(set: bool, pubsub: &Element) -> Result<Self, StanzaError> {
        // `<create/>`, `<publish/>` and `<subscribe/>` come first, what belongs to them second.
        let action = pubsub
            .children()
            .find(|child| child.ns() == pubsub.ns() && !is_companion(child, pubsub))
            .ok_or_else(StanzaError::bad_request)?;
        if pubsub.is("pubsub", ns::PUBSUB) {
            Self::parse_common(set, action, pubsub)
        } else if pubsub.is("pubsub", ns::PUBSUB_OWNER) {
            Self::parse_owner(set, action)
        } else {
            Err(StanzaError::bad_request())
        }
    }

    fn parse_common(set: bool, action: &Element, pubsub: &Element) -> Result<Self, StanzaError> {
        match (set, action.name()) {
            (true, "publish") => publish(action, pubsub),
            (true, "retract") => Ok(Self::Retract {
                node: node(action)?,
                ids: item_ids(action)?,
                notify: matches!(action.attr("notify"), Some("1" | "true")),
            }),
            (false, "items") => Ok(Self::Items {
                node: node(action)?,
                ids: item_ids(action)?,
                max: action
                    .attr("max_items")
                    .map(|max| max.parse().map_err(|_wrong| StanzaError::bad_request()))
                    .transpose()?,
                paging: Paging::inside(pubsub)?,
            }),
            (true, "create") => Ok(Self::Create {
                node: optional_node(action)?,
                configure: companion_form(pubsub, "configure", NODE_CONFIG)?,
            }),
            (true, "subscribe") => Ok(Self::Subscribe {
                node: node(action)?,
                jid: jid(action)?,
                options: companion_form(pubsub, "options", SUBSCRIBE_OPTIONS)?,
            }),
            (true, "unsubscribe") => Ok(Self::Unsubscribe {
                node: node(action)?,
                jid: jid(action)?,
                subid: subid(action),
            }),
            (false, "options") => Ok(Self::GetOptions {
                node: node(action)?,
                jid: jid(action)?,
                subid: subid(action),
            }),
            (true, "options") => Ok(Self::SetOptions {
                node: node(action)?,
                jid: jid(action)?,
                subid: subid(action),
                form: Filled::inside(action, SUBSCRIBE_OPTIONS)?
                    .ok_or_else(|| with(StanzaError::bad_request(), "invalid-options"))?,
            }),
            (false, "subscriptions") => Ok(Self::Subscriptions {
                node: optional_node(action)?,
            }),
            (false, "affiliations") => Ok(Self::Affiliations {
                node: optional_node(action)?,
            }),
            // Some ask for it where it was before version 1.9 of the XEP.
            (false, "default") => Ok(Self::Defaults),
            _ => Err(StanzaError::bad_request()),
        }
    }

    fn parse_owner(set: bool, action: &Element) -> Result<Self, StanzaError> {
        match (set, action.name()) {
            (false, "configure") => Ok(Self::GetConfiguration {
                node: node(action)?,
            }),
            (true, "configure") => Ok(Self::Configure {
                node: node(action)?,
                form: Filled::inside(action, NODE_CONFIG)?.ok_or_else(StanzaError::bad_request)?,
            }),
            (false, "default") => Ok(Self::Defaults),
            (true, "delete") => Ok(Self::Delete {
                node: node(action)?,
                redirect: action
                    .get_child("redirect", ns::PUBSUB_OWNER)
                    .and_then(|redirect| redirect.attr("uri"))
                    .map(ToOwned::to_owned),
            }),
            (true, "purge") => Ok(Self::Purge {
                node: node(action)?,
            }),
            (false, "subscriptions") => Ok(Self::GetSubscribers {
                node: node(action)?,
            }),
            (true, "subscriptions") => Ok(Self::SetSubscribers {
                node: node(action)?,
                changes: changes(action, "subscription", |entry| {
                    Some((
                        Jid::new(entry.attr("jid")?).ok()?,
                        SubscriptionState::from_name(entry.attr("subscription")?)?,
                    ))
                })?,
            }),
            (false, "affiliations") => Ok(Self::GetAffiliates {
                node: node(action)?,
            }),
            (true, "affiliations") => Ok(Self::SetAffiliates {
                node: node(action)?,
                changes: changes(action, "affiliation", |entry| {
                    Some((
                        Jid::new(entry.attr("jid")?).ok()?.into_bare(),
                        Affiliation::from_name(entry.attr("affiliation")?)?,
                    ))
                })?,
            }),
            _ => Err(StanzaError::bad_request()),
        }
    }
}

/// Elements that only say more about another one, wherever they stand.
fn is_companion(child: &Element, pubsub: &Element) -> bool {
    let beside = |name| pubsub.has_child(name, ns::PUBSUB);
    match child.name() {
        "publish-options" => true,
        "configure" => pubsub.has_ns(ns::PUBSUB),
        "options" => beside("subscribe"),
        _ => false,
    }
}

fn publish(action: &Element, pubsub: &Element) -> Result<Request, StanzaError> {
    let node = node(action)?;
    let mut items = children(action, "item");
    let item = items.next().map(new_item).transpose()?;
    if items.next().is_some() {
        // Publishing several at once is gone since version 1.13 (XEP-0060, 7.1.1).
        return Err(StanzaError::bad_request().text("One item at a time"));
    }
    Ok(Request::Publish {
        node,
        item,
        options: companion_form(pubsub, "publish-options", PUBLISH_OPTIONS)?,
    })
}

fn new_item(item: &Element) -> Result<NewItem, StanzaError> {
    let mut payloads = item.children();
    let payload = payloads.next().cloned();
    if payloads.next().is_some() {
        return Err(with(StanzaError::bad_request(), "invalid-payload"));
    }
    let id = item.attr("id").filter(|id| !id.is_empty());
    Ok(NewItem {
        id: id.map(bounded).transpose()?,
        payload,
    })
}

fn children<'a>(parent: &'a Element, name: &'a str) -> impl Iterator<Item = &'a Element> {
    let namespace = parent.ns();
    parent
        .children()
        .filter(move |child| child.name() == name && child.ns() == namespace)
}

fn bounded(id: &str) -> Result<String, StanzaError> {
    if id.len() > MAX_ID {
        return Err(StanzaError::policy_violation().text("The id is too long"));
    }
    Ok(id.to_owned())
}

fn optional_node(action: &Element) -> Result<Option<String>, StanzaError> {
    let node = action.attr("node").filter(|node| !node.is_empty());
    node.map(bounded).transpose()
}

fn node(action: &Element) -> Result<String, StanzaError> {
    optional_node(action)?.ok_or_else(nodeid_required)
}

fn item_ids(action: &Element) -> Result<Vec<String>, StanzaError> {
    let ids: Vec<String> = children(action, "item")
        .map(|item| item.attr("id").filter(|id| !id.is_empty()))
        .map(|id| id.map(ToOwned::to_owned))
        .collect::<Option<_>>()
        .ok_or_else(|| with(StanzaError::bad_request(), "item-required"))?;
    within_list(ids)
}

fn within_list<T>(list: Vec<T>) -> Result<Vec<T>, StanzaError> {
    if list.len() > MAX_LIST {
        return Err(StanzaError::policy_violation().text("The list is too long"));
    }
    Ok(list)
}

fn changes<T>(
    action: &Element,
    name: &str,
    read: impl Fn(&Element) -> Option<T>,
) -> Result<Vec<T>, StanzaError> {
    let changes: Option<Vec<T>> = children(action, name).map(read).collect();
    within_list(changes.ok_or_else(StanzaError::bad_request)?)
}

fn jid(action: &Element) -> Result<Jid, StanzaError> {
    let jid = action
        .attr("jid")
        .ok_or_else(|| with(StanzaError::bad_request(), "jid-required"))?;
    Jid::new(jid).map_err(|_wrong| with(StanzaError::bad_request(), "invalid-jid"))
}

fn subid(action: &Element) -> Option<String> {
    action.attr("subid").map(ToOwned::to_owned)
}

/// The form in an element beside the action.
fn companion_form(
    pubsub: &Element,
    name: &str,
    form_type: &str,
) -> Result<Option<Filled>, StanzaError> {
    match pubsub.get_child(name, ns::PUBSUB) {
        Some(companion) => Filled::inside(companion, form_type),
        None => Ok(None),
    }
}

/// An owner's answer to a request for a subscription (XEP-0060, 8.6).
#[derive(Clone, Debug, PartialEq)]
pub struct Authorization {
    pub node: String,
    pub jid: Jid,
    pub subid: Option<String>,
    pub allow: bool,
}

impl Authorization {
    /// Reads the form in a message to the service; `None` where the message has another purpose.
    pub fn parse(message: &Element) -> Option<Self> {
        let form = message.get_child("x", ns::DATA_FORMS)?;
        let is_authorization = form.children().any(|field| {
            field.attr("var") == Some("FORM_TYPE")
                && child_text(field, "value", ns::DATA_FORMS).as_deref()
                    == Some(super::form::SUBSCRIBE_AUTHORIZATION)
        });
        if !is_authorization {
            return None;
        }
        let filled = Filled::parse(form, super::form::SUBSCRIBE_AUTHORIZATION).ok()?;
        if filled.cancelled {
            return None;
        }
        Some(Self {
            node: filled.value("pubsub#node")?.to_owned(),
            jid: Jid::new(filled.value("pubsub#subscriber_jid")?).ok()?,
            subid: filled.value("pubsub#subid").map(ToOwned::to_owned),
            allow: super::config::boolean(filled.value("pubsub#allow")?)?,
        })
    }
}

#[cfg(test)]
mod tests;
