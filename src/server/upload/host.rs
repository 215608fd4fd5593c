//! The service on its host: what it is, and slots for whom has an account here.

use futures::future::BoxFuture;
use minidom::Element;
use tracing::warn;
use url::Url;

use super::quota::{self, DAY, Refused, Taken};
use super::{Entry, Rules, UPLOADS, Uploads, request};
use crate::config::UPLOADS as PATH;
use crate::server::desk::{self, Desk};
use crate::server::router::{IqType, Reply};
use crate::server::session::Sender;
use crate::server::stanza::Stanza;
use crate::server::{Host, Server, StanzaError};
use crate::storage::Query;
use crate::xmpp::datetime;
use crate::xmpp::element::{element, set, text_element};
use crate::xmpp::form::{Field, Form};
use crate::xmpp::ns;

const NAME: &str = "File upload";

/// When a slot is free again that nobody uses.
const SLOT: i64 = 300_000;

#[derive(Debug)]
pub struct Service(pub Uploads);

impl Host for Service {
    fn handle<'a>(
        &'a self,
        server: &'a Server,
        _: Sender<'a>,
        stanza: Stanza,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move { desk::attend(self, server, &stanza).await })
    }

    fn name(&self) -> &str {
        NAME
    }
}

impl Desk for Service {
    fn info(&self) -> Element {
        info(&self.0.rules())
    }

    fn asked<'a>(
        &'a self,
        server: &'a Server,
        stanza: &'a Stanza,
        kind: IqType,
        payload: &'a Element,
    ) -> BoxFuture<'a, Reply> {
        Box::pin(async move {
            if kind == IqType::Get && payload.is("request", ns::HTTP_UPLOAD) {
                self.slot(server, stanza, payload).await.map(Some)
            } else {
                Err(StanzaError::service_unavailable())
            }
        })
    }
}

impl Service {
    async fn slot(
        &self,
        server: &Server,
        stanza: &Stanza,
        query: &Element,
    ) -> Result<Element, StanzaError> {
        let rules = self.0.rules();
        let base = rules.base.as_ref().ok_or_else(|| {
            StanzaError::service_unavailable().text("This server has no address for files")
        })?;
        let from = stanza.from();
        let owner = from
            .node()
            .filter(|_| server.is_local(from.domain().as_str()))
            .ok_or_else(|| {
                StanzaError::not_allowed().text("Files are for accounts of this server")
            })?;
        let wanted = request::read(query, &rules)?;
        let name = wanted.name.clone();
        if !quota::leaves_room(self.0.free(), wanted.size) {
            warn!("The disk has no room for files; those of the archive need the rest");
            return Err(request::later(
                "The server's disk is full",
                datetime::now().saturating_add(DAY),
            ));
        }
        let admitting = self.0.0.admitting.lock().await;
        let now = datetime::now();
        let taken = self.taken(owner.as_str(), now).await?;
        quota::admit(&taken, wanted.size, rules.quota(), now).map_err(|refused| match refused {
            Refused::Quota { retry } => request::later("You have uploaded much today", retry),
            Refused::Slots => {
                request::later("Use the slots that you have", now.saturating_add(SLOT))
            }
        })?;
        let opened = self.0.slots().open(owner.as_str(), wanted);
        drop(admitting);
        let (id, secret) = opened.ok_or_else(|| {
            request::later(
                "Many people upload at this moment",
                now.saturating_add(SLOT),
            )
        })?;
        let link = link(base, &id, &name).ok_or_else(StanzaError::internal_server_error)?;
        Ok(slot(&link, &secret))
    }

    /// What an account has uploaded in the last day, and what it is about to.
    async fn taken(&self, owner: &str, now: i64) -> Result<Taken, StanzaError> {
        // Before the files: one that arrives in between is counted twice, not never.
        let open = self.0.slots().of(owner);
        let query = Query {
            since: Some(now.saturating_sub(DAY)),
            newest: true,
            limit: quota::FILES,
            ..Query::default()
        };
        let entries = self.0.0.storage.query(UPLOADS, owner, query).await?;
        let size = |value: &[u8]| {
            let entry = serde_json::from_slice::<Entry>(value);
            entry.map_or(0, |entry| entry.size)
        };
        let files = entries.iter();
        Ok(Taken {
            files: files.map(|entry| (entry.at, size(&entry.value))).collect(),
            open,
        })
    }
}

fn info(rules: &Rules) -> Element {
    let Some(_) = &rules.base else {
        return desk::info("store", "file", NAME, &[]);
    };
    let mut query = desk::info("store", "file", NAME, &[ns::HTTP_UPLOAD]);
    let most = Field::new("text-single", "max-file-size").value(rules.most().to_string());
    query.append_child(Form::new("result", ns::HTTP_UPLOAD).field(most).build());
    query
}

/// The name stands in the link as the client wrote it (XEP-0363, 4), escaped.
fn link(base: &Url, id: &str, name: &str) -> Option<Url> {
    let mut link = base.clone();
    let path = PATH.trim_start_matches('/');
    let mut segments = link.path_segments_mut().ok()?;
    segments.pop_if_empty().extend([path, id, name]);
    drop(segments);
    Some(link)
}

/// One address for both; the secret, which only the `PUT` needs, is not in it, because links are passed on and logged.
fn slot(link: &Url, secret: &str) -> Element {
    let mut slot = Element::bare("slot", ns::HTTP_UPLOAD);
    let mut put = element("put", ns::HTTP_UPLOAD, &[("url", link.as_str())]);
    let mut header = text_element("header", ns::HTTP_UPLOAD, &format!("Bearer {secret}"));
    set(&mut header, "name", "Authorization");
    put.append_child(header);
    slot.append_child(put);
    slot.append_child(element("get", ns::HTTP_UPLOAD, &[("url", link.as_str())]));
    slot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_keeps_the_name_whatever_it_holds() {
        let base = Url::parse("https://chat.example.org").unwrap();
        for (name, expected) in [
            ("a.png", "a.png"),
            ("très cool.jpg", "tr%C3%A8s%20cool.jpg"),
            ("a?b#c&d%2f.txt", "a%3Fb%23c&d%252f.txt"),
            ("<b>\".html", "%3Cb%3E%22.html"),
        ] {
            let link = link(&base, "ID", name).unwrap();
            assert_eq!(
                link.as_str(),
                format!("https://chat.example.org/upload/ID/{expected}")
            );
        }
    }
}
