//! What can be wrong with a command line, as data, and its one rendering for the room.
//!
//! Must not: decide anything.

use std::fmt;
use std::time::Duration;

use crate::chat::help;
use crate::chat::parse::{CommandLine, Span};
use crate::command::{ArgumentKind, CommandSpec};
use crate::text::{count, duration, ellipsis, fence, or_list};

/// A command line that cannot be carried out. Its `Display` is the answer in the room.
#[derive(Clone, Debug, PartialEq)]
pub struct BindError {
    /// The first line, as typed.
    pub line: String,
    pub span: Span,
    pub problem: Problem,
    /// Name of the command, once it was recognized.
    pub command: Option<String>,
    pub usage: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Problem {
    UnknownCommand {
        typed: String,
        suggestion: Option<String>,
    },
    /// Only commands of two words begin so.
    IncompleteCommand {
        typed: String,
        choices: Vec<String>,
    },
    UnclosedQuote,
    UnknownFlag {
        typed: String,
        suggestion: Option<String>,
    },
    Duplicate {
        argument: String,
    },
    NoValue {
        flag: String,
    },
    TooMany {
        typed: String,
        most: usize,
    },
    /// Can be asked for: [`crate::chat::dialogue`].
    Missing {
        argument: String,
        kind: ArgumentKind,
        doc: String,
        choices: Vec<String>,
    },
    Empty {
        argument: String,
    },
    UnknownEnvironment {
        typed: String,
        suggestion: Option<String>,
        choices: Vec<String>,
    },
    UnknownService {
        typed: String,
        environment: Option<String>,
        suggestion: Option<String>,
        choices: Vec<String>,
        /// Environments that have a service of this name.
        elsewhere: Vec<String>,
    },
    /// A word after a target may be a service of it, or begin the free text.
    OneOrAll {
        typed: String,
        environment: String,
        /// The command for the service.
        one: String,
        /// The command for the environment.
        whole: String,
    },
    /// A word after an environment names a service of it, and the command is about all of it.
    NotOfAService {
        typed: String,
        environment: String,
        whole: String,
    },
    /// A service stands where another word belongs.
    NoServiceHere {
        typed: String,
        environment: Option<String>,
        argument: String,
        choices: Vec<String>,
    },
    UnknownPerson {
        typed: String,
        suggestion: Option<String>,
    },
    NotAnInteger {
        argument: String,
        typed: String,
        min: i64,
        max: i64,
    },
    OutOfRange {
        argument: String,
        typed: String,
        min: i64,
        max: i64,
    },
    NotADuration {
        argument: String,
        typed: String,
    },
    DurationOutOfRange {
        argument: String,
        typed: String,
        min: Option<Duration>,
        max: Option<Duration>,
    },
    NotAVersion {
        typed: String,
    },
    NotARun {
        typed: String,
    },
    NotAChoice {
        argument: String,
        typed: String,
        suggestion: Option<String>,
        choices: Vec<String>,
    },
    NotASwitch {
        argument: String,
        typed: String,
    },
}

impl BindError {
    pub(super) fn new(
        line: &CommandLine,
        span: Span,
        problem: Problem,
        command: Option<&CommandSpec>,
    ) -> Box<Self> {
        Box::new(Self {
            line: line.first_line().trim_end().to_owned(),
            span,
            problem,
            command: command.map(|c| c.name.clone()),
            usage: command.map(help::usage),
        })
    }
}

impl std::error::Error for BindError {}

impl fmt::Display for BindError {
    /// What was typed with a caret line in a block, what is wrong, what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", fence(&pointed(&self.line, self.span)))?;
        write!(f, "{}", self.problem)?;
        match (&self.usage, &self.command) {
            (Some(usage), Some(command)) => {
                write!(f, "\nUsage: `!{usage}`. `!help {command}` says more.")
            }
            _ => write!(f, "\n`!help` lists the commands."),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meant =
            |s: &Option<String>| s.as_ref().map_or(String::new(), |s| format!("; did you mean `{s}`?"));
        let or_choices = |s: &Option<String>, noun: &str, all: &[String]| match s {
            Some(_) => meant(s),
            None if all.is_empty() => ".".to_owned(),
            None => format!(". {noun}: {}.", first_few(all)),
        };
        match self {
            Self::UnknownCommand { typed, suggestion } => {
                write!(f, "There is no command {}{}", code(typed), or_choices(suggestion, "", &[]))
            }
            Self::IncompleteCommand { typed, choices } => {
                write!(f, "{} goes on with another word: {}.", code(typed), or_list(choices))
            }
            Self::UnclosedQuote => {
                write!(
                    f,
                    "The quote that opens here is not closed; the closing one stands before a blank or at the end."
                )
            }
            Self::UnknownFlag { typed, suggestion } => {
                let suggestion = suggestion.as_ref().map(|s| format!("--{s}"));
                write!(
                    f,
                    "There is no flag {} here{}",
                    code(&format!("--{typed}")),
                    or_choices(&suggestion, "", &[])
                )
            }
            Self::Duplicate { argument } => write!(f, "`{argument}` is given twice; say it once."),
            Self::NoValue { flag } => {
                write!(f, "`--{flag}` needs a value: `--{flag} VALUE` or `--{flag}=VALUE`.")
            }
            Self::TooMany { typed, most } => {
                let takes = if *most == 0 {
                    "no arguments".to_owned()
                } else {
                    format!("at most {}", count(*most, "argument"))
                };
                write!(
                    f,
                    "{} is too much: this command takes {takes}; words that belong together need quotes.",
                    code(typed)
                )
            }
            Self::Missing { argument, doc, choices, .. } => {
                let doc = if doc.is_empty() { String::new() } else { format!(" ({doc})") };
                let choices =
                    if choices.is_empty() { String::new() } else { format!(": {}", first_few(choices)) };
                write!(f, "`{argument}` is missing{doc}{choices}.")
            }
            Self::Empty { argument } => write!(f, "`{argument}` is empty; say a value or leave it out."),
            Self::UnknownEnvironment { typed, suggestion, choices } => {
                let rest = or_choices(suggestion, "Environments here", choices);
                write!(f, "There is no environment {}{rest}", code(typed))
            }
            Self::UnknownService { typed, environment, suggestion, choices, elsewhere } => {
                let place = environment.as_ref().map_or(String::new(), |e| format!(" in `{e}`"));
                if environment.is_some() && !elsewhere.is_empty() && suggestion.is_none() {
                    let there = crate::text::and_list(elsewhere);
                    return write!(f, "There is no service {}{place}; there is one in {there}.", code(typed));
                }
                let rest = or_choices(suggestion, "Services there", choices);
                write!(f, "There is no service {}{place}{rest}", code(typed))
            }
            Self::OneOrAll { typed, environment, one, whole } => write!(
                f,
                "{} may be the service, or begin what you say about all of `{environment}`. For the service: {}. For all: {}.",
                code(typed),
                crate::text::code(&format!("!{one}")),
                crate::text::code(&format!("!{whole}"))
            ),
            Self::NotOfAService { typed, environment, whole } => write!(
                f,
                "{} is a service, and this is about all of `{environment}`. If that is meant: {}.",
                code(typed),
                crate::text::code(&format!("!{whole}"))
            ),
            Self::NoServiceHere { typed, environment, argument, choices } => {
                let all = environment
                    .as_ref()
                    .map_or("an environment".to_owned(), |name| format!("all of `{name}`"));
                write!(
                    f,
                    "{} is a service, and this is about {all}: `{argument}` is {}. `!lock` can keep one service as it is.",
                    code(typed),
                    or_list(choices)
                )
            }
            Self::UnknownPerson { typed, suggestion } => {
                write!(f, "There is nobody called {}{}", code(typed), or_choices(suggestion, "", &[]))
            }
            Self::NotAnInteger { argument, typed, min, max } => {
                write!(f, "`{argument}` is a whole number{}, not {}.", range(*min, *max), code(typed))
            }
            Self::OutOfRange { argument, typed, min, max } => {
                write!(f, "`{argument}` is a whole number{}; {} is not.", range(*min, *max), code(typed))
            }
            Self::NotADuration { argument, typed } => {
                write!(f, "`{argument}` is a duration such as `30s`, `10m` or `1h30m`, not {}.", code(typed))
            }
            Self::DurationOutOfRange { argument, typed, min, max } => {
                let bounds: Vec<String> = [
                    min.map(|d| format!("at least {}", duration(d))),
                    max.map(|d| format!("at most {}", duration(d))),
                ]
                .into_iter()
                .flatten()
                .collect();
                write!(f, "`{argument}` is {}; {} is not.", bounds.join(" and "), code(typed))
            }
            Self::NotAVersion { typed } => {
                write!(f, "{} is no version: a tag such as `1.8`, or a digest `sha256:…`.", code(typed))
            }
            Self::NotARun { typed } => {
                write!(f, "{} is not a run: runs are called `R-1`, `R-2`, …", code(typed))
            }
            Self::NotAChoice { choices, typed, .. } if let [word] = choices.as_slice() => {
                write!(f, "The word `{word}` belongs here, before {}.", code(typed))
            }
            Self::NotAChoice { argument, typed, suggestion, choices } => {
                write!(f, "`{argument}` is {}, not {}", or_list(choices), code(typed))?;
                write!(f, "{}", or_choices(suggestion, "", &[]))
            }
            Self::NotASwitch { argument, typed } => {
                write!(
                    f,
                    "`--{argument}` is on when it is there (or `=true`, `=false`), not {}.",
                    code(typed)
                )
            }
        }
    }
}

/// What was typed; the block above shows where it stands, so a long one is cut.
fn code(typed: &str) -> String {
    crate::text::code(&ellipsis(typed, 60))
}

fn range(min: i64, max: i64) -> String {
    match (min, max) {
        (i64::MIN, i64::MAX) => String::new(),
        (min, i64::MAX) => format!(" of at least {min}"),
        (i64::MIN, max) => format!(" of at most {max}"),
        (min, max) => format!(" from {min} to {max}"),
    }
}

/// Enough to choose from without filling the room.
fn first_few(choices: &[String]) -> String {
    const MOST: usize = 12;
    if choices.len() <= MOST {
        return or_list(choices);
    }
    let shown: Vec<String> = choices[..MOST].iter().map(|c| format!("`{c}`")).collect();
    format!("{} and {} more", shown.join(", "), choices.len() - MOST)
}

/// The line, and under it carets below the span; a long line is cut to what stands around it.
fn pointed(line: &str, span: Span) -> String {
    /// Columns that fit a phone held upright in most clients without wrapping twice.
    const WIDTH: usize = 72;
    let start = floor_boundary(line, span.start);
    let end = floor_boundary(line, span.end).max(start);
    let before: Vec<char> = line[..start].chars().collect();
    let from = before.len().saturating_sub(WIDTH / 2);
    let from = if from <= 8 { 0 } else { from };
    let lead = if from == 0 { "" } else { "…" };
    let shown_before: String = before[from..].iter().collect();
    let rest: Vec<char> = line[start..].chars().collect();
    let room = WIDTH.saturating_sub(before.len() - from).max(WIDTH / 2);
    let (shown_rest, tail) = if rest.len() > room { (&rest[..room], "…") } else { (&rest[..], "") };
    let shown_rest: String = shown_rest.iter().collect();
    let blank = columns(lead) + columns(&shown_before);
    let marked: String = line[start..end].chars().take(room).collect();
    // A missing word is pointed at one blank after the end.
    let gap = usize::from(start == end && start == line.len() && start > 0);
    let carets = columns(&marked).max(1);
    format!("{lead}{shown_before}{shown_rest}{tail}\n{}{}", " ".repeat(blank + gap), "^".repeat(carets))
}

fn floor_boundary(text: &str, byte: usize) -> usize {
    let mut at = byte.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Width in a fixed-pitch font: East Asian characters and emoji take two columns, marks none.
fn columns(text: &str) -> usize {
    text.chars()
        .map(|c| match u32::from(c) {
            0x300..=0x36f | 0x200c..=0x200d | 0xfe00..=0xfe0f | 0x1f3fb..=0x1f3ff => 0,
            0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f => 2,
            0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd => 2,
            _ => 1,
        })
        .sum()
}
