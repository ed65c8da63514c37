//! Who may do what: roles of people, rules, and the proof that somebody was allowed to.
//!
//! Must not: ask a server who is who (the caller passes that in), or decide by a user name: names change
//! hands. A name in the configuration counts for the id that it was pinned to, and for nobody else.

mod pins;
mod rate;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use crate::command::CommandSpec;
use crate::config;
use crate::conversation::{Actor, Room, RoomKind};
use crate::diagnostic::Location;
use crate::ids::{RoleName, UserId};

pub use pins::{Found, Learned, Pins, looks_like_an_id};
pub use rate::{RateLimit, TooFast};

/// Somebody, with the roles that Rocket.Chat says they have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub id: UserId,
    /// For texts only.
    pub username: String,
    /// `admin`, `user`, …; of the workspace, not of a room.
    pub rocketchat_roles: BTreeSet<String>,
}

impl Person {
    pub fn new(actor: &Actor, rocketchat_roles: impl IntoIterator<Item = String>) -> Self {
        Self {
            id: actor.id.clone(),
            username: actor.username.clone(),
            rocketchat_roles: rocketchat_roles.into_iter().collect(),
        }
    }
}

/// What somebody wants to do, as far as rights depend on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// The command's full name: `deploy`, `backup list`.
    pub command: String,
    pub changes: bool,
    /// As typed. For commands about a run, the caller adds the run's `environment` and `service`.
    pub arguments: BTreeMap<String, String>,
    pub room: Room,
}

impl Action {
    /// Arguments that name a place as `ENV/SERVICE` in an argument `target` count as `environment` and
    /// `service` too, so that a rule about `prod` also holds for `lock prod/web`.
    pub fn of(command: &CommandSpec, mut arguments: BTreeMap<String, String>, room: &Room) -> Self {
        if let Some(target) = arguments.get("target").cloned() {
            let (environment, service) = target.split_once('/').unwrap_or((&target, ""));
            arguments.entry("environment".into()).or_insert_with(|| environment.to_owned());
            if !service.is_empty() {
                arguments.entry("service".into()).or_insert_with(|| service.to_owned());
            }
        }
        Self { command: command.name.clone(), changes: command.changes, arguments, room: room.clone() }
    }
}

/// Proof that `who` may do `action`. Made by [`Access::authorize`] alone; whoever acts demands it.
#[derive(Clone, Debug, PartialEq)]
pub struct Authorized<A> {
    who: Person,
    action: A,
    decided_by: DecidedBy,
}

impl<A> Authorized<A> {
    pub fn who(&self) -> &Person {
        &self.who
    }
    pub fn action(&self) -> &A {
        &self.action
    }
    pub fn decided_by(&self) -> &DecidedBy {
        &self.decided_by
    }
}

/// The rule that decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecidedBy {
    /// Of `houston.yaml`.
    Rule(Location),
    /// Everybody may read.
    ReadingIsFree,
    /// Operators and leads may change; nobody else.
    ChangingNeedsARole,
}

/// A refusal that explains itself: `Display` is the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Denied {
    pub who: Person,
    pub command: String,
    pub decided_by: DecidedBy,
    /// The rule in words.
    pub rule: String,
    /// Roles with which it would be allowed, each with the people that the configuration names.
    pub who_may: Vec<(RoleName, Vec<String>)>,
    /// Why a name in the configuration does not count for this person.
    pub notes: Vec<String>,
}

impl std::error::Error for Denied {}

/// A role of a person, and why they have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    pub role: RoleName,
    pub because: Because,
    pub at: Location,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Because {
    /// Listed by user id.
    Id,
    /// Listed by this name, which is pinned to the person's id.
    Name(String),
    RocketChatRole(String),
}

/// One line of a decision: a rule, whether it fits, and what it did not fit by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// Absent: built in.
    pub at: Option<Location>,
    pub rule: String,
    /// Why it does not apply; absent: it applies and decides.
    pub misses: Option<String>,
}

/// How a decision came about, for `can bob deploy prod web`.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    pub who: Person,
    pub command: String,
    pub allowed: bool,
    pub decided_by: DecidedBy,
    pub memberships: Vec<Membership>,
    /// Rules in their order, up to the one that decided.
    pub looked_at: Vec<Looked>,
    pub notes: Vec<String>,
    pub who_may: Vec<(RoleName, Vec<String>)>,
    /// Which approval it would need, in words.
    pub approval: Option<String>,
}

