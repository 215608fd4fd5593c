//! Is a message in a room for the bot? Pure; finds the nick, the JID, its local part or the resource as a whole word,
//! a XEP-0372 reference or a XEP-0461 reply, and takes the mention off the text.

use jid::{BareJid, Jid};
use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

use crate::config::{Account, MentionMode};
use crate::gateway::{Inbound, Place};

/// How the bot was addressed, for the log and for what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// A direct chat or a private message: always.
    Direct,
    /// By a name in the text.
    Name,
    /// XEP-0372.
    Reference,
    /// XEP-0461, to a message of the bot's.
    Reply,
    /// Everything in this room is for the bot.
    Always,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressed {
    pub how: How,
    /// The body without the mention at its start or end. Empty for a bare mention.
    pub text: String,
    /// Nothing but the mention: it asks for an answer to the lines before it.
    pub bare: bool,
}

/// Why a message is not for the bot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotForBot {
    #[error("not mentioned")]
    NotMentioned,
    /// `mention_mode = "none"`.
    #[error("the bot does not talk in this room")]
    Off,
}

/// What the bot is called in a room.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    pub jid: &'a BareJid,
    /// The nick in this room, as the room gave it.
    pub nick: &'a str,
    pub resource: &'a str,
}

/// Decides for one message. `is_own` tells whether an id is that of a message of the bot's in this place.
pub fn addressed(
    account: &Account,
    names: Names<'_>,
    inbound: &Inbound,
    is_own: impl Fn(&str) -> bool,
) -> Result<Addressed, NotForBot> {
    let Place::Room(room) = &inbound.place else {
        return Ok(Addressed {
            how: How::Direct,
            text: inbound.body.clone(),
            bare: false,
        });
    };
    let mode = match account
        .muc_rooms
        .get(room)
        .and_then(|room| room.require_mention)
    {
        Some(true) => MentionMode::Mention,
        Some(false) => MentionMode::Always,
        None => account.mention_mode,
    };
    if mode == MentionMode::None {
        return Err(NotForBot::Off);
    }
    let needles = needles(names);
    let how = if is_named(&inbound.body, &needles) {
        How::Name
    } else if inbound
        .mentions
        .iter()
        .any(|mention| is_reference(mention, room, names))
    {
        How::Reference
    } else if account.reply_counts_as_mention && is_reply(inbound, room, names, is_own) {
        How::Reply
    } else if mode == MentionMode::Always {
        How::Always
    } else {
        return Err(NotForBot::NotMentioned);
    };
    let text = strip(&inbound.body, &needles);
    // "bot?" and "bot!" ask no more than "bot".
    let empty = text
        .chars()
        .all(|c| c.is_whitespace() || c.is_ascii_punctuation());
    let bare = how != How::Always && empty && inbound.attachments.is_empty();
    Ok(Addressed {
        how,
        text: if bare { String::new() } else { text },
        bare,
    })
}

fn is_reply(
    inbound: &Inbound,
    room: &BareJid,
    names: Names<'_>,
    is_own: impl Fn(&str) -> bool,
) -> bool {
    inbound.reply.as_ref().is_some_and(|reply| {
        is_own(&reply.id)
            || reply
                .to
                .as_ref()
                .is_some_and(|to| is_reference(to, room, names))
    })
}

/// Whether a JID, as it stands or percent-encoded as in an `xmpp:` URI (RFC 5122), is the bot's own or its occupant JID.
fn is_reference(reference: &str, room: &BareJid, names: Names<'_>) -> bool {
    let path = reference
        .split_once('?')
        .map_or(reference, |(path, _)| path);
    [reference, path, &percent_decoded(path)]
        .into_iter()
        .filter_map(|text| Jid::new(text).ok())
        .any(|jid| {
            let bare = jid.to_bare();
            bare == *names.jid
                || (bare == *room
                    && jid
                        .resource()
                        .is_some_and(|nick| fold(nick.as_str()) == fold(names.nick)))
        })
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        let byte = after
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.unwrap_or(b'%'));
        rest = if byte.is_some() {
            after.get(2..).unwrap_or_default()
        } else {
            after
        };
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// For comparison: compatibility forms, case and the final sigma folded.
fn fold(text: &str) -> Vec<char> {
    text.nfkc()
        .flat_map(char::to_lowercase)
        .map(|c| if c == 'ς' { 'σ' } else { c })
        .collect()
}

