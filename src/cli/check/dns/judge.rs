//! What an answer of the DNS is worth. Each sentence says what is there, and what to do where it is not right; the line of
//! the zone stands below.

use std::net::IpAddr;

use super::zone::Wanted;
use crate::cli::check::Level;
use crate::xmpp::dns::tlsa;
use crate::xmpp::dns::{Answer, Error, SrvRecord};

/// A level and a sentence.
pub(super) type Judgement = (Level, String);

/// What the SRV records of one owner are worth; `None`: nothing to be said. `has_address`: of the host, which is tried
/// where there is no record.
pub(super) fn service(
    wanted: &Wanted,
    outcome: Result<&Answer, &Error>,
    has_address: bool,
) -> Option<Judgement> {
    let owner = wanted.owner();
    let answer = match outcome {
        Ok(answer) => answer,
        Err(err) => return Some((Level::Problem, unknown(&owner, err))),
    };
    let found: Vec<&SrvRecord> = answer.services().collect();
    let real = || found.iter().filter(|record| !record.target.is_empty());
    if found.is_empty() {
        return missing(wanted, has_address);
    }
    let names: Vec<String> = real()
        .map(|it| format!("{}:{}", it.target, it.port))
        .collect();
    let (key, port, whom) = (wanted.key(), wanted.port, wanted.whom());
    let names = names.join(", ");
    Some(match (names.is_empty(), port) {
        (true, 0) => (
            Level::Ok,
            format!("{owner} says that there is no such service, and so it is"),
        ),
        (true, port) => (
            Level::Problem,
            format!(
                "{owner} says that there is no such service, so {whom} do not come to port {port}; replace the record"
            ),
        ),
        (false, 0) => (
            Level::Problem,
            format!("{owner} names {names}, though {whom} find nobody here; replace the record"),
        ),
        (false, port) if real().any(|record| record.port == port) => {
            (Level::Ok, format!("{owner}: {names}"))
        }
        (false, port) => (
            Level::Warning,
            format!(
                "{owner} names {names}, and {key} is {port}; replace the record unless something in front passes that port on"
            ),
        ),
    })
}

fn missing(wanted: &Wanted, has_address: bool) -> Option<Judgement> {
    let (owner, port, whom) = (wanted.owner(), wanted.port, wanted.whom());
    let (host, usual) = (&wanted.host, wanted.service.port());
    match (wanted.direct_tls, port) {
        // Without a record nobody tries direct TLS.
        (true, 0) => None,
        (true, port) => Some((
            Level::Warning,
            format!(
                "{owner} has no SRV record, so {whom} do not use direct TLS on port {port}; add it"
            ),
        )),
        (false, 0) if !has_address => None,
        (false, 0) => Some((
            Level::Warning,
            format!(
                "{owner} has no SRV record, so {whom} try port {usual} of {host} in vain; add it"
            ),
        )),
        (false, _) if !has_address => Some((
            Level::Problem,
            format!(
                "{owner} has no SRV record and {host} no address, so {whom} do not find it; add the record"
            ),
        )),
        (false, port) if port == usual => Some((
            Level::Warning,
            format!("{owner} has no SRV record, so {whom} try {host} itself; add it"),
        )),
        (false, port) => Some((
            Level::Problem,
            format!("{owner} has no SRV record, so {whom} do not find port {port}; add it"),
        )),
    }
}

/// Why a host must have an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// An SRV record names it, or nobody names another.
    Target,
    /// An authority looks there before it issues a certificate for it.
    Certificate,
}

