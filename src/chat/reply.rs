//! Says what the outbox holds, in order, and keeps progress messages moving.
//!
//! One task does both, so that a progress edit never overtakes the last word. What the outbox holds is
//! said until the server has it; progress is best effort and coalesced.
//!
//! Must not: decide what is to be said.

mod edits;
mod notices;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use crate::clock::Clock;
use crate::config::Current;
use crate::gateway::Chat;
use crate::gateway::events::SendError;
use crate::ids::{MessageId, RoomId, RunId};
use crate::lease::Lease;
use crate::links::Links;
use crate::runs::Engine;
use crate::runs::ballot::Ballot;
use crate::runs::outbox::{self, Notice};
use crate::runs::state::{Phase, RunState};
use crate::store::Store;
use crate::trace;

/// A run that says nothing new still shows that time passes.
const SHOW_TIME_EVERY: Duration = Duration::from_secs(10);

/// After Rocket.Chat could not be reached; doubled up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Of one message while everything else gets through: about five minutes.
const MOST_TRIES: u32 = 15;

/// At the end, for what is still to be said.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Rooms that could not be spoken into at one time, before it is the server that cannot be reached.
const MOST_HELD_UP: usize = 3;

/// One pass over the outbox.
struct Pass {
    /// Something got through.
    said: bool,
    left: Left,
}

/// What has to be tried again.
#[derive(PartialEq)]
enum Left {
    Nothing,
    /// The other rooms are not kept waiting by them.
    SomeRooms,
    /// Rocket.Chat, or the store, cannot be reached now.
    Everything,
}

pub struct Voice {
    chat: Chat,
    engine: Engine,
    store: Store,
    clock: Clock,
    config: Current,
    links: Links,
    /// Without it nothing is said that nobody asked for.
    lease: Lease,
    /// What an earlier process may have shown.
    earlier: Earlier,
    /// Messages that this process has posted.
    posted: HashSet<MessageId>,
    /// Progress messages to be edited, and when each may be edited next.
    dirty: BTreeSet<RunId>,
    editable: HashMap<RunId, Instant>,
    /// What those that are queued show: it changes with what is in their way, not with time.
    queued: HashMap<RunId, String>,
    /// The message that could not be said last, and how often.
    failing: (u64, u32),
}

/// What was open when this process began. Not told by times: the clock may have been set back since.
struct Earlier {
    runs: HashSet<RunId>,
    cards: HashSet<MessageId>,
}

impl Earlier {
    fn of(open: &[RunState]) -> Self {
        let cards = open.iter().flat_map(ballots).map(|ballot| ballot.card.clone()).collect();
        Self { runs: open.iter().map(|run| run.id).collect(), cards }
    }
}

/// Of its steps, and of its plan.
fn ballots(run: &RunState) -> impl Iterator<Item = &Ballot> {
    run.asks.iter().map(|ask| &ask.ballot).chain([&run.consent])
}

impl Voice {
    /// Before anybody can ask for anything: what is open now is an earlier process's.
    pub async fn new(
        chat: Chat,
        engine: Engine,
        store: Store,
        clock: Clock,
        config: Current,
        links: Links,
        lease: Lease,
    ) -> Self {
        let earlier = Earlier::of(&engine.open_runs().await);
        Self {
            chat,
            engine,
            store,
            clock,
            config,
            links,
            lease,
            earlier,
            posted: HashSet::new(),
            dirty: BTreeSet::new(),
            editable: HashMap::new(),
            queued: HashMap::new(),
            failing: (0, 0),
        }
    }

