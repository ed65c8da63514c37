//! Built-ins for maintenance: declared for once, called off before its end.
//!
//! Must not: announce it (the herald does), or touch a run.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::Call;
use crate::chat::herald;
use crate::config::window::{Day, Moment, begin_at, end_at, how_long, in_a_while, weekday, words};
use crate::gateway::events::{Post, SendError};
use crate::ids::{EnvName, derived_id};
use crate::runs::maintenance::{Announcement, CalledOff, Changed, Maintenance, What};
use crate::runs::outbox::Notice;
use crate::text::{self, code, plain_and_list, said};

/// Whatever begins later than this is a mistake.
const FURTHEST: Duration = Duration::from_secs(366 * 86_400);

/// Whatever lasts longer.
const LONGEST: Duration = Duration::from_secs(31 * 86_400);

const HOW: &str = "say `from 22:00 to 23:30 why`, `from fri 22:00 to sat 02:00 why`, `from 2026-11-27 22:00 for 90m why` or \
                   `from now for 1h why`";

pub(super) async fn declare(call: &Call<'_>) -> String {
    let parts = &call.dispatcher.parts;
    let Some(environment) = environment(call) else { return "Which environment?".to_owned() };
    let zone = zone(call, &environment);
    let now = parts.clock.now();
    let (from, to, reason) = match read(call.bound.values.text("when").unwrap_or_default(), now, &zone) {
        Ok(found) => found,
        Err(text) => return text,
    };
    let mut one = Maintenance {
        environment: environment.clone(),
        from,
        to,
        reason: parts.redactor.redact(&reason).into_owned(),
        by: Some(call.cause.by.clone()),
        room: Some(call.cause.room.id.clone()),
        known_at: now,
        told: None,
        called_off: None,
        again: 0,
    };
    let all = parts.engine.maintenance_of(&environment).await;
    if let Some(other) = all.iter().find(|other| other.is_same(&one) && other.called_off.is_none()) {
        return format!("There is {} already: {}.", other.describe(), other.why());
    }
    let was = all.iter().find(|other| other.is_same(&one)).cloned();
    if let Some(was) = &was {
        one = Maintenance { again: was.again, ..one }.anew(now);
    }
    let answer = declared(call, &one, &all, now);
    let mut is = one.clone();
    let notices = match told_at_once(call, &mut is, &answer, now).await {
        Ok(notices) => notices,
        Err(error) => return format!("Not declared: the rooms to be told cannot be looked up ({error})."),
    };
    let change = Changed { was, is };
    match parts.engine.put_maintenance(change, notices, call.asked(), "maintenance declared").await {
        Ok(true) => {}
        Ok(false) => return "Somebody was quicker: look at `!status`, and try again.".to_owned(),
        Err(error) => return error.to_string(),
    }
    answer
}

fn declared(call: &Call<'_>, one: &Maintenance, all: &[Maintenance], now: Timestamp) -> String {
    let what = if one.holds(now) { "There is from now on" } else { "There will be" };
    format!(
        ":construction: {what} {}: {}. {} `{}` calls it off.",
        one.describe(),
        said(&one.reason),
        how_announced(call, one, now),
        way_back(one, all)
    )
}

/// What is to be announced already is announced with the answer: who reads that needs no second message of the same.
async fn told_at_once(
    call: &Call<'_>,
    one: &mut Maintenance,
    answer: &str,
    now: Timestamp,
) -> Result<Vec<Notice>, SendError> {
    let Some((stage, announcement)) = one.due(call.config.maintenance_announced(&one.environment), now)
    else {
        return Ok(Vec::new());
    };
    let mut notices = herald::to_rooms(call.dispatcher, call.config, &announcement).await?;
    one.told = Some(stage);
    if !without_this_room(call, &mut notices) {
        return Ok(notices);
    }
    // The answer itself, under its own id: whatever is killed between, the room is told, and once.
    let id = derived_id(&format!("reply/{}", call.cause.id)).into();
    let post = Post { id, room: call.cause.room.id.clone(), thread: None, text: answer.to_owned() };
    notices.push(Notice::Say { post });
    Ok(notices)
}

/// Takes out what would be said where the answer stands; whether there was any.
fn without_this_room(call: &Call<'_>, notices: &mut Vec<Notice>) -> bool {
    let before = notices.len();
    let here = &call.cause.room.id;
    // In a thread few read the answer.
    notices.retain(|notice| {
        call.cause.thread.is_some() || !matches!(notice, Notice::Maintenance { room, .. } if room == here)
    });
    notices.len() < before
}

