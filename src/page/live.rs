//! What comes while somebody looks: newer drawings and lines of output, as server-sent events.
//!
//! Must not: keep anything for who does not read: what was not sent is read again from where they were.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use super::{Asked, Opened, Page, view};
use crate::ids::RunId;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(400);

/// Bytes of output in one event.
const PIECE: usize = 64 * 1024;

/// So that a proxy keeps the line open, and a reader who is gone is noticed.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// Somebody who looks.
struct Watcher {
    page: Page,
    run: RunId,
    until: Timestamp,
    /// Bytes of the output that they have.
    at: u64,
    drawn: String,
    /// It had ended when the output was read last.
    ended: bool,
    left: bool,
    _place: OwnedSemaphorePermit,
}

pub(super) async fn follow(
    State(page): State<Page>,
    Path(run): Path<String>,
    asked: Result<Query<Asked>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let asked = asked.map(|Query(asked)| asked).unwrap_or_default();
    let Opened { state, until } = page.open(&run, asked.key.as_deref()).await?;
    let Ok(place) = page.0.live.clone().try_acquire_owned() else {
        return Err((StatusCode::SERVICE_UNAVAILABLE, "too many pages are open\n").into_response());
    };
    // The browser's own word for where it was, when the line was lost.
    let resumed = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let watcher = Watcher {
        run: state.id,
        until,
        at: resumed.or(asked.from).unwrap_or_default(),
        drawn: String::new(),
        ended: false,
        left: false,
        page,
        _place: place,
    };
    let events = stream::unfold((watcher, Vec::new()), async |(mut watcher, mut waiting)| {
        while waiting.is_empty() {
            waiting = watcher.look().await?;
            waiting.reverse();
        }
        let event: Event = waiting.pop()?;
        Some((Ok::<_, Infallible>(event), (watcher, waiting)))
    });
    let alive = KeepAlive::new().interval(SIGN_OF_LIFE);
    // nginx would hold the lines back.
    let unbuffered = [(HeaderName::from_static("x-accel-buffering"), "no")];
    Ok((unbuffered, Sse::new(events).keep_alive(alive)).into_response())
}

impl Watcher {
    /// What is new, in order; `None`: there will be nothing more.
    async fn look(&mut self) -> Option<Vec<Event>> {
        if self.left {
            return None;
        }
        if !self.drawn.is_empty() {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = self.page.0.stop.cancelled() => return None,
            }
        }
        let shared = &self.page.0;
        if shared.clock.now() >= self.until {
            self.left = true;
            return Some(vec![Event::default().event("end").data("expired")]);
        }
        let Ok(state) = shared.engine.state(self.run).await else { return None };
        let (run, at) = (self.run, self.at);
        let read = self.page.look_into(move |transcripts| transcripts.after(run, at, PIECE)).await;
        let piece = read.unwrap_or_else(|error| {
            tracing::error!(run.id = %run, "the transcript of {run} cannot be read: {error}");
            crate::exec::transcript::Piece { from: at, to: at, ..Default::default() }
        });
        let mut events = Vec::new();
        let nothing_new = piece.to == self.at;
        if !nothing_new {
            self.at = piece.to;
            let output = Event::default().event("output").id(self.at.to_string());
            events.extend(output.json_data(json!({ "text": self.page.clean(&piece.text) })).ok());
        }
        let live = shared.engine.live(self.run).await;
        let drawn = self.page.now(&state, &live);
        if drawn != self.drawn {
            let data = json!({ "html": drawn, "said": view::sentence(&state, &live) });
            events.extend(Event::default().event("now").json_data(data).ok());
            self.drawn = drawn;
        }
        // Its last line is written a moment after its end: one more look.
        if state.is_done() && nothing_new && self.ended {
            self.left = true;
            events.push(Event::default().event("end").data("done"));
        }
        self.ended = state.is_done();
        Some(events)
    }
}
