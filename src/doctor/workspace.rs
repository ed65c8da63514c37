//! The workspace as its people have set it up: settings, slash words, and the rooms, people and roles that the
//! configuration names.
//!
//! Must not: change a setting or join a room.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::Value as Json;

use super::{Check, permissions};
use crate::command::read::SLASH_WORDS;
use crate::config::Config;
use crate::config::approvals::LEAD;
use crate::diagnostic::Location;
use crate::rocketchat::model::Room;
use crate::rocketchat::rest::{PublicSettings, UserQuery};
use crate::rocketchat::{Rest, RestError};
use crate::text;

/// People who are looked up at once.
const AT_ONCE: usize = 8;

pub(super) async fn checks(rest: &Rest, config: &Config, settings: &PublicSettings) -> Vec<Check> {
    let mut checks = switches(settings);
    let (words, rooms, people, roles, leads) = tokio::join!(
        slash_words(rest, config),
        rooms(rest, config),
        people(rest, config),
        shown_roles(rest, config),
        told_leads(rest, config)
    );
    checks.push(words);
    checks.extend(rooms);
    checks.extend(people);
    checks.extend(roles);
    checks.extend(leads);
    checks
}

fn switches(settings: &PublicSettings) -> Vec<Check> {
    let mut checks = Vec::new();
    checks.push(if settings.allows_unrecognized_slash_commands() {
        Check::ok("slash commands", "Rocket.Chat's clients send `/deploy`")
    } else {
        Check::warning("slash commands", "Rocket.Chat's clients do not send `/deploy`; `!deploy` works").fix(
            "*Administration → Settings → Message → Allow Unrecognized Slash Commands* \
             (`Message_AllowUnrecognizedSlashCommand`): on",
        )
    });
    if !settings.allows_editing() {
        checks.push(
            Check::warning("edits", "nobody may edit messages: the message of a run does not follow it").fix(
                "*Administration → Settings → Message → Allow Message Editing* (`Message_AllowEditing`): on",
            ),
        );
    }
    if !settings.allows_uploads() {
        checks.push(
            Check::warning(
                "uploads",
                "nobody may upload files: long output is cut instead of being attached",
            )
            .fix(
                "*Administration → Settings → File Upload → File Uploads Enabled* (`FileUpload_Enabled`): on",
            ),
        );
    }
    checks
}

/// Words that the server, or an app in it, keeps for itself. Those that every Rocket.Chat has are known to
/// `houston check`.
async fn slash_words(rest: &Rest, config: &Config) -> Check {
    const ABOUT: &str = "slash words";
    let words = match rest.slash_commands().await {
        Ok(words) => words,
        Err(error) => {
            return Check::warning(ABOUT, format!("they cannot be looked at: {error}")).fix("ask again");
        }
    };
    let (mut taken, mut usual) = (Vec::new(), Vec::new());
    for command in &config.commands {
        for name in std::iter::once(&command.name).chain(&command.aliases) {
            let first = name.split(' ').next().unwrap_or(name);
            if !words.iter().any(|word| word == first) {
                continue;
            }
            if SLASH_WORDS.contains(&first) {
                usual.push(format!("/{first}"));
            } else {
                taken.push((first, &command.at));
            }
        }
    }
    taken.dedup_by_key(|(word, _)| *word);
    usual.dedup();
    if taken.is_empty() {
        return Check::ok(
            ABOUT,
            match usual.as_slice() {
                [] => "none of them is a command of Houston's".to_owned(),
                usual => {
                    format!("Rocket.Chat keeps {} for itself; people type `!` instead", text::and_list(usual))
                }
            },
        );
    }
    let named: Vec<String> = taken.iter().map(|(word, at)| format!("`/{word}` ({at})")).collect();
    let message = format!("Rocket.Chat or one of its apps answers {} itself", text::plain_and_list(&named));
    Check::warning(ABOUT, message).fix(format!(
        "people have to type `!{}`; or give the command another name, or disable the app under *Administration → Apps*",
        taken[0].0
    ))
}

