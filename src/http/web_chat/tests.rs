//! The page as a browser asks for it.

use std::net::SocketAddr;

use axum::body::Body;
use axum::http::Request;
use serde_json::Value;
use tower_service::Service;

use super::*;
use crate::http::connection::Arrival;

fn web_chat(demo: bool) -> WebChat {
    WebChat {
        title: "<moltis>".into(),
        domain: "localhost".into(),
        rooms: Some("conference.localhost".into()),
        bot: Some(BareJid::new("moltis@localhost").unwrap()),
        demo: demo.then(|| Demo {
            jid: BareJid::new("you@localhost").unwrap(),
            password: "tell nobody".into(),
        }),
    }
}

/// Asks from this machine as a browser on a page of ours does, with what `headers` change.
async fn ask(web_chat: WebChat, peer: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut own = vec![
        ("host", "localhost:8080"),
        ("sec-fetch-site", "same-origin"),
    ];
    own.retain(|(name, _)| headers.iter().all(|(changed, _)| changed != name));
    let mut request = Request::get(path);
    for (name, value) in own
        .iter()
        .chain(headers)
        .filter(|(_, value)| !value.is_empty())
    {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::empty()).unwrap();
    let peer: SocketAddr = peer.parse().unwrap();
    request
        .extensions_mut()
        .insert(Arrival { peer, tls: false });
    router::<()>(web_chat, Arc::new(|| None))
        .with_state(())
        .call(request)
        .await
        .unwrap()
}

