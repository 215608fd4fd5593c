//! The page as browsers and others see it.

use super::*;

#[test]
fn a_browser_sees_the_apps_for_its_own_device_first() {
    for (agent, expected) in [
        (
            "Mozilla/5.0 (Linux; Android 14; Pixel 8) Chrome/126 Mobile",
            Some("Android"),
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X)",
            Some("iPhone and iPad"),
        ),
        ("Mozilla/5.0 (X11; Linux x86_64)", Some("Linux")),
        ("Mozilla/5.0 (Windows NT 10.0; Win64)", Some("Windows")),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)",
            Some("Mac"),
        ),
        ("curl/8", None),
    ] {
        assert_eq!(platform(agent), expected, "{agent}");
        let known = |platform| APPS.iter().any(|(name, _)| *name == platform);
        assert!(expected.is_none_or(known), "{agent}");
    }
}

#[test]
fn a_form_is_read_and_what_is_missing_is_empty() {
    let wish = Wish::read(b"name=+alice+&password=a%26b&again=a%26b&other=1");
    assert_eq!(
        (
            wish.name.as_str(),
            wish.password.as_str(),
            wish.again.as_str()
        ),
        ("alice", "a&b", "a&b")
    );
    assert!(Wish::read(b"\xff=\xff").name.is_empty());
}

#[test]
fn what_others_have_chosen_is_escaped() {
    let page = Page {
        domain: "example.org".to_owned(),
        inviter: Some("<b>&'\"@example.org".to_owned()),
        uri: "xmpp:example.org?register;preauth=x".to_owned(),
        path: "/invite/x".to_owned(),
        registers: true,
        fixed: false,
        secure: true,
        name: Some("\"><script>".to_owned()),
        error: Some("<i>".to_owned()),
        platform: None,
    };
    let html = render("page.html", &page.values()).unwrap();
    for wrong in ["<script", "<i>", "<b>&'", "'\"@"] {
        assert!(!html.contains(wrong), "{wrong}");
    }
    for right in ["<svg", "action=\"&#x2f;invite&#x2f;x\"", "&lt;i&gt;"] {
        assert!(html.contains(right), "{right}");
    }
}

#[test]
fn nothing_is_loaded_from_elsewhere() {
    assert!(!POLICY.contains("http") && !POLICY.contains("unsafe"));
    for file in [
        include_str!("frame.html"),
        include_str!("done.html"),
        include_str!("over.html"),
        include_str!("page.html"),
        include_str!("page.css"),
    ] {
        assert!(!file.contains("src=") && !file.contains("url(") && !file.contains("style="));
    }
}
