//! What can go wrong between us and a Swarm, told apart by what one does about it.

use reqwest::StatusCode;
use serde_json::Value as Json;

/// Why one manager was of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// `node1 (deploy@10.0.0.2)` or the socket's path.
    pub manager: String,
    pub problem: Problem,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The host, or the way there.
    #[error("{0}")]
    Unreachable(String),
    /// The host can be reached.
    #[error("its Docker daemon does not answer ({0})")]
    NoDaemon(String),
    #[error("it is not a manager of a Swarm")]
    NotManager,
    #[error("its Swarm has no leader, too few managers are online")]
    NoQuorum,
    #[error("it did not answer in time")]
    TimedOut,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SwarmError {
    /// Every manager was tried.
    #[error("no Swarm manager is of use: {}", tried_list(tried))]
    NoManager { tried: Vec<Tried> },
    #[error("{what} does not exist")]
    NotFound { what: String },
    /// `Version.Index` has moved on since the service was read.
    #[error("{what} was changed by somebody else in the meantime")]
    Stale { what: String },
    /// The name or the port is taken.
    #[error("{what}: {message}")]
    Conflict { what: String, message: String },
    #[error("{what}: the engine refused ({status}): {message}")]
    Refused { what: String, status: u16, message: String },
    #[error("the engine's answer about {what} cannot be read: {reason}")]
    Unreadable { what: String, reason: String },
}

fn tried_list(tried: &[Tried]) -> String {
    let each: Vec<String> = tried.iter().map(|t| format!("{}: {}", t.manager, t.problem)).collect();
    each.join("; ")
}

impl SwarmError {
    /// Whether the same request may succeed later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoManager { tried } => !tried.iter().all(|t| t.problem == Problem::NotManager),
            Self::Stale { .. } => true,
            Self::Refused { status, .. } => *status >= 502,
            _ => false,
        }
    }

    /// Whether looking again may tell more.
    pub(super) fn may_pass(&self) -> bool {
        self.is_transient() || matches!(self, Self::Refused { status: 500.., .. })
    }

    /// Whether no manager answers, or none that has a leader: as a rule one does again soon, after an election or when
    /// a daemon was restarted.
    pub fn is_nobody_there(&self) -> bool {
        matches!(self, Self::NoManager { .. }) && self.is_transient()
    }

    /// In a few words, for the line that says what is waited for.
    pub fn waited_for(&self) -> &'static str {
        let Self::NoManager { tried } = self else { return "the Swarm does not tell what is so" };
        if tried.iter().any(|t| t.problem == Problem::NoQuorum) {
            "the Swarm has no leader now"
        } else {
            "no manager of the Swarm answers now"
        }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoManager { tried } => {
                let any = |f: fn(&Problem) -> bool| tried.iter().any(|t| f(&t.problem));
                Some(if any(|p| *p == Problem::NoQuorum) {
                    "more than half of the managers must be up: start those that are down, or see \
                     `docker swarm init --force-new-cluster`"
                        .to_owned()
                } else if any(|p| *p == Problem::NotManager) {
                    "name managers under `swarm` in the environment file, or run `docker swarm init` there"
                        .to_owned()
                } else if let Some(hint) = tried.iter().find_map(|t| t.hint.clone()) {
                    hint
                } else if any(|p| matches!(p, Problem::NoDaemon(_))) {
                    "start the Docker daemon there (`systemctl start docker`), and see that the Docker socket may be opened"
                        .to_owned()
                } else {
                    "check that the hosts are up and that the Docker socket may be opened".to_owned()
                })
            }
            Self::Stale { .. } => Some("plan again to see what it is now".to_owned()),
            Self::Refused { message, .. } | Self::Conflict { message, .. } => {
                message.contains("already in use").then(|| {
                    "another service publishes this port; choose another one in the environment file"
                        .to_owned()
                })
            }
            _ => None,
        }
    }

    /// An answer that was no success. Engines of different ages use different codes for the same thing,
    /// so a stale index is known by its text (Docker 20.10 to 28: `update out of sequence`).
    pub(super) fn refused(what: &str, status: StatusCode, body: &[u8]) -> Self {
        let message = message_of(body);
        let what = what.to_owned();
        if message.contains("update out of sequence") {
            return Self::Stale { what };
        }
        match status {
            StatusCode::NOT_FOUND if !message.contains("network") => Self::NotFound { what },
            StatusCode::CONFLICT => Self::Conflict { what, message },
            _ => Self::Refused { what, status: status.as_u16(), message },
        }
    }
}

/// The text of an error answer: `{"message": …}`, or what there is.
pub(super) fn message_of(body: &[u8]) -> String {
    let text = serde_json::from_slice::<Json>(body)
        .ok()
        .and_then(|v| v.get("message").and_then(Json::as_str).map(str::to_owned))
        .unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned());
    let text = text
        .strip_prefix("rpc error: code = ")
        .and_then(|t| t.split_once("desc = "))
        .map_or(text.as_str(), |(_, t)| t);
    crate::text::ellipsis(text, 500).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_index_is_known_whatever_the_code() {
        let body = br#"{"message":"rpc error: code = Unknown desc = update out of sequence"}"#;
        for status in [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::CONFLICT] {
            let error = SwarmError::refused("service `web`", status, body);
            assert_eq!(error, SwarmError::Stale { what: "service `web`".into() });
        }
    }

    #[test]
    fn every_manager_that_was_tried_is_named() {
        let tried = |manager: &str, problem| Tried { manager: manager.into(), problem, hint: None };
        let error = SwarmError::NoManager {
            tried: vec![
                tried("node1", Problem::Unreachable("connection refused".into())),
                tried("node2", Problem::NoQuorum),
            ],
        };
        assert_eq!(
            error.to_string(),
            "no Swarm manager is of use: node1: connection refused; \
             node2: its Swarm has no leader, too few managers are online"
        );
        assert!(error.is_transient() && error.hint().is_some_and(|h| h.contains("half of the managers")));
        let never = SwarmError::NoManager { tried: vec![tried("node1", Problem::NotManager)] };
        assert!(!never.is_transient());
    }

    #[test]
    fn an_answer_that_is_no_json_is_shown_shortened() {
        let error = SwarmError::refused("x", StatusCode::BAD_GATEWAY, "<html>".repeat(500).as_bytes());
        assert!(error.is_transient() && error.to_string().len() < 700);
    }
}
