//! A run's state: a pure fold of its events. An illegal transition is an error that names run, sequence,
//! state and event.
//!
//! Must not: read the clock, the store or the world.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::ballot::{Asked, Ballot};
use super::event::{EVENT_VERSION, Event, Found, Origin, Outcome, Recorded, Resolution, ToUndo};
use crate::approvals::{self, Tally, Vote};
use crate::change::Change;
use crate::conversation::Actor;
use crate::ids::{MessageId, RunId, UserId};
use crate::playbook::model::{ApprovalPolicy, Basis, Plan, Preview, StepApproval};
use crate::playbook::steps::{Effects, Pause, StepError};
use crate::text;

/// [`Phase::word`] of the phases before the start, in which a run holds no lock. They stand in headers.
pub const WAITS_FOR_APPROVAL: &str = "waits for approval";
pub const ABOUT_TO_START: &str = "about to start";
pub const QUEUED: &str = "queued";
pub const FROZEN: &str = "about to start, frozen";

/// [`RunState::word`] of runs about which Houston cannot know what is right.
const NEEDS_A_PERSON: &str = "needs a person";

/// Between two reminders of an open review.
const REVIEW_REMINDER: Duration = Duration::from_secs(86_400);

const NOTHING_CHANGED: &str = "what it goes by has not changed";

const NOT_ON_THIS_FOOTING: &str = "what it goes by has changed, and nobody has consented yet";

const NEWER: &str = "a newer Houston wrote it";

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
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
    /// May start when the freeze of its environment is over. Holds no lock.
    Frozen {
        until: Timestamp,
        why: String,
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

/// Where a step stands.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
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

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    pub state: StepState,
    /// Of the first attempt.
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// An earlier process started it and did not live to see its outcome.
    #[serde(default)]
    pub resumed: bool,
    /// The error of the step, kept when it is undone afterwards.
    pub error: Option<StepError>,
    /// Some attempt may have left something behind: one that said so, or one whose end nobody saw. A later
    /// attempt that did nothing does not take that back.
    #[serde(default)]
    pub touched: bool,
    /// Attempts that have come to their end, and failed.
    #[serde(default)]
    pub ended: u32,
    /// An attempt was begun whose end nobody saw: what it started may be going on, or still come about.
    #[serde(default)]
    pub open: bool,
    /// Attempts to undo it that have come to their end, and failed.
    #[serde(default)]
    pub undo_ended: u32,
}

/// How the approval ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

/// A record that cannot follow what stands before it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{run} event {seq}: `{event}` cannot happen to a run that is {state}: {why}")]
pub struct Illegal {
    pub run: RunId,
    pub seq: u32,
    pub state: String,
    pub event: String,
    pub why: &'static str,
}

