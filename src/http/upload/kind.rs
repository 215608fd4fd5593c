//! What a browser is told of a file that a stranger has made: media are shown, everything else is saved.

use std::fmt::Write;

/// The type it is sent as. What is neither a medium nor a plain document has none that a browser would act on, so that no
/// page takes a script or a style from here.
pub(super) fn content_type(kind: &str) -> &str {
    match kind {
        "text/plain" => "text/plain; charset=utf-8",
        "application/pdf" | "application/zip" | "application/gzip" => kind,
        kind if is_medium(kind) => kind,
        _ => "application/octet-stream",
    }
}

/// Shown in place, or saved.
pub(super) fn disposition(kind: &str, name: &str) -> String {
    let how = if kind == "text/plain" || is_medium(kind) {
        "inline"
    } else {
        "attachment"
    };
    format!("{how}; filename*=UTF-8''{}", encoded(name))
}

/// Pictures, sound and film. SVG is a document with scripts in it, as is anything that is XML.
fn is_medium(kind: &str) -> bool {
    let family = kind.split('/').next().unwrap_or_default();
    matches!(family, "image" | "audio" | "video") && !kind.contains("xml") && !kind.contains("svg")
}

/// RFC 8187, 3.2.
fn encoded(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            write!(encoded, "%{byte:02X}").ok();
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_are_shown_and_everything_else_is_saved_as_what_it_is_or_as_bytes() {
        let bytes = "application/octet-stream";
        for (kind, sent, shown) in [
            ("image/png", "image/png", true),
            ("video/mp4", "video/mp4", true),
            ("audio/ogg", "audio/ogg", true),
            ("text/plain", "text/plain; charset=utf-8", true),
            ("application/pdf", "application/pdf", false),
            ("application/zip", "application/zip", false),
            ("image/svg+xml", bytes, false),
            ("image/xml", bytes, false),
            ("text/html", bytes, false),
            ("application/xhtml+xml", bytes, false),
            ("text/xml", bytes, false),
            ("text/javascript", bytes, false),
            ("text/css", bytes, false),
            ("application/wasm", bytes, false),
            ("application/x-shockwave-flash", bytes, false),
            ("multipart/x-mixed-replace", bytes, false),
        ] {
            assert_eq!(content_type(kind), sent, "{kind}");
            assert_eq!(
                disposition(kind, "a").starts_with("inline;"),
                shown,
                "{kind}"
            );
        }
    }

    #[test]
    fn a_name_is_quoted_whatever_it_holds() {
        assert_eq!(
            disposition("image/png", "a \"b\"; c=é.png"),
            "inline; filename*=UTF-8''a%20%22b%22%3B%20c%3D%C3%A9.png"
        );
    }
}
