//! The examples of the standards, and what must not be taken.

use super::*;
use crate::server::sasl::{TLS_EXPORTER, TLS_SERVER_END_POINT};
use crate::xmpp::scram::Keys;

const NOTHING: Offered<'_> = Offered {
    mechanisms: &[],
    bindings: &[],
};

fn pencil(salt: &str, iterations: u32) -> Credentials {
    let salt = STANDARD.decode(salt).unwrap();
    let keys = |hash: Hash| Keys::from_salted(hash, &hash.salt("pencil", &salt, iterations));
    Credentials {
        sha1: keys(Hash::Sha1),
        sha256: keys(Hash::Sha256),
        salt: salt.into(),
        iterations,
    }
}

fn exporter() -> ChannelBinding {
    ChannelBinding {
        name: TLS_EXPORTER,
        data: b"data".to_vec(),
    }
}

#[test]
fn the_examples_of_the_standards_come_out() {
    struct Case {
        name: &'static str,
        hash: Hash,
        salt: &'static str,
        nonce: &'static str,
        dialogue: [&'static str; 4],
    }
    let cases = [
        Case {
            name: "RFC 5802, 5",
            hash: Hash::Sha1,
            salt: "QSXCR+Q6sek8bf92",
            nonce: "3rfcNHYJY1ZVvWVs7j",
            dialogue: [
                "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
                "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
                "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
                "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
            ],
        },
        Case {
            name: "RFC 7677, 3",
            hash: Hash::Sha256,
            salt: "W22ZaJ0SNY7soEsUEjb6gQ==",
            nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
            dialogue: [
                "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
                "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
                "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
                "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            ],
        },
    ];
    for case in cases {
        let [first, challenge, answer, last] = case.dialogue;
        let credentials = pencil(case.salt, 4096);
        let first = First::parse(first.as_bytes(), false, &[]).unwrap();
        assert_eq!((first.name.as_str(), &first.authzid), ("user", &None));
        let (challenged, text) = first.challenge(case.hash, &credentials, case.nonce, &NOTHING);
        assert_eq!(text, challenge, "{}", case.name);
        let said = challenged.verify(answer.as_bytes(), &credentials).unwrap();
        assert_eq!(said, last.as_bytes(), "{}", case.name);
    }
}

/// XEP-0474, 4.3.
#[test]
fn the_example_with_the_list_of_mechanisms_comes_out() {
    let bindings = [TLS_SERVER_END_POINT, TLS_EXPORTER].map(|name| ChannelBinding {
        name,
        data: b"THIS IS FAKE CB DATA".to_vec(),
    });
    let offered = Offered {
        mechanisms: &["SCRAM-SHA-1-PLUS", "SCRAM-SHA-1"],
        bindings: &bindings,
    };
    let first = "p=tls-exporter,,n=user,r=12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6";
    let first = First::parse(first.as_bytes(), true, &bindings).unwrap();
    let credentials = pencil("QSXCR+Q6sek8bf92", 4096);
    let nonce = "a09117a6-ac50-4f2f-93f1-93799c2bddf6";
    let (challenged, text) = first.challenge(Hash::Sha1, &credentials, nonce, &offered);
    assert_eq!(
        text,
        "r=12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6a09117a6-ac50-4f2f-93f1-93799c2bddf6,s=QSXCR+Q6sek8bf92,i=4096,\
         h=G6k/rBLDqgOhRRaCuuatSDFkJ08="
    );
    let answer = "c=cD10bHMtZXhwb3J0ZXIsLFRISVMgSVMgRkFLRSBDQiBEQVRB,\
         r=12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6a09117a6-ac50-4f2f-93f1-93799c2bddf6,\
         x=19C6532F-1CF4-4A27-A18D-DC9CEA41BBB3,p=M/SIDjT+dfcxUh89jZEypRvFxB4=";
    let last = challenged.verify(answer.as_bytes(), &credentials).unwrap();
    assert_eq!(last, b"v=MQrMPvv7yv4x4Cq4W4Ih25EqS2c=");
}

#[test]
fn a_first_message_is_read() {
    type Expected = Result<(&'static str, Option<&'static str>), Condition>;
    struct Case {
        message: &'static str,
        binds: bool,
        bindings: &'static [&'static str],
        expected: Expected,
    }
    const fn case(
        message: &'static str,
        binds: bool,
        bindings: &'static [&'static str],
        expected: Expected,
    ) -> Case {
        Case {
            message,
            binds,
            bindings,
            expected,
        }
    }
    const MALFORMED: Expected = Err(Condition::MalformedRequest);
    const REFUSED: Expected = Err(Condition::NotAuthorized);
    let own = [exporter()];
    let with: &[&str] = &[TLS_EXPORTER];
    let cases = [
        case("n,,n=a,r=1", false, &[], Ok(("a", None))),
        case("n,,n=a,r=1", false, with, Ok(("a", None))),
        case("n,a=b,n=a,r=1", false, &[], Ok(("a", Some("b")))),
        case("n,,n=a=2Cb=3Dc,r=1", false, &[], Ok(("a,b=c", None))),
        case("n,,n=a,r=1,x=later", false, &[], Ok(("a", None))),
        case("y,,n=a,r=1", false, &[], Ok(("a", None))),
        // RFC 5802, 6: somebody has hidden it.
        case("y,,n=a,r=1", false, with, REFUSED),
        case("p=tls-exporter,,n=a,r=1", true, with, Ok(("a", None))),
        case("p=tls-unique,,n=a,r=1", true, with, REFUSED),
        case("p=,,n=a,r=1", true, with, REFUSED),
        case("n,,n=a,r=1", true, with, MALFORMED),
        case("y,,n=a,r=1", true, with, MALFORMED),
        case("p=tls-exporter,,n=a,r=1", false, with, MALFORMED),
        case("", false, &[], MALFORMED),
        case("n", false, &[], MALFORMED),
        case("n,,", false, &[], MALFORMED),
        case("q,,n=a,r=1", false, &[], MALFORMED),
        case("n,b,n=a,r=1", false, &[], MALFORMED),
        case("n,,m=x,n=a,r=1", false, &[], MALFORMED),
        case("n,,n=,r=1", false, &[], MALFORMED),
        case("n,,n=a,r=", false, &[], MALFORMED),
        case("n,,n=a,r=\u{7}", false, &[], MALFORMED),
        case("n,,r=1,n=a", false, &[], MALFORMED),
        case("n,,n=a=2cb,r=1", false, &[], MALFORMED),
        case("n,,n=a=,r=1", false, &[], MALFORMED),
        case("n,a==,n=a,r=1", false, &[], MALFORMED),
    ];
    for case in cases {
        let bindings = if case.bindings.is_empty() {
            &[][..]
        } else {
            &own
        };
        let read = First::parse(case.message.as_bytes(), case.binds, bindings);
        let read = read
            .as_ref()
            .map(|first| (first.name.as_str(), first.authzid.as_deref()));
        let expected = case.expected.as_ref().map(|expected| *expected);
        assert_eq!(
            read.map_err(|failure| failure.condition),
            expected.map_err(|condition| *condition),
            "{} {}",
            case.message,
            case.binds
        );
    }
    let read = First::parse(b"n,,n=\xff,r=1", false, &[]);
    assert_eq!(read, Err(super::MALFORMED));
}

