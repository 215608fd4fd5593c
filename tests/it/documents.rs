//! The documents say what is: the tables of XEPs, the DOAP file and what the bot and the server announce agree, the tests
//! that are named exist, and no link is dead.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jid::{BareJid, DomainPart, NodePart};
use minidom::Element;
use moltis::config::Config;
use moltis::server::accounts::Accounts;
use moltis::server::archive::rooms::RoomArchives;
use moltis::server::muc::{Policy, Service};
use moltis::server::pubsub::service::Service as Nodes;
use moltis::server::session::Origin;
use moltis::server::upload::{self, Rules, Uploads};
use moltis::server::{Host, Server, Settings};
use moltis::storage::Storage;
use regex::Regex;

/// Each has its tables in docs/xeps.md; the DOAP file describes the program, which is both.
const SIDES: [&str; 2] = ["gateway", "server"];

const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
const DOAP: &str = "http://usefulinc.com/ns/doap#";
const RDF: &str = "http://www.w3.org/1999/02/22-rdf-syntax-ns#";
const XMPP: &str = "https://linkmauve.fr/ns/xmpp-doap#";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|err| panic!("{path}: {err}"))
}

/// All files below a directory with this extension.
fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    let mut waiting = vec![root().join(directory)];
    let mut found = Vec::new();
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // Python's environment and caches are nobody's source.
                if !path.ends_with(".venv") {
                    waiting.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no *.{extension} in {directory}");
    found
}

