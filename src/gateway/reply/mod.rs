//! From a text to messages on the wire: clean it, style it, cut it, and give each message its ids and hints. What a model says is
//! data: no markup, command or invisible character of it acts on anybody's client.

pub mod chunk;
pub mod outbox;
pub mod stream;
pub mod styling;
pub mod typing;
pub mod upload;

use unicode_segmentation::UnicodeSegmentation;
use xmpp_parsers::message::{Id, Lang, Message, MessageType, Thread};

use crate::config::Account;
use crate::gateway::{Inbound, Place};
use crate::xmpp::element::element;
use crate::xmpp::ns;

/// An answer longer than this ends there.
pub const MOST_CHARACTERS: usize = 100_000;
/// Of one message's text: servers close the stream at a stanza of 256 KiB (some sooner), and would at every new attempt.
const MOST_BYTES: usize = 100_000;
/// Bytes of one grapheme cluster, which is never split: enough for families of emoji, not for towers of accents.
const MOST_OF_GRAPHEME: usize = 128;
/// So much of the person's text is quoted for clients without XEP-0461.
const MOST_QUOTED: usize = 80;

/// What of a text a client may be given. Characters that XML forbids go, and so do those that nobody sees but that change what is
/// shown or carry hidden text: bidirectional embedding and isolates, tags, variation selectors of the supplement, and the like.
/// What joins emoji or writes Persian (ZWJ, ZWNJ, the variation selectors of emoji) stays.
pub fn clean(text: &str) -> String {
    let mut clean: String = text
        .replace("\r\n", "\n")
        .chars()
        .filter(|c| is_shown(*c))
        .take(MOST_CHARACTERS + 1)
        .collect();
    if clean
        .graphemes(true)
        .any(|grapheme| grapheme.len() > MOST_OF_GRAPHEME)
    {
        let short = |grapheme: &str| {
            grapheme
                .chars()
                .take(MOST_OF_GRAPHEME / 4)
                .collect::<String>()
        };
        clean = clean.graphemes(true).map(short).collect();
    }
    if clean.chars().count() > MOST_CHARACTERS {
        clean = clean.chars().take(MOST_CHARACTERS).collect();
        clean.push_str("… (cut here: too long)");
    }
    clean
}

fn is_shown(c: char) -> bool {
    !matches!(c,
        '\0'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}'..='\u{9f}' // controls
        | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{206f}' | '\u{feff}' // unseen
        | '\u{202a}'..='\u{202e}' // bidirectional embedding and override
        | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}'
        | '\u{e0000}'..='\u{e0fff}' // tags, variation selectors supplement
    ) && u32::from(c) & 0xfffe != 0xfffe // non-characters of every plane
}

/// A text that begins with `/` would be an action (`/me`, XEP-0245) in the reader's client or a command to another bot.
fn disarm(chunk: &str) -> String {
    if chunk.starts_with('/') {
        format!(" {chunk}")
    } else {
        chunk.to_owned()
    }
}

/// The messages' bodies that a text becomes.
pub fn render(text: &str, account: &Account) -> Vec<String> {
    let styled = styling::render(&clean(text), account.styling);
    let mut limit = account.text_chunk_limit;
    let mut chunks = chunk::split(&styled, limit);
    while limit > 1 && chunks.iter().any(|chunk| on_the_wire(chunk) > MOST_BYTES) {
        limit /= 2;
        chunks = chunk::split(&styled, limit);
    }
    chunks.iter().map(|chunk| disarm(chunk)).collect()
}

/// Bytes of a text in a stanza.
fn on_the_wire(text: &str) -> usize {
    let escaped = text.bytes().map(|byte| match byte {
        b'&' | b'<' | b'>' | b'"' | b'\'' => 6,
        _ => 1,
    });
    escaped.sum()
}

/// What a message in a room answers (XEP-0461).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    id: String,
    to: String,
    quote: String,
}

