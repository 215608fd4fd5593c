//! Which servers this one talks to: `[xmpp_server.federation]`.

use std::net::IpAddr;

use super::failure::{Failure, Obstacle};
use crate::config::Federation;

/// Why nothing goes to or comes from a domain; `None` where it may.
pub(super) fn reason_against(federation: &Federation, domain: &str) -> Option<Failure> {
    let forbidden = |text: String| Some(Failure::new(Obstacle::Forbidden, text));
    if !federation.enabled {
        return Some(Failure::new(
            Obstacle::NotFound,
            "This server does not talk to other servers",
        ));
    }
    if covers(&federation.deny, domain) {
        return forbidden(format!("This server does not talk to {domain}"));
    }
    if !federation.allow.is_empty() && !covers(&federation.allow, domain) {
        return forbidden(format!(
            "This server talks to chosen servers only, and {domain} is none of them"
        ));
    }
    if is_address(domain) {
        // Nobody could show that it is theirs, and behind it may be this machine or its neighbours.
        return Some(Failure::new(
            Obstacle::NotFound,
            format!("{domain} is no domain of another server"),
        ));
    }
    None
}

/// A domain stands for itself and all below it.
fn covers(list: &[String], domain: &str) -> bool {
    list.iter().any(|entry| {
        domain
            .strip_suffix(entry.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

/// Whether it is an address or this machine (RFC 6761, 6.3).
pub(super) fn is_address(domain: &str) -> bool {
    let bare = domain.trim_start_matches('[').trim_end_matches(']');
    let host = domain.trim_end_matches('.');
    bare.parse::<IpAddr>().is_ok() || host == "localhost" || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_be_talked_to() {
        struct Case {
            name: &'static str,
            allow: &'static [&'static str],
            deny: &'static [&'static str],
            domain: &'static str,
            expected: Option<Obstacle>,
        }
        let forbidden = Some(Obstacle::Forbidden);
        #[rustfmt::skip]
        let cases = [
            Case { name: "all", allow: &[], deny: &[], domain: "a.example", expected: None },
            Case { name: "denied", allow: &[], deny: &["a.example"], domain: "a.example", expected: forbidden },
            Case { name: "below", allow: &[], deny: &["a.example"], domain: "muc.a.example", expected: forbidden },
            Case { name: "another", allow: &[], deny: &["a.example"], domain: "xa.example", expected: None },
            Case { name: "allowed", allow: &["a.example"], deny: &[], domain: "muc.a.example", expected: None },
            Case { name: "not allowed", allow: &["a.example"], deny: &[], domain: "example", expected: forbidden },
            Case { name: "both", allow: &["a.example"], deny: &["muc.a.example"], domain: "muc.a.example", expected: forbidden },
            Case { name: "address", allow: &[], deny: &[], domain: "[::1]", expected: Some(Obstacle::NotFound) },
            Case { name: "this machine", allow: &[], deny: &[], domain: "x.localhost", expected: Some(Obstacle::NotFound) },
        ];
        for case in cases {
            let list = |list: &[&str]| list.iter().map(ToString::to_string).collect();
            let federation = Federation {
                allow: list(case.allow),
                deny: list(case.deny),
                ..Federation::default()
            };
            let reason = reason_against(&federation, case.domain);
            let obstacle = reason.map(|failure| failure.obstacle);
            assert_eq!(obstacle, case.expected, "{}", case.name);
        }
    }

    #[test]
    fn where_federation_is_off_there_is_nobody() {
        let federation = Federation {
            enabled: false,
            ..Federation::default()
        };
        let reason = reason_against(&federation, "a.example").unwrap();
        assert_eq!(reason.obstacle, Obstacle::NotFound);
    }
}
