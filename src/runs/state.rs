//! A run's state: what it is and what can be asked of it. `fold` makes it out of events.
//!
//! Must not: read the clock, the store or the world.

mod consent;
mod fold;
mod steps;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value as Json;

pub use self::fold::Illegal;
use super::ballot::Ballot;
use super::event::{Found, Origin, Outcome, ToUndo};
use crate::approvals::{self, Tally, Vote};
use crate::change::Change;
use crate::conversation::Actor;
use crate::ids::{MessageId, RunId, UserId};
use crate::playbook::model::{ApprovalPolicy, Basis, Plan, Preview, StepApproval};
use crate::playbook::steps::{Pause, StepError};
use crate::trace::{Cause, OfRun};

/// [`Phase::word`] of the phases before the start, in which a run holds no lock.
const WAITS_FOR_APPROVAL: &str = "waits for approval";
const ABOUT_TO_START: &str = "about to start";
const QUEUED: &str = "queued";
const FROZEN: &str = "about to start, held up";
/// The same, as earlier versions wrote it.
const FROZEN_BEFORE: &str = "about to start, frozen";

/// [`RunState::word`] of runs about which Houston cannot know what is right.
const NEEDS_A_PERSON: &str = "needs a person";

/// Between two reminders of an open review.
const REVIEW_REMINDER: Duration = Duration::from_secs(86_400);

/// Where a run stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// Waits for approval. Holds no lock.
    Deciding {
        expires_at: Timestamp,
    },
    /// May start as soon as its locks are free.
    Ready,
    /// Waits for others' work to end. Holds no lock.
    Queued {
        behind: Vec<String>,
    },
    /// May start when the freeze of its environment is over, or the maintenance that it needs begins. Holds no lock.
    Frozen {
        until: Timestamp,
        why: String,
        for_maintenance: bool,
    },
    /// Moves; holds its locks. So do the ones below.
    Running,
    /// The step begins when people consent to it.
    Asking {
        step: usize,
        expires_at: Timestamp,
    },
    Waiting {
        step: usize,
        pause: Pause,
        until: Option<Timestamp>,
    },
    Paused {
        step: usize,
    },
    Unknown {
        step: usize,
        why: String,
        look: Vec<String>,
    },
    Undoing,
    Stuck,
    Done {
        outcome: Outcome,
    },
}

impl Phase {
    pub fn word(&self) -> &'static str {
        match self {
            Self::Deciding { .. } => WAITS_FOR_APPROVAL,
            Self::Ready => ABOUT_TO_START,
            Self::Queued { .. } => QUEUED,
            Self::Frozen { .. } => FROZEN,
            Self::Running => "running",
            Self::Asking { .. } => "waits for the approval of a step",
            Self::Waiting { .. } => "waiting",
            Self::Paused { .. } => "paused",
            Self::Unknown { .. } => NEEDS_A_PERSON,
            Self::Undoing => "undoing",
            Self::Stuck => "stuck",
            Self::Done { outcome } => outcome.word(),
        }
    }
}

/// Whether a run whose header has this [`Phase::word`] had not started, for who cannot fold its log.
pub(super) fn is_before_start(word: &str) -> bool {
    [WAITS_FOR_APPROVAL, ABOUT_TO_START, QUEUED, FROZEN, FROZEN_BEFORE].contains(&word)
}

/// Where a step stands.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum StepState {
    #[default]
    Pending,
    Running {
        attempt: u32,
        since: Timestamp,
    },
    /// The last attempt failed; whether there is another one is for `next` to say.
    Failed {
        attempt: u32,
        error: StepError,
    },
    RetryAt {
        attempt: u32,
        at: Timestamp,
        error: StepError,
    },
    Waiting {
        since: Timestamp,
    },
    Unknown {
        attempt: u32,
    },
    Succeeded {
        output: Json,
    },
    Undoing {
        attempt: u32,
        output: Option<Json>,
    },
    UndoFailed {
        attempt: u32,
        output: Option<Json>,
        error: StepError,
    },
    Undone,
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct StepRecord {
    pub state: StepState,
    /// Of the first attempt.
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// An earlier process started it and did not live to see its outcome.
    pub resumed: bool,
    /// The error of the step, kept when it is undone afterwards.
    pub error: Option<StepError>,
    /// Some attempt may have left something behind: one that said so, or one whose end nobody saw. A later
    /// attempt that did nothing does not take that back.
    pub touched: bool,
    /// Attempts that have come to their end, and failed.
    pub ended: u32,
    /// An attempt was begun whose end nobody saw: what it started may be going on, or still come about.
    pub open: bool,
    /// Attempts to undo it that have come to their end, and failed.
    pub undo_ended: u32,
}