/// `!maintenance cancel prod 2026-11-24 22:00`, with its end where another one begins then.
fn way_back(one: &Maintenance, all: &[Maintenance]) -> String {
    let begins = one.from.strftime("%Y-%m-%d %H:%M");
    let also =
        |other: &&Maintenance| other.from == one.from && other.called_off.is_none() && !other.is_same(one);
    let ends = match all.iter().find(also) {
        None => String::new(),
        Some(_) if one.from.date() == one.to.date() => one.to.strftime(" to %H:%M").to_string(),
        Some(_) => one.to.strftime(" to %Y-%m-%d %H:%M").to_string(),
    };
    format!("!maintenance cancel {} {begins}{ends}", one.environment)
}

fn how_announced(call: &Call<'_>, one: &Maintenance, now: Timestamp) -> String {
    let environment = &one.environment;
    let rooms: Vec<String> = call
        .config
        .maintenance_rooms(environment)
        .iter()
        .map(|room| format!("#{}", text::defuse(room)))
        .collect();
    let rooms = if rooms.is_empty() { "this room".to_owned() } else { plain_and_list(&rooms) };
    let ahead = call.config.maintenance_announced(environment).iter();
    let ahead = ahead.filter(|before| one.from.timestamp().checked_sub(**before).is_ok_and(|at| at > now));
    let mut when: Vec<String> = ahead.map(|before| format!("{} before", text::duration(*before))).collect();
    if one.from.timestamp() > now {
        when.push("when it begins".to_owned());
    }
    when.push("when it is over".to_owned());
    format!("It is announced in {rooms} {}.", plain_and_list(&when))
}

pub(super) async fn call_off(call: &Call<'_>) -> String {
    let parts = &call.dispatcher.parts;
    let Some(environment) = environment(call) else { return "Which environment?".to_owned() };
    let now = parts.clock.now();
    let (which, reason) = match which(call.bound.values.text("which").unwrap_or_default()) {
        Ok(found) => found,
        Err(typed) => return unclear(call, &environment, &typed).await,
    };
    let reason = reason.map(|reason| parts.redactor.redact(&reason).into_owned());
    for _ in 0..MOST_TRIES {
        let one = match meant(call, &environment, which).await {
            Ok(one) => one,
            Err(text) => return text,
        };
        let mut off = one.clone();
        off.called_off = Some(CalledOff { by: Some(call.cause.by.clone()), at: now, reason: reason.clone() });
        // Whoever was told that it will be is told that it will not.
        let mut told = Vec::new();
        if one.told.is_some() {
            let announcement = Announcement { of: off.clone(), what: What::CalledOff, due: now };
            match herald::to_rooms(call.dispatcher, call.config, &announcement).await {
                Ok(notices) => told = notices,
                Err(error) => {
                    return format!(
                        "Not called off: the rooms that were told cannot be looked up ({error})."
                    );
                }
            }
        }
        let here = without_this_room(call, &mut told);
        let rooms = told.len();
        let change = Changed { was: Some(one), is: off.clone() };
        match parts.engine.put_maintenance(change, told, call.asked(), "maintenance called off").await {
            Ok(true) => {}
            // It was announced at the same moment: look again who knows of it.
            Ok(false) => continue,
            Err(error) => return error.to_string(),
        }
        return called_off(call, &off, here, rooms, now);
    }
    "It changes too fast to be called off: try again.".to_owned()
}

fn called_off(call: &Call<'_>, one: &Maintenance, here: bool, rooms: usize, now: Timestamp) -> String {
    let rooms = match rooms {
        0 if here => "No other room was told of it.".to_owned(),
        0 => "No room was told of it yet.".to_owned(),
        n => {
            format!("{} that knew of it {} told.", text::count(n, "room"), if n == 1 { "is" } else { "are" })
        }
    };
    let what = if one.from.timestamp() <= now { "is over before its time" } else { "is called off" };
    let whose = match &one.by {
        Some(by) if by.id != call.cause.by.id => format!(" @{}, it was yours.", by.username),
        _ => String::new(),
    };
    let why = one.called_off.as_ref().and_then(|off| off.reason.as_ref());
    let why = why.map(|why| format!(": {}", said(why))).unwrap_or_default();
    format!(":no_entry_sign: The {} {what}{why}. {rooms}{whose}", one.describe())
}

