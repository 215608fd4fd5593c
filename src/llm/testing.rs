//! A model server for tests: it speaks HTTP/1.1 byte by byte, so that it can misbehave as real ones do. Each connection
//! gets the next reply; when they are used up, the last again.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

/// What becomes of the connection after the pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Whole,
    /// Closed in the middle of the body.
    Cut,
    /// Open, but nothing comes any more.
    Hang,
}

#[derive(Clone, Debug)]
pub enum Reply {
    Plain {
        status: u16,
        headers: &'static str,
        body: String,
    },
    /// An event stream; each piece is a chunk of its own on the wire.
    Events { pieces: Vec<Vec<u8>>, end: End },
    /// Not even a head.
    Silence,
}

impl Reply {
    pub fn plain(status: u16, body: &str) -> Self {
        Self::Plain {
            status,
            headers: "Content-Type: application/json\r\n",
            body: body.into(),
        }
    }

    /// Cut into pieces of so many bytes, wherever that falls.
    pub fn events(body: &str, size: usize, end: End) -> Self {
        let pieces = body.as_bytes().chunks(size).map(<[u8]>::to_vec).collect();
        Self::Events { pieces, end }
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The request line and the headers, in lower case.
    pub head: String,
    pub body: Value,
}

pub struct ModelServer {
    pub base_url: String,
    pub requests: Arc<Mutex<Vec<Recorded>>>,
    /// A message for each connection that the client closed while a reply hung.
    closed: Mutex<Receiver<()>>,
}

impl ModelServer {
    pub fn start(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (sender, closed) = channel();
        let recorded = Arc::clone(&requests);
        // Ends with the test process; each connection's thread with its connection.
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let reply = replies.get(number).or(replies.last()).cloned().unwrap();
                let (recorded, sender) = (Arc::clone(&recorded), sender.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &reply, &recorded, &sender));
            }
        });
        Self {
            base_url,
            requests,
            closed: Mutex::new(closed),
        }
    }

    pub fn last(&self) -> Recorded {
        self.requests.lock().unwrap().last().cloned().unwrap()
    }

    pub fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    /// Waits until the client has closed a connection that hung.
    pub async fn client_closed(&self) -> bool {
        for _ in 0..500 {
            if self.closed.lock().unwrap().try_recv().is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }
}

fn serve(
    mut stream: TcpStream,
    reply: &Reply,
    recorded: &Mutex<Vec<Recorded>>,
    closed: &Sender<()>,
) {
    stream.set_nodelay(true).unwrap();
    let Some(request) = read_request(&mut stream) else {
        return;
    };
    recorded.lock().unwrap().push(request);
    // The client may have gone; then so is the test's interest.
    match reply {
        Reply::Plain {
            status,
            headers,
            body,
        } => {
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
            .ok();
        }
        Reply::Silence => wait_for_close(&mut stream, closed),
        Reply::Events { pieces, end } => {
            let head = "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close";
            write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\n\r\n").ok();
            for piece in pieces {
                let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
                chunk.extend_from_slice(piece);
                chunk.extend_from_slice(b"\r\n");
                if stream.write_all(&chunk).is_err() {
                    break;
                }
            }
            match end {
                End::Whole => stream.write_all(b"0\r\n\r\n").ok().unwrap_or_default(),
                End::Cut => {}
                End::Hang => wait_for_close(&mut stream, closed),
            }
        }
    }
}

fn wait_for_close(stream: &mut TcpStream, closed: &Sender<()>) {
    let mut rest = [0; 1024];
    while !matches!(stream.read(&mut rest), Ok(0) | Err(_)) {}
    closed.send(()).ok();
}

fn read_request(stream: &mut TcpStream) -> Option<Recorded> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
        .unwrap_or(0);
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(count) => body.extend_from_slice(&buffer[..count]),
        }
    }
    let body = serde_json::from_slice(&body).unwrap_or_default();
    Some(Recorded { head, body })
}
