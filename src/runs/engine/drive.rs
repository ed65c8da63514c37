//! Moves runs: one decision and its act at a time, by one task per run, until the run waits for something.
//!
//! Must not: decide (`next` does), or perform steps (`perform` does).

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::ask::cannot_be_looked_at;
use super::write::STEP_EXPIRED;
use super::{Engine, Objection, Work, decision_card, own_messages, place_of_ask, voided_messages};
use crate::change::Change;
use crate::ids::RunId;
use crate::playbook::steps::StepError;
use crate::runs::event::Event;
use crate::runs::journal::Journal;
use crate::runs::locks::LockProof;
use crate::runs::maintenance::HeldUp;
use crate::runs::next::{Next, next};
use crate::runs::outbox::Notice;
use crate::runs::queue::in_the_way;
use crate::runs::state::{Phase, RunState};
use crate::store::Batch;
use crate::trace;

/// Before something is tried again that left the run where it was: the world could not be looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How often, before the approval is void because nobody can tell whether it still fits.
const MOST_LOOKS: u32 = 24;

/// For so long nobody looks again whether the requester of what needs no approval may do it.
const JUST_NOW: jiff::SignedDuration = jiff::SignedDuration::from_mins(1);

/// Where one turn of a run's task has led.
pub(super) enum Turn {
    /// Nothing to do until something comes from outside.
    Rest,
    /// The run has moved: decide again.
    Moved,
    /// It could not be moved now: try again after a while.
    NotNow,
}

impl Engine {
    /// Looks at a run again, soon, once.
    pub(super) fn nudge(&self, run: RunId) {
        let mut live = self.live_map();
        let entry = live.entry(run).or_default();
        if entry.driving {
            entry.again = true;
            entry.nudged.notify_one();
            return;
        }
        if self.0.shutdown.is_cancelled() {
            live.remove(&run);
            return;
        }
        entry.driving = true;
        drop(live);
        let engine = self.clone();
        self.0.tasks.spawn(async move {
            let span = match engine.state(run).await {
                Ok(state) => trace::run(run, Some(state.cause())),
                // Why not is said when it is looked at.
                Err(_) => trace::run(run, None),
            };
            engine.drive(run).instrument(span).await;
        });
    }

    /// Looks again at everything that waits for a lock.
    pub(super) async fn nudge_waiting(&self) {
        let mut waiting: Vec<(Timestamp, RunId)> = self
            .0
            .journal
            .lock()
            .await
            .open_runs()
            .filter(|run| run.wants_locks())
            .map(|run| (run.ready_at, run.id))
            .collect();
        waiting.sort();
        for (_, run) in waiting {
            self.nudge(run);
        }
    }

    /// Moves a run as far as it goes without the outside.
    async fn drive(&self, run: RunId) {
        loop {
            let turn = match AssertUnwindSafe(self.turn(run)).catch_unwind().await {
                Ok(turn) => turn,
                Err(_) => {
                    tracing::error!(run.id = %run, "moving {run} failed unexpectedly; this is a bug in Houston");
                    Turn::NotNow
                }
            };
            if let Turn::NotNow = turn {
                let nudged = self.live_map().get(&run).map(|entry| Arc::clone(&entry.nudged));
                let lease = &self.0.parts.lease;
                tokio::select! {
                    () = self.0.parts.clock.sleep(LOOK_AGAIN) => {}
                    () = lease.regained(), if lease.may_act().is_err() => {}
                    () = self.0.shutdown.cancelled() => {}
                    () = async { if let Some(nudged) = &nudged { nudged.notified().await } } => {}
                }
            }
            let mut live = self.live_map();
            let Some(entry) = live.get_mut(&run) else { return };
            let rest = matches!(turn, Turn::Rest) && !entry.again;
            if rest || self.0.shutdown.is_cancelled() {
                // Nothing is kept of a run that does not move.
                live.remove(&run);
                return;
            }
            entry.again = false;
        }
    }

