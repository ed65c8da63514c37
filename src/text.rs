//! Words for people: counts, lists, durations, suggestions, and making foreign text safe for a room.
//!
//! Must not: know what the text is about.

mod durations;
mod sizes;

use std::borrow::Cow;
use std::time::Duration;

pub use self::durations::{parse_duration, written_duration};
pub use self::sizes::bytes;

/// `1 task`, `3 tasks`.
pub fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// `1st`, `2nd`, `11th`, `23rd`.
pub fn ordinal(n: usize) -> String {
    let ending = match (n % 10, n % 100) {
        (1, last) if last != 11 => "st",
        (2, last) if last != 12 => "nd",
        (3, last) if last != 13 => "rd",
        _ => "th",
    };
    format!("{n}{ending}")
}

/// `a`, `a or b`, `a, b or c`; each in backticks.
pub fn or_list<T: AsRef<str>>(items: &[T]) -> String {
    list(items, "or", true)
}

/// `a`, `a and b`, `a, b and c`; each in backticks.
pub fn and_list<T: AsRef<str>>(items: &[T]) -> String {
    list(items, "and", true)
}

/// As [`or_list`], without backticks.
pub fn plain_or_list<T: AsRef<str>>(items: &[T]) -> String {
    list(items, "or", false)
}

/// As [`and_list`], without backticks.
pub fn plain_and_list<T: AsRef<str>>(items: &[T]) -> String {
    list(items, "and", false)
}

fn list<T: AsRef<str>>(items: &[T], word: &str, tick: bool) -> String {
    let items: Vec<String> = items
        .iter()
        .map(|i| if tick { format!("`{}`", i.as_ref()) } else { i.as_ref().to_owned() })
        .collect();
    match items.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} {word} {last}", most.join(", ")),
    }
}

/// `850 ms`, `14 s`, `2 min 5 s`, `3 h 10 min`, `2 d 4 h`.
pub fn duration(d: Duration) -> String {
    let s = d.as_secs();
    let two = |a: u64, au: &str, b: u64, bu: &str| {
        if b == 0 { format!("{a} {au}") } else { format!("{a} {au} {b} {bu}") }
    };
    match s {
        0 => format!("{} ms", d.as_millis()),
        1..=9 => {
            let tenths = d.subsec_millis() / 100;
            if tenths == 0 { format!("{s} s") } else { format!("{s}.{tenths} s") }
        }
        10..=59 => format!("{s} s"),
        60..=3599 => two(s / 60, "min", s % 60, "s"),
        3600..=86_399 => two(s / 3600, "h", s % 3600 / 60, "min"),
        _ => two(s / 86_400, "d", s % 86_400 / 3600, "h"),
    }
}

/// How long ago `then` was: `just now`, `5 min ago`. A `then` in the future counts as now.
pub fn ago(then: jiff::Timestamp, now: jiff::Timestamp) -> String {
    let d = Duration::try_from(now.duration_since(then)).unwrap_or_default();
    if d.as_secs() < 5 {
        return "just now".into();
    }
    let coarse = match d.as_secs() {
        s @ 0..=59 => Duration::from_secs(s),
        s @ 60..=3599 => Duration::from_secs(s / 60 * 60),
        s @ 3600..=86_399 => Duration::from_secs(s / 3600 * 3600),
        s => Duration::from_secs(s / 86_400 * 86_400),
    };
    format!("{} ago", duration(coarse))
}

/// Whatever is longer is no slip of a name, and would take long to compare.
const LONGEST_SLIP: usize = 100;

/// The candidate that was probably meant: within edit distance 2 (1 for words of up to three letters),
/// also by case or as the only one that begins so. Never used to correct, only to ask.
pub fn did_you_mean<'c>(typed: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if typed.len() > LONGEST_SLIP {
        return None;
    }
    let typed_lower = typed.to_lowercase();
    let within = if typed.chars().count() <= 3 { 1 } else { 2 };
    let mut best: Option<(usize, &str)> = None;
    let mut beginning = Vec::new();
    for candidate in candidates {
        let lower = candidate.to_lowercase();
        let distance = strsim::damerau_levenshtein(&typed_lower, &lower);
        if distance <= within && best.is_none_or(|(d, _)| distance < d) {
            best = Some((distance, candidate));
        }
        if typed_lower.chars().count() >= 2 && lower.starts_with(&typed_lower) {
            beginning.push(candidate);
        }
    }
    best.map(|(_, c)| c).or(if beginning.len() == 1 { beginning.first().copied() } else { None })
}

