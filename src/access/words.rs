//! Decisions about rights, in words for the room.
//!
//! Must not: decide.

use std::fmt;

use super::{Because, Denied, Explanation, Membership, Person};
use crate::config::Rule;
use crate::ids::RoleName;
use crate::text::{code, typed};

/// `deny `deploy` with `environment` prod in `general` for `intern``.
pub(super) fn rule(rule: &Rule) -> String {
    let names = |items: &[String]| items.iter().map(|i| code(i)).collect::<Vec<_>>().join(", ");
    let mut out = String::from(if rule.allow { "allow " } else { "deny " });
    out += &if rule.commands.is_empty() { "everything".into() } else { names(&rule.commands) };
    for (name, values) in &rule.arguments {
        out += &format!(" with {name} {}", names(values));
    }
    if !rule.rooms.is_empty() {
        out += &format!(" in {}", names(&rule.rooms));
    }
    let who: Vec<String> =
        rule.roles.iter().map(ToString::to_string).chain(rule.users.iter().cloned()).collect();
    out += &if who.is_empty() { " for everybody".into() } else { format!(" for {}", names(&who)) };
    out
}

fn who_may(roles: &[(RoleName, Vec<String>)]) -> String {
    if roles.is_empty() {
        return "No role of the configuration may.".into();
    }
    let shown: Vec<String> = roles
        .iter()
        .map(|(role, members)| {
            let members: Vec<String> = members.iter().map(|m| code(m)).collect();
            if members.is_empty() {
                code(role.as_str())
            } else {
                format!("{} ({})", code(role.as_str()), members.join(", "))
            }
        })
        .collect();
    format!("Who may: {}.", shown.join(", "))
}

fn membership(m: &Membership) -> String {
    let why = match &m.because {
        Because::Id => "by user id".to_owned(),
        Because::Name(name) => format!("as {}", code(name)),
        Because::RocketChatRole(role) => format!("through Rocket.Chat's role {}", code(role)),
    };
    format!("{} {why} ({})", code(m.role.as_str()), m.at)
}

pub(super) fn whoami(who: &Person, memberships: &[Membership], notes: &[String]) -> String {
    let mut out = format!("You are {}, user id {}.\n", code(&who.username), code(who.id.as_str()));
    if memberships.is_empty() {
        out += "You have no role here: you may read, and change nothing unless a rule allows it.\n";
    } else {
        out += "Your roles:\n";
        for m in memberships {
            out += &format!("- {}\n", membership(m));
        }
    }
    for note in notes {
        out += &format!(":warning: {note}\n");
    }
    out += "`!help` lists what you can do here.";
    out
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.decided_by {
            super::DecidedBy::Rule(at) => format!("{at} says"),
            _ => "the built-in rule is".to_owned(),
        };
        write!(f, "You may not {} here: {place}: {}. ", typed(&self.command), self.rule)?;
        write!(f, "{}", who_may(&self.who_may))?;
        for note in &self.notes {
            write!(f, "\n:warning: {note}")?;
        }
        write!(f, "\n`!can {} {}` shows how this was decided.", self.who.username, self.command)
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.allowed { "may" } else { "may not" };
        writeln!(f, "{} {verdict} {}.", code(&self.who.username), typed(&self.command))?;
        match self.memberships.as_slice() {
            [] => writeln!(f, "- no role")?,
            all => {
                for m in all {
                    writeln!(f, "- {}", membership(m))?;
                }
            }
        }
        for looked in &self.looked_at {
            let place = looked.at.as_ref().map_or("built-in".to_owned(), ToString::to_string);
            match &looked.misses {
                Some(why) => writeln!(f, "- {place}: {} — {why}", looked.rule)?,
                None => writeln!(f, "- {place}: {} — *decides*", looked.rule)?,
            }
        }
        for note in &self.notes {
            writeln!(f, "- :warning: {note}")?;
        }
        match &self.approval {
            Some(approval) => write!(f, "Approval: {approval}"),
            None if self.allowed => write!(f, "Approval: none needed"),
            None => write!(f, "{}", who_may(&self.who_may)),
        }
    }
}
