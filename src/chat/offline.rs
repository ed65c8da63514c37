//! Planning without a chat server: `houston plan`.
//!
//! Must not: change anything, or be more generous than chat.

use super::bind::{Known, Outcome, bind};
use super::dispatch::OwnedBound;
use super::operate::{self, Asked};
use super::spec::Action as SpecAction;
use super::{cards, help, parse};
use crate::access::{Access, Action, Found, Person, Pins};
use crate::config::Config;
use crate::gateway::events::{Actor, Room, RoomKind};
use crate::ids::UserId;
use crate::playbook::plan::Planner;

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
        if let Err(denied) = access(config).authorize(&Person::new(&actor, []), Action::of(&bound, &room)) {
            return Planning::NotAllowed(denied.to_string());
        }
    }
    let owned = OwnedBound::of(&bound);
    if let Some(name) = who {
        let actor = Actor { id: UserId::from(name), username: name.to_owned() };
        let roles = access(config).roles(&Person::new(&actor, [])).into_iter().collect::<Vec<_>>();
        if let Err(why) = super::glass::may_break(config, bound.command, &owned, &roles, false) {
            return Planning::NotAllowed(why);
        }
    }
    let asked = Asked { config, playbook, command: bound.command, bound: &owned, requester, store: None };
    match operate::plan(&asked, planner).await {
        Ok(planned) => Planning::Plan(cards::dry_run(&planned.plan, &planned.already)),
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