/// Foreign text (a log line, a name, a reason) for a Rocket.Chat message: control characters and
/// bidirectional overrides out, `@` cut from the word that follows so that nobody is notified and the
/// server accepts the message (a bot's `@all` makes the whole send fail).
pub fn defuse(text: &str) -> Cow<'_, str> {
    clean(text, "@\u{200b}")
}

/// Foreign text for where nobody can be called by it: what [`defuse`] takes out, and every `@` as it is.
pub fn printable(text: &str) -> Cow<'_, str> {
    clean(text, "@")
}

fn clean<'t>(text: &'t str, at: &str) -> Cow<'t, str> {
    let harmless = |c: char| !(c == '@' || is_unprintable(c));
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' && chars.next_if_eq(&'[').is_some() {
            // A terminal's colours: without the escape they would stand there as digits.
            while chars.next_if(|c| matches!(c, ' '..='?')).is_some() {}
            chars.next_if(|c| matches!(c, '@'..='~'));
        } else if c == '@' {
            out.push_str(at);
        } else if !is_unprintable(c) {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

fn is_unprintable(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

/// Foreign text as inline code: backticks would end it early, so they are replaced.
pub fn code(text: &str) -> String {
    let text = defuse(text).replace('`', "ˋ").replace('\n', " ");
    format!("`{text}`")
}

/// Of what a person said, where an answer repeats it: enough to know it again.
pub const QUOTED: usize = 200;

/// Foreign text on one line: what stands on a line of its own is Houston's.
pub fn line(text: &str) -> String {
    defuse(text).replace('\n', " ")
}

/// Foreign text on one line, without links that show something else than where they lead: what a host, an engine or a
/// person says, within a line of Houston's.
pub fn inert(text: &str) -> String {
    line(text).replace("](", "]\u{200b}(").replace('<', "<\u{200b}")
}

/// What a person said, repeated in an answer: [`inert`], and its beginning, when it is long. A command that others decide
/// about, or that is to be copied, is shown whole ([`code`]).
pub fn said(text: &str) -> String {
    inert(&ellipsis(text, QUOTED))
}

/// An error and what caused it, on one line. Some errors say what caused them themselves: that is not said twice.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = next.source();
    }
    text.replace(['\r', '\n'], " ")
}

/// What caused an error in the end: `permission denied` rather than `error sending request`.
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// As [`said`], as inline code: a command or a word.
pub fn typed(text: &str) -> String {
    code(&ellipsis(text, QUOTED))
}

/// Foreign text as a fenced block that it cannot leave.
pub fn fence(text: &str) -> String {
    let text = defuse(text).replace("```", "ˋˋˋ");
    format!("```\n{}\n```", text.trim_end_matches('\n'))
}

/// Lines to be copied into a shell, exactly as they are: an `@` within a word calls nobody, so it stays whole.
pub fn commands<T: AsRef<str>>(lines: &[T]) -> String {
    let mut out = String::from("```");
    for line in lines {
        out.push('\n');
        let mut before = ' ';
        for c in line.as_ref().replace("```", "ˋˋˋ").chars() {
            match c {
                '@' if !before.is_alphanumeric() => out.push_str("@\u{200b}"),
                c if is_unprintable(c) => {}
                c => out.push(c),
            }
            before = c;
        }
    }
    out + "\n```"
}

