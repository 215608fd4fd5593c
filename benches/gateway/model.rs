//! The model: Chat Completions over HTTP/1.1 with server-sent events, at a pace that is set. It times its requests.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::turns::{self, Turns};

/// How an answer comes: so long after the request, in so many pieces, so long one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) thinks: Duration,
    pub(super) pieces: usize,
    pub(super) gap: Duration,
}

pub(super) struct Model {
    pub(super) port: u16,
    pace: Arc<Mutex<Pace>>,
    /// Ends with this.
    _serving: JoinSet<()>,
}

impl Model {
    pub(super) async fn start(turns: Turns, pace: Pace) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let pace = Arc::new(Mutex::new(pace));
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, turns, Arc::clone(&pace)));
        Ok(Self {
            port,
            pace,
            _serving: serving,
        })
    }

    pub(super) fn set_pace(&self, pace: Pace) {
        *self.pace.lock().unwrap_or_else(PoisonError::into_inner) = pace;
    }
}

async fn serve(listener: TcpListener, turns: Turns, pace: Arc<Mutex<Pace>>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let (turns, pace) = (turns.clone(), Arc::clone(&pace));
        connections.spawn(async move {
            // The other side closes what it no longer needs; an answer that was cut shows as missing.
            connection(socket, &turns, &pace).await.ok();
        });
        while connections.try_join_next().is_some() {}
    }
}

/// One request after the other.
async fn connection(socket: TcpStream, turns: &Turns, pace: &Mutex<Pace>) -> Result<()> {
    socket.set_nodelay(true)?;
    let mut socket = BufReader::new(socket);
    loop {
        let request = read(&mut socket).await?;
        let at = Instant::now();
        let number = turns::asked(&request).context("The request is about no turn")?;
        turns.note(number, |turn| turn.asked = Some(at));
        let pace = *pace.lock().unwrap_or_else(PoisonError::into_inner);
        answer(socket.get_mut(), number, turns, pace).await?;
    }
}

/// A request's body.
async fn read(socket: &mut BufReader<TcpStream>) -> Result<String> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if socket.read_line(&mut line).await? == 0 {
            bail!("Closed");
        }
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse()?;
            }
            None if line.trim_end().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await?;
    Ok(String::from_utf8(body)?)
}

async fn answer(socket: &mut TcpStream, number: usize, turns: &Turns, pace: Pace) -> Result<()> {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes()).await?;
    tokio::time::sleep(pace.thinks).await;
    for (position, piece) in turns::answer(number, pace.pieces).into_iter().enumerate() {
        if position == 0 {
            turns.note(number, |turn| turn.began = Some(Instant::now()));
        } else {
            tokio::time::sleep(pace.gap).await;
        }
        let delta = json!({"content": piece});
        event(socket, &chunk(&delta, None)).await?;
    }
    turns.note(number, |turn| turn.ended = Some(Instant::now()));
    let end = chunk(&json!({}), Some("stop"));
    event(socket, &format!("{end}\n\ndata: [DONE]")).await?;
    socket.write_all(b"0\r\n\r\n").await?;
    Ok(())
}

fn chunk(delta: &serde_json::Value, finish: Option<&str>) -> String {
    json!({
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "bench",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    })
    .to_string()
}

async fn event(socket: &mut TcpStream, data: &str) -> Result<()> {
    let event = format!("data: {data}\n\n");
    let chunk = format!("{:x}\r\n{event}\r\n", event.len());
    Ok(socket.write_all(chunk.as_bytes()).await?)
}
