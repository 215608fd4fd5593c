//! Parts the thoughts from the answer where a server sends them as content: `<think>…</think>` at its start, as Ollama
//! and others do for models that reason. Tags may be cut anywhere between chunks.

use super::Part;

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Where the content stands.
#[derive(Debug, Default)]
enum State {
    /// Nothing but white space and perhaps a part of the tag has come.
    #[default]
    Start,
    Thinking,
    /// Behind the thoughts; white space before the answer is left out.
    Gap,
    Answer,
}

#[derive(Debug, Default)]
pub(super) struct Think {
    state: State,
    /// What may be the beginning of a tag.
    held: String,
}

impl Think {
    /// What a piece of content means.
    pub(super) fn push(&mut self, content: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut text = std::mem::take(&mut self.held);
        text.push_str(content);
        while let Some(rest) = self.step(&text, &mut parts) {
            text = rest;
        }
        parts
    }

    /// What was held back, when nothing follows.
    pub(super) fn end(&mut self) -> Option<Part> {
        let held = std::mem::take(&mut self.held);
        match self.state {
            State::Thinking => thinking(&held),
            State::Start | State::Gap | State::Answer => answer(&held),
        }
    }

    /// Reads up to the next change of state; answers what is behind it.
    fn step(&mut self, text: &str, parts: &mut Vec<Part>) -> Option<String> {
        match self.state {
            State::Start => {
                let begun = text.trim_start();
                if let Some(rest) = begun.strip_prefix(OPEN) {
                    self.state = State::Thinking;
                    return Some(rest.into());
                }
                if OPEN.starts_with(begun) {
                    self.held = text.into();
                    return None;
                }
                self.state = State::Answer;
                Some(text.into())
            }
            State::Thinking => {
                if let Some((thought, rest)) = text.split_once(CLOSE) {
                    parts.extend(thinking(thought));
                    self.state = State::Gap;
                    return Some(rest.into());
                }
                let held = (1..CLOSE.len())
                    .rev()
                    .filter_map(|length| CLOSE.get(..length))
                    .find(|start| text.ends_with(start))
                    .unwrap_or_default();
                parts.extend(thinking(text.strip_suffix(held).unwrap_or(text)));
                self.held = held.into();
                None
            }
            State::Gap => {
                let rest = text.trim_start();
                if rest.is_empty() {
                    return None;
                }
                self.state = State::Answer;
                Some(rest.into())
            }
            State::Answer => {
                parts.extend(answer(text));
                None
            }
        }
    }
}

fn thinking(text: &str) -> Option<Part> {
    (!text.is_empty()).then(|| Part::Thinking(text.into()))
}

fn answer(text: &str) -> Option<Part> {
    (!text.is_empty()).then(|| Part::Text(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&str]) -> (String, String) {
        let mut think = Think::default();
        let mut parts: Vec<Part> = pieces.iter().flat_map(|piece| think.push(piece)).collect();
        parts.extend(think.end());
        let (mut thoughts, mut answer) = (String::new(), String::new());
        for part in parts {
            match part {
                Part::Text(text) => answer.push_str(&text),
                Part::Thinking(text) => thoughts.push_str(&text),
                other => panic!("{other:?}"),
            }
        }
        (thoughts, answer)
    }

    #[test]
    fn thoughts_at_the_start_are_kept_apart_wherever_the_chunks_are_cut() {
        let table = [
            ("plain", "", "plain"),
            ("<think>a < b</think>\n\nSo", "a < b", "So"),
            ("\n<think>ä</thinking></think>ö", "ä</thinking>", "ö"),
            ("say <think>no</think>", "", "say <think>no</think>"),
            ("<thin", "", "<thin"),
            ("<table>", "", "<table>"),
            ("<think>never ends </thi", "never ends </thi", ""),
            ("<think></think>  x <think>y", "", "x <think>y"),
            ("  \n", "", "  \n"),
        ];
        for (content, thoughts, answer) in table {
            let expected = (thoughts.to_owned(), answer.to_owned());
            assert_eq!(read(&[content]), expected, "{content:?}");
            for (cut, _) in content.char_indices() {
                let (a, b) = content.split_at(cut);
                assert_eq!(read(&[a, b]), expected, "{a:?} {b:?}");
            }
            let single: Vec<String> = content.chars().map(String::from).collect();
            let single: Vec<&str> = single.iter().map(String::as_str).collect();
            assert_eq!(read(&single), expected, "{content:?} in characters");
        }
    }
}
