//! Named tasks that end in order. Everything long-lived runs under one [`Supervisor`]: a task has a name, a phase and a
//! stop token; the phases end one after the other, each with a deadline, and the first failure ends the process with
//! the task's name. [`Backoff`] is the one way to wait before trying again.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use futures::FutureExt;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;
pub use tokio_util::sync::CancellationToken as Stop;
use tracing::{Instrument, debug, error, info_span, warn};

/// In which order tasks end: nothing new comes in, then what is under way finishes, then the store closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// What lets work in: configuration watch, control socket, HTTP.
    Listeners,
    /// What does the work: conversations, then their accounts.
    Conversations,
    Sessions,
    /// The embedded server's streams, over which the others have just said good-bye.
    Streams,
    /// What keeps the work.
    Storage,
}

impl Phase {
    const ALL: [Self; 5] = [
        Self::Listeners,
        Self::Conversations,
        Self::Sessions,
        Self::Streams,
        Self::Storage,
    ];

    /// How long the tasks of this phase may take to end before they are aborted. Their sum stays under five seconds.
    const fn deadline(self) -> Duration {
        match self {
            Self::Listeners | Self::Streams | Self::Storage => Duration::from_millis(500),
            Self::Conversations | Self::Sessions => Duration::from_millis(1_500),
        }
    }
}

type Outcome = (String, Result<()>);

/// Spawns, watches and ends the tasks of the process. A handle: clones share the tasks.
#[derive(Clone, Debug, Default)]
pub struct Supervisor(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    phases: [Tasks; 5],
    failed: tokio::sync::Notify,
    failure: Mutex<Option<anyhow::Error>>,
}

#[derive(Debug, Default)]
struct Tasks {
    stop: Stop,
    set: Mutex<JoinSet<Outcome>>,
}

impl Supervisor {
    pub fn new() -> Self {
        Self::default()
    }

    fn tasks(&self, phase: Phase) -> &Tasks {
        let [listeners, conversations, sessions, streams, storage] = &self.0.phases;
        match phase {
            Phase::Listeners => listeners,
            Phase::Conversations => conversations,
            Phase::Sessions => sessions,
            Phase::Streams => streams,
            Phase::Storage => storage,
        }
    }

    /// The token that ends this phase's tasks.
    pub fn stop_token(&self, phase: Phase) -> Stop {
        self.tasks(phase).stop.clone()
    }

    /// Runs a task until it ends or its phase does. A task that returns an error or panics ends the process.
    pub fn spawn<F, T>(&self, phase: Phase, name: impl Into<String>, task: F)
    where
        F: FnOnce(Stop) -> T,
        T: Future<Output = Result<()>> + Send + 'static,
    {
        let name = name.into();
        let tasks = self.tasks(phase);
        let span = info_span!("task", name = %name);
        let future = task(tasks.stop.child_token()).instrument(span);
        let inner = Arc::clone(&self.0);
        let mut set = tasks.set.lock().unwrap_or_else(PoisonError::into_inner);
        // Finished tasks are reaped here, so that a long-lived process does not collect them.
        while let Some(done) = set.try_join_next() {
            if let Ok((name, Ok(()))) = done {
                debug!(%name, "Task ended");
            }
        }
        set.spawn(async move {
            let mut watch = Watch {
                name: Some(name),
                inner,
            };
            let outcome = future.await;
            watch.finished(outcome)
        });
    }

    /// Waits until a task has failed, and returns why.
    pub async fn failed(&self) -> anyhow::Error {
        loop {
            let notified = self.0.failed.notified();
            if let Some(failure) = self
                .0
                .failure
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take()
            {
                return failure;
            }
            notified.await;
        }
    }

    /// Ends everything at once, without a word, as a crash would: for tests.
    #[cfg(test)]
    pub(crate) async fn abort(&self) {
        for tasks in &self.0.phases {
            let mut set =
                std::mem::take(&mut *tasks.set.lock().unwrap_or_else(PoisonError::into_inner));
            set.shutdown().await;
        }
    }

    /// Ends the phases in order. What does not end by its deadline is aborted and named in the log.
    pub async fn shut_down(&self) {
        for phase in Phase::ALL {
            let tasks = self.tasks(phase);
            tasks.stop.cancel();
            let mut set =
                std::mem::take(&mut *tasks.set.lock().unwrap_or_else(PoisonError::into_inner));
            let deadline = Instant::now() + phase.deadline();
            loop {
                match tokio::time::timeout_at(deadline, set.join_next()).await {
                    Ok(None) => break,
                    Ok(Some(_)) => {}
                    Err(_elapsed) => {
                        warn!(
                            ?phase,
                            left = set.len(),
                            "Tasks did not end in time and are aborted"
                        );
                        set.shutdown().await;
                        break;
                    }
                }
            }
        }
    }
}

