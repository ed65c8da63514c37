//! The one place through which everything heard passes, in order: frames, and what catch-up found.
//!
//! Must not: wait for REST. Where something has to be asked first, the frames of that room are held and the
//! others go on.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::catchup::{CatchUp, Found};
use super::cursor::Cursors;
use super::doc::{Doc, Meta, kind};
use super::events::{Actor, Event, Room};
use super::held::{Frame, Held};
use super::inbound::{Around, Classifier, Sight};
use super::shared::{Shared, earlier};
use crate::ids::{RoomId, UserId};
use crate::rocketchat::RealtimeEvent;
use crate::rocketchat::model::{self, Subscription};
use crate::rocketchat::realtime::Change;

/// What catch-up found may wait for the listener.
const FOUND: usize = 16;

/// At the first start: how far the server's clock, told in whole seconds, may be behind.
const COARSE: Duration = Duration::from_secs(2);

/// Both ends of a channel.
type Both<T> = (mpsc::Sender<T>, mpsc::Receiver<T>);

pub struct Listener {
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
    classifier: Classifier,
    /// `None` until the rooms were listed for the first time ever.
    cursors: Option<Cursors>,
    held: Held,
    /// Rooms that did not say what they are.
    asked: HashSet<RoomId>,
    /// Whether frames of rooms with a gap wait for it.
    holding: bool,
    /// Rooms that were reported, and whether somebody was seen to speak there.
    encrypted: HashMap<RoomId, bool>,
    catch_up: Option<CatchUp>,
    generation: u64,
    online_since: Instant,
    found: Both<(u64, Found)>,
    looked_up: Both<model::Room>,
}

impl Listener {
    pub fn new(shared: Arc<Shared>, events: mpsc::Sender<Event>, cursors: Option<Cursors>) -> Self {
        Self {
            shared,
            events,
            classifier: Classifier::default(),
            cursors,
            held: Held::default(),
            asked: HashSet::new(),
            holding: true,
            encrypted: HashMap::new(),
            catch_up: None,
            generation: 0,
            online_since: Instant::now(),
            found: mpsc::channel(FOUND),
            looked_up: mpsc::channel(FOUND),
        }
    }

