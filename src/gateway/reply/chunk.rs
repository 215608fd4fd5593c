//! A long text to messages of a size that clients and people take: split between paragraphs, else lines, sentences, words,
//! and never inside a grapheme cluster. A code block that is split is closed and opened again, a quote stays one.
//! Linear in the text: no character is looked at more than a fixed number of times.

use unicode_segmentation::UnicodeSegmentation;

/// Smaller limits leave no room for fences, quotes and numbers: then there are none.
const LEAST_DECORATED: usize = 100;
/// What is repeated of a fence's info string and of a quote's prefix.
const MAX_INFO: usize = 32;
const MAX_QUOTE: usize = 16;
const FENCE: &str = "```";

/// The messages, each of at most `limit` grapheme clusters and none of them blank. More than three are numbered.
pub fn split(text: &str, limit: usize) -> Vec<String> {
    let chunks = Splitter::run(text, limit);
    if chunks.len() <= 3 || limit < LEAST_DECORATED {
        return chunks;
    }
    // Twice the number, as the room for the numbers makes the chunks smaller.
    let digits = (2 * chunks.len()).to_string().len();
    let chunks = Splitter::run(text, limit - (2 * digits + "(/)\n".len()));
    let total = chunks.len();
    if total <= 3 {
        // Other places to split made fewer of them.
        return chunks;
    }
    chunks
        .into_iter()
        .enumerate()
        // On a line of its own, so that a quote or a fence still begins one.
        .map(|(index, chunk)| format!("({}/{total})\n{chunk}", index + 1))
        .collect()
}

/// A code block that is open: the line that opens it again, and the one that closes it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fence {
    open: String,
    close: String,
}

impl Fence {
    /// The fence that a line opens.
    fn opened_by(line: &str) -> Option<Self> {
        let (quote, rest) = split_quote(line);
        let info = rest.strip_prefix(FENCE)?.trim();
        let info = if info.graphemes(true).count() > MAX_INFO {
            ""
        } else {
            info
        };
        Some(Self {
            open: format!("{quote}{FENCE}{info}"),
            close: format!("{quote}{FENCE}"),
        })
    }

    /// XEP-0393, 5.1.2: a line that is nothing but the fence; also the end of the quote that it stands in.
    fn is_closed_by(&self, line: &str) -> bool {
        let (quote, rest) = split_quote(line);
        rest.trim_end() == FENCE || (quote.is_empty() && self.close.len() > FENCE.len())
    }
}

/// The `> ` before a line, and the rest of it.
fn split_quote(line: &str) -> (&str, &str) {
    let rest = line.trim_start_matches(['>', ' ']);
    let quote = line.strip_suffix(rest).unwrap_or_default();
    if quote.starts_with('>') && quote.len() <= MAX_QUOTE {
        (quote, rest)
    } else {
        ("", line)
    }
}

/// How good a place is to split; the greatest wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Quality {
    Grapheme,
    Word,
    Sentence,
    Line,
    Paragraph,
}

struct Splitter<'a> {
    rest: &'a str,
    limit: usize,
    /// Whether fences and quotes are repeated.
    decorated: bool,
    /// The code block in which `rest` begins.
    fence: Option<Fence>,
    /// The prefix to repeat, where `rest` begins within a quoted line.
    quote: &'a str,
    chunks: Vec<String>,
}

impl<'a> Splitter<'a> {
    fn run(text: &'a str, limit: usize) -> Vec<String> {
        let mut splitter = Self {
            rest: text,
            limit,
            decorated: limit >= LEAST_DECORATED,
            fence: None,
            quote: "",
            chunks: Vec::new(),
        };
        while !splitter.rest.is_empty() {
            splitter.step();
        }
        splitter.chunks
    }

