//! The fold of a run's events into its state. What each event asks for and what it makes of the run stands in a
//! method of its own: what is about consent in `consent`, what is about steps in `steps`, the rest here. An
//! illegal transition is an error that names run, sequence, state and event.
//!
//! Must not: read the clock, the store or the world.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value as Json;

use super::{Away, ChangedFooting, Phase, Review, RunState, StepRecord, StepState};
use crate::approvals::Vote;
use crate::change::Change;
use crate::conversation::Actor;
use crate::ids::RunId;
use crate::playbook::model::{ApprovalPolicy, Basis};
use crate::runs::ballot::{Asked, Ballot};
use crate::runs::event::{EVENT_VERSION, Event, Outcome, Recorded};

/// Why an event cannot follow; the record and the state that it is about are in [`Illegal`].
pub(super) type Why = &'static str;

/// What a transition says of itself: the run was changed, or it was not and this is why.
pub(super) type Moved = Result<(), Why>;

const NOTHING_CHANGED: Why = "what it goes by has not changed";

const NEWER: Why = "a newer Houston wrote it";

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
            steps: vec![StepRecord::default(); plan.steps.len()],
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

    /// What the run would be if this happened now.
    pub fn after(&self, event: Event, at: Timestamp) -> Result<Self, Illegal> {
        let mut after = self.clone();
        after.apply(&Recorded { v: event.version(), run: self.id, seq: self.next_seq, at, event })?;
        Ok(after)
    }

    /// Adds one event, or says why it cannot follow; then nothing is changed.
    pub fn apply(&mut self, record: &Recorded) -> Result<(), Illegal> {
        let word = self.phase.word();
        self.may_follow(record)
            .and_then(|()| self.take(&record.event, record.at))
            .map_err(|why| illegal(record, word, why))?;
        self.last_at = record.at;
        self.next_seq += 1;
        Ok(())
    }

    /// What is asked of every event.
    fn may_follow(&self, record: &Recorded) -> Moved {
        if record.run != self.id {
            return Err("it belongs to another run");
        }
        if record.seq != self.next_seq {
            return Err("the sequence has a gap");
        }
        if record.v > EVENT_VERSION {
            return Err(NEWER);
        }
        let afterwards = matches!(
            record.event,
            Event::DenialExplained { .. } | Event::ReviewReminded | Event::Reviewed { .. }
        );
        if self.is_done() && !afterwards {
            return Err("the run has ended");
        }
        Ok(())
    }

    fn take(&mut self, event: &Event, at: Timestamp) -> Moved {
        match event {
            Event::Created { .. } => Err("a run is created once"),
            Event::Voted { vote, digest } => self.voted(vote, digest),
            Event::VoteWithdrawn { by, vanished, lost } => self.vote_withdrawn(by, *vanished, *lost),
            Event::Told { who } => self.told(who),
            Event::Reminded => self.reminded(),
            Event::Escalated => self.escalated(),
            Event::CardReplaced { card } => self.card_replaced(card),
            Event::Approved => self.approved(at),
            Event::Denied { by, reason } => self.denied(by, reason.as_deref(), at),
            Event::DenialExplained { reason } => self.denial_explained(reason),
            Event::Expired => self.expired(at),
            Event::Voided { differences } => self.voided(differences, at),
            Event::Queued { behind } => self.kept_waiting(Phase::Queued { behind: behind.clone() }),
            Event::Frozen { until, why, for_maintenance } => self.kept_waiting(Phase::Frozen {
                until: *until,
                why: why.clone(),
                for_maintenance: *for_maintenance,
            }),
            Event::Started => self.started(at),
            Event::TakenUp { away_since } => self.taken_up(*away_since, at),
            Event::Found { step, found } => self.found(*step, found),
            Event::FootingChanged { differences, basis, consent } => {
                self.footing_changed(differences, basis, consent.as_ref())
            }
            Event::FootingRestored => self.footing_changed.take().map(drop).ok_or(NOTHING_CHANGED),
            Event::FootingAccepted { vote } => self.footing_accepted(vote),
            Event::StepAsked { step, preview, digest, card, expires_at } => {
                self.step_asked(*step, preview, digest, card, *expires_at, at)
            }
            Event::StepStarted { step, attempt, .. } => self.step_started(*step, *attempt, at),
            Event::StepSucceeded { step, output, adopted } => {
                self.step_succeeded(*step, output, *adopted, at)
            }
            Event::StepFailed { step, error } => self.step_failed(*step, error, at),
            Event::RetryAt { step, at: when } => self.retry_at(*step, *when),
            Event::StepWaiting { step, pause, until } => self.step_waiting(*step, pause, *until, at),
            Event::WaitEnded { step } => self.wait_ended(*step, Json::Null, at),
            Event::Answered { step, by, answer } => self.answered(*step, by, answer, at),
            Event::OutcomeUnknown { step, why, look } => self.outcome_unknown(*step, why, look),
            Event::Resolved { step, resolution, .. } => self.resolved(*step, *resolution, at),
            Event::Paused { step } => self.paused(*step),
            Event::RetryRequested { .. } => self.retry_requested(at),
            Event::CancelRequested { by } => {
                self.cancel.get_or_insert_with(|| by.clone());
                Ok(())
            }
            Event::UndoStarted { step, attempt } => self.undo_started(*step, *attempt),
            Event::UndoSucceeded { step, nothing } => self.undo_succeeded(*step, *nothing),
            Event::UndoFailed { step, error } => self.undo_failed(*step, error),
            Event::Stuck { by_hand } => self.stuck(by_hand),
            Event::Finished { outcome } => self.finished(*outcome, at),
            Event::Abandoned { by, reason } => {
                self.abandoned = Some((by.clone(), reason.clone()));
                self.end(Outcome::Abandoned, at);
                Ok(())
            }
            Event::ReviewReminded => self.was_reminded_of_review(at),
            Event::Reviewed { by, findings } => self.reviewed(by, findings, at),
        }
    }

    fn kept_waiting(&mut self, phase: Phase) -> Moved {
        if !self.wants_locks() {
            return Err("it wants no lock");
        }
        self.was_queued = true;
        self.phase = phase;
        Ok(())
    }

    fn started(&mut self, at: Timestamp) -> Moved {
        if !self.wants_locks() {
            return Err("it is not ready");
        }
        self.started_at = Some(at);
        self.phase = Phase::Running;
        Ok(())
    }

    fn taken_up(&mut self, away_since: Timestamp, at: Timestamp) -> Moved {
        if !self.moves() {
            return Err("it does not move by itself");
        }
        self.away = Some(Away {
            since: away_since,
            until: at,
            times: self.away.as_ref().map_or(1, |away| away.times + 1),
            step: self.at_step(),
            found: None,
        });
        Ok(())
    }

    fn footing_changed(
        &mut self,
        differences: &[Change],
        basis: &Basis,
        consent: Option<&ApprovalPolicy>,
    ) -> Moved {
        if !self.holds_locks() {
            return Err("it has not begun");
        }
        self.footing_changed = Some(ChangedFooting {
            differences: differences.to_vec(),
            basis: basis.clone(),
            consent: consent.cloned(),
            votes: Vec::new(),
        });
        Ok(())
    }

    fn footing_accepted(&mut self, vote: &Vote) -> Moved {
        let changed = self.footing_changed.as_mut().ok_or(NOTHING_CHANGED)?;
        changed.votes.retain(|other| other.by.id != vote.by.id);
        changed.votes.push(vote.clone());
        if changed.tally(&self.by.id).is_none_or(|tally| tally.met) {
            self.accepted = self.footing_changed.take().map(|changed| changed.basis);
        }
        Ok(())
    }

    fn finished(&mut self, outcome: Outcome, at: Timestamp) -> Moved {
        let succeeded = self.steps.iter().all(|step| matches!(step.state, StepState::Succeeded { .. }));
        match outcome {
            Outcome::Denied | Outcome::Expired | Outcome::Void | Outcome::Abandoned => {
                return Err("that end has an event of its own");
            }
            Outcome::Succeeded if self.before_start() || !succeeded => {
                return Err("not every step has succeeded");
            }
            Outcome::Failed if self.before_start() => return Err("it has not started"),
            Outcome::Succeeded | Outcome::Failed | Outcome::Cancelled => {}
        }
        if self.acts() || matches!(self.phase, Phase::Unknown { .. } | Phase::Stuck) {
            return Err("a step is under way, or its end is not known");
        }
        self.end(outcome, at);
        Ok(())
    }

    fn was_reminded_of_review(&mut self, at: Timestamp) -> Moved {
        self.remind_of_review_at().ok_or("there is no review to remind of")?;
        self.review_reminded = Some(at);
        Ok(())
    }

    fn reviewed(&mut self, by: &Actor, findings: &str, at: Timestamp) -> Moved {
        if !self.review_open() {
            return Err("it has no open review");
        }
        if !self.is_done() {
            return Err("it is reviewed when it has ended");
        }
        if by.id == self.by.id {
            return Err("who asked for it cannot review it");
        }
        self.review = Some(Review { by: by.clone(), findings: findings.to_owned(), at });
        Ok(())
    }

    pub(super) fn end(&mut self, outcome: Outcome, at: Timestamp) {
        self.footing_changed = None;
        self.ended_at = Some(at);
        self.phase = Phase::Done { outcome };
    }
}

fn illegal(record: &Recorded, state: &str, why: Why) -> Illegal {
    let event = serde_json::to_value(&record.event)
        .ok()
        .and_then(|value| value.get("type").and_then(Json::as_str).map(str::to_owned))
        .unwrap_or_else(|| "event".to_owned());
    Illegal { run: record.run, seq: record.seq, state: state.to_owned(), event, why }
}
