//! What a frame means: the server sends the whole document again on every change, so the meaning is in the
//! difference to what is known.
//!
//! Must not: do I/O, or hand out a message id twice.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use jiff::Timestamp;

use super::cursor::{READ_AGAIN, SET_BACK};
use super::doc::Doc;
use super::events::{Actor, Inbound, Room};
use super::recent::Recent;
use super::shared::earlier;
use crate::ids::{MessageId, UserId};

/// Message ids whose state is kept; older ones are recognised by the ledger.
const REMEMBERED: usize = 8192;

/// A message that arrives later than this after it was sent is no live conversation: a frame was lost and a
/// later change of the message brought it, or it was found at catch-up.
const LIVE: Duration = Duration::from_secs(30);

/// Posts as `rocket.cat`: the server itself.
const ROCKET_CAT: &str = "rocket.cat";

/// What was seen of a message before.
#[derive(Debug)]
struct Seen {
    text: u64,
    updated_at: Option<Timestamp>,
}

/// What surrounds a document.
#[derive(Clone, Debug)]
pub struct Around<'a> {
    pub me: &'a UserId,
    pub room: &'a Room,
    /// Whether Houston is in the room.
    pub participant: bool,
    /// Messages sent earlier are from before Houston listened in this room.
    pub since: Timestamp,
    /// Whether what was sent earlier was dealt with is not known any more.
    pub forgotten: Timestamp,
    /// Every change of this room up to here was seen before.
    pub read_to: Timestamp,
    /// By the server's clock.
    pub now: Timestamp,
    /// From catch-up, not live.
    pub caught_up: bool,
}

impl Around<'_> {
    /// What the server's clock stood at when it told this. Where `since` is still to come, the clock was set back,
    /// and a frame knows that before anybody has asked.
    fn clock(&self, doc: &Doc) -> Timestamp {
        match doc.updated_at {
            Some(updated_at) if !self.caught_up && self.set_back(updated_at) => updated_at,
            _ => self.now,
        }
    }

    fn set_back(&self, clock: Timestamp) -> bool {
        earlier(self.since, SET_BACK) > clock
    }

    /// From when on messages are for Houston. When the server's clock was set back, what bears a time that is still
    /// to come was said before; what was said after it bears one before `since`.
    fn since(&self, sent_at: Timestamp, clock: Timestamp) -> Timestamp {
        if !self.set_back(clock) || is_to_come(sent_at, clock) {
            return self.since;
        }
        earlier(clock, if self.caught_up { READ_AGAIN } else { LIVE })
    }

    /// Of something found later that bears a time still to come, it is only known that it is not of now.
    fn age(&self, sent_at: Timestamp, clock: Timestamp) -> Duration {
        let age = clock.duration_since(sent_at);
        if self.caught_up && is_to_come(sent_at, clock) {
            return age.unsigned_abs();
        }
        Duration::try_from(age).unwrap_or_default()
    }
}

fn is_to_come(at: Timestamp, clock: Timestamp) -> bool {
    earlier(at, SET_BACK) > clock
}

/// What a document means.
#[derive(Clone, Debug, PartialEq)]
pub enum Sight {
    /// Never seen before, and to be handed out.
    New(Inbound),
    /// Has another text than before, or had been edited before it was first seen.
    Edited {
        by: Actor,
    },
    /// Houston's own.
    Own,
    /// A tombstone.
    Gone,
    /// Ciphertext.
    Encrypted,
    Nothing(Why),
}

/// Why a document means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Handed out before; a reaction, a reply in its thread, a pin, a link preview, or sent twice.
    Repeated,
    /// Edited long before it was first seen.
    EditedBefore,
    /// From before Houston listened, or older than the ledger remembers.
    Predates,
    /// Houston is not in the room.
    NotOurRoom,
    System,
    Bot,
    /// Shown under another name or picture than the sender's.
    Disguised,
    /// Without sender or time.
    Incomplete,
}

/// Remembers which ids were handed out by this process.
#[derive(Debug)]
pub struct Classifier {
    seen: Recent<Seen>,
}

impl Default for Classifier {
    fn default() -> Self {
        Self { seen: Recent::new(REMEMBERED) }
    }
}

