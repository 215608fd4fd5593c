//! The order of the modules: each uses only what stands to its right in
//! `cli → app → http → {gateway, server} → {llm, storage} → xmpp → {config, runtime}`.

use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// From left to right; modules of one layer do not see each other.
const LAYERS: &[&[&str]] = &[
    &["cli"],
    &["app"],
    &["http"],
    &["gateway", "server"],
    &["llm", "storage"],
    &["xmpp"],
    &["config", "runtime"],
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The modules that a file names behind `crate::`, nested lists included, with their lines.
fn used(text: &str) -> Vec<(usize, String)> {
    let path = Regex::new(r"\bcrate::(?:(\w+)|\{)").unwrap();
    let word = Regex::new(r"(?:^|[{,])\s*(\w+)").unwrap();
    let mut used = Vec::new();
    for found in path.captures_iter(text) {
        let whole = found.get(0).unwrap();
        let line = 1 + text
            .bytes()
            .take(whole.start())
            .filter(|b| *b == b'\n')
            .count();
        if let Some(module) = found.get(1) {
            used.push((line, module.as_str().to_owned()));
            continue;
        }
        // `crate::{config::Config, llm::{…}}`: only the outermost level names modules.
        let mut depth = 1;
        let mut outer = String::from("{");
        for character in text.get(whole.end()..).unwrap().chars() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                character if depth == 1 => outer.push(character),
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        let modules = word.captures_iter(&outer);
        used.extend(modules.map(|module| (line, module[1].to_owned())));
    }
    used
}

#[test]
fn a_module_uses_only_what_stands_to_its_right() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&source, &mut files);
    assert!(files.len() > LAYERS.len(), "the sources were not found");
    let mut faults = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&source).unwrap();
        let first = relative.components().next().unwrap().as_os_str();
        let own = first.to_str().unwrap().trim_end_matches(".rs").to_owned();
        if own == "lib" || own == "main" {
            continue;
        }
        let Some(own_layer) = layer(&own) else {
            faults.push(format!("src/{own} has no layer"));
            continue;
        };
        for (line, module) in used(&fs::read_to_string(&file).unwrap()) {
            // What is no module is an item of the crate's root.
            let Some(used_layer) = layer(&module) else {
                continue;
            };
            if module != own && used_layer <= own_layer {
                faults.push(format!("src/{}:{line} uses {module}", relative.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_form_of_a_path_is_seen() {
    let text = "use crate::config::Config;\nuse crate::{\n    llm::{Part, cli},\n    xmpp,\n};\nlet a = crate::http::x();\n";
    let modules: Vec<String> = used(text)
        .into_iter()
        .map(|(line, module)| format!("{line} {module}"))
        .collect();
    assert_eq!(modules, ["1 config", "2 llm", "2 xmpp", "6 http"]);
}
