//! Maintenance as the files tell of it: when it is, where and how long before it is announced, and which commands
//! begin only then.
//!
//! Must not: read the clock, or announce anything.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::Config;
use super::environment::Environment;
use super::window::{self, Window};
use crate::command::{Action, CommandSpec};
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::ids::EnvName;
use crate::text;
use crate::yaml::{Map, Node};

/// Before its beginning, where no file says anything else.
pub const ANNOUNCED: [Duration; 2] = [Duration::from_secs(86_400), Duration::from_secs(3600)];

const ANNOUNCED_RANGE: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(30 * 86_400);

/// Where, and how long before. What is absent stands elsewhere, or is the default.
#[derive(Clone, Debug, Default)]
pub struct Announcing {
    /// Ids or names.
    pub rooms: Option<Vec<String>>,
    /// Where they stand; no part of what is announced.
    pub rooms_at: Option<Location>,
    pub before: Option<Vec<Duration>>,
}

impl PartialEq for Announcing {
    fn eq(&self, other: &Self) -> bool {
        (&self.rooms, &self.before) == (&other.rooms, &other.before)
    }
}

/// Of one environment.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub announcing: Announcing,
    pub windows: Vec<Planned>,
    /// Commands that begin only in maintenance, and where that stands.
    pub required_for: BTreeMap<String, Location>,
}

/// Times of maintenance.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    pub window: Window,
    pub reason: String,
    pub at: Location,
}

impl Config {
    /// The rooms in which maintenance of it is announced.
    pub fn maintenance_rooms(&self, environment: &EnvName) -> &[String] {
        let own =
            self.environments.get(environment).and_then(|found| found.maintenance.announcing.rooms.as_ref());
        own.or(self.maintenance.rooms.as_ref()).map(Vec::as_slice).unwrap_or_default()
    }

    /// How long before its beginning it is announced, longest first.
    pub fn maintenance_announced(&self, environment: &EnvName) -> &[Duration] {
        let own =
            self.environments.get(environment).and_then(|found| found.maintenance.announcing.before.as_ref());
        own.or(self.maintenance.before.as_ref()).map_or(&ANNOUNCED, Vec::as_slice)
    }

    /// Whether the command begins in this environment only in maintenance.
    pub fn needs_maintenance(&self, environment: &EnvName, command: &str) -> bool {
        let found = self.environments.get(environment);
        found.is_some_and(|found| found.maintenance.required_for.contains_key(command))
    }
}

/// `maintenance: {rooms, announce}` of `houston.yaml`.
pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Announcing {
    let Some(mut map) = node.map(found) else { return Announcing::default() };
    let announcing = announcing(&mut map, found);
    map.finish(found);
    announcing
}

/// `maintenance: {rooms, announce, windows, required_for}` of an environment.
pub(super) fn of_environment(node: &Node, zone: &TimeZone, found: &mut Diagnostics) -> Rules {
    let Some(mut map) = node.map(found) else { return Rules::default() };
    let announcing = announcing(&mut map, found);
    let windows = map.take("windows").and_then(|node| node.list(found)).unwrap_or_default();
    let windows = windows.iter().filter_map(|node| planned(node, zone, found)).collect();
    let required_for = map.take("required_for").and_then(|node| node.one_or_more_texts(found));
    map.finish(found);
    Rules { announcing, windows, required_for: required_for.unwrap_or_default().into_iter().collect() }
}

fn announcing(map: &mut Map<'_>, found: &mut Diagnostics) -> Announcing {
    let rooms = map.take("rooms").and_then(|node| node.one_or_more_texts(found));
    let rooms_at = rooms.as_ref().and_then(|rooms| rooms.first()).map(|(_, at)| at.clone());
    let before = map.take("announce").and_then(|node| {
        let each = node.list(found)?.iter().filter_map(|node| node.duration(ANNOUNCED_RANGE, found));
        let mut before: Vec<Duration> = each.collect();
        before.sort_unstable_by(|a, b| b.cmp(a));
        before.dedup();
        Some(before)
    });
    let name = |(name, _): (String, Location)| name.trim_start_matches('#').to_owned();
    Announcing { rooms: rooms.map(|rooms| rooms.into_iter().map(name).collect()), rooms_at, before }
}

fn planned(node: &Node, zone: &TimeZone, found: &mut Diagnostics) -> Option<Planned> {
    let mut map = node.map(found)?;
    let window = window::read(&mut map, node, zone, found);
    let reason = map.need("reason", "say what is done: the announcements say it", found);
    let reason = reason.and_then(|node| node.text(found)).map(str::to_owned);
    map.finish(found);
    Some(Planned { window: window?, reason: reason?, at: node.at.clone() })
}

/// What only shows beside the other files. `commands`: `None` when not all of them could be read.
pub(super) fn check(
    environment: &Environment,
    everywhere: &Announcing,
    commands: Option<&[CommandSpec]>,
    found: &mut Diagnostics,
) {
    let rules = &environment.maintenance;
    let rooms = rules.announcing.rooms.as_ref().or(everywhere.rooms.as_ref());
    if let (Some(first), true) = (rules.windows.first(), rooms.is_none_or(Vec::is_empty)) {
        let finding = format!("maintenance of `{}` is announced nowhere", environment.name);
        found.push(
            Diagnostic::warning(first.at.clone(), finding)
                .hint("write maintenance: {rooms: [ops]} there or in houston.yaml"),
        );
    }
    let Some(commands) = commands else { return };
    for (name, at) in &rules.required_for {
        let known = commands.iter().find(|command| command.name == *name);
        let finding = match known {
            Some(command) if command.changes && matches!(command.action, Action::Playbook(_)) => continue,
            Some(_) => Diagnostic::error(at.clone(), format!("`{name}` never waits for maintenance"))
                .hint("only what a playbook does waits: reading, locking and cancelling never do"),
            None => {
                let finding = Diagnostic::error(at.clone(), format!("there is no command `{name}`"));
                match text::did_you_mean(name, commands.iter().map(|command| command.name.as_str())) {
                    Some(near) => finding.hint(format!("did you mean `{near}`?")),
                    None => finding,
                }
            }
        };
        found.push(finding);
    }
}
