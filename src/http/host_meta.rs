//! XEP-0156: how a client that knows the domain finds the WebSocket, in `/.well-known/host-meta` (XML) and
//! `/.well-known/host-meta.json`.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use minidom::Element;
use serde_json::json;
use url::Origin;

use super::websocket;
use crate::xmpp::element::{element, set};
use crate::xmpp::ns;

/// The two formats that XEP-0156 names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Xml,
    Json,
}

/// `origin`: where clients reach this server; `None` where the request went to a name that is none of ours.
pub(super) fn answer(origin: Option<Origin>, format: Format) -> Response {
    let Some(address) = origin.and_then(websocket_address) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let (kind, document) = match format {
        Format::Xml => ("application/xrd+xml", xml(&address)),
        Format::Json => ("application/json", json(&address)),
    };
    let mut response = document.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    // A web client that another site serves reads it too (XEP-0156, 3): it is public.
    let anyone = HeaderValue::from_static("*");
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, anyone);
    response
}

fn websocket_address(origin: Origin) -> Option<String> {
    let Origin::Tuple(scheme, host, port) = origin else {
        return None;
    };
    let (scheme, usual) = match scheme.as_str() {
        "https" => ("wss", 443),
        _ => ("ws", 80),
    };
    let path = websocket::PATH;
    Some(match port {
        port if port == usual => format!("{scheme}://{host}{path}"),
        port => format!("{scheme}://{host}:{port}{path}"),
    })
}

fn xml(address: &str) -> String {
    let mut link = element("Link", ns::XRD, &[("rel", ns::ALT_WEBSOCKET)]);
    set(&mut link, "href", address);
    let document = Element::builder("XRD", ns::XRD).append(link).build();
    format!(
        "<?xml version='1.0' encoding='utf-8'?>\n{}\n",
        String::from(&document)
    )
}

fn json(address: &str) -> String {
    json!({ "links": [{ "rel": ns::ALT_WEBSOCKET, "href": address }] }).to_string()
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    #[tokio::test]
    async fn both_formats_name_the_websocket_and_anyone_may_read_them() {
        for (origin, address) in [
            (
                "https://chat.example.org",
                "wss://chat.example.org/xmpp-websocket",
            ),
            (
                "http://localhost:8080",
                "ws://localhost:8080/xmpp-websocket",
            ),
            ("https://[::1]:8443", "wss://[::1]:8443/xmpp-websocket"),
        ] {
            for format in [Format::Xml, Format::Json] {
                let response = answer(Some(Url::parse(origin).unwrap().origin()), format);
                assert_eq!(response.headers()["access-control-allow-origin"], "*");
                let body = axum::body::to_bytes(response.into_body(), 1000)
                    .await
                    .unwrap();
                let text = String::from_utf8(body.to_vec()).unwrap();
                let found = match format {
                    Format::Xml => {
                        let document: Element = text.parse().unwrap();
                        let link = document.get_child("Link", ns::XRD).unwrap();
                        assert_eq!(link.attr("rel"), Some(ns::ALT_WEBSOCKET));
                        link.attr("href").unwrap().to_owned()
                    }
                    Format::Json => {
                        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
                        let link = &document["links"][0];
                        assert_eq!(link["rel"], ns::ALT_WEBSOCKET);
                        link["href"].as_str().unwrap().to_owned()
                    }
                };
                assert_eq!(found, address);
            }
        }
    }

    #[test]
    fn a_name_that_is_none_of_ours_is_not_answered_for() {
        assert_eq!(answer(None, Format::Xml).status(), StatusCode::NOT_FOUND);
    }
}