/// The roles whose members may change things unless a rule says otherwise.
const CHANGERS: [&str; 2] = ["operator", "lead"];

/// Roles and rules, with names pinned to ids.
#[derive(Clone, Debug)]
pub struct Access {
    config: config::Access,
    pins: Pins,
}

impl Access {
    pub fn new(config: config::Access, pins: Pins) -> Self {
        Self { config, pins }
    }

    /// The same pins under another configuration.
    pub fn with_config(&self, config: config::Access) -> Self {
        Self { config, pins: self.pins.clone() }
    }

    /// Whom a role names, as far as they are known.
    pub fn named_in(&self, role: &RoleName) -> Vec<UserId> {
        let users = self.config.roles.get(role).map(|role| role.users.as_slice()).unwrap_or_default();
        users.iter().filter_map(|entry| self.pins.get(entry).cloned()).collect()
    }

    /// User names of the configuration that are pinned to nobody yet: the caller looks each up and calls
    /// [`Pins::learn`]. Until then they count for nobody.
    pub fn unpinned(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.entries().filter(|e| !self.pins.knows(e)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn entries(&self) -> impl Iterator<Item = &str> {
        self.config.people().map(|(entry, _)| entry)
    }

    pub fn roles(&self, who: &Person) -> BTreeSet<RoleName> {
        self.memberships(who).into_iter().map(|m| m.role).collect()
    }

    /// The roles of a person and why they have them.
    pub fn memberships(&self, who: &Person) -> Vec<Membership> {
        let mut found = Vec::new();
        for (name, role) in &self.config.roles {
            let by_user = role.users.iter().find_map(|entry| self.is(entry, who));
            let by_role = || {
                let has = |r: &&String| who.rocketchat_roles.contains(*r);
                role.rocketchat_roles.iter().find(has).map(|r| Because::RocketChatRole(r.clone()))
            };
            if let Some(because) = by_user.or_else(by_role) {
                found.push(Membership { role: name.clone(), because, at: role.at.clone() });
            }
        }
        found
    }

    /// Whether an entry of the configuration means this person.
    fn is(&self, entry: &str, who: &Person) -> Option<Because> {
        match self.pins.get(entry) {
            Some(id) if id == &who.id && id.as_str() == entry => Some(Because::Id),
            Some(id) if id == &who.id => Some(Because::Name(entry.to_owned())),
            Some(_) => None,
            None => (who.id.as_str() == entry).then_some(Because::Id),
        }
    }

    /// Why names in the configuration that this person bears do not count for them.
    fn notes(&self, who: &Person) -> Vec<String> {
        let mut entries: Vec<&str> = self.entries().collect();
        entries.sort_unstable();
        entries.dedup();
        entries.into_iter().filter_map(|entry| self.pins.objection(entry, who)).collect()
    }

    /// The proof that `who` may do `action`, or why not. Rules from the top, then the built-in ones.
    pub fn authorize(&self, who: &Person, action: Action) -> Result<Authorized<Action>, Box<Denied>> {
        let roles = self.roles(who);
        let (allowed, decided_by) = self.decide(Some(who), &roles, &action);
        if allowed {
            return Ok(Authorized { who: who.clone(), action, decided_by });
        }
        Err(Box::new(Denied {
            who: who.clone(),
            rule: self.in_words(&decided_by),
            decided_by,
            who_may: self.who_may(&action),
            notes: self.notes(who),
            command: action.command,
        }))
    }

    /// The same decision as [`Access::authorize`], with every rule that was looked at.
    pub fn explain(&self, who: &Person, action: &Action, approval: Option<String>) -> Explanation {
        let memberships = self.memberships(who);
        let roles: BTreeSet<RoleName> = memberships.iter().map(|m| m.role.clone()).collect();
        let (allowed, decided_by) = self.decide(Some(who), &roles, action);
        let mut looked_at = Vec::new();
        for rule in &self.config.rules {
            let misses = self.misses(rule, Some(who), &roles, action);
            let decides = misses.is_none();
            looked_at.push(Looked { at: Some(rule.at.clone()), rule: words::rule(rule), misses });
            if decides {
                break;
            }
        }
        if !matches!(decided_by, DecidedBy::Rule(_)) {
            let rule = self.in_words(&decided_by);
            looked_at.push(Looked { at: None, rule, misses: None });
        }
        Explanation {
            who: who.clone(),
            command: action.command.clone(),
            allowed,
            decided_by,
            memberships,
            looked_at,
            notes: self.notes(who),
            who_may: if allowed { Vec::new() } else { self.who_may(action) },
            approval: approval.filter(|_| allowed),
        }
    }

    /// Whether `who` may do this with some arguments, in this room: what `help` shows. Rules about
    /// arguments count only where they allow.
    pub fn may_some(&self, who: &Person, command: &str, changes: bool, room: &Room) -> bool {
        let roles = self.roles(who);
        let action =
            Action { command: command.to_owned(), changes, arguments: BTreeMap::new(), room: room.clone() };
        for rule in &self.config.rules {
            let with_any = config::Rule { arguments: BTreeMap::new(), ..rule.clone() };
            if self.misses(&with_any, Some(who), &roles, &action).is_none() {
                match (rule.allow, rule.arguments.is_empty()) {
                    (true, _) => return true,
                    (false, true) => return false,
                    (false, false) => {}
                }
            }
        }
        !changes || has_changer(&roles)
    }

    /// Who you are here: for `whoami`.
    pub fn whoami(&self, who: &Person) -> String {
        words::whoami(who, &self.memberships(who), &self.notes(who))
    }

    fn decide(&self, who: Option<&Person>, roles: &BTreeSet<RoleName>, action: &Action) -> (bool, DecidedBy) {
        for rule in &self.config.rules {
            if self.misses(rule, who, roles, action).is_none() {
                return (rule.allow, DecidedBy::Rule(rule.at.clone()));
            }
        }
        if action.changes {
            (has_changer(roles), DecidedBy::ChangingNeedsARole)
        } else {
            (true, DecidedBy::ReadingIsFree)
        }
    }

    /// Why a rule does not apply. `users` and `roles` are one list: who is in either is meant.
    fn misses(
        &self,
        rule: &config::Rule,
        who: Option<&Person>,
        roles: &BTreeSet<RoleName>,
        action: &Action,
    ) -> Option<String> {
        let anybody = rule.roles.is_empty() && rule.users.is_empty();
        let by_role = rule.roles.iter().any(|r| roles.contains(r));
        let by_user = who.is_some_and(|who| rule.users.iter().any(|entry| self.is(entry, who).is_some()));
        if !(anybody || by_role || by_user) {
            return Some("is for other people".into());
        }
        if !rule.commands.is_empty() && !rule.commands.iter().any(|c| names_command(c, action)) {
            return Some("is about other commands".into());
        }
        if !rule.rooms.is_empty() && !rule.rooms.iter().any(|r| names_room(r, &action.room)) {
            return Some("is about other rooms".into());
        }
        for (name, accepted) in &rule.arguments {
            match action.arguments.get(name) {
                None => return Some(format!("is about commands with `{name}`")),
                Some(value) if !accepted.contains(value) => {
                    return Some(format!("is about another `{name}`"));
                }
                Some(_) => {}
            }
        }
        None
    }

    /// Roles that would do, alone.
    fn who_may(&self, action: &Action) -> Vec<(RoleName, Vec<String>)> {
        let alone = |name: &RoleName| BTreeSet::from([name.clone()]);
        self.config
            .roles
            .iter()
            .filter(|(name, _)| self.decide(None, &alone(name), action).0)
            .map(|(name, role)| {
                let groups = role.rocketchat_roles.iter().map(|r| format!("Rocket.Chat's {r}"));
                (name.clone(), role.users.iter().cloned().chain(groups).collect())
            })
            .collect()
    }

    fn in_words(&self, decided_by: &DecidedBy) -> String {
        match decided_by {
            DecidedBy::Rule(at) => {
                self.config.rules.iter().find(|r| &r.at == at).map(words::rule).unwrap_or_default()
            }
            DecidedBy::ReadingIsFree => "everybody may read".into(),
            DecidedBy::ChangingNeedsARole => "operators and leads may change things, nobody else".into(),
        }
    }
}

fn has_changer(roles: &BTreeSet<RoleName>) -> bool {
    CHANGERS.iter().any(|r| roles.contains(*r))
}

fn names_command(entry: &str, action: &Action) -> bool {
    match entry {
        "changing" => action.changes,
        "reading" => !action.changes,
        name => name.eq_ignore_ascii_case(&action.command),
    }
}

fn names_room(entry: &str, room: &Room) -> bool {
    if entry == "direct" {
        return room.kind == RoomKind::Direct;
    }
    let entry = entry.strip_prefix('#').unwrap_or(entry);
    entry == room.id.as_str() || room.name.as_deref() == Some(entry)
}

#[cfg(test)]
mod tests;
