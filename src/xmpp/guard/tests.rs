//! The scanner alone, and with the real parser behind it.

use futures::StreamExt;
use proptest::prelude::*;
use tokio_xmpp::Stanza;
use tokio_xmpp::xmlstream::{
    FallibleStreamElement, ReadError, StreamElementError, StreamHeader, Timeouts,
    XmppStreamElement, initiate_stream,
};
use xmpp_parsers::message::MessageType;

use super::*;

const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' id='1' version='1.0'>";

/// Scans in pieces of these sizes, over and over.
fn scan(
    input: &[u8],
    sizes: &[usize],
    limits: Limits,
) -> (Vec<u8>, Vec<Finding>, Option<Violation>) {
    let mut scanner = Scanner::new(limits);
    let (mut out, mut findings) = (Vec::new(), Vec::new());
    let mut rest = input;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*size).clamp(1, rest.len()));
        if let Err(violation) = scanner.feed(piece, &mut out, &mut findings) {
            return (out, findings, Some(violation));
        }
        rest = after;
    }
    (out, findings, None)
}

fn scan_text(input: &str) -> (String, Vec<Finding>, Option<Violation>) {
    let (out, findings, violation) = scan(input.as_bytes(), &[4096], Limits::default());
    (String::from_utf8(out).unwrap(), findings, violation)
}

/// What the real parser makes of a stream behind the guard: the kind of each item.
async fn parse(input: Vec<u8>) -> (Vec<String>, Vec<Stanza>) {
    let io = tokio::io::join(io::Cursor::new(input), tokio::io::sink());
    let header = StreamHeader::default();
    let pending = initiate_stream(
        Guard::new(io, Limits::default()),
        ns::JABBER_CLIENT,
        header,
        Timeouts::default(),
    );
    let mut stream = pending
        .await
        .unwrap()
        .skip_features::<FallibleStreamElement>();
    let (mut kinds, mut stanzas) = (Vec::new(), Vec::new());
    while let Some(item) = stream.next().await {
        kinds.push(match item {
            Ok(FallibleStreamElement::Ok(XmppStreamElement::Stanza(stanza))) => {
                stanzas.push(stanza);
                "stanza".to_owned()
            }
            Ok(FallibleStreamElement::Ok(other)) => format!("{other:?}"),
            Ok(FallibleStreamElement::Err(StreamElementError::InvalidStanza { .. })) => {
                "invalid stanza".to_owned()
            }
            Ok(FallibleStreamElement::Err(err)) => err.to_string(),
            Err(ReadError::StreamFooterReceived) => "footer".to_owned(),
            Err(ReadError::HardError(err)) => {
                kinds.push(err.to_string());
                break;
            }
            Err(err) => err.to_string(),
        });
    }
    (kinds, stanzas)
}

fn stream_of(stanza: &str) -> Vec<u8> {
    format!("{HEADER}{stanza}<message id='after'><body>next</body></message></stream:stream>")
        .into_bytes()
}

#[tokio::test]
async fn a_poison_stanza_reaches_the_parser_empty_and_the_next_one_whole() {
    struct Case {
        name: &'static str,
        stanza: String,
    }
    let cases = [
        Case {
            name: "4,000 nested elements",
            stanza: format!(
                "<message id='x'>{}{}</message>",
                "<a>".repeat(4000),
                "</a>".repeat(4000)
            ),
        },
        Case {
            name: "an attribute of 9 KiB",
            stanza: format!("<message id='x' from='{}'/>", "a".repeat(9 * 1024)),
        },
        Case {
            name: "a nested attribute of 9 KiB",
            stanza: format!(
                "<message id='x'><a b='{}'/></message>",
                "a".repeat(9 * 1024)
            ),
        },
        Case {
            name: "an element's name of 9 KiB",
            stanza: format!("<message id='x'><{}/></message>", "a".repeat(9 * 1024)),
        },
        Case {
            name: "an attribute's name of 9 KiB",
            stanza: format!("<message id='x'><a {}=''/></message>", "a".repeat(9 * 1024)),
        },
        Case {
            name: "a body over 1 MiB",
            stanza: format!(
                "<message id='x'><body>{}</body></message>",
                "a".repeat(1024 * 1024)
            ),
        },
        Case {
            name: "a million attributes",
            stanza: {
                use std::fmt::Write;
                let mut stanza = "<message id='x' ".to_owned();
                for i in 0..1_000_000 {
                    write!(stanza, "a{i}='' ").unwrap();
                }
                stanza + "/>"
            },
        },
        Case {
            name: "200,000 elements",
            stanza: format!("<message>{}</message>", "<a/>".repeat(200_000)),
        },
    ];
    for case in cases {
        let (kinds, stanzas) = parse(stream_of(&case.stanza)).await;
        assert_eq!(kinds, ["stanza", "stanza", "footer"], "{}", case.name);
        let [Stanza::Message(first), Stanza::Message(second)] = &stanzas[..] else {
            panic!("{}: {stanzas:?}", case.name);
        };
        assert!(
            first.bodies.is_empty() && first.payloads.is_empty(),
            "{}",
            case.name
        );
        assert_eq!(first.type_, MessageType::Headline, "{}", case.name);
        assert_eq!(
            second.id.as_ref().map(|id| id.0.as_str()),
            Some("after"),
            "{}",
            case.name
        );
    }
}