/// How the approval ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    Approved { by: Vec<Actor>, at: Timestamp },
    Denied { by: Actor, reason: Option<String>, at: Timestamp },
    Expired { at: Timestamp },
    Voided { differences: Vec<Change>, at: Timestamp },
}

/// When nobody moved the run, the last time, because Houston was away.
#[derive(Clone, Debug, PartialEq)]
pub struct Away {
    pub since: Timestamp,
    pub until: Timestamp,
    /// How often that has happened to this run.
    pub times: u32,
    /// At which step it was: to be done, or to be undone.
    pub step: Option<usize>,
    /// What became of that step; `None` while it is looked at, or when it had not begun.
    pub found: Option<Found>,
}

/// What the rest of a run would go by is not what it began with.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangedFooting {
    pub differences: Vec<Change>,
    /// What people are asked to consent to.
    pub basis: Basis,
    pub consent: Option<ApprovalPolicy>,
    /// Of those who consented.
    pub votes: Vec<Vote>,
}

impl ChangedFooting {
    /// How far consent is; `None`: one word suffices.
    pub fn tally(&self, requester: &UserId) -> Option<Tally> {
        Some(approvals::tally(self.consent.as_ref()?, requester, &self.votes))
    }
}

/// What somebody found who looked at a break-glass run.
#[derive(Clone, Debug, PartialEq)]
pub struct Review {
    pub by: Actor,
    pub findings: String,
    pub at: Timestamp,
}

/// A step that has asked for consent.
#[derive(Clone, Debug, PartialEq)]
pub struct StepAsk {
    pub step: usize,
    /// What it would do, as it was seen when it asked.
    pub preview: Preview,
    pub ballot: Ballot,
    /// It has begun: consent to it is past.
    pub begun: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RunState {
    pub id: RunId,
    pub plan: Arc<Plan>,
    pub by: Actor,
    pub origin: Origin,
    pub progress: MessageId,
    pub phase: Phase,
    /// It had to wait for its start, and so has shown its progress message.
    pub was_queued: bool,
    /// To the plan.
    pub consent: Ballot,
    /// Of steps that have asked for consent of their own, latest last. One that was denied or was looked at anew
    /// asks again.
    pub asks: Vec<StepAsk>,
    pub steps: Vec<StepRecord>,
    /// It has begun, and neither does nor undoes anything until somebody consents.
    pub footing_changed: Option<ChangedFooting>,
    /// What it goes by since people consented to that, in place of what its plan rests on.
    pub accepted: Option<Basis>,
    pub cancel: Option<Actor>,
    pub away: Option<Away>,
    /// Of a run that is stuck, or was.
    pub by_hand: Vec<ToUndo>,
    pub abandoned: Option<(Actor, String)>,
    pub review: Option<Review>,
    /// When the room was last reminded of the open review.
    pub review_reminded: Option<Timestamp>,
    pub created_at: Timestamp,
    /// Since when it may start: its place in the queue.
    pub ready_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// When the last event happened.
    pub last_at: Timestamp,
    /// Of the next event.
    pub next_seq: u32,
}

impl RunState {
    /// For people: [`Phase::word`], unless the run is kept from going on.
    pub fn word(&self) -> &'static str {
        if self.footing_changed.is_some() { NEEDS_A_PERSON } else { self.phase.word() }
    }

    /// What of the configuration it goes by.
    pub fn basis(&self) -> &Basis {
        self.accepted.as_ref().unwrap_or(&self.plan.basis)
    }

    /// What people are asked to decide now.
    pub fn asking(&self) -> Option<&Ballot> {
        match self.phase {
            Phase::Deciding { .. } => Some(&self.consent),
            Phase::Asking { .. } => self.asks.last().map(|ask| &ask.ballot),
            _ => None,
        }
    }

    /// The consent that can still be given, taken back or turned into a denial: what it is for has not begun.
    pub fn open_ballot(&self) -> Option<&Ballot> {
        if self.before_start() {
            return Some(&self.consent).filter(|ballot| ballot.policy().is_some());
        }
        self.open_ask().map(|ask| &ask.ballot)
    }

    /// The step that waits for consent, or has it and has not begun.
    pub fn open_ask(&self) -> Option<&StepAsk> {
        let ask = self.asks.last()?;
        let open = match self.phase {
            Phase::Asking { .. } => true,
            Phase::Running => !ask.begun && ask.ballot.is_approved(),
            _ => false,
        };
        open.then_some(ask)
    }

    /// The latest time that this step asked for consent.
    pub fn ask_of(&self, step: usize) -> Option<&StepAsk> {
        self.asks.iter().rev().find(|ask| ask.step == step)
    }

