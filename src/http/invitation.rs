//! The page of an invitation (XEP-0401, 3.2): opens it in an app, names apps for those who have none, and makes an account in
//! the browser. Whoever has the link has the invitation, so the page tells nobody else of it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use minijinja::value::Value;
use minijinja::{Environment, context};
use secrecy::SecretString;
use tracing::error;
use url::form_urlencoded;

use super::visit::Visit;
use super::{Peer, Shown, qr};
use crate::server::abuse::{Refusal, Throttle};
use crate::server::invitations::{self, Invitation};
use crate::server::{Server, StanzaError};

/// Where it is; the token follows.
pub(super) const PATH: &str = "/invite/{token}";
const STYLE: &str = "/invite/page.css";

/// Bytes of a form: a name and a password.
const LONGEST_FORM: usize = 8_192;

/// Nothing is loaded but the style sheet, and the form goes nowhere else.
const POLICY: &str = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Tokens that are none, from one address; then it waits as long. A link that is over is opened again and again, so that they
/// are not counted with failed logins.
const MISSES: u32 = 100;
const WINDOW: Duration = Duration::from_mins(10);

struct Pages {
    server: Server,
    misses: Throttle,
}

/// The page and its style sheet.
pub(super) fn router(server: Server) -> Router<Shown> {
    let pages = Arc::new(Pages {
        server,
        misses: Throttle::new(MISSES, WINDOW, WINDOW),
    });
    let taking = Arc::clone(&pages);
    let show = move |shown, visit, token| show(pages, shown, visit, token);
    let take = move |shown, visit, token, body| take(taking, shown, visit, token, body);
    Router::new()
        .route(PATH, get(show).post(take))
        .route(STYLE, get(style))
        .layer(DefaultBodyLimit::max(LONGEST_FORM))
}

async fn style() -> Response {
    let kind = [(header::CONTENT_TYPE, "text/css; charset=utf-8")];
    let mut response = (kind, include_str!("invitation/page.css")).into_response();
    harden(&mut response, "no-cache");
    response
}

/// The invitation of a token, or why the page is not shown.
async fn find(
    pages: &Pages,
    peer: &Peer,
    token: &str,
) -> Result<Option<invitations::Shown>, StatusCode> {
    let address = peer.address.ip();
    if pages.misses.refusal(&address).is_some() {
        pages.server.abuse().refused(Refusal::Invitations, &address);
        return Err(StatusCode::TOO_MANY_REQUESTS);
    }
    let found = pages.server.invitation(token).await;
    let found = found.map_err(|_store| StatusCode::INTERNAL_SERVER_ERROR)?;
    if found.is_none() {
        pages.misses.count(&address);
    }
    Ok(found)
}

async fn show(
    pages: Arc<Pages>,
    State(shown): State<Shown>,
    visit: Visit,
    Path(token): Path<String>,
) -> Response {
    let peer = visit.client(&Arc::clone(&shown.config.borrow()).server);
    let server = &pages.server;
    match find(&pages, &peer, &token).await {
        Ok(Some(found)) => {
            let page = Page::new(server, &token, &found.invitation, &visit, peer);
            page.response(StatusCode::OK)
        }
        Ok(None) => over(server),
        Err(status) => status.into_response(),
    }
}

/// Makes the account.
async fn take(
    pages: Arc<Pages>,
    State(shown): State<Shown>,
    visit: Visit,
    Path(token): Path<String>,
    body: Bytes,
) -> Response {
    let peer = visit.client(&Arc::clone(&shown.config.borrow()).server);
    // A page elsewhere that knows the token may not choose the password of somebody's account, nor a network read it.
    if !visit.is_from_own_page() || !peer.secure {
        return StatusCode::FORBIDDEN.into_response();
    }
    let server = &pages.server;
    let found = match find(&pages, &peer, &token).await {
        Ok(Some(found)) => found,
        Ok(None) => return over(server),
        Err(status) => return status.into_response(),
    };
    let wish = Wish::read(&body);
    match register(server, &wish, &found, peer).await {
        Ok(jid) => respond(StatusCode::OK, "done.html", &context! { jid }),
        Err(error) => {
            let mut page = Page::new(server, &token, &found.invitation, &visit, peer);
            page.name = Some(wish.name);
            page.error =
                Some(error.text.unwrap_or_else(|| {
                    "The account could not be made; try again later".to_owned()
                }));
            page.response(StatusCode::UNPROCESSABLE_ENTITY)
        }
    }
}

async fn register(
    server: &Server,
    wish: &Wish,
    found: &invitations::Shown,
    peer: Peer,
) -> Result<String, StanzaError> {
    let refused = |text: &str| StanzaError::not_acceptable().text(text);
    if wish.name.is_empty() || wish.password.is_empty() {
        return Err(refused("Choose a name and a password"));
    }
    if wish.password != wish.again {
        return Err(refused("The passwords differ"));
    }
    let password = SecretString::from(wish.password.clone());
    let jid = server
        .register(&wish.name, password, Some(found), peer.address.ip())
        .await?;
    Ok(jid.to_string())
}