    /// Runs until the gateway stops or nobody listens to it.
    pub async fn run(mut self, mut frames: mpsc::Receiver<RealtimeEvent>) {
        let shared = Arc::clone(&self.shared);
        let mut save = tokio::time::interval(shared.timings.save);
        save.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let room_for_more = !self.held.is_full();
            let hold_until = self.hold_until();
            tokio::select! {
                biased;
                () = shared.stop.cancelled() => break,
                () = self.events.closed() => break,
                Some((generation, found)) = self.found.1.recv() => {
                    if generation == self.generation {
                        self.found(found).await;
                    }
                }
                Some(room) = self.looked_up.1.recv() => self.looked_up(&room).await,
                event = frames.recv(), if room_for_more => match event {
                    Some(event) => self.heard(event).await,
                    None => break,
                },
                () = tokio::time::sleep_until(hold_until.unwrap_or_else(Instant::now)), if hold_until.is_some() => {
                    self.let_go_late().await;
                }
                _ = save.tick() => self.save(),
            }
        }
        // The connection may wait for us to take a frame.
        drop(frames);
        shared.stop.cancel();
        shared.realtime.shutdown().await;
        shared.status().online = false;
        self.save();
        if let Err(error) = shared.store.sync().await {
            tracing::error!(%error, "how far rooms were read cannot be written");
        }
        shared.stopped.cancel();
    }

    async fn heard(&mut self, event: RealtimeEvent) {
        match event {
            RealtimeEvent::Message { message, meta } => {
                self.frame(Frame { doc: Doc::from(*message), meta: meta.map(Meta::from) }).await;
            }
            RealtimeEvent::Online { user_id, username } => {
                self.online(Actor { id: UserId::new(user_id), username }).await;
            }
            RealtimeEvent::Offline { reason } => self.offline(reason, false).await,
            RealtimeEvent::AuthRejected { reason } => self.offline(reason, true).await,
            RealtimeEvent::Subscription { change: Change::Removed, subscription } => {
                self.left(&RoomId::new(subscription.rid)).await;
            }
            RealtimeEvent::Subscription { subscription, .. } => {
                let when = subscription.updated_at.unwrap_or_else(|| self.shared.server_now());
                self.member(&subscription, when).await;
            }
            RealtimeEvent::Deleted { id, .. } => {
                let id = crate::ids::MessageId::new(id);
                if self.shared.watched_room(&id).is_some() {
                    self.shared.read_again([id]);
                }
            }
            RealtimeEvent::DeletedBulk(bulk) => {
                self.shared.read_again(self.shared.watched_in(&RoomId::new(bulk.rid)));
            }
            RealtimeEvent::NameChanged { user_id, username, .. } => {
                self.shared.people.renamed(&UserId::new(user_id), Some(&username));
            }
            RealtimeEvent::UserStatus { user_id, roles: Some(roles), .. } => {
                self.shared.people.has_roles(UserId::new(user_id), roles);
            }
            RealtimeEvent::UserStatus { roles: None, .. } => {}
            RealtimeEvent::Ephemeral { room, text } => {
                tracing::info!(room.id = room, text, "Rocket.Chat says to Houston alone");
            }
            RealtimeEvent::ForceLogout => tracing::warn!("Rocket.Chat ends Houston's session"),
        }
    }

    // --- connection -----------------------------------------------------------------------------------

    async fn online(&mut self, me: Actor) {
        {
            let mut status = self.shared.status();
            status.me = Some(me.clone());
            status.online = true;
            status.caught_up = false;
        }
        self.generation += 1;
        self.online_since = Instant::now();
        self.shared.people.forget_names();
        self.holding = true;
        self.held.begin();
        if let Some(cursors) = &mut self.cursors {
            cursors.open_anywhere();
        }
        self.emit(Event::Online { me }).await;
        let since = self.cursors.as_ref().map(|c| earlier(c.everywhere(), self.shared.timings.overlap));
        let catch_up = CatchUp::new(&self.shared, self.generation, self.found.0.clone());
        catch_up.list(since);
        self.catch_up = Some(catch_up);
        self.shared.read_again(self.shared.watched());
    }

    async fn offline(&mut self, reason: String, rejected: bool) {
        self.generation += 1;
        self.catch_up = None;
        {
            let mut status = self.shared.status();
            status.online = false;
            status.caught_up = false;
        }
        self.stop_holding().await;
        // From now on something may be missed; frames can come before the next `Online` is told.
        self.holding = true;
        self.held.begin();
        if let Some(cursors) = &mut self.cursors {
            cursors.open_anywhere();
        }
        self.emit(Event::Offline { reason, rejected }).await;
    }

    async fn found(&mut self, found: Found) {
        match found {
            Found::Rooms { rooms, memberships, left } => self.listed(rooms, memberships, left).await,
            Found::Page { room, docs, last } => self.page(&room, docs, last).await,
        }
    }

    async fn listed(&mut self, rooms: Vec<model::Room>, memberships: Vec<Subscription>, left: Vec<RoomId>) {
        for room in &rooms {
            self.shared.set_room(&known(room));
        }
        let Some(cursors) = &mut self.cursors else {
            let online = earlier(self.shared.server_now(), self.online_since.elapsed() + COARSE);
            let mut cursors = Cursors::first(online);
            for room in &rooms {
                cursors.was_there(&RoomId::new(&*room.id));
            }
            cursors.open_in(HashSet::new());
            self.cursors = Some(cursors);
            self.begin_for_good().await;
            self.stop_holding().await;
            self.caught_up().await;
            return;
        };
        if cursors.clock_is(self.shared.server_now()) {
            // It was asked for what changed after a time that is still to come.
            let since = earlier(cursors.everywhere(), self.shared.timings.overlap);
            tracing::warn!("Rocket.Chat's clock was set back; what was said lately is read again");
            if let Some(catch_up) = &self.catch_up {
                catch_up.list(Some(since));
            }
            return;
        }
        let missed = cursors.everywhere();
        let gaps = cursors.missed(&rooms, &memberships, self.shared.timings.overlap);
        for membership in &memberships {
            self.member(membership, missed).await;
        }
        for room in &rooms {
            // Of servers whose memberships do not tell.
            self.entered(known(room), missed, room.encrypted).await;
        }
        let open: HashSet<RoomId> = gaps.iter().map(|(room, _)| room.clone()).collect();
        for room in left {
            if !open.contains(&room) {
                self.left(&room).await;
            }
        }
        if let Some(cursors) = &mut self.cursors {
            cursors.open_in(open);
        }
        if let Some(catch_up) = &self.catch_up {
            catch_up.read(gaps);
            self.held.rooms().iter().for_each(|room| catch_up.sooner(room));
        }
        self.release().await;
    }

    async fn page(&mut self, room: &RoomId, mut docs: Vec<Doc>, last: bool) {
        // Stable: of one millisecond, in the order of the answer.
        docs.sort_by_key(|doc| (doc.sent_at, doc.updated_at));
        for doc in docs {
            // What is asked for by room is answered by room; whoever answers otherwise is not believed.
            if doc.room != *room {
                continue;
            }
            let known = self.shared.room(room).unwrap_or_else(|| unknown(room));
            self.look(&doc, &known, true, true).await;
        }
        if last {
            if let Some(cursors) = &mut self.cursors {
                cursors.close(room);
            }
            self.release().await;
        }
    }

    async fn caught_up(&mut self) {
        self.holding = false;
        self.shared.status().caught_up = true;
        self.emit(Event::CaughtUp).await;
    }

    // --- rooms ------------------------------------------------------------------------------------------

    /// Houston's membership in a room is new or has changed.
    async fn member(&mut self, membership: &Subscription, when: Timestamp) {
        let room = Room {
            id: RoomId::new(&*membership.rid),
            kind: kind(&membership.kind),
            name: membership.name.clone().filter(|_| membership.kind != "d"),
        };
        self.entered(room, when, membership.encrypted).await;
    }

    async fn entered(&mut self, room: Room, when: Timestamp, encrypted: bool) {
        let Some(cursors) = &mut self.cursors else { return };
        if cursors.knows(&room.id) {
            return;
        }
        cursors.joined(&room.id, when);
        self.shared.set_room(&room);
        self.shared.hear_deletions();
        self.emit(Event::Joined(room.clone())).await;
        if encrypted {
            self.encrypted(&room, None).await;
        }
    }

    async fn left(&mut self, room: &RoomId) {
        self.let_go(room).await;
        let Some(cursors) = &mut self.cursors else { return };
        if !cursors.knows(room) {
            return;
        }
        cursors.left(room);
        self.encrypted.remove(room);
        self.shared.forget_room(room);
        // The server may go on telling what happens in a room that Houston was removed from.
        self.shared.stop_hearing(room);
        self.shared.read_again(self.shared.watched_in(room));
        self.emit(Event::Left(room.clone())).await;
    }

    /// Once when the room is seen to be so, and once with the first who speaks there.
    async fn encrypted(&mut self, room: &Room, by: Option<Actor>) {
        let known = self.encrypted.get(&room.id).copied();
        if known.is_none() || (known == Some(false) && by.is_some()) {
            self.encrypted.insert(room.id.clone(), by.is_some());
            self.emit(Event::Encrypted { room: room.clone(), by }).await;
        }
    }

    /// Asks what a room is whose frames do not say it.
    fn ask(&mut self, id: &RoomId) {
        if !self.asked.insert(id.clone()) {
            return;
        }
        let (shared, answers, id) = (Arc::clone(&self.shared), self.looked_up.0.clone(), id.clone());
        tokio::spawn(async move {
            let room = shared.rest.room_info(id.as_str()).await.unwrap_or_else(|error| {
                tracing::warn!(%error, room.id = %id, "a room cannot be looked up");
                model::Room { id: id.as_str().to_owned(), ..model::Room::default() }
            });
            // Fails only when the listener has ended.
            let _ = answers.send(room).await;
        });
    }

    async fn looked_up(&mut self, room: &model::Room) {
        let id = RoomId::new(&*room.id);
        self.asked.remove(&id);
        self.shared.set_room(&known(room));
        if !self.has_to_wait(&id) {
            self.let_go(&id).await;
        }
    }

    // --- messages ---------------------------------------------------------------------------------------

    async fn frame(&mut self, frame: Frame) {
        let me = self.shared.status().me.as_ref().map(|me| me.id.clone());
        if let (Some(by), Some(me)) = (&frame.doc.by, &me)
            && by.id == *me
        {
            // Nothing is answered, so nothing waits: votes are heard during catch-up.
            self.shared.glimpse(&frame.doc.id, &frame.doc.reactions);
        }
        let room = &frame.doc.room;
        if frame.meta.is_none() && self.shared.room(room).is_none() {
            let room = room.clone();
            self.ask(&room);
        }
        if me.is_none() || self.has_to_wait(&frame.doc.room) {
            self.hold(frame).await;
        } else {
            self.live(frame).await;
        }
    }

    /// Whether frames of this room are held.
    fn has_to_wait(&self, room: &RoomId) -> bool {
        let Some(cursors) = &self.cursors else { return true };
        self.asked.contains(room) || (self.holding && !self.held.is_late(room) && cursors.has_gap(room))
    }

    async fn hold(&mut self, frame: Frame) {
        if let Some(catch_up) = &self.catch_up {
            catch_up.sooner(&frame.doc.room);
        }
        self.held.push(frame);
        if self.held.is_full() {
            self.stop_holding().await;
        }
    }

    /// When frames are let go although the gap before them was not read.
    fn hold_until(&self) -> Option<Instant> {
        self.cursors.as_ref()?;
        self.held.oldest(&self.asked).map(|since| since + self.shared.timings.longest_hold)
    }

    async fn let_go_late(&mut self) {
        for room in self.held.longer_than(self.shared.timings.longest_hold, &self.asked) {
            tracing::warn!(room.id = %room, "what was missed in a room cannot be read yet; what is said there now does not wait for it");
            self.let_go(&room).await;
            self.held.late(room);
        }
    }

    /// Lets everything go; what comes later does not wait for the gap.
    async fn stop_holding(&mut self) {
        if self.cursors.is_none() {
            return;
        }
        self.holding = false;
        for room in self.held.rooms() {
            if !self.asked.contains(&room) {
                self.let_go(&room).await;
            }
        }
    }

    /// Lets go what need not wait any more, and tells when the whole gap was read.
    async fn release(&mut self) {
        for room in self.held.rooms() {
            if !self.has_to_wait(&room) {
                self.let_go(&room).await;
            }
        }
        let done = self.cursors.as_ref().is_some_and(Cursors::all_closed);
        let told = self.shared.status().caught_up;
        if done && !told && self.catch_up.is_some() {
            self.caught_up().await;
        }
    }

    async fn let_go(&mut self, room: &RoomId) {
        for frame in self.held.take(room) {
            self.live(frame).await;
        }
    }

    async fn live(&mut self, frame: Frame) {
        let Frame { doc, meta } = frame;
        let (room, participant) = match meta {
            Some(meta) => {
                let room = Room { id: doc.room.clone(), kind: meta.kind, name: meta.name };
                if meta.participant {
                    self.shared.set_room(&room);
                }
                (room, meta.participant)
            }
            None => {
                let participant = self.cursors.as_ref().is_some_and(|cursors| cursors.knows(&doc.room));
                (self.shared.room(&doc.room).unwrap_or_else(|| unknown(&doc.room)), participant)
            }
        };
        self.look(&doc, &room, participant, false).await;
    }

    async fn look(&mut self, doc: &Doc, room: &Room, participant: bool, caught_up: bool) {
        let Some(me) = self.shared.status().me.as_ref().map(|me| me.id.clone()) else { return };
        let Some(cursors) = &mut self.cursors else { return };
        let (ledger, now) = (&self.shared.ledger, self.shared.server_now());
        let around = Around {
            me: &me,
            room,
            participant,
            since: cursors.since(&room.id),
            forgotten: ledger.forgotten(now),
            read_to: cursors.at(&room.id),
            now,
            caught_up,
        };
        let sight = self.classifier.classify(doc, &around, |id| ledger.seen(id));
        if let Sight::New(_) = &sight {
            let updated_at = doc.updated_at.or(doc.sent_at).unwrap_or(around.now);
            ledger.handed_out(doc.id.clone(), room.id.clone(), updated_at);
        }
        if let (true, Some(updated_at)) = (participant, doc.updated_at) {
            if !caught_up && cursors.clock_is(updated_at) {
                tracing::warn!("Rocket.Chat's clock was set back");
            }
            cursors.saw(&room.id, updated_at);
        }
        match sight {
            Sight::New(inbound) => self.emit(Event::Message(inbound)).await,
            Sight::Edited { by } => {
                let (id, thread, text) = (doc.id.clone(), doc.thread.clone(), doc.text.clone());
                self.emit(Event::Edited { id, room: room.clone(), thread, by, text }).await;
            }
            // Looked at when the frame came; after a gap every watched message is read again.
            Sight::Own => {}
            Sight::Gone => {
                if self.shared.watched_room(&doc.id).is_some() {
                    self.shared.read_again([doc.id.clone()]);
                }
            }
            Sight::Encrypted => self.encrypted(room, doc.by.clone()).await,
            Sight::Nothing(why) => tracing::trace!(message.id = %doc.id, ?why, "a frame means nothing"),
        }
    }

    // --- out --------------------------------------------------------------------------------------------

    /// Waits for the receiver; what it does not take before the gateway stops is found again after a restart.
    async fn emit(&self, event: Event) {
        tokio::select! {
            biased;
            _ = self.events.send(event) => {}
            () = self.shared.stop.cancelled() => {}
        }
    }

    /// Before anything is heard: killed now, the next process would otherwise be at its first start too, and take
    /// what this one heard for older than itself.
    async fn begin_for_good(&mut self) {
        self.save();
        if let Err(error) = self.shared.store.sync().await {
            tracing::error!(%error, "where Houston began to listen is not on the device yet");
        }
    }

    fn save(&mut self) {
        if let Some(cursors) = &mut self.cursors {
            let batch = cursors.changes(&self.shared.ledger.open());
            self.shared.write(batch);
        }
    }
}

fn known(room: &model::Room) -> Room {
    let name = room.name.clone().filter(|_| room.kind != "d");
    Room { id: RoomId::new(&*room.id), kind: kind(&room.kind), name }
}

fn unknown(id: &RoomId) -> Room {
    Room { id: id.clone(), kind: super::events::RoomKind::Private, name: None }
}
