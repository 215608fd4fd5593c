//! Fetches a stranger's link: public addresses only, checked where the connection is made, so that a name that resolves to
//! something else the second time gains nothing; at most so many bytes, so long and so many redirects.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::LOCATION;
use reqwest::{Client, Response, Url};

use super::address::is_public;
use crate::gateway::reply::upload::Uploads;
use crate::gateway::web;

const MAX_REDIRECTS: usize = 5;
const TIMEOUT: Duration = Duration::from_mins(1);

/// Why a link was not fetched. Its `Display` is for the person.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the link is not one that I fetch")]
    Link,
    #[error("the link leads to a private address")]
    Private,
    #[error("it is larger than {max_mb} MB")]
    TooLarge { max_mb: u64 },
    #[error("its server did not answer in time")]
    TimedOut,
    #[error("its server answered with HTTP {0}")]
    Status(u16),
    #[error("its server redirects too often")]
    Redirects,
    #[error("its server could not be reached")]
    Network(#[source] reqwest::Error),
}

/// Answers public addresses only. The connection is made to what is answered here and nowhere else.
struct PublicOnly;

#[derive(Debug, thiserror::Error)]
#[error("No public address")]
struct NoPublicAddress;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(NoPublicAddress.into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// The client for strangers' links. A proxy would resolve names itself, so that none is used.
pub(super) fn public_client() -> reqwest::Result<Client> {
    web::builder()
        .no_proxy()
        .dns_resolver(Arc::new(PublicOnly))
        .build()
}

/// Fetches a link. Files on the account's own upload service are fetched wherever that is.
pub(super) async fn fetch(
    public: &Client,
    uploads: Option<&Uploads>,
    url: &str,
    max_mb: u64,
) -> Result<Bytes, Error> {
    let url = Url::parse(url).map_err(|_reason| Error::Link)?;
    tokio::time::timeout(TIMEOUT, follow(public, uploads, url, max_mb))
        .await
        .unwrap_or(Err(Error::TimedOut))
}

async fn follow(
    public: &Client,
    uploads: Option<&Uploads>,
    mut url: Url,
    max_mb: u64,
) -> Result<Bytes, Error> {
    for _ in 0..=MAX_REDIRECTS {
        let response = get(public, uploads, &url).await?;
        if !response.status().is_redirection() {
            return body(response, max_mb).await;
        }
        let location = response.headers().get(LOCATION);
        let location = location.and_then(|location| location.to_str().ok());
        url = location
            .and_then(|location| url.join(location).ok())
            .ok_or(Error::Link)?;
    }
    Err(Error::Redirects)
}

/// One hop.
async fn get(public: &Client, uploads: Option<&Uploads>, url: &Url) -> Result<Response, Error> {
    check(url)?;
    let own = uploads.and_then(Uploads::own).filter(|own| own.is_own(url));
    if let (Some(own), Some(uploads)) = (&own, uploads)
        && let Some(inside) = own.inside(url)
    {
        return uploads.client().get(inside).send().await.map_err(sort);
    }
    let outcome = match check_literal(url) {
        Ok(()) => public.get(url.clone()).send().await.map_err(sort),
        Err(err) => Err(err),
    };
    match (outcome, uploads) {
        // Home servers have private addresses. What the account's own service names is no stranger's choice.
        // Our own server tells this machine what it tells nobody else, so that of it nothing but files is fetched.
        (Err(Error::Private), Some(uploads)) if own.is_none() => {
            let own = uploads.origin().await.is_ok_and(|own| own == url.origin());
            if !own {
                return Err(Error::Private);
            }
            uploads.client().get(url.clone()).send().await.map_err(sort)
        }
        (outcome, _) => outcome,
    }
}

/// Web links, without credentials, to ports where web servers are and not, say, mail servers.
fn check(url: &Url) -> Result<(), Error> {
    let scheme = matches!(url.scheme(), "http" | "https");
    let port = matches!(url.port_or_known_default(), Some(80 | 443 | 1_024..));
    if scheme && port && url.username().is_empty() && url.password().is_none() {
        Ok(())
    } else {
        Err(Error::Link)
    }
}

/// Addresses in a link do not go through the resolver. The URL parser has normalised `0x7f.1`, `2130706433` and the like.
fn check_literal(url: &Url) -> Result<(), Error> {
    let address: Option<IpAddr> = match url.host() {
        Some(url::Host::Ipv4(address)) => Some(address.into()),
        Some(url::Host::Ipv6(address)) => Some(address.into()),
        Some(url::Host::Domain(_)) => None,
        None => return Err(Error::Link),
    };
    if address.is_some_and(|address| !is_public(address)) {
        return Err(Error::Private);
    }
    Ok(())
}

/// Reads no further than the cap, whatever the header promised.
async fn body(response: Response, max_mb: u64) -> Result<Bytes, Error> {
    let status = response.status();
    if !status.is_success() {
        return Err(Error::Status(status.as_u16()));
    }
    let max = max_mb.saturating_mul(1_000_000);
    if response.content_length().is_some_and(|length| length > max) {
        return Err(Error::TooLarge { max_mb });
    }
    let mut bytes = BytesMut::new();
    let mut stream = response.bytes_stream();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece.map_err(sort)?);
        if bytes.len() as u64 > max {
            return Err(Error::TooLarge { max_mb });
        }
    }
    Ok(bytes.freeze())
}

fn sort(err: reqwest::Error) -> Error {
    let mut source: Option<&dyn std::error::Error> = Some(&err);
    while let Some(cause) = source {
        if cause.is::<NoPublicAddress>() {
            return Error::Private;
        }
        source = cause.source();
    }
    if err.is_timeout() {
        Error::TimedOut
    } else {
        Error::Network(err.without_url())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_other_protocols_ports_or_with_credentials_are_refused() {
        for link in [
            "ftp://x.org/a",
            "file:///etc/passwd",
            "gopher://x.org/",
            "http://x.org:25/",
            "https://x.org:22/",
            "http://user@x.org/",
            "http://user:password@x.org/",
            "data:text/plain,x",
        ] {
            assert!(check(&Url::parse(link).unwrap()).is_err(), "{link}");
        }
        for link in [
            "http://x.org/",
            "https://x.org/",
            "https://x.org:5443/upload",
        ] {
            check(&Url::parse(link).unwrap()).unwrap();
        }
    }

    #[test]
    fn addresses_are_known_in_every_notation() {
        for link in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://１２７.0.0.1/",
            "http://[::1]/",
            "http://[::ffff:7f00:1]/",
            "http://169.254.169.254/latest/meta-data/",
        ] {
            let outcome = check_literal(&Url::parse(link).unwrap());
            assert!(matches!(outcome, Err(Error::Private)), "{link}");
        }
        check_literal(&Url::parse("http://1.1.1.1/").unwrap()).unwrap();
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_this_machine_is_refused() {
        web::install_provider();
        let client = public_client().unwrap();
        let outcome = fetch(&client, None, "http://localhost:9999/x", 1).await;
        assert!(matches!(outcome, Err(Error::Private)), "{outcome:?}");
    }
}
