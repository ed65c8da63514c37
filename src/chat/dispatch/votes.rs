//! Reactions: votes on a card, taken back or given, and the sign that cancels. Also what still stands of a
//! consent just before its run starts.
//!
//! Must not: count anything but what Rocket.Chat tells of people by their ids.

use futures_util::future::BoxFuture;
use tracing::{Instrument as _, Span};

use super::{Dispatcher, authorize_for};
use crate::access::Action;
use crate::approvals::{self, Choice, Ineligible, Via, Vote};
use crate::chat::glass;
use crate::gateway::events::{Actor, Post, Reaction, SendError};
use crate::ids::{MessageId, RoleName, RoomId, RunId, derived_id};
use crate::runs::ballot::Ballot;
use crate::runs::state::RunState;
use crate::runs::{About, Consent, Objection, RunMessage};
use crate::text;
use crate::trace;

impl Dispatcher {
    pub(super) async fn reactions(
        &self,
        message: &MessageId,
        room: &RoomId,
        added: Vec<Reaction>,
        removed: Vec<Reaction>,
    ) {
        let Some((run, which)) = self.parts.engine.run_of_message(message).await else { return };
        match which {
            RunMessage::Card => {
                for reaction in removed {
                    let span = span_of(run, message, room, &reaction);
                    self.reaction_vanished(run, message, &reaction).instrument(span).await;
                }
                for reaction in added.into_iter().filter(|reaction| reaction.by.as_schedule().is_none()) {
                    if let Some(choice) = approvals::reading(&reaction.emoji) {
                        let span = span_of(run, message, room, &reaction);
                        self.vote_by_reaction(run, message, &reaction, choice).instrument(span).await;
                    }
                }
            }
            RunMessage::Progress => {
                let people = added.iter().filter(|reaction| reaction.by.as_schedule().is_none());
                for reaction in people.filter(|reaction| approvals::asks_to_cancel(&reaction.emoji)) {
                    let span = span_of(run, message, room, reaction);
                    self.cancel_by_reaction(run, &reaction.by).instrument(span).await;
                }
            }
        }
    }

    async fn vote_by_reaction(&self, run: RunId, card: &MessageId, reaction: &Reaction, choice: Choice) {
        let engine = &self.parts.engine;
        let Ok(state) = engine.state(run).await else { return };
        // Told again after a restart or a re-read: it counts already.
        let vote = state.open_ballot().and_then(|ballot| ballot.votes.get(&reaction.by.id));
        if vote.is_some_and(|vote| vote.choice == choice) {
            return;
        }
        let person = self.people.person(&reaction.by).await;
        // The same rules as for the words: whoever may not say `approve` may not show it either.
        let command = if choice == Choice::Approve { "approve" } else { "deny" };
        let arguments = [("run".to_owned(), run.to_string())].into_iter().collect();
        let action = Action {
            command: command.to_owned(),
            changes: false,
            arguments,
            room: state.origin.room.clone(),
        };
        if let Err(denied) = authorize_for(&self.people.access(), &person, action, &state.plan.concerns()) {
            let id = derived_id(&format!("ineligible/{run}/{}", reaction.by.id)).into();
            let post = |last| under_card(&state, card, id, denied.to_string() + and_nobody_else(last));
            if let Err(error) = engine.tell_once(run, About::Card(card), &reaction.by.id, post).await {
                tracing::warn!(run.id = %run, "nobody was told that a vote was not taken: {error}");
            }
            return;
        }
        let roles = self.people.roles(&person);
        // It may be the one that was missing beside those of others.
        let counts = |ballot: &Ballot| ballot.may_vote(&reaction.by.id, &roles) == Some(Ok(()));
        if state.open_ballot().is_some_and(counts) {
            self.look_at_votes_again(run).await;
        }
        let vote = Vote {
            by: reaction.by.clone(),
            choice,
            via: Via::Reaction(reaction.emoji.clone()),
            roles,
            at: self.parts.clock.now(),
        };
        let tell = |why: &Ineligible, last| {
            let text = format!("@{} {}{}", reaction.by.username, ineligible(run, why), and_nobody_else(last));
            let step = if state.consent.card == *card { String::new() } else { format!("/{card}") };
            let id = derived_id(&format!("ineligible/{run}{step}/{}", reaction.by.id)).into();
            Some(under_card(&state, card, id, text))
        };
        if let Err(error) = engine.vote_or_tell(run, About::Card(card), vote, None, tell).await {
            tracing::warn!(run.id = %run, "a vote was not taken: {error}");
        }
    }