    /// Takes one chunk off the text.
    fn step(&mut self) {
        let prefix = match &self.fence {
            Some(fence) => format!("{}\n{}", fence.open, self.quote),
            None => self.quote.to_owned(),
        };
        let used = prefix.graphemes(true).count();
        // For the line that closes a fence, wherever the split will be.
        let closing = if self.decorated {
            1 + FENCE.len() + MAX_QUOTE
        } else {
            0
        };
        let room = self.limit.saturating_sub(used).max(1);
        let open_room = room.saturating_sub(closing).max(1);
        let fits = |room| self.rest.grapheme_indices(true).nth(room).is_none();
        let whole =
            fits(open_room) || (fits(room) && fence_after(self.fence.clone(), self.rest).is_none());
        let cut = if whole {
            self.rest.len()
        } else {
            self.best_cut(open_room)
        };
        let (body, rest) = self.rest.split_at_checked(cut).unwrap_or((self.rest, ""));
        let fence = fence_after(self.fence.clone(), body).filter(|_| self.decorated);
        self.push(&prefix, body, fence.as_ref());
        // In a code block that is not quoted itself, `>` is code.
        self.quote = match &fence {
            Some(fence) if fence.close == FENCE => "",
            _ if self.decorated => quote_to_repeat(self.quote, body),
            _ => "",
        };
        self.rest = skip_blank(rest, body.ends_with('\n') || fence.is_some());
        self.fence = fence;
        self.skip_closing_fence();
    }

    fn push(&mut self, prefix: &str, body: &str, open: Option<&Fence>) {
        let body = body.trim_end();
        let blank = body.lines().all(|line| {
            let (_, text) = split_quote(line);
            text.trim().is_empty() || text.starts_with(FENCE)
        });
        // An empty code block that was whole in the text stays.
        if blank && (open.is_some() || body.trim().is_empty() || self.fence.is_some()) {
            return;
        }
        let end = open.map_or(String::new(), |fence| format!("\n{}", fence.close));
        let start = if self.fence.is_none() && self.quote.is_empty() {
            // Indentation of the first line stays: it may be that of a list.
            body.trim_start_matches('\n')
        } else {
            body
        };
        self.chunks.push(format!("{prefix}{start}{end}"));
    }

    /// Where to split within the next `room` grapheme clusters: the best place in their second half, else the last one
    /// between words, else after the last of them.
    fn best_cut(&self, room: usize) -> usize {
        let mut best = (Quality::Grapheme, 0);
        let mut word = 0;
        let mut end = 0;
        let mut line_start = 0;
        let mut last = "";
        let mut fence = self.fence.clone();
        for (count, (start, grapheme)) in self.rest.grapheme_indices(true).take(room).enumerate() {
            end = start + grapheme.len();
            let quality = if grapheme.ends_with('\n') {
                let line = self.rest.get(line_start..start).unwrap_or_default();
                let opens = fence.is_none() && Fence::opened_by(line).is_some();
                fence = step_fence(fence, line);
                let cut = if opens {
                    // Not between a fence and what it opens, but before both.
                    (Quality::Paragraph, line_start)
                } else if line.trim().is_empty() && fence.is_none() {
                    (Quality::Paragraph, end)
                } else {
                    (Quality::Line, end)
                };
                line_start = end;
                Some(cut)
            } else if grapheme.chars().all(char::is_whitespace) && !self.would_style(end) {
                word = end;
                if ends_sentence(last) && fence.is_none() {
                    Some((Quality::Sentence, end))
                } else {
                    Some((Quality::Word, end))
                }
            } else {
                None
            };
            if let Some(cut) = quality.filter(|_| 2 * count >= room)
                && cut.0 >= best.0
                && cut.1 > 0
            {
                best = cut;
            }
            last = grapheme;
        }
        match best {
            (Quality::Grapheme, _) if line_start > 0 => line_start,
            (Quality::Grapheme, _) if word > 0 => word,
            (Quality::Grapheme, _) => end,
            (_, cut) => cut,
        }
    }

    /// Whether what stands at `position`, within a line, would be a quote or a fence at the start of one.
    fn would_style(&self, position: usize) -> bool {
        let rest = self.rest.get(position..).unwrap_or_default();
        rest.starts_with('>') || rest.starts_with(FENCE)
    }

