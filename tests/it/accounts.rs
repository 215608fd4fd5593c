//! Accounts from the command line, with and without a running process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::cli::{Outcome, moltis};

const CONFIGURATION: &str = "data_dir = \"data\"\n[server]\nport = 0\n[chat]\nmodel = \"offline/offline\"\n\
    [providers.offline]\n[xmpp_server]\nenabled = true\ndomain = \"localhost\"\nbind = [\"127.0.0.1\"]\n\
    c2s_port = 0\nc2s_tls_port = 0\n";

/// A directory with a moltis.toml that has an embedded server.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("moltis.toml"), CONFIGURATION).unwrap();
    directory
}

/// A running process; ended with the test.
struct Running(Child);

impl Running {
    fn start(directory: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_moltis"))
            .arg("run")
            .current_dir(directory)
            .env_clear()
            .env("HOME", directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let running = Self(child);
        let started = said.any(|line| line.unwrap().contains("data in "));
        assert!(started, "it did not start");
        // It must be able to write on.
        std::thread::spawn(move || said.count());
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Runs a command that must succeed.
fn works(directory: &Path, arguments: &[&str], input: &str) -> String {
    let Outcome { code, out, err } = moltis(directory, arguments, &[], input);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{arguments:?}");
    out
}

/// Runs a command that must fail, with this sentence.
fn fails(directory: &Path, arguments: &[&str], input: &str, sentence: &str) {
    let Outcome { code, out, err } = moltis(directory, arguments, &[], input);
    let expected = (Some(1), "", format!("{sentence}\n"));
    assert_eq!((code, out.as_str(), err), expected, "{arguments:?}");
}

fn names(directory: &Path) -> Vec<String> {
    let list: Value = serde_json::from_str(&works(directory, &["users", "--json"], "")).unwrap();
    assert_eq!(list["domain"], "localhost");
    let users = list["users"].as_array().unwrap();
    let name = |user: &Value| user["name"].as_str().unwrap().to_owned();
    users.iter().map(name).collect()
}

/// What the commands do, the same either way.
fn accounts_come_change_and_go(path: &Path, prefix: &str) {
    let jid = |name: &str| format!("{prefix}{name}@localhost");
    let (alice, bob) = (jid("alice"), jid("bob"));
    fs::write(path.join("password.txt"), "secret\n").unwrap();
    let from_file = ["adduser", &alice, "--password-file", "password.txt"];
    assert_eq!(
        works(path, &from_file, ""),
        format!("{alice} has been added\n")
    );
    let from_input = ["adduser", &bob, "--password-file", "-"];
    works(path, &from_input, "pass word\n");
    fails(
        path,
        &from_input,
        "x\n",
        &format!("{bob} exists already; choose another name, or change its password"),
    );
    let text = works(path, &["users"], "");
    let of_alice = text.lines().find(|line| line.starts_with(&alice)).unwrap();
    assert!(of_alice.ends_with(", never logged in"), "{text}");
    works(path, &["passwd", &alice, "--password-file", "-"], "other\n");
    fails(
        path,
        &["passwd", &jid("eve"), "--password-file", "-"],
        "x\n",
        &format!(
            "There is no account {}; `moltis users` lists those there are",
            jid("eve")
        ),
    );
    assert_eq!(
        works(path, &["deluser", &bob], ""),
        format!("{bob} has been deleted\n")
    );
    fails(
        path,
        &["deluser", &bob],
        "",
        &format!("There is no account {bob}; `moltis users` lists those there are"),
    );
    fails(
        path,
        &from_input,
        "x\n",
        &format!("{bob} has been deleted, and its name is not given again; choose another"),
    );
    fails(
        path,
        &["adduser", "alice@example.org", "--password-file", "-"],
        "x\n",
        "alice@example.org is not of this server, whose domain is localhost; name an account like alice@localhost",
    );
    fails(
        path,
        &["adduser", "localhost", "--password-file", "-"],
        "x\n",
        "localhost has no part before an @; name an account like alice@localhost",
    );
    fails(
        path,
        &["adduser", &jid("carol"), "--password-file", "-"],
        "a\tb\n",
        "The password has control characters; choose one without",
    );
    assert!(names(path).contains(&format!("{prefix}alice")));
    assert!(!names(path).contains(&format!("{prefix}bob")));
}

#[test]
fn accounts_come_change_and_go_with_a_running_process_and_without() {
    let directory = directory();
    let path = directory.path();
    accounts_come_change_and_go(path, "one-");
    let running = Running::start(path);
    assert_eq!(names(path), ["one-alice"]);
    accounts_come_change_and_go(path, "two-");
    drop(running);
    assert_eq!(names(path), ["one-alice", "two-alice"]);
}

#[test]
fn an_empty_list_says_how_to_go_on() {
    let directory = directory();
    let outcome = moltis(directory.path(), &["users"], &[], "");
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(0), ""));
    assert_eq!(
        outcome.err,
        "There are no accounts yet; `moltis invite` invites people, `moltis adduser alice@localhost` adds one\n"
    );
    let nothing: [String; 0] = [];
    assert_eq!(names(directory.path()), nothing);
}

#[test]
fn nothing_is_asked_where_nobody_can_answer() {
    let directory = directory();
    for command in ["adduser", "passwd"] {
        let outcome = moltis(
            directory.path(),
            &[command, "alice@localhost"],
            &[],
            "secret\n",
        );
        assert_eq!(outcome.code, Some(2), "{command}");
        assert_eq!(
            outcome.err,
            "Standard input is no terminal, so nothing can be asked; give --password-file FILE, or - for standard input.\n"
        );
    }
}

#[test]
fn without_an_embedded_server_the_way_to_one_is_told() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join("moltis.toml"),
        "[identity]\nname = \"x\"\n",
    )
    .unwrap();
    for arguments in [&["users"][..], &["deluser", "alice@localhost"]] {
        let sentence = "moltis.toml has no embedded server; set enabled = true and domain = \"example.org\" in [xmpp_server]";
        fails(directory.path(), arguments, "", sentence);
    }
}