impl Classifier {
    /// `dealt_with` asks the durable ledger, for ids that this process has not seen.
    pub fn classify(
        &mut self,
        doc: &Doc,
        around: &Around<'_>,
        dealt_with: impl FnOnce(&MessageId) -> bool,
    ) -> Sight {
        if doc.kind.as_deref() == Some("rm") {
            // An older frame that arrives later must not revive it.
            self.remember(doc);
            return Sight::Gone;
        }
        if doc.by.as_ref().is_some_and(|by| by.id == *around.me) {
            return Sight::Own;
        }
        if !around.participant {
            return Sight::Nothing(Why::NotOurRoom);
        }
        if doc.kind.as_deref() == Some("e2e") {
            return Sight::Encrypted;
        }
        let Some(by) = &doc.by else { return Sight::Nothing(Why::Incomplete) };
        if doc.kind.is_some() {
            return Sight::Nothing(Why::System);
        }
        if doc.bot || by.id.as_str() == ROCKET_CAT {
            return Sight::Nothing(Why::Bot);
        }
        if doc.disguised {
            return Sight::Nothing(Why::Disguised);
        }
        let Some(sent_at) = doc.sent_at else { return Sight::Nothing(Why::Incomplete) };

        let text = hash(&doc.text);
        if let Some(seen) = self.seen.get_mut(&doc.id) {
            let older = doc.updated_at.zip(seen.updated_at).is_some_and(|(this, known)| this < known);
            if older || seen.text == text {
                return Sight::Nothing(Why::Repeated);
            }
            *seen = Seen { text, updated_at: doc.updated_at };
            return Sight::Edited { by: by.clone() };
        }
        let now = around.clock(doc);
        let since = around.since(sent_at, now);
        let edited_now = doc.edited && doc.edited_at.is_some_and(|at| at > around.read_to);
        if dealt_with(&doc.id) {
            self.remember(doc);
            return if edited_now { Sight::Edited { by: by.clone() } } else { Sight::Nothing(Why::Repeated) };
        }
        if doc.edited {
            self.remember(doc);
            let predates = sent_at < since;
            return if edited_now && !predates {
                Sight::Edited { by: by.clone() }
            } else {
                Sight::Nothing(Why::EditedBefore)
            };
        }
        if sent_at < since || sent_at < around.forgotten {
            return Sight::Nothing(Why::Predates);
        }
        self.remember(doc);
        let age = around.age(sent_at, now);
        Sight::New(Inbound {
            id: doc.id.clone(),
            room: around.room.clone(),
            thread: doc.thread.clone(),
            by: by.clone(),
            text: doc.text.clone(),
            sent_at,
            age,
            caught_up: around.caught_up || age > LIVE,
        })
    }

    fn remember(&mut self, doc: &Doc) {
        self.seen.insert(doc.id.clone(), Seen { text: hash(&doc.text), updated_at: doc.updated_at });
    }
}

fn hash(text: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(text)
}

#[cfg(test)]
mod tests {
    use super::super::doc::Names;
    use super::super::events::RoomKind;
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn doc(id: &str, text: &str) -> Doc {
        Doc {
            id: id.into(),
            room: "R".into(),
            by: Some(Actor { id: "A".into(), username: "alice".to_owned() }),
            text: text.to_owned(),
            sent_at: Some(at(1000)),
            updated_at: Some(at(1000)),
            thread: None,
            kind: None,
            edited_at: None,
            edited: false,
            bot: false,
            disguised: false,
            reactions: Names::new(),
        }
    }

    fn edited(mut doc: Doc, text: &str, second: i64) -> Doc {
        text.clone_into(&mut doc.text);
        doc.edited = true;
        doc.edited_at = Some(at(second));
        doc.updated_at = Some(at(second));
        doc
    }

    fn with_reaction(mut doc: Doc, second: i64) -> Doc {
        doc.reactions.entry(":+1:".to_owned()).or_default().insert("bob".to_owned());
        doc.updated_at = Some(at(second));
        doc
    }

    struct Setup {
        classifier: Classifier,
        me: UserId,
        room: Room,
        participant: bool,
        now: i64,
        since: i64,
        read_to: i64,
        caught_up: bool,
        ledger: Vec<MessageId>,
    }

    impl Setup {
        fn new() -> Self {
            let room = Room { id: "R".into(), kind: RoomKind::Public, name: Some("ops".to_owned()) };
            Self {
                classifier: Classifier::default(),
                me: "me".into(),
                room,
                participant: true,
                now: 1000,
                since: 500,
                read_to: 990,
                caught_up: false,
                ledger: Vec::new(),
            }
        }

        fn see(&mut self, doc: &Doc) -> Sight {
            let around = Around {
                me: &self.me,
                room: &self.room,
                participant: self.participant,
                since: at(self.since),
                forgotten: earlier(at(self.now), Duration::from_secs(30 * 24 * 3600)),
                read_to: at(self.read_to),
                now: at(self.now),
                caught_up: self.caught_up,
            };
            self.classifier.classify(doc, &around, |id| self.ledger.contains(id))
        }
    }

    fn is_new(sight: &Sight) -> bool {
        matches!(sight, Sight::New(_))
    }

    const REPEATED: Sight = Sight::Nothing(Why::Repeated);

