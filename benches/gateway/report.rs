//! The numbers, for people and for machines.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::bot::Memory;

/// What issue 2 aims at.
mod aim {
    use std::time::Duration;

    pub(super) const ADDED: Duration = Duration::from_millis(2);
    pub(super) const MEMORY: u64 = 40_000_000;
    pub(super) const START: Duration = Duration::from_millis(200);
}

#[derive(Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    /// Appending 4 KiB and syncing, without us.
    pub(super) sync: Latencies,
    pub(super) starts: Starts,
    /// One at a time.
    pub(super) single: Turns,
    pub(super) load: Load,
}

#[derive(Serialize)]
pub(super) struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
    /// Of the last minute: others on this machine are in every number.
    load_average: String,
    data_dir: PathBuf,
    profile: &'static str,
}

impl Machine {
    pub(super) fn read(data_dir: &Path) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let processor = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map(|(_, name)| name.trim().to_owned());
        Self {
            processor: processor.unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_average: read("/proc/loadavg")
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_owned(),
            data_dir: data_dir.to_owned(),
            profile: if cfg!(debug_assertions) {
                "dev"
            } else {
                "release"
            },
        }
    }
}

#[derive(Serialize)]
pub(super) struct Starts {
    /// Without a database.
    #[serde(serialize_with = "milliseconds")]
    pub(super) first: Duration,
    pub(super) later: Latencies,
    /// From SIGTERM.
    pub(super) ends: Latencies,
}

/// What is added to a model's time.
#[derive(Serialize)]
pub(super) struct Turns {
    /// The message's stanza written → the whole request received.
    pub(super) to_model: Latencies,
    /// The first delta written → the first stanza with text received.
    pub(super) first_text: Latencies,
    /// The end of the model's stream written → the stanza with the whole text received.
    pub(super) whole_text: Latencies,
}

#[derive(Serialize)]
pub(super) struct Load {
    pub(super) conversations: u64,
    pub(super) per_second: u32,
    pub(super) turns: Turns,
    /// Answers more than a second behind their model's end.
    pub(super) late: usize,
    pub(super) resources: Resources,
}

#[derive(Serialize)]
pub(super) struct Resources {
    /// Online, no conversation yet.
    pub(super) empty: Memory,
    /// All conversations open and idle.
    pub(super) open: Memory,
    /// The most that was seen under load.
    pub(super) during: Memory,
    pub(super) after: Memory,
    #[serde(serialize_with = "milliseconds")]
    pub(super) cpu_per_turn: Duration,
    /// Of one core, while the turns came.
    pub(super) cores: f64,
}

impl Memory {
    pub(super) fn most(a: Self, b: Self) -> Self {
        if a.all >= b.all { a } else { b }
    }
}

/// In milliseconds.
#[derive(Serialize)]
pub(super) struct Latencies {
    count: usize,
    #[serde(serialize_with = "milliseconds")]
    p50: Duration,
    #[serde(serialize_with = "milliseconds")]
    p99: Duration,
    #[serde(serialize_with = "milliseconds")]
    max: Duration,
}

impl Latencies {
    pub(super) fn of(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut times: Vec<Duration> = times.into_iter().collect();
        times.sort_unstable();
        // Nearest rank: a time that was measured, the least that so many percent do not exceed.
        let rank = |percent: usize| {
            let position = (times.len() * percent).div_ceil(100).saturating_sub(1);
            times.get(position).copied().unwrap_or_default()
        };
        Self {
            count: times.len(),
            p50: rank(50),
            p99: rank(99),
            max: rank(100),
        }
    }
}

fn milliseconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((time.as_secs_f64() * 1e6).round() / 1e3)
}

fn show(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}

impl Display for Latencies {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "p50 {:>8} ms   p99 {:>8} ms   max {:>8} ms   n {}",
            show(self.p50),
            show(self.p99),
            show(self.max),
            self.count
        )
    }
}

impl Display for Memory {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let megabytes = |bytes: u64| format!("{}.{}", bytes / 1_000_000, bytes / 100_000 % 10);
        write!(
            f,
            "{:>6} MB, of which {:>6} MB are not mapped from the binary",
            megabytes(self.all),
            megabytes(self.own)
        )
    }
}

impl Display for Turns {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "  stanza in → request out         {}", self.to_model)?;
        writeln!(f, "  first delta in → stanza out     {}", self.first_text)?;
        write!(f, "  end of stream in → whole text   {}", self.whole_text)
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let machine = &self.machine;
        writeln!(
            f,
            "{}, {} cores, Linux {}, load average {}, {} profile\ndata in {}",
            machine.processor,
            machine.cores,
            machine.kernel,
            machine.load_average,
            machine.profile,
            machine.data_dir.display()
        )?;
        writeln!(f, "  4 KiB to its disk, synced       {}", self.sync)?;
        writeln!(f, "\nStart to online")?;
        writeln!(
            f,
            "  without a database              {:>12} ms",
            show(self.starts.first)
        )?;
        writeln!(f, "  with one                        {}", self.starts.later)?;
        writeln!(f, "  SIGTERM to the end              {}", self.starts.ends)?;
        writeln!(f, "\nAdded to a turn, one at a time\n{}", self.single)?;
        let load = &self.load;
        writeln!(
            f,
            "\nAdded to a turn, {} a second in {} open conversations\n{}",
            load.per_second, load.conversations, load.turns
        )?;
        writeln!(f, "  more than a second late         {}", load.late)?;
        let resources = &load.resources;
        writeln!(f, "\nMemory")?;
        writeln!(f, "  online                          {}", resources.empty)?;
        writeln!(
            f,
            "  {:>5} conversations open         {}",
            load.conversations, resources.open
        )?;
        writeln!(f, "  under load                      {}", resources.during)?;
        writeln!(f, "  after                           {}", resources.after)?;
        writeln!(
            f,
            "\nCPU under load: {} ms a turn, {:.1} % of a core",
            show(resources.cpu_per_turn),
            resources.cores * 100.0
        )?;
        write!(f, "\nAims: {}", self.aims())
    }
}

impl Report {
    fn aims(&self) -> String {
        let aims = [
            (
                "request out under 2 ms (p99)",
                self.single.to_model.p99 < aim::ADDED,
            ),
            (
                "text out under 2 ms (p99)",
                self.single.first_text.p99 < aim::ADDED,
            ),
            (
                "online under 200 ms",
                self.starts.later.p99.max(self.starts.first) < aim::START,
            ),
            (
                "open conversations under 40 MB",
                self.load.resources.open.all < aim::MEMORY,
            ),
            ("nothing late", self.load.late == 0),
        ];
        let aims = aims.map(|(aim, met)| format!("{} {aim}", if met { "met:" } else { "MISSED:" }));
        aims.join("; ")
    }
}
