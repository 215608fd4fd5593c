//! Cuts a stream into its header and the elements in it, byte by byte. Enough for a peer that writes plain XML: no CDATA,
//! no comments.

/// What a stream consists of.
#[derive(Debug)]
pub(super) enum Piece {
    Header,
    /// A whole element at the stream's first level.
    Element(Vec<u8>),
    Footer,
}

#[derive(Debug, Default)]
pub(super) struct Framer {
    buffer: Vec<u8>,
    /// So much of the buffer has been looked at.
    scanned: usize,
    /// Open elements; the stream is one.
    depth: usize,
    tag: Option<Tag>,
}

/// Between `<` and `>`.
#[derive(Clone, Copy, Debug, Default)]
struct Tag {
    quote: Option<u8>,
    first: Option<u8>,
    last: Option<u8>,
}

impl Framer {
    /// Where what comes in is appended.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// A new header follows (RFC 6120, 4.3.3).
    pub(super) fn restart(&mut self) {
        self.depth = 0;
    }

    pub(super) fn next(&mut self) -> Option<Piece> {
        while let Some(byte) = self.buffer.get(self.scanned).copied() {
            self.scanned += 1;
            let Some(tag) = &mut self.tag else {
                self.tag = (byte == b'<').then(Tag::default);
                continue;
            };
            match (tag.quote, byte) {
                (Some(quote), byte) => tag.quote = (byte != quote).then_some(quote),
                (None, b'\'' | b'"') => tag.quote = Some(byte),
                (None, b'>') => {
                    let tag = *tag;
                    self.tag = None;
                    if let Some(piece) = self.end_of_tag(tag) {
                        return Some(piece);
                    }
                }
                (None, byte) => {
                    tag.first.get_or_insert(byte);
                    tag.last = Some(byte);
                }
            }
        }
        None
    }

    fn end_of_tag(&mut self, tag: Tag) -> Option<Piece> {
        match (tag.first, tag.last) {
            (Some(b'?'), _) => return None,
            (Some(b'/'), _) => self.depth = self.depth.saturating_sub(1),
            (_, Some(b'/')) => {}
            _ => {
                self.depth += 1;
                if self.depth == 1 {
                    self.cut();
                    return Some(Piece::Header);
                }
            }
        }
        match self.depth {
            0 => Some(Piece::Footer),
            1 => Some(Piece::Element(self.cut())),
            _ => None,
        }
    }

    /// What was scanned.
    fn cut(&mut self) -> Vec<u8> {
        let rest = self.buffer.split_off(self.scanned);
        self.scanned = 0;
        std::mem::replace(&mut self.buffer, rest)
    }
}