    #[test]
    fn a_message_is_new_once_whatever_changes_it_later() {
        let mut setup = Setup::new();
        let command = doc("M", "!deploy prod");
        assert!(is_new(&setup.see(&command)));
        let later = |change: fn(&mut Doc)| {
            let mut doc = doc("M", "!deploy prod");
            doc.updated_at = Some(at(1005));
            change(&mut doc);
            doc
        };
        // Sent twice, link preview, reply in its thread, pin, star: the same text, another document.
        let frames = [
            ("sent twice", command.clone()),
            ("link preview, reply in its thread, pin, star", later(|_| {})),
            ("reaction added", with_reaction(command.clone(), 1001)),
            ("reaction removed, field absent", later(|doc| doc.reactions.clear())),
            ("edited without another text", later(|doc| doc.edited = true)),
        ];
        for (cause, frame) in frames {
            assert_eq!(setup.see(&frame), REPEATED, "{cause}");
        }
    }

    #[test]
    fn an_edit_is_told_once_and_is_never_new() {
        let mut setup = Setup::new();
        let command = doc("M", "!deploy staging");
        setup.see(&command);
        let changed = edited(command.clone(), "!deploy prod", 1010);
        assert!(matches!(setup.see(&changed), Sight::Edited { .. }));
        assert_eq!(setup.see(&changed), REPEATED);
        assert_eq!(setup.see(&command), REPEATED, "the old text, late");
    }

    #[test]
    fn a_message_that_was_edited_before_it_was_seen_is_not_new() {
        let mut setup = Setup::new();
        let changed = edited(doc("M", "!deploy staging"), "!deploy prod", 1002);
        assert!(matches!(setup.see(&changed), Sight::Edited { .. }));
        assert_eq!(setup.see(&doc("M", "!deploy staging")), REPEATED, "nor is its first text, late");
        // Long ago; a reaction brings it up again.
        let long_ago = with_reaction(edited(doc("N", "!deploy"), "!deploy prod", 600), 1000);
        assert_eq!(setup.see(&long_ago), Sight::Nothing(Why::EditedBefore));
    }

    #[test]
    fn what_another_process_dealt_with_is_not_new() {
        let mut setup = Setup::new();
        setup.ledger.push("M".into());
        let command = doc("M", "!deploy staging");
        assert_eq!(setup.see(&with_reaction(command, 1000)), REPEATED);
        setup.ledger.push("N".into());
        let changed = edited(doc("N", "!deploy staging"), "!deploy prod", 995);
        assert!(matches!(setup.see(&changed), Sight::Edited { .. }));
    }

    #[test]
    fn what_nobody_may_command_with_is_not_new() {
        let change = |change: fn(&mut Doc)| {
            let mut doc = doc("M", "!deploy prod");
            change(&mut doc);
            doc
        };
        let by = |doc: &mut Doc, id: &str| {
            doc.by = Some(Actor { id: id.into(), username: "houston".to_owned() });
        };
        let mut own = doc("M", "!deploy prod");
        by(&mut own, "me");
        let mut cat = doc("M", "!deploy prod");
        by(&mut cat, "rocket.cat");
        let table = [
            ("own", own, Sight::Own),
            ("the server's", cat, Sight::Nothing(Why::Bot)),
            ("an integration's", change(|d| d.bot = true), Sight::Nothing(Why::Bot)),
            ("under another name", change(|d| d.disguised = true), Sight::Nothing(Why::Disguised)),
            ("joined", change(|d| d.kind = Some("uj".to_owned())), Sight::Nothing(Why::System)),
            ("pinned", change(|d| d.kind = Some("message_pinned".to_owned())), Sight::Nothing(Why::System)),
            (
                "discussion",
                change(|d| d.kind = Some("discussion-created".to_owned())),
                Sight::Nothing(Why::System),
            ),
            ("deleted", change(|d| d.kind = Some("rm".to_owned())), Sight::Gone),
            ("encrypted", change(|d| d.kind = Some("e2e".to_owned())), Sight::Encrypted),
            ("nobody's", change(|d| d.by = None), Sight::Nothing(Why::Incomplete)),
            ("of no time", change(|d| d.sent_at = None), Sight::Nothing(Why::Incomplete)),
            ("before our time", change(|d| d.sent_at = Some(at(499))), Sight::Nothing(Why::Predates)),
        ];
        for (what, doc, expected) in table {
            assert_eq!(Setup::new().see(&doc), expected, "{what}");
        }
        let mut elsewhere = Setup::new();
        elsewhere.participant = false;
        assert_eq!(elsewhere.see(&doc("M", "!deploy prod")), Sight::Nothing(Why::NotOurRoom));
    }

    #[test]
    fn a_new_message_that_already_carries_reactions_is_a_message_and_no_more() {
        let mut setup = Setup::new();
        let Sight::New(inbound) = setup.see(&with_reaction(doc("M", "!deploy prod"), 1000)) else {
            panic!("it is new")
        };
        assert_eq!((inbound.text.as_str(), inbound.by.id.as_str()), ("!deploy prod", "A"));
    }

