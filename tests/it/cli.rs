//! The command line through the binary: help, exit codes, errors, what is written.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs the binary in a directory, with no environment but `environment`, and `input` on standard input.
pub(crate) fn moltis(
    directory: &Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
    input: &str,
) -> Outcome {
    let mut child = Command::new(env!("CARGO_BIN_EXE_moltis"))
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("HOME", directory)
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that asks nothing may have ended before.
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    let output = child.wait_with_output().unwrap();
    Outcome {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Compares with `tests/it/snapshots/<name>.txt`, or writes it where UPDATE_SNAPSHOTS is set.
fn snapshot(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/snapshots")
        .join(name)
        .with_extension("txt");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&file, text).unwrap();
    }
    let expected = fs::read_to_string(&file).unwrap();
    assert_eq!(
        text, expected,
        "{name} differs; UPDATE_SNAPSHOTS=1 accepts it"
    );
}

const COMMANDS: &[&[&str]] = &[
    &["run"],
    &["chat"],
    &["check"],
    &["config"],
    &["config", "show"],
    &["init"],
    &["register"],
    &["adduser"],
    &["deluser"],
    &["passwd"],
    &["users"],
    &["invite"],
    &["reload"],
    &["s2s"],
    &["s2s", "test"],
    &["status"],
    &["backup"],
    &["restore"],
    &["completions"],
];

#[test]
fn every_command_explains_itself_with_an_example() {
    let directory = tempfile::tempdir().unwrap();
    let mut all = moltis(directory.path(), &["--help"], &[], "").out;
    for command in COMMANDS {
        let arguments = [command, &["--help"][..]].concat();
        let outcome = moltis(directory.path(), &arguments, &[], "");
        assert_eq!(outcome.code, Some(0), "{command:?}");
        assert!(outcome.out.contains("Example:\n  moltis "), "{command:?}");
        all.extend(["\n=== ", &command.join(" "), "\n\n", &outcome.out]);
    }
    snapshot("help", &all);
}

#[test]
fn wrong_usage_exits_with_two() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [
        &["chek"][..],
        &["check", "confg"],
        &["--set", "novalue", "check"],
        &["register"],
        &["register", "not a jid"],
        &["adduser"],
        &["adduser", "not a jid"],
        &["deluser"],
        &["passwd"],
        &["users", "all"],
        &["completions", "tcl"],
        &["init"],
    ] {
        let outcome = moltis(directory.path(), arguments, &[], "");
        assert_eq!(outcome.code, Some(2), "{arguments:?}");
        assert!(!outcome.err.is_empty(), "{arguments:?}");
        assert!(outcome.out.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_file_that_is_named_and_not_there_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let outcome = moltis(
        directory.path(),
        &["config", "show", "--config", "no.toml"],
        &[],
        "",
    );
    assert_eq!(outcome.code, Some(1));
    assert_eq!(
        outcome.err,
        "no.toml: cannot be read: No such file or directory (os error 2)\n"
    );
}

#[test]
fn all_errors_of_a_bad_file_are_told_at_once_each_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let bad = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/snapshots/bad.toml");
    fs::copy(bad, directory.path().join("moltis.toml")).unwrap();
    let outcome = moltis(directory.path(), &["check", "config"], &[], "");
    assert_eq!(outcome.code, Some(1));
    snapshot("bad", &outcome.out);
    let outcome = moltis(directory.path(), &["check", "--json"], &[], "");
    let findings: Vec<BTreeMap<String, String>> = serde_json::from_str(&outcome.out).unwrap();
    assert!(findings.iter().all(|finding| finding["level"] == "problem"));
    // Every other command says the same.
    let outcome = moltis(directory.path(), &["run"], &[], "");
    assert_eq!(outcome.err.lines().count(), findings.len());
    assert!(outcome.err.contains(
        "moltis.toml:23: unknown key \"alowlist\" in [channels.xmpp.my-bot]; did you mean \"allowlist\"?\n"
    ));
}