/// What the command does, the same either way.
fn invitations_are_made_listed_and_revoked(path: &Path, contact: &str) {
    let invite = |arguments: &[&str]| -> Value {
        let arguments = [&["invite", "--json"], arguments].concat();
        serde_json::from_str(&works(path, &arguments, "")).unwrap()
    };
    let made = invite(&["--contact", contact, "--uses", "3", "--ttl", "1d"]);
    let uri = made["uri"].as_str().unwrap();
    let token = made["token"].as_str().unwrap();
    assert_eq!(uri, format!("xmpp:{contact}?roster;preauth={token};ibr=y"));
    assert_eq!(made["uses"], 3);
    assert_eq!(made["operator"], false);
    let named = invite(&["--name", "carol"]);
    let uri = named["uri"].as_str().unwrap();
    assert!(
        uri.starts_with("xmpp:carol@localhost?register;preauth="),
        "{uri}"
    );
    let listed = invite(&["--list"]);
    let ids: Vec<_> = listed["invitations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["id"])
        .collect();
    assert_eq!(ids, [&made["id"], &named["id"]]);
    let text = works(path, &["invite", "--list"], "");
    assert!(
        text.contains("name carol") && !text.contains(token),
        "{text}"
    );
    for made in [made, named] {
        let id = made["id"].as_str().unwrap();
        assert_eq!(
            works(path, &["invite", "--revoke", id], ""),
            format!("{id} has been revoked\n")
        );
        fails(
            path,
            &["invite", "--revoke", id],
            "",
            &format!(
                "There is no open invitation {id}; `moltis invite --list` lists those there are"
            ),
        );
    }
    fails(
        path,
        &["invite", "--contact", "eve@localhost"],
        "",
        "There is no account eve@localhost; `moltis users` lists those there are",
    );
}

#[test]
fn people_are_invited_with_a_running_process_and_without() {
    let directory = directory();
    let path = directory.path();
    let first = moltis(path, &["invite"], &[], "");
    assert!(
        first.out.contains("xmpp:localhost?register;preauth="),
        "{}",
        first.out
    );
    assert!(first.err.contains("becomes admin"), "{}", first.err);
    works(
        path,
        &["adduser", "alice@localhost", "--password-file", "-"],
        "secret\n",
    );
    let left = works(path, &["invite", "--list"], "");
    works(
        path,
        &["invite", "--revoke", left.split(' ').next().unwrap()],
        "",
    );
    invitations_are_made_listed_and_revoked(path, "alice@localhost");
    let running = Running::start(path);
    invitations_are_made_listed_and_revoked(path, "alice@localhost");
    drop(running);
}