    #[test]
    fn five_messages_in_one_millisecond_are_five_and_a_late_one_is_one() {
        let mut setup = Setup::new();
        for n in 0..5 {
            assert!(is_new(&setup.see(&doc(&format!("M{n}"), "!ping"))));
        }
        let mut late = doc("late", "!ping");
        late.sent_at = Some(at(996));
        let Sight::New(inbound) = setup.see(&late) else { panic!("it is new") };
        assert_eq!((inbound.age, inbound.caught_up), (Duration::from_secs(4), false));
    }

    #[test]
    fn after_the_servers_clock_was_set_back_what_is_said_is_heard_and_what_was_said_before_it_stays_so() {
        let sent = |id: &str, sent: i64, updated: i64| {
            let mut doc = doc(id, "!deploy prod");
            (doc.sent_at, doc.updated_at) = (Some(at(sent)), Some(at(updated)));
            doc
        };
        // Houston listens since 500 000; the clock goes back a day, and nobody has asked yet what it says now.
        let mut setup = Setup::new();
        (setup.since, setup.now, setup.read_to) = (500_000, 500_100, 500_090);
        let Sight::New(inbound) = setup.see(&sent("M", 413_700, 413_700)) else { panic!("it is new") };
        assert_eq!((inbound.age, inbound.caught_up), (Duration::ZERO, false));
        // A reaction brings up what was said before Houston listened, before or after the clock was set.
        for (id, of) in [("old", 413_000), ("older", 499_000)] {
            assert_eq!(setup.see(&sent(id, of, 413_700)), Sight::Nothing(Why::Predates), "{id}");
        }
        // Found at catch-up, when it is known what the clock says.
        (setup.now, setup.read_to, setup.caught_up) = (413_800, 410_200, true);
        assert!(is_new(&setup.see(&sent("N", 413_710, 413_710))));
        assert_eq!(setup.see(&sent("before", 499_000, 499_000)), Sight::Nothing(Why::Predates));
        let Sight::New(inbound) = setup.see(&sent("meant", 500_050, 500_050)) else { panic!("it is new") };
        assert!(inbound.age > Duration::from_secs(80_000), "it is not of now: {:?}", inbound.age);
    }

    #[test]
    fn a_message_whose_own_frame_was_lost_is_not_called_live() {
        let mut setup = Setup::new();
        setup.now = 1200;
        let Sight::New(inbound) = setup.see(&with_reaction(doc("M", "!deploy prod"), 1200)) else {
            panic!("it is new")
        };
        assert_eq!((inbound.age, inbound.caught_up), (Duration::from_secs(200), true));
    }

    #[test]
    fn a_deleted_message_is_not_revived_by_an_older_frame() {
        let mut setup = Setup::new();
        let mut gone = doc("M", "");
        gone.kind = Some("rm".to_owned());
        gone.updated_at = Some(at(1003));
        assert_eq!(setup.see(&gone), Sight::Gone);
        assert_eq!(setup.see(&doc("M", "!deploy prod")), REPEATED);
    }

    proptest! {
        /// Any frames of any messages, repeated and out of order, with restarts in between that keep the ledger.
        #[test]
        fn every_unedited_message_is_handed_out_exactly_once(
            frames in prop::collection::vec((0usize..8, 0usize..4), 1..80),
            restart in 0usize..80,
        ) {
            let mut setup = Setup::new();
            setup.now = 1010;
            let mut handed_out = std::collections::HashMap::<MessageId, usize>::new();
            let mut shown = std::collections::HashMap::<MessageId, Vec<usize>>::new();
            for (n, (message, form)) in frames.into_iter().enumerate() {
                if n == restart {
                    setup.classifier = Classifier::default();
                }
                let first = doc(&format!("M{message}"), "!ping");
                let frame = match form {
                    0 => first,
                    1 => with_reaction(first, 1001),
                    2 => { let mut doc = first; doc.updated_at = Some(at(1002)); doc }
                    _ => edited(first, "!ping again", 1003),
                };
                shown.entry(frame.id.clone()).or_default().push(form);
                if let Sight::New(inbound) = setup.see(&frame) {
                    prop_assert!(!frame.edited, "an edit was handed out");
                    setup.ledger.push(inbound.id.clone());
                    *handed_out.entry(inbound.id).or_default() += 1;
                }
            }
            for (id, forms) in shown {
                let times = handed_out.get(&id).copied().unwrap_or_default();
                prop_assert!(times <= 1, "{id} was handed out {times} times");
                // An edit that arrives first means that the message is never executed.
                if forms[0] != 3 {
                    prop_assert_eq!(times, 1, "{} was lost", id);
                }
            }
        }
    }
}