#[test]
fn an_answer_to_another_challenge_is_refused() {
    let credentials = pencil("QSXCR+Q6sek8bf92", 4096);
    let first = First::parse(b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL", false, &[]).unwrap();
    let nonce = "3rfcNHYJY1ZVvWVs7j";
    let (challenged, _) = first.challenge(Hash::Sha1, &credentials, nonce, &NOTHING);
    let right =
        "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=";
    assert!(challenged.verify(right.as_bytes(), &credentials).is_ok());
    let wrong = Condition::NotAuthorized;
    let malformed = Condition::MalformedRequest;
    for (name, message, expected) in [
        ("another binding", right.replace("biws", "eSws"), wrong),
        ("another nonce", right.replace("r=fyko", "r=fyk0"), wrong),
        (
            "the client's nonce",
            right.replace("3rfcNHYJY1ZVvWVs7j", ""),
            wrong,
        ),
        ("another proof", right.replace("p=v0X8", "p=v0X9"), wrong),
        (
            "a shorter proof",
            right.replace("v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", "v0X8"),
            wrong,
        ),
        (
            "no proof",
            right.replace("v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", ""),
            wrong,
        ),
        (
            "an extension that is not signed",
            right.replace(",p=", ",x=1,p="),
            wrong,
        ),
        (
            "a proof that is no base64",
            right.replace("p=v0X8", "p=?0X8"),
            malformed,
        ),
        (
            "a binding that is no base64",
            right.replace("biws", "biw"),
            malformed,
        ),
        ("another order", right.replace("c=biws,", ""), malformed),
        ("nothing", String::new(), malformed),
        ("half", "c=biws".to_owned(), malformed),
    ] {
        let refused = challenged.verify(message.as_bytes(), &credentials);
        assert_eq!(
            refused.map_err(|failure| failure.condition),
            Err(expected),
            "{name}"
        );
    }
    let refused = challenged.verify(right.as_bytes(), &pencil("QSXCR+Q6sek8bf92", 4097));
    assert_eq!(refused, Err(wrong.into()));
    let refused = challenged.verify(b"\xff", &credentials);
    assert_eq!(refused, Err(malformed.into()));
}
