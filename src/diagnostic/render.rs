//! Findings for people: in a terminal with the line they are about, in chat in few words.
//!
//! Must not: decide what is a finding, or read files: sources are asked for.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;

use super::{Diagnostic, Diagnostics, Severity};
use crate::text;

/// How a terminal is written to.
pub struct Terminal<'a> {
    /// Whether ANSI colours may be used. Nothing is said by colour alone.
    pub colour: bool,
    /// Put before the paths of findings, so that an editor can open them; empty: paths as they are.
    pub root: &'a Path,
    /// The text of a file, by the path of the finding. `None`: no excerpt.
    pub source: &'a dyn Fn(&Path) -> Option<String>,
}

/// Longer source lines are cut around the column that the finding is about.
const EXCERPT: usize = 100;

impl Terminal<'_> {
    /// All findings in the order of files and lines, an empty line between them.
    pub fn render(&self, found: &Diagnostics) -> String {
        let mut out = String::new();
        let mut last: Option<(std::sync::Arc<Path>, Option<String>)> = None;
        let sorted = found.sorted();
        let secret_lines: HashSet<(&Path, u32)> = sorted
            .iter()
            .filter(|finding| finding.confidential)
            .filter_map(|finding| finding.at.as_ref().map(|at| (&*at.file, at.line)))
            .collect();
        for finding in sorted {
            if !out.is_empty() {
                out.push('\n');
            }
            // Findings come sorted by file: one text at a time is enough.
            let source = finding.at.as_ref().and_then(|at| {
                if secret_lines.contains(&(&*at.file, at.line)) {
                    return None;
                }
                if last.as_ref().is_none_or(|(file, _)| *file != at.file) {
                    last = Some((at.file.clone(), (self.source)(&at.file)));
                }
                last.as_ref().and_then(|(_, text)| text.as_deref())
            });
            self.one(&mut out, finding, source);
        }
        out
    }

    fn one(&self, out: &mut String, finding: &Diagnostic, source: Option<&str>) {
        let (word, style) = match finding.severity {
            Severity::Error => ("error", "1;31"),
            Severity::Warning => ("warning", "1;33"),
        };
        let _ = write!(out, "{}: ", self.styled(word, style));
        if let Some(at) = &finding.at {
            let file = if at.file.starts_with(crate::assets::BUILT_IN) {
                at.file.to_path_buf()
            } else {
                self.root.join(&at.file)
            };
            let place = format!("{}:{}:{}", file.display(), at.line, at.column);
            let _ = write!(out, "{}: ", self.styled(&printable(&place), "1"));
        }
        let _ = writeln!(out, "{}", printable(&finding.message));
        if let (Some(at), Some(source)) = (&finding.at, source)
            && let Some(line) = source.lines().nth(at.line as usize - 1)
        {
            self.excerpt(out, line, at.line, at.column as usize - 1, style);
        }
        for hint in &finding.hints {
            let _ = writeln!(out, "  {}: {}", self.styled("hint", "36"), printable(hint));
        }
    }

    /// The line, and a caret under the column.
    fn excerpt(&self, out: &mut String, line: &str, number: u32, column: usize, style: &str) {
        let from = if column > EXCERPT * 3 / 4 { column - EXCERPT / 2 } else { 0 };
        let shown: String =
            line.chars().skip(from).take(EXCERPT).map(|c| if c == '\t' { ' ' } else { c }).collect();
        let shown = printable(&shown);
        let number = number.to_string();
        let margin = " ".repeat(number.len());
        let dots = if from > 0 { "…" } else { "" };
        let _ = writeln!(out, "  {} {} {dots}{shown}", self.styled(&number, "2"), self.styled("|", "2"));
        let caret = " ".repeat(column.saturating_sub(from) + dots.chars().count());
        let _ = writeln!(out, "  {margin} {} {caret}{}", self.styled("|", "2"), self.styled("^", style));
    }

    fn styled(&self, text: &str, code: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// What a file says may hold escape sequences; a terminal must not obey them.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// For a room: errors first, at most `most` of them, each a line with its hint.
pub fn for_chat(found: &Diagnostics, most: usize) -> String {
    let mut all = found.sorted();
    all.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let mut out = String::new();
    for finding in all.iter().take(most) {
        let icon = match finding.severity {
            Severity::Error => ":x:",
            Severity::Warning => ":warning:",
        };
        let _ = write!(out, "{icon} ");
        if let Some(at) = &finding.at {
            let _ = write!(out, "{} ", text::code(&at.to_string()));
        }
        let _ = write!(out, "{}", text::defuse(&finding.message));
        if let Some(hint) = finding.hints.first() {
            let _ = write!(out, " – {}", text::defuse(hint));
        }
        out.push('\n');
    }
    let left = all.len().saturating_sub(most);
    if left > 0 {
        let _ =
            writeln!(out, "… and {}: `houston check` shows all of them", text::count(left, "more finding"));
    }
    out.truncate(out.trim_end().len());
    out
}
