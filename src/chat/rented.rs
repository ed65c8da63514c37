//! Servers that Houston has rented and no run has any more: looked for at the start and every hour, told where their
//! run was asked for, and shown in `status` for as long as they cost money.
//!
//! Must not: remove one. Somebody may be looking at it, and it is theirs to say when they are done.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::dispatch::Dispatcher;
use crate::gateway::events::Post;
use crate::ids::{EffectToken, RoomId, RunId, derived_id};
use crate::providers::hetzner::{Hetzner, HetznerError, Server, labels};
use crate::text::{self, code, defuse};

const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// After a look that failed.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// A server that was left is told again after so long.
const TOLD_EVERY: SignedDuration = SignedDuration::from_hours(24);

/// What the last look has shown.
#[derive(Default)]
pub struct Rented(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    left: Vec<Left>,
    /// Why nobody can tell.
    failed: Option<String>,
}

/// A server without a run.
#[derive(Clone, Debug, PartialEq)]
struct Left {
    id: i64,
    name: String,
    environment: Option<String>,
    created: Option<Timestamp>,
    /// Of a day, with its money.
    cost: Option<(f64, String)>,
    of: Whose,
}

#[derive(Clone, Debug, PartialEq)]
enum Whose {
    /// A run that is over.
    Over { run: RunId, room: RoomId, ended: Option<Timestamp> },
    /// Nothing is known of it here: of another Houston in the same project, or of a state folder that is gone.
    Unknown { run: Option<RunId> },
}

impl Left {
    fn describe(&self, now: Timestamp) -> String {
        let name = code(&self.name);
        let cost = match &self.cost {
            Some((daily, currency)) => format!("it costs {daily:.2} {currency} a day net"),
            None => "it costs money".to_owned(),
        };
        let whose = match &self.of {
            Whose::Over { run, ended, .. } => {
                let ended =
                    ended.map(|at| format!(", which was over {}", text::ago(at, now))).unwrap_or_default();
                format!("rented by {run}{ended}")
            }
            Whose::Unknown { run } => {
                let run = run.map(|run| format!(" ({run} there)")).unwrap_or_default();
                let since = self.created.map(|at| format!(" {}", text::ago(at, now))).unwrap_or_default();
                format!("rented{since} by a Houston whose runs I do not know{run}")
            }
        };
        format!(
            "The server {name} is still there: {whose}; {cost}. Nobody needs it? {}",
            code(&format!("hcloud server delete {}", text::shell_words(&[&self.name])))
        )
    }
}

impl Rented {
    /// For `status`, of one environment or of all.
    pub fn lines(&self, environment: Option<&str>, now: Timestamp) -> Option<String> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let about = |left: &&Left| environment.is_none_or(|name| left.environment.as_deref() == Some(name));
        let mut lines: Vec<String> =
            seen.left.iter().filter(about).map(|left| format!(":moneybag: {}", left.describe(now))).collect();
        lines.extend(seen.failed.as_ref().map(|why| {
            format!(":warning: Whether rented servers were left behind cannot be seen: {}", defuse(why))
        }));
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

/// Until `stop`.
pub async fn run(dispatcher: Dispatcher, stop: CancellationToken) {
    let clock = dispatcher.parts.clock.clone();
    // What is found at the start wants somebody to be told.
    tokio::select! {
        () = dispatcher.people.known() => {}
        () = stop.cancelled() => return,
    }
    loop {
        let wait = if look(&dispatcher).await { LOOK_EVERY } else { LOOK_AGAIN };
        let next = clock.now().saturating_add(wait).unwrap_or(Timestamp::MAX);
        tokio::select! {
            () = clock.sleep_until(next) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Whether it could be seen.
async fn look(dispatcher: &Dispatcher) -> bool {
    let config = dispatcher.config();
    if config.providers.hetzner.is_none() {
        dispatcher.rented.keep(Seen::default());
        return true;
    }
    let Ok(hetzner) = dispatcher.world(&config).hetzner() else { return true };
    match left_behind(dispatcher, &hetzner).await {
        Ok(left) => {
            if dispatcher.parts.lease.may_act().is_ok() {
                for left in &left {
                    tell(dispatcher, left).await;
                }
            }
            dispatcher.rented.keep(Seen { left, failed: None });
            true
        }
        Err(error) => {
            tracing::warn!("whether rented servers were left behind cannot be seen: {error}");
            dispatcher.rented.keep(Seen { left: Vec::new(), failed: Some(error.to_string()) });
            false
        }
    }
}

impl Rented {
    fn keep(&self, seen: Seen) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    }
}

async fn left_behind(dispatcher: &Dispatcher, hetzner: &Hetzner) -> Result<Vec<Left>, HetznerError> {
    let mut left = Vec::new();
    for server in hetzner.servers(labels::RUN).await? {
        let Some(of) = without_a_run(dispatcher, &server).await else { continue };
        let cost = hetzner.hourly(&server).await.ok().map(|(hourly, currency)| (hourly * 24.0, currency));
        left.push(Left {
            id: server.id,
            name: server.name.clone(),
            environment: server.label(labels::ENVIRONMENT).map(str::to_owned),
            created: server.created,
            cost,
            of,
        });
    }
    Ok(left)
}

/// `None`: a run that is not over has it.
async fn without_a_run(dispatcher: &Dispatcher, server: &Server) -> Option<Whose> {
    let label = server.label(labels::RUN).unwrap_or_default();
    let run = labels::run_of(label);
    let known = match run {
        Some(run) => dispatcher.parts.engine.state(run).await.ok(),
        None => None,
    };
    // Numbers of runs begin anew with a new state folder.
    match known.filter(|state| EffectToken::new(state.id, &state.consent.card, 0).run() == label) {
        Some(state) if !state.is_done() => None,
        Some(state) => {
            Some(Whose::Over { run: state.id, room: state.origin.room.id.clone(), ended: state.ended_at })
        }
        None => Some(Whose::Unknown { run }),
    }
}

/// Once a day for each server: the id of the message is made of both.
async fn tell(dispatcher: &Dispatcher, left: &Left) {
    let now = dispatcher.parts.clock.now();
    let since = match &left.of {
        Whose::Over { ended, .. } => *ended,
        Whose::Unknown { .. } => left.created,
    };
    let days = since.map_or(0, |at| now.duration_since(at).as_hours() / TOLD_EVERY.as_hours());
    let seed = format!("rented/{}/{days}", left.id);
    let text = format!(":moneybag: {}", left.describe(now));
    match &left.of {
        Whose::Over { room, .. } => {
            let id = derived_id(&seed).into();
            dispatcher.post(Post { id, room: room.clone(), thread: None, text }).await;
        }
        Whose::Unknown { .. } => dispatcher.tell_leads_that(&seed, text).await,
    }
}
