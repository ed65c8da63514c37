//! Reads over REST what happened while nobody listened. The listener decides what it means.
//!
//! Must not: hand anything out, or give up while the connection lasts.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::doc::Doc;
use super::shared::{Shared, earlier};
use crate::ids::RoomId;
use crate::rocketchat::model::{Room, Subscription};
use crate::rocketchat::rest::Sync;
use crate::rocketchat::{Rest, RestError, budget};

/// Rooms that are read at the same time, those apart in which somebody speaks now.
const AT_ONCE: usize = 4;

/// Changes per page.
const PAGE: u32 = 100;

/// Changes of a room that are put into their order together.
const TOGETHER: usize = 10_000;

/// Between attempts; doubles.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// What was read.
#[derive(Debug)]
pub enum Found {
    /// Rooms that changed; all of them at the first start.
    Rooms { rooms: Vec<Room>, memberships: Vec<Subscription>, left: Vec<RoomId> },
    /// Changes in a room.
    Page { room: RoomId, docs: Vec<Doc>, last: bool },
}

/// One connection's worth of catching up; dropping it ends it.
pub struct CatchUp {
    reader: Arc<Reader>,
    stop: CancellationToken,
}

impl Drop for CatchUp {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl CatchUp {
    pub fn new(shared: &Arc<Shared>, generation: u64, found: mpsc::Sender<(u64, Found)>) -> Self {
        let reader =
            Reader { shared: Arc::clone(shared), generation, found, rooms: Mutex::new(Rooms::default()) };
        Self { reader: Arc::new(reader), stop: shared.stop.child_token() }
    }

    /// Asks which rooms changed after `since`; for all rooms without it.
    pub fn list(&self, since: Option<Timestamp>) {
        let reader = Arc::clone(&self.reader);
        self.spawn(async move {
            let listed = until_it_works("which rooms changed", || rooms(&reader.shared, since)).await;
            reader.found(listed).await;
            settings(&reader.shared).await;
        });
    }

    /// Asks for what changed in these rooms after a moment each, in this order. What somebody waits for goes before
    /// all of it.
    pub fn read(&self, rooms: impl IntoIterator<Item = (RoomId, Timestamp)>) {
        self.reader.rooms().waiting.extend(rooms);
        for _ in 0..AT_ONCE {
            let reader = Arc::clone(&self.reader);
            self.spawn(async move {
                while let Some((room, since, sooner)) = reader.next() {
                    let read = reader.read(&room, since, budget::Priority::Low);
                    if sooner.run_until_cancelled(read).await.is_some() {
                        reader.rooms().reading.remove(&room);
                    }
                }
            });
        }
    }

    /// Somebody speaks in this room, and is heard when what was said before was read.
    pub fn sooner(&self, room: &RoomId) {
        let Some(since) = self.reader.rooms().take(room) else { return };
        let (reader, room) = (Arc::clone(&self.reader), room.clone());
        self.spawn(async move { reader.read(&room, since, budget::Priority::High).await });
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(work).await });
    }
}

/// What is still to be read.
#[derive(Default)]
struct Rooms {
    /// In this order.
    waiting: VecDeque<(RoomId, Timestamp)>,
    /// With what makes way for [`CatchUp::sooner`].
    reading: HashMap<RoomId, (Timestamp, CancellationToken)>,
}

impl Rooms {
    /// Since when it is to be read by whoever takes it.
    fn take(&mut self, room: &RoomId) -> Option<Timestamp> {
        if let Some((since, reading)) = self.reading.remove(room) {
            reading.cancel();
            return Some(since);
        }
        let place = self.waiting.iter().position(|(waiting, _)| waiting == room)?;
        self.waiting.remove(place).map(|(_, since)| since)
    }
}

struct Reader {
    shared: Arc<Shared>,
    /// Told apart from what an earlier connection still finds.
    generation: u64,
    found: mpsc::Sender<(u64, Found)>,
    rooms: Mutex<Rooms>,
}

async fn rooms(shared: &Shared, since: Option<Timestamp>) -> Result<Found, RestError> {
    let rest = shared.rest.with_priority(budget::Priority::High);
    let (rooms, memberships) = tokio::try_join!(rest.rooms_get(since), rest.subscriptions_get(since))?;
    let memberships = memberships.updated;
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

impl Reader {
    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<(RoomId, Timestamp, CancellationToken)> {
        let mut rooms = self.rooms();
        let (room, since) = rooms.waiting.pop_front()?;
        let sooner = CancellationToken::new();
        rooms.reading.insert(room.clone(), (since, sooner.clone()));
        Some((room, since, sooner))
    }

    async fn read(&self, room: &RoomId, since: Timestamp, priority: budget::Priority) {
        let mut forms = [Form::AtOnce, Form::InPages];
        if earlier(self.shared.server_now(), self.shared.timings.long_gap) > since {
            forms.reverse();
        }
        let mut pages =
            Pages { reader: self, room, rest: self.shared.rest.with_priority(priority), docs: Vec::new() };
        let mut done = false;
        for form in forms {
            done = done
                || match form {
                    Form::AtOnce => pages.at_once(since).await,
                    Form::InPages => pages.in_pages(since).await,
                };
        }
        if !done {
            tracing::warn!(room.id = %room, "what was said meanwhile cannot be read");
        }
        pages.hand_on(true).await;
    }

    async fn found(&self, found: Found) {
        // Fails only when the listener has ended.
        let _ = self.found.send((self.generation, found)).await;
    }
}

struct Pages<'a> {
    reader: &'a Reader,
    room: &'a RoomId,
    rest: Rest,
    /// Pages are in the order of changes: what was said first and changed last, by a reaction, stands on the last one.
    /// So nothing is handed on before all of them are there.
    docs: Vec<Doc>,
}

impl Pages<'_> {
    /// `false`: the server will not.
    async fn at_once(&mut self, since: Timestamp) -> bool {
        match self.sync(Sync::Since(since)).await {
            Ok((docs, _)) => {
                self.docs.extend(docs);
                true
            }
            Err(error) => {
                tracing::debug!(%error, room.id = %self.room, "a room cannot be read at once");
                false
            }
        }
    }

    /// `false`: the server will not.
    async fn in_pages(&mut self, since: Timestamp) -> bool {
        let mut after = since;
        loop {
            match self.sync(Sync::UpdatedPage { after, count: PAGE }).await {
                Ok((docs, next)) => {
                    let any = !docs.is_empty();
                    // A page that ends where it begins cannot be read on from.
                    let stuck = any && next.is_some() && docs.iter().all(|doc| doc.updated_at == next);
                    self.docs.extend(docs);
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
                    if self.docs.len() >= TOGETHER {
                        self.hand_on(false).await;
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
            match self.rest.sync_messages(self.room.as_str(), what).await {
                Err(error @ (RestError::Refused { .. } | RestError::Malformed { .. })) => Ok(Err(error)),
                Err(error) => Err(error),
                Ok(page) => Ok(Ok(page)),
            }
        });
        let page = page.await?;
        Ok((page.updated.into_iter().map(Doc::from).collect(), page.next))
    }

    async fn hand_on(&mut self, last: bool) {
        let docs = std::mem::take(&mut self.docs);
        self.reader.found(Found::Page { room: self.room.clone(), docs, last }).await;
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
