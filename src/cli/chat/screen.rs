//! The terminal: what is shown while an answer grows, and what remains of it.

use std::io::{IsTerminal, Write};

use unicode_width::UnicodeWidthChar;

/// Where the answers go.
pub(super) enum Screen {
    /// A terminal: the last text is drawn again when it changes.
    Live {
        /// Rows that the text on the screen takes, the cursor on the last.
        rows: usize,
        columns: usize,
    },
    /// A pipe or a file: whole answers alone.
    Plain,
}

/// What a terminal would obey rather than show; model output and strangers' texts are data.
fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// How many rows a text takes.
fn rows(text: &str, columns: usize) -> usize {
    let columns = columns.max(1);
    let rows = text.split('\n').map(|line| {
        let mut rows: usize = 1;
        let mut column: usize = 0;
        for width in line
            .chars()
            .map(|c| if c == '\t' { 8 } else { c.width().unwrap_or(0) })
        {
            if column.saturating_add(width) > columns {
                rows = rows.saturating_add(1);
                column = 0;
            }
            column = column.saturating_add(width);
        }
        rows
    });
    rows.sum()
}

impl Screen {
    pub(super) fn new() -> Self {
        if std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
            Self::Live {
                rows: 0,
                columns: width(),
            }
        } else {
            Self::Plain
        }
    }

    pub(super) fn is_live(&self) -> bool {
        matches!(self, Self::Live { .. })
    }

    /// Draws the text in place of what was drawn before.
    pub(super) fn draw(&mut self, text: &str) {
        let Self::Live {
            rows: drawn,
            columns,
        } = self
        else {
            return;
        };
        let text = harmless(text);
        let mut out = erase(*drawn);
        out.push_str(&text);
        *drawn = rows(&text, *columns);
        print(&out);
    }

    /// What was drawn stays; the next text begins below it.
    pub(super) fn settle(&mut self) {
        if let Self::Live { rows, columns } = self {
            if *rows > 0 {
                print("\n");
            }
            *rows = 0;
            *columns = width();
        }
    }

    /// A whole answer for a pipe; on a terminal it has been drawn.
    pub(super) fn whole(&self, text: &str) {
        if matches!(self, Self::Plain) {
            super::say(text);
        }
    }
}

/// Back to the first column of the first of these rows, and nothing below.
fn erase(rows: usize) -> String {
    match rows {
        0 => String::new(),
        1 => "\r\u{1b}[J".to_owned(),
        rows => format!("\r\u{1b}[{}A\u{1b}[J", rows.saturating_sub(1)),
    }
}

fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    // A terminal that is gone ends the input as well.
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .ok();
}

fn width() -> usize {
    #[cfg(unix)]
    if let Ok(size) = rustix::termios::tcgetwinsize(std::io::stdout())
        && size.ws_col > 0
    {
        return usize::from(size.ws_col);
    }
    80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_as_a_terminal_wraps() {
        for (text, columns, expected) in [
            ("", 10, 1),
            ("abc", 10, 1),
            ("0123456789", 10, 1),
            ("0123456789a", 10, 2),
            ("a\nb", 10, 2),
            ("漢漢漢漢漢漢", 10, 2),
        ] {
            assert_eq!(rows(text, columns), expected, "{text:?}");
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown_as_nothing() {
        assert_eq!(harmless("a\u{1b}[2Jb\nc\u{9b}"), "a\u{fffd}[2Jb\nc\u{fffd}");
    }

    #[test]
    fn a_text_is_drawn_over_the_one_before() {
        assert_eq!(erase(0), "");
        assert_eq!(erase(1), "\r\u{1b}[J");
        assert_eq!(erase(3), "\r\u{1b}[2A\u{1b}[J");
    }
}