    /// A split just before the closing fence has closed it already.
    fn skip_closing_fence(&mut self) {
        let line = self.rest.lines().next().unwrap_or_default();
        if let Some(fence) = &self.fence
            && split_quote(line).1.trim_end() == FENCE
            && fence.is_closed_by(line)
        {
            let rest = self.rest.strip_prefix(line).unwrap_or_default();
            self.rest = skip_blank(rest, true);
            self.fence = None;
            self.quote = "";
        }
    }
}

fn ends_sentence(grapheme: &str) -> bool {
    matches!(
        grapheme,
        "." | "!" | "?" | "…" | "。" | "！" | "？" | ":" | ";"
    )
}

fn step_fence(fence: Option<Fence>, line: &str) -> Option<Fence> {
    match fence {
        Some(fence) if fence.is_closed_by(line) => None,
        Some(fence) => Some(fence),
        None => Fence::opened_by(line),
    }
}

/// The code block that is open after a text that began in `fence`.
fn fence_after(fence: Option<Fence>, body: &str) -> Option<Fence> {
    body.lines().fold(fence, step_fence)
}

/// The prefix of the quoted line within which a body ends.
fn quote_to_repeat<'a>(began_in: &'a str, body: &'a str) -> &'a str {
    if body.ends_with('\n') {
        return "";
    }
    match body.rsplit_once('\n') {
        Some((_, line)) => split_quote(line).0,
        None if began_in.is_empty() => split_quote(body).0,
        None => began_in,
    }
}

