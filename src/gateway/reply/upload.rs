//! XEP-0363: HTTP File Upload. Finds the account's service, asks for a slot, puts the file there and builds the message
//! that shares it, for clients of XEP-0066 as well as of XEP-0447.

use std::sync::Arc;

use bytes::Bytes;
use jid::{BareJid, Jid};
use minidom::Element;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use xmpp_parsers::disco::{DiscoInfoQuery, DiscoInfoResult, DiscoItemsQuery, DiscoItemsResult};
use xmpp_parsers::http_upload::SlotRequest;
use xmpp_parsers::message::{Lang, Message};

use crate::config::OwnFiles;
use crate::gateway::{Place, Request, SharedWire, WireError, media, web};
use crate::xmpp::element::{element, set, text_element};
use crate::xmpp::ns;

/// How many items of a server are asked what they are.
const MAX_ITEMS: usize = 30;

/// Why a file could not be shared. Its `Display` is for the person.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("this server offers no file upload")]
    NoService,
    #[error("the file is too large for this server, which takes {} kB at most", max / 1_000)]
    TooLarge { max: u64 },
    /// An error stanza, in its own words.
    #[error("the server refused the upload ({0})")]
    Refused(String),
    #[error("the upload failed (HTTP {status})")]
    Failed { status: u16 },
    #[error("the upload failed ({0})")]
    Network(String),
    #[error("the server's upload service answered with something else than a slot")]
    Protocol,
    #[error("the connection was lost")]
    Wire(WireError),
}

/// What a service says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Service {
    jid: Jid,
    max: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Slot {
    put: Url,
    get: Url,
    headers: Vec<(String, String)>,
}

/// A file that was put on the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    pub url: String,
    pub name: String,
    pub media_type: String,
    pub size: u64,
    sha256: Vec<u8>,
}

/// Uploads of one account.
pub struct Uploads {
    wire: SharedWire,
    client: Client,
    /// Once found, it stays.
    service: Mutex<Option<Service>>,
    origin: Mutex<Option<url::Origin>>,
    home: Option<Home>,
}

/// The files of the server that the account lives in, as they are reached at the moment.
pub type Home = Arc<dyn Fn() -> Option<OwnFiles> + Send + Sync>;

impl Uploads {
    /// `client`: see [`web::own`].
    pub fn new(wire: SharedWire, client: Client) -> Self {
        Self {
            wire,
            client,
            service: Mutex::new(None),
            origin: Mutex::new(None),
            home: None,
        }
    }

    /// For an account that lives in this process's own server.
    #[must_use]
    pub fn at_home(mut self, home: Home) -> Self {
        self.home = Some(home);
        self
    }

    /// `None`: the account lives elsewhere.
    pub(crate) fn own(&self) -> Option<OwnFiles> {
        self.home.as_ref().and_then(|home| home())
    }

    /// Puts a file on the server.
    pub async fn upload(&self, name: &str, bytes: Bytes) -> Result<Uploaded, Error> {
        let service = self.service().await?;
        let size = bytes.len() as u64;
        if let Some(max) = service.max.filter(|max| size > *max) {
            return Err(Error::TooLarge { max });
        }
        let media_type = media::sniff(&bytes);
        let sha256 = Sha256::digest(&bytes).to_vec();
        let slot = self.slot(&service, name, size, Some(media_type)).await?;
        let inside = self.own().and_then(|own| own.inside(&slot.put));
        let put = inside.unwrap_or(slot.put);
        let response = self
            .client
            .put(put)
            .headers(headers(&slot.headers, media_type))
            .body(bytes)
            .send()
            .await
            .map_err(|err| Error::Network(err.without_url().to_string()))?;
        if !response.status().is_success() {
            return Err(Error::Failed {
                status: response.status().as_u16(),
            });
        }
        Ok(Uploaded {
            url: slot.get.into(),
            name: name.to_owned(),
            media_type: media_type.to_owned(),
            size,
            sha256,
        })
    }

