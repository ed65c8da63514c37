//! Reads over REST what happened while nobody listened. The listener decides what it means.
//!
//! Must not: hand anything out, or give up while the connection lasts.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::doc::Doc;
use super::shared::{Shared, earlier};
use crate::ids::RoomId;
use crate::rocketchat::model::{Room, Subscription};
use crate::rocketchat::rest::Sync;
use crate::rocketchat::{RestError, budget};

/// Rooms that are read at the same time.
const AT_ONCE: usize = 4;

/// Changes per page.
const PAGE: u32 = 100;

/// Between attempts; doubles.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// What was read.
#[derive(Debug)]
pub enum Found {
    /// Rooms that changed; all of them at the first start.
    Rooms { rooms: Vec<Room>, memberships: Vec<Subscription>, left: Vec<RoomId> },
    /// Changes in a room, those of one millisecond in the order of the server.
    Page { room: RoomId, docs: Vec<Doc>, last: bool },
}

/// One connection's worth of catching up; dropping it ends it.
pub struct CatchUp {
    shared: Arc<Shared>,
    /// Told apart from what an earlier connection still finds.
    generation: u64,
    found: mpsc::Sender<(u64, Found)>,
    stop: CancellationToken,
    at_once: Arc<Semaphore>,
}

impl Drop for CatchUp {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl CatchUp {
    pub fn new(shared: &Arc<Shared>, generation: u64, found: mpsc::Sender<(u64, Found)>) -> Self {
        Self {
            shared: Arc::clone(shared),
            generation,
            found,
            stop: shared.stop.child_token(),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Asks which rooms changed after `since`; for all rooms without it.
    pub fn list(&self, since: Option<Timestamp>) {
        let (shared, found, generation) = (Arc::clone(&self.shared), self.found.clone(), self.generation);
        let stop = self.stop.clone();
        let work = async move {
            let listed = until_it_works("which rooms changed", || rooms(&shared, since)).await;
            let _ = found.send((generation, listed)).await;
            settings(&shared).await;
        };
        tokio::spawn(async move { stop.run_until_cancelled(work).await });
    }

    /// Asks for what changed in a room after `since`.
    pub fn read(&self, room: RoomId, since: Timestamp) {
        let (shared, found, generation) = (Arc::clone(&self.shared), self.found.clone(), self.generation);
        let (stop, at_once) = (self.stop.clone(), Arc::clone(&self.at_once));
        let work = async move {
            // Never closed.
            let _turn = at_once.acquire().await;
            let pages = Pages { shared: &shared, room: &room, found: &found, generation };
            pages.read(since).await;
        };
        tokio::spawn(async move { stop.run_until_cancelled(work).await });
    }
}

async fn rooms(shared: &Shared, since: Option<Timestamp>) -> Result<Found, RestError> {
    let rest = shared.rest.with_priority(budget::Priority::High);
    let rooms = rest.rooms_get(since).await?;
    let memberships = rest.subscriptions_get(since).await?.updated;
    let left = rooms.removed.into_iter().map(RoomId::new).collect();
    Ok(Found::Rooms { rooms: rooms.updated, memberships, left })
}

async fn settings(shared: &Shared) {
    let read = || shared.rest.public_settings();
    let settings = until_it_works("the public settings", read).await;
    shared.set_max_message_len(settings.max_message_size());
    if settings.uses_real_names() {
        let me = until_it_works("Houston's own account", || shared.rest.me()).await;
        shared.status().displayed_name = me.name;
    }
}

/// How a room's changes are asked for.
enum Form {
    /// Works on every server, and answers with everything.
    AtOnce,
    /// Unknown to old servers.
    InPages,
}

struct Pages<'a> {
    shared: &'a Shared,
    room: &'a RoomId,
    found: &'a mpsc::Sender<(u64, Found)>,
    generation: u64,
}

impl Pages<'_> {
    async fn read(&self, since: Timestamp) {
        let mut forms = [Form::AtOnce, Form::InPages];
        if earlier(self.shared.server_now(), self.shared.timings.long_gap) > since {
            forms.reverse();
        }
        let mut done = false;
        for form in forms {
            done = done
                || match form {
                    Form::AtOnce => self.at_once(since).await,
                    Form::InPages => self.in_pages(since).await,
                };
        }
        if !done {
            tracing::warn!(room.id = %self.room, "what was said meanwhile cannot be read");
        }
        self.found(Vec::new(), true).await;
    }

    /// `false`: the server will not.
    async fn at_once(&self, since: Timestamp) -> bool {
        match self.sync(Sync::Since(since)).await {
            Ok((docs, _)) => {
                self.found(docs, false).await;
                true
            }
            Err(error) => {
                tracing::debug!(%error, room.id = %self.room, "a room cannot be read at once");
                false
            }
        }
    }

    /// `false`: the server will not.
    async fn in_pages(&self, since: Timestamp) -> bool {
        let mut after = since;
        loop {
            match self.sync(Sync::UpdatedPage { after, count: PAGE }).await {
                Ok((docs, next)) => {
                    let any = !docs.is_empty();
                    // A page that ends where it begins cannot be read on from.
                    let stuck = any && next.is_some() && docs.iter().all(|doc| doc.updated_at == next);
                    self.found(docs, false).await;
                    if stuck {
                        return false;
                    }
                    match next {
                        // A cursor that does not move would be read for ever.
                        // Changes of one millisecond may be cut in two: that one is read again.
                        Some(next) if any && next > after => {
                            let again = earlier(next, Duration::from_millis(1));
                            after = if again > after { again } else { next };
                        }
                        _ => return true,
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, room.id = %self.room, "a room cannot be read in pages");
                    return false;
                }
            }
        }
    }

    /// Fails only with what no repetition would change.
    async fn sync(&self, what: Sync) -> Result<(Vec<Doc>, Option<Timestamp>), RestError> {
        let page = until_it_works("what was said meanwhile", || async move {
            match self.shared.rest.sync_messages(self.room.as_str(), what).await {
                Err(error @ (RestError::Refused { .. } | RestError::Malformed { .. })) => Ok(Err(error)),
                Err(error) => Err(error),
                Ok(page) => Ok(Ok(page)),
            }
        });
        let page = page.await?;
        Ok((page.updated.into_iter().map(Doc::from).collect(), page.next))
    }

    async fn found(&self, docs: Vec<Doc>, last: bool) {
        let page = Found::Page { room: self.room.clone(), docs, last };
        // Fails only when the listener has ended.
        let _ = self.found.send((self.generation, page)).await;
    }
}

async fn until_it_works<T, F>(what: &str, mut attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, RestError>>,
{
    let (mut wait, longest) = RETRY;
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) => {
                let asked = error.retry_after().unwrap_or_default();
                tracing::warn!(%error, "{what} cannot be read; trying again");
                tokio::time::sleep(wait.max(asked)).await;
                wait = (wait * 2).min(longest);
            }
        }
    }
}
