//! The whole output of a run as a file: for some people at a time, as fast as they take it.
//!
//! Must not: let who does not read hold a place or a stop, or let what was cut off look whole.

use std::io;
use std::io::Read;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::{self, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use super::{Asked, Opened, Page};
use crate::exec::transcript;

/// Files that are sent at one time: each is up to 256 MiB, and may have to be unpacked.
pub(super) const MOST_AT_ONCE: usize = 8;

/// How long somebody may take over a piece of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pieces that wait for whoever reads.
const AHEAD: usize = 2;

/// A piece of the file; the empty one is its end.
type Piece = io::Result<Vec<u8>>;

pub(super) async fn log(
    State(page): State<Page>,
    Path(run): Path<String>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Response> {
    let key = asked.ok().and_then(|Query(asked)| asked.key);
    let Opened { state, .. } = page.open(&run, key.as_deref()).await?;
    let run = state.id;
    let Ok(place) = page.0.downloads.clone().try_acquire_owned() else {
        let what = "Too many files are being sent: load this again in half a minute.";
        let busy = page.other(StatusCode::SERVICE_UNAVAILABLE, "Not now", what);
        return Err(([(header::RETRY_AFTER, PATIENCE.as_secs().to_string())], busy).into_response());
    };
    let whole = match page.0.engine.transcripts().whole(run) {
        Ok(Some(whole)) => whole,
        Ok(None) => {
            let what = format!("{run} has written nothing.");
            return Err(page.other(StatusCode::NOT_FOUND, "No output", &what));
        }
        Err(error) => {
            tracing::error!(run.id = %run, "the transcript of {run} cannot be read: {error}");
            let what = "Houston's log says why.";
            return Err(page.other(StatusCode::INTERNAL_SERVER_ERROR, "The output cannot be read", what));
        }
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if let Ok(name) = HeaderValue::from_str(&format!("attachment; filename=\"{run}.log\"")) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok((headers, body(whole, place, page.0.stop.clone())).into_response())
}

fn body(whole: Box<dyn Read + Send>, place: OwnedSemaphorePermit, stop: CancellationToken) -> Body {
    let (pieces, taken) = mpsc::channel(AHEAD);
    // A task of its own, since nobody asks for the next piece on behalf of who does not read.
    tokio::spawn(async move {
        let _place = place;
        stop.run_until_cancelled(send(whole, pieces)).await;
    });
    Body::from_stream(stream::unfold(Some(taken), async |taken: Option<mpsc::Receiver<Piece>>| {
        let mut taken = taken?;
        match taken.recv().await {
            Some(Ok(piece)) if piece.is_empty() => None,
            Some(Ok(piece)) => Some((Ok(piece), Some(taken))),
            Some(Err(error)) => Some((Err(error), None)),
            None => Some((Err(io::Error::from(io::ErrorKind::ConnectionAborted)), None)),
        }
    }))
}

/// Until the end, or until nobody takes it any more.
async fn send(whole: Box<dyn Read + Send>, to: mpsc::Sender<Piece>) {
    let end = stream::once(async { Ok(Vec::new()) });
    let mut pieces = std::pin::pin!(transcript::pieces(whole).chain(end));
    while let Some(piece) = pieces.next().await {
        if !matches!(tokio::time::timeout(PATIENCE, to.send(piece)).await, Ok(Ok(()))) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::to_bytes;
    use tokio::sync::Semaphore;

    use super::*;

    fn sent(text: &str) -> (Body, Arc<Semaphore>, CancellationToken) {
        let (places, stop) = (Arc::new(Semaphore::new(1)), CancellationToken::new());
        let place = places.clone().try_acquire_owned().expect("a place");
        let whole = Box::new(io::Cursor::new(text.to_owned()));
        (body(whole, place, stop.clone()), places, stop)
    }

    #[tokio::test]
    async fn all_of_it_arrives_and_its_place_is_free_then() {
        let text = "line after line\n".repeat(100_000);
        let (body, places, _) = sent(&text);
        assert_eq!(to_bytes(body, usize::MAX).await.expect("whole"), text.as_bytes());
        let _ = places.acquire().await.expect("free again");
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_loses_the_place_and_an_end_that_is_none_does_not_look_like_one() {
        let (body, places, _) = sent(&"line after line\n".repeat(100_000));
        let _ = places.acquire().await.expect("free again");
        assert!(to_bytes(body, usize::MAX).await.is_err(), "cut off");
        let (body, places, stop) = sent(&"line after line\n".repeat(100_000));
        stop.cancel();
        let _ = places.acquire().await.expect("free again");
        assert!(to_bytes(body, usize::MAX).await.is_err(), "cut off");
    }
}
