//! What clients of the proxy say before the bytes: SOCKS 5 (RFC 1928) as XEP-0065, 6.3 has it. Both say the same name, which is
//! made of the transfer's id and its two ends, and whoever knows all three is one of them.

use std::fmt::Write;
use std::io;

use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const DOMAIN: u8 = 3;
/// `SHA-1` as hexadecimal digits.
const NAME: usize = 40;
const REFUSED: u8 = 2;

/// What both ends of a transfer ask for.
pub(super) fn name(sid: &str, initiator: &str, target: &str) -> String {
    let digest = Sha1::digest(format!("{sid}{initiator}{target}"));
    digest
        .iter()
        .fold(String::with_capacity(NAME), |mut name, byte| {
            // Writing to a string does not fail.
            write!(name, "{byte:02x}").ok();
            name
        })
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Reads the greeting and the request; the answer to the latter is [`accepted`].
pub(super) async fn greet<S: AsyncRead + AsyncWrite + Unpin>(io: &mut S) -> io::Result<String> {
    let [version, count] = read(io).await?;
    if version != VERSION {
        return Err(wrong("not SOCKS 5"));
    }
    let mut methods = vec![0; usize::from(count)];
    io.read_exact(&mut methods).await?;
    if !methods.contains(&NO_AUTHENTICATION) {
        io.write_all(&[VERSION, NO_METHOD]).await?;
        return Err(wrong("no method that is known"));
    }
    io.write_all(&[VERSION, NO_AUTHENTICATION]).await?;
    let [version, command, _, kind, length] = read(io).await?;
    let is_ours = version == VERSION && command == CONNECT && kind == DOMAIN;
    if !is_ours || usize::from(length) != NAME {
        refuse(io).await?;
        return Err(wrong("not a transfer"));
    }
    let name: [u8; NAME] = read(io).await?;
    // The port is 0, and means nothing.
    let [_, _] = read(io).await?;
    let name = String::from_utf8(name.to_vec()).map_err(|_name| wrong("not a name"))?;
    if !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        refuse(io).await?;
        return Err(wrong("not a name"));
    }
    Ok(name.to_ascii_lowercase())
}

/// What is answered to the request.
pub(super) fn accepted(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap_or_default();
    let mut answer = vec![VERSION, 0, 0, DOMAIN, length];
    answer.extend_from_slice(name.as_bytes());
    answer.extend_from_slice(&[0, 0]);
    answer
}

async fn refuse<S: AsyncWrite + Unpin>(io: &mut S) -> io::Result<()> {
    io.write_all(&[VERSION, REFUSED, 0, 1, 0, 0, 0, 0, 0, 0])
        .await
}

async fn read<S: AsyncRead + Unpin, const N: usize>(io: &mut S) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    io.read_exact(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client hears that says this and nothing more.
    async fn hears(said: &[u8]) -> (io::Result<String>, Vec<u8>) {
        let (mut client, mut server) = tokio::io::duplex(1_024);
        client.write_all(said).await.unwrap();
        client.shutdown().await.unwrap();
        let outcome = greet(&mut server).await;
        drop(server);
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        (outcome, heard)
    }

    #[tokio::test]
    async fn a_transfer_is_asked_for_by_its_name() {
        let name = name(
            "vxf9n471bn46",
            "requester@example.com/foo",
            "target@example.org/bar",
        );
        let mut said = vec![5, 2, 1, 0, 5, 1, 0, 3, 40];
        said.extend(name.to_uppercase().bytes());
        said.extend([0, 0]);
        let (outcome, heard) = hears(&said).await;
        assert_eq!(outcome.unwrap(), name);
        assert_eq!(heard, [5, 0]);
        assert_eq!(name.len(), NAME);
    }

    #[tokio::test]
    async fn what_is_no_transfer_is_refused() {
        let mut not_hexadecimal = vec![5, 1, 0, 5, 1, 0, 3, 40];
        not_hexadecimal.extend([b'x'; 40]);
        not_hexadecimal.extend([0, 0]);
        for (name, said) in [
            ("nothing", &[][..]),
            ("another version", &[4, 1, 0]),
            ("a password", &[5, 1, 2]),
            ("no methods", &[5, 0]),
            ("to listen", &[5, 1, 0, 5, 2, 0, 3, 40]),
            ("an address", &[5, 1, 0, 5, 1, 0, 1, 40]),
            ("another host", &[5, 1, 0, 5, 1, 0, 3, 11]),
            ("half a name", &[5, 1, 0, 5, 1, 0, 3, 40, b'a']),
            ("no digits", &not_hexadecimal),
        ] {
            assert!(hears(said).await.0.is_err(), "{name}");
        }
    }
}