#[tokio::test]
async fn a_large_but_lawful_stanza_passes() {
    let body = "ä&amp;<![CDATA[<x>]]]]>".repeat(40_000);
    let (kinds, stanzas) = parse(stream_of(&format!(
        "<message><body>{body}</body></message>"
    )))
    .await;
    assert_eq!(kinds, ["stanza", "stanza", "footer"]);
    let Stanza::Message(message) = &stanzas[0] else {
        panic!("{stanzas:?}");
    };
    assert_eq!(message.bodies[""], "ä&<x>]]".repeat(40_000));
}

#[tokio::test]
async fn what_the_typed_parser_refuses_costs_that_stanza_only() {
    for (stanza, kind) in [
        ("<iq type='get'><a xmlns='b'/></iq>", "invalid stanza"),
        (
            "<presence><show>elsewhere</show></presence>",
            "invalid stanza",
        ),
        ("<presence type='strange'/>", "invalid stanza"),
        ("<message from='a@@b'/>", "invalid stanza"),
        ("<iq type='strange' id='1'/>", "invalid stanza"),
        (
            "<message type='strange'><body>hi</body></message>",
            "stanza",
        ),
    ] {
        let (kinds, _) = parse(stream_of(stanza)).await;
        assert_eq!(kinds, [kind, "stanza", "footer"], "{stanza}");
    }
}

#[tokio::test]
async fn an_unknown_message_type_is_taken_as_normal() {
    let (_, stanzas) = parse(stream_of(
        "<message id='1' type = \"x-new\"><body>hi</body></message>",
    ))
    .await;
    let Stanza::Message(message) = &stanzas[0] else {
        panic!("{stanzas:?}");
    };
    assert_eq!(message.type_, MessageType::Normal);
    assert_eq!(message.bodies[""], "hi");
}

#[test]
fn an_offending_stanza_becomes_the_smallest_of_its_kind() {
    struct Case {
        name: &'static str,
        start: &'static str,
        expected: &'static str,
    }
    let cases = [
        Case {
            name: "message",
            start: "message from='a@b/c' id='1' type='chat'",
            expected: "<message type='headline'/>",
        },
        Case {
            name: "presence",
            start: "presence from='a@b/c'",
            expected: "<presence type='error'/>",
        },
        Case {
            name: "request: answered like any that nobody understands",
            start: "iq type='get' id='&quot;1' from=\"it's@b\"",
            expected: "<iq from=\"it's@b\" id='&quot;1' type='get'><unreadable xmlns='urn:moltis:guard'/></iq>",
        },
        Case {
            name: "answer: ends the waiting",
            start: "iq id='7' type='result' from='b'",
            expected: "<iq from='b' id='7' type='error'><error type='cancel'><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>",
        },
    ];
    for case in cases {
        let (name, _) = case.start.split_once(' ').unwrap();
        let stanza = format!(
            "{HEADER}<{} long='{}'/><{name}/>",
            case.start,
            "x".repeat(9000)
        );
        let (out, findings, violation) = scan_text(&stanza);
        assert_eq!(
            out,
            format!("{HEADER}{}<{name}/>", case.expected),
            "{}",
            case.name
        );
        assert_eq!(findings.len(), 1, "{}", case.name);
        assert_eq!(violation, None, "{}", case.name);
    }
}

