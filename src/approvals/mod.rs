//! Who consents to a plan, and whether that suffices. Pure: votes in, verdict out.
//!
//! Must not: read reactions or roles (`chat` brings them), or store anything (`runs` does).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::conversation::Actor;
use crate::ids::{RoleName, UserId};
use crate::playbook::model::{ApprovalGroup, ApprovalPolicy};

/// What a reaction on an approval message says. Skin tones and both names of a glyph are one.
pub fn reading(emoji: &str) -> Option<Choice> {
    let name = emoji.trim_matches(':');
    let name = match name.find("_tone") {
        Some(tone) if name[tone..].len() == "_tone0".len() => &name[..tone],
        _ => name,
    };
    match name {
        "white_check_mark" | "+1" | "thumbsup" => Some(Choice::Approve),
        "x" | "-1" | "thumbsdown" => Some(Choice::Deny),
        _ => None,
    }
}

/// Whether a reaction on a progress message asks to cancel.
pub fn asks_to_cancel(emoji: &str) -> bool {
    emoji.trim_matches(':') == "octagonal_sign"
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    Approve,
    Deny,
}

/// How somebody said it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// With colons.
    Reaction(String),
    Command,
}

/// One person's consent. Kept by user id: a rename neither moves nor makes a vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    pub by: Actor,
    pub choice: Choice,
    pub via: Via,
    /// The roles of the configuration that the person had at that moment.
    pub roles: Vec<RoleName>,
    pub at: Timestamp,
}

/// Why somebody's vote does not count. Told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ineligible {
    OwnRequest,
    /// A step asks for others than those who approved its plan.
    ApprovedThePlan,
    /// The roles that would count.
    NoRole(Vec<RoleName>),
}

/// Whether a vote of this person would count at all.
pub fn may_vote(
    policy: &ApprovalPolicy,
    requester: &UserId,
    who: &UserId,
    roles: &[RoleName],
) -> Result<(), Ineligible> {
    if policy.not_requester && who == requester {
        return Err(Ineligible::OwnRequest);
    }
    if groups(policy).any(|group| group.from.iter().any(|role| roles.contains(role))) {
        return Ok(());
    }
    let mut wanted: Vec<RoleName> = groups(policy).flat_map(|group| group.from.iter().cloned()).collect();
    wanted.sort();
    wanted.dedup();
    Err(Ineligible::NoRole(wanted))
}

fn groups(policy: &ApprovalPolicy) -> impl Iterator<Item = &ApprovalGroup> {
    policy.any_of.iter().flatten()
}

/// How far the consent to a plan is, for the best alternative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    pub met: bool,
    /// For each group of the alternative that lacks least: who fills it, and how many are missing.
    pub groups: Vec<GroupTally>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupTally {
    pub group: ApprovalGroup,
    pub filled_by: Vec<Actor>,
}

impl GroupTally {
    pub fn missing(&self) -> usize {
        (self.group.count as usize).saturating_sub(self.filled_by.len())
    }
}

impl Tally {
    pub fn missing(&self) -> usize {
        self.groups.iter().map(GroupTally::missing).sum()
    }
}

/// Counts approvals. A person fills one place of one group, so that "an operator and a lead" takes two
/// people also where somebody is both.
pub fn tally<'v>(
    policy: &ApprovalPolicy,
    requester: &UserId,
    votes: impl IntoIterator<Item = &'v Vote>,
) -> Tally {
    let voters: Vec<&Vote> = votes
        .into_iter()
        .filter(|vote| vote.choice == Choice::Approve)
        .filter(|vote| may_vote(policy, requester, &vote.by.id, &vote.roles).is_ok())
        .collect();
    let best = policy
        .any_of
        .iter()
        .map(|alternative| fill(alternative, &voters))
        .min_by_key(|groups| groups.iter().map(GroupTally::missing).sum::<usize>());
    // A policy without any alternative can never be met; `check` refuses one.
    let groups = best.unwrap_or_default();
    let met = !groups.is_empty() && groups.iter().all(|group| group.missing() == 0);
    Tally { met, groups }
}

/// Assigns voters to the places of the groups so that as many places as possible are filled (augmenting
/// paths; a handful of people and places).
fn fill(alternative: &[ApprovalGroup], voters: &[&Vote]) -> Vec<GroupTally> {
    let places: Vec<usize> = alternative
        .iter()
        .enumerate()
        .flat_map(|(index, group)| std::iter::repeat_n(index, group.count.min(64) as usize))
        .collect();
    let mut taken_by: Vec<Option<usize>> = vec![None; places.len()];
    for voter in 0..voters.len() {
        let mut seen = vec![false; places.len()];
        place(voter, alternative, voters, &places, &mut taken_by, &mut seen);
    }
    let mut tallies: Vec<GroupTally> =
        alternative.iter().map(|group| GroupTally { group: group.clone(), filled_by: Vec::new() }).collect();
    for (place, voter) in taken_by.iter().enumerate() {
        if let Some(voter) = voter {
            tallies[places[place]].filled_by.push(voters[*voter].by.clone());
        }
    }
    tallies
}

