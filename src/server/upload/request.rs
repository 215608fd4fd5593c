//! What a client asks for (XEP-0363, 4), and how it is refused (5).

use mime::Mime;
use minidom::Element;

use super::Rules;
use crate::server::StanzaError;
use crate::xmpp::datetime;
use crate::xmpp::element::{element, text_element};
use crate::xmpp::ns;

/// As the file systems of clients have it, in bytes.
const LONGEST_NAME: usize = 255;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub name: String,
    pub size: u64,
    /// Without parameters; `None`: not said.
    pub kind: Option<String>,
}

/// Reads a `<request/>`, and refuses what nobody may upload.
pub(super) fn read(request: &Element, rules: &Rules) -> Result<Wanted, StanzaError> {
    let bad = |text: &str| StanzaError::bad_request().text(text);
    let name = request.attr("filename").filter(|name| is_name(name));
    let name = name.ok_or_else(|| bad("This is no name of a file"))?;
    let size = request.attr("size").and_then(|size| size.parse().ok());
    let size = size.ok_or_else(|| bad("The size is a number of bytes"))?;
    let most = rules.most();
    if size > most {
        return Err(too_large(most));
    }
    let kind = match request.attr("content-type").filter(|kind| !kind.is_empty()) {
        Some(kind) => Some(essence(kind).ok_or_else(|| bad("This is no media type"))?),
        None => None,
    };
    if let Some(kind) = &kind
        && !rules.takes(kind)
    {
        return Err(StanzaError::not_acceptable().text("Files of this type are not taken here"));
    }
    Ok(Wanted {
        name: name.to_owned(),
        size,
        kind,
    })
}

/// A name that stays one in a URL and on a disk: neither a path nor a way out of a directory.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= LONGEST_NAME
        && !matches!(name, "." | "..")
        && !name.contains(['/', '\\'])
        && !name.chars().any(char::is_control)
}

/// A media type in lower case and without its parameters.
pub(super) fn essence(kind: &str) -> Option<String> {
    let kind: Mime = kind.parse().ok()?;
    let is_range = kind.type_() == mime::STAR || kind.subtype() == mime::STAR;
    (!is_range).then(|| kind.essence_str().to_ascii_lowercase())
}

fn too_large(most: u64) -> StanzaError {
    let mut detail = Element::bare("file-too-large", ns::HTTP_UPLOAD);
    let most = most.to_string();
    detail.append_child(text_element("max-file-size", ns::HTTP_UPLOAD, &most));
    StanzaError::not_acceptable()
        .text(format!("A file has {most} bytes at most"))
        .detail(detail)
}

/// A refusal that does not last. `retry`: milliseconds since 1970.
pub(super) fn later(text: &str, retry: i64) -> StanzaError {
    let stamp = datetime::stamp(retry);
    let detail = element("retry", ns::HTTP_UPLOAD, &[("stamp", &stamp)]);
    StanzaError::resource_constraint().text(text).detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Upload;
    use crate::server::Condition;

    fn wanted(attributes: &str, allowed: &[&str]) -> Result<Wanted, StanzaError> {
        let rules = Rules {
            settings: Upload {
                max_mb: 1,
                allowed_types: allowed.iter().map(|kind| (*kind).to_owned()).collect(),
                ..Upload::default()
            },
            base: None,
        };
        let request = format!("<request xmlns='urn:xmpp:http:upload:0' {attributes}/>");
        read(&request.parse().unwrap(), &rules)
    }

    #[test]
    fn a_request_says_name_size_and_type() {
        let long = format!("filename='{}' size='1'", "x".repeat(256));
        for (name, attributes, expected) in [
            (
                "plain",
                "filename='a b.png' size='7' content-type='image/PNG'",
                Ok(Some("image/png")),
            ),
            (
                "parameters",
                "filename='a' size='0' content-type='text/plain; charset=utf-8'",
                Ok(Some("text/plain")),
            ),
            (
                "without a type",
                "filename='très cool.jpg' size='1000000'",
                Ok(None),
            ),
            ("no name", "size='1'", Err(Condition::BadRequest)),
            (
                "a path",
                "filename='../a' size='1'",
                Err(Condition::BadRequest),
            ),
            (
                "a way out",
                "filename='..' size='1'",
                Err(Condition::BadRequest),
            ),
            (
                "another separator",
                "filename='a\\b' size='1'",
                Err(Condition::BadRequest),
            ),
            (
                "a line break",
                "filename='a&#10;b' size='1'",
                Err(Condition::BadRequest),
            ),
            ("a long name", &long, Err(Condition::BadRequest)),
            ("no size", "filename='a'", Err(Condition::BadRequest)),
            (
                "less than nothing",
                "filename='a' size='-1'",
                Err(Condition::BadRequest),
            ),
            (
                "a fraction",
                "filename='a' size='1.5'",
                Err(Condition::BadRequest),
            ),
            (
                "too large",
                "filename='a' size='1000001'",
                Err(Condition::NotAcceptable),
            ),
            (
                "no type",
                "filename='a' size='1' content-type='png'",
                Err(Condition::BadRequest),
            ),
            (
                "all types",
                "filename='a' size='1' content-type='*/*'",
                Err(Condition::BadRequest),
            ),
        ] {
            let found = wanted(attributes, &[]);
            let found = found
                .map(|wanted| wanted.kind)
                .map_err(|error| error.condition);
            assert_eq!(
                found,
                expected.map(|kind| kind.map(str::to_owned)),
                "{name}"
            );
        }
    }

    #[test]
    fn types_are_taken_by_the_list() {
        for (kind, expected) in [
            ("image/png", true),
            ("IMAGE/PNG", true),
            ("application/pdf", true),
            ("application/zip", false),
            ("imagery/png", false),
        ] {
            let attributes = format!("filename='a' size='1' content-type='{kind}'");
            let found = wanted(&attributes, &["image/*", "application/pdf"]);
            assert_eq!(found.is_ok(), expected, "{kind}");
        }
    }

    #[test]
    fn a_refusal_says_how_large_a_file_may_be_and_when_to_try_again() {
        let error = wanted("filename='a' size='1000001'", &[]).unwrap_err();
        let error = String::from(&error.to_element());
        assert!(
            error.contains("<max-file-size>1000000</max-file-size>"),
            "{error}"
        );
        let error = String::from(&later("Later", 0).to_element());
        assert!(
            error.contains("stamp='1970-01-01T00:00:00")
                || error.contains("stamp=\"1970-01-01T00:00:00"),
            "{error}"
        );
    }
}