    /// What of a run's consent, or of that to its step, stands no more: a reaction that is gone, a person who left
    /// or lost a role; before the start also a requester who may not ask for this any more.
    async fn consent_of(&self, run: &RunState) -> Result<Vec<Objection>, String> {
        let mut objections = match run.open_ballot() {
            Some(ballot) => self.votes_that_stand_no_more(ballot).await?,
            None => Vec::new(),
        };
        if run.started_at.is_some() {
            return Ok(objections);
        }
        let gone = match run.by.as_schedule() {
            Some(schedule) => !self.config().schedules.contains_key(&schedule),
            None => !self.is_active(&run.by).await?,
        };
        let person = self.people.person(&run.by).await;
        let action = Action {
            command: run.plan.command_name.clone(),
            changes: true,
            arguments: std::collections::BTreeMap::new(),
            room: run.origin.room.clone(),
        };
        match authorize_for(&self.people.access(), &person, action, &run.plan.concerns()) {
            Ok(_) if !gone => {
                objections.extend(self.standing_no_more(run).await);
                let roles = self.people.roles(&person);
                let still = glass::may_still_break(&self.config(), &run.plan, &roles);
                objections.extend(still.err().map(Objection::Requester));
            }
            Ok(_) => {
                let what = if run.by.as_schedule().is_some() {
                    "no file has it any more"
                } else {
                    "the account is not active"
                };
                objections.push(Objection::Requester(what.to_owned()));
            }
            Err(denied) => objections.push(Objection::Requester(denied.rule.clone())),
        }
        Ok(objections)
    }

    /// Why what a schedule began by lets it begin no more.
    async fn standing_no_more(&self, run: &RunState) -> Option<Objection> {
        let (standing, schedule) = (run.plan.standing.as_ref()?, run.by.as_schedule()?);
        let row = self.parts.engine.schedule_row(&schedule).await;
        let allowed = row.and_then(|row| row.allowed).filter(|allowed| allowed.run == standing.run);
        let now = self.parts.clock.now();
        match allowed {
            Some(allowed) if !allowed.is_over(now) => None,
            _ => Some(Objection::Requester("its standing approval is over".to_owned())),
        }
    }

    async fn votes_that_stand_no_more(&self, ballot: &Ballot) -> Result<Vec<Objection>, String> {
        let by_reaction = |vote: &&Vote| matches!(vote.via, Via::Reaction(_));
        let standing = if ballot.votes.values().any(|vote| by_reaction(&vote)) {
            match self.parts.chat.reactions(&ballot.card).await {
                Ok(standing) => standing,
                // Deleted, or in a room that Houston has left: what it cannot see stands no more.
                Err(SendError::Refused { .. }) => Vec::new(),
                Err(error) => return Err(error.to_string()),
            }
        } else {
            Vec::new()
        };
        let mut objections = Vec::new();
        for vote in ballot.votes.values().filter(|vote| vote.choice == Choice::Approve) {
            let vanished = by_reaction(&vote)
                && !standing.iter().any(|reaction| {
                    reaction.by.id == vote.by.id
                        && approvals::reading(&reaction.emoji) == Some(Choice::Approve)
                });
            let roles = self.roles_now(&vote.by).await?;
            if vanished || ballot.may_vote(&vote.by.id, &roles) != Some(Ok(())) {
                objections.push(Objection::Vote { by: vote.by.clone(), vanished });
            }
        }
        Ok(objections)
    }

    async fn is_active(&self, who: &Actor) -> Result<bool, String> {
        let found = self.parts.chat.user(crate::gateway::Who::Id(&who.id)).await;
        found.map(|user| user.is_some_and(|user| user.active)).map_err(|error| error.to_string())
    }

    /// None for somebody who is gone.
    async fn roles_now(&self, who: &Actor) -> Result<Vec<RoleName>, String> {
        if !self.is_active(who).await? {
            return Ok(Vec::new());
        }
        let person = self.people.person(who).await;
        Ok(self.people.roles(&person))
    }

    /// Who gave a vote earlier may have left or lost the role since; before another vote is counted with it,
    /// it is looked at again.
    pub async fn look_at_votes_again(&self, run: RunId) {
        let Ok(state) = self.parts.engine.state(run).await else { return };
        let Some(ballot) = state.open_ballot() else { return };
        for vote in ballot.votes.values().filter(|vote| vote.choice == Choice::Approve) {
            // Who cannot be looked up now keeps the vote that was checked when it was given; it is looked at
            // again before the start.
            let Ok(roles) = self.roles_now(&vote.by).await else { continue };
            if ballot.may_vote(&vote.by.id, &roles) != Some(Ok(()))
                && let Err(error) = self.parts.engine.lose_vote(run, &vote.by).await
            {
                tracing::warn!(run.id = %run, "a vote that counts no more was not taken back: {error}");
            }
        }
    }