fn place(
    voter: usize,
    alternative: &[ApprovalGroup],
    voters: &[&Vote],
    places: &[usize],
    taken_by: &mut [Option<usize>],
    seen: &mut [bool],
) -> bool {
    for slot in 0..places.len() {
        let group = &alternative[places[slot]];
        if seen[slot] || !group.from.iter().any(|role| voters[voter].roles.contains(role)) {
            continue;
        }
        seen[slot] = true;
        let free = match taken_by[slot] {
            None => true,
            Some(other) => place(other, alternative, voters, places, taken_by, seen),
        };
        if free {
            taken_by[slot] = Some(voter);
            return true;
        }
    }
    false
}

/// `1 operator or lead who is not the requester`, for cards and `can`.
pub fn describe(policy: &ApprovalPolicy) -> String {
    let alternatives: Vec<String> = policy.any_of.iter().map(|groups| all_of(groups)).collect();
    let mut text = alternatives.join(", or ");
    if policy.not_requester {
        text.push_str(", not the requester");
    }
    text
}

/// `1 operator and 1 lead`.
pub fn all_of(groups: &[ApprovalGroup]) -> String {
    crate::text::plain_and_list(&groups.iter().map(describe_group).collect::<Vec<_>>())
}

fn describe_group(group: &ApprovalGroup) -> String {
    let roles: Vec<&str> = group.from.iter().map(RoleName::as_str).collect();
    let roles = match roles.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    };
    format!("{} {roles}", group.count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(count: u32, from: &[&str]) -> ApprovalGroup {
        ApprovalGroup { count, from: from.iter().map(|r| RoleName::from(*r)).collect() }
    }
    fn policy(any_of: Vec<Vec<ApprovalGroup>>) -> ApprovalPolicy {
        ApprovalPolicy {
            escalate: None,
            any_of,
            not_requester: true,
            expires: std::time::Duration::from_secs(1800),
            reason_required: false,
            rule: "built-in".into(),
        }
    }
    fn vote(who: &str, roles: &[&str], choice: Choice) -> Vote {
        Vote {
            by: Actor { id: who.into(), username: who.into() },
            choice,
            via: Via::Command,
            roles: roles.iter().map(|r| RoleName::from(*r)).collect(),
            at: Timestamp::UNIX_EPOCH,
        }
    }
    fn met(policy: &ApprovalPolicy, votes: &[Vote]) -> bool {
        tally(policy, &"alice".into(), votes).met
    }

    #[test]
    fn one_operator_or_lead_suffices_but_never_the_requester() {
        let policy = policy(vec![vec![group(1, &["operator", "lead"])]]);
        assert!(!met(&policy, &[]));
        assert!(!met(&policy, &[vote("alice", &["operator"], Choice::Approve)]));
        assert!(!met(&policy, &[vote("dave", &[], Choice::Approve)]));
        assert!(!met(&policy, &[vote("bob", &["operator"], Choice::Deny)]));
        assert!(met(&policy, &[vote("bob", &["operator"], Choice::Approve)]));
    }

    #[test]
    fn one_person_with_two_roles_does_not_fill_two_groups() {
        let policy = policy(vec![vec![group(1, &["operator"]), group(1, &["lead"])]]);
        let carol = vote("carol", &["operator", "lead"], Choice::Approve);
        let bob = vote("bob", &["operator"], Choice::Approve);
        assert!(!met(&policy, std::slice::from_ref(&carol)));
        // Whoever comes first, carol is moved to the group that only she can fill.
        assert!(met(&policy, &[carol.clone(), bob.clone()]));
        assert!(met(&policy, &[bob, carol]));
    }

    #[test]
    fn any_alternative_suffices() {
        let policy = policy(vec![vec![group(2, &["operator"])], vec![group(1, &["lead"])]]);
        assert!(met(&policy, &[vote("carol", &["lead"], Choice::Approve)]));
        assert!(!met(&policy, &[vote("bob", &["operator"], Choice::Approve)]));
    }

    #[test]
    fn reactions_are_read_with_any_skin_tone() {
        assert_eq!(reading(":+1:"), Some(Choice::Approve));
        assert_eq!(reading(":thumbsup_tone3:"), Some(Choice::Approve));
        assert_eq!(reading(":-1:"), Some(Choice::Deny));
        assert_eq!(reading(":thumbsdown_tone5:"), Some(Choice::Deny));
        assert_eq!(reading(":eyes:"), None);
        assert_eq!(reading(":tone_tone_tone:"), None);
        assert!(asks_to_cancel(":octagonal_sign:"));
    }

    #[test]
    fn policies_are_said_in_words() {
        let policy = policy(vec![vec![group(1, &["lead"]), group(1, &["operator", "lead"])]]);
        assert_eq!(describe(&policy), "1 lead and 1 operator or lead, not the requester");
    }
}
