//! The service as HTTP clients meet it, hostile ones too.

use std::sync::Arc;

use axum::http::Request;
use futures::stream;
use tempfile::TempDir;
use tower_service::Service as _;
use url::Url;

use super::*;
use crate::config;
use crate::server::Host;
use crate::server::testing::{self, Client, client};
use crate::server::upload::{Rules, Service};

struct Site {
    uploads: Uploads,
    juliet: Client,
    _directory: TempDir,
}

/// What a slot is used with.
struct Slot {
    path: String,
    authorization: String,
}

async fn site() -> Site {
    let server = testing::server(&["juliet"]).await;
    let directory = tempfile::tempdir().unwrap();
    let rules = Rules {
        settings: config::Upload::default(),
        base: Some(Url::parse("https://chat.example.org").unwrap()),
    };
    let storage = server.storage().clone();
    let uploads = Uploads::open(storage, directory.path(), rules).unwrap();
    let host: Arc<dyn Host> = Arc::new(Service(uploads.clone()));
    server.set_hosts(vec![("upload.example.org".to_owned(), host)]);
    Site {
        uploads,
        juliet: client(&server, "juliet/balcony").await,
        _directory: directory,
    }
}

impl Site {
    async fn slot(&mut self, name: &str, size: usize, kind: &str) -> Slot {
        let request = format!(
            "<request xmlns='urn:xmpp:http:upload:0' filename='{name}' size='{size}' content-type='{kind}'/>"
        );
        let answer = self.juliet.ask("get", "upload.example.org", &request).await;
        let slot = answer.children().next().unwrap();
        let put = slot.children().next().unwrap();
        let link = Url::parse(put.attr("url").unwrap()).unwrap();
        Slot {
            path: link.path().to_owned(),
            authorization: put.children().next().unwrap().text(),
        }
    }

    async fn ask(&self, request: Request<Body>) -> Response {
        let mut router = router::<()>(self.uploads.clone()).with_state(());
        router.call(request).await.unwrap()
    }

    async fn get(&self, path: &str, headers: &[(HeaderName, &str)]) -> Response {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        self.ask(request.body(Body::empty()).unwrap()).await
    }

    /// A file that is there.
    async fn with(&mut self, name: &str, kind: &str, content: &'static str) -> String {
        let slot = self.slot(name, content.len(), kind).await;
        let response = self.ask(put_of(&slot, kind, content.len(), content)).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        slot.path
    }
}

fn put_of(slot: &Slot, kind: &str, size: usize, content: &'static str) -> Request<Body> {
    Request::put(&slot.path)
        .header(header::AUTHORIZATION, &slot.authorization)
        .header(header::CONTENT_TYPE, kind)
        .header(header::CONTENT_LENGTH, size)
        .body(Body::from(content))
        .unwrap()
}

fn text<'a>(response: &'a Response, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

async fn content(response: Response) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20)
        .await
        .unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn a_file_is_put_and_fetched_whole_in_part_or_not_at_all() {
    let mut site = site().await;
    let path = site.with("a b.png", "image/png", "0123456789").await;
    let whole = site.get(&path, &[]).await;
    assert_eq!(whole.status(), StatusCode::OK);
    assert_eq!(text(&whole, "content-type"), "image/png");
    assert_eq!(text(&whole, "content-length"), "10");
    assert_eq!(
        text(&whole, "content-disposition"),
        "inline; filename*=UTF-8''a%20b.png"
    );
    assert_eq!(text(&whole, "accept-ranges"), "bytes");
    let cache = text(&whole, "cache-control");
    assert!(
        cache.starts_with("private, max-age=25919") && cache.ends_with("immutable"),
        "{cache}"
    );
    let (tag, date) = (
        text(&whole, "etag").to_owned(),
        text(&whole, "last-modified").to_owned(),
    );
    assert_eq!(content(whole).await, "0123456789");
    for (name, range, status, said, expected) in [
        ("the beginning", "bytes=0-3", 206, "bytes 0-3/10", "0123"),
        ("the end", "bytes=-2", 206, "bytes 8-9/10", "89"),
        ("what is missing", "bytes=7-", 206, "bytes 7-9/10", "789"),
        ("beyond the end", "bytes=10-", 416, "bytes */10", ""),
        ("several", "bytes=0-1,5-6", 200, "", "0123456789"),
    ] {
        let part = site.get(&path, &[(header::RANGE, range)]).await;
        assert_eq!(part.status(), status, "{name}");
        assert_eq!(text(&part, "content-range"), said, "{name}");
        assert_eq!(
            text(&part, "content-length"),
            expected.len().to_string(),
            "{name}"
        );
        assert_eq!(content(part).await, expected, "{name}");
    }
    for known in [
        (header::IF_NONE_MATCH, &tag),
        (header::IF_MODIFIED_SINCE, &date),
    ] {
        let response = site.get(&path, &[(known.0, known.1)]).await;
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(content(response).await, "");
    }
    let head = Request::head(&path).header(header::RANGE, "bytes=0-3");
    let head = site.ask(head.body(Body::empty()).unwrap()).await;
    assert_eq!(text(&head, "content-length"), "10");
    assert_eq!(content(head).await, "");
}

