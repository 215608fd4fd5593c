//! CommonMark, which models write, to XEP-0393 Message Styling, which clients show.
//!
//! A receiver styles `*`, `_`, `~` and `` ` `` only after white space or at the start of a line, and only within a line.
//! Where a span of ours could not be seen under that rule it is left plain, and where a character that the model meant
//! literally would be taken for a span, a WORD JOINER before it keeps it text.

mod inline;
mod table;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use inline::{Inline, Piece};
use table::Table;

/// More levels of quotes and lists than this are not shown: each costs its prefix on every line, and the text decides
/// how many there are.
const MAX_DEPTH: usize = 8;

/// The text of a message, of what [`super::clean`] has left. Never fails, also on a part of a text that is still being
/// written: an open fence is closed.
pub fn render(markdown: &str, styling: bool) -> String {
    if styling {
        let mut writer = Writer::default();
        let options = Options::ENABLE_TABLES
            | Options::ENABLE_STRIKETHROUGH
            | Options::ENABLE_TASKLISTS
            | Options::ENABLE_FOOTNOTES;
        for event in Parser::new_ext(markdown, options) {
            writer.event(event);
        }
        writer.finish()
    } else {
        markdown.trim().to_owned()
    }
}

#[derive(Debug)]
enum Container {
    Quote,
    List {
        next: Option<u64>,
    },
    /// A list item or a footnote: the marker goes before its first line, and its width before the others.
    Item {
        marker: String,
        written: bool,
    },
}

#[derive(Default)]
struct Writer {
    out: String,
    containers: Vec<Container>,
    inline: Inline,
    /// No block was written in this container yet, so that none has to be set apart from it.
    fresh: bool,
    code: Option<(String, String)>,
    table: Option<Table>,
    /// URLs of the links and images that are open, with the number of pieces before their text.
    links: Vec<(String, usize)>,
}

