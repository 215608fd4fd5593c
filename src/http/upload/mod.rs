//! The HTTP side of XEP-0363: a file is put where its slot is, and fetched by whoever has the link.
//!
//! Files come from strangers and are served from the origin of the web chat. So nothing in them runs: no type is guessed, no
//! document is opened in place, and what is opened has an origin of its own and may load nothing (CSP `sandbox`).

mod conditions;
mod kind;
#[cfg(test)]
mod tests;

use std::io::SeekFrom;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::time::Instant;
use tokio_util::io::ReaderStream;
use tracing::{debug, error, warn};

use crate::config::UPLOADS as PATH;
use crate::server::upload::{File, Reception, Refusal, Uploads};
use conditions::{Version, Wanted};

/// How long a client that is putting a file may say nothing.
const SILENCE: Duration = Duration::from_secs(30);

/// How long a file may take: a large one on a slow line. After that somebody only wants to keep us busy.
const LONGEST: Duration = Duration::from_hours(1);

/// What every answer says, also where there is nothing.
const HEADERS: [(&str, &str); 5] = [
    (
        "content-security-policy",
        "default-src 'none'; img-src 'self'; media-src 'self'; frame-ancestors 'none'; sandbox",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    // The link alone lets read, in a page of another origin too (XEP-0363, 12); there are no cookies to send along.
    ("access-control-allow-origin", "*"),
    ("cross-origin-resource-policy", "cross-origin"),
];

const METHODS: &str = "GET, HEAD, PUT, OPTIONS";

pub(super) fn router<S>(uploads: Uploads) -> Router<S> {
    let files = get(fetch).put(put).options(preflight);
    Router::new()
        .route(&format!("{PATH}/{{id}}/{{name}}"), files)
        .with_state(uploads)
}

fn answer(status: StatusCode) -> Response {
    hardened(status.into_response())
}

fn hardened(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// What a browser asks before a page of another origin puts a file (Fetch, 3.2.2).
async fn preflight() -> Response {
    let mut response = answer(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    for (name, value) in [
        (header::ALLOW, METHODS),
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "Authorization, Content-Type",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "7200"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn put(
    State(uploads): State<Uploads>,
    Path((id, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let authorization: Option<&str> = text(header::AUTHORIZATION);
    let secret = authorization.and_then(|value| value.strip_prefix("Bearer "));
    let Some(secret) = secret else {
        let mut response = answer(StatusCode::UNAUTHORIZED);
        let bearer = HeaderValue::from_static("Bearer");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, bearer);
        return response;
    };
    // XEP-0363, 6: the length is compared before anything is taken.
    let Some(size) = text(header::CONTENT_LENGTH).and_then(|size| size.parse().ok()) else {
        return answer(StatusCode::LENGTH_REQUIRED);
    };
    let kind = text(header::CONTENT_TYPE);
    let reception = match uploads.receive(&id, &name, secret, size, kind).await {
        Ok(reception) => reception,
        Err(refusal) => return refused(refusal),
    };
    match take(reception, body).await {
        Ok(()) => answer(StatusCode::CREATED),
        Err(status) => {
            debug!(%status, "A file was not taken");
            let mut response = answer(status);
            // What is still to come is not read.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
            response
        }
    }
}

/// Takes the file as it comes, never more of it than a piece in memory.
async fn take(mut reception: Reception, body: Body) -> Result<(), StatusCode> {
    let end = Instant::now() + LONGEST;
    let mut pieces = body.into_data_stream();
    loop {
        let until = end.min(Instant::now() + SILENCE);
        let Ok(piece) = tokio::time::timeout_at(until, pieces.next()).await else {
            return Err(StatusCode::REQUEST_TIMEOUT);
        };
        match piece {
            Some(Ok(piece)) => reception.write(&piece).await.map_err(status)?,
            Some(Err(_broken)) => return Err(StatusCode::BAD_REQUEST),
            None => return reception.finish().await.map_err(status),
        }
    }
}

fn refused(refusal: Refusal) -> Response {
    answer(status(refusal))
}

fn status(refusal: Refusal) -> StatusCode {
    match refusal {
        Refusal::Unknown => StatusCode::NOT_FOUND,
        Refusal::Secret => StatusCode::FORBIDDEN,
        Refusal::Busy | Refusal::Done => StatusCode::CONFLICT,
        Refusal::Size => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::Kind => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Refusal::Full => StatusCode::INSUFFICIENT_STORAGE,
        Refusal::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// `GET` and `HEAD`.
async fn fetch(
    State(uploads): State<Uploads>,
    Path((id, name)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let file = match uploads.find(&id, &name).await {
        Ok(Some(file)) => file,
        Ok(None) => return answer(StatusCode::NOT_FOUND),
        Err(err) => {
            error!("An uploaded file cannot be looked up: {err}");
            return answer(StatusCode::INTERNAL_SERVER_ERROR);
        }
    };
    let is_get = method == Method::GET;
    let version = Version {
        tag: format!("\"{id}\""),
        modified: file.at.div_euclid(1_000),
        size: file.size,
    };
    let wanted = conditions::wanted(&headers, &version, is_get);
    let body = match body(&uploads, &id, &wanted, is_get).await {
        Ok(body) => body,
        Err(err) => {
            warn!("An uploaded file cannot be read: {err}");
            return answer(StatusCode::NOT_FOUND);
        }
    };
    describe(&uploads, &file, &version, &wanted, body)
}

/// What is sent of the file.
async fn body(uploads: &Uploads, id: &str, wanted: &Wanted, is_get: bool) -> std::io::Result<Body> {
    let mut file = uploads.read(id).await?;
    match wanted {
        Wanted::Whole if is_get => Ok(Body::from_stream(ReaderStream::new(file))),
        Wanted::Part { first, last } => {
            file.seek(SeekFrom::Start(*first)).await?;
            let length = last.saturating_sub(*first).saturating_add(1);
            Ok(Body::from_stream(ReaderStream::new(file.take(length))))
        }
        Wanted::Whole | Wanted::Known | Wanted::Unsatisfiable => Ok(Body::empty()),
    }
}

fn describe(
    uploads: &Uploads,
    file: &File,
    version: &Version,
    wanted: &Wanted,
    body: Body,
) -> Response {
    let size = version.size;
    let (status, length, range) = match wanted {
        Wanted::Whole => (StatusCode::OK, Some(size), None),
        Wanted::Part { first, last } => {
            let length = last.saturating_sub(*first).saturating_add(1);
            let range = format!("bytes {first}-{last}/{size}");
            (StatusCode::PARTIAL_CONTENT, Some(length), Some(range))
        }
        Wanted::Known => (StatusCode::NOT_MODIFIED, None, None),
        Wanted::Unsatisfiable => {
            let range = format!("bytes */{size}");
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(0), Some(range))
        }
    };
    let mut response = hardened(Response::new(body));
    *response.status_mut() = status;
    // No shared cache keeps it beyond its end, or that of the account.
    let lasts = uploads
        .lasts(file)
        .map_or(31_536_000, |left| left.as_secs());
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    set(header::ETAG, version.tag.clone());
    set(header::LAST_MODIFIED, conditions::date(version.modified));
    set(
        header::CACHE_CONTROL,
        format!("private, max-age={lasts}, immutable"),
    );
    set(header::ACCEPT_RANGES, "bytes".to_owned());
    if let Some(range) = range {
        set(header::CONTENT_RANGE, range);
    }
    if let Some(length) = length {
        set(header::CONTENT_LENGTH, length.to_string());
    }
    if status.is_success() {
        set(
            header::CONTENT_TYPE,
            kind::content_type(&file.kind).to_owned(),
        );
        set(
            header::CONTENT_DISPOSITION,
            kind::disposition(&file.kind, &file.name),
        );
    }
    response
}
