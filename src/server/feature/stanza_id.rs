//! XEP-0359: ids that a server gives, XEP-0421: those that a room gives, and XEP-0203: times that it tells. Those that claim to be ours and are not are taken off before anybody sees them.

use jid::{BareJid, Jid};
use minidom::{Element, Node};

use super::super::Server;
use super::super::passage::{Passage, Side};
use super::super::stanza::Stanza;
use crate::xmpp::element::element;
use crate::xmpp::ns;

/// Removes ids that nobody but this server could have given, and those that are none.
pub(super) fn strip(passage: &mut Passage<'_>) {
    let from = passage.stanza.from().clone();
    let (server, side) = (passage.server, passage.side);
    let unwanted = |child: &Element| {
        (child.is("stanza-id", ns::STANZA_ID) && !is_true(child, server, side, &from))
            || (child.is("delay", ns::DELAY) && is_forged(child, server, &from))
            // XEP-0421, 3: a room's word. Other servers' rooms look like their people.
            || (child.is("occupant-id", ns::OID) && server.is_local(from.domain().as_str()))
    };
    if !passage.stanza.element().children().any(unwanted) {
        return;
    }
    let element = passage.stanza.element_mut();
    for node in element.take_nodes() {
        if !matches!(&node, Node::Element(child) if unwanted(child)) {
            element.append_node(node);
        }
    }
}

/// A delay (XEP-0203) in the name of this server, of a service of it or of somebody here, by another.
fn is_forged(delay: &Element, server: &Server, from: &Jid) -> bool {
    let Some(by) = delay.attr("from").and_then(|by| Jid::new(by).ok()) else {
        return false;
    };
    let domain = by.domain().as_str();
    let hosted = server.hosts().iter().any(|(name, _)| name == domain);
    (server.is_local(domain) || hosted) && by.to_bare() != from.to_bare()
}

/// XEP-0359, 3. Other servers answer for their own ids; on our domains only services, such as rooms, give ids to what
/// they send.
fn is_true(id: &Element, server: &Server, side: Side, from: &Jid) -> bool {
    let Some(by) = id.attr("by").and_then(|by| Jid::new(by).ok()) else {
        return false;
    };
    if id.attr("id").is_none_or(str::is_empty) {
        return false;
    }
    let domain = by.domain().as_str();
    if server.is_local(domain) {
        return false;
    }
    let hosted = server.hosts().iter().any(|(name, _)| name == domain);
    !hosted || (side == Side::Incoming && by == from.to_bare())
}

/// Tells where the message is in the archive of `by`.
pub(super) fn stamp(message: &mut Stanza, by: &BareJid, id: &str) {
    let attributes = [("by", by.as_str()), ("id", id)];
    message
        .element_mut()
        .append_child(element("stanza-id", ns::STANZA_ID, &attributes));
}