#[tokio::test]
async fn what_is_not_as_was_said_is_refused() {
    let mut site = site().await;
    let slot = site.slot("a.txt", 5, "text/plain").await;
    let with = |change: fn(&mut Request<Body>)| {
        let mut request = put_of(&slot, "text/plain", 5, "hello");
        change(&mut request);
        request
    };
    for (name, request, status) in [
        (
            "without a secret",
            with(|request| {
                request.headers_mut().remove("authorization");
            }),
            401,
        ),
        (
            "by a password",
            with(|request| {
                request
                    .headers_mut()
                    .insert("authorization", HeaderValue::from_static("Basic Zm9v"));
            }),
            401,
        ),
        (
            "another secret",
            with(|request| {
                request.headers_mut().insert(
                    "authorization",
                    HeaderValue::from_static("Bearer AAAAAAAAAAAAAAAAAAAAAA"),
                );
            }),
            403,
        ),
        (
            "without a length",
            with(|request| {
                request.headers_mut().remove("content-length");
            }),
            411,
        ),
        (
            "another type",
            with(|request| {
                request
                    .headers_mut()
                    .insert("content-type", HeaderValue::from_static("text/html"));
            }),
            415,
        ),
        ("said longer", put_of(&slot, "text/plain", 6, "hello!"), 413),
        ("is longer", put_of(&slot, "text/plain", 5, "hello!"), 413),
        ("is shorter", put_of(&slot, "text/plain", 5, "hell"), 413),
        (
            "another name",
            with(|request| {
                let uri = format!("{}x", request.uri());
                *request.uri_mut() = uri.parse().unwrap();
            }),
            404,
        ),
        (
            "as it was said",
            put_of(&slot, "text/plain", 5, "hello"),
            201,
        ),
        ("again", put_of(&slot, "text/plain", 5, "other"), 409),
    ] {
        let response = site.ask(request).await;
        assert_eq!(response.status(), status, "{name}");
        assert_eq!(
            text(&response, "x-content-type-options"),
            "nosniff",
            "{name}"
        );
    }
    assert_eq!(content(site.get(&slot.path, &[]).await).await, "hello");
}

