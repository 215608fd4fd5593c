//! The demo: what runs where there is no moltis.toml, and what becomes of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::cli::moltis;

/// Three ports of loopback that are free at this moment.
fn ports() -> Vec<String> {
    let listeners: Vec<_> = (0..3)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let keys = [
        "server.port",
        "xmpp_server.c2s_port",
        "xmpp_server.c2s_tls_port",
    ];
    let bound = keys.iter().zip(&listeners);
    bound
        .flat_map(|(key, listener)| {
            let port = listener.local_addr().unwrap().port();
            ["--set".to_owned(), format!("{key}={port}")]
        })
        .collect()
}

/// What `GET /status` answers.
fn status(ports: &[String]) -> String {
    let (_, port) = ports[1].split_once('=').unwrap();
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    let request = "GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The running demo; killed at the end.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Starts it and reads its banner.
fn start(directory: &Path, ports: &[String]) -> (Demo, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_moltis"))
        .args(ports)
        .current_dir(directory)
        .env_clear()
        .env("HOME", directory)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut banner = String::new();
    for line in lines.by_ref().map_while(Result::ok) {
        banner.push_str(&line);
        banner.push('\n');
        if line.ends_with("Ctrl-C stops.") {
            break;
        }
    }
    // What it says later must be read by somebody.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    (Demo(child), banner)
}

#[test]
fn without_a_file_there_is_a_server_a_bot_and_a_person_who_talks_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let ports = ports();
    let (demo, banner) = start(directory.path(), &ports);
    assert!(
        banner.contains("This is the demo: you@localhost"),
        "{banner}"
    );
    assert!(banner.contains("moltis init --from-demo"), "{banner}");
    let mut arguments = vec!["chat"];
    arguments.extend(ports.iter().map(String::as_str));
    let chat = moltis(directory.path(), &arguments, &[], "hello there\n/ping\n");
    assert_eq!(chat.code, Some(0), "{}", chat.err);
    assert!(chat.out.contains("no language model"), "{}", chat.out);
    assert!(chat.out.contains("hello there"), "{}", chat.out);
    assert!(
        chat.out
            .lines()
            .last()
            .unwrap()
            .to_lowercase()
            .contains("pong"),
        "{}",
        chat.out
    );
    let status = status(&ports);
    assert!(
        status.contains("\"name\":\"XMPP Server\",\"status\":true"),
        "{status}"
    );
    let running = moltis(directory.path(), &["backup", "running.backup"], &[], "");
    assert_eq!(running.code, Some(0), "{}", running.err);
    let refused = moltis(
        directory.path(),
        &["restore", "running.backup", "--force"],
        &[],
        "",
    );
    assert!(refused.err.contains("stop it first"), "{}", refused.err);
    drop(demo);
    // Everything survives in one file: also the person's password.
    let data = directory.path().join("moltis-data");
    let saved = moltis(directory.path(), &["backup", "all.backup"], &[], "");
    assert_eq!(saved.code, Some(0), "{}", saved.err);
    let kept = moltis(directory.path(), &["restore", "all.backup"], &[], "");
    assert!(kept.err.contains("--force"), "{}", kept.err);
    std::fs::remove_dir_all(&data).unwrap();
    let restored = moltis(directory.path(), &["restore", "all.backup"], &[], "");
    assert_eq!(restored.code, Some(0), "{}", restored.err);
    // Who is asked for by the configuration comes back.
    for jid in ["moltis@localhost", "you@localhost"] {
        let deleted = moltis(directory.path(), &["deluser", jid], &[], "");
        assert_eq!(deleted.code, Some(0), "{}", deleted.err);
    }
    // The same person with the same password after a restart.
    let (_demo, _) = start(directory.path(), &ports);
    let again = moltis(directory.path(), &arguments, &[], "/ping\n");
    assert_eq!(again.code, Some(0), "{}", again.err);
}

#[test]
fn a_chat_with_nobody_says_what_to_start() {
    let directory = tempfile::tempdir().unwrap();
    let chat = moltis(directory.path(), &["chat"], &[], "hello\n");
    assert_eq!(chat.code, Some(1));
    assert!(
        chat.err.contains("start `moltis` in another terminal"),
        "{}",
        chat.err
    );
}

#[test]
fn the_demo_can_be_written_down() {
    let directory = tempfile::tempdir().unwrap();
    let written = moltis(directory.path(), &["init", "--from-demo"], &[], "");
    assert_eq!(written.code, Some(0), "{}", written.err);
    let shown = moltis(directory.path(), &["config", "show"], &[], "");
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    for line in ["domain = \"localhost\"", "[xmpp_server.bots.moltis]"] {
        assert!(shown.out.contains(line), "{line}: {}", shown.out);
    }
    let twice = moltis(directory.path(), &["init", "--from-demo"], &[], "");
    assert_eq!(twice.code, Some(1));
}
