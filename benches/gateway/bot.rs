//! The binary under test: its configuration, its process, and what the kernel says of it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_moltis");
/// The kernel counts CPU time in hundredths of a second, whatever its own clock is.
const TICK: Duration = Duration::from_millis(10);

/// A data directory with a configuration in it, gone when it is dropped.
pub(super) struct Home {
    dir: TempDir,
}

impl Home {
    /// `server` and `model`: ports. All keys that are not here are at their defaults.
    pub(super) fn new(parent: &Path, server: u16, model: u16, authority: &str) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("moltis-bench-")
            .tempdir_in(parent)
            .with_context(|| format!("Failed to make a directory in {}", parent.display()))?;
        fs::write(dir.path().join("ca.pem"), authority)?;
        let http = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let configuration = format!(
            r#"data_dir = "data"
[server]
port = {http}
[chat]
model = "bench/bench"
max_concurrent_turns = 1000     # answers overlap; a place to wait is not what is measured
[budget]
turns_per_jid_per_minute = 0
[providers.bench]
base_url = "http://127.0.0.1:{model}/v1"
models = ["bench"]
[channels.xmpp.bench]
jid = "{account}"
password = "{password}"
server = "127.0.0.1:{server}"
direct_tls = true
tls_ca_file = "ca.pem"
dm_policy = "open"
"#,
            account = super::xmpp::ACCOUNT,
            password = super::xmpp::PASSWORD,
        );
        fs::write(dir.path().join("moltis.toml"), configuration)?;
        Ok(Self { dir })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// The last lines of the log, for a failure.
    pub(super) fn last_words(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(15).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// The binary with this configuration and nothing of our environment, whose proxies and keys are not meant for it.
    fn command(&self) -> Command {
        let mut command = Command::new(BINARY);
        command.env_clear().env("HOME", self.path());
        command.current_dir(self.path()).stdin(Stdio::null());
        command
    }

    pub(super) fn start(&self) -> Result<Bot> {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log())?;
        let mut command = self.command();
        command.stdout(log.try_clone()?).stderr(log);
        let started = Instant::now();
        let child = command.spawn().context("Failed to start moltis")?;
        Ok(Bot { child, started })
    }

    /// How many conversations the running process has open.
    pub(super) fn open_conversations(&self) -> Result<u64> {
        let output = self.command().args(["status", "--json"]).output()?;
        let status: serde_json::Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("moltis status: {}", output.status))?;
        status
            .pointer("/conversations/open")
            .and_then(serde_json::Value::as_u64)
            .context("moltis status counts no conversations")
    }
}

/// A running process; it does not outlive this.
pub(super) struct Bot {
    child: Child,
    pub(super) started: Instant,
}

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Memory {
    pub(super) all: u64,
    /// Without what is mapped from the binary.
    pub(super) own: u64,
}

impl Bot {
    fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).with_context(|| format!("Failed to read {path}"))
    }

    pub(super) fn memory(&self) -> Result<Memory> {
        let status = self.proc("status")?;
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok())
                .map(|kibibytes| kibibytes * 1024)
                .with_context(|| format!("No {name}"))
        };
        Ok(Memory {
            all: field("VmRSS")?,
            own: field("RssAnon")?,
        })
    }

    /// User and system time so far.
    pub(super) fn cpu(&self) -> Result<Duration> {
        let stat = self.proc("stat")?;
        // proc(5): the second field is the name in parentheses, utime and stime are the 14th and the 15th.
        let (_, fields) = stat.rsplit_once(')').context("No fields in stat")?;
        let ticks = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(str::parse::<u32>)
            .sum::<Result<u32, _>>()?;
        Ok(TICK * ticks)
    }

    /// SIGTERM, as a service manager would; how long the end took.
    pub(super) async fn stop(mut self) -> Result<(ExitStatus, Duration)> {
        let asked = Instant::now();
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status()?;
        while asked.elapsed() < Duration::from_secs(10) {
            if let Some(status) = self.child.try_wait()? {
                return Ok((status, asked.elapsed()));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        bail!("It did not end on SIGTERM")
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        // Both fail where it has ended, which is what is wanted.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
