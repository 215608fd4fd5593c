//! What an authority's refusal means, and what to do.

use instant_acme::{Error as AcmeError, Problem};

use crate::server::certificate::challenge::Challenge;

/// RFC 8555, 6.7.
fn kind(problem: &Problem) -> &str {
    let kind = problem.r#type.as_deref().unwrap_or_default();
    kind.strip_prefix("urn:ietf:params:acme:error:")
        .unwrap_or(kind)
}

/// The account is unknown there: it was made at another authority, or that one forgot.
pub(super) fn forgot_us(err: &AcmeError) -> bool {
    matches!(err, AcmeError::Api(problem) if kind(problem) == "accountDoesNotExist")
}

/// Whether a problem is of what the authority saw when it looked, not of the request (RFC 8555, 6.7).
pub(super) fn is_of_proof(problem: &Problem) -> bool {
    let kinds = [
        "caa",
        "connection",
        "dns",
        "incorrectResponse",
        "tls",
        "unauthorized",
    ];
    kinds.contains(&kind(problem))
}

/// Why the authority did not accept the proof for a name.
pub(super) fn refused(name: &str, challenge: Challenge, problem: &Problem) -> String {
    let (port, what) = match challenge {
        Challenge::TlsAlpn => (443, "a TLS listener of moltis"),
        Challenge::Http => (80, "the HTTP listener of moltis"),
    };
    let remedy = match kind(problem) {
        "connection" => format!(
            "the authority cannot reach port {port} of {name}; open it in the firewall and forward it to {what}"
        ),
        "dns" => format!(
            "DNS has no usable address of {name}; add an A or AAAA record that points to this machine"
        ),
        "unauthorized" | "incorrectResponse" | "tls" => format!(
            "something else than moltis answers at port {port} of {name}; let DNS point to this machine and forward the port to {what}"
        ),
        "caa" => format!(
            "the CAA record of {name} forbids this authority; change the record or acme_directory"
        ),
        _ => general(problem),
    };
    format!("{remedy} ({})", detail(problem))
}

/// Why an order, an account or a request was refused.
fn general(problem: &Problem) -> String {
    match kind(problem) {
        "rateLimited" => "the authority has issued too many certificates or seen too many failures of late; moltis tries again later by itself",
        "rejectedIdentifier" => "the authority does not issue for this name; set certificate and key to files of your own",
        "unsupportedIdentifier" => "the authority cannot issue for this kind of name; set certificate and key to files of your own",
        "externalAccountRequired" => "the authority wants an account made with it before, which moltis cannot use; set acme_directory to another, or certificate and key to files",
        "userActionRequired" => "the authority asks for something to be done by hand, such as accepting new terms",
        "serverInternal" => "the authority has a fault; moltis tries again later by itself",
        "unauthorized" => "the authority refuses the account of moltis; move its account.json in data_dir away to make a new one",
        "caa" => "a CAA record forbids this authority; change the record or acme_directory",
        "dns" => "the authority does not find the name in DNS; add an A or AAAA record that points to this machine",
        "badCSR" | "malformed" => "the authority does not take the request",
        _ => "the authority refused",
    }
    .to_owned()
}

fn detail(problem: &Problem) -> String {
    let detail = problem.detail.as_deref().unwrap_or("no detail given");
    let parts: Vec<_> = problem
        .subproblems
        .iter()
        .map(|part| format!("; {part}"))
        .collect();
    format!("{}: {detail}{}", kind(problem), parts.concat())
}

/// Any other failure.
pub(super) fn failed(err: &AcmeError, directory: &str) -> String {
    match err {
        AcmeError::Api(problem) => format!("{} ({})", general(problem), detail(problem)),
        AcmeError::Timeout(_) => {
            "the authority did not decide in time; moltis tries again later by itself".to_owned()
        }
        AcmeError::Other(err) => {
            let mut text = err.to_string();
            let mut source = err.source();
            while let Some(err) = source {
                text = format!("{text}: {err}");
                source = err.source();
            }
            format!(
                "{directory} cannot be reached; check acme_directory and that this machine can reach it ({text})"
            )
        }
        AcmeError::Json(_) => {
            format!(
                "what answers at {directory} is no ACME directory; check acme_directory ({err})"
            )
        }
        err => format!("ACME with {directory} failed: {err}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(kind: &str) -> Problem {
        let kind = format!("urn:ietf:params:acme:error:{kind}");
        serde_json::from_value(serde_json::json!({ "type": kind, "detail": "as it is" })).unwrap()
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        struct Case {
            name: &'static str,
            challenge: Challenge,
            expected: &'static str,
        }
        let cases = [
            Case {
                name: "connection",
                challenge: Challenge::TlsAlpn,
                expected: "cannot reach port 443 of chat.example.org; open it",
            },
            Case {
                name: "connection",
                challenge: Challenge::Http,
                expected: "cannot reach port 80 of chat.example.org; open it",
            },
            Case {
                name: "dns",
                challenge: Challenge::Http,
                expected: "add an A or AAAA record",
            },
            Case {
                name: "unauthorized",
                challenge: Challenge::Http,
                expected: "something else than moltis answers at port 80",
            },
            Case {
                name: "caa",
                challenge: Challenge::Http,
                expected: "CAA record of chat.example.org",
            },
            Case {
                name: "rateLimited",
                challenge: Challenge::Http,
                expected: "tries again later by itself",
            },
            Case {
                name: "brandNew",
                challenge: Challenge::Http,
                expected: "the authority refused (brandNew: as it is)",
            },
        ];
        for Case {
            name,
            challenge,
            expected,
        } in cases
        {
            let text = refused("chat.example.org", challenge, &problem(name));
            assert!(text.contains(expected), "{name}: {text}");
            assert!(
                text.ends_with(&format!("({name}: as it is)")),
                "{name}: {text}"
            );
        }
    }

    #[test]
    fn a_refused_order_names_its_parts() {
        let problem: Problem = serde_json::from_str(
            r#"{"type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": "No",
                "subproblems": [{"identifier": {"type": "dns", "value": "a.example.org"}, "detail": "blocked"}]}"#,
        )
        .unwrap();
        assert_eq!(
            failed(&AcmeError::Api(problem), "https://acme.example.org/"),
            "the authority does not issue for this name; set certificate and key to files of your own (rejectedIdentifier: No; for \"a.example.org\": blocked)"
        );
    }
}