    /// Whether the step may not begin before people have consented to it.
    pub fn must_ask(&self, step: usize) -> bool {
        self.rule_of(step).is_some() && !self.ask_of(step).is_some_and(|ask| ask.ballot.is_approved())
    }

    /// Whether people have kept the step from beginning, by denying it or by deciding nothing.
    pub fn was_refused(&self, step: usize) -> bool {
        self.ask_of(step).is_some_and(|ask| {
            matches!(ask.ballot.decision, Some(Decision::Denied { .. } | Decision::Expired { .. }))
        })
    }

    fn rule_of(&self, step: usize) -> Option<&StepApproval> {
        self.plan.steps.get(step)?.approval.as_ref()
    }

    /// How the latest request for consent ended, to the plan or to one of its steps.
    pub fn latest_ballot(&self) -> &Ballot {
        self.asks.last().map_or(&self.consent, |ask| &ask.ballot)
    }

    /// See [`Ballot::escalate_at`].
    pub fn escalate_at(&self) -> Option<Timestamp> {
        self.asking()?.escalate_at()
    }

    /// When the room is to be told that half of the time for the decision is over; `None`: it was, or there
    /// is nothing to decide.
    pub fn remind_at(&self) -> Option<Timestamp> {
        self.asking()?.remind_at()
    }

    pub(super) fn before_start(&self) -> bool {
        matches!(self.phase, Phase::Deciding { .. }) || self.wants_locks()
    }

    /// Whether it broke the glass and nobody has closed its review; one that never started is not reviewed.
    pub fn review_open(&self) -> bool {
        self.plan.break_glass.is_some() && self.started_at.is_some() && self.review.is_none()
    }

    /// When the room is to be reminded of the open review; `None`: there is none, or the run still moves.
    pub fn remind_of_review_at(&self) -> Option<Timestamp> {
        let since =
            self.review_reminded.or(self.ended_at).filter(|_| self.is_done() && self.review_open())?;
        Some(since.checked_add(REVIEW_REMINDER).unwrap_or(Timestamp::MAX))
    }

    /// For the lines about it: what it was asked for by.
    pub fn cause(&self) -> Cause<'_> {
        Cause { message: &self.origin.message, room: &self.origin.room.id, user: &self.by.id }
    }

    /// Which of all runs it is.
    pub fn of_run(&self) -> OfRun<'_> {
        OfRun { run: self.id, card: &self.consent.card }
    }

    pub fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done { .. })
    }

    pub fn outcome(&self) -> Option<Outcome> {
        match self.phase {
            Phase::Done { outcome } => Some(outcome),
            _ => None,
        }
    }

    /// Whether the run holds the locks of its plan now.
    pub fn holds_locks(&self) -> bool {
        !(matches!(self.phase, Phase::Deciding { .. } | Phase::Done { .. }) || self.wants_locks())
    }

    /// Whether it waits for its locks.
    pub fn wants_locks(&self) -> bool {
        matches!(self.phase, Phase::Ready | Phase::Queued { .. } | Phase::Frozen { .. })
    }

    /// Whether it goes on by itself, and so stands still only while Houston is away.
    pub fn moves(&self) -> bool {
        self.footing_changed.is_none()
            && matches!(
                self.phase,
                Phase::Running | Phase::Undoing | Phase::Waiting { pause: Pause::For(_), .. }
            )
    }

    /// The step that is done next, or undone next; `None` when there is none left.
    pub fn at_step(&self) -> Option<usize> {
        let succeeded = |slot: &StepRecord| matches!(slot.state, StepState::Succeeded { .. });
        if !matches!(self.phase, Phase::Undoing) {
            return (0..self.steps.len()).find(|step| !succeeded(&self.steps[*step]) && !self.is_past(*step));
        }
        let being_undone = |slot: &StepRecord| {
            matches!(slot.state, StepState::Undoing { .. } | StepState::UndoFailed { .. })
        };
        self.steps.iter().rposition(being_undone).or_else(|| self.steps.iter().rposition(succeeded))
    }

    /// Outputs of the steps that succeeded, by step id.
    pub fn outputs(&self) -> BTreeMap<String, Json> {
        self.plan
            .steps
            .iter()
            .zip(&self.steps)
            .filter_map(|(step, record)| match &record.state {
                StepState::Succeeded { output } => Some((step.id.to_string(), output.clone())),
                _ => None,
            })
            .collect()
    }

    /// Whether a step or its undo was begun whose end is not recorded.
    pub fn acts(&self) -> bool {
        self.steps
            .iter()
            .any(|step| matches!(step.state, StepState::Running { .. } | StepState::Undoing { .. }))
    }
}
