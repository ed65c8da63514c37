//! Reactions: votes on a card, taken back or given, and the sign that cancels. Also what still stands of a
//! consent just before its run starts.
//!
//! Must not: count anything but what Rocket.Chat tells of people by their ids.

use futures_util::future::BoxFuture;

use super::{Dispatcher, authorize_for};
use crate::access::Action;
use crate::approvals::{self, Choice, Ineligible, Via, Vote};
use crate::chat::glass;
use crate::gateway::events::{Actor, Post, Reaction, SendError};
use crate::ids::{MessageId, RoleName, RunId, derived_id};
use crate::playbook::model::ApprovalPolicy;
use crate::runs::state::{Phase, RunState};
use crate::runs::{Consent, Objection, RunMessage, Voted};
use crate::text;

impl Dispatcher {
    pub(super) async fn reactions(&self, message: &MessageId, added: Vec<Reaction>, removed: Vec<Reaction>) {
        let Some((run, which)) = self.parts.engine.run_of_message(message).await else { return };
        match which {
            RunMessage::Card => {
                for reaction in removed {
                    self.reaction_vanished(run, message, &reaction).await;
                }
                for reaction in added {
                    if let Some(choice) = approvals::reading(&reaction.emoji) {
                        self.vote_by_reaction(run, &reaction, choice).await;
                    }
                }
            }
            RunMessage::Progress => {
                for reaction in added.iter().filter(|reaction| approvals::asks_to_cancel(&reaction.emoji)) {
                    self.cancel_by_reaction(run, &reaction.by).await;
                }
            }
        }
    }

    async fn vote_by_reaction(&self, run: RunId, reaction: &Reaction, choice: Choice) {
        let engine = &self.parts.engine;
        let Ok(state) = engine.state(run).await else { return };
        // Told again after a restart or a re-read: it counts already.
        if state.votes.get(&reaction.by.id).is_some_and(|vote| vote.choice == choice) {
            return;
        }
        self.look_at_votes_again(run).await;
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
        if let Err(denied) = authorize_for(&self.people.access(), &person, action, &state.plan.locks) {
            let id = derived_id(&format!("ineligible/{run}/{}", reaction.by.id)).into();
            self.under_card(run, id, denied.to_string()).await;
            return;
        }
        let vote = Vote {
            by: reaction.by.clone(),
            choice,
            via: Via::Reaction(reaction.emoji.clone()),
            roles: self.people.roles(&person),
            at: self.parts.clock.now(),
        };
        match engine.vote(run, vote, None).await {
            Ok(Voted::Ineligible { why, first: true }) => {
                let text = format!("@{} {}", reaction.by.username, ineligible(run, &why));
                let id = derived_id(&format!("ineligible/{run}/{}", reaction.by.id)).into();
                self.under_card(run, id, text).await;
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(run.id = %run, "a vote was not taken: {error}"),
        }
    }

    /// What of a run's consent stands no more: a reaction that is gone, a person who left or lost a role,
    /// a requester who may not ask for this any more.
    async fn consent_of(&self, run: &RunState) -> Result<Vec<Objection>, String> {
        let chat = &self.parts.chat;
        let by_reaction = |vote: &&Vote| matches!(vote.via, Via::Reaction(_));
        let standing = if run.votes.values().any(|vote| by_reaction(&vote)) {
            match chat.reactions(&run.card).await {
                Ok(standing) => standing,
                // Deleted, or in a room that Houston has left: what it cannot see stands no more.
                Err(SendError::Refused { .. }) => Vec::new(),
                Err(error) => return Err(error.to_string()),
            }
        } else {
            Vec::new()
        };
        let mut objections = Vec::new();
        for vote in run.votes.values().filter(|vote| vote.choice == Choice::Approve) {
            let vanished = by_reaction(&vote)
                && !standing.iter().any(|reaction| {
                    reaction.by.id == vote.by.id
                        && approvals::reading(&reaction.emoji) == Some(Choice::Approve)
                });
            let roles = self.roles_now(&vote.by).await?;
            let may = |policy: &ApprovalPolicy| {
                approvals::may_vote(policy, &run.by.id, &vote.by.id, &roles).is_ok()
            };
            if vanished || !run.policy().is_some_and(|policy| may(&policy)) {
                objections.push(Objection::Vote { by: vote.by.clone(), vanished });
            }
        }
        let gone = !self.is_active(&run.by).await?;
        let person = self.people.person(&run.by).await;
        let action = Action {
            command: run.plan.command_name.clone(),
            changes: true,
            arguments: std::collections::BTreeMap::new(),
            room: run.origin.room.clone(),
        };
        match authorize_for(&self.people.access(), &person, action, &run.plan.locks) {
            Ok(_) if !gone => {
                let roles = self.people.roles(&person);
                let still = glass::may_still_break(&self.config(), &run.plan, &roles);
                objections.extend(still.err().map(Objection::Requester));
            }
            Ok(_) => objections.push(Objection::Requester("the account is not active".to_owned())),
            Err(denied) => objections.push(Objection::Requester(denied.rule.clone())),
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
        let Some(policy) = state.policy() else { return };
        for vote in state.votes.values().filter(|vote| vote.choice == Choice::Approve) {
            // Who cannot be looked up now keeps the vote that was checked when it was given; it is looked at
            // again before the start.
            let Ok(roles) = self.roles_now(&vote.by).await else { continue };
            if approvals::may_vote(&policy, &state.by.id, &vote.by.id, &roles).is_err()
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
        let Some(vote) = state.votes.get(&gone.by.id) else { return };
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
        let text = match authorize_for(&self.people.access(), &person, action, &state.plan.locks) {
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
        if matches!(state.phase, Phase::Deciding { .. })
            && let Err(error) = self.parts.engine.replace_card(run).await
        {
            tracing::warn!(run.id = %run, "the deleted card of {run} was not replaced: {error}");
        }
    }

    async fn under_card(&self, run: RunId, id: MessageId, text: String) {
        let Ok(state) = self.parts.engine.state(run).await else { return };
        let thread = state.origin.thread.clone().unwrap_or(state.card);
        self.post(Post { id, room: state.origin.room.id.clone(), thread: Some(thread), text }).await;
    }
}

impl Consent for Dispatcher {
    fn look_again<'a>(&'a self, run: &'a RunState) -> BoxFuture<'a, Result<Vec<Objection>, String>> {
        Box::pin(self.consent_of(run))
    }
}

/// Why a vote does not count, for the one who gave it.
pub fn ineligible(run: RunId, why: &Ineligible) -> String {
    match why {
        Ineligible::OwnRequest => {
            format!("you asked for {run} yourself: somebody else has to approve it.")
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
