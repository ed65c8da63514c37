//! `schedules:` in `houston.yaml`: which command is given at which times, and what is said of it where.
//!
//! Must not: read the clock, or bind the command (`chat` does, and checks it with the rest of the folder).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::cron::{self, Cron};
use super::{Access, window};
use crate::conversation::schedule_named;
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::digest::Digest;
use crate::ids::ScheduleName;
use crate::secret::SecretRef;
use crate::text;
use crate::yaml::{Key, Node, Value};

/// How late the latest of missed times is still made up for, where nothing else is said.
pub const CATCH_UP: Duration = Duration::from_secs(86_400);

const CATCH_UP_RANGE: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(31 * 86_400);
const JITTER_RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(12 * 3600);

/// Second words of commands: a schedule of that name could not be asked for.
const TAKEN: [&str; 5] = ["run", "pause", "resume", "allow", "revoke"];

const LONGEST_NAME: usize = 40;

/// A command that is given again and again.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    pub name: ScheduleName,
    /// As one would type it.
    pub run: String,
    pub cron: Cron,
    /// In which it reports, by name or id.
    pub room: String,
    /// It begins up to so much later, always the same for the same time.
    pub jitter: Duration,
    /// How late a missed time is still made up for; `None`: never.
    pub catch_up: Option<Duration>,
    /// Why the file keeps it from beginning.
    pub paused: Option<String>,
    /// User names that are mentioned when it did not go well, without `@`.
    pub tell: Vec<String>,
    /// A service that notices when it is not told anything.
    pub ping: Option<Ping>,
    pub at: Location,
    /// Of `run`.
    pub run_at: Location,
}

/// A dead-man's switch.
#[derive(Clone, Debug, PartialEq)]
pub struct Ping {
    /// An address is as good as a password: whoever has it can say that all is well.
    pub url: SecretRef,
    pub post: bool,
}

impl Schedule {
    /// Another text when it is another schedule; where it stands is no part of it.
    pub fn meaning(&self) -> String {
        let nowhere = Location::new("", 0, 0);
        format!("{:?}", Self { at: nowhere.clone(), run_at: nowhere, ..self.clone() })
    }

    /// How much later than it is due it begins. By lot, but always the same for the same time.
    pub fn lag(&self, due: Timestamp) -> SignedDuration {
        let most = u64::try_from(self.jitter.as_millis()).unwrap_or(u64::MAX);
        if most == 0 {
            return SignedDuration::ZERO;
        }
        let digest = Digest::of(format!("{}/{due}", self.name).as_bytes()).to_string();
        let lot = digest.chars().filter_map(|c| c.to_digit(16)).take(12);
        let lot = lot.fold(0u64, |lot, digit| lot * 16 + u64::from(digit));
        SignedDuration::from_millis(i64::try_from(lot % (most + 1)).unwrap_or(i64::MAX))
    }
}

pub(super) fn read(
    node: &Node,
    zone: &TimeZone,
    found: &mut Diagnostics,
) -> BTreeMap<ScheduleName, Schedule> {
    let entries = node.entries(found).unwrap_or_default();
    let read = entries.iter().filter_map(|(key, node)| schedule(key, node, zone, found));
    read.map(|schedule| (schedule.name.clone(), schedule)).collect()
}

fn schedule(key: &Key, node: &Node, zone: &TimeZone, found: &mut Diagnostics) -> Option<Schedule> {
    name(key, found);
    let mut map = node.map(found)?;
    let run = map.need("run", "the command, as one would type it: run: deploy staging web", found);
    let run_at = run.map(|node| node.at.clone());
    let run = run.and_then(|node| node.text(found));
    let run = run.map(|text| text.trim().trim_start_matches(['!', '/']).to_owned());
    let zone_here = map.take("time_zone").map(|node| window::read_zone(node, found));
    let zone = match zone_here {
        Some(zone) => zone,
        None => Some(zone.clone()),
    };
    let cron = map.need("cron", cron::HINT, found);
    let cron = cron.and_then(|node| cron_of(node, zone.as_ref(), found));
    let room = map.need("room", "where it reports: room: ops", found);
    let room = room.and_then(|node| node.text(found)).map(|name| name.trim_start_matches('#').to_owned());
    let jitter = map.take("jitter").and_then(|node| node.duration(JITTER_RANGE, found));
    let catch_up = match map.take("catch_up") {
        Some(Node { value: Value::Text(word), .. }) if word == "never" => None,
        Some(node) => node.duration(CATCH_UP_RANGE, found),
        None => Some(CATCH_UP),
    };
    let paused = map.take("paused").and_then(|node| paused(node, found));
    let tell = map.take("tell").and_then(|node| node.one_or_more_texts(found)).unwrap_or_default();
    let tell = tell.into_iter().map(|(name, _)| name.trim_start_matches('@').to_owned()).collect();
    let ping = map.take("ping").and_then(|node| ping(node, found));
    map.finish(found);
    Some(Schedule {
        name: ScheduleName::from(&*key.name),
        run: run?,
        cron: cron?,
        room: room?,
        jitter: jitter.unwrap_or_default(),
        catch_up,
        paused,
        tell,
        ping,
        at: key.at.clone(),
        run_at: run_at?,
    })
}