    /// One decision and its act.
    async fn turn(&self, run: RunId) -> Turn {
        let state = match self.state(run).await {
            Ok(state) => state,
            Err(error) => {
                tracing::error!(run.id = %run, "{run} cannot be read: {error}");
                return Turn::Rest;
            }
        };
        // Another Houston may be acting for this account.
        if self.0.parts.lease.may_act().is_err() {
            return Turn::NotNow;
        }
        if state.wants_locks() {
            return self.try_start(&state).await;
        }
        let decision = next(&state, self.now());
        if state.holds_locks()
            && !matches!(decision, Next::Finish(_))
            && let Some(turn) = self.take_footing(&state).await
        {
            return turn;
        }
        self.schedule(run, if let Next::Sleep(at) = decision { Some(at) } else { None });
        match decision {
            Next::Rest | Next::Sleep(_) => {
                if state.is_done() {
                    self.0.parts.transcripts.close(run);
                }
                return Turn::Rest;
            }
            Next::Expire => {
                let mut notices = vec![decision_card(&state)];
                let what = if state.open_ask().is_some() {
                    // What follows from it is told by the run's result or question.
                    STEP_EXPIRED
                } else {
                    notices.push(Notice::expired(run));
                    "expired"
                };
                self.decide_and_audit(&state, vec![Event::Expired], notices, Batch::new(), what).await;
            }
            Next::Remind => {
                // The card says how much time is left; beside it something that notifies is needed.
                let notices = vec![decision_card(&state), Notice::reminder(run, place_of_ask(&state))];
                self.decide_and_audit(&state, vec![Event::Reminded], notices, Batch::new(), "reminded").await;
            }
            Next::RemindOfReview => {
                let notices = vec![Notice::review_reminder(run, state.next_seq)];
                self.decide(&state, vec![Event::ReviewReminded], notices).await;
            }
            Next::Escalate => {
                let notices = vec![decision_card(&state), Notice::escalation(run, place_of_ask(&state))];
                self.decide_and_audit(&state, vec![Event::Escalated], notices, Batch::new(), "escalated")
                    .await;
            }
            Next::Ask { step } => {
                if let Some(turn) = self.ask(&state, step).await {
                    return turn;
                }
            }
            Next::Step { .. } | Next::Recover { .. } | Next::Undo { .. } => {
                if let Next::Step { step, .. } = decision
                    && let Some(turn) = self.consent_to_step(&state, step).await
                {
                    return turn;
                }
                // Decided only for runs that hold their locks.
                let Some(locks) = LockProof::of(&state) else { return Turn::Rest };
                match decision {
                    Next::Step { step, attempt } => self.perform(&state, step, attempt, &locks).await,
                    Next::Recover { step, attempt } => self.recover(&state, step, attempt, &locks).await,
                    Next::Undo { step, attempt } => self.undo(&state, step, attempt, &locks).await,
                    _ => {}
                }
            }
            Next::ScheduleRetry { step, at } => {
                self.decide(&state, vec![Event::RetryAt { step, at }], Vec::new()).await;
            }
            Next::Pause { step } => {
                let notices = vec![Notice::Progress { run }, Notice::question(run, state.next_seq)];
                self.decide(&state, vec![Event::Paused { step }], notices).await;
            }
            Next::EndWait { step } => {
                self.decide(&state, vec![Event::WaitEnded { step }], Vec::new()).await;
            }
            Next::Stuck => {
                let notices = vec![Notice::Progress { run }, Notice::question(run, state.next_seq)];
                let by_hand = self.still_to_undo(&state);
                self.decide(&state, vec![Event::Stuck { by_hand }], notices).await;
            }
            Next::Finish(outcome) => self.finish(&state, outcome).await,
        }
        self.moved(&state).await
    }

    /// A turn that left the run where it was would be taken again at once, for ever.
    pub(super) async fn moved(&self, before: &RunState) -> Turn {
        match self.state(before.id).await {
            Ok(now) if now.next_seq == before.next_seq => Turn::NotNow,
            _ => Turn::Moved,
        }
    }

