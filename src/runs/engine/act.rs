//! What people do to runs: begin, consent, withdraw, cancel, retry, resolve, abandon, answer. Each act
//! is durable when it returns, and takes its course once it is appended, whatever becomes of the caller.
//!
//! Must not: move a run; `drive` does, when the act stands.

use jiff::Timestamp;

use super::write::owed;
use super::write::{BREAK_GLASS, REQUESTED, REVIEWED, STEP_APPROVED, STEP_DENIED, who};
use super::{ActError, Engine, NewRun, Voted, decision_card, own_messages, place_of_ask, step_card};
use crate::approvals::{Choice, Ineligible, Via, Vote};
use crate::audit;
use crate::conversation::{Actor, Post};
use crate::ids::{MessageId, RoleName, RunId, UserId, random_id};
use crate::playbook::steps::Pause;
use crate::runs::ballot::Ballot;
use crate::runs::event::{Event, Outcome, Resolution};
use crate::runs::outbox::Notice;
use crate::runs::state::{Decision, Phase, RunState};
use crate::runs::steal::Steal;
use crate::store::Batch;

/// What of a run somebody has in mind who consents or denies. What was asked after they spoke they cannot mean.
#[derive(Clone, Copy, Debug)]
pub enum About<'a> {
    /// What this message asks.
    Card(&'a MessageId),
    /// By words, said at this moment; perhaps with the name of a step, or [`PLAN`].
    Words { said_at: Timestamp, of: Option<&'a str> },
}

/// People who are told, of one request for consent, that their reaction does not count. A room has many, and each message
/// delays those that somebody waits for.
const MOST_TOLD: usize = 10;

/// In words of consent: the plan, and none of its steps.
pub const PLAN: &str = "plan";

impl About<'_> {
    fn is(self, ballot: &Ballot, run: &RunState) -> bool {
        let step = run.open_ask().and_then(|ask| run.plan.steps.get(ask.step));
        match self {
            Self::Card(card) => ballot.card == *card,
            Self::Words { said_at, of } => {
                let named = match (of, step) {
                    (None, _) => true,
                    (Some(name), None) => name == PLAN,
                    (Some(name), Some(step)) => name == step.id.as_str(),
                };
                // A plan is asked about in answer to a command, and nothing of its run was asked before.
                named && (step.is_none() || said_at >= ballot.asked_at)
            }
        }
    }
}

impl Engine {
    /// Begins a run; durable when it returns.
    pub async fn create(&self, mut new: NewRun) -> Result<RunState, ActError> {
        new.plan.command = self.clean(&new.plan.command);
        new.plan.reason = new.plan.reason.map(|reason| self.clean(&reason));
        if let Some(glass) = &mut new.plan.break_glass {
            glass.reason = self.clean(&glass.reason);
        }
        let broken = new.plan.break_glass.is_some();
        let now = self.now();
        let digest = new.plan.digest();
        let expires_at = new
            .plan
            .approval
            .as_ref()
            .map(|policy| now.checked_add(policy.expires).unwrap_or(Timestamp::MAX));
        let stolen_from = Steal::of(&new.plan).and_then(|steal| steal.whom_to_tell());
        let in_part = new.plan.shown_in_part();
        let schedule = new.origin.schedule.as_ref().map(|of| of.name.clone());
        let event = Event::Created {
            plan: Box::new(new.plan),
            digest: digest.clone(),
            by: new.by,
            origin: new.origin,
            engine: env!("CARGO_PKG_VERSION").to_owned(),
            card: random_id().into(),
            progress: random_id().into(),
            expires_at,
        };
        let mut journal = self.0.journal.lock().await;
        let run = journal.next_run();
        let mut notices = if expires_at.is_some() { vec![Notice::Card { run }] } else { Vec::new() };
        if in_part && expires_at.is_some() {
            notices.push(Notice::whole(run, None));
        }
        if broken {
            notices.push(Notice::break_glass(run));
            notices.extend(new.tell.into_iter().map(|to| Notice::break_glass_to(run, to)));
        }
        if let Some(owner) = stolen_from.filter(|_| expires_at.is_some()) {
            notices.push(Notice::steal(run, owner, false));
        }
        let mut row = None;
        if let (Some(fired), Some(schedule)) = (new.fired, &schedule) {
            let told = self.fire_into(&journal, run, schedule, fired, &mut new.with)?;
            row = Some(told.0);
            notices.extend(told.1);
        }
        let (mut with, audited) = (new.with, (if broken { BREAK_GLASS } else { REQUESTED }, None));
        owed(run, 0, &audited).put(&mut with);
        let (state, last) = journal.create(event, notices, with, now)?;
        if let Some(row) = row {
            journal.remember_schedule(row);
        }
        drop(journal);
        let state = self.act_settled(state, last, Some(audited)).await?;
        Ok(state)
    }

