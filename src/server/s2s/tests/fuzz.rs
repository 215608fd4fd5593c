//! Strangers that say anything, in any order and in pieces of any size, before and after they are known. Nobody hears what was not from
//! a domain that was shown to be theirs, a stream that is over says nothing more, and the next one is served. `PROPTEST_CASES` says
//! how long.

use proptest::collection::vec;
use proptest::prelude::*;

use super::hostile::{Stranger, header, identity};
use super::*;

const EVIL: &str = "evil.example";
const OURS: &str = "a.example";

/// What a server says, or nobody should. `HEADER` and so on: see [`Visit::text`].
const STEPS: [&str; 34] = [
    "HEADER",
    "HEADER",
    "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='a.example' version='1.0'>",
    "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>",
    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>ZXZpbC5leGFtcGxl</auth>",
    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>Z29vZC5leGFtcGxl</auth>",
    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>",
    "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
    "<bidi xmlns='urn:xmpp:bidi'/>",
    "<db:result from='evil.example' to='a.example'>0123456789abcdef</db:result>",
    "<db:result from='good.example' to='a.example'>0123456789abcdef</db:result>",
    "<db:result from='good.example' to='a.example' type='valid'/>",
    "<db:result from='a.example' to='a.example'>x</db:result>",
    "<db:verify from='good.example' to='a.example' id='x' type='valid'/>",
    "<db:verify from='evil.example' to='a.example' id='x'>0123456789abcdef</db:verify>",
    "<db:result/>",
    "<enable xmlns='urn:xmpp:sm:3'/>",
    "<r xmlns='urn:xmpp:sm:3'/>",
    "<a xmlns='urn:xmpp:sm:3' h='0'/>",
    "<a xmlns='urn:xmpp:sm:3' h='7'/>",
    "<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>",
    "<message from='x@evil.example' to='romeo@a.example' type='chat' id='i'><body>evil</body></message>",
    "<message from='x@good.example' to='romeo@a.example' type='chat' id='i'><body>good</body></message>",
    "<message from='juliet@a.example' to='romeo@a.example' type='chat' id='i'><body>ours</body></message>",
    "<message to='romeo@a.example'><body>nobody's</body></message>",
    "<presence from='x@evil.example' to='romeo@a.example' type='subscribe'/>",
    "<iq type='get' id='i' from='x@evil.example' to='romeo@a.example'><ping xmlns='urn:xmpp:ping'/></iq>",
    "<iq type='set' id='i' from='romeo@a.example' to='romeo@a.example'><query xmlns='jabber:iq:roster'/></iq>",
    " \n",
    "<x xmlns='urn:x'><!-- --></x>",
    "<handshake xmlns='jabber:component:accept'/>",
    "</stream:stream>",
];

#[derive(Clone, Debug)]
struct Visit {
    /// A certificate that somebody we trust has signed.
    certified: bool,
    /// 0: has said nothing; 1: has a header; 2: has TLS; 3: is known, if that is possible.
    progress: usize,
    steps: Vec<usize>,
    pieces: Vec<usize>,
}

fn visit() -> impl Strategy<Value = Visit> {
    let progress = prop_oneof![1 => Just(0), 1 => Just(1), 3 => Just(2), 3 => Just(3_usize)];
    (
        prop::bool::weighted(0.7),
        progress,
        vec(0..STEPS.len(), 0..12),
        vec(1..60_usize, 1..5),
    )
        .prop_map(|(certified, progress, steps, pieces)| Visit {
            certified,
            progress,
            steps,
            pieces,
        })
}

impl Visit {
    async fn pay(&self, world: &World, identity: &Tls) -> Result<(), String> {
        let mut stranger = Stranger::knock(world, OURS);
        match self.progress {
            0 => {}
            1 => {
                stranger.open(EVIL, OURS).await;
            }
            2 => (stranger, _) = stranger.encrypt(identity, EVIL, OURS).await,
            _ if self.certified => stranger = Stranger::login(world, identity, EVIL, OURS).await,
            _ => {
                (stranger, _) = stranger.encrypt(identity, EVIL, OURS).await;
                stranger.auth(EVIL).await;
            }
        }
        let text: String = self.steps.iter().map(|step| STEPS[*step]).collect();
        let text = text.replace("HEADER", &header(EVIL, OURS));
        let mut rest = text.as_bytes();
        let mut sizes = self.pieces.iter().cycle();
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            rest = tail;
            // It may have hung up.
            if stranger.io.write_all(piece).await.is_err() || stranger.io.flush().await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        stranger.io.shutdown().await.ok();
        let read = tokio::time::timeout(Duration::from_secs(20), async {
            let mut all = Vec::new();
            stranger.io.read_to_end(&mut all).await.ok();
            String::from_utf8_lossy(&all).into_owned()
        });
        let said = read
            .await
            .map_err(|_late| "the stream does not end".to_owned())?;
        let ends = said.matches("</stream:stream>").count();
        let after = said.split("</stream:stream>").nth(1).unwrap_or_default();
        if ends > 1 || !after.is_empty() {
            return Err(format!("after the end: {said}"));
        }
        Ok(())
    }
}

async fn attack(visits: &[Visit]) -> Result<(), String> {
    let (world, authority) = (World::default(), Authority::new());
    let settings = Settings::new(OURS, &[OURS]).dialback();
    let house = House::with(&world, &authority, settings).await;
    let mut romeo = house.person("romeo").await;
    let (trusted, _files) = identity(&authority, &[EVIL]);
    let (untrusted, _others) = identity(&Authority::new(), &[EVIL]);
    for visit in visits {
        let shown = if visit.certified {
            &trusted
        } else {
            &untrusted
        };
        visit.pay(&world, shown).await?;
        for stanza in romeo.drain() {
            let from = stanza.attr("from").unwrap_or_default();
            if !visit.certified || !from.ends_with("@evil.example") {
                return Err(format!("romeo was told {}", String::from(&stanza)));
            }
        }
    }
    // Somebody good is served.
    let mut stranger = Stranger::login(&world, &trusted, EVIL, OURS).await;
    stranger
        .send("<message from='x@evil.example' to='romeo@a.example' id='last'><body>x</body></message>")
        .await;
    while message(&mut romeo).await.attr("id") != Some("last") {}
    drop(stranger);
    house.kill().await;
    Ok(())
}

fn cases() -> ProptestConfig {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default(),
        None => ProptestConfig::with_cases(24),
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn whatever_a_server_says_it_speaks_for_nobody_else_and_harms_nobody(visits in vec(visit(), 1..5)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(attack(&visits));
        prop_assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    }
}