    /// Until `stop`; what was not said stays in the outbox.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.engine.subscribe();
        // A message that was perhaps never said would be taken for one that somebody deleted: it is watched when it
        // is said.
        let unsaid = outbox::waiting(&self.store).unwrap_or_default();
        let unsaid: HashSet<RunId> = unsaid.iter().filter_map(|entry| entry.notice.run()).collect();
        for run in self.engine.open_runs().await.iter().filter(|run| !unsaid.contains(&run.id)) {
            self.watch(run);
        }
        // What an earlier process showed goes on in the same message.
        self.everything_moved().await;
        let mut wait = FIRST_WAIT;
        let mut tick = tokio::time::interval(SHOW_TIME_EVERY);
        loop {
            let pass = self.say_all().await;
            let held_up = pass.left != Left::Nothing;
            // On a bad line something gets through each time: that is no reason to wait longer and longer.
            if pass.said || !held_up {
                wait = FIRST_WAIT;
            }
            if pass.left != Left::Everything {
                self.edit_progress().await;
            }
            let next_edit = self.next_edit();
            tokio::select! {
                () = stop.cancelled() => {
                    let _ = tokio::time::timeout(LAST_WORDS, self.say_all()).await;
                    return;
                }
                () = self.engine.outbox_changed() => {}
                () = self.lease.regained(), if self.lease.may_act().is_err() => wait = FIRST_WAIT,
                changed = changes.recv() => match changed {
                    Ok(run) => {
                        self.dirty.insert(run);
                        // What it does is shown by those that wait for it.
                        self.dirty.extend(self.engine.queued().await.iter().map(|run| run.id));
                    }
                    Err(RecvError::Lagged(_)) => self.everything_moved().await,
                    Err(RecvError::Closed) => return,
                },
                _ = tick.tick() => self.time_passed().await,
                () = tokio::time::sleep(wait), if held_up => wait = (wait * 2).min(LONGEST_WAIT),
                () = tokio::time::sleep_until(next_edit.unwrap_or_else(Instant::now)), if next_edit.is_some() && !held_up => {}
            }
        }
    }

    /// Whether this message has failed so often, while Houston was online, that it will never get through.
    fn hopeless(&mut self, entry: u64) -> bool {
        if !self.chat.health().online {
            return false;
        }
        let tries = if self.failing.0 == entry { self.failing.1 + 1 } else { 1 };
        self.failing = (entry, tries);
        tries > MOST_TRIES
    }

    async fn everything_moved(&mut self) {
        for run in self.engine.open_runs().await {
            if run.holds_locks() || matches!(run.phase, Phase::Queued { .. } | Phase::Frozen { .. }) {
                self.dirty.insert(run.id);
            }
        }
    }

    /// Only what shows a time that grows: whatever waits for people costs no edits meanwhile.
    async fn time_passed(&mut self) {
        for run in self.engine.open_runs().await {
            if matches!(run.phase, Phase::Running | Phase::Undoing) && run.footing_changed.is_none() {
                self.dirty.insert(run.id);
            }
        }
    }

    async fn say_all(&mut self) -> Pass {
        let mut pass = Pass { said: false, left: Left::Everything };
        let mut held_up: HashSet<RoomId> = HashSet::new();
        // Runs whose messages cannot be edited yet: nothing waits for that but what comes after it.
        let mut later: HashSet<RunId> = HashSet::new();
        loop {
            let waiting = match outbox::waiting(&self.store) {
                Ok(waiting) => waiting,
                Err(error) => {
                    tracing::error!("the outbox cannot be read: {error}");
                    return pass;
                }
            };
            let mut said = false;
            // What was shown since the outbox was read shows everything that stood in it.
            let mut shown: Vec<Notice> = Vec::new();
            for entry in waiting {
                if self.lease.may_act().is_err() {
                    return pass;
                }
                if !self.engine.may_say(entry.id) {
                    break;
                }
                let run = entry.notice.run();
                let span = run.map_or_else(Span::none, |run| trace::run(run, None));
                if run.is_some_and(|run| later.contains(&run)) {
                    continue;
                }
                let room = self.room_of(&entry.notice).await;
                if room.as_ref().is_some_and(|room| held_up.contains(room)) {
                    continue;
                }
                let again = matches!(
                    entry.notice,
                    Notice::Card { .. } | Notice::StepCard { .. } | Notice::Progress { .. }
                );
                let spoken = if again && shown.contains(&entry.notice) {
                    Ok(())
                } else {
                    self.say(&entry).instrument(span.clone()).await
                };
                match spoken {
                    Ok(()) if again => shown.push(entry.notice.clone()),
                    Ok(()) => {}
                    Err(SendError::Unavailable { reason, retry_after: Some(_) }) if again => {
                        span.in_scope(|| tracing::debug!("not shown yet: {reason}"));
                        later.extend(run);
                        continue;
                    }
                    Err(SendError::Unavailable { reason, .. }) if !self.hopeless(entry.id) => {
                        span.in_scope(|| tracing::debug!("not said yet: {reason}"));
                        // In order within a room; past a few rooms it is the server.
                        held_up.extend(room);
                        if held_up.len() >= MOST_HELD_UP {
                            return pass;
                        }
                        continue;
                    }
                    // The server is there for everything else: this one must not hold up the rest.
                    Err(SendError::Unavailable { reason, .. }) => {
                        self.refused(&entry, &reason).instrument(span).await;
                    }
                    Err(SendError::Refused { reason }) => {
                        self.refused(&entry, &reason).instrument(span).await;
                    }
                }
                if let Err(error) = outbox::delivered(&self.store, &entry) {
                    tracing::error!("the outbox cannot be written: {error}");
                    return pass;
                }
                said = true;
                pass.said = true;
            }
            if !said {
                if held_up.is_empty() && later.is_empty() {
                    pass.left = Left::Nothing;
                } else {
                    pass.left = Left::SomeRooms;
                }
                return pass;
            }
        }
    }

    async fn room_of(&self, notice: &Notice) -> Option<RoomId> {
        match notice {
            Notice::Say { post } => Some(post.room.clone()),
            Notice::Maintenance { room, .. } | Notice::Schedule { room, .. } => Some(room.clone()),
            Notice::Report { run, .. } => Some(RoomId::new(format!("report/{run}"))),
            // Its room is only looked up when it is said; nothing else waits for that.
            Notice::BreakGlassTo { to, .. } | Notice::Steal { to, .. } => {
                Some(RoomId::new(format!("direct/{to}")))
            }
            other => Some(self.engine.state(other.run()?).await.ok()?.origin.room.id),
        }
    }
}