async fn text(response: Response) -> String {
    let body = axum::body::to_bytes(response.into_body(), 1 << 20)
        .await
        .unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

const LOCAL: &str = "127.0.0.1:1";

#[tokio::test]
async fn the_demo_tells_its_password_to_its_own_page_at_this_machine_alone() {
    struct Case {
        name: &'static str,
        demo: bool,
        peer: &'static str,
        headers: &'static [(&'static str, &'static str)],
        status: StatusCode,
    }
    let own = Case {
        name: "its own page",
        demo: true,
        peer: LOCAL,
        headers: &[],
        status: StatusCode::OK,
    };
    let refused = Case {
        status: StatusCode::FORBIDDEN,
        ..own
    };
    for case in [
        Case {
            name: "by IPv6",
            peer: "[::1]:1",
            headers: &[("host", "[::1]:8080")],
            ..own
        },
        Case {
            name: "by address",
            headers: &[("host", "127.0.0.1:8080")],
            ..own
        },
        Case {
            name: "no demo",
            demo: false,
            status: StatusCode::NOT_FOUND,
            ..own
        },
        Case {
            name: "another machine",
            peer: "192.0.2.1:1",
            ..refused
        },
        Case {
            name: "another name (DNS rebinding)",
            headers: &[("host", "evil.example:8080")],
            ..refused
        },
        Case {
            name: "no name",
            headers: &[("host", "")],
            ..refused
        },
        Case {
            name: "another site",
            headers: &[("sec-fetch-site", "cross-site")],
            ..refused
        },
        Case {
            name: "another port of the same machine",
            headers: &[("sec-fetch-site", "same-site")],
            ..refused
        },
        Case {
            name: "the address bar",
            headers: &[("sec-fetch-site", "none")],
            ..refused
        },
        Case {
            name: "no browser",
            headers: &[("sec-fetch-site", "")],
            ..refused
        },
        Case {
            name: "another origin",
            headers: &[("origin", "http://localhost:9090")],
            ..refused
        },
        Case {
            name: "through a proxy",
            headers: &[("x-forwarded-for", "192.0.2.1")],
            ..refused
        },
        Case {
            name: "through a proxy of the standard",
            headers: &[("forwarded", "for=192.0.2.1")],
            ..refused
        },
        own,
    ] {
        let response = ask(web_chat(case.demo), case.peer, SIGN_IN, case.headers).await;
        assert_eq!(response.status(), case.status, "{}", case.name);
        assert!(
            response
                .headers()
                .get("access-control-allow-origin")
                .is_none()
        );
        let is_told = text(response).await.contains("tell nobody");
        assert_eq!(is_told, case.status == StatusCode::OK, "{}", case.name);
    }
}

#[tokio::test]
async fn the_password_is_kept_by_no_cache() {
    let response = ask(web_chat(true), LOCAL, SIGN_IN, &[]).await;
    assert_eq!(response.headers()["cache-control"], "no-store");
}

#[tokio::test]
async fn who_may_not_have_the_password_is_asked_to_log_in() {
    for (peer, expected) in [(LOCAL, true), ("192.0.2.1:1", false)] {
        let response = ask(web_chat(true), peer, "/web/settings.json", &[]).await;
        let document: Value = serde_json::from_str(&text(response).await).unwrap();
        let signs_in = document["settings"]["credentials_url"] == SIGN_IN;
        assert_eq!(signs_in, expected, "{peer}");
    }
}

fn document(is_built_in: bool) -> Value {
    serde_json::to_value(settings::of(&web_chat(false), is_built_in, false)).unwrap()
}

#[test]
fn settings_lead_to_this_server_and_open_the_bots_chat() {
    let document = document(true);
    let settings = &document["settings"];
    assert_eq!(settings["assets_path"], "/web/converse-14.0.0");
    assert_eq!(settings["default_domain"], "localhost");
    assert_eq!(settings["muc_domain"], "conference.localhost");
    assert_eq!(
        settings["auto_join_private_chats"],
        json!(["moltis@localhost"])
    );
    assert_eq!(settings["auto_login"], Value::Null);
    assert_eq!(document["fetched_emoji"], Value::Null);
}

#[test]
fn without_npm_the_page_takes_the_same_files_from_the_cdn_by_their_hashes() {
    let page = html(&web_chat(false), false).unwrap();
    for pinned in [converse::SCRIPT, converse::STYLE] {
        let tag = format!(
            "=\"{}/{}\" integrity=\"{}\" crossorigin=\"anonymous\"",
            converse::CDN,
            pinned.name,
            pinned.integrity
        );
        assert!(unescaped(&page).contains(&tag), "{page}");
    }
    let document = document(false);
    assert_eq!(
        document["fetched_emoji"]["integrity"],
        converse::EMOJI.integrity
    );
    assert_eq!(document["settings"]["locales"], json!(["en"]));
}

/// The template writes slashes as references, which a browser reads as slashes.
fn unescaped(html: &str) -> String {
    html.replace("&#x2f;", "/")
}

#[test]
fn a_title_is_escaped() {
    let page = html(&web_chat(false), true).unwrap();
    assert!(page.contains("<title>&lt;moltis&gt;</title>"), "{page}");
}

#[tokio::test]
async fn the_page_has_its_policy() {
    let response = ask(web_chat(false), LOCAL, "/", &[]).await;
    let headers = response.headers();
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    let page = text(response).await;
    assert!(page.contains("<script type=\"module\""), "{page}");
    assert!(!page.contains("<script>"), "{page}");
}

#[tokio::test]
async fn own_files_have_their_type_and_are_sent_once() {
    for (name, kind) in [
        ("start.js", "text/javascript; charset=utf-8"),
        ("page.css", "text/css; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ] {
        let path = format!("/web/{name}");
        let response = ask(web_chat(false), LOCAL, &path, &[]).await;
        assert_eq!(response.headers()["content-type"], kind);
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        let tag = response.headers()["etag"].to_str().unwrap().to_owned();
        assert!(!text(response).await.is_empty(), "{name}");
        let again = [("if-none-match", tag.as_str())];
        let response = ask(web_chat(false), LOCAL, &path, &again).await;
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
        let other = [("if-none-match", "\"other\"")];
        let response = ask(web_chat(false), LOCAL, &path, &other).await;
        assert_eq!(response.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn what_is_built_in_is_kept_for_ever_and_comes_compressed() {
    let path = format!(
        "/web/converse-{}/{}",
        converse::VERSION,
        converse::STYLE.name
    );
    let response = ask(web_chat(false), LOCAL, &path, &[]).await;
    if converse::is_built_in() {
        let headers = response.headers();
        assert_eq!(headers["content-type"], "text/css; charset=utf-8");
        assert_eq!(headers["content-encoding"], "gzip");
        assert!(
            headers["cache-control"]
                .to_str()
                .unwrap()
                .ends_with("immutable")
        );
    } else {
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn no_path_leads_out_of_the_folder() {
    for path in [
        "/web/../Cargo.toml",
        "/web/..%2fCargo.toml",
        "/web/%2e%2e/Cargo.toml",
        "/web/settings",
        "/web/page.html",
        "/web/converse-14.0.0/",
        "/web/converse-14.0.0/../start.js",
        "/web/converse-14.0.0/..%2f..%2fpackage.json",
        "/web/converse-14.0.0//etc/passwd",
        "/web/converse-14.0.0/converse.js.map",
        "/web/converse-13.0.0/converse.min.css",
    ] {
        let response = ask(web_chat(false), LOCAL, path, &[]).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
    }
}