/// Runs what fails alone: a panic is in the log and ends nothing else. `None`: it panicked.
pub async fn contain<T>(what: &str, work: impl Future<Output = T>) -> Option<T> {
    let done = AssertUnwindSafe(work).catch_unwind().await;
    done.inspect_err(|_panic| error!("{what} panicked; this is a fault in moltis"))
        .ok()
}

/// Works on where whoever waits for it goes away: for what must not end halfway. `None`: it panicked, or the process ends.
pub async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let (tell, told) = oneshot::channel();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        // Nobody waits any more: then nobody is told.
        tell.send(contain("Work to the end", work).await).ok();
    });
    tasks.detach_all();
    told.await.ok().flatten()
}

/// Notices a panic too: it is dropped without having finished.
struct Watch {
    name: Option<String>,
    inner: Arc<Inner>,
}

impl Watch {
    fn finished(&mut self, outcome: Result<()>) -> Outcome {
        let name = self.name.take().unwrap_or_default();
        if let Err(err) = &outcome {
            self.fail(anyhow::anyhow!("Task {name} failed: {err:#}"));
        }
        (name, outcome)
    }

    fn fail(&self, failure: anyhow::Error) {
        error!("{failure:#}");
        self.inner
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(failure);
        self.inner.failed.notify_one();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(name) = self.name.take()
            && std::thread::panicking()
        {
            self.fail(anyhow::anyhow!("Task {name} panicked"));
        }
    }
}

/// Exponential back-off with full jitter: each delay is drawn from zero to a ceiling that doubles from `first` to `most`.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    attempt: u32,
}

impl Backoff {
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            attempt: 0,
        }
    }

    /// The ceiling of the next delay.
    pub fn ceiling(&self) -> Duration {
        self.first
            .saturating_mul(2_u32.saturating_pow(self.attempt))
            .min(self.most)
    }

    /// How long to wait now. Never under a tenth of the first delay, so that a refusal is not answered by a storm.
    pub fn next_delay(&mut self) -> Duration {
        let ceiling = self.ceiling();
        self.attempt = self.attempt.saturating_add(1).min(30);
        ceiling.mul_f64(rand::random::<f64>()).max(self.first / 10)
    }

    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_at_most_its_ceiling_which_doubles_up_to_the_most() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(5));
        let mut ceilings = Vec::new();
        for _ in 0..12 {
            let ceiling = backoff.ceiling();
            assert!(backoff.next_delay() <= ceiling);
            ceilings.push(ceiling.as_secs());
        }
        assert_eq!(ceilings, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        backoff.reset();
        assert_eq!(backoff.ceiling(), Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_failed_task_is_reported_by_name() {
        let supervisor = Supervisor::new();
        supervisor.spawn(Phase::Sessions, "account/x", |_| async {
            anyhow::bail!("Out of luck")
        });
        let failure = supervisor.failed().await;
        assert_eq!(failure.to_string(), "Task account/x failed: Out of luck");
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_too() {
        let supervisor = Supervisor::new();
        supervisor.spawn(Phase::Sessions, "account/y", |_| async { panic!("boom") });
        assert_eq!(
            supervisor.failed().await.to_string(),
            "Task account/y panicked"
        );
    }

    #[tokio::test]
    async fn what_must_not_end_halfway_goes_on_where_nobody_waits() {
        let (go, gate) = oneshot::channel::<()>();
        let (done, ended) = oneshot::channel();
        let work = to_the_end(async move {
            gate.await.unwrap();
            done.send(()).unwrap();
        });
        assert!(work.now_or_never().is_none());
        go.send(()).unwrap();
        ended.await.unwrap();
        assert_eq!(to_the_end(async { 1 }).await, Some(1));
        assert_eq!(to_the_end(async { panic!("boom") }).await, None::<()>);
    }

    #[tokio::test]
    async fn what_fails_alone_takes_nobody_along() {
        assert_eq!(contain("x", async { 1 }).await, Some(1));
        let panics = contain("x", async { panic!("boom") });
        let supervisor = Supervisor::new();
        let (reply, outcome) = oneshot::channel::<Option<()>>();
        supervisor.spawn(Phase::Sessions, "account/z", |_| async move {
            reply.send(panics.await).unwrap();
            Ok(())
        });
        assert_eq!(outcome.await, Ok(None));
        supervisor.shut_down().await;
        assert!(supervisor.0.failure.lock().unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn phases_end_in_order_and_a_stuck_task_is_aborted() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let supervisor = Supervisor::new();
        for (phase, name) in [
            (Phase::Storage, "storage"),
            (Phase::Listeners, "listener"),
            (Phase::Sessions, "session"),
        ] {
            let order = Arc::clone(&order);
            supervisor.spawn(phase, name, |stop| async move {
                stop.cancelled().await;
                order.lock().unwrap().push(name);
                Ok(())
            });
        }
        supervisor.spawn(Phase::Listeners, "stuck", |_| std::future::pending());
        supervisor.shut_down().await;
        assert_eq!(*order.lock().unwrap(), ["listener", "session", "storage"]);
    }
}