#[test]
fn files_are_found_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let show = |arguments: &[&str], environment: &[(&str, &str)]| {
        let arguments = [&["config", "show"], arguments].concat();
        let outcome = moltis(path, &arguments, environment, "");
        assert_eq!(outcome.code, Some(0), "{}", outcome.err);
        let line = outcome.out.lines().find(|line| line.starts_with("name = "));
        line.unwrap().split('"').nth(1).unwrap().to_owned()
    };
    let write = |file: &str, name: &str| {
        let file = path.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, format!("[identity]\nname = \"{name}\"\n")).unwrap();
    };
    assert_eq!(show(&[], &[]), "Moltis");
    write(".config/moltis/moltis.toml", "home");
    assert_eq!(show(&[], &[]), "home");
    write("xdg/moltis/moltis.toml", "xdg");
    let xdg = path.join("xdg");
    let xdg = ("XDG_CONFIG_HOME", xdg.to_str().unwrap());
    assert_eq!(show(&[], &[xdg]), "xdg");
    write("moltis.toml", "here");
    assert_eq!(show(&[], &[xdg]), "here");
    write("variable.toml", "variable");
    let variable = ("MOLTIS_CONFIG", "variable.toml");
    assert_eq!(show(&[], &[xdg, variable]), "variable");
    write("argument.toml", "argument");
    assert_eq!(
        show(&["--config", "argument.toml"], &[xdg, variable]),
        "argument"
    );
    let set = ["--config", "argument.toml", "--set", "identity.name=set"];
    assert_eq!(show(&set, &[xdg, variable]), "set");
}

#[test]
fn what_is_shown_is_toml_with_secrets_masked_and_origins_named() {
    let directory = tempfile::tempdir().unwrap();
    let text = "[providers.openai]\napi_key = \"${KEY}\"\n[providers.openai.headers]\nX-Key = \"xyzzy\"\n\n\
        [channels.xmpp.my-bot]\njid = \"bot@example.com\"\npassword = \"xyzzy\"\n\
        [channels.xmpp.my-bot.muc_rooms.\"r@rooms.example\"]\npassword = \"xyzzy\"\n";
    fs::write(directory.path().join("moltis.toml"), text).unwrap();
    let environment = [("KEY", "xyzzy"), ("MOLTIS_LOG__LEVEL", "debug")];
    let outcome = moltis(directory.path(), &["config", "show"], &environment, "");
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    assert!(!outcome.out.contains("xyzzy"));
    snapshot("show", &outcome.out);
    let shown: toml::Table = toml::from_str(&outcome.out).unwrap();
    assert_eq!(shown["log"]["level"].as_str(), Some("debug"));
    assert_eq!(
        shown["channels"]["xmpp"]["my-bot"]["password"].as_str(),
        Some("****")
    );

    let outcome = moltis(
        directory.path(),
        &["config", "show", "--json"],
        &environment,
        "",
    );
    assert!(!outcome.out.contains("xyzzy"));
    let rows: Vec<serde_json::Value> = serde_json::from_str(&outcome.out).unwrap();
    let level = rows.iter().find(|row| row["key"] == "log.level").unwrap();
    assert_eq!(level["from"], "MOLTIS_LOG__LEVEL");
}

#[test]
fn init_writes_a_file_that_check_accepts() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("bot.password"), "xyzzy\n").unwrap();
    let key = ("MY_KEY", "k");
    let arguments = [
        "init",
        "--jid",
        "bot@example.com",
        "--password-file",
        "bot.password",
        "--provider",
        "anthropic",
        "--model",
        "claude-opus-4-20250514",
        "--api-key-env",
        "MY_KEY",
        "--operator",
        "alice@example.com",
        "--room",
        "team@rooms.example/Bot",
        "--data-dir",
        "data",
    ];
    let outcome = moltis(directory.path(), &arguments, &[key], "");
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    let outcome = moltis(directory.path(), &["check", "config"], &[key], "");
    assert_eq!(outcome.code, Some(0), "{}", outcome.out);
    let ok =
        "ok       moltis.toml: accounts bot@example.com, model anthropic/claude-opus-4-20250514\n";
    assert!(outcome.out.starts_with(ok), "{}", outcome.out);

    let outcome = moltis(directory.path(), &arguments, &[key], "");
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.err.contains("exists"), "{}", outcome.err);
}

