//! Which target first (RFC 2782; XEP-0368, 3), and when the domain itself is one (RFC 6120, 3.2.2).

use super::answer::{Answer, SrvRecord};
use super::{Error, Origin, Service, Target};

/// How many targets a domain may have.
const MOST: usize = 16;

/// What came of the two questions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said<'a> {
    pub starttls: Result<&'a Answer, &'a Error>,
    pub direct: Result<&'a Answer, &'a Error>,
}

/// The domain itself as a target.
pub(super) fn itself(domain: &str, service: Service) -> Target {
    Target {
        host: domain.to_owned(),
        port: service.port(),
        direct_tls: false,
        origin: Origin::Domain,
        anywhere: service == Service::Client,
    }
}

/// All targets in the order in which to try them; `None`: the domain itself. `random(n)` draws from 0 to n.
pub(super) fn order(
    domain: &str,
    service: Service,
    said: Said<'_>,
    random: &mut dyn FnMut(u32) -> u32,
) -> Result<Option<Vec<Target>>, Error> {
    let candidates = [(said.starttls, false), (said.direct, true)]
        .into_iter()
        .filter_map(|(answer, direct_tls)| Some((answer.ok()?, direct_tls)))
        .flat_map(|(answer, direct_tls)| {
            let services = answer.services().filter(|record| !record.target.is_empty());
            let services = services.filter(|record| may_be(service, record.port));
            services.map(move |record| Candidate {
                record,
                direct_tls,
                secure: answer.secure,
            })
        });
    let targets = arrange(candidates.collect(), service == Service::Client, random);
    if !targets.is_empty() {
        return Ok(Some(targets));
    }
    match said.starttls {
        // Only the absence of records allows the fallback, not a record that says no.
        Ok(answer) if answer.services().next().is_some() => Err(Error::NoService {
            domain: domain.to_owned(),
            service,
        }),
        // Silence is not "no records": a host that never was the domain's server would answer for it. A client tries it
        // all the same, for its person waits, and the certificate tells.
        Err(err) if service == Service::Server => Err(err.clone()),
        Ok(_) | Err(_) => Ok(None),
    }
}

/// Strangers name the ports of other servers: none of the well-known services of our network but HTTPS's, which XMPP shares
/// where nothing else is let through.
fn may_be(service: Service, port: u16) -> bool {
    service == Service::Client || port == 443 || port >= 1024
}

struct Candidate<'a> {
    record: &'a SrvRecord,
    direct_tls: bool,
    secure: bool,
}

