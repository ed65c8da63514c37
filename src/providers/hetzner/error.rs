//! What can go wrong between us and Hetzner, told apart by what one does about it; each code of the API is explained
//! here and nowhere else.

use std::time::Duration;

use crate::exec::secret::SecretError;
use crate::text;

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum HetznerError {
    /// No connection, or no answer in time.
    #[error("{what}: Hetzner's API cannot be reached: {reason}")]
    Unreachable { what: String, reason: String, maybe_done: bool },
    /// The API's own answer.
    #[error("{what}: {}", refusal(*status, code, message))]
    Refused { what: String, status: u16, code: String, message: String },
    /// Not the API's answer: a page of somebody in between, or one that makes no sense.
    #[error("{what}: this is no answer of Hetzner's API (status {status}): {reason}")]
    Unreadable { what: String, status: u16, reason: String, maybe_done: bool },
    /// It was accepted, and did not work.
    #[error("{what}: it was begun and has failed: {message} (`{code}`)")]
    Failed { what: String, code: String, message: String },
    #[error("{what}: not done after {}", text::duration(*after))]
    Slow { what: String, after: Duration },
    /// Something that a file names is not in the project.
    #[error("Hetzner knows no {kind} {}", text::code(name))]
    Missing { kind: &'static str, name: String, known: Vec<String> },
    #[error(transparent)]
    Token(#[from] SecretError),
}

/// What the API's codes mean for whoever reads it.
const CODES: &[(&str, &str)] = &[
    ("unauthorized", "the token is not valid"),
    ("forbidden", "the token may not do this"),
    ("token_readonly", "the token may only read"),
    ("rate_limit_exceeded", "too many requests for this project within an hour"),
    ("resource_unavailable", "the location has none of this type to give at the moment"),
    ("placement_error", "no machine of the location has room for it"),
    ("unavailable", "the location has none of this type to give at the moment"),
    ("resource_limit_exceeded", "the project's quota is used up"),
    ("quota_exceeded", "the project's quota is used up"),
    ("uniqueness_error", "there is something of this name already"),
    ("locked", "another action is under way there"),
    ("conflict", "it was changed in the meantime"),
    ("protected", "it is protected from this"),
    ("not_found", "it does not exist"),
    ("maintenance", "Hetzner is working there"),
    ("invalid_input", "something that was asked for is not possible"),
    ("server_error", "Hetzner's API had an error of its own"),
    ("service_error", "Hetzner's API had an error of its own"),
    ("timeout", "Hetzner's API took too long"),
    ("deprecated_api_endpoint", "Hetzner's API does not offer this any more"),
    ("unsupported_error", "this cannot be done there"),
];

/// What to do about it.
const HINTS: &[(&str, &str)] = &[
    (
        "unauthorized",
        "make a token in the console (Security, API tokens) and put it where `providers.hetzner.token` points",
    ),
    ("forbidden", "`providers.hetzner.token` needs a token that may read and write"),
    ("token_readonly", "`providers.hetzner.token` needs a token that may read and write"),
    ("rate_limit_exceeded", "wait some minutes; others use the same project's limit"),
    ("resource_unavailable", "try again later, or name another `location` or `type` in the environment file"),
    ("placement_error", "try again later, or without the `placement_group`"),
    ("unavailable", "try again later, or name another `location` or `type` in the environment file"),
    (
        "resource_limit_exceeded",
        "remove what is not needed (`hcloud server list`), or ask Hetzner for a higher limit",
    ),
    ("quota_exceeded", "remove what is not needed (`hcloud server list`), or ask Hetzner for a higher limit"),
    ("uniqueness_error", "`hcloud server list` shows what has that name"),
    ("locked", "try again when it is done"),
    ("protected", "lift the protection in the console, if it is meant: `hcloud server disable-protection`"),
    ("maintenance", "https://status.hetzner.com says for how long"),
    ("server_error", "https://status.hetzner.com says whether that is known"),
    ("service_error", "https://status.hetzner.com says whether that is known"),
    ("deprecated_api_endpoint", "a newer Houston may know how else"),
];

fn explained<'t>(table: &'t [(&str, &'t str)], code: &str) -> Option<&'t str> {
    table.iter().find(|(known, _)| *known == code).map(|(_, text)| *text)
}

fn refusal(status: u16, code: &str, message: &str) -> String {
    match explained(CODES, code) {
        Some(meaning) => format!("{meaning} (Hetzner says `{code}`: {message})"),
        None => format!("Hetzner refused it with `{code}` (status {status}): {message}"),
    }
}

impl HetznerError {
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } | Self::Failed { code, .. } => Some(code),
            _ => None,
        }
    }

    pub fn is(&self, code: &str) -> bool {
        self.code() == Some(code)
    }

    /// Whether the location has nothing to give.
    pub fn is_capacity(&self) -> bool {
        matches!(self.code(), Some("resource_unavailable" | "placement_error" | "unavailable"))
    }

    /// Whether the same request may succeed later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Slow { .. } => true,
            Self::Unreadable { status, .. } => *status >= 500 || *status == 429,
            Self::Refused { status, code, .. } => {
                *status >= 500
                    || self.is_capacity()
                    || matches!(
                        code.as_str(),
                        "rate_limit_exceeded" | "locked" | "conflict" | "timeout" | "maintenance"
                    )
            }
            Self::Failed { .. } => self.is_capacity(),
            Self::Token(error) => matches!(error.reference, crate::secret::SecretRef::Command(_)),
            Self::Missing { .. } => false,
        }
    }

    /// Whether nobody can tell from the answer if it was done.
    pub fn maybe_done(&self) -> bool {
        match self {
            Self::Unreachable { maybe_done, .. } | Self::Unreadable { maybe_done, .. } => *maybe_done,
            Self::Refused { status, code, .. } => *status >= 500 || code == "timeout",
            Self::Failed { .. } | Self::Slow { .. } => true,
            Self::Missing { .. } | Self::Token(_) => false,
        }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => {
                Some("look whether this machine reaches the address under `providers.hetzner.url`".to_owned())
            }
            Self::Unreadable { .. } => Some(
                "`providers.hetzner.url` has to be the API itself; https://status.hetzner.com says how it is"
                    .to_owned(),
            ),
            Self::Refused { code, .. } | Self::Failed { code, .. } => {
                explained(HINTS, code).map(str::to_owned)
            }
            Self::Slow { .. } => Some("https://status.hetzner.com says how it is".to_owned()),
            Self::Missing { name, known, .. } => {
                Some(match text::did_you_mean(name, known.iter().map(String::as_str)) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None if known.is_empty() => {
                        "the project has none; is it the token of another project?".to_owned()
                    }
                    None => format!("the project has {}", text::and_list(&known[..known.len().min(8)])),
                })
            }
            Self::Token(error) => error.hint.clone(),
        }
    }
}