    /// Where the service's files are fetched from. Asked for once, by a slot that is not used: nothing else tells.
    pub async fn origin(&self) -> Result<url::Origin, Error> {
        let mut origin = self.origin.lock().await;
        if let Some(origin) = &*origin {
            return Ok(origin.clone());
        }
        let service = self.service().await?;
        let slot = self.slot(&service, "origin.txt", 1, None).await?;
        Ok(origin.insert(slot.get.origin()).clone())
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    async fn service(&self) -> Result<Service, Error> {
        let mut known = self.service.lock().await;
        if let Some(service) = &*known {
            return Ok(service.clone());
        }
        for domain in self.domains() {
            if let Some(service) = self.find(&domain).await? {
                return Ok(known.insert(service).clone());
            }
        }
        Err(Error::NoService)
    }

    /// The account's domain; for a component, whose domain it is itself, also the one above.
    fn domains(&self) -> Vec<BareJid> {
        let own = self.wire.jid().to_bare();
        let above = own
            .node()
            .is_none()
            .then(|| own.domain().as_str().split_once('.'))
            .flatten()
            .and_then(|(_, above)| BareJid::new(above).ok());
        let domain = BareJid::from_parts(None, own.domain());
        [Some(domain), above].into_iter().flatten().collect()
    }

    /// XEP-0363, 4: the domain itself or one of its items.
    async fn find(&self, domain: &BareJid) -> Result<Option<Service>, Error> {
        let domain = Jid::from(domain.clone());
        if let Some(service) = self.describe(&domain).await? {
            return Ok(Some(service));
        }
        let query = DiscoItemsQuery {
            node: None,
            rsm: None,
        };
        let Some(items) = self.query(&domain, query.into()).await? else {
            return Ok(None);
        };
        let Ok(items) = DiscoItemsResult::try_from(items) else {
            return Ok(None);
        };
        let others = items.items.into_iter().filter(|item| item.jid != domain);
        for item in others.take(MAX_ITEMS) {
            if let Some(service) = self.describe(&item.jid).await? {
                return Ok(Some(service));
            }
        }
        Ok(None)
    }

    async fn describe(&self, jid: &Jid) -> Result<Option<Service>, Error> {
        let info = self
            .query(jid, DiscoInfoQuery { node: None }.into())
            .await?;
        let Some(info) = info.and_then(|info| DiscoInfoResult::try_from(info).ok()) else {
            return Ok(None);
        };
        let offered = info.features.contains(ns::HTTP_UPLOAD);
        Ok(offered.then(|| Service {
            jid: jid.clone(),
            max: max_file_size(&info),
        }))
    }

    /// A refusal is no answer here: the item is something else.
    async fn query(&self, to: &Jid, payload: Element) -> Result<Option<Element>, Error> {
        match self
            .wire
            .query(Some(to.clone()), Request::Get(payload))
            .await
        {
            Ok(answer) => Ok(answer),
            Err(WireError::Refused { .. } | WireError::TimedOut) => Ok(None),
            Err(err) => Err(Error::Wire(err)),
        }
    }

    async fn slot(
        &self,
        service: &Service,
        name: &str,
        size: u64,
        media_type: Option<&str>,
    ) -> Result<Slot, Error> {
        let request = SlotRequest {
            filename: name.to_owned(),
            size,
            content_type: media_type.map(Into::into),
        };
        let request = Request::Get(request.into());
        match self.wire.query(Some(service.jid.clone()), request).await {
            Ok(answer) => read_slot(&answer.ok_or(Error::Protocol)?),
            Err(WireError::Refused { condition, text }) => {
                Err(Error::Refused(text.unwrap_or(condition)))
            }
            Err(err) => Err(Error::Wire(err)),
        }
    }
}

fn max_file_size(info: &DiscoInfoResult) -> Option<u64> {
    let form = info
        .extensions
        .iter()
        .find(|form| form.form_type() == Some(ns::HTTP_UPLOAD))?;
    let field = form
        .fields
        .iter()
        .find(|field| field.var.as_deref() == Some("max-file-size"))?;
    field.values.first()?.trim().parse().ok()
}

/// By hand rather than by `SlotResult`, which refuses headers that XEP-0363, 5 tells us to leave out.
fn read_slot(slot: &Element) -> Result<Slot, Error> {
    let url = |element: &Element| Url::parse(element.attr("url")?).ok();
    let put = slot
        .get_child("put", ns::HTTP_UPLOAD)
        .ok_or(Error::Protocol)?;
    let get = slot
        .get_child("get", ns::HTTP_UPLOAD)
        .and_then(url)
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .ok_or(Error::Protocol)?;
    let headers = put
        .children()
        .filter(|child| child.is("header", ns::HTTP_UPLOAD))
        .filter_map(|child| Some((child.attr("name")?.to_lowercase(), child.text())))
        .filter(|(name, _)| matches!(name.as_str(), "authorization" | "cookie" | "expires"))
        .map(|(name, value)| (name, value.replace(['\r', '\n'], "")))
        .collect();
    let put = url(put).ok_or(Error::Protocol)?;
    if !web::is_private_enough(&put) {
        return Err(Error::Refused("its address has no TLS".into()));
    }
    Ok(Slot { put, get, headers })
}

fn headers(allowed: &[(String, String)], media_type: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in allowed {
        if let (Ok(name), Ok(mut value)) =
            (HeaderName::try_from(name), HeaderValue::try_from(value))
        {
            value.set_sensitive(true);
            headers.append(name, value);
        }
    }
    if let Ok(media_type) = HeaderValue::try_from(media_type) {
        headers.insert(CONTENT_TYPE, media_type);
    }
    headers
}

impl Uploaded {
    /// The message that shares the file. Its body is the URL alone, which is what clients of XEP-0066 show as a file.
    pub fn message(&self, place: &Place) -> Message {
        let mut message = super::bare(place).with_body(Lang::new(), self.url.clone());
        message.payloads.extend(self.payloads());
        message
    }

    /// XEP-0066 and XEP-0447.
    pub fn payloads(&self) -> Vec<Element> {
        let hash = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &self.sha256);
        let mut oob = element("x", ns::OOB, &[]);
        oob.append_child(text_element("url", ns::OOB, &self.url));
        let mut file = element("file", ns::FILE_METADATA, &[]);
        for (name, text) in [
            ("media-type", &self.media_type),
            ("name", &self.name),
            ("size", &self.size.to_string()),
        ] {
            file.append_child(text_element(name, ns::FILE_METADATA, text));
        }
        let mut hash = text_element("hash", ns::HASHES, &hash);
        set(&mut hash, "algo", "sha-256");
        file.append_child(hash);
        let source = element("url-data", ns::URL_DATA, &[("target", &self.url)]);
        let mut sources = element("sources", ns::FILE_SHARING, &[]);
        sources.append_child(source);
        let disposition = if self.media_type.starts_with("image/") {
            "inline"
        } else {
            "attachment"
        };
        let attributes = [("disposition", disposition)];
        let mut sharing = element("file-sharing", ns::FILE_SHARING, &attributes);
        sharing.append_child(file);
        sharing.append_child(sources);
        vec![oob, sharing]
    }
}

#[cfg(test)]
mod tests;
