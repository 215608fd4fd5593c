//! The measurements, one after the other.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::bot::{Bot, Home, Memory};
use super::disk::Disk;
use super::model::{Model, Pace};
use super::report::{Latencies, Load, Report, Resources, Starts};
use super::turns::{Turn, Turns};
use super::xmpp::{Server, Session};

/// How much of everything.
pub(super) struct Scale {
    starts: usize,
    /// One after the other.
    single_turns: usize,
    single_people: usize,
    conversations: usize,
    openings_per_second: u32,
    turns_per_second: u32,
    seconds: u32,
}

pub(super) const FULL: Scale = Scale {
    starts: 11,
    single_turns: 600,
    single_people: 60,
    conversations: 1_000,
    openings_per_second: 100,
    turns_per_second: 50,
    seconds: 20,
};

pub(super) const QUICK: Scale = Scale {
    starts: 2,
    single_turns: 20,
    single_people: 5,
    conversations: 50,
    openings_per_second: 50,
    turns_per_second: 20,
    seconds: 2,
};

/// Soon over: what is measured is at the edges.
const BRIEF: Pace = Pace {
    thinks: Duration::from_millis(8),
    pieces: 2,
    gap: Duration::from_millis(4),
};
/// A second a turn, as of a fast model; at 50 turns a second 50 of them overlap.
const USUAL: Pace = Pace {
    thinks: Duration::from_millis(300),
    pieces: 15,
    gap: Duration::from_millis(50),
};
/// What is not there after this is missing.
const PATIENCE: Duration = Duration::from_secs(15);
/// In which a second answer to the last message would show.
const AFTERMATH: Duration = Duration::from_millis(500);

/// What all phases use.
struct Bench<'a> {
    scale: &'a Scale,
    data_dir: &'a Path,
    turns: Turns,
    server: Server,
    model: Model,
}

pub(super) async fn run(scale: &Scale, data_dir: &Path) -> Result<Report> {
    let turns = Turns::default();
    let mut bench = Bench {
        scale,
        data_dir,
        server: Server::start(turns.clone()).await?,
        model: Model::start(turns.clone(), BRIEF).await?,
        turns,
    };
    let starts = bench.starts().await?;
    let (single, sync) = bench.single().await?;
    Ok(Report {
        machine: super::report::Machine::read(data_dir),
        starts,
        sync,
        single,
        load: bench.load().await?,
    })
}

