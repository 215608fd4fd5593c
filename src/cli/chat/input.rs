//! Where lines come from: an editor on a terminal, in a thread of its own as it blocks; else standard input.

use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result};
use rustyline::error::ReadlineError;
use rustyline::{DefaultEditor, ExternalPrinter};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};
use tokio::sync::mpsc;

/// What the person has entered.
pub(super) enum Line {
    Text(String),
    /// Ctrl-D, or the end of the pipe.
    End,
}

pub(super) enum Input {
    Editor {
        /// Asks for one line.
        wanted: std::sync::mpsc::Sender<()>,
        lines: mpsc::Receiver<Line>,
        asked: bool,
    },
    Pipe(Lines<BufReader<Stdin>>),
}

/// Shows texts that come by themselves: above the line that is being edited, where there is one.
pub(super) struct Above(Option<Mutex<Box<dyn ExternalPrinter + Send>>>);

impl Above {
    pub(super) fn show(&self, text: &str) {
        match &self.0 {
            Some(printer) => {
                if let Ok(mut printer) = printer.lock() {
                    printer.print(format!("{text}\n")).ok(); // A terminal that is gone ends the input too.
                }
            }
            None => super::say(text),
        }
    }
}

impl Input {
    pub(super) fn start(is_terminal: bool, history: &Path) -> Result<(Self, Above)> {
        if !is_terminal {
            let lines = BufReader::new(tokio::io::stdin()).lines();
            return Ok((Self::Pipe(lines), Above(None)));
        }
        let mut editor = DefaultEditor::new().context("Failed to edit lines on this terminal")?;
        let history = super::history(history).map(Path::to_owned);
        if let Some(history) = &history {
            editor.load_history(history).ok(); // There is none the first time.
        }
        let above = editor
            .create_external_printer()
            .context("Failed to print on this terminal")?;
        let (wanted, asked) = std::sync::mpsc::channel::<()>();
        let (sender, lines) = mpsc::channel(1);
        let edit = move || {
            while asked.recv().is_ok() {
                let line = match editor.readline("> ") {
                    Ok(text) => {
                        editor.add_history_entry(text.as_str()).ok(); // It is not offered again, then.
                        Line::Text(text)
                    }
                    // Ctrl-C drops the line that was begun.
                    Err(ReadlineError::Interrupted) => Line::Text(String::new()),
                    Err(_) => Line::End,
                };
                if let Some(history) = &history {
                    editor.save_history(history).ok(); // The next chat does without.
                }
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("editor".to_owned())
            .spawn(edit)
            .context("Failed to start a thread")?;
        let input = Self::Editor {
            wanted,
            lines,
            asked: false,
        };
        Ok((input, Above(Some(Mutex::new(Box::new(above))))))
    }

    /// Shows the prompt, where there is one and it is not there yet.
    pub(super) fn ask(&mut self) {
        if let Self::Editor { wanted, asked, .. } = self
            && !std::mem::replace(asked, true)
        {
            wanted.send(()).ok(); // The editor has ended, which `next` will tell.
        }
    }

    pub(super) async fn next(&mut self) -> Line {
        match self {
            Self::Editor { lines, asked, .. } => {
                let line = lines.recv().await.unwrap_or(Line::End);
                *asked = false;
                line
            }
            Self::Pipe(lines) => match lines.next_line().await {
                Ok(Some(text)) => Line::Text(text),
                Ok(None) | Err(_) => Line::End,
            },
        }
    }
}