    /// Takes the locks, or says who has them; looks whether the world is still what was approved.
    async fn try_start(&self, state: &RunState) -> Turn {
        let run = state.id;
        // Values of their own: the journal must be free again when the answer is written into it.
        let (held_up, behind) = {
            let journal = self.0.journal.lock().await;
            (self.run_held_up(&journal, state), blocked_by(&journal, state))
        };
        if let Some(held_up) = held_up {
            return self.wait_until_it_may(state, &held_up).await;
        }
        if let Some(behind) = behind {
            let known = matches!(&state.phase, Phase::Queued { behind: known } if *known == behind);
            if known {
                return Turn::Rest;
            }
            let queued = self.decide(state, vec![Event::Queued { behind }], vec![Notice::Progress { run }]);
            return if queued.await.is_some() { Turn::Rest } else { Turn::Moved };
        }
        if let Some(turn) = self.consent_again(state).await {
            return turn;
        }
        // Reads only, so it may happen before the locks are held; a change between here and the start is
        // caught by the engine's own compare-and-set.
        let differences = match self.drift(state).await {
            Ok(differences) => differences,
            Err(error) => match self.unseen(run, error) {
                Ok(error) => vec![cannot_be_looked_at(error)],
                Err(turn) => return turn,
            },
        };
        if !differences.is_empty() {
            let voided = vec![Event::Voided { differences }];
            self.decide_and_audit(state, voided, voided_messages(state), Batch::new(), "void").await;
            return Turn::Moved;
        }
        // Nothing is changed that the audit log cannot be told of first.
        if !self.audit_start(state).await {
            return Turn::NotNow;
        }
        let mut journal = self.0.journal.lock().await;
        // A vote may have been withdrawn, or somebody may have been quicker.
        let as_seen = journal.state(run).is_ok_and(|now| now.next_seq == state.next_seq);
        if !as_seen || blocked_by(&journal, state).is_some() || self.run_held_up(&journal, state).is_some() {
            return Turn::Moved;
        }
        let mut notices = vec![Notice::Progress { run }];
        if state.plan.approval.is_some() {
            notices.insert(0, Notice::Card { run });
        }
        let appended = journal.append(run, vec![Event::Started], notices, Batch::new(), self.now());
        drop(journal);
        match appended {
            Ok((state, last)) => {
                self.settle_surely(&state, last).await;
                tracing::info!("{run} is started");
            }
            Err(error) => {
                tracing::error!(run.id = %run, "{run} cannot be started: {error}");
                return Turn::NotNow;
            }
        }
        Turn::Moved
    }

    /// What keeps a run from starting that has everything else.
    fn run_held_up(&self, journal: &Journal, state: &RunState) -> Option<HeldUp> {
        self.held_up_in(
            journal,
            state.plan.locks.iter().map(|lock| &lock.environment),
            &state.plan.command_name,
            state.plan.break_glass.is_some(),
        )
    }

    /// Says so, and has the run looked at again when that is over; if it is cancelled, that is sooner.
    async fn wait_until_it_may(&self, state: &RunState, held_up: &HeldUp) -> Turn {
        let (run, until, why) = (state.id, held_up.until(), held_up.describe());
        self.schedule(run, Some(until));
        if matches!(&state.phase, Phase::Frozen { until: u, why: w, .. } if (*u, w) == (until, &why)) {
            return Turn::Rest;
        }
        let for_maintenance = matches!(held_up, HeldUp::Outside(_));
        let events = vec![Event::Frozen { until, why, for_maintenance }];
        let told =
            self.decide_and_audit(state, events, vec![Notice::Progress { run }], Batch::new(), "held up");
        if told.await.is_some() { Turn::Rest } else { Turn::Moved }
    }

    /// What of its consent stands no more.
    pub(super) async fn objections(&self, state: &RunState) -> Result<Vec<Objection>, Turn> {
        let run = state.id;
        let Some(consent) = self.0.consent.get() else { return Ok(Vec::new()) };
        let Some(consent) = consent.upgrade() else { return Err(Turn::NotNow) };
        consent.look_again(state).await.map_err(|why| {
            tracing::warn!(run.id = %run, "{run} waits: its approval cannot be looked at again: {why}");
            Turn::NotNow
        })
    }