impl Bench<'_> {
    fn home(&self) -> Result<Home> {
        let server = &self.server;
        Home::new(
            self.data_dir,
            server.port,
            self.model.port,
            &server.authority,
        )
    }

    /// Starts it and waits until it is online.
    async fn online(&mut self, home: &Home) -> Result<(Bot, Session)> {
        let bot = home.start()?;
        match timeout(PATIENCE, self.server.online()).await {
            Ok(session) => Ok((bot, session?)),
            Err(_) => bail!(
                "It did not come online; its log ends:\n{}",
                home.last_words()
            ),
        }
    }

    /// From the start of the process to its presence, again and again; the first time without a database.
    async fn starts(&mut self) -> Result<Starts> {
        let home = self.home()?;
        let mut times = Vec::new();
        let mut ends = Vec::new();
        for _ in 0..self.scale.starts {
            let (bot, session) = self.online(&home).await?;
            times.push(session.since - bot.started);
            // Let it finish what it does after its presence.
            sleep(Duration::from_millis(200)).await;
            let (status, end) = bot.stop().await?;
            ensure!(
                status.success(),
                "It ended with {status}; its log ends:\n{}",
                home.last_words()
            );
            ends.push(end);
        }
        let first = times.first().copied().unwrap_or_default();
        Ok(Starts {
            first,
            later: Latencies::of(times.into_iter().skip(1)),
            ends: Latencies::of(ends),
        })
    }

    /// One turn at a time: what is added when there is nothing to wait for. In between the disk alone, at the same moments.
    async fn single(&mut self) -> Result<(super::report::Turns, Latencies)> {
        self.model.set_pace(BRIEF);
        let home = self.home()?;
        let (_bot, session) = self.online(&home).await?;
        sleep(Duration::from_millis(500)).await;
        let first = self.turns.begin_at();
        let mut disk = Disk::new(home.path())?;
        let mut syncs = Vec::new();
        for round in 0..self.scale.single_turns {
            let turn = self.turns.begin();
            let person = format!("single{}", round % self.scale.single_people);
            session.ask(&person, turn)?;
            self.turns.settle(turn, PATIENCE).await;
            // The leftovers of a turn, such as acknowledgements, are not the next one's.
            sleep(Duration::from_millis(15)).await;
            syncs.push(disk.sync()?);
        }
        sleep(AFTERMATH).await;
        let turns = self.checked(first, &home)?;
        Ok((turns_report(&turns), Latencies::of(syncs)))
    }

    /// Many open conversations, then many turns a second.
    async fn load(&mut self) -> Result<Load> {
        self.model.set_pace(BRIEF);
        let home = self.home()?;
        let (bot, session) = self.online(&home).await?;
        sleep(Duration::from_millis(500)).await;
        let scale = self.scale;
        let empty = bot.memory()?;
        let opening = self.turns.begin_at();
        let count = scale.conversations;
        self.ask(&session, count, scale.openings_per_second).await?;
        self.turns.settle(opening, PATIENCE).await;
        sleep(AFTERMATH).await;
        self.checked(opening, &home)?;
        let open = bot.memory()?;
        let conversations = home.open_conversations()?;
        ensure!(
            usize::try_from(conversations)? == count,
            "{conversations} conversations are open instead of {count}"
        );
        self.model.set_pace(USUAL);
        let first = self.turns.begin_at();
        let before = (bot.cpu()?, Instant::now());
        let count = usize::try_from(scale.turns_per_second * scale.seconds)?;
        self.ask(&session, count, scale.turns_per_second).await?;
        let mut during = bot.memory()?;
        self.turns.settle(first, PATIENCE).await;
        sleep(AFTERMATH).await;
        let (cpu, time) = (bot.cpu()?.saturating_sub(before.0), before.1.elapsed());
        let after = bot.memory()?;
        during = Memory::most(during, after);
        let turns = self.checked(first, &home)?;
        let (status, _) = bot.stop().await?;
        ensure!(status.success(), "It ended with {status}");
        Ok(Load {
            conversations,
            turns: turns_report(&turns),
            per_second: scale.turns_per_second,
            late: turns.iter().filter(|turn| is_late(turn)).count(),
            resources: Resources {
                empty,
                open,
                during,
                after,
                cpu_per_turn: cpu / u32::try_from(count)?,
                cores: cpu.as_secs_f64() / time.as_secs_f64(),
            },
        })
    }

    /// So many people write, one after the other at a rate.
    async fn ask(&self, session: &Session, count: usize, per_second: u32) -> Result<()> {
        let mut tick = interval(Duration::from_secs(1) / per_second);
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for person in 0..count {
            tick.tick().await;
            let person = person % self.scale.conversations;
            session.ask(&format!("person{person}"), self.turns.begin())?;
        }
        Ok(())
    }

    fn checked(&self, first: usize, home: &Home) -> Result<Vec<Turn>> {
        self.turns
            .checked(first)
            .with_context(|| format!("The log ends:\n{}", home.last_words()))
    }
}

fn is_late(turn: &Turn) -> bool {
    const LATE: Duration = Duration::from_secs(1);
    between(turn.ended, turn.answered).is_none_or(|time| time > LATE)
}

fn between(from: Option<Instant>, to: Option<Instant>) -> Option<Duration> {
    Some(to?.saturating_duration_since(from?))
}

fn turns_report(turns: &[Turn]) -> super::report::Turns {
    let of = |from: fn(&Turn) -> Option<Instant>, to: fn(&Turn) -> Option<Instant>| {
        Latencies::of(
            turns
                .iter()
                .filter_map(|turn| between(from(turn), to(turn))),
        )
    };
    super::report::Turns {
        to_model: of(|turn| turn.written, |turn| turn.asked),
        first_text: of(|turn| turn.began, |turn| turn.shown),
        whole_text: of(|turn| turn.ended, |turn| turn.answered),
    }
}
