//! Converse.js: the files in the binary, or the same ones on a CDN.

/// As web/package.json has it. Part of every file's path, so that a browser may keep the file for ever.
pub(super) const VERSION: &str = "14.0.0";

/// The files as npm has them, at the same version.
pub(super) const CDN: &str = "https://cdn.jsdelivr.net/npm/converse.js@14.0.0/dist";

/// A file with its hash, as browsers check it (Subresource Integrity).
pub(super) struct Pinned {
    pub name: &'static str,
    pub integrity: &'static str,
}

pub(super) const SCRIPT: Pinned = Pinned {
    name: "converse.min.js",
    integrity: "sha384-thj8awSxFs5CJWpT3aMz9boqgV6iym3oVguf06MBTR8Nhm8NrWdF3zfjXejtlkl/",
};
pub(super) const STYLE: Pinned = Pinned {
    name: "converse.min.css",
    integrity: "sha384-jEKam4nDyEVwJHR5v8sJMUENIbItzqCmu4tGGrEbR07uo+aOfY8oONUrCVdJLb+3",
};
pub(super) const EMOJI: Pinned = Pinned {
    name: "emoji.json",
    integrity: "sha384-fCpmg8ZWh6RWTyd9LR+K9VuMhRDMKjasFzs+uZ5Q994VI4pOyi5kf2XjllkpvkK+",
};

/// Name and content, compressed by gzip; sorted by name. Empty where npm had not installed them (build.rs).
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/converse.rs"));

/// Whether this binary holds them.
pub(super) fn is_built_in() -> bool {
    !FILES.is_empty()
}

/// A file by its exact name: no path is resolved, so none leads elsewhere.
pub(super) fn file(name: &str) -> Option<&'static [u8]> {
    let index = FILES.binary_search_by_key(&name, |(name, _)| name).ok()?;
    FILES.get(index).map(|(_, content)| *content)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::Path;

    use base64::prelude::{BASE64_STANDARD, Engine};
    use sha2::{Digest, Sha384};

    use super::*;

    fn repository(path: &str) -> String {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
    }

    #[test]
    fn the_version_is_pinned_once_for_npm_and_for_the_cdn() {
        let package: serde_json::Value =
            serde_json::from_str(&repository("web/package.json")).unwrap();
        assert_eq!(package["dependencies"]["converse.js"], VERSION);
        let lock: serde_json::Value =
            serde_json::from_str(&repository("web/package-lock.json")).unwrap();
        assert_eq!(
            lock["packages"]["node_modules/converse.js"]["version"],
            VERSION
        );
        assert!(CDN.contains(&format!("converse.js@{VERSION}/")), "{CDN}");
    }

    #[test]
    fn the_hashes_are_those_of_the_files_that_npm_has_installed() {
        let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("web/node_modules/converse.js");
        assert_eq!(is_built_in(), installed.join("package.json").exists());
        for Pinned { name, integrity } in [SCRIPT, STYLE, EMOJI] {
            assert_eq!(file(name).is_some(), is_built_in(), "{name}");
            if let Some(compressed) = file(name) {
                let mut content = Vec::new();
                let mut decoder = flate2::read::GzDecoder::new(compressed);
                decoder.read_to_end(&mut content).unwrap();
                let hash = BASE64_STANDARD.encode(Sha384::digest(&content));
                assert_eq!(format!("sha384-{hash}"), integrity, "{name}");
            }
        }
    }
}
