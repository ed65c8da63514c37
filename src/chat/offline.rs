//! Planning without a chat server: `houston plan`.
//!
//! Must not: change anything, or be more generous than chat.

use jiff::Timestamp;

use super::bind::{Known, Outcome, bind};
use super::dispatch::OwnedBound;
use super::hindrances::Hindrances;
use super::operate::{self, Asked};
use super::{help, parse, plan_text};
use crate::access::{Access, Action, Found, Person, Pins};
use crate::command::Action as SpecAction;
use crate::config::Config;
use crate::gateway::events::{Actor, Room, RoomKind};
use crate::ids::{EnvName, UserId};
use crate::playbook::plan::Planner;
use crate::runs::freezes::{by_file, in_force};
use crate::runs::maintenance;

pub enum Planning {
    /// As the room would see it.
    Plan(String),
    NotAllowed(String),
    Wrong(String),
}

/// `who`: a user name or id that the configuration names. Without it rights are not looked at.
pub async fn plan(config: &Config, planner: &Planner, who: Option<&str>, line: &str) -> Planning {
    let line = parse::command_line(line);
    let bound = match bind(&line, &config.commands, &Known::of(&config.environments)) {
        Ok(Outcome::Run(bound)) => bound,
        Ok(Outcome::Help(spec)) => return Planning::Plan(help::about(spec, "", &[])),
        Err(error) => return Planning::Wrong(error.to_string()),
    };
    let SpecAction::Playbook(playbook) = &bound.command.action else {
        return Planning::Wrong(format!("`{}` needs no plan", bound.command.name));
    };
    let requester = who.unwrap_or("nobody");
    if let Some(name) = who {
        let room = Room { id: "offline".into(), kind: RoomKind::Private, name: Some("offline".to_owned()) };
        let actor = Actor { id: UserId::from(name), username: name.to_owned() };
        if let Err(denied) = access(config)
            .authorize(&Person::new(&actor, []), Action::of(bound.command, bound.values.as_typed(), &room))
        {
            return Planning::NotAllowed(denied.to_string());
        }
    }
    let owned = OwnedBound::of(&bound);
    let environment = bound.values.text("environment").map(EnvName::from);
    let declared = environment.as_ref().and_then(|name| config.environments.get(name));
    let now = planner.clock.now();
    let frozen = declared.and_then(|found| in_force(now, |at| by_file(found, at)));
    let known =
        declared.map(|found| maintenance::by_file(found, now, Timestamp::MAX, |_| now)).unwrap_or_default();
    let outside =
        environment.as_ref().filter(|name| config.needs_maintenance(name, &bound.command.name)).is_some()
            && !known.iter().any(|one| one.holds(now));
    let held_up = frozen.is_some() || outside;
    let mut as_who = None;
    if let Some(name) = who {
        let actor = Actor { id: UserId::from(name), username: name.to_owned() };
        let roles = access(config).roles(&Person::new(&actor, [])).into_iter().collect::<Vec<_>>();
        if let Err(why) = super::glass::may_break(config, bound.command, &owned, &roles, held_up) {
            return Planning::NotAllowed(why);
        }
        as_who = Some((name, roles));
    }
    let hindrances = Hindrances {
        config,
        command: bound.command,
        environment,
        frozen,
        maintenance: known,
        now,
        files_only: true,
        who: as_who.as_ref().map(|(name, roles)| (*name, roles.as_slice())),
    };
    let asked = Asked { config, playbook, command: bound.command, bound: &owned, requester, store: None };
    match operate::plan(&asked, planner).await {
        Ok(planned) => {
            Planning::Plan(plan_text::dry_run(&planned.plan, &planned.already, &hindrances.lines()))
        }
        Err(error) => Planning::Wrong(operate::refusal(&owned.canonical, &error)),
    }
}

/// Without a server nobody can look names up: each name of the configuration stands for itself.
fn access(config: &Config) -> Access {
    let mut pins = Pins::default();
    for name in Access::new(config.access.clone(), Pins::default()).unpinned() {
        pins.learn(name, &Found { as_id: false, as_name: Some(UserId::from(name)) });
    }
    Access::new(config.access.clone(), pins)
}