    /// `None`: the consent that the run was approved with still stands, and its requester may still do it.
    async fn consent_again(&self, state: &RunState) -> Option<Turn> {
        // What starts as soon as it was asked for was looked at when it was.
        let just_now = self.now().duration_since(state.created_at) < JUST_NOW;
        let plan = &state.plan;
        let asked_only = plan.approval.is_none() && plan.break_glass.is_none() && plan.standing.is_none();
        if asked_only && just_now && !state.was_queued {
            return None;
        }
        let objections = match self.objections(state).await {
            Ok(objections) => objections,
            Err(turn) => return Some(turn),
        };
        let barred = objections.iter().find_map(|objection| match objection {
            Objection::Requester(why) => Some(why.clone()),
            Objection::Vote { .. } => None,
        });
        if let Some(why) = barred {
            let differences = vec![Change {
                what: "the requester's right to do this".to_owned(),
                from: Some(state.by.username.clone()),
                to: Some(why),
            }];
            let voided = vec![Event::Voided { differences }];
            self.decide_and_audit(state, voided, voided_messages(state), Batch::new(), "void").await;
            return Some(Turn::Moved);
        }
        let withdrawn: Vec<Event> = objections.into_iter().filter_map(Objection::withdrawal).collect();
        if withdrawn.is_empty() {
            return None;
        }
        self.decide(state, withdrawn, own_messages(state)).await;
        Some(Turn::Moved)
    }

    /// The world could not be looked at. `Err`: it is looked at again after a while; `Ok`: that was done often
    /// enough, or does not help, and people are told why.
    pub(super) fn unseen(&self, run: RunId, error: StepError) -> Result<StepError, Turn> {
        if error.transient && self.looks(run) < MOST_LOOKS {
            tracing::warn!(run.id = %run, "{run} waits: the world cannot be looked at yet: {error}");
            return Err(Turn::NotNow);
        }
        tracing::warn!(run.id = %run, "{run}: the world cannot be looked at: {error}");
        Ok(self.redact(error))
    }

    /// How often the world could not be looked at before this run's start, this time included.
    fn looks(&self, run: RunId) -> u32 {
        let mut live = self.live_map();
        let entry = live.entry(run).or_default();
        entry.looks += 1;
        entry.looks
    }

    /// What is not as the plan saw it. An approval is for exactly what was seen.
    async fn drift(&self, state: &RunState) -> Result<Vec<Change>, StepError> {
        let footing = self.new_footing(state.id);
        let mut differences = state.plan.basis.differences(&(footing.basis)(&state.plan));
        if !differences.is_empty() {
            // It is void, and may be about what the configuration does not even have any more.
            return Ok(differences);
        }
        for (index, step) in state.plan.steps.iter().enumerate() {
            let kind = self.kind(&step.kind)?;
            let context = self.context(state, Work::Step(index), CancellationToken::new());
            let now = self.look(kind.preview(&context, &step.params)).await?;
            differences.extend(super::ask::differences(step, &step.preview, &now));
        }
        Ok(differences)
    }

    /// When a run is to be looked at again; only its own task says so, from what is so now.
    pub(super) fn schedule(&self, run: RunId, at: Option<Timestamp>) {
        let mut wakes = self.0.wakes.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = match at {
            Some(at) => wakes.insert(run, at) != Some(at),
            None => wakes.remove(&run).is_some(),
        };
        drop(wakes);
        if changed {
            self.0.wake_changed.notify_one();
        }
    }

    pub(super) async fn wake_loop(&self) {
        loop {
            let first = {
                let wakes = self.0.wakes.lock().unwrap_or_else(PoisonError::into_inner);
                wakes.values().min().copied()
            };
            let sleep = async {
                match first {
                    Some(at) => self.0.parts.clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.0.shutdown.cancelled() => return,
                () = self.0.wake_changed.notified() => continue,
                () = sleep => {}
            }
            let now = self.now();
            let due: Vec<RunId> = {
                let mut wakes = self.0.wakes.lock().unwrap_or_else(PoisonError::into_inner);
                wakes.extract_if(.., |_, at| *at <= now).map(|(run, _)| run).collect()
            };
            for run in due {
                self.nudge(run);
            }
        }
    }
}

/// Who holds what `state` wants, for people; `None` when nothing is in the way.
fn blocked_by(journal: &Journal, state: &RunState) -> Option<Vec<String>> {
    let behind: Vec<String> =
        in_the_way(journal, state).iter().map(|held| held.holder.queue_line()).collect();
    (!behind.is_empty()).then_some(behind)
}
