//! Consent to one thing, a plan or a step of it: who was asked until when, who said what, how it ended. A part
//! of the fold over a run's events.
//!
//! Must not: read the clock, or know what follows from a decision.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::state::Decision;
use crate::approvals::{self, Ineligible, Tally, Vote};
use crate::conversation::Actor;
use crate::digest::Digest;
use crate::ids::{MessageId, RoleName, UserId};
use crate::playbook::model::ApprovalPolicy;

#[derive(Clone, Debug, PartialEq)]
pub struct Ballot {
    /// The message that asks.
    pub card: MessageId,
    /// Of what is consented to.
    pub digest: Digest,
    /// Absent: nobody has to consent.
    rule: Option<ApprovalPolicy>,
    requester: UserId,
    /// Whose consent counts for nothing besides: who has approved the plan, where the step's rule says so.
    barred: Vec<UserId>,
    pub asked_at: Timestamp,
    pub expires_at: Timestamp,
    /// The latest vote of each person that counts now.
    pub votes: BTreeMap<UserId, Vote>,
    /// Whose reaction vanished without a withdrawal by text, latest last.
    pub vanished: Vec<Actor>,
    /// Whose vote was taken out because they left or lost the role, latest last.
    pub lost: Vec<Actor>,
    /// Who took a vote back by text, or has lost it: a reaction of theirs that still stands means nothing any
    /// more.
    pub withdrawn: BTreeSet<UserId>,
    pub told: BTreeSet<UserId>,
    /// The room was told that half of the time is over.
    pub reminded: bool,
    /// Those to whom the request escalates may decide too.
    pub escalated: bool,
    pub decision: Option<Decision>,
}

/// What a ballot is about.
pub struct Asked {
    pub card: MessageId,
    pub digest: Digest,
    pub rule: Option<ApprovalPolicy>,
    pub requester: UserId,
    pub barred: Vec<UserId>,
    pub asked_at: Timestamp,
    pub expires_at: Timestamp,
}

impl Ballot {
    pub fn new(asked: Asked) -> Self {
        let Asked { card, digest, rule, requester, barred, asked_at, expires_at } = asked;
        Self {
            card,
            digest,
            rule,
            requester,
            barred,
            asked_at,
            expires_at,
            votes: BTreeMap::new(),
            vanished: Vec::new(),
            lost: Vec::new(),
            withdrawn: BTreeSet::new(),
            told: BTreeSet::new(),
            reminded: false,
            escalated: false,
            decision: None,
        }
    }

    /// Who has to consent, as it is now: an escalation has opened a further way.
    pub fn policy(&self) -> Option<Cow<'_, ApprovalPolicy>> {
        let policy = self.rule.as_ref()?;
        match &policy.escalate {
            Some(escalation) if self.escalated => {
                let mut policy = policy.clone();
                policy.any_of.push(escalation.to.clone());
                Some(Cow::Owned(policy))
            }
            _ => Some(Cow::Borrowed(policy)),
        }
    }

    /// Whether a vote of this person counts here; `None`: nobody is asked.
    pub fn may_vote(&self, who: &UserId, roles: &[RoleName]) -> Option<Result<(), Ineligible>> {
        let policy = self.policy()?;
        if self.barred.contains(who) {
            return Some(Err(Ineligible::ApprovedThePlan));
        }
        Some(approvals::may_vote(&policy, &self.requester, who, roles))
    }

    pub fn tally(&self) -> Option<Tally> {
        Some(approvals::tally(&*self.policy()?, &self.requester, self.votes.values()))
    }

    /// How far it would be with this vote.
    pub fn tally_with(&self, vote: &Vote) -> Option<Tally> {
        let mut ahead = self.votes.clone();
        ahead.insert(vote.by.id.clone(), vote.clone());
        Some(approvals::tally(&*self.policy()?, &self.requester, ahead.values()))
    }

    /// When others may decide too; `None`: they may already, or there are none.
    pub(super) fn escalate_at(&self) -> Option<Timestamp> {
        let after = self.rule.as_ref()?.escalate.as_ref()?.after;
        self.asked_at.checked_add(after).ok().filter(|_| !self.escalated)
    }

    /// When the room is to be told that half of the time for the decision is over; `None`: it was.
    pub(super) fn remind_at(&self) -> Option<Timestamp> {
        let half = self.expires_at.as_second().midpoint(self.asked_at.as_second());
        Timestamp::from_second(half).ok().filter(|_| !self.reminded)
    }

    pub fn is_approved(&self) -> bool {
        matches!(self.decision, Some(Decision::Approved { .. }))
    }

    pub(super) fn vote(&mut self, vote: &Vote) {
        self.vanished.retain(|who| who.id != vote.by.id);
        self.lost.retain(|who| who.id != vote.by.id);
        self.withdrawn.remove(&vote.by.id);
        self.votes.insert(vote.by.id.clone(), vote.clone());
    }

    /// Whether there was a vote to take out.
    pub(super) fn take_out(&mut self, by: &Actor, vanished: bool, lost: bool) -> bool {
        if self.votes.remove(&by.id).is_none() {
            return false;
        }
        if vanished {
            self.vanished.push(by.clone());
        } else {
            self.withdrawn.insert(by.id.clone());
        }
        if lost {
            self.lost.push(by.clone());
        }
        true
    }

    pub(super) fn escalate(&mut self) {
        self.escalated = true;
        // They were told that they may not.
        self.told.clear();
    }

    pub(super) fn approve(&mut self, at: Timestamp) -> Result<(), &'static str> {
        let tally = self.tally().filter(|tally| tally.met).ok_or("the policy is not met")?;
        let mut by: Vec<Actor> = tally.groups.into_iter().flat_map(|group| group.filled_by).collect();
        by.sort_by_key(|who| self.votes.get(&who.id).map(|vote| vote.at));
        self.decision = Some(Decision::Approved { by, at });
        Ok(())
    }
}