/// The names, folded, the longest first: "bot@example.com" before "bot", of which it is made.
fn needles(names: Names<'_>) -> Vec<Vec<char>> {
    let mut needles: Vec<Vec<char>> = [
        names.nick,
        names.jid.as_str(),
        names.jid.node().map_or("", |node| node.as_str()),
        names.resource,
    ]
    .into_iter()
    .map(|name| fold(name.trim()))
    .filter(|name| !name.is_empty())
    .collect();
    needles.sort_by_key(|needle| std::cmp::Reverse(needle.len()));
    needles.dedup();
    needles
}

/// Where a name stands in a line: bytes from `start` to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    start: usize,
    end: usize,
}

fn is_named(body: &str, needles: &[Vec<char>]) -> bool {
    body.lines()
        .filter(|line| !is_quote(line))
        .any(|line| find(line, needles).next().is_some())
}

/// XEP-0393, 5.1.3. Some clients put white space before it.
fn is_quote(line: &str) -> bool {
    line.trim_start().starts_with('>')
}

/// Where the names stand in a line as whole words (UAX #29), so that "bot" is not in "robot", "bot_2" or
/// "bot.example.com", nor in the address of somebody else.
fn find<'a>(line: &'a str, needles: &'a [Vec<char>]) -> impl Iterator<Item = Found> + 'a {
    let mut folded: Vec<(char, Found)> = Vec::with_capacity(line.len());
    for (start, grapheme) in line.grapheme_indices(true) {
        let end = start + grapheme.len();
        folded.extend(
            fold(grapheme)
                .into_iter()
                .map(|c| (c, Found { start, end })),
        );
    }
    let boundaries: std::collections::BTreeSet<usize> = line
        .split_word_bound_indices()
        .map(|(start, _)| start)
        .chain([line.len()])
        .collect();
    needles.iter().flat_map(move |needle| {
        let mut found = Vec::new();
        for window in folded.windows(needle.len()) {
            let same = window.iter().map(|(c, _)| c).eq(needle);
            if let ([(_, first), ..], [.., (_, last)], true) = (window, window, same) {
                let (start, end) = (first.start, last.end);
                if boundaries.contains(&start)
                    && boundaries.contains(&end)
                    && !is_part_of_address(line, start, end)
                {
                    found.push(Found { start, end });
                }
            }
        }
        found
    })
}

/// Whether what stands there belongs to a JID, an e-mail address or a URL: another's `bot@…` is not the bot.
fn is_part_of_address(line: &str, start: usize, end: usize) -> bool {
    let before = line.get(..start).unwrap_or_default();
    let after = line.get(end..).unwrap_or_default();
    let word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let token_start = before
        .rsplit(char::is_whitespace)
        .next()
        .unwrap_or_default();
    let mut following = after.chars();
    let mut preceding = before.chars().rev();
    (following.next() == Some('@') && word(following.next()))
        || (preceding.next() == Some('@') && word(preceding.next()))
        || (token_start.contains("://"))
}

/// The body without a mention at the start of what is not quoted, or else at its end. In the middle it is part of the
/// sentence and stays.
fn strip(body: &str, needles: &[Vec<char>]) -> String {
    let mut lines: Vec<String> = body.lines().map(str::to_owned).collect();
    let first = lines
        .iter_mut()
        .find(|line| !is_quote(line) && !line.trim().is_empty());
    if let Some(line) = first
        && let Some(stripped) = strip_start(line, needles)
    {
        *line = stripped;
    } else if let Some(line) = lines.iter_mut().rev().find(|line| !line.trim().is_empty())
        && !is_quote(line)
        && let Some(stripped) = strip_end(line, needles)
    {
        *line = stripped;
    }
    lines.join("\n").trim().to_owned()
}

/// "@bot: hello" → "hello".
fn strip_start(line: &str, needles: &[Vec<char>]) -> Option<String> {
    let found = find(line, needles).find(|found| {
        let before = line.get(..found.start).unwrap_or_default().trim();
        before.is_empty() || before == "@"
    })?;
    let rest = line.get(found.end..)?.trim_start();
    Some(
        rest.trim_start_matches([':', ',', ';'])
            .trim_start()
            .to_owned(),
    )
}

/// "are you there, @bot?" → "are you there?"
fn strip_end(line: &str, needles: &[Vec<char>]) -> Option<String> {
    let (found, end) = find(line, needles).find_map(|found| {
        let after = line.get(found.end..)?.trim();
        let mark = |c: char| ".!?…".contains(c);
        after.chars().all(mark).then_some((found, after))
    })?;
    let before = line.get(..found.start)?;
    let before = before.strip_suffix('@').unwrap_or(before).trim_end();
    Some(format!("{}{end}", before.trim_end_matches([',', ':'])))
}

#[cfg(test)]
mod tests;
