//! What can go wrong between us and Rocket.Chat, in the classes that callers branch on.
//!
//! Must not: carry response bodies beyond a short excerpt, or tokens.

use std::time::Duration;

/// Why a REST call did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestError {
    /// Not reached, timed out, or 5xx. Whether the call took effect is unknown.
    #[error("Rocket.Chat cannot be reached for `{route}`: {reason}")]
    Unavailable { route: String, reason: String, retry_after: Option<Duration> },
    /// Not done, because of the server's rate limit (10 calls per minute, route and address by default).
    #[error("Rocket.Chat limits the rate of `{route}`: wait {} s; the role `bot` lifts the limit", .retry_after.as_secs())]
    RateLimited { route: String, retry_after: Duration },
    /// The token is unknown, expired or revoked.
    #[error("Rocket.Chat does not accept the token for `{route}`: {reason}")]
    Unauthorized { route: String, reason: String },
    /// The server understood and will not do it.
    #[error("Rocket.Chat refused `{route}` with {status}: {error}")]
    Refused {
        route: String,
        /// HTTP status.
        status: u16,
        /// The server's sentence, possibly empty.
        error: String,
        /// Its code (`error-not-allowed`), when it gives one; older servers write it in brackets in `error`.
        error_type: Option<String>,
    },
    /// The answer is not what this endpoint answers: another program at that address, a proxy's page, a path
    /// that this version lacks.
    #[error(
        "`{route}` did not answer as Rocket.Chat does: {reason}; is the `url` right, and the server's version supported?"
    )]
    Malformed { route: String, reason: String },
}

impl RestError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::RateLimited { .. })
    }

    /// How long the server asks to wait, if it does.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            Self::RateLimited { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// The server's error code, if it refused with one.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { error_type, .. } => error_type.as_deref(),
            _ => None,
        }
    }
}

/// Why a DDP method or subscription failed, as `Meteor.Error` says it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} [{code}]")]
pub struct DdpError {
    /// `not-allowed`, or a number as text: `403`.
    pub code: String,
    pub reason: String,
    /// How long to wait, in the server's opinion. An upper bound: it can be far too long.
    pub time_to_reset: Option<Duration>,
}

impl DdpError {
    /// One that this side makes: no answer in time, connection closed.
    pub fn local(code: &str, reason: impl Into<String>) -> Self {
        Self { code: code.to_owned(), reason: reason.into(), time_to_reset: None }
    }

    pub fn is_rate_limit(&self) -> bool {
        self.code == "too-many-requests" || self.code == "error-too-many-requests"
    }
}
