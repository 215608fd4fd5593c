//! Character data and attribute values, from the wire and to it (XML 1.0, 2.2, 2.4, 2.11, 3.3.3).

use super::{not_well_formed, restricted};
use crate::server::StreamError;

/// Character data outside CDATA sections.
pub(super) fn text(raw: &str) -> Result<String, StreamError> {
    resolve(raw, special_in_text, Kind::Text)
}

/// The inside of a CDATA section.
pub(super) fn section(raw: &str) -> Result<String, StreamError> {
    resolve(raw, special_in_section, Kind::Section)
}

/// The value of an attribute, without its quotes.
pub(super) fn attribute(raw: &str) -> Result<String, StreamError> {
    resolve(raw, special_in_attribute, Kind::Attribute)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Section,
    Attribute,
}

/// Controls, and 0xEF, which begins the two characters at U+FFFE that are none.
const fn suspicious(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t' && byte != b'\n') || byte == 0xEF
}

const fn special_in_text(byte: u8) -> bool {
    suspicious(byte) || matches!(byte, b'&' | b']')
}

const fn special_in_section(byte: u8) -> bool {
    suspicious(byte)
}

const fn special_in_attribute(byte: u8) -> bool {
    suspicious(byte) || matches!(byte, b'&' | b'\t' | b'\n' | b'<')
}