#[test]
fn init_takes_a_password_from_standard_input_and_keeps_it_private() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["init", "--jid", "bot@example.com", "--password-file", "-"];
    let outcome = moltis(directory.path(), &arguments, &[], "pass \"${word}\"\n");
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    let file = directory.path().join("moltis.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("$${word}"), "{text}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let outcome = moltis(directory.path(), &["check", "config"], &[], "");
    assert_eq!(outcome.code, Some(0), "{}", outcome.out);
}

#[test]
fn init_writes_nothing_that_would_be_refused() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["init", "--jid", "no jid", "--provider", "elsewhere"];
    let outcome = moltis(directory.path(), &arguments, &[], "");
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome.err.contains("nothing was written"),
        "{}",
        outcome.err
    );
    assert!(!directory.path().join("moltis.toml").exists());
}

/// Answers every request in the same way, until the test ends.
fn model_server(status: &'static str, body: &'static str) -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut length = 0;
            let mut line = String::new();
            while stream.read_line(&mut line).unwrap() > 2 {
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            stream.read_exact(&mut vec![0; length]).unwrap();
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\
                connection: close\r\n\r\n{body}",
                body.len()
            );
            stream.into_inner().write_all(answer.as_bytes()).unwrap();
        }
    });
    address
}

#[test]
fn each_model_is_asked_and_answers_or_is_told_with_a_remedy() {
    let works = model_server(
        "200 OK",
        "data: {\"choices\":[{\"delta\":{\"content\":\"ready\"},\"finish_reason\":\"stop\"}]}\n\n\
        data: [DONE]\n\n",
    );
    let refuses = model_server("401 Unauthorized", "{\"error\":{\"message\":\"no\"}}");
    let directory = tempfile::tempdir().unwrap();
    let text = format!(
        "[providers.good]\nbase_url = 'http://{works}/v1'\nmodels = ['m']\n\
        [providers.locked]\nbase_url = 'http://{refuses}/v1'\nmodels = ['x/y']\n\
        [providers.nameless]\nbase_url = 'http://127.0.0.1:1/v1'\n"
    );
    fs::write(directory.path().join("moltis.toml"), text).unwrap();
    let outcome = moltis(directory.path(), &["check", "llm", "--json"], &[], "");
    assert_eq!(outcome.code, Some(1), "{}", outcome.err);
    let findings: Vec<BTreeMap<String, String>> = serde_json::from_str(&outcome.out).unwrap();
    let [good, locked, nameless] = findings.as_slice() else {
        panic!("{}", outcome.out);
    };
    assert_eq!(good["level"], "ok", "{}", outcome.out);
    assert!(good["message"].starts_with("good/m answered in "));
    assert_eq!(locked["level"], "problem");
    assert!(locked["message"].starts_with("locked/x/y: "));
    assert!(locked["message"].ends_with("; check api_key in [providers.locked]"));
    assert_eq!(nameless["level"], "warning");

    let offline = ["check", "llm", "--set", "chat.model=offline/offline"];
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("moltis.toml"), "").unwrap();
    let outcome = moltis(directory.path(), &offline, &[], "");
    assert_eq!(outcome.code, Some(0), "{}", outcome.out);
}

