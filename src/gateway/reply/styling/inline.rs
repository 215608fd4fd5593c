//! The text of one block: which spans a receiver will see, and which literal characters must not become one.

const DIRECTIVES: [char; 4] = ['*', '_', '~', '`'];
/// U+2060 WORD JOINER: shows as nothing, is no white space, so that what follows it opens no span.
const JOINER: char = '\u{2060}';

#[derive(Debug)]
pub(super) enum Piece {
    Text(String),
    Code(String),
    Open(char),
    Close(char),
    /// Where the text of a link begins; shows as nothing.
    Link,
    Break,
}

#[derive(Debug, Default)]
pub(super) struct Inline(Vec<Piece>);

impl Inline {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn push(&mut self, piece: Piece) {
        self.0.push(piece);
    }

    /// Literal text; the parser hands over line ends of raw HTML in it.
    pub(super) fn text(&mut self, text: &str) {
        for (number, line) in text.split('\n').enumerate() {
            if number > 0 {
                self.0.push(Piece::Break);
            }
            match self.0.last_mut() {
                // One piece, so that the character before is known.
                Some(Piece::Text(last)) => last.push_str(line),
                _ if line.is_empty() => {}
                _ => self.0.push(Piece::Text(line.to_owned())),
            }
        }
    }

    /// The characters since piece number `start`, without styles.
    pub(super) fn plain_from(&self, start: usize) -> String {
        let mut plain = String::new();
        for piece in self.0.iter().skip(start) {
            match piece {
                Piece::Text(text) | Piece::Code(text) => plain.push_str(text),
                Piece::Break => plain.push(' '),
                Piece::Open(_) | Piece::Close(_) | Piece::Link => {}
            }
        }
        plain
    }

    pub(super) fn take_plain(&mut self) -> String {
        let plain = self.plain_from(0);
        self.0.clear();
        plain
    }

    /// The styled text, and an empty start. `at_start`: its lines stand where a quote or a fence would begin.
    pub(super) fn take(&mut self, at_start: bool) -> String {
        let pieces = std::mem::take(&mut self.0);
        let mut open: Vec<char> = Vec::new();
        let lines = pieces.split(|piece| matches!(piece, Piece::Break));
        let lines: Vec<String> = lines
            .map(|line| render_line(line, &mut open, at_start))
            .collect();
        lines.join("\n").trim_end().to_owned()
    }
}

/// One line. A span that goes on over lines is opened and closed on each: `open` holds what the line before left open.
fn render_line(pieces: &[Piece], open: &mut Vec<char>, at_start: bool) -> String {
    let mut line = Line::new(pieces, at_start);
    let mut shown: Vec<char> = Vec::new();
    for &mark in open.iter() {
        line.open(mark, pieces, &mut shown);
    }
    let mut rest = pieces;
    while let Some((piece, after)) = rest.split_first() {
        rest = after;
        match piece {
            Piece::Text(text) => line.literal(text, rest),
            Piece::Code(code) if code.contains('`') => line.literal(code, rest),
            Piece::Code(code) => line.code(code),
            Piece::Open(mark) => {
                // A span within one of its own kind adds nothing.
                if !open.contains(mark) {
                    line.open(*mark, rest, &mut shown);
                }
                open.push(*mark);
            }
            Piece::Close(mark) => {
                if let Some(position) = open.iter().rposition(|other| other == mark) {
                    open.remove(position);
                }
                if !open.contains(mark) {
                    line.close(*mark, &mut shown);
                }
            }
            Piece::Break | Piece::Link => {}
        }
    }
    while let Some(&mark) = shown.last() {
        line.close(mark, &mut shown);
    }
    line.out
}

