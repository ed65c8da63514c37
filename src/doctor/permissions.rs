//! What Houston's account in Rocket.Chat needs, permission by permission, and what each is for: the one list,
//! for `houston doctor`, `houston docs roles` and `docs/administrator.md`.
//!
//! Must not: ask a server.

use super::{Check, Level};
use crate::rocketchat::rest::Permission;
use crate::text;

/// A right that something of Houston's rests on.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// One of these is enough.
    pub any_of: &'static [&'static str],
    /// The roles that have it unless an administrator changed that.
    pub held_by: &'static str,
    /// What it is for, after "so that it".
    pub purpose: &'static str,
    /// What there is without it.
    pub without: &'static str,
    /// Of its absence; [`Level::Ok`]: it can do without.
    pub level: Level,
}

const fn need(
    level: Level,
    any_of: &'static [&'static str],
    held_by: &'static str,
    purpose: &'static str,
    without: &'static str,
) -> Need {
    Need { any_of, held_by, purpose, without, level }
}

pub const NEEDS: &[Need] = &[
    need(
        Level::Problem,
        &["view-joined-room", "view-c-room"],
        "bot, user",
        "it hears its public rooms",
        "it does not hear public rooms",
    ),
    need(
        Level::Problem,
        &["view-joined-room", "view-p-room"],
        "bot, user",
        "it hears its private rooms",
        "it does not hear private rooms",
    ),
    need(
        Level::Problem,
        &["view-joined-room", "view-d-room"],
        "bot, user",
        "people can write to it directly",
        "it does not hear what people write to it directly",
    ),
    need(
        Level::Problem,
        &["create-d"],
        "bot, user",
        "it can say in private what is not for the room",
        "it cannot say in private what is not for the room, nor tell leads what concerns them",
    ),
    need(
        Level::Warning,
        &["send-many-messages"],
        "bot",
        "it says more than five messages in a second",
        "messages come late when there are many",
    ),
    need(
        Level::Warning,
        &["api-bypass-rate-limit"],
        "bot",
        "its edits and reads are not counted",
        "edits and reads come late when there are many; it waits as the server asks it to",
    ),
    need(
        Level::Warning,
        &["bypass-time-limit-edit-and-delete"],
        "bot",
        "the message of a long run follows it to its end",
        "a long run's message stops following it, where edits have a time limit",
    ),
    need(
        Level::Warning,
        &["mobile-upload-file"],
        "user",
        "long output is attached as a file",
        "long output is cut, and says so, instead of being attached",
    ),
    need(
        Level::Ok,
        &["create-personal-access-tokens"],
        "user",
        "it has a token of its own making",
        "you make the token, or Houston logs in with a password",
    ),
    need(
        Level::Ok,
        &["view-full-other-user-info"],
        "nobody",
        "it sees everybody's roles",
        "Rocket.Chat roles in its configuration (`rocketchat_roles`) work for roles that are shown publicly (*Roles → Display*), and not for others",
    ),
    need(
        Level::Ok,
        &["access-permissions"],
        "admin",
        "it knows who has a role",
        "leads by a Rocket.Chat role (`rocketchat_roles`) are told of a broken glass and of a wrong configuration only where that role is shown publicly; listed under `users` they are told in any case",
    ),
];

/// Whether somebody with these roles has one of these permissions.
pub fn holds(any_of: &[&str], roles: &[String], granted: &[Permission]) -> bool {
    let is_granted = |permission: &Permission| permission.roles.iter().any(|role| roles.contains(role));
    granted.iter().any(|permission| any_of.contains(&permission.id.as_str()) && is_granted(permission))
}

/// One line for each.
pub fn check(username: &str, roles: &[String], granted: &[Permission]) -> Vec<Check> {
    NEEDS.iter().map(|need| one(need, username, roles, granted)).collect()
}

fn one(need: &Need, username: &str, roles: &[String], granted: &[Permission]) -> Check {
    let names = text::plain_or_list(need.any_of);
    let about = format!("permission {names}");
    if holds(need.any_of, roles, granted) {
        return Check::ok(about, need.purpose);
    }
    if need.level == Level::Ok {
        return Check::ok(about, format!("not held, which is all right: {}", need.without));
    }
    let check = Check::new(about, need.level, format!("missing: {}", need.without));
    let usual: Vec<&str> =
        need.held_by.split(", ").filter(|role| !roles.iter().any(|had| had == role)).collect();
    let grant =
        format!("*Administration → Permissions*: grant `{}` to a role of `{username}`", need.any_of[0]);
    match usual.first() {
        Some(role) => check.fix(format!(
            "*Administration → Users → {username} → Edit*: add the role `{role}`; or {grant} ({})",
            text::plain_and_list(roles)
        )),
        None => check.fix(format!("{grant} ({})", text::plain_and_list(roles))),
    }
}

/// `houston docs roles`
pub fn reference() -> String {
    format!(
        "# Roles and permissions\n\nHouston's account in Rocket.Chat has the roles `user` and `bot`. `houston doctor` \
         asks the server for each of these:\n\n{}",
        table()
    )
}

/// As it stands in `docs/administrator.md`.
pub fn table() -> String {
    let mut out = String::from("| permission | held by | without it |\n|---|---|---|\n");
    for need in NEEDS {
        let names: Vec<String> = need.any_of.iter().map(|name| format!("`{name}`")).collect();
        out.push_str(&format!("| {} | {} | {} |\n", names.join(" or "), need.held_by, need.without));
    }
    out
}