/// The cells of a section's table, row by row, without its head.
fn table(document: &str, heading: &str) -> Vec<Vec<String>> {
    let section = document
        .split("\n## ")
        .find(|section| section.lines().next() == Some(heading))
        .unwrap_or_else(|| panic!("no section {heading:?}"));
    let rows = section.lines().filter(|line| line.starts_with('|'));
    let cells = |line: &str| {
        let line = line.trim_matches('|');
        line.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let rows: Vec<_> = rows.skip(2).map(cells).collect();
    assert!(!rows.is_empty(), "no table below {heading:?}");
    rows
}

/// What one row or one entry claims.
#[derive(Debug, PartialEq, Eq)]
struct Claim {
    version: String,
    status: String,
    /// What is left out.
    note: Option<String>,
}

/// By the page of the specification.
type Claims = BTreeMap<String, Claim>;

fn page(xep: &str) -> String {
    format!("https://xmpp.org/extensions/xep-{xep}.html")
}

fn claims_of_the_table(document: &str, side: &str) -> Claims {
    let link =
        Regex::new(r"^\[(\d{4})\]\((https://xmpp\.org/extensions/xep-(\d{4})\.html)\) ").unwrap();
    let mut claims = Claims::new();
    for row in table(document, &format!("The {side}: XEPs")) {
        let [name, version, status, _, left_out, _] = row.as_slice() else {
            panic!("not six cells: {row:?}");
        };
        let found = link.captures(name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(found[1], found[3], "{name}");
        let claim = Claim {
            version: version.clone(),
            status: status.clone(),
            note: (left_out != "–").then(|| left_out.replace('`', "")),
        };
        assert!(
            claims.insert(found[2].to_owned(), claim).is_none(),
            "{name} twice"
        );
    }
    claims
}

/// What the tables claim together: complete is what is complete on every side that has it.
fn claims_of_both_tables(document: &str) -> Claims {
    let mut claims = Claims::new();
    for side in SIDES {
        for (page, mut claim) in claims_of_the_table(document, side) {
            let note = claim.note.take();
            claim.note = note.map(|note| format!("Left out by the {side}: {note}"));
            match claims.entry(page) {
                Entry::Vacant(entry) => {
                    entry.insert(claim);
                }
                Entry::Occupied(mut entry) => {
                    let page = entry.key().clone();
                    let first = entry.get_mut();
                    assert_eq!(first.version, claim.version, "{page} in two versions");
                    if claim.status == "partial" {
                        first.status = claim.status;
                    }
                    let notes: Vec<_> = first.note.take().into_iter().chain(claim.note).collect();
                    first.note = (!notes.is_empty()).then(|| notes.join(". "));
                }
            }
        }
    }
    claims
}

fn resource(element: &Element) -> Option<&str> {
    element.attr_ns(RDF, "resource")
}

#[test]
fn the_tables_of_xeps_and_the_doap_file_agree() {
    let document = read("docs/xeps.md");
    let doap: Element = read("moltis.doap").parse().unwrap();
    let project = doap.get_child("Project", DOAP).unwrap();
    let mut claims = Claims::new();
    let mut rfcs = BTreeSet::new();
    for implements in project
        .children()
        .filter(|child| child.is("implements", DOAP))
    {
        if let Some(rfc) = resource(implements) {
            rfcs.insert(rfc.to_owned());
            continue;
        }
        let supported = implements.get_child("SupportedXep", XMPP).unwrap();
        let text = |name| supported.get_child(name, XMPP).map(Element::text);
        let page = resource(supported.get_child("xep", XMPP).unwrap()).unwrap();
        let claim = Claim {
            version: text("version").unwrap(),
            status: text("status").unwrap(),
            note: text("note"),
        };
        assert!(
            claims.insert(page.to_owned(), claim).is_none(),
            "{page} twice"
        );
    }
    assert_eq!(claims, claims_of_both_tables(&document));
    let link = Regex::new(r"\]\((https://[^)]+)\)").unwrap();
    let listed: BTreeSet<String> = SIDES
        .iter()
        .flat_map(|side| table(&document, &format!("The {side}: RFCs")))
        .map(|row| link.captures(&row[0]).unwrap()[1].to_owned())
        .collect();
    assert_eq!(rfcs, listed);
}

#[test]
fn what_is_partial_says_what_is_left_out() {
    let document = read("docs/xeps.md");
    for side in SIDES {
        for (page, Claim { status, note, .. }) in claims_of_the_table(&document, side) {
            match (status.as_str(), note) {
                ("partial", Some(_)) | ("complete", None) => {}
                wrong => panic!("the {side}, {page}: {wrong:?}"),
            }
        }
    }
}

/// What stands between backquotes.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The features in a cell: one, or what they begin with and how each ends: `http://…#`, `one`, `other`.
fn features(cell: &str) -> Vec<String> {
    match quoted(cell).as_slice() {
        [start, ends @ ..] if start.ends_with('#') => {
            ends.iter().map(|end| format!("{start}{end}")).collect()
        }
        names => names.iter().map(|&name| name.to_owned()).collect(),
    }
}

#[test]
fn the_bot_announces_what_the_document_says_and_nothing_else() {
    let document = read("docs/xeps.md");
    let pages = claims_of_the_table(&document, "gateway");
    let mut listed = BTreeSet::new();
    for row in table(&document, "The gateway: what disco#info announces") {
        assert!(pages.contains_key(&page(&row[1])), "{row:?} has no XEP");
        listed.extend(features(&row[0]));
    }
    let announced = moltis::gateway::account::capabilities::own("Moltis", None).features;
    assert_eq!(announced.into_iter().collect::<BTreeSet<_>>(), listed);
}

/// A server with rooms, as it is without a setting; juliet and romeo are contacts.
async fn server() -> (Server, BareJid) {
    let storage = Storage::in_memory().unwrap();
    let domain = DomainPart::new("example.org").unwrap();
    let accounts = Accounts::open(storage.clone(), &domain).await.unwrap();
    for name in ["juliet", "romeo"] {
        let name = NodePart::new(name).unwrap();
        accounts.create_without_password(&name).await.unwrap();
    }
    let settings = Settings::new("example.org");
    let policy = Policy::new(settings.muc_host.parse().unwrap(), "example.org");
    let (host, pubsub) = (settings.muc_host.clone(), settings.pubsub_host.clone());
    let server = Server::new(Arc::new(settings), storage.clone(), accounts).unwrap();
    let archives = Arc::new(RoomArchives::new(storage.clone()));
    let rooms = Service::open(policy, storage.clone(), archives)
        .await
        .unwrap();
    let rooms: Arc<dyn Host> = Arc::new(rooms);
    let nodes: Arc<dyn Host> = Arc::new(Nodes::new(pubsub.parse().unwrap(), storage.clone()));
    let directory = tempfile::tempdir().unwrap();
    let rules = Rules::of(&Config::default());
    let uploads = Uploads::open(storage, directory.path(), rules).unwrap();
    let uploads: Arc<dyn Host> = Arc::new(upload::Service(uploads));
    server.set_hosts(vec![
        (host, rooms),
        (pubsub, nodes),
        ("upload.example.org".to_owned(), uploads),
    ]);
    let juliet: BareJid = "juliet@example.org".parse().unwrap();
    let romeo: BareJid = "romeo@example.org".parse().unwrap();
    let befriended = server.befriend(&juliet, "Juliet", &romeo, "Romeo").await;
    befriended.unwrap();
    (server, juliet)
}

/// What is announced to juliet, by whom she asks.
async fn announced_by_the_server() -> BTreeMap<String, BTreeSet<String>> {
    let (server, juliet) = server().await;
    let bound = server
        .bind(&juliet, Some("balcony"), Origin::default())
        .await;
    let (session, mut mailbox) = bound.unwrap();
    let send = async |stanza: String| {
        server
            .receive(&session, stanza.parse().unwrap())
            .await
            .unwrap();
    };
    send("<presence xmlns='jabber:client' to='cave@conference.example.org/Juliet'><x xmlns='http://jabber.org/protocol/muc'/></presence>".to_owned()).await;
    let mut announced = BTreeMap::new();
    for (place, address) in [
        ("domain", "example.org"),
        ("account", "juliet@example.org"),
        ("contact", "romeo@example.org"),
        ("rooms", "conference.example.org"),
        ("room", "cave@conference.example.org"),
        ("uploads", "upload.example.org"),
        ("nodes", "pubsub.example.org"),
    ] {
        send(format!(
            "<iq xmlns='jabber:client' type='get' id='{place}' to='{address}'><query xmlns='{DISCO_INFO}'/></iq>"
        ))
        .await;
        let answer = loop {
            let mail = tokio::time::timeout(Duration::from_secs(5), mailbox.recv()).await;
            let stanza = mail.expect("no answer").unwrap().element();
            if stanza.attr("id") == Some(place) {
                break stanza;
            }
        };
        let features = answer
            .children()
            .flat_map(Element::children)
            .filter(|child| child.is("feature", DISCO_INFO))
            .filter_map(|feature| feature.attr("var"))
            // What kind of room it is (XEP-0045, 4.2).
            .filter(|feature| !feature.starts_with("muc_"))
            .map(str::to_owned)
            .collect();
        announced.insert(place.to_owned(), features);
    }
    announced
}

#[tokio::test]
async fn the_server_announces_what_the_document_says_and_nothing_else() {
    let document = read("docs/xeps.md");
    let pages = claims_of_the_table(&document, "server");
    let mut listed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in table(&document, "The server: what disco#info announces") {
        assert!(pages.contains_key(&page(&row[1])), "{row:?} has no XEP");
        for place in row[2].split(", ") {
            let place = listed.entry(place.to_owned()).or_default();
            place.extend(features(&row[0]));
        }
    }
    assert_eq!(announced_by_the_server().await, listed);
}

/// The names of all tests, in Rust, in Python, and of the scenarios, which are files.
fn tests() -> BTreeSet<String> {
    let rust =
        Regex::new(r"#\[(?:tokio::)?test\b[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*(?:async )?fn (\w+)")
            .unwrap();
    let python = Regex::new(r"(?m)^(?:async )?def (test_\w+)").unwrap();
    let sources = [
        ("src", "rs", &rust),
        ("tests/it", "rs", &rust),
        ("tests/peers", "py", &python),
    ];
    let mut names = BTreeSet::new();
    for (directory, extension, pattern) in sources {
        for file in files(directory, extension) {
            let text = fs::read_to_string(file).unwrap();
            names.extend(
                pattern
                    .captures_iter(&text)
                    .map(|found| found[1].to_owned()),
            );
        }
    }
    let scenarios = files("tests/scenarios", "txt");
    names.extend(
        scenarios
            .iter()
            .filter_map(|path| path.file_stem()?.to_str().map(str::to_owned)),
    );
    names
}

/// What looks like the name of a test: `a_sentence_like_this`.
fn named(text: &str) -> Vec<String> {
    let name = Regex::new(r"`([a-z0-9]+(?:_[a-z0-9]+)+)`").unwrap();
    let names = name.captures_iter(text).map(|found| found[1].to_owned());
    names.collect()
}

#[test]
fn every_test_that_a_document_names_exists() {
    let known = tests();
    let document = read("docs/xeps.md");
    let tables = SIDES
        .iter()
        .flat_map(|side| ["RFCs", "XEPs"].map(|kind| format!("The {side}: {kind}")));
    for row in tables.flat_map(|heading| table(&document, &heading)) {
        let shown_by = quoted(row.last().unwrap());
        assert!(!shown_by.is_empty(), "no test shows {}", row[0]);
        for test in shown_by {
            assert!(known.contains(test), "{}: no test is called {test}", row[0]);
        }
    }
    for path in files("docs", "md") {
        let text = fs::read_to_string(&path).unwrap();
        // Keys of the configuration have few words, and sentences have many.
        let sentences = named(&text)
            .into_iter()
            .filter(|name| name.starts_with("test_") || name.matches('_').count() > 5);
        for test in sentences {
            assert!(
                known.contains(&test),
                "{}: no test is called {test}",
                path.display()
            );
        }
    }
}

#[test]
fn every_link_leads_to_a_file() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let mut documents = files("docs", "md");
    documents.extend(["README.md", "CHANGELOG.md"].map(|path| root().join(path)));
    let mut dead = Vec::new();
    for path in documents {
        let text = fs::read_to_string(&path).unwrap();
        for found in link.captures_iter(&text) {
            let target = found[1].split('#').next().unwrap();
            if target.is_empty() || target.contains("://") || target.starts_with("xmpp:") {
                continue;
            }
            if !path.parent().unwrap().join(target).exists() {
                dead.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

#[test]
fn every_kind_of_hostile_input_has_its_tests_and_they_are_counted() {
    let known = tests();
    let document = read("docs/hostile-input.md");
    let mut named = BTreeSet::new();
    for row in table(&document, "The rows") {
        assert_eq!(row.len(), 7, "{row:?}");
        let by_transport = &row[2..];
        assert!(
            by_transport.iter().any(|cell| cell != "–"),
            "nothing tries {}",
            row[0]
        );
        for cell in by_transport {
            let shown_by = quoted(cell);
            assert!(
                cell == "–" || !shown_by.is_empty(),
                "{}: an empty cell",
                row[0]
            );
            for test in shown_by {
                assert!(known.contains(test), "{}: no test is called {test}", row[0]);
                named.insert(test.to_owned());
            }
        }
    }
    let count = format!("**{} tests** stand here", named.len());
    assert!(document.contains(&count), "docs/hostile-input.md: {count}");
}