struct Line {
    out: String,
    /// The last character opened a span of ours.
    opened: bool,
    at_start: bool,
    /// Spans that are shown as the model wrote them.
    in_word: Vec<(char, &'static str)>,
    /// How often each directive occurs: one alone styles nothing.
    counts: [usize; 4],
}

impl Line {
    fn new(pieces: &[Piece], at_start: bool) -> Self {
        let mut counts = [0; 4];
        for (count, directive) in counts.iter_mut().zip(DIRECTIVES) {
            *count = pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Text(text) | Piece::Code(text) => text.matches(directive).count(),
                    // Emphasis may turn out to be a product.
                    Piece::Open('_') | Piece::Close('_') if directive == '*' => 1,
                    Piece::Open(mark) | Piece::Close(mark) => usize::from(*mark == directive),
                    Piece::Break | Piece::Link => 0,
                })
                .sum();
        }
        Self {
            out: String::new(),
            opened: false,
            at_start,
            in_word: Vec::new(),
            counts,
        }
    }

    /// XEP-0393, 6.2: an opening directive stands at the start, after white space or after another opening directive.
    fn may_open(&self) -> bool {
        self.opened || self.out.chars().next_back().is_none_or(char::is_whitespace)
    }

    /// Opens a span if a receiver would see it: its text, here until it is closed or the line ends, is not empty, has no
    /// white space at its ends and none of its own directive inside.
    fn open(&mut self, mark: char, rest: &[Piece], shown: &mut Vec<char>) {
        if shown.contains(&mark) {
            return;
        }
        if !self.may_open() {
            self.open_in_word(mark, rest);
            return;
        }
        let mut first = None;
        let mut last = None;
        for piece in rest {
            match piece {
                Piece::Text(text) | Piece::Code(text) => {
                    if text.contains(mark) {
                        return;
                    }
                    first = first.or(text.chars().next());
                    last = text.chars().next_back().or(last);
                }
                Piece::Close(other) if *other == mark => break,
                // May be a product, which keeps its asterisks.
                Piece::Open(_) if mark == '*' && last.is_some_and(char::is_alphanumeric) => return,
                Piece::Open(_) | Piece::Close(_) | Piece::Link | Piece::Break => {}
            }
        }
        let solid = |end: Option<char>| end.is_some_and(|c| !c.is_whitespace());
        if solid(first) && solid(last) {
            self.out.push(mark);
            self.opened = true;
            shown.push(mark);
        }
    }

    /// `2*3*4` is emphasis to CommonMark and a product to people: what would be lost without its asterisks keeps them.
    fn open_in_word(&mut self, mark: char, rest: &[Piece]) {
        let before = self.out.chars().next_back();
        let after = match rest.first() {
            Some(Piece::Text(text)) => text.chars().next(),
            _ => None,
        };
        let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
        let stars = match mark {
            '_' if before.is_some_and(char::is_alphanumeric) => "*",
            '*' if digit(before) || digit(after) => "**",
            _ => return,
        };
        self.out.push_str(stars);
        self.in_word.push((mark, stars));
    }

    fn close(&mut self, mark: char, shown: &mut Vec<char>) {
        if let Some(&(_, stars)) = self.in_word.last().filter(|(open, _)| *open == mark) {
            self.out.push_str(stars);
            self.in_word.pop();
            return;
        }
        if let Some(position) = shown.iter().rposition(|&other| other == mark) {
            shown.remove(position);
            self.out.push(mark);
            self.opened = false;
        }
    }

    fn code(&mut self, code: &str) {
        self.out.push('`');
        self.out.push_str(code);
        self.out.push('`');
        self.opened = false;
    }

    fn literal(&mut self, text: &str, rest: &[Piece]) {
        if self.at_start
            && self.out.is_empty()
            && (text.starts_with('>') || text.starts_with("```"))
        {
            self.out.push(JOINER);
        }
        let mut characters = text.chars().peekable();
        while let Some(c) = characters.next() {
            let position = DIRECTIVES.iter().position(|&directive| directive == c);
            let count = position.and_then(|position| self.counts.get(position));
            if count.is_some_and(|&count| count > 1) && self.may_open() {
                let followed = match characters.peek() {
                    Some(next) => !next.is_whitespace(),
                    None => rest
                        .iter()
                        .any(|piece| !matches!(piece, Piece::Close(_) | Piece::Link)),
                };
                if followed {
                    self.out.push(JOINER);
                }
            }
            self.out.push(c);
            self.opened = false;
        }
    }
}
