//! Puts Converse.js into the binary where npm has installed it (`npm ci --prefix web`): what the page may ask for and
//! nothing else, compressed as it is sent. Without it the table is empty, and the page loads the same version from its CDN.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::{Compression, write::GzEncoder};

const PACKAGE: &str = "web/node_modules/converse.js";

/// What the page loads by name, seen in a browser. Not the source maps, not OMEMO (see start.js), not the web site.
const FILES: &[&str] = &[
    "converse.min.css",
    "converse.min.js",
    "emoji.json",
    "images/custom_emojis/converse.png",
    "images/custom_emojis/xmpp.png",
];

fn main() -> Result<(), Box<dyn Error>> {
    let package = Path::new(PACKAGE);
    let files = if package.join("package.json").exists() {
        // npm touches this file last. A path that is not there would run this program at every build.
        println!("cargo::rerun-if-changed=web/node_modules/.package-lock.json");
        println!("cargo::rerun-if-changed={PACKAGE}/package.json");
        wanted(package)?
    } else {
        println!("cargo::rerun-if-changed=web");
        BTreeMap::new()
    };
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let mut table = String::from("&[\n");
    for (number, (name, path)) in files.iter().enumerate() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&fs::read(path)?)?;
        fs::write(out.join(format!("{number}.gz")), encoder.finish()?)?;
        writeln!(
            table,
            "    ({name:?}, include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{number}.gz\"))),"
        )?;
    }
    table.push_str("]\n");
    fs::write(out.join("converse.rs"), table)?;
    Ok(())
}

/// The files by the name below which they are served.
fn wanted(package: &Path) -> Result<BTreeMap<String, PathBuf>, Box<dyn Error>> {
    let dist = package.join("dist");
    let mut files = BTreeMap::from([("LICENSE".to_owned(), package.join("LICENSE"))]);
    for name in FILES {
        files.insert((*name).to_owned(), dist.join(name));
    }
    // Each translation, and the names of days and months in the same language.
    for entry in fs::read_dir(dist.join("chunkjs/locales"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Some(locale) = name.strip_suffix("-LC_MESSAGES-converse-po.js") else {
            continue;
        };
        let dates = match locale.to_lowercase().replace('_', "-").as_str() {
            "ug" => "ug-cn-js.js".to_owned(), // As Converse.js asks for it.
            other => format!("{other}-js.js"),
        };
        for name in [name, format!("dayjs/{dates}")] {
            let path = dist.join("chunkjs/locales").join(&name);
            if path.exists() {
                files.insert(format!("chunkjs/locales/{name}"), path);
            }
        }
    }
    Ok(files)
}
