//! Printing for people at a terminal: the one place that writes to standard output and standard error.
//!
//! Must not: colour anything that is not a terminal, or when `NO_COLOR` is set.

use std::io::{IsTerminal as _, Write as _};

use crate::text;

/// A line on standard output. A closed pipe ends the program quietly, as people who use `| head` expect.
pub fn line(text: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{}", text.as_ref()).is_err() {
        std::process::exit(0);
    }
}

/// What others said, within a line: it begins none of its own, and a terminal obeys nothing of it.
pub fn foreign(text: &str) -> String {
    text::printable(text).replace(['\n', '\t'], " ")
}

/// Many lines that others said: as they are for a program, and for a terminal without what it would obey.
pub fn output(text: &str) {
    if at_terminal() { line(text::printable(text)) } else { line(text) }
}

/// `error: …` and `hint: …` on standard error.
pub fn error(message: impl std::fmt::Display, hints: &[String]) {
    let (red, cyan, plain) =
        if colour(&std::io::stderr()) { ("\x1b[1;31m", "\x1b[36m", "\x1b[0m") } else { ("", "", "") };
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "{red}error:{plain} {}", text::printable(&message.to_string()));
    for hint in hints {
        let _ = writeln!(err, "{cyan}hint:{plain} {}", text::printable(hint));
    }
}

/// A remark on standard error.
pub fn note(message: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{message}");
}

/// Whether to colour what goes there.
pub fn colour(stream: &impl std::io::IsTerminal) -> bool {
    stream.is_terminal() && crate::config::env::get("NO_COLOR").is_none()
}

pub fn stdout_colour() -> bool {
    colour(&std::io::stdout())
}

/// Whether somebody sits at the other end of standard output.
pub fn at_terminal() -> bool {
    std::io::stdout().is_terminal()
}