    /// A name that is gone from the reactions does not count any more, unless the same person still says
    /// the same with another one.
    async fn reaction_vanished(&self, run: RunId, message: &MessageId, gone: &Reaction) {
        let engine = &self.parts.engine;
        let Ok(state) = engine.state(run).await else { return };
        let vote = state.open_ballot().and_then(|ballot| ballot.votes.get(&gone.by.id));
        let Some(vote) = vote else { return };
        // Whichever of several reactions it was that counted: what matters is whether one still stands.
        let by_reaction = matches!(vote.via, Via::Reaction(_));
        if !by_reaction || approvals::reading(&gone.emoji) != Some(vote.choice) {
            return;
        }
        if let Ok(now) = self.parts.chat.reactions(message).await {
            let still = now.iter().any(|reaction| {
                reaction.by.id == gone.by.id && approvals::reading(&reaction.emoji) == Some(vote.choice)
            });
            if still {
                return;
            }
        }
        if let Err(error) = engine.withdraw(run, &gone.by, true).await {
            tracing::debug!(run.id = %run, "nothing to withdraw: {error}");
        }
    }

    async fn cancel_by_reaction(&self, run: RunId, by: &Actor) {
        let config = self.config();
        let Some(spec) = config.commands.iter().find(|spec| spec.name == "cancel") else { return };
        let Ok(state) = self.parts.engine.state(run).await else { return };
        if state.cancel.is_some() {
            return;
        }
        let person = self.people.person(by).await;
        let arguments = [("run".to_owned(), run.to_string())].into_iter().collect();
        let action =
            Action { command: spec.name.clone(), changes: true, arguments, room: state.origin.room.clone() };
        let text = match authorize_for(&self.people.access(), &person, action, &state.plan.concerns()) {
            Ok(_) => match self.parts.engine.cancel(run, by).await {
                Ok(_) => return,
                Err(error) => error.to_string(),
            },
            Err(denied) => denied.to_string(),
        };
        let id = derived_id(&format!("cancel/{run}/{}", by.id)).into();
        let post = Post {
            id,
            room: state.origin.room.id.clone(),
            thread: Some(state.origin.thread.clone().unwrap_or(state.progress)),
            text,
        };
        self.post(post).await;
    }

    pub(super) async fn deleted(&self, message: &MessageId) {
        let Some((run, RunMessage::Card)) = self.parts.engine.run_of_message(message).await else { return };
        let Ok(state) = self.parts.engine.state(run).await else { return };
        if state.asking().is_some()
            && let Err(error) = self.parts.engine.replace_card(run).await
        {
            tracing::warn!(run.id = %run, "the deleted card of {run} was not replaced: {error}");
        }
    }
}

impl Consent for Dispatcher {
    fn look_again<'a>(&'a self, run: &'a RunState) -> BoxFuture<'a, Result<Vec<Objection>, String>> {
        Box::pin(self.consent_of(run))
    }
}

fn span_of(run: RunId, message: &MessageId, room: &RoomId, reaction: &Reaction) -> Span {
    trace::reaction(run, trace::Cause { message, room, user: &reaction.by.id })
}

fn under_card(state: &RunState, card: &MessageId, id: MessageId, text: String) -> Post {
    // The card of a step stands in the thread under the progress already.
    let under = if state.consent.card == *card { card.clone() } else { state.progress.clone() };
    let thread = state.origin.thread.clone().unwrap_or(under);
    Post { id, room: state.origin.room.id.clone(), thread: Some(thread), text }
}

/// The card says whose vote counts; a room has many people.
fn and_nobody_else(last: bool) -> &'static str {
    if last {
        "\nI tell nobody else here whose reaction does not count: the card says whose does."
    } else {
        ""
    }
}

/// Why a vote does not count, for the one who gave it.
pub fn ineligible(run: RunId, why: &Ineligible) -> String {
    match why {
        Ineligible::OwnRequest => {
            format!("you asked for {run} yourself: somebody else has to approve it.")
        }
        Ineligible::ApprovedThePlan => {
            format!("you approved the plan of {run}: this step takes somebody else.")
        }
        Ineligible::NoRole(roles) => {
            let roles: Vec<&str> = roles.iter().map(RoleName::as_str).collect();
            format!(
                "your vote on {run} does not count: it takes {}. `!whoami` shows your roles.",
                text::or_list(&roles)
            )
        }
    }
}