/// The one to be called off, or what is to be said instead.
async fn meant(call: &Call<'_>, environment: &EnvName, which: Option<Which>) -> Result<Maintenance, String> {
    let mut standing = call.dispatcher.parts.engine.maintenance_of(environment).await;
    standing.retain(|one| one.called_off.is_none());
    let meant: Vec<&Maintenance> = match which {
        Some(which) => standing.iter().filter(|one| which.is(one)).collect(),
        // Of what comes again and again the next one is meant.
        None => standing
            .iter()
            .enumerate()
            .filter(|(n, one)| {
                one.by.is_some() || !standing[..*n].iter().any(|e| e.by.is_none() && e.reason == one.reason)
            })
            .map(|(_, one)| one)
            .collect(),
    };
    match meant.as_slice() {
        [] if standing.is_empty() => {
            Err(format!("No maintenance of {} is planned.", code(environment.as_str())))
        }
        [] => Err(format!("There is none then; the next is {}.", standing[0].span())),
        [one] => Ok((*one).clone()),
        several => Err(format!("Which one? Say {}.", ways_back(several, &standing))),
    }
}

fn ways_back(of: &[&Maintenance], all: &[Maintenance]) -> String {
    let each: Vec<String> = of.iter().take(MOST_SHOWN).map(|one| code(&way_back(one, all))).collect();
    text::plain_or_list(&each)
}

/// Whoever says when does not mean just any.
async fn unclear(call: &Call<'_>, environment: &EnvName, typed: &str) -> String {
    let mut standing = call.dispatcher.parts.engine.maintenance_of(environment).await;
    standing.retain(|one| one.called_off.is_none());
    if standing.is_empty() {
        return format!("No maintenance of {} is planned.", code(environment.as_str()));
    }
    let ways = ways_back(&standing.iter().collect::<Vec<_>>(), &standing);
    let typed = text::typed(typed);
    format!("I cannot tell which one begins at {typed}. Say {ways}, then why. Nothing was called off.")
}

/// Against whoever announces at the same time.
const MOST_TRIES: usize = 5;

/// How many are named where somebody has to choose.
const MOST_SHOWN: usize = 5;

fn environment(call: &Call<'_>) -> Option<EnvName> {
    call.bound.values.text("environment").map(EnvName::from)
}

fn zone(call: &Call<'_>, environment: &EnvName) -> TimeZone {
    call.config.environments.get(environment).map_or(TimeZone::UTC, |found| found.time_zone.clone())
}

/// `tomorrow`, `friday`, `22.00`, `at 9`: it is no reason, or not surely one.
fn begins_like_a_time(words: &[&str]) -> bool {
    let first = words.first().copied().unwrap_or_default().to_lowercase();
    let day = ["today", "tonight", "tomorrow"].contains(&first.as_str()) || weekday(&first).is_some();
    day || words.iter().take(2).any(|word| word.starts_with(|c: char| c.is_ascii_digit()))
}

/// One that begins then, and ends then where that was said too.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Which {
    begins: Moment,
    ends: Option<Moment>,
}

impl Which {
    fn is(self, one: &Maintenance) -> bool {
        is_at(&one.from, self.begins, begin_at) && self.ends.is_none_or(|ends| is_at(&one.to, ends, end_at))
    }
}

/// `2026-11-24 22:00 why`, `2026-11-24 22:00 to 23:30 why`: which one, and why. An error is what looks like a time and is
/// none.
fn which(typed: &str) -> Result<(Option<Which>, Option<String>), String> {
    let words: Vec<&str> = typed.split_whitespace().collect();
    let (which, taken) = match moment(&words) {
        Some((begins, taken)) => {
            let rest = &words[taken..];
            let to = rest.first().is_some_and(|word| word.eq_ignore_ascii_case("to"));
            match moment(rest.get(1..).unwrap_or_default()).filter(|_| to) {
                Some((ends, more)) => (Some(Which { begins, ends: Some(ends) }), taken + 1 + more),
                None => (Some(Which { begins, ends: None }), taken),
            }
        }
        None if begins_like_a_time(&words) => return Err(words[..words.len().min(2)].join(" ")),
        None => (None, 0),
    };
    let reason = unquoted(&words[taken..].join(" "));
    Ok((which, Some(reason).filter(|reason| !reason.is_empty())))
}