/// Rooms that rules and playbooks name, and where.
fn named_rooms(config: &Config) -> BTreeMap<String, Location> {
    let mut named = BTreeMap::new();
    for rule in &config.access.rules {
        for room in rule.rooms.iter().filter(|room| *room != "direct") {
            named.entry(room.clone()).or_insert_with(|| rule.at.clone());
        }
    }
    // Also where no window stands: what people declare is announced there.
    let announcing = config.environments.values().map(|environment| &environment.maintenance.announcing);
    for announcing in announcing.chain([&config.maintenance]) {
        for room in announcing.rooms.iter().flatten() {
            named.extend(announcing.rooms_at.clone().map(|at| (room.clone(), at)));
        }
    }
    for step in config.playbooks.values().flat_map(|playbook| &playbook.steps) {
        let room = step.params.get("room").and_then(Json::as_str).filter(|_| step.kind == "notify");
        if let Some(room) = room.filter(|room| !room.contains("{{")) {
            let room = room.trim_start_matches('#').to_owned();
            named.entry(room).or_insert_with(|| step.at.clone());
        }
    }
    named
}

async fn rooms(rest: &Rest, config: &Config) -> Vec<Check> {
    let ours: Vec<Room> = match rest.rooms_get(None).await {
        Ok(rooms) => rooms.updated.into_iter().filter(|room| room.kind != "d" && room.kind != "l").collect(),
        Err(error) => {
            let check = Check::warning("rooms", format!("they cannot be looked at: {error}"));
            return vec![check.fix("ask again")];
        }
    };
    let named = named_rooms(config);
    let is = |room: &Room, name: &str| {
        room.id == name || [&room.name, &room.fname].into_iter().flatten().any(|called| called == name)
    };
    let mut checks = Vec::new();
    for (name, at) in &named {
        match ours.iter().find(|room| is(room, name)) {
            Some(room) => checks.push(joined(name, at, room)),
            None => checks.push(elsewhere(rest, name, at).await),
        }
    }
    let others = ours.iter().filter(|room| room.encrypted && !named.keys().any(|name| is(room, name)));
    for room in others {
        checks.push(encrypted(called(room), "Houston is a member, and"));
    }
    if ours.is_empty() {
        checks.push(
            Check::warning("rooms", "Houston is in no room: it only hears what people write to it directly")
                .fix("invite the account where it is to listen: *Members → Add*, or `/invite @houston` in the room"),
        );
    } else if checks.is_empty() {
        let names: Vec<&str> = ours.iter().map(called).collect();
        checks.push(Check::ok("rooms", format!("Houston listens in {}", text::and_list(&names))));
    }
    checks
}

fn called(room: &Room) -> &str {
    room.fname.as_ref().or(room.name.as_ref()).unwrap_or(&room.id)
}

fn encrypted(name: &str, why: &str) -> Check {
    let message = format!("{why} cannot read a word: the room is encrypted end to end");
    Check::warning(format!("room {name}"), message)
        .fix("use another room for Houston, or turn *Encrypted* off in this one (*Room Information → Edit*)")
}

fn joined(name: &str, at: &Location, room: &Room) -> Check {
    let about = format!("room {name}");
    if room.encrypted {
        return Check {
            result: super::Level::Problem,
            ..encrypted(name, &format!("{at} names it, and Houston"))
        };
    }
    if room.archived {
        return Check::warning(about, format!("{at} names it, and it is archived"))
            .fix("unarchive it (`/unarchive`), or name another room");
    }
    if room.read_only {
        return Check::warning(
            about,
            format!("{at} names it, and it is read-only: Houston may not answer there"),
        )
        .fix(
            "*Room Information → Edit → Read Only*: off; or grant `post-readonly` to a role of the account",
        );
    }
    Check::ok(about, "Houston is a member")
}

async fn elsewhere(rest: &Rest, name: &str, at: &Location) -> Check {
    let about = format!("room {name}");
    match rest.room_by_name(name).await {
        Ok(_) => Check::problem(about, format!("{at} names it, and Houston is not a member"))
            .fix(format!("invite the account: `/invite @houston` in `#{name}`, or *Members → Add*")),
        Err(RestError::Refused { .. }) => {
            let message =
                format!("{at} names it, and there is no such room, or it is private and Houston not in it");
            Check::problem(about, message)
                .fix(format!("mend the name in {at}; or invite the account into the room"))
        }
        Err(error) => Check::warning(about, format!("it cannot be looked at: {error}")).fix("ask again"),
    }
}