/// What was filled in.
#[derive(Default)]
struct Wish {
    name: String,
    password: String,
    again: String,
}

impl Wish {
    fn read(body: &[u8]) -> Self {
        let mut wish = Self::default();
        for (field, value) in form_urlencoded::parse(body) {
            let value = value.into_owned();
            match field.as_ref() {
                "name" => value.trim().clone_into(&mut wish.name),
                "password" => wish.password = value,
                "again" => wish.again = value,
                _ => {}
            }
        }
        wish
    }
}

/// An app for a kind of device.
type Apps = (&'static str, &'static [(&'static str, &'static str)]);

/// Free, maintained, and able to take an invitation or at least an address.
const APPS: &[Apps] = &[
    (
        "Android",
        &[
            ("Conversations", "https://conversations.im/"),
            ("Cheogram", "https://cheogram.com/app/"),
        ],
    ),
    (
        "iPhone and iPad",
        &[
            ("Monal", "https://monal-im.org/"),
            ("Siskin", "https://siskin.im/"),
        ],
    ),
    (
        "Linux",
        &[
            ("Dino", "https://dino.im/"),
            ("Gajim", "https://gajim.org/"),
        ],
    ),
    ("Windows", &[("Gajim", "https://gajim.org/")]),
    (
        "Mac",
        &[
            ("Monal", "https://monal-im.org/"),
            ("Beagle", "https://beagle.im/"),
        ],
    ),
];

/// Which of them a browser runs on, by what it says of itself.
fn platform(agent: &str) -> Option<&'static str> {
    // Android says Linux too, and an iPad may say Macintosh.
    let signs = [
        ("Android", "Android"),
        ("iPhone", "iPhone and iPad"),
        ("iPad", "iPhone and iPad"),
        ("Windows", "Windows"),
        ("Macintosh", "Mac"),
        ("Linux", "Linux"),
    ];
    let sign = signs.into_iter().find(|(sign, _)| agent.contains(sign));
    sign.map(|(_, platform)| platform)
}

struct Page {
    domain: String,
    inviter: Option<String>,
    uri: String,
    path: String,
    registers: bool,
    /// The name is chosen already.
    fixed: bool,
    secure: bool,
    name: Option<String>,
    error: Option<String>,
    platform: Option<&'static str>,
}

impl Page {
    fn new(
        server: &Server,
        token: &str,
        invitation: &Invitation,
        visit: &Visit,
        peer: Peer,
    ) -> Self {
        let inviter = invitation.inviter.as_ref().filter(|_| invitation.befriends);
        Self {
            domain: server.domain().to_owned(),
            inviter: inviter.map(ToString::to_string),
            uri: invitation.uri(server.domain(), token),
            path: PATH.replace("{token}", token),
            registers: server.may_invite_to_accounts() && invitation.registers,
            fixed: invitation.name.is_some(),
            secure: peer.secure,
            name: invitation.name.clone(),
            error: None,
            platform: platform(visit.user_agent()),
        }
    }

    fn response(&self, status: StatusCode) -> Response {
        respond(status, "page.html", &self.values())
    }

    fn values(&self) -> Value {
        let apps = APPS.iter().map(|(platform, apps)| {
            context! { platform, here => self.platform == Some(platform), apps => apps.to_vec() }
        });
        context! {
            domain => self.domain,
            inviter => self.inviter,
            uri => self.uri,
            path => self.path,
            registers => self.registers,
            fixed => self.fixed,
            secure => self.secure,
            name => self.name,
            error => self.error,
            qr => qr::for_page(&self.uri).map(Value::from_safe_string),
            apps => apps.collect::<Vec<_>>(),
        }
    }
}

/// Nothing is told of why: it was used, it has expired, or it never was.
fn over(server: &Server) -> Response {
    respond(
        StatusCode::NOT_FOUND,
        "over.html",
        &context! { domain => server.domain() },
    )
}

fn respond(status: StatusCode, template: &str, values: &Value) -> Response {
    match render(template, values) {
        Ok(html) => {
            let mut response = (status, Html(html)).into_response();
            harden(&mut response, "no-store");
            response
        }
        Err(err) => {
            error!("The page of an invitation cannot be shown: {err:#}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The templates' names end in html, so that every value is escaped.
fn render(template: &str, values: &Value) -> Result<String> {
    let mut templates = Environment::new();
    templates.add_template("frame.html", include_str!("invitation/frame.html"))?;
    templates.add_template("page.html", include_str!("invitation/page.html"))?;
    templates.add_template("done.html", include_str!("invitation/done.html"))?;
    templates.add_template("over.html", include_str!("invitation/over.html"))?;
    Ok(templates.get_template(template)?.render(values)?)
}

fn harden(response: &mut Response, cache_control: &'static str) {
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        // Not `no-referrer`: browsers would call the form's own page a stranger's (`Origin: null`).
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("x-robots-tag", "noindex"),
        ("cache-control", cache_control),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests;