/// `local`: what a local time means that a changed clock skips or repeats.
fn is_at(at: &Zoned, moment: Moment, local: fn(&TimeZone, DateTime) -> Option<Zoned>) -> bool {
    let here = at.datetime();
    match moment.day {
        Day::On(date) => {
            local(at.time_zone(), date.to_datetime(moment.time)).is_some_and(|meant| meant == *at)
        }
        Day::OfWeek(day) => here.weekday() == day && here.time() == moment.time,
        Day::Any => here.time() == moment.time,
    }
}

/// The moment at the beginning of what was typed, and of how many words it is.
fn moment(words: &[&str]) -> Option<(Moment, usize)> {
    [2, 1].into_iter().find_map(|taken| {
        let head = words.get(..taken)?.join(" ");
        Some((Moment::parse(&head)?, taken))
    })
}

/// `22:00 to 23:30 why`, `fri 22:00 to sat 02:00 why`, `now for 90m why`.
fn read(typed: &str, now: Timestamp, zone: &TimeZone) -> Result<(Zoned, Zoned, String), String> {
    let typed: Vec<&str> = typed.split_whitespace().collect();
    let (from, rest) = beginning(&typed, now, zone)?;
    let (to, rest) = end(rest, &from, zone)?;
    if to.timestamp() <= from.timestamp() {
        return Err(format!("It would end, {}, before it begins, {}.", words(&to), words(&from)));
    }
    if from.timestamp().duration_since(now).unsigned_abs() > FURTHEST {
        return Err("That is more than a year ahead.".to_owned());
    }
    if to.timestamp().duration_since(from.timestamp()).unsigned_abs() > LONGEST {
        return Err("That is longer than a month: what is not to begin for so long is a `freeze`.".to_owned());
    }
    let reason = unquoted(&rest.join(" "));
    if reason.is_empty() {
        return Err("And why? The announcements say it: say it after the times.".to_owned());
    }
    Ok((from, to, reason))
}

fn beginning<'w>(
    typed: &'w [&'w str],
    now: Timestamp,
    zone: &TimeZone,
) -> Result<(Zoned, &'w [&'w str]), String> {
    if typed.first().is_some_and(|word| word.eq_ignore_ascii_case("now")) {
        let now = now.to_zoned(zone.clone());
        let minute = now.with().second(0).subsec_nanosecond(0).build();
        return Ok((minute.unwrap_or(now), &typed[1..]));
    }
    let Some((moment, taken)) = moment(typed) else {
        return Err(format!("I cannot tell from when: {HOW}."));
    };
    let from = moment
        .beginning_after(now, zone)
        .ok_or_else(|| format!("{} is over already: {HOW}.", text::typed(&typed[..taken].join(" "))))?;
    Ok((from, &typed[taken..]))
}