/// What the addresses of a host are worth. `own` are those of this machine that we know.
pub(super) fn host(
    host: &str,
    need: Need,
    outcomes: [Result<&Answer, &Error>; 2],
    own: &[IpAddr],
) -> Judgement {
    let answers = || outcomes.iter().filter_map(|outcome| outcome.ok());
    let addresses: Vec<IpAddr> = answers().flat_map(Answer::addresses).collect();
    if addresses.is_empty() {
        if let Some(err) = outcomes.iter().find_map(|outcome| outcome.err()) {
            return (Level::Problem, unknown(host, err));
        }
        return match need {
            Need::Target => (
                Level::Problem,
                format!("{host} has no address, so nobody reaches it; add an A or AAAA record"),
            ),
            Need::Certificate => (
                Level::Problem,
                format!(
                    "{host} has no address, so no authority issues a certificate for it; add an A or AAAA record"
                ),
            ),
        };
    }
    let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let list = list.join(", ");
    let alias = answers().find_map(|answer| answer.alias.as_ref());
    if let Some(alias) = alias.filter(|_| need == Need::Target) {
        return (
            Level::Warning,
            format!(
                "{host} is an alias of {alias}, which the target of an SRV record must not be (RFC 2782); name {alias} in the SRV record"
            ),
        );
    }
    if addresses.iter().any(|address| own.contains(address)) {
        return (Level::Ok, format!("{host}: {list}, this machine"));
    }
    (
        Level::Ok,
        format!("{host}: {list}, no address of this machine, as is usual behind a router or proxy"),
    )
}

/// What the TLSA records of a port are worth beside the certificate that it serves.
pub(super) fn association(
    owner: &str,
    outcome: Result<&Answer, &Error>,
    verdict: tlsa::Verdict,
    trusted: bool,
) -> Judgement {
    let answer = match outcome {
        Ok(answer) => answer,
        Err(err) => return (Level::Problem, unknown(owner, err)),
    };
    if answer.associations().next().is_none() {
        return (
            Level::Ok,
            format!("{owner} has no TLSA record, which needs DNSSEC and is no duty"),
        );
    }
    match verdict {
        tlsa::Verdict::Matched if trusted && !answer.secure => (
            Level::Warning,
            format!(
                "{owner} fits the certificate, but is not signed, so nobody believes it; sign the zone (DNSSEC)"
            ),
        ),
        tlsa::Verdict::Matched => (Level::Ok, format!("{owner} fits the certificate")),
        tlsa::Verdict::Refuted => (
            Level::Problem,
            format!(
                "{owner} is of another certificate, so other servers that look at it refuse this one; replace the record"
            ),
        ),
        tlsa::Verdict::Silent => (
            Level::Warning,
            format!("{owner} has only TLSA records that nobody uses (RFC 7671, 4); replace them"),
        ),
    }
}