impl Writer {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => match &mut self.code
            {
                Some((_, code)) => code.push_str(&text),
                None => self.inline.text(&text),
            },
            Event::Code(code) | Event::InlineMath(code) | Event::DisplayMath(code) => {
                self.inline.push(Piece::Code(code.into_string()));
            }
            Event::FootnoteReference(name) => self.inline.text(&format!("[{name}]")),
            Event::SoftBreak | Event::HardBreak => self.inline.push(Piece::Break),
            Event::Rule => {
                self.flush();
                self.begin_block();
                self.line("---");
            }
            Event::TaskListMarker(done) => self.inline.text(if done { "[x] " } else { "[ ] " }),
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Emphasis => self.inline.push(Piece::Open('_')),
            Tag::Strong => self.inline.push(Piece::Open('*')),
            Tag::Strikethrough => self.inline.push(Piece::Open('~')),
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => {
                self.inline.push(Piece::Link);
                self.links.push((dest_url.into_string(), self.inline.len()));
            }
            Tag::Heading { .. } => {
                self.flush();
                self.inline.push(Piece::Open('*'));
            }
            Tag::BlockQuote(_) => {
                self.flush();
                self.begin_block();
                self.enter(Container::Quote);
            }
            Tag::List(next) => {
                self.flush();
                self.begin_block();
                self.enter(Container::List { next });
            }
            Tag::Item => {
                self.flush();
                let marker = self.next_marker();
                self.enter(Container::Item {
                    marker,
                    written: false,
                });
            }
            Tag::FootnoteDefinition(name) => {
                self.flush();
                self.begin_block();
                self.enter(Container::Item {
                    marker: format!("[{name}] "),
                    written: false,
                });
            }
            Tag::CodeBlock(kind) => {
                self.flush();
                let info = match kind {
                    CodeBlockKind::Fenced(info) => info.into_string(),
                    CodeBlockKind::Indented => String::new(),
                };
                self.code = Some((info, String::new()));
            }
            Tag::Table(alignments) => {
                self.flush();
                self.table = Some(Table::new(alignments));
            }
            Tag::TableHead | Tag::TableRow => {
                if let Some(table) = &mut self.table {
                    table.begin_row();
                }
            }
            // The rest are paragraphs, or blocks that the options above leave out.
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Emphasis => self.inline.push(Piece::Close('_')),
            TagEnd::Strong => self.inline.push(Piece::Close('*')),
            TagEnd::Strikethrough => self.inline.push(Piece::Close('~')),
            TagEnd::Link | TagEnd::Image => self.end_link(),
            TagEnd::Heading(_) => {
                self.inline.push(Piece::Close('*'));
                self.flush();
            }
            TagEnd::BlockQuote(_) | TagEnd::List(_) => {
                self.flush();
                self.containers.pop();
                self.fresh = false;
            }
            TagEnd::Item | TagEnd::FootnoteDefinition => {
                self.flush();
                if let Some(Container::Item { written: false, .. }) = self.containers.last() {
                    self.line("");
                }
                self.containers.pop();
                self.fresh = false;
            }
            TagEnd::CodeBlock => self.end_code(),
            TagEnd::TableCell => {
                let cell = self.inline.take_plain();
                if let Some(table) = &mut self.table {
                    table.cell(&cell);
                }
            }
            TagEnd::Table => {
                if let Some(table) = self.table.take() {
                    self.preformatted("", &table.render());
                }
            }
            _ => self.flush(),
        }
    }

    fn end_link(&mut self) {
        let Some((url, start)) = self.links.pop() else {
            return;
        };
        let text = self.inline.plain_from(start);
        let address = url.strip_prefix("mailto:").unwrap_or(&url);
        if text.trim().is_empty() {
            self.inline.text(&url);
        } else if !url.is_empty() && text != url && text != address {
            self.inline.text(&format!(" ({url})"));
        }
    }

    fn end_code(&mut self) {
        if let Some((info, code)) = self.code.take() {
            self.preformatted(&info, &code);
        }
    }

    /// XEP-0393, 5.1.2: the fences stand at the start of a line, or of a quote, so that lists do not indent them.
    fn preformatted(&mut self, info: &str, text: &str) {
        self.begin_block();
        if let Some(Container::Item { written: false, .. }) = self.containers.last() {
            self.line("");
        }
        let quotes = |container: &&Container| matches!(container, Container::Quote);
        let depth = self.containers.iter().filter(quotes).count();
        let prefix = "> ".repeat(depth.min(MAX_DEPTH));
        let info = info.lines().next().unwrap_or_default().trim();
        self.raw_line(&prefix, &format!("```{info}"));
        for line in text.trim_end_matches('\n').split('\n') {
            // A fence inside would end the block.
            let space = if line.starts_with("```") { " " } else { "" };
            self.raw_line(&prefix, &format!("{space}{line}"));
        }
        self.raw_line(&prefix, "```");
        self.fresh = false;
    }

    fn enter(&mut self, container: Container) {
        self.containers.push(container);
        self.fresh = true;
    }

    fn next_marker(&mut self) -> String {
        match self.containers.last_mut() {
            Some(Container::List { next: Some(next) }) => {
                let marker = format!("{next}. ");
                *next = next.saturating_add(1);
                marker
            }
            _ => "- ".to_owned(),
        }
    }

    /// A blank line between blocks; within a list they follow each other.
    fn begin_block(&mut self) {
        let in_item = self
            .containers
            .iter()
            .any(|container| matches!(container, Container::Item { .. }));
        if !self.fresh && !in_item && !self.out.is_empty() {
            self.line("");
        }
    }

    /// Writes out the text gathered so far as a block.
    fn flush(&mut self) {
        if self.inline.len() == 0 {
            return;
        }
        let prefix = self.next_prefix();
        let at_start = prefix.is_empty() || prefix.ends_with("> ");
        let text = self.inline.take(at_start);
        if text.trim().is_empty() {
            return;
        }
        self.begin_block();
        for line in text.split('\n') {
            self.line(line);
        }
        self.fresh = false;
    }

    /// What the next line will start with.
    fn next_prefix(&self) -> String {
        let shown = self
            .containers
            .iter()
            .filter(|container| !matches!(container, Container::List { .. }))
            .take(MAX_DEPTH);
        shown
            .map(|container| match container {
                Container::Quote => "> ".to_owned(),
                Container::List { .. } => String::new(),
                Container::Item {
                    marker,
                    written: false,
                } => marker.clone(),
                Container::Item { marker, .. } => " ".repeat(marker.chars().count().min(8)),
            })
            .collect()
    }

    fn line(&mut self, line: &str) {
        let prefix = self.next_prefix();
        for container in &mut self.containers {
            if let Container::Item { written, .. } = container {
                *written = true;
            }
        }
        self.raw_line(&prefix, line);
    }

    fn raw_line(&mut self, prefix: &str, line: &str) {
        let start = self.out.len();
        self.out.push_str(prefix);
        self.out.push_str(line);
        let end = self.out.trim_end_matches([' ', '\t']).len().max(start);
        self.out.truncate(end);
        self.out.push('\n');
    }

    fn finish(mut self) -> String {
        self.end_code();
        self.flush();
        self.out.trim_matches('\n').to_owned()
    }
}

#[cfg(test)]
mod tests;
