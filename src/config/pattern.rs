//! Checks of values: JIDs, patterns over JIDs, rooms, hosts, media types, models' names. Each says what is wrong in
//! words that follow the key: `jid in [channels.xmpp.my-bot] …`.

use jid::{BareJid, Jid};

/// A bare JID, with or without a local part.
pub(super) fn bare(text: &str) -> Result<BareJid, String> {
    let jid = Jid::new(text).map_err(|error| format!("is no JID: {error}"))?;
    if jid.resource().is_some() {
        return Err("must be without a resource".to_owned());
    }
    Ok(jid.to_bare())
}

/// `room@host` or `room@host/nick`.
pub(super) fn room(text: &str) -> Result<(BareJid, Option<String>), String> {
    let jid = Jid::new(text).map_err(|error| format!("is no room: {error}"))?;
    if jid.node().is_none() {
        return Err("must be a room like room@host or room@host/nick".to_owned());
    }
    Ok((jid.to_bare(), jid.resource().map(ToString::to_string)))
}

/// A bare JID, `*@domain`, `*.domain` or another glob.
pub(super) fn pattern(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("names nobody".to_owned());
    }
    if text.chars().any(|c| c.is_whitespace() || c == '/') {
        return Err("must be a bare JID or a pattern like *@example.com".to_owned());
    }
    if !text.contains('*') {
        bare(text)?;
    }
    Ok(text.to_owned())
}

/// As [`pattern`], but the domain is written out: whoever runs some server of their own matches the rest.
pub(super) fn operator(text: &str) -> Result<String, String> {
    let pattern = pattern(text)?;
    match pattern.split_once('@') {
        Some((local, domain)) if !local.is_empty() && !domain.contains('*') => Ok(pattern),
        _ => Err("must have a local part and a whole domain, as alice@example.com".to_owned()),
    }
}

/// `host`, `host:port`, `[::1]:port`.
pub fn host_and_port(text: &str) -> Result<(String, u16), String> {
    const DEFAULT: u16 = 5222;
    let wrong = || "must be host:port, as xmpp.example.com:5222".to_owned();
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or_else(wrong)?,
        None if text.matches(':').count() > 1 => (text, ""),
        None => match text.split_once(':') {
            Some((host, port)) => {
                let port: u16 = port
                    .parse()
                    .ok()
                    .filter(|port| *port > 0)
                    .ok_or_else(wrong)?;
                return if host.is_empty() || host.contains(char::is_whitespace) {
                    Err(wrong())
                } else {
                    Ok((host.to_owned(), port))
                };
            }
            None => (text, ""),
        },
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(wrong)?,
        None if port.is_empty() => DEFAULT,
        None => return Err(wrong()),
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/') {
        return Err(wrong());
    }
    Ok((host.to_owned(), port))
}

/// `image/png` or `image/*`.
pub(super) fn media_type(text: &str) -> Result<String, String> {
    let known = text.strip_suffix("/*").map_or_else(
        || text.parse::<mime::Mime>().is_ok(),
        |kind| !kind.is_empty() && kind.chars().all(|c| c.is_ascii_alphanumeric()),
    );
    if known {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("must be a media type like image/png or image/*".to_owned())
    }
}

/// An HTTP address without credentials, whose trailing slash is dropped.
pub(super) fn base_url(text: &str) -> Result<String, String> {
    let url = url::Url::parse(text).map_err(|error| format!("is no URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must begin with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or password; put it into api_key or headers".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_a_host_and_a_port() {
        for (text, result) in [
            ("xmpp.example.com:5223", Some(("xmpp.example.com", 5223))),
            ("xmpp.example.com", Some(("xmpp.example.com", 5222))),
            ("[::1]:15222", Some(("::1", 15222))),
            ("::1", Some(("::1", 5222))),
            ("127.0.0.1:5222", Some(("127.0.0.1", 5222))),
            ("host:", None),
            ("host:0", None),
            ("host:70000", None),
            (":5222", None),
            ("[::1", None),
            ("[::1]x", None),
            ("xmpp://host", None),
        ] {
            let result = result.map(|(host, port)| (host.to_owned(), port));
            assert_eq!(host_and_port(text).ok(), result, "{text}");
        }
    }

    #[test]
    fn patterns_are_bare_jids_or_globs() {
        for (text, admitted, operator_too) in [
            ("alice@example.com", true, true),
            ("*@example.com", true, true),
            ("admin-*@example.com", true, true),
            ("*.example.com", true, false),
            ("*", true, false),
            ("*@*", true, false),
            ("example.com", true, false),
            ("", false, false),
            ("alice@example.com/phone", false, false),
            ("alice @example.com", false, false),
            ("a@b@c", false, false),
        ] {
            assert_eq!(pattern(text).is_ok(), admitted, "{text}");
            assert_eq!(operator(text).is_ok(), operator_too, "{text}");
        }
    }

    #[test]
    fn media_types_may_leave_the_subtype_open() {
        for (text, fine) in [
            ("image/*", true),
            ("application/x-msdownload", true),
            ("image", false),
            ("*/*", false),
            ("/*", false),
        ] {
            assert_eq!(media_type(text).is_ok(), fine, "{text}");
        }
    }
}