#[tokio::test(start_paused = true)]
async fn who_falls_silent_is_given_up_and_may_try_again() {
    let mut site = site().await;
    let slot = site.slot("a.txt", 5, "text/plain").await;
    let begun = stream::iter([Ok::<_, std::io::Error>("he")]);
    let silent = Body::from_stream(begun.chain(stream::pending()));
    let mut request = put_of(&slot, "text/plain", 5, "");
    *request.body_mut() = silent;
    assert_eq!(
        site.ask(request).await.status(),
        StatusCode::REQUEST_TIMEOUT
    );
    // A byte now and then does not keep it open for ever.
    let drops = stream::unfold((), |()| async {
        tokio::time::sleep(SILENCE / 2).await;
        Some((Ok::<_, std::io::Error>(""), ()))
    });
    let mut request = put_of(&slot, "text/plain", 5, "");
    *request.body_mut() = Body::from_stream(drops);
    let status = site.ask(request).await.status();
    // The slot may have been closed while it was not in use.
    assert!(matches!(status, StatusCode::REQUEST_TIMEOUT), "{status}");
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_no_file() {
    let mut site = site().await;
    let slot = site.slot("a.txt", 5, "text/plain").await;
    let broken = stream::iter([Ok("he"), Err(std::io::Error::other("broken"))]);
    let mut request = put_of(&slot, "text/plain", 5, "");
    *request.body_mut() = Body::from_stream(broken);
    assert_eq!(site.ask(request).await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(
        site.get(&slot.path, &[]).await.status(),
        StatusCode::NOT_FOUND
    );
    let again = site.ask(put_of(&slot, "text/plain", 5, "hello")).await;
    assert_eq!(again.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn nothing_that_was_uploaded_runs_in_a_browser() {
    let mut site = site().await;
    let script = "<script>alert(1)</script>";
    for (kind, shown) in [
        ("text/html", false),
        ("image/svg+xml", false),
        ("text/javascript", false),
        ("application/xhtml+xml", false),
        ("text/plain", true),
        ("image/png", true),
    ] {
        let path = site.with("x.html", kind, script).await;
        let response = site.get(&path, &[]).await;
        let policy = text(&response, "content-security-policy");
        assert!(
            policy.contains("default-src 'none'") && policy.contains("sandbox"),
            "{policy}"
        );
        assert_eq!(text(&response, "x-content-type-options"), "nosniff");
        let disposition = text(&response, "content-disposition");
        assert_eq!(
            disposition.starts_with("inline;"),
            shown,
            "{kind}: {disposition}"
        );
        let sent = text(&response, "content-type").to_owned();
        assert!(
            shown || sent == "application/octet-stream",
            "{kind}: {sent}"
        );
    }
}

#[tokio::test]
async fn no_path_leads_out_of_the_directory() {
    let mut site = site().await;
    let path = site.with("a.png", "image/png", "0123456789").await;
    let (folder, _) = path.rsplit_once('/').unwrap();
    for path in [
        "/upload/../moltis.db/x".to_owned(),
        "/upload/..%2f..%2fmoltis.db/x".to_owned(),
        "/upload/%2e%2e/moltis.db".to_owned(),
        "/upload/AAAAAAAAAAAAAAAAAAAAAA/a.png".to_owned(),
        "/upload/%00/a.png".to_owned(),
        format!("{folder}/b.png"),
        format!("{folder}/..%2fa.png"),
        format!("{folder}/a.png%00"),
        format!("{folder}/A.PNG"),
        format!("{folder}.part/a.png"),
    ] {
        let response = site.get(&path, &[]).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn pages_elsewhere_may_put_and_read_what_they_have_the_link_of() {
    let mut site = site().await;
    let path = site.with("a.png", "image/png", "0123456789").await;
    let preflight = Request::options(&path)
        .header("origin", "https://elsewhere.example")
        .header("access-control-request-method", "PUT")
        .body(Body::empty())
        .unwrap();
    let answer = site.ask(preflight).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(text(&answer, "access-control-allow-origin"), "*");
    assert!(text(&answer, "access-control-allow-methods").contains("PUT"));
    assert_eq!(
        text(&answer, "access-control-allow-headers"),
        "Authorization, Content-Type"
    );
    assert_eq!(text(&answer, "access-control-allow-credentials"), "");
    let missing = site.get("/upload/AAAAAAAAAAAAAAAAAAAAAA/a.png", &[]).await;
    assert_eq!(text(&missing, "access-control-allow-origin"), "*");
    for method in [Method::POST, Method::DELETE, Method::PATCH] {
        let request = Request::builder()
            .method(&method)
            .uri(&path)
            .body(Body::empty());
        let answer = site.ask(request.unwrap()).await;
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
    }
}