fn end<'w>(typed: &'w [&'w str], from: &Zoned, zone: &TimeZone) -> Result<(Zoned, &'w [&'w str]), String> {
    let unclear = || format!("I cannot tell until when: {HOW}.");
    let (word, rest) = typed.split_first().ok_or_else(unclear)?;
    if word.eq_ignore_ascii_case("for") {
        let (long, taken) = how_long(rest).ok_or_else(unclear)?;
        let to = in_a_while(from.timestamp(), long, zone).ok_or_else(unclear)?;
        return Ok((to, &rest[taken..]));
    }
    if !word.eq_ignore_ascii_case("to") && !word.eq_ignore_ascii_case("until") {
        return Err(unclear());
    }
    let (moment, taken) = moment(rest).ok_or_else(unclear)?;
    let to = moment.after(from.timestamp(), zone).ok_or_else(|| {
        format!("It would end, {}, before it begins, {}.", text::typed(&rest[..taken].join(" ")), words(from))
    })?;
    Ok((to, &rest[taken..]))
}

/// `"database upgrade"` as it is meant.
fn unquoted(reason: &str) -> String {
    let inside = reason.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inside.filter(|inside| !inside.contains('"')).unwrap_or(reason).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wednesday noon in Lisbon, or another moment.
    fn at(typed: &str, now: &str) -> Result<String, String> {
        let zone = TimeZone::get("Europe/Lisbon").expect("a zone");
        let (from, to, reason) = read(typed, now.parse().expect("a time"), &zone)?;
        Ok(format!("{} {} {reason}", from.timestamp(), to.timestamp()))
    }

    const NOON: &str = "2026-11-25T12:00:00Z";

    #[test]
    fn both_ends_are_read_and_the_rest_is_the_reason() {
        for (typed, means) in [
            (
                "22:00 to 23:30 \"database upgrade\"",
                "2026-11-25T22:00:00Z 2026-11-25T23:30:00Z database upgrade",
            ),
            ("22:00 until 02:00 disks", "2026-11-25T22:00:00Z 2026-11-26T02:00:00Z disks"),
            ("fri 22:00 to sat 02:00 disks to be", "2026-11-27T22:00:00Z 2026-11-28T02:00:00Z disks to be"),
            ("fri 22:00 to 02:00 disks", "2026-11-27T22:00:00Z 2026-11-28T02:00:00Z disks"),
            ("2026-12-01T22:00 to 2026-12-02 02:00 x", "2026-12-01T22:00:00Z 2026-12-02T02:00:00Z x"),
            ("2026-12-01 22:00 for 90m x", "2026-12-01T22:00:00Z 2026-12-01T23:30:00Z x"),
            ("now for 1h say \"when\"", "2026-11-25T12:00:00Z 2026-11-25T13:00:00Z say \"when\""),
            ("Tue 22:00 to Thu 02:00 x", "2026-12-01T22:00:00Z 2026-12-03T02:00:00Z x"),
            ("now for 1h 30m x", "2026-11-25T12:00:00Z 2026-11-25T13:30:00Z x"),
        ] {
            assert_eq!(at(typed, NOON).as_deref(), Ok(means), "{typed}");
        }
    }

    /// Lisbon, 2026-03-29: 01:00 WET is followed by 02:00 WEST. 2026-10-25: 02:00 WEST is followed by 01:00 WET.
    #[test]
    fn a_changed_clock_makes_it_no_shorter() {
        let gap = "2026-03-28T12:00:00Z";
        assert_eq!(at("01:30 to 03:00 x", gap).as_deref(), Ok("2026-03-29T00:30:00Z 2026-03-29T02:00:00Z x"));
        assert_eq!(at("00:00 to 01:30 x", gap).as_deref(), Ok("2026-03-29T00:00:00Z 2026-03-29T01:30:00Z x"));
        let fold = "2026-10-24T12:00:00Z";
        assert_eq!(
            at("01:30 to 03:00 x", fold).as_deref(),
            Ok("2026-10-25T00:30:00Z 2026-10-25T03:00:00Z x")
        );
        assert_eq!(
            at("00:00 to 01:30 x", fold).as_deref(),
            Ok("2026-10-24T23:00:00Z 2026-10-25T01:30:00Z x")
        );
    }

    #[test]
    fn what_cannot_be_read_is_asked_for() {
        for (typed, says) in [
            ("", "from when"),
            ("soon to 23:30 x", "from when"),
            ("22:00 x", "until when"),
            ("22:00 to later x", "until when"),
            ("22:00 for ever x", "until when"),
            ("2026-11-24 22:00 to 23:30 x", "is over already"),
            ("2026-12-01 22:00 to 2026-12-01 21:00 x", "before it begins"),
            ("2028-12-01 22:00 for 1h x", "more than a year"),
            ("now for 40d x", "longer than a month"),
            ("22:00 to 23:30", "And why?"),
        ] {
            let said = at(typed, NOON).expect_err(typed);
            assert!(said.contains(says), "{typed}: {said}");
        }
    }

    #[test]
    fn one_is_called_off_by_its_beginning_and_why() {
        let (one, why) = which("2026-11-24 22:00 \"not ready\"").expect("a time and why");
        assert!(one.is_some_and(|one| matches!(one.begins.day, Day::On(_)) && one.ends.is_none()));
        assert_eq!(why.as_deref(), Some("not ready"));
        let (one, why) = which("fri 22:00 to sat 02:00 not ready").expect("two times and why");
        assert!(one.and_then(|one| one.ends).is_some_and(|ends| matches!(ends.day, Day::OfWeek(_))));
        assert_eq!(why.as_deref(), Some("not ready"));
        let (one, why) = which("22:00 to be done later").expect("a time and why");
        assert!(one.is_some_and(|one| one.ends.is_none()));
        assert_eq!(why.as_deref(), Some("to be done later"));
        assert_eq!(which("not ready"), Ok((None, Some("not ready".to_owned()))));
        assert_eq!(which(""), Ok((None, None)));
        assert_eq!(which("at 9 or so"), Err("at 9".to_owned()));
    }
}