impl Answers {
    /// In rooms only: elsewhere it is plain who is meant.
    pub fn to(inbound: &Inbound) -> Option<Self> {
        if !inbound.place.is_room() {
            return None;
        }
        let line = inbound
            .body
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty());
        let line = clean(line.unwrap_or_default());
        let mut quote: String = line.graphemes(true).take(MOST_QUOTED).collect();
        if quote.len() < line.len() {
            quote.push('…');
        }
        Some(Self {
            id: inbound.ids.reference(true)?.to_owned(),
            to: inbound.sender.from.to_string(),
            quote,
        })
    }

    /// What clients without XEP-0461 show of the question. Without the asker's nick: there are clients (Profanity 0.13) that
    /// show whatever mentions their user as a message of its own, every correction of it too.
    fn fallback(&self) -> String {
        if self.quote.is_empty() {
            // A bare mention, or a file: there is nothing to quote.
            return String::new();
        }
        format!("> {}\n", self.quote)
    }
}

/// Whether a message is stored and pushed (XEP-0334).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// A text that is still growing.
    No,
    Yes,
}

/// One message to be.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    pub place: &'a Place,
    pub thread: Option<&'a str>,
    pub id: String,
    /// XEP-0308.
    pub replaces: Option<String>,
    pub body: &'a str,
    pub answers: Option<&'a Answers>,
    pub keep: Keep,
    /// XEP-0085: `active` or `composing`; `None` where chat states are off.
    pub state: Option<&'static str>,
    /// XEP-0393: whether the body is marked up.
    pub styled: bool,
}

/// A message without a body, of the type and to the address that the place wants.
pub fn bare(place: &Place) -> Message {
    let kind = if place.is_room() {
        MessageType::Groupchat
    } else {
        MessageType::Chat
    };
    let mut message = Message::new_with_type(kind, place.address());
    if matches!(place, Place::RoomPrivate(_)) {
        // XEP-0045, 7.5: so that the other clients of both sides know it for a private message.
        message.payloads.push(element("x", ns::MUC_USER, &[]));
    }
    message
}

pub fn build(draft: Draft<'_>) -> Message {
    let mut message = bare(draft.place);
    let mut body = String::new();
    if let Some(answers) = draft.answers {
        let attributes = [("id", answers.id.as_str()), ("to", &answers.to)];
        message
            .payloads
            .push(element("reply", ns::REPLY, &attributes));
        body = answers.fallback();
        if !body.is_empty() {
            // XEP-0428 counts code points.
            let range = [("start", "0"), ("end", &body.chars().count().to_string())];
            let mut fallback = element("fallback", ns::FALLBACK, &[("for", ns::REPLY)]);
            fallback.append_child(element("body", ns::FALLBACK, &range));
            message.payloads.push(fallback);
        }
    }
    body.push_str(draft.body);
    message.bodies.insert(Lang::new(), body);
    message.thread = thread(draft.thread);
    name(&mut message, draft.id);
    if let Some(id) = draft.replaces {
        message
            .payloads
            .push(element("replace", ns::MESSAGE_CORRECT, &[("id", &id)]));
    }
    let hints: &[&str] = match draft.keep {
        Keep::No => &["no-store", "no-copy"],
        Keep::Yes => &["store"],
    };
    let hints = hints.iter().map(|hint| element(hint, ns::HINTS, &[]));
    message.payloads.extend(hints);
    if let Some(state) = draft.state {
        message.payloads.push(element(state, ns::CHATSTATES, &[]));
    }
    if !draft.styled {
        message.payloads.push(element("unstyled", ns::STYLING, &[]));
    }
    message
}

/// A message that was made elsewhere, to be sent by the outbox.
pub fn identify(mut message: Message, id: String, of: Option<&str>) -> Message {
    name(&mut message, id);
    message.thread = thread(of);
    message.payloads.push(element("store", ns::HINTS, &[]));
    message
}

/// The id, which is the origin-id too (XEP-0359, 3.2).
fn name(message: &mut Message, id: String) {
    message
        .payloads
        .push(element("origin-id", ns::STANZA_ID, &[("id", &id)]));
    message.id = Some(Id(id));
}

fn thread(thread: Option<&str>) -> Option<Thread> {
    thread.map(|thread| Thread {
        parent: None,
        id: thread.into(),
    })
}

#[cfg(test)]
mod tests;
