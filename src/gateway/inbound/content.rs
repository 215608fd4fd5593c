//! What a message asks for, and its text without fallbacks (XEP-0308, XEP-0424, XEP-0428, XEP-0444, XEP-0461).

use minidom::Element;
use xmpp_parsers::message::Message;

use crate::gateway::{Kind, ReplyTo};
use crate::xmpp::element::find;
use crate::xmpp::ns;

/// Sorts out what a message asks for, its text without fallbacks, and what it replies to.
pub(super) fn read(
    payloads: &[Element],
    body: &str,
    moderated: bool,
) -> (Kind, String, Option<ReplyTo>) {
    if let Some(of) = retraction(payloads) {
        return (Kind::Retraction { of, moderated }, String::new(), None);
    }
    if let Some(reactions) = find(payloads, "reactions", ns::REACTIONS)
        && let Some(to) = reactions.attr("id")
    {
        let emojis = reactions
            .children()
            .filter(|child| child.is("reaction", ns::REACTIONS))
            .map(|child| child.text().trim().to_owned())
            .filter(|emoji| !emoji.is_empty())
            .take(32)
            .collect();
        return (
            Kind::Reactions {
                to: to.into(),
                emojis,
            },
            String::new(),
            None,
        );
    }
    let kind = match find(payloads, "replace", ns::MESSAGE_CORRECT).and_then(|r| r.attr("id")) {
        Some(replaces) => Kind::Correction {
            replaces: replaces.into(),
        },
        None => Kind::Text,
    };
    let (body, quoted) = without_fallback(payloads, ns::REPLY, body);
    let reply = find(payloads, "reply", ns::REPLY).and_then(|reply| {
        Some(ReplyTo {
            id: reply.attr("id")?.into(),
            to: reply.attr("to").map(Into::into),
            quoted,
        })
    });
    (kind, body, reply)
}

/// XEP-0424 in both versions.
fn retraction(payloads: &[Element]) -> Option<String> {
    if let Some(retract) = find(payloads, "retract", ns::RETRACT) {
        return retract.attr("id").map(Into::into);
    }
    let apply = find(payloads, "apply-to", ns::FASTEN)?;
    let retracts = apply.get_child("retract", ns::RETRACT_0).is_some()
        || apply.get_child("moderated", ns::MODERATE_0).is_some();
    apply.attr("id").filter(|_| retracts).map(Into::into)
}

/// Cuts the parts of a body that XEP-0428 marks as the fallback of `feature`; positions count code points.
fn without_fallback(payloads: &[Element], feature: &str, body: &str) -> (String, Option<String>) {
    let Some(fallback) = payloads
        .iter()
        .find(|p| p.is("fallback", ns::FALLBACK) && p.attr("for") == Some(feature))
    else {
        return (body.to_owned(), None);
    };
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for part in fallback
        .children()
        .filter(|child| child.is("body", ns::FALLBACK))
    {
        let position = |name| {
            part.attr(name)
                .and_then(|value| value.parse::<usize>().ok())
        };
        match (position("start"), position("end")) {
            (Some(start), Some(end)) if start < end => ranges.push((start, end)),
            _ if part.attr("start").or(part.attr("end")).is_none() => ranges.push((0, usize::MAX)),
            _ => {}
        }
    }
    let inside = |index: usize| {
        ranges
            .iter()
            .any(|(start, end)| (*start..*end).contains(&index))
    };
    let mut rest = String::new();
    let mut quoted = String::new();
    for (index, char) in body.chars().enumerate() {
        if inside(index) {
            quoted.push(char);
        } else {
            rest.push(char);
        }
    }
    let quoted = quoted
        .lines()
        .map(|line| line.trim_start_matches('>').trim_start())
        .collect::<Vec<_>>()
        .join("\n");
    (
        rest,
        Some(quoted).filter(|quoted| !quoted.trim().is_empty()),
    )
}

pub(super) fn body(message: &Message) -> String {
    message
        .get_best_body_cloned(vec!["en"])
        .map(|(_, body)| body)
        .unwrap_or_default()
}

pub(super) fn is_encrypted(payloads: &[Element]) -> bool {
    find(payloads, "encryption", ns::EME).is_some()
        || find(payloads, "encrypted", ns::LEGACY_OMEMO).is_some()
        || find(payloads, "encrypted", ns::OMEMO).is_some()
        || find(payloads, "openpgp", ns::OX).is_some()
}

/// JIDs of XEP-0372 mentions.
pub(super) fn mentions(payloads: &[Element]) -> Vec<String> {
    payloads
        .iter()
        .filter(|p| p.is("reference", ns::REFERENCE) && p.attr("type") == Some("mention"))
        .filter_map(|reference| reference.attr("uri")?.strip_prefix("xmpp:"))
        .map(|uri| uri.split(['?', ';']).next().unwrap_or(uri).to_owned())
        .take(32)
        .collect()
}
