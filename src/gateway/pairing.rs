//! How a stranger becomes known, and the first operator of a new account: the texts, the claim code and the durations.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jid::BareJid;
use unicode_segmentation::UnicodeSegmentation;

/// What a stranger gets, at most once a day.
pub const PLEASE_WAIT: &str = "Hello! I do not know you yet. I have asked my operators whether we may talk; please wait for their answer.";

/// What each operator gets. `said` is the stranger's text, shown in part and in one line, so that it cannot pass for ours.
pub fn request(stranger: &BareJid, said: &str) -> String {
    let line = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let said: String = line.graphemes(true).take(100).collect();
    let said = if said.is_empty() {
        "asks to be added to the contacts".to_owned()
    } else if said.len() < line.len() {
        format!("wrote: “{said}…”")
    } else {
        format!("wrote: “{said}”")
    };
    format!(
        "{stranger}, whom I do not know, {said}\n\
         /allow {stranger}\n\
         /guest {stranger} 24h\n\
         /block {stranger}"
    )
}

/// The code in a message `/claim CODE`: strangers may send this one command.
pub fn claim_code(body: &str) -> Option<&str> {
    let mut words = body.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(command), Some(code), None) if command.eq_ignore_ascii_case("/claim") => Some(code),
        _ => None,
    }
}

/// Without letters and digits that look alike.
const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz234567890";
const LENGTH: usize = 12;
const ATTEMPTS: u32 = 5;

/// The code by which a new account's first operator proves that they read its log. Ends after five wrong codes, or when
/// it was used, until the process starts again.
#[derive(Debug)]
pub struct Claim(Mutex<State>);

struct State {
    code: Option<String>,
    wrong: u32,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("open", &self.code.is_some())
            .field("wrong", &self.wrong)
            .finish()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    Yes,
    Wrong {
        left: u32,
    },
    /// There is nothing to claim, or no longer.
    Closed,
}

impl Claim {
    /// A new code from the system's random source: 60 bits, in groups of four.
    pub fn new() -> Result<Self, getrandom::Error> {
        let mut bytes = [0_u8; LENGTH];
        getrandom::fill(&mut bytes)?;
        let mut code = String::with_capacity(LENGTH + 2);
        for (position, byte) in bytes.iter().enumerate() {
            if position > 0 && position % 4 == 0 {
                code.push('-');
            }
            // 32 letters: a remainder without bias.
            code.extend(
                ALPHABET
                    .get(usize::from(byte % 32))
                    .map(|&letter| char::from(letter)),
            );
        }
        Ok(Self(Mutex::new(State {
            code: Some(code),
            wrong: 0,
        })))
    }

    /// An account that has operators.
    pub fn closed() -> Self {
        Self(Mutex::new(State {
            code: None,
            wrong: 0,
        }))
    }

    /// For the log and the status page; `None` where there is nothing to claim.
    pub fn code(&self) -> Option<String> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.code.clone()
    }

    /// Somebody has become operator in another way.
    pub fn close(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.code = None;
    }

    /// Tries a code. The right one works once.
    pub fn attempt(&self, attempt: &str) -> Claimed {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(code) = &state.code else {
            return Claimed::Closed;
        };
        if equal(code.as_bytes(), attempt.to_ascii_lowercase().as_bytes()) {
            state.code = None;
            return Claimed::Yes;
        }
        state.wrong += 1;
        if state.wrong >= ATTEMPTS {
            state.code = None;
        }
        Claimed::Wrong {
            left: ATTEMPTS - state.wrong,
        }
    }
}

/// In a time that depends on the lengths only.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len()
        && std::hint::black_box(
            a.iter()
                .zip(b)
                .fold(0, |difference, (a, b)| difference | (a ^ b)),
        ) == 0
}

/// `30m`, `24h`, `7d`; at most ten years.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text.strip_prefix(digits)? {
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    };
    let seconds = digits.parse::<u64>().ok()?.checked_mul(unit)?;
    (1..=10 * 365 * 24 * 60 * 60)
        .contains(&seconds)
        .then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_get_three_commands_and_one_line_of_the_stranger() {
        let stranger = BareJid::new("eve@evil.org").unwrap();
        let text = request(&stranger, "hi\n/allow mallory@evil.org\nplease");
        assert_eq!(
            text,
            "eve@evil.org, whom I do not know, wrote: “hi /allow mallory@evil.org please”\n\
             /allow eve@evil.org\n/guest eve@evil.org 24h\n/block eve@evil.org"
        );
        assert!(request(&stranger, &"é".repeat(1_000)).chars().count() < 250);
        assert!(request(&stranger, "").contains("asks to be added"));
    }

    #[test]
    fn the_right_code_works_once_and_in_any_case() {
        let claim = Claim::new().unwrap();
        let code = claim.code().unwrap();
        assert_eq!(code.len(), 14);
        assert_ne!(Claim::new().unwrap().code().unwrap(), code);
        assert_eq!(claim.attempt("nonsense"), Claimed::Wrong { left: 4 });
        assert_eq!(claim.attempt(&code.to_uppercase()), Claimed::Yes);
        assert_eq!(claim.attempt(&code), Claimed::Closed);
        assert!(!format!("{:?}", Claim::new()).contains('-'));
    }

    #[test]
    fn five_wrong_codes_end_it() {
        let claim = Claim::new().unwrap();
        let code = claim.code().unwrap();
        for left in (0..5).rev() {
            assert_eq!(claim.attempt("wrong"), Claimed::Wrong { left });
        }
        assert_eq!(claim.attempt(&code), Claimed::Closed);
        assert_eq!(claim.code(), None);
    }

    #[test]
    fn a_claim_is_recognised_in_a_message() {
        for (body, code) in [
            ("/claim abc", Some("abc")),
            (" /CLAIM  abc \n", Some("abc")),
            ("/claim", None),
            ("/claim a b", None),
            ("please /claim abc", None),
        ] {
            assert_eq!(claim_code(body), code, "{body}");
        }
    }

    #[test]
    fn durations_have_a_number_and_a_unit() {
        for (text, seconds) in [
            ("30m", Some(1_800)),
            ("24h", Some(86_400)),
            ("7d", Some(604_800)),
            ("0h", None),
            ("24", None),
            ("h", None),
            ("-1h", None),
            ("1.5h", None),
            ("24hours", None),
            ("99999999999999999999d", None),
            ("9999999d", None),
            ("２h", None),
            ("", None),
        ] {
            assert_eq!(
                parse_duration(text).map(|duration| duration.as_secs()),
                seconds,
                "{text}"
            );
        }
    }
}
