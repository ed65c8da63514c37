//! Texts that are longer than the server takes: split between lines, under ids that a resend finds again.
//!
//! Must not: drop a character that was to be said, except in [`cut`], which says so.

use sha2::{Digest as _, Sha256};

use crate::ids::{MessageId, UNMISTAKABLE};
use crate::text::chat_len;

/// Units that are kept for how [`cut`] ends.
const CUT: usize = 60;

/// Room that is kept for closing a fence: a line feed and three backticks.
const FENCE_END: usize = 4;

/// The id of part `n` (counted from 0) of the message `id`; part 0 is the message itself.
pub fn part_id(id: &MessageId, n: usize) -> MessageId {
    if n == 0 {
        return id.clone();
    }
    let mut hash = Sha256::new();
    hash.update(id.as_str().as_bytes());
    hash.update([0]);
    hash.update((n as u64).to_be_bytes());
    let digest = hash.finalize();
    let alphabet = UNMISTAKABLE.len();
    MessageId::new(
        digest
            .iter()
            .take(17)
            .map(|b| char::from(UNMISTAKABLE[usize::from(*b) % alphabet]))
            .collect::<String>(),
    )
}

/// `text` in parts of at most `max` UTF-16 units each, split between lines where that is possible. A code
/// fence that is open at a split is closed there and opened again, with its language, in the next part.
pub fn split(text: &str, max: usize) -> Vec<String> {
    // Below this nothing sensible fits; a server set so low gets parts that it may refuse.
    let max = max.max(40);
    if chat_len(text) <= max {
        return vec![text.to_owned()];
    }
    let mut parts = Vec::new();
    let mut part = Part::default();
    for line in text.split('\n') {
        let fence = line.trim_start().starts_with("```").then(|| line.trim_start());
        for piece in pieces(line, max) {
            if !part.takes(piece, max) {
                part.finish(&mut parts);
            }
            part.push(piece);
        }
        if let Some(fence) = fence {
            part.fence = match part.fence {
                Some(_) => None,
                // A fence that ends on its own line (```code```) opens nothing.
                None if fence.len() > 3 && fence[3..].contains("```") => None,
                None => Some(language(fence)),
            };
        }
    }
    part.finish(&mut parts);
    parts
}

/// `text` when it fits, else its beginning and how many lines, or characters of one line, are left out.
pub fn cut(text: &str, max: usize) -> String {
    if chat_len(text) <= max {
        return text.to_owned();
    }
    let parts = split(text, max.saturating_sub(CUT));
    let lines = |text: &str| text.lines().filter(|line| !line.starts_with("```")).count();
    let first = &parts[0];
    let left_out = match lines(text).saturating_sub(lines(first)) {
        0 => crate::text::count(text.chars().count().saturating_sub(first.chars().count()), "character"),
        n => crate::text::count(n, "line"),
    };
    format!("{first}\n_(cut: {left_out} more than one message takes)_")
}

/// The opening line of a fence, without an over-long rest.
fn language(fence: &str) -> String {
    fence.chars().take(3 + 16).collect::<String>().trim_end().to_owned()
}

#[derive(Default)]
struct Part {
    text: Option<String>,
    units: usize,
    /// The line that opened the fence in which the next line stands.
    fence: Option<String>,
}

impl Part {
    fn takes(&self, line: &str, max: usize) -> bool {
        let Some(_) = &self.text else { return true };
        // Even a line that opens a fence needs the room to close it.
        self.units + 1 + chat_len(line) + FENCE_END <= max
    }

    fn push(&mut self, line: &str) {
        match &mut self.text {
            Some(text) => {
                text.push('\n');
                text.push_str(line);
                self.units += 1 + chat_len(line);
            }
            None => {
                self.text = Some(line.to_owned());
                self.units = chat_len(line);
            }
        }
    }

    fn finish(&mut self, parts: &mut Vec<String>) {
        let Some(mut text) = self.text.take() else { return };
        let reopened = self.fence.clone();
        if self.fence.is_some() {
            text.push_str("\n```");
        }
        // A part of blank lines only would be refused, or be an empty message.
        if !text.trim().is_empty() {
            parts.push(text);
        }
        self.units = 0;
        if let Some(fence) = reopened {
            self.push(&fence);
        }
    }
}

/// A line in pieces that fit a part of their own, with the fence around them.
fn pieces(line: &str, max: usize) -> Vec<&str> {
    // An opening line (at most 19 characters), its line feed, and the closing fence.
    let max = max - FENCE_END - 20;
    let mut pieces = Vec::new();
    let (mut start, mut units) = (0, 0);
    for (at, c) in line.char_indices() {
        if units + c.len_utf16() > max {
            pieces.push(&line[start..at]);
            (start, units) = (at, 0);
        }
        units += c.len_utf16();
    }
    pieces.push(&line[start..]);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_that_fits_is_one_part_as_it_was() {
        assert_eq!(split("hello\n", 5000), ["hello\n"]);
        assert_eq!(cut("hello", 5000), "hello");
    }

    #[test]
    fn a_fence_is_closed_and_opened_again_at_a_split() {
        let log: String = (0..20).map(|n| format!("line number {n}\n")).collect();
        let parts = split(&format!("Output:\n```text\n{log}```\ndone"), 120);
        assert!(parts.len() > 2, "{parts:#?}");
        for part in &parts {
            assert_eq!(part.matches("```").count() % 2, 0, "{part}");
        }
        assert!(parts[1].starts_with("```text\n"), "{}", parts[1]);
        let said: Vec<&str> =
            parts.iter().flat_map(|p| p.lines()).filter(|l| l.starts_with("line number")).collect();
        assert_eq!(said.len(), 20, "nothing is lost and nothing is said twice");
    }

    #[test]
    fn the_ids_of_parts_are_the_same_at_every_attempt_and_differ_from_each_other() {
        let id = MessageId::from("AAAAAAAAAAAAAAAAA");
        assert_eq!(part_id(&id, 0), id);
        assert_eq!(part_id(&id, 1), part_id(&id, 1));
        assert_ne!(part_id(&id, 1), part_id(&id, 2));
        assert_ne!(part_id(&id, 1), part_id(&MessageId::from("B"), 1));
        assert_eq!(part_id(&id, 1).as_str().len(), 17);
    }

    #[test]
    fn a_cut_text_says_that_it_was_cut() {
        let cut = cut(&"word ".repeat(100), 200);
        assert!(cut.ends_with("characters more than one message takes)_"), "{cut}");
        assert!(chat_len(&cut) <= 200);
        let cut = super::cut(&"a line\n".repeat(100), 200);
        let kept = cut.lines().filter(|line| *line == "a line").count();
        assert!(
            cut.ends_with(&format!("_(cut: {} lines more than one message takes)_", 100 - kept)),
            "{cut}"
        );
    }

    proptest! {
        #[test]
        fn parts_fit_and_together_say_everything(text in "([a-z🚀]{0,60}\n|```[a-z]{0,3}\n){0,30}[a-z ]{0,300}", max in 60usize..400) {
            let parts = split(&text, max);
            for part in &parts {
                prop_assert!(chat_len(part) <= max, "{} > {max}: {part:?}", chat_len(part));
            }
            let letters = |t: &str| t.chars().filter(|c| *c == '🚀').count();
            prop_assert_eq!(parts.iter().map(|p| letters(p)).sum::<usize>(), letters(&text));
        }
    }
}
