//! What can happen to a run: the journal's vocabulary. Additive only; every record carries its version.
//!
//! Must not: decide anything. `state` folds these, `next` decides, `engine` acts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::approvals::Vote;
use crate::change::Change;
use crate::conversation::{Actor, Room};
use crate::digest::Digest;
use crate::ids::{EffectToken, MessageId, RunId, ScheduleName, UserId};
use crate::playbook::model::{AfterRetries, ApprovalPolicy, Basis, Plan, Preview};
use crate::playbook::steps::{Pause, StepError};

/// The newest [`Event::version`] of this build.
pub const EVENT_VERSION: u32 = 3;

/// One line of a run's log, as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    pub v: u32,
    pub run: RunId,
    /// From 0, without gaps.
    pub seq: u32,
    pub at: Timestamp,
    pub event: Event,
}

/// Where a run was asked for, and where it reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    pub room: Room,
    /// The thread in which it was asked for, if any.
    pub thread: Option<MessageId>,
    /// The command's own message; of a schedule a name for the time that was due.
    pub message: MessageId,
    /// Absent: nobody but the one who asked had it begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<OfSchedule>,
}

/// The schedule that a run belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OfSchedule {
    pub name: ScheduleName,
    /// The time that it stands for; by hand: when it was asked for.
    pub due: Timestamp,
    /// User names that are mentioned when it does not go well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tell: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The plan is pinned here; a run never reads a playbook again.
    Created {
        plan: Box<Plan>,
        digest: Digest,
        by: Actor,
        origin: Origin,
        /// Houston's version.
        engine: String,
        /// The message that asks for approval; made here, so that sending it twice is sending it once.
        card: MessageId,
        /// The message that shows progress and, at last, the result.
        progress: MessageId,
        /// Until when it may be approved; absent when the plan needs no approval.
        expires_at: Option<Timestamp>,
    },
    Voted {
        vote: Vote,
        /// The plan that was voted on.
        digest: Digest,
    },
    VoteWithdrawn {
        by: Actor,
        /// The name vanished from the reactions: not proof of a withdrawal, but it counts no more.
        vanished: bool,
        /// They have left or lost the role since: nobody took it back, and it counts no more.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        lost: bool,
    },
    /// Somebody whose vote cannot count was told so; not again.
    Told {
        who: UserId,
    },
    /// The approval message was deleted; this is its successor.
    CardReplaced {
        card: MessageId,
    },
    /// Half of the time for the decision is over, and the room was told; not again.
    Reminded,
    /// Nobody has decided in time: others may now too.
    Escalated,
    Approved,
    Denied {
        by: Actor,
        reason: Option<String>,
    },
    /// The denier's line, asked for after the denial.
    DenialExplained {
        reason: String,
    },
    Expired,
    /// The world or the configuration is not what the plan was approved for.
    Voided {
        differences: Vec<Change>,
    },
    /// Other work holds what this run needs. `behind` is for people.
    Queued {
        behind: Vec<String>,
    },
    /// Nothing begins in its environment before `until`, or nothing of its kind. `why` is for people.
    Frozen {
        until: Timestamp,
        why: String,
        /// It is not the end of a freeze that it waits for: its command begins only in maintenance.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        for_maintenance: bool,
    },
    /// From here the run holds its locks.
    Started,
    /// Houston was away while the run moved, and is back: from here another process moves it.
    TakenUp {
        away_since: Timestamp,
    },
    /// What is known of a step whose end the process before did not see.
    Found {
        step: usize,
        found: Found,
    },
    /// Houston was started again, and what the rest of the run would go by is not what it began with: nothing
    /// of it is done or undone before people say so.
    FootingChanged {
        differences: Vec<Change>,
        /// Of the configuration that was in force then: consent is to exactly this one.
        basis: Basis,
        /// Who has to consent; absent: whoever may retry the run.
        consent: Option<ApprovalPolicy>,
    },
    /// What it began with is in force again.
    FootingRestored,
    /// Somebody consents to going on by what is in force now.
    FootingAccepted {
        vote: Vote,
    },
    /// The step begins when people consent to what it would do now. What decides on a plan decides on it, from
    /// here until it begins.
    StepAsked {
        step: usize,
        preview: Preview,
        /// Over the plan, the step, what the steps before it gave, and the preview.
        digest: Digest,
        /// The message that asks.
        card: MessageId,
        expires_at: Timestamp,
    },
    StepStarted {
        step: usize,
        /// From 1.
        attempt: u32,
        token: EffectToken,
    },
    StepSucceeded {
        step: usize,
        output: Json,
        /// A probe found that it had happened.
        #[serde(default)]
        adopted: bool,
    },
    StepFailed {
        step: usize,
        error: StepError,
    },
    RetryAt {
        step: usize,
        at: Timestamp,
    },
    /// The step waits for time or for a person.
    StepWaiting {
        step: usize,
        pause: Pause,
        until: Option<Timestamp>,
    },
    /// A wait for time is over.
    WaitEnded {
        step: usize,
    },
    Answered {
        step: usize,
        by: Actor,
        answer: String,
    },
    /// It was started, its outcome was not recorded, and nobody can tell by looking.
    OutcomeUnknown {
        step: usize,
        why: String,
        /// What a person types to see whether it happened.
        #[serde(default)]
        look: Vec<String>,
    },
    Resolved {
        step: usize,
        by: Actor,
        resolution: Resolution,
    },
    /// Attempts are used up; a person decides.
    Paused {
        step: usize,
    },
    /// `retry R-1`
    RetryRequested {
        by: Actor,
    },
    CancelRequested {
        by: Actor,
    },
    UndoStarted {
        step: usize,
        attempt: u32,
    },
    UndoSucceeded {
        step: usize,
        /// Everything was as before the step.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        nothing: bool,
    },
    UndoFailed {
        step: usize,
        error: StepError,
    },
    /// An undo failed for good: a person has to finish by hand.
    Stuck {
        /// What is still to be undone, in the order in which it would be.
        #[serde(default)]
        by_hand: Vec<ToUndo>,
    },
    Finished {
        outcome: Outcome,
    },
    Abandoned {
        by: Actor,
        reason: String,
    },
    /// A day has passed over an open review, and the room was told.
    ReviewReminded,
    /// Somebody looked at what a break-glass run did; that closes the review.
    Reviewed {
        by: Actor,
        findings: String,
    },
}