/// One order over both kinds: by priority, and by chance and weight within one.
fn arrange(
    mut left: Vec<Candidate<'_>>,
    anywhere: bool,
    random: &mut dyn FnMut(u32) -> u32,
) -> Vec<Target> {
    // RFC 2782: those of weight 0 come first in the running sum, so that they have a small chance.
    left.sort_by_key(|it| (it.record.priority, it.record.weight, !it.direct_tls));
    let mut targets = Vec::new();
    while let Some(priority) = left.first().map(|first| first.record.priority)
        && targets.len() < MOST
    {
        let weights = left
            .iter()
            .take_while(|it| it.record.priority == priority)
            .map(|it| u32::from(it.record.weight));
        let drawn = random(weights.clone().sum());
        let mut running = 0;
        let index = weights
            .into_iter()
            .position(|weight| {
                running += weight;
                running >= drawn
            })
            .unwrap_or_default();
        let chosen = left.remove(index);
        targets.push(Target {
            host: chosen.record.target.clone(),
            port: chosen.record.port,
            direct_tls: chosen.direct_tls,
            origin: Origin::Srv {
                secure: chosen.secure,
            },
            anywhere,
        });
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xmpp::dns::Data;

    fn record(priority: u16, weight: u16, target: &str) -> SrvRecord {
        SrvRecord {
            priority,
            weight,
            port: 5222,
            target: target.to_owned(),
        }
    }

    #[test]
    fn targets_are_ordered_over_both_kinds() {
        struct Case {
            name: &'static str,
            starttls: Option<Vec<SrvRecord>>,
            direct: Option<Vec<SrvRecord>>,
            drawn: u32,
            /// As [`show`] writes it.
            expected: &'static str,
        }
        let cases = [
            Case {
                name: "nothing is said: the domain itself",
                starttls: None,
                direct: None,
                drawn: 0,
                expected: "@",
            },
            Case {
                name: "one priority order over both kinds",
                starttls: Some(vec![record(10, 0, "b"), record(30, 0, "d")]),
                direct: Some(vec![record(5, 0, "a"), record(20, 0, "c")]),
                drawn: 0,
                expected: "+a b +c d",
            },
            Case {
                name: "direct TLS first where all else is equal",
                starttls: Some(vec![record(5, 0, "a")]),
                direct: Some(vec![record(5, 0, "b")]),
                drawn: 0,
                expected: "+b a",
            },
            Case {
                name: "weight: a small draw takes the lightest",
                starttls: Some(vec![record(5, 90, "heavy"), record(5, 10, "light")]),
                direct: None,
                drawn: 0,
                expected: "light heavy",
            },
            Case {
                name: "weight: a large draw takes the heaviest",
                starttls: Some(vec![record(5, 10, "light"), record(5, 90, "heavy")]),
                direct: None,
                drawn: 60,
                expected: "heavy light",
            },
            Case {
                name: "a dot says no",
                starttls: Some(vec![record(0, 0, "")]),
                direct: None,
                drawn: 0,
                expected: ".",
            },
            Case {
                name: "a dot for one kind leaves the other",
                starttls: Some(vec![record(0, 0, "")]),
                direct: Some(vec![record(0, 0, "a")]),
                drawn: 0,
                expected: "+a",
            },
            Case {
                name: "no direct TLS says nothing about STARTTLS",
                starttls: None,
                direct: Some(vec![record(0, 0, "")]),
                drawn: 0,
                expected: "@",
            },
        ];
        for case in cases {
            let said = |records: Option<Vec<SrvRecord>>| Answer {
                records: records.into_iter().flatten().map(Data::Srv).collect(),
                ..Answer::default()
            };
            let (starttls, direct) = (said(case.starttls), said(case.direct));
            let said = Said {
                starttls: Ok(&starttls),
                direct: Ok(&direct),
            };
            let mut random = |most: u32| case.drawn.min(most);
            assert_eq!(
                show(order("example.org", Service::Client, said, &mut random)),
                case.expected,
                "{}",
                case.name
            );
        }
    }

    /// `+` marks direct TLS, `.` no service, `?` a temporary failure, `@` the domain itself.
    fn show(outcome: Result<Option<Vec<Target>>, Error>) -> String {
        let mark = |target: &Target| {
            let mark = if target.direct_tls { "+" } else { "" };
            format!("{mark}{}", target.host)
        };
        match outcome {
            Ok(Some(targets)) => targets.iter().map(mark).collect::<Vec<_>>().join(" "),
            Ok(None) => "@".to_owned(),
            Err(Error::NoService { .. }) => ".".to_owned(),
            Err(err) if err.is_temporary() => "?".to_owned(),
            Err(err) => err.to_string(),
        }
    }

    #[test]
    fn silence_is_not_taken_for_an_answer() {
        struct Case {
            name: &'static str,
            /// Targets, where nothing is no record and `?` a failure.
            starttls: &'static str,
            direct: &'static str,
            client: &'static str,
            server: &'static str,
        }
        let cases = [
            Case {
                name: "both fail",
                starttls: "?",
                direct: "?",
                client: "@",
                server: "?",
            },
            Case {
                name: "what is known is enough",
                starttls: "a",
                direct: "?",
                client: "a",
                server: "a",
            },
            Case {
                name: "and so is direct TLS alone",
                starttls: "?",
                direct: "b",
                client: "+b",
                server: "+b",
            },
            Case {
                name: "there may be STARTTLS records",
                starttls: "?",
                direct: "",
                client: "@",
                server: "?",
            },
            Case {
                name: "there are none, and the older standard decides",
                starttls: "",
                direct: "?",
                client: "@",
                server: "@",
            },
            Case {
                name: "one says no, the other nothing",
                starttls: ".",
                direct: "?",
                client: ".",
                server: ".",
            },
        ];
        let failure = Error::Temporary {
            name: "example.org".to_owned(),
            reason: "SERVFAIL".to_owned(),
        };
        for case in cases {
            let said = |text: &str| {
                let records = text.split_whitespace().map(|target| {
                    let target = target.trim_matches('.');
                    Data::Srv(record(0, 0, target))
                });
                Answer {
                    records: records.collect(),
                    ..Answer::default()
                }
            };
            let (starttls, direct) = (said(case.starttls), said(case.direct));
            let said = Said {
                starttls: (case.starttls != "?").then_some(&starttls).ok_or(&failure),
                direct: (case.direct != "?").then_some(&direct).ok_or(&failure),
            };
            for (service, expected) in [
                (Service::Client, case.client),
                (Service::Server, case.server),
            ] {
                let outcome = order("example.org", service, said, &mut |_| 0);
                assert_eq!(show(outcome), expected, "{} ({service:?})", case.name);
            }
        }
    }

    #[test]
    fn a_target_is_secure_where_its_records_are() {
        let answer = |secure| Answer {
            records: vec![Data::Srv(record(0, 0, "a"))],
            secure,
            ..Answer::default()
        };
        let (starttls, direct) = (answer(false), answer(true));
        let said = Said {
            starttls: Ok(&starttls),
            direct: Ok(&direct),
        };
        let targets = order("example.org", Service::Server, said, &mut |_| 0)
            .unwrap()
            .unwrap();
        assert!(targets.len() == 2);
        for target in targets {
            let secure = target.direct_tls;
            assert_eq!(target.origin, Origin::Srv { secure });
        }
    }

    #[test]
    fn strangers_do_not_send_us_to_the_ports_of_other_services() {
        let of = |port| {
            Data::Srv(SrvRecord {
                port,
                ..record(0, 0, "a")
            })
        };
        let answer = Answer {
            records: [22, 25, 443, 1023, 5269].map(of).to_vec(),
            ..Answer::default()
        };
        let none = Answer::default();
        let said = Said {
            starttls: Ok(&answer),
            direct: Ok(&none),
        };
        let ports = |service| {
            let targets = order("example.org", service, said, &mut |_| 0).unwrap();
            let targets = targets.unwrap().into_iter();
            targets.map(|target| target.port).collect::<Vec<_>>()
        };
        assert_eq!(ports(Service::Server), [443, 5269]);
        assert_eq!(ports(Service::Client).len(), 5);
    }

    #[test]
    fn a_domain_with_hundreds_of_hosts_ends() {
        let answer = Answer {
            records: vec![Data::Srv(record(0, 0, "a")); 300],
            ..Answer::default()
        };
        let said = Said {
            starttls: Ok(&answer),
            direct: Ok(&answer),
        };
        let targets = order("example.org", Service::Server, said, &mut |_| 0).unwrap();
        assert_eq!(targets.unwrap().len(), MOST);
    }
}