/// Most data has nothing special in it and is copied as it is.
fn resolve(raw: &str, special: impl Fn(u8) -> bool, kind: Kind) -> Result<String, StreamError> {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.bytes().position(&special) {
        // The special byte begins a character, so this splits between two.
        let (plain, found) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.push_str(plain);
        let mut characters = found.chars();
        let Some(character) = characters.next() else {
            break;
        };
        rest = characters.as_str();
        match character {
            '\r' => {
                rest = rest.strip_prefix('\n').unwrap_or(rest);
                out.push(if kind == Kind::Attribute { ' ' } else { '\n' });
            }
            '\t' | '\n' => out.push(' '),
            '&' => {
                let (name, tail) = rest
                    .split_once(';')
                    .ok_or(not_well_formed("a reference without an end"))?;
                out.push(reference(name)?);
                rest = tail;
            }
            '<' => return Err(not_well_formed("a tag in an attribute")),
            ']' if rest.starts_with("]>") => return Err(not_well_formed("]]> in text")),
            other if allowed(other) => out.push(other),
            _ => return Err(not_well_formed("a character that XML does not have")),
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// XML 1.0, 4.1 and 4.6. No other entity can be declared without a DTD.
fn reference(name: &str) -> Result<char, StreamError> {
    let (digits, radix) = match name {
        "amp" => return Ok('&'),
        "lt" => return Ok('<'),
        "gt" => return Ok('>'),
        "apos" => return Ok('\''),
        "quot" => return Ok('"'),
        _ => match (name.strip_prefix("#x"), name.strip_prefix('#')) {
            (Some(digits), _) => (digits, 16),
            (None, Some(digits)) => (digits, 10),
            (None, None) => return Err(restricted("an entity")),
        },
    };
    Some(digits)
        // A sign would be read too.
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .and_then(|digits| u32::from_str_radix(digits, radix).ok())
        .and_then(char::from_u32)
        .filter(|character| allowed(*character))
        .ok_or(not_well_formed("a reference to no character"))
}

/// XML 1.0, 2.2.
const fn allowed(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | '\u{20}'..='\u{FFFD}' | '\u{10000}'..)
}

/// Writes character data. `>` is escaped wherever it stands, so that `]]>` never occurs, and a carriage return because a
/// parser would make a line feed of it.
pub(super) fn write_text(text: &str, out: &mut Vec<u8>) {
    write(text, out, |byte| {
        suspicious(byte) || matches!(byte, b'&' | b'<' | b'>')
    });
}

/// Writes an attribute's value, to stand between apostrophes.
pub fn write_attribute(value: &str, out: &mut Vec<u8>) {
    write(value, out, |byte| {
        suspicious(byte) || matches!(byte, b'&' | b'<' | b'>' | b'\'' | b'\t' | b'\n')
    });
}

fn write(text: &str, out: &mut Vec<u8>, special: impl Fn(u8) -> bool) {
    let mut rest = text;
    while let Some(at) = rest.bytes().position(&special) {
        let (plain, found) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.extend_from_slice(plain.as_bytes());
        let mut characters = found.chars();
        let Some(character) = characters.next() else {
            return;
        };
        rest = characters.as_str();
        let mut bytes = [0; 4];
        let escaped: &str = match character {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '\'' => "&apos;",
            '\t' => "&#9;",
            '\n' => "&#10;",
            '\r' => "&#13;",
            other if allowed(other) => other.encode_utf8(&mut bytes),
            // Nothing that was parsed has it; what was made from other sources may.
            _ => "\u{FFFD}",
        };
        out.extend_from_slice(escaped.as_bytes());
    }
    out.extend_from_slice(rest.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_and_line_ends_are_resolved() {
        for (name, raw, as_text, as_attribute) in [
            ("plain", "a b", "a b", "a b"),
            ("the five", "&lt;&gt;&amp;&apos;&quot;", "<>&'\"", "<>&'\""),
            ("numbers", "&#65;&#x42;&#X43;", "", ""),
            ("decimal", "&#65;&#0066;", "AB", "AB"),
            ("hexadecimal", "&#x1F600;&#xd;", "😀\r", "😀\r"),
            ("twice", "&amp;lt;", "&lt;", "&lt;"),
            ("line ends", "a\r\nb\rc\r\r\nd", "a\nb\nc\n\nd", "a b c  d"),
            ("white space", "a\tb\n", "a\tb\n", "a b "),
            ("full width", "，\u{FFFD}", "，\u{FFFD}", "，\u{FFFD}"),
        ] {
            if as_text.is_empty() {
                assert!(text(raw).is_err(), "{name}");
                assert!(attribute(raw).is_err(), "{name}");
            } else {
                assert_eq!(text(raw).as_deref(), Ok(as_text), "{name}");
                assert_eq!(attribute(raw).as_deref(), Ok(as_attribute), "{name}");
            }
        }
    }

    #[test]
    fn what_xml_does_not_have_is_refused() {
        for (name, raw, condition) in [
            ("NUL", "\0", "not-well-formed"),
            ("escape", "a\u{1b}", "not-well-formed"),
            ("U+FFFE", "\u{FFFE}", "not-well-formed"),
            ("U+FFFF by number", "&#xFFFF;", "not-well-formed"),
            ("NUL by number", "&#0;", "not-well-formed"),
            ("a surrogate", "&#xD800;", "not-well-formed"),
            ("beyond Unicode", "&#x110000;", "not-well-formed"),
            ("beyond all", "&#99999999999999999999;", "not-well-formed"),
            ("a sign", "&#+65;", "not-well-formed"),
            ("no digits", "&#;", "not-well-formed"),
            ("no name", "&;", "restricted-xml"),
            ("an entity", "&nbsp;", "restricted-xml"),
            ("no end", "a & b", "not-well-formed"),
        ] {
            assert_eq!(text(raw).unwrap_err().condition, condition, "{name}");
            assert_eq!(attribute(raw).unwrap_err().condition, condition, "{name}");
        }
        assert!(text("]]>").is_err());
        assert_eq!(text("]]&gt;]] >").as_deref(), Ok("]]>]] >"));
        assert_eq!(section("]] >&amp;\r\n").as_deref(), Ok("]] >&amp;\n"));
        assert!(attribute("<").is_err());
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let hostile = "]]> <a b='c' d=\"e\"> & &amp; \t\n\r \u{85}\u{FFFD}，😀";
        let mut out = Vec::new();
        write_text(hostile, &mut out);
        assert_eq!(
            text(std::str::from_utf8(&out).unwrap()).as_deref(),
            Ok(hostile)
        );
        out.clear();
        write_attribute(hostile, &mut out);
        assert_eq!(
            attribute(std::str::from_utf8(&out).unwrap()).as_deref(),
            Ok(hostile)
        );
        assert!(!out.contains(&b'\''));
        out.clear();
        write_text("\0\u{FFFF}", &mut out);
        assert_eq!(out, "\u{FFFD}\u{FFFD}".as_bytes());
    }
}