/// What became of a step that an earlier process began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "snake_case")]
pub enum Found {
    /// It was done meanwhile.
    Happened,
    /// Nothing of it had begun outside: it is begun.
    NotBegun,
    /// What it started is there: it is waited for. The text is a sentence of the kind's.
    UnderWay { what: String },
    /// Nobody had to look: the step only reads, or ends in the same state, so it is done again.
    Harmless { only_reads: bool },
}

impl Event {
    /// What a build has to understand to go on from this event. Those of 1 know no step that asks: they would
    /// begin it without consent. Those of 2 end a run with its first step that fails.
    pub fn version(&self) -> u32 {
        match self {
            Self::Created { plan, .. } if plan.steps.iter().any(|s| s.retry.then == AfterRetries::GoOn) => 3,
            Self::StepAsked { .. } => 2,
            Self::Created { plan, .. } if plan.asking_steps().next().is_some() => 2,
            _ => 1,
        }
    }
}

/// How a person undoes a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToUndo {
    pub step: usize,
    /// For a shell; empty where nothing is known that could be typed.
    pub commands: Vec<String>,
}

/// What a person says about a step whose outcome is unknown, or whose undo failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    Happened,
    DidNotHappen,
    Undo,
    /// A person has undone what could not be: the run is stuck no more.
    Undone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Succeeded,
    Failed,
    Cancelled,
    Denied,
    Expired,
    /// The approval did not fit the world any more.
    Void,
    Abandoned,
}

impl Outcome {
    pub fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Void => "void",
            Self::Abandoned => "abandoned",
        }
    }
}
