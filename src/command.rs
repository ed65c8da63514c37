//! The schema of a command (`commands/*.yaml`): one declaration drives parser, help, plan, card and audit.
//!
//! Must not: read files or execute.

pub mod read;

use std::time::Duration;

use crate::diagnostic::Location;
use crate::text;

/// A command that people can type.
#[derive(Clone, Debug)]
pub struct CommandSpec {
    /// One or two words: `deploy`, `backup list`.
    pub name: String,
    pub aliases: Vec<String>,
    /// One sentence, for the list.
    pub summary: String,
    /// More, for `help <command>`.
    pub details: Option<String>,
    pub examples: Vec<String>,
    /// Whether it changes something: gets `--dry-run`, `--reason`, a durable record, a plan, an audit entry.
    pub changes: bool,
    pub action: Action,
    /// Positional, in order.
    pub arguments: Vec<Argument>,
    pub flags: Vec<Argument>,
    pub at: Location,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Code in `chat/builtin/`.
    Builtin(String),
    /// A playbook by name.
    Playbook(String),
}

/// A typed value, positional or `--name value` or `name=value`.
#[derive(Clone, Debug)]
pub struct Argument {
    pub name: String,
    pub kind: ArgumentKind,
    pub required: bool,
    /// As it would be typed.
    pub default: Option<String>,
    pub doc: String,
    pub at: Location,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ArgumentKind {
    /// One of the configured environments.
    Environment,
    /// A service of the environment that another argument names.
    Service,
    /// An environment or one service of it: `prod`, `prod/web`. What can be locked.
    Target,
    /// A tag or digest.
    Version,
    Integer {
        min: i64,
        max: i64,
    },
    /// `30s`, `10m`, `2h`
    Duration {
        min: Option<Duration>,
        max: Option<Duration>,
    },
    Enum(Vec<String>),
    /// `R-41`
    Run,
    /// A user name, with or without `@`.
    User,
    /// One word or quoted words.
    Text,
    /// All that follows, as typed.
    Rest,
    /// A flag without a value.
    Switch,
}

/// What a playbook calls an argument: names in templates have no `-`.
pub fn input_name(argument: &str) -> String {
    argument.replace('-', "_")
}

/// A bound value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    Integer(i64),
    Duration(Duration),
    Run(crate::ids::RunId),
    Switch(bool),
}

impl Value {
    /// As it would be typed.
    pub fn as_typed(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Integer(n) => n.to_string(),
            Self::Duration(d) => text::written_duration(*d),
            Self::Run(run) => run.to_string(),
            Self::Switch(on) => on.to_string(),
        }
    }
}

/// A tag as registries take it, or a digest.
pub fn is_version(typed: &str) -> bool {
    if let Some(hex) = typed.strip_prefix("sha256:") {
        return hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    }
    typed.len() <= 128
        && typed.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && typed.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}