#[test]
fn what_no_honest_server_sends_ends_the_stream() {
    for (input, expected) in [
        ("<!DOCTYPE x>", Violation::Doctype),
        ("<message><!ENTITY a 'b'></message>", Violation::Doctype),
        ("<message><!-- hi --></message>", Violation::Comment),
        ("<!-- hi -->", Violation::Comment),
        (
            "<message><?php ?></message>",
            Violation::ProcessingInstruction,
        ),
        ("<?xml version='1.0'?>", Violation::ProcessingInstruction),
        ("hello", Violation::TextBetweenStanzas),
        ("<![CDATA[hello]]>", Violation::Doctype),
        ("</stream:stream></stream:stream>", Violation::NotWellFormed),
        ("<message a=b/>", Violation::NotWellFormed),
    ] {
        let (out, _, violation) = scan_text(&format!("{HEADER}<a/>{input}"));
        assert_eq!(violation, Some(expected), "{input}");
        assert!(out.starts_with(&format!("{HEADER}<a/>")), "{input}");
    }
    let invalid = [HEADER.as_bytes(), b"<message><body>\xff</body></message>"].concat();
    let (_, _, violation) = scan(&invalid, &[7], Limits::default());
    assert_eq!(violation, Some(Violation::InvalidUtf8));
    let features = format!(
        "{HEADER}<stream:features>{}</stream:features>",
        "<a>".repeat(100) + &"</a>".repeat(100)
    );
    assert_eq!(
        scan_text(&features).2,
        Some(Violation::TooMuch(Poison::Depth))
    );
}

#[test]
fn a_stanza_without_end_is_given_up_with_memory_flat() {
    let mut scanner = Scanner::new(Limits::default());
    let (mut out, mut findings) = (Vec::new(), Vec::new());
    scanner
        .feed(HEADER.as_bytes(), &mut out, &mut findings)
        .unwrap();
    scanner
        .feed(b"<message><body>", &mut out, &mut findings)
        .unwrap();
    let chunk = vec![b'a'; 1024 * 1024];
    let fed = (0..100)
        .take_while(|_| scanner.feed(&chunk, &mut out, &mut findings).is_ok())
        .count();
    assert_eq!(fed, 63);
    assert_eq!(out.len(), HEADER.len());
    assert!(
        !format!("{scanner:?}").contains("97, 97"),
        "nothing of it is kept"
    );
}

#[test]
fn white_space_between_stanzas_is_dropped() {
    let input = format!("{HEADER} \n\t{}<a/> ", " ".repeat(100_000));
    assert_eq!(scan_text(&input).0, format!("{HEADER}<a/>"));
}

#[test]
fn a_new_header_is_only_taken_where_a_restart_was_announced() {
    let mut scanner = Scanner::new(Limits::default());
    let (mut out, mut findings) = (Vec::new(), Vec::new());
    let mut feed =
        |scanner: &mut Scanner, text: &str| scanner.feed(text.as_bytes(), &mut out, &mut findings);
    feed(&mut scanner, HEADER).unwrap();
    feed(&mut scanner, "<success/>").unwrap();
    scanner.expect_restart();
    feed(&mut scanner, HEADER).unwrap();
    assert_eq!(
        feed(&mut scanner, HEADER),
        Err(Violation::ProcessingInstruction)
    );
    assert_eq!(
        String::from_utf8(out).unwrap(),
        format!("{HEADER}<success/>{HEADER}")
    );
}

#[test]
fn a_header_without_version_gets_one() {
    let input = "<stream:stream xmlns='jabber:component:accept' id='1'><a/>";
    let expected = "<stream:stream xmlns='jabber:component:accept' id='1' version='1.0'><a/>";
    assert_eq!(scan_text(input).0, expected);
}

#[test]
fn a_refused_resumption_without_a_count_gets_one() {
    for (failed, expected) in [
        (
            "<failed xmlns='urn:xmpp:sm:3'/>",
            "<failed h='0' xmlns='urn:xmpp:sm:3'/>",
        ),
        ("<sm:failed/>", "<sm:failed h='0'/>"),
        (
            "<failed xmlns='urn:xmpp:sm:3' h='7'/>",
            "<failed xmlns='urn:xmpp:sm:3' h='7'/>",
        ),
    ] {
        assert_eq!(
            scan_text(&format!("{HEADER}{failed}")).0,
            format!("{HEADER}{expected}")
        );
    }
}

