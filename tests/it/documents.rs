//! The documents say what is: the table of XEPs, the DOAP file and what the bot announces agree, the tests that are named
//! exist, and no link is dead.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use minidom::Element;
use regex::Regex;

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
    /// Whether something is left out.
    note: bool,
}

/// By the page of the specification.
type Claims = BTreeMap<String, Claim>;

fn claims_of_the_table(document: &str) -> Claims {
    let link =
        Regex::new(r"^\[(\d{4})\]\((https://xmpp\.org/extensions/xep-(\d{4})\.html)\) ").unwrap();
    let mut claims = Claims::new();
    for row in table(document, "XEPs") {
        let [name, version, status, _, left_out, _] = row.as_slice() else {
            panic!("not six cells: {row:?}");
        };
        let found = link.captures(name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(found[1], found[3], "{name}");
        let claim = Claim {
            version: version.clone(),
            status: status.clone(),
            note: left_out != "–",
        };
        assert!(
            claims.insert(found[2].to_owned(), claim).is_none(),
            "{name} twice"
        );
    }
    claims
}

fn resource(element: &Element) -> Option<&str> {
    element.attr_ns(RDF, "resource")
}

#[test]
fn the_table_of_xeps_and_the_doap_file_agree() {
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
            note: text("note").is_some(),
        };
        assert!(
            claims.insert(page.to_owned(), claim).is_none(),
            "{page} twice"
        );
    }
    assert_eq!(claims, claims_of_the_table(&document));
    let link = Regex::new(r"\]\((https://[^)]+)\)").unwrap();
    let listed: BTreeSet<String> = table(&document, "RFCs")
        .iter()
        .map(|row| link.captures(&row[0]).unwrap()[1].to_owned())
        .collect();
    assert_eq!(rfcs, listed);
}

#[test]
fn what_is_partial_says_what_is_left_out() {
    for (page, claim) in claims_of_the_table(&read("docs/xeps.md")) {
        match claim.status.as_str() {
            "partial" => assert!(claim.note, "{page} does not say what is left out"),
            "complete" => assert!(!claim.note, "{page} is complete and leaves something out"),
            other => panic!("{page} is {other:?}"),
        }
    }
}

#[test]
fn the_bot_announces_what_the_document_says_and_nothing_else() {
    let document = read("docs/xeps.md");
    let pages = claims_of_the_table(&document);
    let listed: BTreeSet<String> = table(&document, "What disco#info announces")
        .into_iter()
        .map(|row| {
            let page = format!("https://xmpp.org/extensions/xep-{}.html", row[1]);
            assert!(
                pages.contains_key(&page),
                "{row:?} is not in the table of XEPs"
            );
            row[0].trim_matches('`').to_owned()
        })
        .collect();
    let announced = moltis::gateway::account::capabilities::own("Moltis", None).features;
    assert_eq!(announced.into_iter().collect::<BTreeSet<_>>(), listed);
}

/// The names of all tests, in Rust and in Python.
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
    for heading in ["RFCs", "XEPs"] {
        for row in table(&document, heading) {
            let shown_by = named(row.last().unwrap());
            assert!(!shown_by.is_empty(), "no test shows {}", row[0]);
            for test in shown_by {
                assert!(
                    known.contains(&test),
                    "{}: no test is called {test}",
                    row[0]
                );
            }
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