    /// Takes a vote that is answered in any case, on what is asked `about`.
    pub async fn vote(
        &self,
        run: RunId,
        about: About<'_>,
        vote: Vote,
        reason: Option<String>,
    ) -> Result<Voted, ActError> {
        self.vote_or_tell(run, about, vote, reason, |_, _| None).await
    }

    /// Says to somebody that a vote by reaction on what is asked `about` is not taken: the first time, and to so many
    /// people as a vote that cannot count is. What is said is made of whether it is the last.
    pub async fn tell_once(
        &self,
        run: RunId,
        about: About<'_>,
        who: &UserId,
        post: impl FnOnce(bool) -> Post + Send,
    ) -> Result<(), ActError> {
        let journal = self.0.journal.lock().await;
        let state = journal.state(run)?;
        let Some(ballot) = state.open_ballot().filter(|ballot| about.is(ballot, &state)) else {
            return Ok(());
        };
        let told_before = ballot.told.len();
        if !ballot.told.contains(who) && told_before < MOST_TOLD {
            let notice = Notice::Say { post: post(told_before + 1 == MOST_TOLD) };
            self.act(journal, run, vec![Event::Told { who: who.clone() }], vec![notice], None).await?;
        }
        Ok(())
    }

    /// Takes a vote by reaction. Whoever gave one that cannot count is told so the first time, unless many were: what is
    /// said is written with the event that it was said, so that no kill comes between.
    pub async fn vote_or_tell(
        &self,
        run: RunId,
        about: About<'_>,
        vote: Vote,
        reason: Option<String>,
        tell: impl FnOnce(&Ineligible, bool) -> Option<Post> + Send,
    ) -> Result<Voted, ActError> {
        let reason = reason.map(|reason| self.clean(&reason));
        let journal = self.0.journal.lock().await;
        let state = journal.state(run)?;
        // What has its consent and has not begun can still be denied.
        let ballot = match vote.choice {
            Choice::Approve => state.asking(),
            Choice::Deny => state.open_ballot(),
        };
        let Some(ballot) = ballot.filter(|ballot| ballot.policy().is_some()) else {
            return Ok(Voted::Closed(if state.plan.approval.is_none() && !state.is_done() {
                "needs no approval"
            } else {
                state.phase.word()
            }));
        };
        if !about.is(ballot, &state) {
            return Ok(Voted::NotAsked);
        }
        // Reactions are told anew after a restart; one that was withdrawn by text is not a new vote.
        if matches!(vote.via, Via::Reaction(_)) && ballot.withdrawn.contains(&vote.by.id) {
            return Ok(Voted::Withdrawn);
        }
        // The requester may always deny: that is a cancel.
        let own_denial = vote.choice == Choice::Deny && vote.by.id == state.by.id;
        if !own_denial && let Some(Err(why)) = ballot.may_vote(&vote.by.id, &vote.roles) {
            let told_before = ballot.told.len();
            let first = !ballot.told.contains(&vote.by.id) && told_before < MOST_TOLD;
            if first {
                let told = Event::Told { who: vote.by.id.clone() };
                let notices = tell(&why, told_before + 1 == MOST_TOLD);
                let notices = notices.map(|post| Notice::Say { post }).into_iter().collect();
                self.act(journal, run, vec![told], notices, None).await?;
            }
            return Ok(Voted::Ineligible { why, first });
        }
        let by = vote.by.clone();
        let choice = vote.choice;
        let Some(tally) = ballot.tally_with(&vote) else { return Ok(Voted::NotAsked) };
        let mut events = vec![Event::Voted { vote, digest: ballot.digest.clone() }];
        let mut notices = own_messages(&state);
        match choice {
            Choice::Deny => {
                // Of a step the run's result or question tells.
                if state.open_ask().is_none() && !own_denial {
                    notices.push(Notice::denied(run));
                }
                if reason.is_none() && !own_denial {
                    notices.push(Notice::ask_why_denied(run, place_of_ask(&state)));
                }
                events.push(Event::Denied { by: by.clone(), reason });
            }
            Choice::Approve if tally.met => events.push(Event::Approved),
            Choice::Approve => {}
        }
        let decided = events.len() > 1;
        let word = match (decided, choice, state.open_ask().is_some()) {
            (false, ..) => "voted",
            (true, Choice::Approve, false) => "approved",
            (true, Choice::Approve, true) => STEP_APPROVED,
            (true, Choice::Deny, false) => "denied",
            (true, Choice::Deny, true) => STEP_DENIED,
        };
        self.act(journal, run, events, notices, Some((word, Some(by)))).await?;
        Ok(if decided { Voted::Decided } else { Voted::Counted(tally) })
    }

