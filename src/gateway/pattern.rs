//! Patterns over bare JIDs, as in `allowlist`: a bare JID, `*@domain`, `*.domain`, or any other glob with `*` over the
//! whole string. Both sides are prepared (RFC 7622) and their domains compared as A-labels (RFC 5891), so that case,
//! full-width letters and `xn--` make no difference. A pattern that cannot be prepared matches nobody.

use jid::{BareJid, DomainPart, NodePart};

/// Whether any pattern of the list matches. An empty list matches nobody.
pub fn any(patterns: &[String], jid: &BareJid) -> bool {
    let jid = comparable(jid);
    patterns
        .iter()
        .filter_map(|pattern| prepare(pattern))
        .any(|pattern| glob(&pattern, &jid))
}

/// The form in which two bare JIDs are equal exactly when they name the same account.
pub fn comparable(jid: &BareJid) -> String {
    let domain = ascii_domain(jid.domain().as_str());
    match jid.node() {
        Some(node) => format!("{node}@{domain}"),
        None => domain,
    }
}

/// `DomainPart` keeps A-labels and U-labels apart, though they name the same host.
fn ascii_domain(domain: &str) -> String {
    let ascii = url::quirks::domain_to_ascii(domain);
    // Empty for what is no name, such as an IPv6 address.
    if ascii.is_empty() {
        domain.to_lowercase()
    } else {
        ascii
    }
}

/// The pattern in the form of [`comparable`].
fn prepare(pattern: &str) -> Option<String> {
    match pattern.split_once('@') {
        // Nodeprep leaves `*` alone.
        Some((node, domain)) => {
            let node = NodePart::new(node).ok()?.into_owned();
            Some(format!("{node}@{}", prepare_domain(domain)?))
        }
        None => prepare_domain(pattern),
    }
}

/// Label by label where there is a `*`, since no label with one is a valid name. Such a label must be ASCII: what part
/// of an A-label a piece of a U-label matches is not defined.
fn prepare_domain(domain: &str) -> Option<String> {
    if !domain.contains('*') {
        return Some(ascii_domain(DomainPart::new(domain).ok()?.as_str()));
    }
    let labels: Option<Vec<String>> = domain
        .split('.')
        .map(|label| {
            if label.contains('*') {
                let plain = |c: char| c.is_ascii_alphanumeric() || "-_*".contains(c);
                label.chars().all(plain).then(|| label.to_ascii_lowercase())
            } else {
                Some(ascii_domain(DomainPart::new(label).ok()?.as_str()))
            }
        })
        .collect();
    Some(labels?.join("."))
}

/// Whether the whole of `text` matches; `*` stands for any characters, or none.
pub fn glob(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for piece in middle.split('*') {
        let Some((_, after)) = text.split_once(piece).filter(|_| !piece.is_empty()) else {
            if piece.is_empty() {
                continue;
            }
            return false;
        };
        text = after;
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_prepared_jid() {
        struct Row {
            name: &'static str,
            pattern: &'static str,
            jid: &'static str,
            matches: bool,
        }
        let row = |name, pattern, jid, matches| Row {
            name,
            pattern,
            jid,
            matches,
        };
        let rows = [
            row("the JID", "alice@example.com", "alice@example.com", true),
            row("case", "Alice@Example.COM", "alice@example.com", true),
            row(
                "full-width",
                "ａlice@example.com",
                "alice@example.com",
                true,
            ),
            row(
                "U-label",
                "a@bücher.example",
                "a@xn--bcher-kva.example",
                true,
            ),
            row(
                "A-label",
                "a@xn--bcher-kva.example",
                "a@BÜCHER.example",
                true,
            ),
            row(
                "another domain",
                "admin@example.com",
                "admin@evil.com",
                false,
            ),
            row(
                "longer domain",
                "a@example.com",
                "a@example.com.evil.org",
                false,
            ),
            row(
                "longer local part",
                "lice@example.com",
                "alice@example.com",
                false,
            ),
            row(
                "everyone of a domain",
                "*@trusted.org",
                "bob@trusted.org",
                true,
            ),
            row(
                "not of a subdomain",
                "*@trusted.org",
                "bob@sub.trusted.org",
                false,
            ),
            row(
                "not with the domain inside",
                "*@trusted.org",
                "x@trusted.org.evil.com",
                false,
            ),
            row("not the bare domain", "*@trusted.org", "trusted.org", false),
            row("a subdomain", "*.trusted.org", "bob@sub.trusted.org", true),
            row(
                "not the domain itself",
                "*.trusted.org",
                "bob@trusted.org",
                false,
            ),
            row(
                "not a domain that ends alike",
                "*.trusted.org",
                "bob@untrusted.org",
                false,
            ),
            row(
                "A-labels under a star",
                "*@*.bücher.example",
                "a@b.xn--bcher-kva.example",
                true,
            ),
            row("everyone", "*", "anyone@anywhere.example", true),
            row(
                "stars inside",
                "bot-*@*.example.com",
                "bot-7@eu.example.com",
                true,
            ),
            row("stars in order", "a*b*c@x.org", "aXbYc@x.org", true),
            row("stars out of order", "a*b*c@x.org", "acbY@x.org", false),
            row("no overlap", "aba*ba@x.org", "aba@x.org", false),
            row(
                "a dot is a dot",
                "a.c@example.com",
                "abc@example.com",
                false,
            ),
            row(
                "a question mark is itself",
                "a?c@example.com",
                "abc@example.com",
                false,
            ),
            row(
                "regular expressions are not",
                ".*@example.com",
                "bob@example.com",
                false,
            ),
            row("empty", "", "alice@example.com", false),
            row(
                "a resource",
                "alice@example.com/phone",
                "alice@example.com",
                false,
            ),
            row("two @", "a@b@example.com", "a@example.com", false),
            row("a space", "al ice@example.com", "alice@example.com", false),
            row("empty local part", "@example.com", "example.com", false),
            row(
                "non-ASCII beside a star",
                "a@bü*.example",
                "a@bücher.example",
                false,
            ),
        ];
        for row in rows {
            let jid = BareJid::new(row.jid).unwrap();
            assert_eq!(
                any(&[row.pattern.to_owned()], &jid),
                row.matches,
                "{}",
                row.name
            );
        }
        assert!(!any(&[], &BareJid::new("alice@example.com").unwrap()));
    }

    #[test]
    fn hostile_patterns_and_jids_do_not_panic() {
        let long = "a".repeat(1_023);
        for pattern in [
            &*"*".repeat(2_000),
            "*@",
            "@*",
            "*@*",
            "[::1]",
            "u@[::1]",
            "\u{202e}*@x",
            &long,
        ] {
            for jid in ["u@[::1]", "ß@x.org", &format!("{long}@x.org"), "x"] {
                let jid = BareJid::new(jid).unwrap();
                any(&[pattern.to_owned()], &jid);
            }
        }
        assert!(any(&["u@[::1]".into()], &BareJid::new("u@[::1]").unwrap()));
    }
}