impl RunState {
    /// Folds a whole log.
    pub fn fold<'r>(records: impl IntoIterator<Item = &'r Recorded>) -> Result<Option<Self>, Illegal> {
        let mut state: Option<Self> = None;
        for record in records {
            match &mut state {
                None => state = Some(Self::begin(record)?),
                Some(state) => state.apply(record)?,
            }
        }
        Ok(state)
    }

    /// The first event.
    pub fn begin(record: &Recorded) -> Result<Self, Illegal> {
        let Event::Created { plan, digest, by, origin, card, progress, expires_at, .. } = &record.event
        else {
            return Err(illegal(record, "nothing", "a run begins with `created`"));
        };
        if record.seq != 0 {
            return Err(illegal(record, "nothing", "a run begins with event 0"));
        }
        if record.v > EVENT_VERSION {
            return Err(illegal(record, "nothing", NEWER));
        }
        let phase = match (&plan.approval, expires_at) {
            (None, _) => Phase::Ready,
            (Some(_), Some(expires_at)) => Phase::Deciding { expires_at: *expires_at },
            (Some(_), None) => return Err(illegal(record, "nothing", "an approval needs a deadline")),
        };
        let blank = StepRecord {
            state: StepState::Pending,
            started_at: None,
            ended_at: None,
            resumed: false,
            error: None,
            touched: false,
            ended: 0,
            open: false,
            undo_ended: 0,
        };
        let consent = Ballot::new(Asked {
            card: card.clone(),
            digest: digest.clone(),
            rule: plan.approval.clone(),
            requester: by.id.clone(),
            barred: Vec::new(),
            asked_at: record.at,
            expires_at: expires_at.unwrap_or(Timestamp::MAX),
        });
        Ok(Self {
            id: record.run,
            by: by.clone(),
            origin: origin.clone(),
            progress: progress.clone(),
            phase,
            was_queued: false,
            consent,
            asks: Vec::new(),
            steps: vec![blank; plan.steps.len()],
            plan: Arc::new((**plan).clone()),
            footing_changed: None,
            accepted: None,
            cancel: None,
            away: None,
            by_hand: Vec::new(),
            abandoned: None,
            review: None,
            review_reminded: None,
            created_at: record.at,
            ready_at: record.at,
            started_at: None,
            ended_at: None,
            last_at: record.at,
            next_seq: 1,
        })
    }

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

    fn open_ballot_mut(&mut self) -> Option<&mut Ballot> {
        if self.before_start() {
            return Some(&mut self.consent).filter(|ballot| ballot.policy().is_some());
        }
        self.open_ask()?;
        self.asks.last_mut().map(|ask| &mut ask.ballot)
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

    fn before_start(&self) -> bool {
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
            return self.steps.iter().position(|slot| !succeeded(slot));
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

    /// What the run would be if this happened now.
    pub fn after(&self, event: Event, at: Timestamp) -> Result<Self, Illegal> {
        let mut after = self.clone();
        after.apply(&Recorded { v: event.version(), run: self.id, seq: self.next_seq, at, event })?;
        Ok(after)
    }

    /// Adds one event, or says why it cannot follow; then nothing is changed.
    pub fn apply(&mut self, record: &Recorded) -> Result<(), Illegal> {
        let word = self.phase.word();
        let refuse = move |why| illegal(record, word, why);
        if record.run != self.id {
            return Err(refuse("it belongs to another run"));
        }
        if record.seq != self.next_seq {
            return Err(refuse("the sequence has a gap"));
        }
        if record.v > EVENT_VERSION {
            return Err(refuse(NEWER));
        }
        let afterwards = matches!(
            record.event,
            Event::DenialExplained { .. } | Event::ReviewReminded | Event::Reviewed { .. }
        );
        if self.is_done() && !afterwards {
            return Err(refuse("the run has ended"));
        }
        let before_start = self.before_start();
        let at = record.at;
        match &record.event {
            Event::Created { .. } => return Err(refuse("a run is created once")),
            Event::Voted { vote, digest } => {
                let ballot = self.open_ballot_mut().ok_or_else(|| refuse("votes count until the start"))?;
                if *digest != ballot.digest {
                    return Err(refuse("the vote is for another plan or step"));
                }
                ballot.vote(vote);
            }
            Event::VoteWithdrawn { by, vanished, lost } => {
                self.withdraw(by, *vanished, *lost).map_err(refuse)?;
            }
            Event::Told { who } => {
                let told = match self.open_ballot_mut() {
                    Some(ballot) => &mut ballot.told,
                    None => &mut self.consent.told,
                };
                told.insert(who.clone());
            }
            Event::Reminded => {
                if self.remind_at().is_none() {
                    return Err(refuse("there is nothing to remind of"));
                }
                let ballot = self.open_ballot_mut().ok_or_else(|| refuse("nobody is asked"))?;
                ballot.reminded = true;
            }
            Event::Escalated => {
                if self.escalate_at().is_none() {
                    return Err(refuse("there is nobody to whom it could escalate"));
                }
                self.open_ballot_mut().ok_or_else(|| refuse("nobody is asked"))?.escalate();
            }
            Event::CardReplaced { card } => {
                // What its steps leave outside is found again by a name that the plan's card is in: that one
                // stays as it is from the start on.
                let ballot = if before_start { Some(&mut self.consent) } else { self.open_ballot_mut() };
                ballot.ok_or_else(|| refuse("it has started"))?.card = card.clone();
            }
            Event::Approved => {
                if self.asking().is_none() {
                    return Err(refuse("it waits for no approval"));
                }
                let ballot = self.open_ballot_mut().ok_or_else(|| refuse("it waits for no approval"))?;
                ballot.approve(at).map_err(refuse)?;
                if before_start {
                    self.ready_at = at;
                    self.phase = Phase::Ready;
                } else {
                    self.phase = Phase::Running;
                }
            }
            Event::Denied { by, reason } => {
                let decision = Decision::Denied { by: by.clone(), reason: reason.clone(), at };
                if before_start {
                    self.consent.decision = Some(decision);
                    self.end(Outcome::Denied, at);
                } else {
                    self.refuse_step(decision, denial(by, reason.as_deref()), at)
                        .map_err(|_| refuse("it has started"))?;
                }
            }
            Event::DenialExplained { reason } => self.explain_denial(reason).map_err(refuse)?,
            Event::Expired => {
                if self.asking().is_none() {
                    return Err(refuse("it waits for no approval"));
                }
                if before_start {
                    self.consent.decision = Some(Decision::Expired { at });
                    self.end(Outcome::Expired, at);
                } else {
                    let why = StepError::new("nobody approved it in time");
                    self.refuse_step(Decision::Expired { at }, why, at).map_err(refuse)?;
                }
            }
            Event::Voided { differences } => {
                let decision = Decision::Voided { differences: differences.clone(), at };
                if before_start {
                    self.consent.decision = Some(decision);
                    self.end(Outcome::Void, at);
                } else {
                    // It asks again, with what is so now.
                    let ballot = self.open_ballot_mut().ok_or_else(|| refuse("it has started"))?;
                    ballot.decision = Some(decision);
                    self.phase = Phase::Running;
                }
            }
            Event::Queued { behind } => {
                if !self.wants_locks() {
                    return Err(refuse("it wants no lock"));
                }
                self.was_queued = true;
                self.phase = Phase::Queued { behind: behind.clone() };
            }
            Event::Frozen { until, why } => {
                if !self.wants_locks() {
                    return Err(refuse("it is not ready"));
                }
                self.was_queued = true;
                self.phase = Phase::Frozen { until: *until, why: why.clone() };
            }
            Event::Started => {
                if !self.wants_locks() {
                    return Err(refuse("it is not ready"));
                }
                self.started_at = Some(at);
                self.phase = Phase::Running;
            }
            Event::TakenUp { away_since } => {
                if !self.moves() {
                    return Err(refuse("it does not move by itself"));
                }
                self.away = Some(Away {
                    since: *away_since,
                    until: at,
                    times: self.away.as_ref().map_or(1, |away| away.times + 1),
                    step: self.at_step(),
                    found: None,
                });
            }
            Event::Found { step, found } => {
                let slot = self.slot(*step).ok_or_else(|| refuse("there is no such step"))?;
                if !matches!(slot.state, StepState::Running { .. }) {
                    return Err(refuse("the step was not begun"));
                }
                if let Some(away) = &mut self.away {
                    away.found = Some(found.clone());
                }
            }
            Event::FootingChanged { differences, basis, consent } => {
                if !self.holds_locks() {
                    return Err(refuse("it has not begun"));
                }
                self.footing_changed = Some(ChangedFooting {
                    differences: differences.clone(),
                    basis: basis.clone(),
                    consent: consent.clone(),
                    votes: Vec::new(),
                });
            }
            Event::FootingRestored => {
                if self.footing_changed.take().is_none() {
                    return Err(refuse(NOTHING_CHANGED));
                }
            }
            Event::FootingAccepted { vote } => {
                let Some(changed) = &mut self.footing_changed else { return Err(refuse(NOTHING_CHANGED)) };
                changed.votes.retain(|other| other.by.id != vote.by.id);
                changed.votes.push(vote.clone());
                if changed.tally(&self.by.id).is_none_or(|tally| tally.met) {
                    self.accepted = self.footing_changed.take().map(|changed| changed.basis);
                }
            }
            Event::StepAsked { step, preview, digest, card, expires_at } => {
                if !matches!(self.phase, Phase::Running) || !self.is_turn_of(*step) {
                    return Err(refuse("it is not the step's turn"));
                }
                let rule = self.rule_of(*step).filter(|_| self.must_ask(*step));
                let rule = rule.ok_or_else(|| refuse("nobody has to consent to the step"))?;
                let asks = matches!(
                    self.steps.get(*step).map(|record| &record.state),
                    Some(StepState::Pending | StepState::RetryAt { .. })
                );
                if !asks {
                    return Err(refuse("the step has begun"));
                }
                let ballot = Ballot::new(Asked {
                    card: card.clone(),
                    digest: digest.clone(),
                    rule: Some(rule.policy.clone()),
                    requester: self.by.id.clone(),
                    barred: if rule.not_approver { self.approvers() } else { Vec::new() },
                    asked_at: at,
                    expires_at: *expires_at,
                });
                self.asks.push(StepAsk { step: *step, preview: preview.clone(), ballot, begun: false });
                self.phase = Phase::Asking { step: *step, expires_at: *expires_at };
            }
            Event::StepStarted { step, attempt, .. } => {
                if self.footing_changed.is_some() {
                    return Err(refuse(NOT_ON_THIS_FOOTING));
                }
                if self.must_ask(*step) {
                    return Err(refuse("nobody has consented to the step"));
                }
                let running = matches!(self.phase, Phase::Running) && self.is_turn_of(*step);
                let slot = self.slot(*step).ok_or_else(|| refuse("there is no such step"))?;
                let legal = match &slot.state {
                    StepState::Pending => *attempt == 1,
                    // After a crash the same step is started again.
                    StepState::Running { attempt: last, .. }
                    | StepState::Failed { attempt: last, .. }
                    | StepState::RetryAt { attempt: last, .. }
                    | StepState::Unknown { attempt: last } => *attempt == last + 1,
                    _ => false,
                };
                if !running || !legal {
                    return Err(refuse("the step cannot be started now"));
                }
                let resumed = matches!(slot.state, StepState::Running { .. });
                slot.resumed |= resumed;
                slot.touched |= resumed;
                slot.open |= resumed;
                slot.started_at.get_or_insert(at);
                slot.state = StepState::Running { attempt: *attempt, since: at };
                self.begun(*step);
            }
            Event::StepSucceeded { step, output, adopted } => {
                let slot = self.slot(*step).ok_or_else(|| refuse("there is no such step"))?;
                if !matches!(slot.state, StepState::Running { .. }) {
                    return Err(refuse("the step does not run"));
                }
                slot.resumed |= *adopted;
                slot.ended_at = Some(at);
                slot.state = StepState::Succeeded { output: output.clone() };
            }
            Event::StepFailed { step, error } => {
                let slot = self.slot(*step).ok_or_else(|| refuse("there is no such step"))?;
                let StepState::Running { attempt, .. } = slot.state else {
                    return Err(refuse("the step does not run"));
                };
                slot.ended_at = Some(at);
                slot.touched |= error.effects == Effects::Possible;
                slot.open = error.under_way;
                slot.ended += u32::from(!error.under_way);
                slot.error = Some(error.clone());
                slot.state = StepState::Failed { attempt, error: error.clone() };
            }
            Event::RetryAt { step, at: when } => {
                if !matches!(self.phase, Phase::Running) {
                    return Err(refuse("it does not run"));
                }
                let slot = self.slot(*step).ok_or_else(|| refuse("there is no such step"))?;
                let StepState::Failed { attempt, error } = &slot.state else {
                    return Err(refuse("the step has not failed"));
                };
                slot.state = StepState::RetryAt { attempt: *attempt, at: *when, error: error.clone() };
            }
            Event::StepWaiting { step, pause, until } => {
                if self.footing_changed.is_some() {
                    return Err(refuse(NOT_ON_THIS_FOOTING));
                }
                if !matches!(self.phase, Phase::Running) || !self.is_turn_of(*step) {
                    return Err(refuse("it is not the step's turn"));
                }
                if self.must_ask(*step) {
                    return Err(refuse("nobody has consented to the step"));
                }
                let slot = self.slot(*step).ok_or_else(|| refuse("there is no such step"))?;
                if !matches!(slot.state, StepState::Pending) {
                    return Err(refuse("the step has begun"));
                }
                slot.started_at = Some(at);
                slot.state = StepState::Waiting { since: at };
                self.begun(*step);
                self.phase = Phase::Waiting { step: *step, pause: pause.clone(), until: *until };
            }
            Event::WaitEnded { step } => {
                self.end_wait(*step, Json::Null, at).map_err(refuse)?;
            }
            Event::Answered { step, by, answer } => {
                let stops = matches!(&self.phase, Phase::Waiting { pause: Pause::Answer { stop, .. }, .. }
                    if stop.iter().any(|word| word.eq_ignore_ascii_case(answer)));
                let output = serde_json::json!({ "answer": answer, "by": by.id });
                self.end_wait(*step, output, at).map_err(refuse)?;
                if stops && let Some(slot) = self.slot(*step) {
                    let error = StepError::new(format!("{} answered {}", by.username, text::typed(answer)));
                    slot.error = Some(error.clone());
                    slot.state = StepState::Failed { attempt: 1, error };
                }
            }
            Event::OutcomeUnknown { step, why, look } => {
                let slot = self.slot(*step).ok_or_else(|| refuse("there is no such step"))?;
                let StepState::Running { attempt, .. } = slot.state else {
                    return Err(refuse("the step does not run"));
                };
                slot.state = StepState::Unknown { attempt };
                self.phase = Phase::Unknown { step: *step, why: why.clone(), look: look.clone() };
            }
            Event::Resolved { resolution: Resolution::Undone, .. } => {
                if !matches!(self.phase, Phase::Stuck) {
                    return Err(refuse("no undo of it has failed for good"));
                }
                for slot in &mut self.steps {
                    if matches!(slot.state, StepState::UndoFailed { .. }) {
                        slot.state = StepState::Undone;
                    }
                }
                self.phase = Phase::Undoing;
            }
            Event::Resolved { step, resolution, .. } => {
                if !matches!(&self.phase, Phase::Unknown { step: asked, .. } if asked == step) {
                    return Err(refuse("nothing is unknown about that step"));
                }
                let slot = self.slot(*step).ok_or_else(|| refuse("there is no such step"))?;
                let StepState::Unknown { attempt } = slot.state else {
                    return Err(refuse("nothing is unknown about that step"));
                };
                match resolution {
                    Resolution::Happened => {
                        slot.ended_at = Some(at);
                        slot.state = StepState::Succeeded { output: Json::Null };
                    }
                    Resolution::DidNotHappen | Resolution::Undone => {}
                    Resolution::Undo => {
                        let error = StepError::new("its outcome is unknown; it is undone").with_effects();
                        slot.touched = true;
                        slot.open = true;
                        slot.error = Some(error.clone());
                        slot.state = StepState::Failed { attempt, error };
                    }
                }
                self.phase = if *resolution == Resolution::Undo { Phase::Undoing } else { Phase::Running };
            }
            Event::Paused { step } => {
                let failed = |slot: &StepRecord| matches!(slot.state, StepState::Failed { .. });
                if !matches!(self.phase, Phase::Running) || !self.steps.get(*step).is_some_and(failed) {
                    return Err(refuse("the step has not failed"));
                }
                self.phase = Phase::Paused { step: *step };
            }
            Event::RetryRequested { .. } => match self.phase {
                Phase::Paused { step } => {
                    self.phase = Phase::Running;
                    if let Some(slot) = self.slot(step)
                        && let StepState::Failed { attempt, error } = &slot.state
                    {
                        slot.state = StepState::RetryAt { attempt: *attempt, at, error: error.clone() };
                    }
                }
                Phase::Stuck => {
                    self.phase = Phase::Undoing;
                    for slot in &mut self.steps {
                        if let StepState::UndoFailed { attempt, output, .. } = &slot.state {
                            slot.state = StepState::Undoing { attempt: *attempt, output: output.clone() };
                        }
                    }
                }
                _ => return Err(refuse("it is neither paused nor stuck")),
            },
            Event::CancelRequested { by } => {
                self.cancel.get_or_insert_with(|| by.clone());
            }
            Event::UndoStarted { step, attempt } => {
                if self.footing_changed.is_some() {
                    return Err(refuse(NOT_ON_THIS_FOOTING));
                }
                if !matches!(
                    self.phase,
                    Phase::Running
                        | Phase::Undoing
                        | Phase::Waiting { .. }
                        | Phase::Asking { .. }
                        | Phase::Paused { .. }
                ) {
                    return Err(refuse("nothing is to be undone"));
                }
                if self.steps.iter().any(|slot| matches!(slot.state, StepState::Running { .. })) {
                    return Err(refuse("a step is under way"));
                }
                let slot = self.slot(*step).ok_or_else(|| refuse("there is no such step"))?;
                let (last, output) = match &slot.state {
                    StepState::Succeeded { output } => (0, Some(output.clone())),
                    StepState::Undoing { attempt, output }
                    | StepState::UndoFailed { attempt, output, .. } => (*attempt, output.clone()),
                    StepState::Failed { .. } | StepState::RetryAt { .. } => (0, None),
                    _ => return Err(refuse("the step was not done")),
                };
                if *attempt != last + 1 {
                    return Err(refuse("the attempts have a gap"));
                }
                self.phase = Phase::Undoing;
                let slot = self.slot(*step).ok_or_else(|| refuse("there is no such step"))?;
                slot.state = StepState::Undoing { attempt: *attempt, output };
            }
            Event::UndoSucceeded { step } => {
                let slot = self.slot(*step).ok_or_else(|| refuse("there is no such step"))?;
                if !matches!(slot.state, StepState::Undoing { .. }) {
                    return Err(refuse("the step is not being undone"));
                }
                slot.state = StepState::Undone;
            }
            Event::UndoFailed { step, error } => {
                let slot = self.slot(*step).ok_or_else(|| refuse("there is no such step"))?;
                let StepState::Undoing { attempt, output } = &slot.state else {
                    return Err(refuse("the step is not being undone"));
                };
                slot.undo_ended += u32::from(!error.under_way);
                slot.state =
                    StepState::UndoFailed { attempt: *attempt, output: output.clone(), error: error.clone() };
            }
            Event::Stuck { by_hand } => {
                let failed = |slot: &StepRecord| matches!(slot.state, StepState::UndoFailed { .. });
                if !matches!(self.phase, Phase::Undoing) || !self.steps.iter().any(failed) {
                    return Err(refuse("no undo has failed"));
                }
                self.by_hand.clone_from(by_hand);
                self.phase = Phase::Stuck;
            }
            Event::Finished { outcome } => {
                self.may_finish(*outcome, before_start).map_err(refuse)?;
                self.end(*outcome, at);
            }
            Event::Abandoned { by, reason } => {
                self.abandoned = Some((by.clone(), reason.clone()));
                self.end(Outcome::Abandoned, at);
            }
            Event::ReviewReminded => {
                if self.remind_of_review_at().is_none() {
                    return Err(refuse("there is no review to remind of"));
                }
                self.review_reminded = Some(at);
            }
            Event::Reviewed { by, findings } => {
                self.may_review(by).map_err(refuse)?;
                self.review = Some(Review { by: by.clone(), findings: findings.clone(), at });
            }
        }
        self.last_at = at;
        self.next_seq += 1;
        Ok(())
    }

    /// Everything before the step has succeeded.
    fn is_turn_of(&self, step: usize) -> bool {
        self.steps.iter().take(step).all(|before| matches!(before.state, StepState::Succeeded { .. }))
    }

    fn begun(&mut self, step: usize) {
        if let Some(ask) = self.asks.iter_mut().rfind(|ask| ask.step == step) {
            ask.begun = true;
        }
    }

    /// Who has approved the plan.
    fn approvers(&self) -> Vec<UserId> {
        match &self.consent.decision {
            Some(Decision::Approved { by, .. }) => by.iter().map(|who| who.id.clone()).collect(),
            _ => Vec::new(),
        }
    }

    fn withdraw(&mut self, by: &Actor, vanished: bool, lost: bool) -> Result<(), &'static str> {
        let ballot = self.open_ballot_mut().ok_or("votes can be withdrawn until the start")?;
        if !ballot.take_out(by, vanished, lost) {
            return Err("there is no vote of this person");
        }
        if ballot.is_approved() && ballot.tally().is_some_and(|tally| !tally.met) {
            // What is left of the time that it had.
            ballot.decision = None;
            let expires_at = ballot.expires_at;
            self.phase = match self.asks.last() {
                Some(ask) => Phase::Asking { step: ask.step, expires_at },
                None => Phase::Deciding { expires_at },
            };
        }
        Ok(())
    }

    /// A step that people keep from beginning is one that has failed without a trace.
    fn refuse_step(
        &mut self,
        decision: Decision,
        error: StepError,
        at: Timestamp,
    ) -> Result<(), &'static str> {
        let step = self.open_ask().ok_or("no step waits for consent")?.step;
        if let Some(ballot) = self.open_ballot_mut() {
            ballot.decision = Some(decision);
        }
        let slot = self.slot(step).ok_or("there is no such step")?;
        let attempt = match slot.state {
            StepState::RetryAt { attempt, .. } => attempt,
            _ => 1,
        };
        slot.ended_at = Some(at);
        slot.error = Some(error.clone());
        slot.state = StepState::Failed { attempt, error };
        self.phase = Phase::Running;
        Ok(())
    }

    /// The reason of the latest denial, given afterwards.
    fn explain_denial(&mut self, reason: &str) -> Result<(), &'static str> {
        let ballot = self.asks.last_mut().map_or(&mut self.consent, |ask| &mut ask.ballot);
        let Some(Decision::Denied { by, reason: slot, .. }) = &mut ballot.decision else {
            return Err("it was not denied");
        };
        *slot = Some(reason.to_owned());
        let error = denial(by, Some(reason));
        if let Some(step) = self.asks.last().map(|ask| ask.step)
            && let Some(record) = self.slot(step)
        {
            if let StepState::Failed { error: shown, .. } = &mut record.state {
                *shown = error.clone();
            }
            record.error = Some(error);
        }
        Ok(())
    }

    fn may_review(&self, by: &Actor) -> Result<(), &'static str> {
        if !self.review_open() {
            return Err("it has no open review");
        }
        if !self.is_done() {
            return Err("it is reviewed when it has ended");
        }
        if by.id == self.by.id {
            return Err("who asked for it cannot review it");
        }
        Ok(())
    }

    fn may_finish(&self, outcome: Outcome, before_start: bool) -> Result<(), &'static str> {
        let succeeded = self.steps.iter().all(|step| matches!(step.state, StepState::Succeeded { .. }));
        match outcome {
            Outcome::Denied | Outcome::Expired | Outcome::Void | Outcome::Abandoned => {
                return Err("that end has an event of its own");
            }
            Outcome::Succeeded if before_start || !succeeded => return Err("not every step has succeeded"),
            Outcome::Failed if before_start => return Err("it has not started"),
            Outcome::Succeeded | Outcome::Failed | Outcome::Cancelled => {}
        }
        if self.acts() || matches!(self.phase, Phase::Unknown { .. } | Phase::Stuck) {
            return Err("a step is under way, or its end is not known");
        }
        Ok(())
    }

    fn end_wait(&mut self, step: usize, output: Json, at: Timestamp) -> Result<(), &'static str> {
        if !matches!(self.phase, Phase::Waiting { step: waiting, .. } if waiting == step) {
            return Err("it waits for no answer");
        }
        let slot = self.slot(step).ok_or("there is no such step")?;
        slot.ended_at = Some(at);
        slot.state = StepState::Succeeded { output };
        self.phase = Phase::Running;
        Ok(())
    }

    fn slot(&mut self, step: usize) -> Option<&mut StepRecord> {
        self.steps.get_mut(step)
    }

    fn end(&mut self, outcome: Outcome, at: Timestamp) {
        self.footing_changed = None;
        self.ended_at = Some(at);
        self.phase = Phase::Done { outcome };
    }
}

fn denial(by: &Actor, reason: Option<&str>) -> StepError {
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    StepError::new(format!("{} denied it{reason}", by.username))
}

fn illegal(record: &Recorded, state: &str, why: &'static str) -> Illegal {
    let event = serde_json::to_value(&record.event)
        .ok()
        .and_then(|value| value.get("type").and_then(Json::as_str).map(str::to_owned))
        .unwrap_or_else(|| "event".to_owned());
    Illegal { run: record.run, seq: record.seq, state: state.to_owned(), event, why }
}