#[tokio::test]
async fn a_stream_error_is_kept_for_those_above() {
    let error = "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
        <text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>Replaced by new connection</text></stream:error>";
    let input = io::Cursor::new(format!("{HEADER}{error}</stream:stream>"));
    let mut guard = Guard::new(input, Limits::default());
    let notes = guard.notes();
    let mut out = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut guard, &mut out)
        .await
        .unwrap();
    assert_eq!(
        notes.take_failure().unwrap().to_string(),
        "The server closed the stream: conflict (Replaced by new connection)"
    );
    assert!(notes.take_failure().is_none());
}

#[tokio::test]
async fn what_follows_proceed_is_noticed() {
    for (after, clean) in [("", true), ("<a/>", false), ("<", false)] {
        let input = io::Cursor::new(format!("{HEADER}<proceed/>{after}"));
        let mut guard = Guard::new(input, Limits::default());
        let mut taken = vec![0; HEADER.len() + "<proceed/>".len()];
        tokio::io::AsyncReadExt::read_exact(&mut guard, &mut taken)
            .await
            .unwrap();
        assert_eq!(guard.into_inner().is_some(), clean, "{after:?}");
    }
}

#[tokio::test]
async fn a_resumed_stream_swallows_one_header_however_it_is_cut() {
    let header = "<?xml version='1.0'?>\n<stream:stream to='a'>";
    for cut in 0..header.len() {
        let (near, mut far) = tokio::io::duplex(1024);
        let mut guard = Guard::new(near, Limits::default()).resume_with(HEADER);
        let (first, second) = header.split_at(cut);
        for part in [first, second, "<a/>"] {
            tokio::io::AsyncWriteExt::write_all(&mut guard, part.as_bytes())
                .await
                .unwrap();
        }
        drop(guard);
        let mut written = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut far, &mut written)
            .await
            .unwrap();
        assert_eq!(written, "<a/>");
    }
}

/// XML-like text with everything that the scanner looks for.
fn pieces() -> impl Strategy<Value = Vec<&'static str>> {
    let alphabet = vec![
        "<",
        ">",
        "/",
        "/>",
        "</",
        "'",
        "\"",
        "=",
        " ",
        "a",
        "id='1'",
        "<message",
        "<iq ",
        "<message>",
        "</message>",
        "<body>",
        "</body>",
        "<![CDATA[",
        "]]>",
        "]",
        "<!--",
        "<?xml version='1.0'?>",
        "type='get'",
        "type='odd'",
        "ä",
        "&amp;",
        "<a b='c'/>",
        "xxxxxxxxxxxxxxxxxxxx",
        "</stream:stream>",
        "<presence/>",
    ];
    prop::collection::vec(prop::sample::select(alphabet), 0..40)
}

proptest! {
    #[test]
    fn chunks_make_no_difference(
        pieces in pieces(),
        sizes in prop::collection::vec(1_usize..40, 1..10),
        small in any::<bool>(),
    ) {
        let input = format!("{HEADER}{}", pieces.concat());
        let limits = if small {
            Limits { depth: 2, token_bytes: 60, attributes: 3, nodes: 6, stanza_bytes: 200, skipped_bytes: 400 }
        } else {
            Limits::default()
        };
        let whole = scan(input.as_bytes(), &[usize::MAX], limits.clone());
        prop_assert_eq!(scan(input.as_bytes(), &sizes, limits), whole);
    }

    #[test]
    fn lawful_stanzas_pass_unchanged(bodies in prop::collection::vec("[a-zä'\" >\\]]{0,50}", 0..8)) {
        let stanzas: Vec<String> = bodies.iter().map(|body| format!("<message id='1'><body>{body}</body></message>")).collect();
        let stanzas = stanzas.concat();
        let (out, findings, violation) = scan_text(&format!("{HEADER}{stanzas}"));
        prop_assert_eq!(out, format!("{HEADER}{stanzas}"));
        prop_assert!(findings.is_empty() && violation.is_none());
    }
}
