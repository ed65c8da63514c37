//! `GET /metrics`: asks everybody how things stand now, and exposes it with what was counted.
//!
//! Must not: count anything.

use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use jiff::Timestamp;

use crate::chat::dispatch::Dispatcher;
use crate::config::Config;
use crate::gateway::Priority;
use crate::metrics::{self, Scheduled, Seen};
use crate::runs::schedules::Row;
use crate::runs::{counted, outbox};

pub(super) async fn metrics(State(dispatcher): State<Dispatcher>) -> impl IntoResponse {
    let text = dispatcher.parts.metrics.expose(&seen(&dispatcher).await);
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text)
}

async fn seen(dispatcher: &Dispatcher) -> Seen {
    let parts = &dispatcher.parts;
    let (health, load) = (parts.chat.health(), parts.chat.load());
    let waiting = outbox::waiting(&parts.store).unwrap_or_else(|error| {
        tracing::error!("what waits to be said cannot be read: {error}");
        Vec::new()
    });
    let now = parts.clock.now();
    let oldest = waiting.iter().filter_map(|entry| entry.at).min();
    let oldest = oldest.and_then(|at| Duration::try_from(now.duration_since(at)).ok()).unwrap_or_default();
    Seen {
        acts: parts.lease.may_act().is_ok(),
        connected: health.online,
        caught_up: health.caught_up,
        silence: health.last_frame_age,
        connections: load.traffic.connections,
        frames: load.traffic.frames,
        waits: load.waits.map(|(priority, waited)| (word(priority), waited.calls, waited.time)).to_vec(),
        rate_refusals: load.rate_refusals,
        events_waiting: load.waiting,
        open: counted::open(&parts.engine.open_runs().await),
        outbox: waiting.len(),
        oldest,
        store_bytes: parts.store.size(),
        schedules: schedules(&dispatcher.config(), &parts.engine.schedules().await),
    }
}

fn schedules(config: &Config, rows: &[Row]) -> Vec<Scheduled> {
    let seconds = |at: Timestamp| at.as_duration().as_secs_f64();
    let each = rows.iter().filter_map(|row| {
        let schedule = config.schedules.get(&row.name)?;
        let next = (!row.is_held(schedule)).then(|| seconds(row.begins(schedule)));
        let succeeded = row.succeeded.map_or(0.0, seconds);
        Some(Scheduled { name: row.name.to_string(), next, succeeded, misfires: row.misfires })
    });
    each.collect()
}

fn word(priority: Priority) -> &'static str {
    match priority {
        Priority::Urgent => "urgent",
        Priority::Normal => "normal",
        Priority::Progress => "progress",
    }
}
