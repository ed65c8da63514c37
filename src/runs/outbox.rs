//! What has to be said, written with the event that it announces. Delivered in order, as often as it
//! takes, under ids that make a second delivery no second message.
//!
//! Must not: hold texts of runs. They are rendered at delivery, from what is true then.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::maintenance::Announcement;
use super::schedules::Told;
use crate::conversation::Post;
use crate::ids::{MessageId, RoomId, RunId, UserId, derived_id};
use crate::store::{Batch, Store, StoreError, Tree};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutboxEntry {
    /// Counts up; the order of delivery.
    pub id: u64,
    /// When it was written; entries of earlier versions do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    pub notice: Notice,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
pub enum Notice {
    /// The approval message of a run: posted if it is not there yet, else edited to what is so now.
    Card { run: RunId },
    /// The message with which a step asks for consent, by its place among the run's; likewise.
    StepCard { run: RunId, ask: usize },
    /// What a card that shows a part leaves out, in the thread: of the plan, or of the step that asks with `ask`.
    Whole {
        run: RunId,
        id: MessageId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ask: Option<usize>,
    },
    /// The progress message, likewise.
    Progress { run: RunId },
    /// The result, to whoever asked, in the thread.
    Result { run: RunId, id: MessageId },
    /// What it came to, in a room of its own.
    Report { run: RunId, id: MessageId },
    /// Something only a person can say, in the thread.
    Question { run: RunId, id: MessageId },
    /// To the denier: why?
    AskWhyDenied { run: RunId, id: MessageId },
    /// It is still not decided, beside the card: half of the time is over, or others may decide now.
    #[serde(alias = "reminder", alias = "escalation")]
    Undecided {
        run: RunId,
        id: MessageId,
        #[serde(default)]
        escalated: bool,
        /// With it, the decision on a step.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ask: Option<usize>,
    },
    /// To whoever asked for it and approved it: it will not start, since it is not what they saw.
    Void { run: RunId, id: MessageId },
    /// To whoever asked for it: nobody decided in time.
    Expired { run: RunId, id: MessageId },
    /// To whoever asked for it: somebody denied it.
    Denied { run: RunId, id: MessageId },
    /// A run begins without consent: to the room, outside of threads.
    BreakGlass { run: RunId, id: MessageId },
    /// The same to one person, in a direct message.
    BreakGlassTo { run: RunId, id: MessageId, to: UserId },
    /// To whoever has the lock that a run steals, in a direct message: it is asked for, or `done`.
    Steal { run: RunId, id: MessageId, to: UserId, done: bool },
    /// A break-glass run has still to be reviewed.
    ReviewReminder { run: RunId, id: MessageId },
    /// Maintenance, in one of the rooms that it is announced in.
    Maintenance { id: MessageId, room: RoomId, announcement: Box<Announcement> },
    /// What became of a time of a schedule, in the room that it reports in.
    Schedule { id: MessageId, room: RoomId, told: Box<Told> },
    /// A sentence of its own.
    Say { post: Post },
}

impl Notice {
    /// What it is about, if that is a run.
    pub fn run(&self) -> Option<RunId> {
        match self {
            Self::Card { run }
            | Self::StepCard { run, .. }
            | Self::Whole { run, .. }
            | Self::Progress { run }
            | Self::Result { run, .. }
            | Self::Report { run, .. }
            | Self::Question { run, .. }
            | Self::AskWhyDenied { run, .. }
            | Self::Undecided { run, .. }
            | Self::Void { run, .. }
            | Self::Expired { run, .. }
            | Self::Denied { run, .. }
            | Self::BreakGlass { run, .. }
            | Self::BreakGlassTo { run, .. }
            | Self::Steal { run, .. }
            | Self::ReviewReminder { run, .. } => Some(*run),
            Self::Maintenance { .. } | Self::Schedule { .. } | Self::Say { .. } => None,
        }
    }

    pub fn result(run: RunId) -> Self {
        Self::Result { run, id: derived_id(&format!("{run}/result")).into() }
    }
    pub fn report(run: RunId) -> Self {
        Self::Report { run, id: derived_id(&format!("{run}/report")).into() }
    }
    /// `seq` of the event that asks, so that each question is a message of its own.
    pub fn question(run: RunId, seq: u32) -> Self {
        Self::Question { run, id: derived_id(&format!("{run}/question/{seq}")).into() }
    }
    pub fn escalation(run: RunId, ask: Option<usize>) -> Self {
        Self::Undecided { run, id: of_ask(run, "escalation", ask), escalated: true, ask }
    }
    pub fn reminder(run: RunId, ask: Option<usize>) -> Self {
        Self::Undecided { run, id: of_ask(run, "reminder", ask), escalated: false, ask }
    }
    pub fn void(run: RunId) -> Self {
        Self::Void { run, id: derived_id(&format!("{run}/void")).into() }
    }
    pub fn whole(run: RunId, ask: Option<usize>) -> Self {
        Self::Whole { run, id: of_ask(run, "whole", ask), ask }
    }
    pub fn expired(run: RunId) -> Self {
        Self::Expired { run, id: derived_id(&format!("{run}/expired")).into() }
    }
    pub fn denied(run: RunId) -> Self {
        Self::Denied { run, id: derived_id(&format!("{run}/denied")).into() }
    }
    pub fn break_glass(run: RunId) -> Self {
        Self::BreakGlass { run, id: derived_id(&format!("{run}/break-glass")).into() }
    }
    pub fn break_glass_to(run: RunId, to: UserId) -> Self {
        Self::BreakGlassTo { run, id: derived_id(&format!("{run}/break-glass/{to}")).into(), to }
    }
    pub fn steal(run: RunId, to: UserId, done: bool) -> Self {
        let what = if done { "stolen" } else { "steal" };
        Self::Steal { run, id: derived_id(&format!("{run}/{what}/{to}")).into(), to, done }
    }
    /// `seq` of the event, so that each day's reminder is a message of its own.
    pub fn review_reminder(run: RunId, seq: u32) -> Self {
        Self::ReviewReminder { run, id: derived_id(&format!("{run}/review/{seq}")).into() }
    }
    pub fn ask_why_denied(run: RunId, ask: Option<usize>) -> Self {
        Self::AskWhyDenied { run, id: of_ask(run, "why", ask) }
    }
}

/// Each request for consent has messages of its own.
fn of_ask(run: RunId, what: &str, ask: Option<usize>) -> MessageId {
    let ask = ask.map(|ask| format!("/{ask}")).unwrap_or_default();
    derived_id(&format!("{run}/{what}{ask}")).into()
}

/// What waits to be said, oldest first.
pub fn waiting(store: &Store) -> Result<Vec<OutboxEntry>, StoreError> {
    store.scan::<OutboxEntry>(Tree::Outbox, &[]).map(|entry| entry.map(|(_, e)| e)).collect()
}

/// It was said. Lazily: saying it again is harmless.
pub fn delivered(store: &Store, entry: &OutboxEntry) -> Result<(), StoreError> {
    let mut batch = Batch::new();
    batch.delete(Tree::Outbox, &entry.id.to_be_bytes());
    store.apply(batch)
}