    /// Takes somebody's vote back. `vanished`: their name is gone from the reactions.
    pub async fn withdraw(&self, run: RunId, by: &Actor, vanished: bool) -> Result<(), ActError> {
        self.take_out(run, by, vanished, false).await
    }

    /// Takes out the vote of somebody who has left or lost the role that it took.
    pub async fn lose_vote(&self, run: RunId, by: &Actor) -> Result<(), ActError> {
        self.take_out(run, by, false, true).await
    }

    async fn take_out(&self, run: RunId, by: &Actor, vanished: bool, lost: bool) -> Result<(), ActError> {
        let journal = self.0.journal.lock().await;
        let event = Event::VoteWithdrawn { by: by.clone(), vanished, lost };
        let notices = own_messages(&journal.state(run)?);
        self.act(journal, run, vec![event], notices, Some(("vote withdrawn", Some(by.clone())))).await?;
        Ok(())
    }

    pub async fn explain_denial(&self, run: RunId, reason: String) -> Result<(), ActError> {
        let reason = self.clean(&reason);
        let journal = self.0.journal.lock().await;
        let state = journal.state(run)?;
        let by = match &state.latest_ballot().decision {
            Some(Decision::Denied { by, .. }) => Some(by.clone()),
            _ => None,
        };
        let event = Event::DenialExplained { reason };
        let audited = Some(("denial explained", by));
        let notices = match state.asks.len() {
            0 => vec![Notice::Card { run }],
            asks => vec![Notice::StepCard { run, ask: asks - 1 }, Notice::Progress { run }],
        };
        self.act(journal, run, vec![event], notices, audited).await?;
        Ok(())
    }

    /// Cancels at any point. What is still under way is in the returned state and [`Engine::live`].
    pub async fn cancel(&self, run: RunId, by: &Actor) -> Result<RunState, ActError> {
        let journal = self.0.journal.lock().await;
        let state = journal.state(run)?;
        if state.is_done() {
            return Err(ActError::NotNow { run, why: format!("has already ended: {}", state.phase.word()) });
        }
        let mut events = vec![Event::CancelRequested { by: by.clone() }];
        let mut notices = Vec::new();
        if !state.holds_locks() {
            events.push(Event::Finished { outcome: Outcome::Cancelled });
            notices.extend(own_messages(&state));
        } else if matches!(state.phase, Phase::Unknown { .. } | Phase::Stuck) {
            return Err(ActError::NotNow {
                run,
                why: format!("needs a person first: see `!show {run}`, then `resolve` or `abandon` it"),
            });
        } else {
            notices.extend(step_card(&state));
            notices.push(Notice::Progress { run });
            if state.footing_changed.is_some() && state.cancel.is_none() {
                // What going on means is another thing now.
                notices.push(Notice::question(run, state.next_seq));
            }
        }
        self.act(journal, run, events, notices, Some(("cancel requested", Some(by.clone())))).await
    }

    /// What a person knows about a step whose outcome is unknown.
    pub async fn resolve(&self, run: RunId, by: &Actor, resolution: Resolution) -> Result<(), ActError> {
        let journal = self.0.journal.lock().await;
        let state = journal.state(run)?;
        let step = match (&state.phase, resolution) {
            (Phase::Stuck, Resolution::Undone) => state.at_step().unwrap_or_default(),
            (Phase::Stuck, _) => {
                let why = format!(
                    "is stuck: `resolve {run} undone` when you have undone by hand what it could not"
                );
                return Err(ActError::NotNow { run, why });
            }
            (
                Phase::Unknown { step, .. },
                Resolution::Happened | Resolution::DidNotHappen | Resolution::Undo,
            ) => *step,
            (_, Resolution::Undone) => {
                return Err(ActError::NotNow {
                    run,
                    why: "is not stuck: no undo of it has failed for good".to_owned(),
                });
            }
            _ => {
                return Err(ActError::NotNow { run, why: "has no step whose outcome is unknown".to_owned() });
            }
        };
        let event = Event::Resolved { step, by: by.clone(), resolution };
        let audited = Some(("resolved", Some(by.clone())));
        self.act(journal, run, vec![event], vec![Notice::Progress { run }], audited).await?;
        Ok(())
    }