/// `model.invalid` exists nowhere (RFC 6761, 6.4): whoever gets an answer from it has asked the proxy.
#[test]
fn a_proxy_of_the_environment_is_used_for_models() {
    let proxy = model_server(
        "200 OK",
        "data: {\"choices\":[{\"delta\":{\"content\":\"ready\"},\"finish_reason\":\"stop\"}]}\n\n\
        data: [DONE]\n\n",
    );
    let directory = tempfile::tempdir().unwrap();
    let text = "[providers.far]\nbase_url = 'http://model.invalid/v1'\nmodels = ['m']\n";
    fs::write(directory.path().join("moltis.toml"), text).unwrap();
    let check = ["check", "llm"];
    let outcome = moltis(directory.path(), &check, &[], "");
    assert_eq!(outcome.code, Some(1), "{}", outcome.out);
    let proxy = format!("http://{proxy}");
    let outcome = moltis(directory.path(), &check, &[("http_proxy", &proxy)], "");
    assert_eq!(outcome.code, Some(0), "{}", outcome.out);
}

#[cfg(unix)]
#[test]
fn status_and_reload_print_what_the_running_process_says() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("data")).unwrap();
    let socket = directory.path().join("data/moltis.sock");
    let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    for (arguments, asked, answer, code, out, err) in [
        (
            &["status"][..],
            "status\n",
            "{\"uptime\":\"3 s\"}",
            0,
            "uptime: 3 s\n",
            "",
        ),
        (
            &["status", "--json"],
            "status\n",
            "{\"uptime\":3}",
            0,
            "{\n  \"uptime\": 3\n}\n",
            "",
        ),
        (
            &["reload"],
            "reload\n",
            "{\"changes\":[\"log.level: applied\"]}",
            0,
            "log.level: applied\n",
            "",
        ),
        (
            &["reload"],
            "reload\n",
            "{\"changes\":[]}",
            0,
            "Nothing has changed since the start.\n",
            "",
        ),
        (
            &["reload"],
            "reload\n",
            "{\"changes\":[],\"last\":{\"at\":\"13:01\",\"changes\":[\"log.level: applied\"]}}",
            0,
            "Nothing has changed since 13:01, when this was applied:\nlog.level: applied\n",
            "",
        ),
        (
            &["reload"],
            "reload\n",
            "{\"error\":\"moltis.toml:1: no\"}",
            1,
            "",
            "moltis.toml:1: no\n",
        ),
        (
            &["status"],
            "status\n",
            "",
            1,
            "",
            "The running moltis broke off; look at its log\n",
        ),
    ] {
        let server = listener.try_clone().unwrap();
        let server = std::thread::spawn(move || {
            let mut stream = BufReader::new(server.accept().unwrap().0);
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            stream.into_inner().write_all(answer.as_bytes()).unwrap();
            line
        });
        let arguments = [arguments, &["--set", "data_dir=data"]].concat();
        let outcome = moltis(directory.path(), &arguments, &[], "");
        assert_eq!(server.join().unwrap(), asked);
        assert_eq!(outcome.code, Some(code), "{}", outcome.err);
        assert_eq!(outcome.out, out);
        assert_eq!(outcome.err, err);
    }
}

#[test]
fn completions_name_the_commands() {
    let directory = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let outcome = moltis(directory.path(), &["completions", shell], &[], "");
        assert_eq!(outcome.code, Some(0), "{shell}");
        assert!(outcome.out.contains("completions"), "{shell}");
    }
}

#[test]
fn without_a_running_process_status_and_reload_say_so() {
    let directory = tempfile::tempdir().unwrap();
    let data = ["--set", "data_dir=data"];
    for command in ["status", "reload"] {
        let arguments = [&[command], &data[..]].concat();
        let outcome = moltis(directory.path(), &arguments, &[], "");
        assert_eq!(outcome.code, Some(1), "{command}");
        let sentence = "No moltis is running with data; start it with `moltis run`";
        assert!(outcome.err.starts_with(sentence), "{}", outcome.err);
    }
}
