//! The web chat at `/`: Converse.js from this origin, with settings that differ from server to server, and in the demo the
//! password for the person at this machine.

mod converse;
mod policy;
mod settings;

use std::sync::Arc;

use anyhow::Result;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use jid::BareJid;
use minijinja::{Environment, context};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sha2::{Digest, Sha256};
use tracing::error;
use url::Url;

use super::visit::Visit;

/// What the page is for.
#[derive(Clone, Debug)]
pub struct WebChat {
    /// Of the window.
    pub title: String,
    /// The server's: who logs in writes the name before it alone.
    pub domain: String,
    /// Of its rooms.
    pub rooms: Option<String>,
    /// Whose chat opens by itself.
    pub bot: Option<BareJid>,
    pub demo: Option<Demo>,
}

/// The demo's person, who needs no password at this machine.
#[derive(Clone, Debug)]
pub struct Demo {
    pub jid: BareJid,
    pub password: SecretString,
}

/// Our own files; they change with the binary, so browsers ask again and are told that nothing has changed.
const OWN_FILES: &[(&str, &str)] = &[
    ("icon.svg", include_str!("icon.svg")),
    ("page.css", include_str!("page.css")),
    ("start.js", include_str!("start.js")),
];

/// Where files are put and fetched (XEP-0363) at the moment.
pub(super) type Files = Arc<dyn Fn() -> Option<Url> + Send + Sync>;

/// What the page loads from.
const FOLDER: &str = "/web";

/// Where Converse.js asks for the demo's password.
const SIGN_IN: &str = "/demo/sign-in";

/// The page and everything that it loads.
pub(super) fn router<S>(web_chat: WebChat, files: Files) -> Router<S> {
    let page = async move |web_chat: State<Arc<WebChat>>| page(web_chat, files());
    let mut router = Router::new()
        .route("/", get(page))
        .route("/web/settings.json", get(show_settings))
        .route("/web/{name}", get(own_file))
        .route(
            &format!("{}/{{*name}}", built_in_folder()),
            get(built_in_file),
        );
    if web_chat.demo.is_some() {
        router = router.route(SIGN_IN, get(sign_in));
    }
    router.with_state(Arc::new(web_chat))
}

fn built_in_folder() -> String {
    format!("{FOLDER}/converse-{}", converse::VERSION)
}

/// Where the page finds Converse.js.
fn converse_folder(is_built_in: bool) -> String {
    if is_built_in {
        built_in_folder()
    } else {
        converse::CDN.to_owned()
    }
}

fn page(State(web_chat): State<Arc<WebChat>>, files: Option<Url>) -> Response {
    let files = files.map(|files| files.origin().ascii_serialization());
    let is_built_in = converse::is_built_in();
    match html(&web_chat, is_built_in) {
        Ok(html) => {
            let mut response = Html(html).into_response();
            let headers = response.headers_mut();
            if let Ok(policy) = HeaderValue::try_from(policy::page(is_built_in, files.as_deref())) {
                headers.insert(header::CONTENT_SECURITY_POLICY, policy);
            }
            let own = HeaderValue::from_static("same-origin");
            headers.insert("cross-origin-opener-policy", own);
            harden(&mut response, "no-cache");
            response
        }
        Err(err) => {
            error!("The web chat cannot be shown: {err:#}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The template's name ends in html, so that every value is escaped.
fn html(web_chat: &WebChat, is_built_in: bool) -> Result<String> {
    let mut templates = Environment::new();
    templates.add_template("page.html", include_str!("page.html"))?;
    Ok(templates.get_template("page.html")?.render(context! {
        title => web_chat.title,
        converse => converse_folder(is_built_in),
        script_name => converse::SCRIPT.name,
        script_integrity => converse::SCRIPT.integrity,
        style_name => converse::STYLE.name,
        style_integrity => converse::STYLE.integrity,
    })?)
}

async fn show_settings(State(web_chat): State<Arc<WebChat>>, visit: Visit) -> Response {
    let signs_in = web_chat.demo.is_some() && visit.is_local();
    let mut response =
        Json(settings::of(&web_chat, converse::is_built_in(), signs_in)).into_response();
    harden(&mut response, "no-store");
    response
}

/// The demo's password, for a page of this origin in a browser at this machine. Others on the machine could ask as well, by
/// a program of their own: the demo is for a machine of one's own.
async fn sign_in(State(web_chat): State<Arc<WebChat>>, visit: Visit) -> Response {
    let mut response = match &web_chat.demo {
        Some(demo) if visit.is_local() && visit.is_from_own_page() => Json(json!({
            "jid": demo.jid,
            "password": demo.password.expose_secret(),
        }))
        .into_response(),
        _ => StatusCode::FORBIDDEN.into_response(),
    };
    harden(&mut response, "no-store");
    response
}

async fn own_file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some((_, content)) = OWN_FILES.iter().find(|(own, _)| *own == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let hash = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(content));
    cached(&name, content.as_bytes(), &hash, "no-cache", &headers)
}

async fn built_in_file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some(content) = converse::file(&name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let for_ever = "public, max-age=31536000, immutable";
    let mut response = cached(&name, content, converse::VERSION, for_ever, &headers);
    // A client that asks for no coding has to take any (RFC 9110, 12.5.3); every browser takes this one.
    let gzip = HeaderValue::from_static("gzip");
    response
        .headers_mut()
        .insert(header::CONTENT_ENCODING, gzip);
    response
}

/// The content, or that it has not changed (RFC 9110, 13.1.2).
fn cached(
    name: &str,
    content: &'static [u8],
    version: &str,
    cache_control: &'static str,
    request: &HeaderMap,
) -> Response {
    let tag = format!("\"{version}\"");
    let known = request.get_all(header::IF_NONE_MATCH).iter();
    let is_known = known
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains(&tag));
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let kind = [(header::CONTENT_TYPE, content_type(name))];
        (kind, content).into_response()
    };
    if let Ok(tag) = HeaderValue::try_from(tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    harden(&mut response, cache_control);
    response
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "png" => "image/png",
        "svg" => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

fn harden(response: &mut Response, cache_control: &'static str) {
    let headers = response.headers_mut();
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", cache_control),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests;