/// People who are named in roles and rules.
async fn people(rest: &Rest, config: &Config) -> Vec<Check> {
    const ABOUT: &str = "people";
    let mut named: BTreeMap<&str, &Location> = BTreeMap::new();
    for (user, at) in config.access.people() {
        named.entry(user).or_insert(at);
    }
    if named.is_empty() {
        return Vec::new();
    }
    let rest = rest.without_waiting();
    let named: Vec<(&str, &Location)> = named.into_iter().collect();
    let mut found: Vec<Result<Option<Check>, RestError>> = Vec::new();
    for some in named.chunks(AT_ONCE) {
        found.extend(join_all(some.iter().map(|(name, at)| person(&rest, name, at))).await);
    }
    let mut checks = Vec::new();
    let mut unseen = None;
    for result in found {
        match result {
            Ok(check) => checks.extend(check),
            Err(error) => unseen = Some(error),
        }
    }
    if let Some(error) = unseen {
        checks.push(
            Check::warning(ABOUT, format!("not all could be looked up: {error}"))
                .fix("give the account the role `bot`, or ask again in a minute"),
        );
    }
    if checks.is_empty() {
        let names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
        checks.push(Check::ok(ABOUT, format!("{} are known to the server", text::and_list(&names))));
    }
    checks
}

async fn person(rest: &Rest, name: &str, at: &Location) -> Result<Option<Check>, RestError> {
    let about = format!("person {name}");
    let found = match rest.user_info(UserQuery::Name(name)).await? {
        Some(found) => Some(found),
        None => rest.user_info(UserQuery::Id(name)).await?,
    };
    Ok(match found {
        None => Some(
            Check::warning(
                about,
                format!("{at} names `{name}`, and nobody is called so: the name gives no rights"),
            )
            .fix(format!(
                "mend the name in {at}, or take it out: whoever takes it later gets no rights by it either"
            )),
        ),
        Some(user) if !user.active => Some(
            Check::warning(about, format!("{at} names `{name}`, whose account is deactivated"))
                .fix(format!("take the name out of {at}, or activate the account")),
        ),
        Some(_) => None,
    })
}

/// Roles of Rocket.Chat that roles of the configuration are made of: whether Houston can see who has them.
async fn shown_roles(rest: &Rest, config: &Config) -> Vec<Check> {
    let mut wanted: BTreeMap<&str, &Location> = BTreeMap::new();
    for role in config.access.roles.values() {
        for name in &role.rocketchat_roles {
            wanted.entry(name.as_str()).or_insert(&role.at);
        }
    }
    if wanted.is_empty() {
        return Vec::new();
    }
    let (me, granted, public) = tokio::join!(rest.me(), rest.permissions(), rest.users_in_public_roles());
    let (Ok(me), Ok(granted)) = (me, granted) else { return Vec::new() };
    if permissions::holds(&["view-full-other-user-info"], &me.roles.unwrap_or_default(), &granted) {
        return Vec::new();
    }
    // 6.5 does not list them; there Houston learns of roles as people come and go.
    let Ok(public) = public else { return Vec::new() };
    let hidden = |name: &str| !public.iter().any(|user| user.roles.iter().flatten().any(|role| role == name));
    let hidden = wanted.iter().filter(|(name, _)| hidden(name));
    hidden
        .map(|(name, at)| {
            let message = format!("{at} counts on Rocket.Chat's role `{name}`, and Houston sees nobody who has it");
            Check::warning(format!("role {name}"), message).fix(format!(
                "*Administration → Permissions*: grant `view-full-other-user-info` to the role `bot`; or list the people \
                 under `users`; or show the role publicly (*Administration → Roles → {name} → Display*)"
            ))
        })
        .collect()
}

/// Leads by a role of Rocket.Chat's: whether Houston can find out whom to tell.
async fn told_leads(rest: &Rest, config: &Config) -> Vec<Check> {
    let Some(lead) = config.access.roles.get(LEAD).filter(|role| !role.rocketchat_roles.is_empty()) else {
        return Vec::new();
    };
    let (me, granted, public) = tokio::join!(rest.me(), rest.permissions(), rest.users_in_public_roles());
    let (Ok(me), Ok(granted)) = (me, granted) else { return Vec::new() };
    if permissions::holds(&["access-permissions"], &me.roles.unwrap_or_default(), &granted) {
        return Vec::new();
    }
    let public = public.unwrap_or_default();
    let hidden =
        |name: &&String| !public.iter().any(|user| user.roles.iter().flatten().any(|role| role == *name));
    let hidden = lead.rocketchat_roles.iter().filter(hidden);
    hidden
        .map(|name| {
            let message = format!(
                "{} makes leads of those with Rocket.Chat's role `{name}`, and Houston cannot find out who they are: they get no direct message when a glass is broken or the configuration is wrong",
                lead.at
            );
            Check::warning(format!("leads by role {name}"), message).fix(format!(
                "list them under `users` as well; or *Administration → Permissions*: grant `access-permissions` to the \
                 role `bot`; or show the role publicly (*Administration → Roles → {name} → Display*)"
            ))
        })
        .collect()
}
