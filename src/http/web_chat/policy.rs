//! What a browser may load and do on the page (Content Security Policy, level 3).

use super::converse;

/// The style elements that Converse.js makes. Its build has taken the styles out into converse.min.css and left for each of
/// 71 parts an element that is empty, and then holds a comment. Both do nothing; not allowed, each is an error in the console.
const EMPTY_STYLES: &str = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' \
    'sha256-JRf3eZJIF59VkE1tlxlBPiCQXjGJ1uE88pEYh49RtTY='";

/// No inline script, no `eval`, no WebAssembly, no frame in or out, and no request to another origin; where Converse.js is
/// not built in, to its version's folder on the CDN, and of scripts to the one whose hash the page has.
///
/// `style` attributes are allowed: Converse.js colours avatars and names with them. They cannot reach beyond their element,
/// and what they load is under `img-src`. `data:` and `blob:` are avatars and pictures about to be sent.
///
/// `files`: the origin of uploads (XEP-0363), which is not the page's own where the same server has two names, as `localhost`
/// and `127.0.0.1`, or a proxy in front.
pub(super) fn page(is_built_in: bool, files: Option<&str>) -> String {
    let files = files.map(|files| format!(" {files}")).unwrap_or_default();
    let (script, folder) = if is_built_in {
        (String::new(), String::new())
    } else {
        let cdn = converse::CDN;
        (
            format!(" {cdn}/{}", converse::SCRIPT.name),
            format!(" {cdn}/"),
        )
    };
    [
        "default-src 'none'".to_owned(),
        format!("script-src 'self'{script}"),
        format!("style-src 'self'{folder}"),
        format!("style-src-elem 'self'{folder} {EMPTY_STYLES}"),
        "style-src-attr 'unsafe-inline'".to_owned(),
        format!("img-src 'self' data: blob:{folder}{files}"),
        format!("media-src 'self' blob:{files}"),
        format!("font-src 'self'{folder}"),
        format!("connect-src 'self'{folder}{files}"),
        "form-action 'none'".to_owned(),
        "base-uri 'none'".to_owned(),
        "frame-ancestors 'none'".to_owned(),
    ]
    .join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sources of a directive.
    fn sources<'a>(policy: &'a str, directive: &str) -> Vec<&'a str> {
        let mut directives = policy.split("; ").map(|directive| directive.split(' '));
        let mut found = directives
            .find(|words| words.clone().next() == Some(directive))
            .unwrap();
        found.next();
        found.collect()
    }

    #[test]
    fn nothing_but_this_origin_is_asked_where_the_files_are_built_in() {
        let policy = page(true, None);
        assert!(!policy.contains("http"), "{policy}");
        assert_eq!(sources(&policy, "script-src"), ["'self'"]);
        assert_eq!(sources(&policy, "connect-src"), ["'self'"]);
    }

    #[test]
    fn files_are_put_and_shown_where_they_are() {
        let policy = page(true, Some("https://chat.example.org"));
        for directive in ["connect-src", "img-src", "media-src"] {
            assert!(sources(&policy, directive).contains(&"https://chat.example.org"));
        }
        assert_eq!(policy.matches("https:").count(), 3, "{policy}");
    }

    #[test]
    fn the_cdn_may_give_the_one_script_whose_hash_is_known() {
        let script = format!("{}/{}", converse::CDN, converse::SCRIPT.name);
        assert_eq!(
            sources(&page(false, None), "script-src"),
            ["'self'", &script]
        );
    }

    #[test]
    fn no_policy_lets_inline_scripts_or_frames_in() {
        for policy in [page(true, None), page(false, None)] {
            assert_eq!(sources(&policy, "default-src"), ["'none'"]);
            assert_eq!(sources(&policy, "frame-ancestors"), ["'none'"]);
            assert_eq!(policy.matches("unsafe").count(), 1, "{policy}");
            assert_eq!(sources(&policy, "style-src-attr"), ["'unsafe-inline'"]);
        }
    }
}