/// One word of a POSIX shell, whatever `text` holds.
pub fn shquote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Words as a POSIX shell reads them back: `docker service rm web`, `sh -c 'echo $1'`.
pub fn shell_words<T: AsRef<str>>(words: &[T]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    let quoted = words.iter().map(|word| match word.as_ref() {
        word if !word.is_empty() && word.chars().all(plain) => word.to_owned(),
        word => shquote(word),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// Length as Rocket.Chat counts it: UTF-16 units.
pub fn chat_len(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// As much of `text` as fits into `max` UTF-16 units.
fn beginning(text: &str, max: usize) -> &str {
    let mut used = 0;
    let end = text.char_indices().find(|(_, c)| {
        used += c.len_utf16();
        used > max
    });
    end.map_or(text, |(at, _)| &text[..at])
}

/// `text`, cut to at most `max` UTF-16 units with `…` as its last character when anything was cut.
pub fn ellipsis(text: &str, max: usize) -> Cow<'_, str> {
    if chat_len(text) <= max {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}…", beginning(text, max.saturating_sub(1))))
}

/// The beginning of `text` and how much more there is, when it is longer than `max` UTF-16 units. For a line
/// of something that is kept whole elsewhere.
pub fn shorten(text: &str, max: usize) -> Cow<'_, str> {
    let kept = beginning(text, max);
    if kept.len() == text.len() {
        return Cow::Borrowed(text);
    }
    let more = count(text[kept.len()..].chars().count(), "character");
    Cow::Owned(format!("{kept} … {more} left out"))
}

/// Head and tail of a long output, and how many lines were left out between them.
pub fn head_and_tail(text: &str, head: usize, tail: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() <= head + tail + 1 {
        return shown(&lines);
    }
    let left_out = lines.len() - head - tail;
    let mut out = shown(&lines[..head]);
    out.push_str(&format!("\n… {} left out …\n", count(left_out, "line")));
    out.push_str(&shown(&lines[lines.len() - tail..]));
    out
}

/// Of a line of output in a room.
pub const LONGEST_SHOWN_LINE: usize = 300;

fn shown(lines: &[&str]) -> String {
    let lines: Vec<Cow<'_, str>> = lines.iter().map(|line| shorten(line, LONGEST_SHOWN_LINE)).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals_end_as_they_are_said() {
        let said: Vec<String> = [1, 2, 3, 4, 11, 12, 13, 21, 112, 122].map(ordinal).into();
        assert_eq!(said, ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th", "122nd"]);
    }

    #[test]
    fn lists_and_counts_read_like_sentences() {
        assert_eq!(or_list(&["a", "b", "c"]), "`a`, `b` or `c`");
        assert_eq!(and_list(&["a"]), "`a`");
        assert_eq!(count(1, "task"), "1 task");
        assert_eq!(count(0, "task"), "0 tasks");
    }

    #[test]
    fn durations_have_two_units_at_most() {
        let d = |s| duration(Duration::from_secs(s));
        assert_eq!(duration(Duration::from_millis(850)), "850 ms");
        assert_eq!(duration(Duration::from_millis(1850)), "1.8 s");
        assert_eq!(
            [d(14), d(125), d(120), d(11_400), d(187_200)],
            ["14 s", "2 min 5 s", "2 min", "3 h 10 min", "2 d 4 h"]
        );
    }

    #[test]
    fn suggestions_stay_close() {
        let names = ["prod", "staging", "dev"];
        assert_eq!(did_you_mean("pord", names), Some("prod"));
        assert_eq!(did_you_mean("PROD", names), Some("prod"));
        assert_eq!(did_you_mean("stag", names), Some("staging"));
        assert_eq!(did_you_mean("xyz", names), None);
    }

    #[test]
    fn foreign_text_notifies_nobody_and_stays_in_its_fence() {
        assert_eq!(defuse("hi @all"), "hi @\u{200b}all");
        assert_eq!(defuse("a\u{202e}b\u{7}"), "ab");
        assert_eq!(defuse("\u{1b}[1;31mred\u{1b}[0m \u{200f}אב\u{1b}"), "red אב");
        assert_eq!(code("x`y"), "`xˋy`");
        assert_eq!(fence("a\n```\nb"), "```\na\nˋˋˋ\nb\n```");
    }

    #[test]
    fn what_somebody_said_makes_no_line_and_no_link_of_its_own() {
        assert_eq!(line("why\n:white_check_mark: *approved*"), "why :white_check_mark: *approved*");
        assert_eq!(said("no\nyes @all"), "no yes @\u{200b}all");
        assert_eq!(said("[card](https://evil)"), "[card]\u{200b}(https://evil)");
        assert_eq!(said("<https://evil|card>"), "<\u{200b}https://evil|card>");
        assert_eq!(inert("no\n*yes* [card](https://evil)"), "no *yes* [card]\u{200b}(https://evil)");
    }

    #[test]
    fn commands_can_be_copied_and_call_nobody() {
        assert_eq!(
            commands(&["rm web@sha256:1", "echo @all"]),
            "```\nrm web@sha256:1\necho @\u{200b}all\n```"
        );
        assert_eq!(commands(&["echo '```'"]), "```\necho 'ˋˋˋ'\n```");
        assert_eq!(
            shell_words(&["sh", "-c", "echo 'a b' $1", "", "x=1"]),
            r"sh -c 'echo '\''a b'\'' $1' '' x=1"
        );
    }

    #[test]
    fn cutting_counts_as_the_server_does() {
        assert_eq!(ellipsis("🚀🚀🚀", 5), "🚀🚀…");
        assert_eq!(ellipsis("short", 5), "short");
        assert_eq!(shorten("🚀🚀🚀", 5), "🚀🚀 … 1 character left out");
        assert_eq!(
            head_and_tail(&"x".repeat(301), 1, 1),
            format!("{} … 1 character left out", "x".repeat(300))
        );
        assert_eq!(head_and_tail("1\n2\n3\n4\n5\n6", 2, 1), "1\n2\n… 3 lines left out …\n6");
    }
}