/// Without the blank lines, or between words the white space, where a text was split.
fn skip_blank(rest: &str, at_line: bool) -> &str {
    let skipped: usize = rest
        .graphemes(true)
        .take_while(|grapheme| {
            let newline = grapheme.ends_with('\n');
            newline || (!at_line && grapheme.chars().all(char::is_whitespace))
        })
        .map(str::len)
        .sum();
    rest.get(skipped..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn length(text: &str) -> usize {
        text.graphemes(true).count()
    }

    #[test]
    fn a_short_text_is_one_chunk_and_a_blank_one_none() {
        assert_eq!(split("hello", 4_000), ["hello"]);
        assert!(split("", 4_000).is_empty());
        assert!(split(" \n\n \t", 4_000).is_empty());
        assert!(split(&" ".repeat(1_000), 100).is_empty());
        assert_eq!(split("```\n```", 100), ["```\n```"]);
    }

    #[test]
    fn the_best_place_in_the_second_half_wins() {
        let words = |count| "word ".repeat(count);
        let rows = [
            (
                "paragraph",
                format!("{}.\n\nx\ny. {}", words(12), words(10)),
                "x",
            ),
            (
                "line",
                format!("{}\nNext. {}", words(14), words(10)),
                "Next.",
            ),
            (
                "sentence",
                format!("{}end. Next {}", words(12), words(10)),
                "Next",
            ),
            ("word", words(30), "word"),
            ("grapheme", "x".repeat(150), "x"),
        ];
        for (name, text, second) in rows {
            let chunks = split(&text, 100);
            assert!(chunks[1].starts_with(second), "{name}: {chunks:?}");
            assert!(chunks.iter().all(|chunk| length(chunk) <= 100), "{name}");
        }
    }

    #[test]
    fn a_split_code_block_is_closed_and_opened_again() {
        let code: String = "line_0123456789();\n".repeat(20);
        let text = format!("Before.\n\n```rust\n{code}```\n\nAfter.");
        let chunks = split(&text, 200);
        assert!(chunks.len() > 1 && chunks.len() <= 3, "{chunks:?}");
        for chunk in &chunks {
            assert_eq!(chunk.matches("```").count(), 2, "{chunk}");
        }
        assert!(chunks[1].starts_with("```rust\nline_"), "{chunks:?}");
        let lines: Vec<&str> = chunks.iter().flat_map(|chunk| chunk.lines()).collect();
        let kept: Vec<&str> = lines
            .into_iter()
            .filter(|line| line.starts_with("line_"))
            .collect();
        assert_eq!(kept, code.lines().collect::<Vec<_>>());
    }

    #[test]
    fn a_split_quote_stays_a_quote() {
        let text = format!("> {}", "word ".repeat(40));
        for chunk in split(&text, 100) {
            assert!(chunk.starts_with("> word"), "{chunk}");
        }
        let code = format!("> ```\n{}> ```", "> some code here\n".repeat(12));
        for chunk in split(&code, 120) {
            assert!(chunk.starts_with("> ```\n> some"), "{chunk}");
            assert!(chunk.ends_with("here\n> ```"), "{chunk}");
        }
    }

    #[test]
    fn only_more_than_three_are_numbered() {
        assert!(!split(&"word ".repeat(50), 100)[0].starts_with('('));
        let fewer_at_the_second_look = format!(". \n> {}\n\n```\n", "x".repeat(90));
        let chunks = split(&fewer_at_the_second_look, 100);
        assert!(
            chunks.len() == 3 && !chunks[0].starts_with('('),
            "{chunks:?}"
        );
        let chunks = split(&"word ".repeat(200), 100);
        let total = chunks.len();
        for (index, chunk) in chunks.iter().enumerate() {
            assert!(
                chunk.starts_with(&format!("({}/{total})\nword", index + 1)),
                "{chunk}"
            );
            assert!(length(chunk) <= 100);
        }
    }

    #[test]
    fn a_grapheme_is_never_split() {
        let family = "👩‍👩‍👧‍👦";
        for chunk in split(&family.repeat(250), 100) {
            assert!(chunk.graphemes(true).all(|grapheme| grapheme == family));
        }
        let zalgo = format!("e{}", "\u{301}".repeat(50));
        let chunks = split(&zalgo.repeat(150), 100);
        assert_eq!(chunks.concat(), zalgo.repeat(150));
    }

    #[test]
    fn megabytes_without_a_space_take_no_time() {
        let started = std::time::Instant::now();
        let chunks = split(&"x".repeat(2_000_000), 4_000);
        assert!(chunks.len() > 500);
        let lines = split(&"`\n".repeat(500_000), 4_000);
        assert!(lines.len() > 200);
        // Quadratic would be hours.
        assert!(started.elapsed() < std::time::Duration::from_mins(1));
    }

    /// What must not get lost: all but white space, and the fences and quotes that are repeated.
    fn substance(text: &str) -> String {
        text.lines()
            .filter(|line| !split_quote(line).1.starts_with(FENCE))
            .flat_map(|line| split_quote(line).1.chars())
            .filter(|c| !c.is_whitespace())
            .collect()
    }

    fn text() -> impl Strategy<Value = String> {
        let parts = vec![
            "word ",
            "a",
            "\n",
            "\n\n",
            ". ",
            "\n```\n",
            "\n```rust\n",
            "\n> ",
            "é",
            "👩‍👩‍👧",
            "日本語",
            "  - x\n",
            "longer text without an end ",
            "\t",
            "x".repeat(90).leak(),
        ];
        proptest::collection::vec(proptest::sample::select(parts), 0..120)
            .prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn nothing_is_lost_too_long_or_blank(text in text(), limit in 100_usize..300) {
            let chunks = split(&text, limit);
            for chunk in &chunks {
                prop_assert!(length(chunk) <= limit, "{} > {limit}: {chunk:?}", length(chunk));
                prop_assert!(!chunk.trim().is_empty());
            }
            let numbered = chunks.len() > 3;
            let bodies: Vec<&str> = chunks
                .iter()
                .map(|chunk| if numbered { chunk.split_once('\n').unwrap().1 } else { chunk })
                .collect();
            prop_assert_eq!(substance(&bodies.join("\n")), substance(&text));
        }

        #[test]
        fn plain_words_come_through_as_they_are(words in "[a-zé日 .]{0,2000}", limit in 10_usize..300) {
            let chunks = split(&words, limit);
            prop_assert!(chunks.iter().all(|chunk| length(chunk) <= limit));
            let numbered = chunks.len() > 3 && limit >= LEAST_DECORATED;
            let kept: String = chunks
                .iter()
                .map(|chunk| if numbered { chunk.split_once('\n').unwrap().1 } else { chunk })
                .collect();
            let solid = |text: &str| text.chars().filter(|c| *c != ' ').collect::<String>();
            prop_assert_eq!(solid(&kept), solid(&words));
        }
    }
}