fn name(key: &Key, found: &mut Diagnostics) {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let name = &*key.name;
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(good) {
        let finding = format!("`{}` is no name for a schedule", text::ellipsis(name, LONGEST_NAME));
        found.push(
            Diagnostic::error(key.at.clone(), finding)
                .hint(format!("small letters, digits, `-` and `_`, at most {LONGEST_NAME}: nightly-backup")),
        );
    } else if TAKEN.contains(&name) {
        found.push(
            Diagnostic::error(key.at.clone(), format!("a schedule cannot be called `{name}`"))
                .hint(format!("`schedules {name}` is a command: give it another name")),
        );
    }
}

fn cron_of(node: &Node, zone: Option<&TimeZone>, found: &mut Diagnostics) -> Option<Cron> {
    let written = node.text(found)?;
    match Cron::parse(written, zone.unwrap_or(&TimeZone::UTC)) {
        Ok(cron) => zone.map(|_| cron),
        Err(why) => {
            found.push(Diagnostic::error(node.at.clone(), why).hint(cron::HINT));
            None
        }
    }
}

/// A reason, or `no`.
fn paused(node: &Node, found: &mut Diagnostics) -> Option<String> {
    match &node.value {
        Value::Bool(false) => None,
        Value::Bool(true) => Some(String::new()),
        _ => node.text(found).map(str::to_owned),
    }
}

fn ping(node: &Node, found: &mut Diagnostics) -> Option<Ping> {
    let mut map = node.map(found)?;
    let url = map.need("url", "a secret: url: {file: ping-url}", found);
    let url = url.and_then(|node| node.secret(found));
    let methods = [("get", false), ("post", true)];
    let post = map.take("method").and_then(|node| node.choice(&methods, found)).unwrap_or(true);
    map.finish(found);
    Some(Ping { url: url?, post })
}

/// Entries of roles and rules that mean schedules which there are not.
pub(super) fn check(
    access: Option<&Access>,
    schedules: &BTreeMap<ScheduleName, Schedule>,
    found: &mut Diagnostics,
) {
    let Some(access) = access else { return };
    let in_roles = access.roles.values().flat_map(|role| role.users.iter().map(|entry| (entry, &role.at)));
    let in_rules = access.rules.iter().flat_map(|rule| rule.users.iter().map(|entry| (entry, &rule.at)));
    for (entry, at) in in_roles.chain(in_rules) {
        let Some(name) = schedule_named(entry).filter(|name| !schedules.contains_key(name)) else { continue };
        let finding = Diagnostic::error(at.clone(), format!("there is no schedule `{name}`"));
        let known = schedules.keys().map(ScheduleName::as_str);
        found.push(match text::did_you_mean(name.as_str(), known) {
            Some(meant) => finding.hint(format!("did you mean `schedule:{meant}`?")),
            None => finding.hint("schedules stand under `schedules` in houston.yaml"),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read_all(written: &str) -> (BTreeMap<ScheduleName, Schedule>, Vec<String>) {
        let mut found = Diagnostics::new();
        let node =
            crate::yaml::parse(Path::new("houston.yaml"), written.as_bytes(), &mut found).expect("YAML");
        let schedules = read(&node, &TimeZone::UTC, &mut found);
        (schedules, found.sorted().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_schedule_says_what_when_and_where() {
        let (schedules, found) = read_all(
            "nightly: {run: \"!deploy staging web\", cron: \"30 1 * * *\", time_zone: Europe/Lisbon, room: \"#ops\", \
             jitter: 5m, catch_up: never, paused: \"not yet\", tell: [\"@carol\"], ping: {url: {file: url}, method: get}}",
        );
        assert_eq!(found, [] as [String; 0]);
        let nightly = &schedules[&ScheduleName::from("nightly")];
        assert_eq!((nightly.run.as_str(), nightly.room.as_str()), ("deploy staging web", "ops"));
        assert_eq!(nightly.cron.timing(), "30 1 * * * Europe/Lisbon");
        assert_eq!((nightly.catch_up, nightly.paused.as_deref()), (None, Some("not yet")));
        assert_eq!(nightly.tell, ["carol"]);
        assert!(nightly.ping.as_ref().is_some_and(|ping| !ping.post));
        let due = "2026-11-26T01:30:00Z".parse().expect("a time");
        assert_eq!(nightly.lag(due), nightly.lag(due), "always the same");
        assert!(nightly.lag(due) <= SignedDuration::from_mins(5));
    }

    #[test]
    fn what_is_wrong_is_found_in_its_place() {
        let (schedules, found) = read_all(
            "run: {run: ping, cron: \"0 0 * * *\", room: ops}\nUp: {run: ping, cron: \"0 0 * * *\", room: ops}\n\
             a: {run: ping, cron: \"0 0 * *\", room: ops}\nb: {cron: \"0 0 * * *\", when: now}\n\
             c: {run: ping, cron: \"0 0 * * *\", room: ops, time_zone: Mars/Base}\n\
             d: {run: ping, cron: \"0 0 * * *\", room: ops, ping: {url: https://hc.example/1}}\n",
        );
        for says in [
            "error: houston.yaml:1:1: a schedule cannot be called `run`",
            "error: houston.yaml:2:1: `Up` is no name for a schedule",
            "error: houston.yaml:3:22: a cron expression has five fields",
            "`run` is missing in `b`",
            "`room` is missing in `b`",
            "unknown key `when` in `b`",
            "houston.yaml:5",
            "houston.yaml:6",
        ] {
            assert!(found.iter().any(|finding| finding.contains(says)), "{says}: {found:#?}");
        }
        assert_eq!(schedules.len(), 3, "{schedules:?}");
    }
}
