//! The log: a filter that a reload can change, one of three formats, and the last lines kept for `/log`.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use tracing::Level;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::{FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::config::{Log, LogFormat};

/// Lines that `/log` can show.
const KEPT: usize = 500;

/// A handle to the running log.
#[derive(Clone)]
pub struct Logging {
    filter: Option<reload::Handle<EnvFilter, Registry>>,
    recent: Recent,
}

/// The last lines, without colours.
#[derive(Clone, Debug, Default)]
struct Recent(Arc<Mutex<VecDeque<String>>>);

impl Recent {
    fn push(&self, text: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for line in text.lines() {
            if lines.len() >= KEPT {
                lines.pop_front();
            }
            lines.push_back(line.to_owned());
        }
    }
}

impl Write for Recent {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.push(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Recent {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Fields as everywhere, but of a type of its own: a span's fields are kept by the type of their formatter, so that two
/// layers of one type would share them with the colours of the first.
#[derive(Debug, Default)]
struct Plain(DefaultFields);

impl<'writer> FormatFields<'writer> for Plain {
    fn format_fields<R: RecordFields>(
        &self,
        writer: Writer<'writer>,
        fields: R,
    ) -> std::fmt::Result {
        self.0.format_fields(writer, fields)
    }
}

/// Starts the log on standard error. A second start in one process, as in tests, keeps the first.
pub fn start(config: &Log) -> Result<Logging> {
    let (filter, handle) = reload::Layer::new(filter(&config.level)?);
    let recent = Recent::default();
    let coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let output = fmt::layer()
        .with_ansi(coloured)
        .with_writer(std::io::stderr);
    let output = match config.format {
        LogFormat::Pretty => output.with_target(false).boxed(),
        LogFormat::Compact => output.compact().with_target(false).boxed(),
        LogFormat::Json => output.json().boxed(),
    };
    // At trace, tokio-xmpp writes what it sends and receives, passwords of PLAIN included.
    let no_secrets = filter_fn(|event| {
        *event.level() != Level::TRACE || !event.target().starts_with("tokio_xmpp")
    });
    let started = tracing_subscriber::registry()
        .with(filter)
        .with(no_secrets)
        .with(output)
        .with(plain(recent.clone()))
        .try_init();
    Ok(Logging {
        filter: started.is_ok().then_some(handle),
        recent,
    })
}

/// Keeps what `/log` shows.
fn plain<S>(recent: Recent) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span>,
{
    fmt::layer()
        .compact()
        .fmt_fields(Plain::default())
        .with_ansi(false)
        .with_writer(recent)
}

fn filter(level: &str) -> Result<EnvFilter> {
    EnvFilter::try_new(level)
        .with_context(|| format!("log.level {level:?} is not a tracing filter"))
}

impl Logging {
    /// Of a process that logs nothing.
    #[cfg(test)]
    pub(super) fn silent() -> Self {
        Self {
            filter: None,
            recent: Recent::default(),
        }
    }

    /// Takes another `log.level`.
    pub fn set_level(&self, level: &str) -> Result<()> {
        let filter = filter(level)?;
        let Some(handle) = &self.filter else {
            return Ok(());
        };
        handle
            .reload(filter)
            .context("Failed to change the log's level")
    }

    /// The last `count` lines, oldest first.
    pub fn recent(&self, count: usize) -> Vec<String> {
        let lines = self.recent.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines
            .iter()
            .skip(lines.len().saturating_sub(count))
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept() {
        let recent = Recent::default();
        for number in 0..KEPT + 10 {
            recent.push(&format!("line {number}\n"));
        }
        let logging = Logging {
            filter: None,
            recent,
        };
        assert_eq!(
            logging.recent(2),
            [format!("line {}", KEPT + 8), format!("line {}", KEPT + 9)]
        );
        assert_eq!(logging.recent(10_000).len(), KEPT);
    }

    #[test]
    fn spans_in_the_kept_lines_have_no_colours_of_the_other_layer() {
        let recent = Recent::default();
        let coloured = fmt::layer().with_ansi(true).with_writer(std::io::sink);
        let subscriber = tracing_subscriber::registry()
            .with(coloured)
            .with(plain(recent.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info_span!("task", name = "account/bot").in_scope(|| tracing::info!("Online"));
        });
        let lines = recent.0.lock().unwrap().iter().cloned().collect::<String>();
        assert!(lines.contains("Online name=\"account/bot\""), "{lines:?}");
        assert!(!lines.contains('\u{1b}'), "{lines:?}");
    }

    #[test]
    fn a_level_that_is_no_filter_is_refused() {
        assert!(filter("moltis=debug,warn").is_ok());
        assert!(filter("=nonsense=").is_err());
    }
}
