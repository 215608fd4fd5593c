//! The upgrade and the frames, over a socket: what comes and goes is written byte by byte, as no client of ours would.

use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::Config;
use crate::http::connection::Connections;

const LIMIT: usize = 1000;

/// What the one who serves has seen of a connection.
type Seen = mpsc::UnboundedReceiver<Option<Result<String, io::ErrorKind>>>;

/// A server that answers each text with the same, and tells what came.
async fn start() -> (SocketAddr, Seen, Stop) {
    let (tell, seen) = mpsc::unbounded_channel();
    let serve: Serve = Arc::new(move |mut messages: Messages, peer: Peer| {
        let tell = tell.clone();
        Box::pin(async move {
            assert!(peer.secure, "on this machine");
            loop {
                let next = messages.next().await;
                let is_last = !matches!(next, Some(Ok(_)));
                if let Some(Ok(text)) = &next {
                    messages.send(text.clone()).await.unwrap();
                }
                tell.send(next.map(|next| next.map_err(|err| err.kind())))
                    .unwrap();
                if is_last {
                    break;
                }
            }
            messages.close().await.ok(); // The peer may be gone.
        })
    });
    let stop = Stop::new();
    let (service, waiting) = service(LIMIT);
    let upgrade = move |visit: Visit, upgrade: WebSocketUpgrade| {
        let service = service.clone();
        async move { accept(upgrade, &visit, &Config::default(), service) }
    };
    let connections = Connections {
        server: None,
        app: Router::new().route(PATH, get(upgrade)),
        tls: None,
        limit: Arc::new(|_| None),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stopped = stop.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(run(serve, waiting, stop.clone()));
    tasks.spawn(async move { connections.serve(listener, stopped).await.unwrap() });
    tasks.detach_all();
    (address, seen, stop)
}

/// Asks for the upgrade with these headers too, and returns the head of the answer.
async fn upgrade(address: SocketAddr, headers: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET {PATH} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    (stream, String::from_utf8(head).unwrap().to_lowercase())
}

const XMPP: &str = "Sec-WebSocket-Protocol: chat, xmpp\r\n";
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;
const LAST: u8 = 0x80;

/// A client's frame (RFC 6455, 5.2), masked with zeros.
async fn send(stream: &mut TcpStream, first: u8, payload: &[u8]) {
    let mut frame = vec![first];
    match u16::try_from(payload.len()).unwrap() {
        length @ 0..126 => frame.push(0x80 | u8::try_from(length).unwrap()),
        length => {
            frame.push(0xFE); // Masked, and two bytes of length follow.
            frame.extend(length.to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    stream.write_all(&frame).await.unwrap();
}

/// The server's next frame, which is short.
async fn receive(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let first = stream.read_u8().await.unwrap();
    let mut payload = vec![0; stream.read_u8().await.unwrap().into()];
    stream.read_exact(&mut payload).await.unwrap();
    (first, payload)
}

#[tokio::test]
async fn the_subprotocol_and_the_origin_decide_about_the_upgrade() {
    let (address, _seen, stop) = start().await;
    let own = format!("{XMPP}Origin: http://{address}\r\n");
    for (name, headers, expected) in [
        ("a native client", XMPP, "101"),
        ("a page of ours", &own, "101"),
        ("no subprotocol", "", "400"),
        (
            "another subprotocol",
            "Sec-WebSocket-Protocol: chat\r\n",
            "400",
        ),
        (
            "a page elsewhere",
            "Sec-WebSocket-Protocol: xmpp\r\nOrigin: https://evil.example\r\n",
            "403",
        ),
    ] {
        let (_stream, head) = upgrade(address, headers).await;
        assert!(
            head.starts_with(&format!("http/1.1 {expected}")),
            "{name}: {head}"
        );
        let has_protocol = head.contains("sec-websocket-protocol: xmpp\r\n");
        assert_eq!(has_protocol, expected == "101", "{name}");
    }
    stop.cancel();
}

#[tokio::test]
async fn texts_come_whole_pings_are_answered_and_a_close_is_the_end() {
    let (address, mut seen, stop) = start().await;
    let (mut stream, _) = upgrade(address, XMPP).await;
    send(&mut stream, LAST | TEXT, b"<open/>").await;
    assert_eq!(
        receive(&mut stream).await,
        (LAST | TEXT, b"<open/>".to_vec())
    );
    send(&mut stream, TEXT, b"<mess").await;
    send(&mut stream, LAST | PING, b"?").await;
    assert_eq!(receive(&mut stream).await, (LAST | PONG, b"?".to_vec()));
    send(&mut stream, LAST, b"age/>").await;
    assert_eq!(
        receive(&mut stream).await,
        (LAST | TEXT, b"<message/>".to_vec())
    );
    send(&mut stream, LAST | CLOSE, b"").await;
    assert_eq!(seen.recv().await.unwrap(), Some(Ok("<open/>".to_owned())));
    assert_eq!(
        seen.recv().await.unwrap(),
        Some(Ok("<message/>".to_owned()))
    );
    assert_eq!(seen.recv().await.unwrap(), None);
    assert_eq!(receive(&mut stream).await.0, LAST | CLOSE);
    stop.cancel();
}

#[tokio::test]
async fn what_no_client_sends_is_an_error_and_the_end() {
    let half = vec![b'x'; LIMIT / 2 + 1];
    let large = vec![b'x'; LIMIT + 1];
    for (name, frames) in [
        ("binary", vec![(LAST | BINARY, b"<open/>".as_slice())]),
        ("too large", vec![(LAST | TEXT, large.as_slice())]),
        (
            "too large in fragments",
            vec![(TEXT, half.as_slice()), (LAST, half.as_slice())],
        ),
        ("no UTF-8", vec![(LAST | TEXT, b"\xff".as_slice())]),
        ("a fragment of nothing", vec![(LAST, b"x".as_slice())]),
    ] {
        let (address, mut seen, stop) = start().await;
        let (mut stream, _) = upgrade(address, XMPP).await;
        for (first, payload) in frames {
            send(&mut stream, first, payload).await;
        }
        let last = seen.recv().await.unwrap();
        assert!(matches!(last, Some(Err(_))), "{name}: {last:?}");
        stop.cancel();
    }
}

#[tokio::test]
async fn what_frames_cost_is_bounded_before_a_login() {
    for (name, first) in [
        ("pings", LAST | PING),
        ("fragments of a byte", 0),
        ("fragments of nothing", 0),
    ] {
        let (address, mut seen, stop) = start().await;
        let (mut stream, _) = upgrade(address, XMPP).await;
        let payload: &[u8] = if name == "fragments of nothing" {
            b""
        } else {
            b"x"
        };
        send(&mut stream, TEXT, b"<").await;
        let mut flood = Vec::new();
        for _ in 0..4_000 {
            flood.extend([
                first,
                0x80 | u8::try_from(payload.len()).unwrap(),
                0,
                0,
                0,
                0,
            ]);
            flood.extend(payload);
        }
        // The server may hang up in the middle of it.
        stream.write_all(&flood).await.ok();
        let last = seen.recv().await.unwrap();
        assert!(matches!(last, Some(Err(_)) | None), "{name}: {last:?}");
        stop.cancel();
    }
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_pinged_and_then_given_up() {
    let (address, mut seen, stop) = start().await;
    let (mut stream, _) = upgrade(address, XMPP).await;
    send(&mut stream, LAST | TEXT, b"<open/>").await;
    assert_eq!(receive(&mut stream).await.0, LAST | TEXT);
    seen.recv().await.unwrap();
    tokio::time::pause();
    assert_eq!(receive(&mut stream).await.0, LAST | PING);
    let last = seen.recv().await.unwrap();
    assert_eq!(last, Some(Err(io::ErrorKind::TimedOut)));
    stop.cancel();
}