    /// Gives a run up, also one that this version cannot read. What it has changed stays.
    pub async fn abandon(&self, run: RunId, by: &Actor, reason: String) -> Result<(), ActError> {
        let mut journal = self.0.journal.lock().await;
        if let Some(header) = journal.abandon_unreadable(run, self.now())? {
            drop(journal);
            let event = audit::Event {
                who: who(by),
                action: "abandoned".to_owned(),
                command: header.command,
                target: header.environment.map(|environment| environment.to_string()),
                run: Some(run),
                approval: None,
                result: Some(format!("abandoned: {reason}")),
                event: None,
                happened_at: None,
            };
            return self
                .to_the_end(async move |engine| {
                    engine.0.parts.store.sync().await?;
                    engine.audit_event(event).await;
                    engine.nudge_waiting().await;
                    Ok(())
                })
                .await;
        }
        let state = journal.state(run)?;
        // Asked under the journal's lock: a step that begins later finds the run abandoned.
        if self.is_at_work(run) {
            return Err(ActError::NotNow {
                run,
                why: format!("has a step under way: `cancel {run}` it, and abandon it if that fails"),
            });
        }
        let event = Event::Abandoned { by: by.clone(), reason: self.clean(&reason) };
        let audited = Some(("abandoned", Some(by.clone())));
        let mut messages = own_messages(&state);
        if state.plan.report.is_some() {
            messages.push(Notice::report(run));
        }
        self.act(journal, run, vec![event], messages, audited).await?;
        Ok(())
    }

    /// Closes the review of a break-glass run. The roles are those that `by` has now.
    pub async fn review(
        &self,
        run: RunId,
        by: &Actor,
        roles: &[RoleName],
        findings: String,
    ) -> Result<(), ActError> {
        let journal = self.0.journal.lock().await;
        let state = journal.state(run)?;
        let not_now = |why: String| Err(ActError::NotNow { run, why });
        if let Some(review) = &state.review {
            return not_now(format!("was reviewed by {} already", review.by.username));
        }
        if !state.review_open() {
            return not_now("has no open review".to_owned());
        }
        if !state.is_done() {
            return not_now("is reviewed when it has ended".to_owned());
        }
        if by.id == state.by.id {
            return not_now("is not reviewed by the one who asked for it".to_owned());
        }
        let reviewers = state.plan.break_glass.iter().flat_map(|glass| &glass.reviewers);
        if !reviewers.clone().any(|role| roles.contains(role)) {
            let reviewers: Vec<&str> = reviewers.map(RoleName::as_str).collect();
            return not_now(format!("takes a review by {}", crate::text::or_list(&reviewers)));
        }
        let event = Event::Reviewed { by: by.clone(), findings: self.clean(&findings) };
        let audited = Some((REVIEWED, Some(by.clone())));
        self.act(journal, run, vec![event], vec![Notice::Progress { run }], audited).await?;
        Ok(())
    }

    /// An answer to the question that a run waits for.
    pub async fn answer(&self, run: RunId, by: &Actor, answer: String) -> Result<(), ActError> {
        let journal = self.0.journal.lock().await;
        let Phase::Waiting { step, pause: Pause::Answer { .. }, .. } = journal.state(run)?.phase else {
            return Err(ActError::NotNow { run, why: "waits for no answer".to_owned() });
        };
        let event = Event::Answered { step, by: by.clone(), answer: self.clean(&answer) };
        let audited = Some(("answered", Some(by.clone())));
        self.act(journal, run, vec![event], vec![Notice::Progress { run }], audited).await?;
        Ok(())
    }

    /// The approval message was deleted: ask again under a new one.
    pub async fn replace_card(&self, run: RunId) -> Result<(), ActError> {
        let journal = self.0.journal.lock().await;
        let event = Event::CardReplaced { card: random_id().into() };
        let notices = vec![decision_card(&journal.state(run)?)];
        self.act(journal, run, vec![event], notices, None).await?;
        Ok(())
    }

    /// Says something of its own, once, in order with what runs say.
    pub async fn say(&self, post: Post) -> Result<(), ActError> {
        let last = self.0.journal.lock().await.say(Notice::Say { post }, Batch::new(), self.now())?;
        self.to_the_end(async move |engine| {
            engine.0.parts.store.sync().await?;
            engine.announce(last);
            Ok(())
        })
        .await
    }
}