fn unknown(name: &str, err: &Error) -> String {
    match err {
        Error::Temporary { reason, .. } => {
            format!("{name} cannot be looked up: {reason}; check the name servers of the domain")
        }
        err => format!("{name}: {err}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xmpp::dns::{Data, Service};

    fn answer(targets: &str) -> Answer {
        let records = targets.split_whitespace().map(|target| {
            let (target, port) = target.split_once(':').unwrap_or_default();
            Data::Srv(SrvRecord {
                priority: 0,
                weight: 0,
                port: port.parse().unwrap_or_default(),
                target: target.to_owned(),
            })
        });
        Answer {
            records: records.collect(),
            exists: true,
            ..Answer::default()
        }
    }

    #[test]
    fn records_are_judged_by_what_a_peer_makes_of_them() {
        struct Case {
            name: &'static str,
            direct_tls: bool,
            port: u16,
            /// `host:port`, and `:` for no service.
            found: &'static str,
            expected: &'static str,
        }
        // `-` stands for a host without an address.
        let case = |name, direct_tls, port, found, expected| Case {
            name,
            direct_tls,
            port,
            found,
            expected,
        };
        for case in [
            case(
                "as it should be",
                false,
                5222,
                "a.test:5222",
                "ok _xmpp-client._tcp.a.test: a.test:5222",
            ),
            case(
                "one of several",
                false,
                5222,
                "b.test:443 a.test:5222",
                "ok _xmpp-client._tcp.a.test: b.test:443, a.test:5222",
            ),
            case(
                "another port",
                false,
                5222,
                "a.test:443",
                "warning _xmpp-client._tcp.a.test names a.test:443, and c2s_port is 5222; replace the record unless something in front passes that port on",
            ),
            case(
                "nothing, and the usual port",
                false,
                5222,
                "",
                "warning _xmpp-client._tcp.a.test has no SRV record, so clients try a.test itself; add it",
            ),
            case(
                "nothing, and another port",
                false,
                15222,
                "",
                "problem _xmpp-client._tcp.a.test has no SRV record, so clients do not find port 15222; add it",
            ),
            case(
                "nothing at all",
                false,
                5222,
                "-",
                "problem _xmpp-client._tcp.a.test has no SRV record and a.test no address, so clients do not find it; add the record",
            ),
            case("nothing at all, as it should be", false, 0, "-", ""),
            case(
                "no direct TLS",
                true,
                5223,
                "",
                "warning _xmpps-client._tcp.a.test has no SRV record, so clients do not use direct TLS on port 5223; add it",
            ),
            case("nothing, and nothing wanted", true, 0, "", ""),
            case(
                "nothing that says no",
                false,
                0,
                "",
                "warning _xmpp-client._tcp.a.test has no SRV record, so clients try port 5222 of a.test in vain; add it",
            ),
            case(
                "a dot that is wanted",
                false,
                0,
                ":",
                "ok _xmpp-client._tcp.a.test says that there is no such service, and so it is",
            ),
            case(
                "a dot that is not",
                false,
                5222,
                ":",
                "problem _xmpp-client._tcp.a.test says that there is no such service, so clients do not come to port 5222; replace the record",
            ),
            case(
                "a host that does not listen",
                true,
                0,
                "a.test:5223",
                "problem _xmpps-client._tcp.a.test names a.test:5223, though clients find nobody here; replace the record",
            ),
        ] {
            let wanted = Wanted {
                host: "a.test".to_owned(),
                service: Service::Client,
                direct_tls: case.direct_tls,
                port: case.port,
            };
            let has_address = case.found != "-";
            let found = answer(case.found.trim_start_matches('-'));
            let found = service(&wanted, Ok(&found), has_address);
            let found = found.map(show).unwrap_or_default();
            assert_eq!(found, case.expected, "{}", case.name);
        }
    }

    fn show((level, message): Judgement) -> String {
        format!("{} {message}", level.word())
    }

    #[test]
    fn addresses_are_judged_by_who_needs_them() {
        struct Case {
            name: &'static str,
            need: Need,
            addresses: &'static [&'static str],
            alias: Option<&'static str>,
            expected: &'static str,
        }
        let case = |name, need, addresses, alias, expected| Case {
            name,
            need,
            addresses,
            alias,
            expected,
        };
        for case in [
            case(
                "this machine",
                Need::Target,
                &["192.0.2.1", "2001:db8::1"],
                None,
                "ok a.test: 192.0.2.1, 2001:db8::1, this machine",
            ),
            case(
                "another, which is only said",
                Need::Target,
                &["192.0.2.9"],
                None,
                "ok a.test: 192.0.2.9, no address of this machine, as is usual behind a router or proxy",
            ),
            case(
                "an alias as a target",
                Need::Target,
                &["192.0.2.1"],
                Some("b.test"),
                "warning a.test is an alias of b.test, which the target of an SRV record must not be (RFC 2782); name b.test in the SRV record",
            ),
            case(
                "an alias that only an authority follows",
                Need::Certificate,
                &["192.0.2.1"],
                Some("b.test"),
                "ok a.test: 192.0.2.1, this machine",
            ),
            case(
                "nothing",
                Need::Target,
                &[],
                None,
                "problem a.test has no address, so nobody reaches it; add an A or AAAA record",
            ),
            case(
                "nothing for the authority",
                Need::Certificate,
                &[],
                None,
                "problem a.test has no address, so no authority issues a certificate for it; add an A or AAAA record",
            ),
        ] {
            let found = Answer {
                records: case
                    .addresses
                    .iter()
                    .map(|address| Data::Address(address.parse().unwrap()))
                    .collect(),
                exists: true,
                alias: case.alias.map(ToOwned::to_owned),
                ..Answer::default()
            };
            let own = ["192.0.2.1".parse().unwrap()];
            let none = Answer::default();
            let judgement = host("a.test", case.need, [Ok(&none), Ok(&found)], &own);
            assert_eq!(show(judgement), case.expected, "{}", case.name);
        }
    }

    #[test]
    fn what_cannot_be_known_is_a_problem() {
        let err = Error::Temporary {
            name: "a.test".to_owned(),
            reason: "SERVFAIL".to_owned(),
        };
        let (level, message) = host("a.test", Need::Target, [Err(&err), Err(&err)], &[]);
        assert_eq!(level, Level::Problem);
        assert_eq!(
            message,
            "a.test cannot be looked up: SERVFAIL; check the name servers of the domain"
        );
    }
}
