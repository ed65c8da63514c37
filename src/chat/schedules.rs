//! How schedules read: what became of a time, in the room; how each stands, in a list. Pure.
//!
//! Must not: leave anybody to guess whether something ran.

pub mod list;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::runs::event::{OfSchedule, Outcome};
use crate::runs::schedules::{Absence, Became, Told};
use crate::runs::state::RunState;
use crate::text::{code, defuse, plain_and_list, typed};

/// Of missed times so many are named.
const MOST_NAMED: usize = 3;

/// `@carol @bob`, or its own name where nobody is to be told.
pub(super) fn mentions(of: &OfSchedule) -> String {
    if of.tell.is_empty() {
        return format!("*{}*", defuse(of.name.as_str()));
    }
    // The mentions that are meant.
    of.tell.iter().map(|name| format!("@{name}")).collect::<Vec<_>>().join(" ")
}

/// Puts it under the first line of a run's message: nobody typed that command.
pub(super) fn around(run: &RunState, message: String) -> String {
    let Some(of) = &run.origin.schedule else { return message };
    let name = defuse(of.name.as_str());
    let by = match run.by.as_schedule() {
        Some(_) => match &run.plan.standing {
            Some(standing) => format!(", allowed by {}", defuse(&standing.given)),
            None => String::new(),
        },
        None => format!(", by hand for {}", defuse(&run.by.username)),
    };
    match message.split_once('\n') {
        Some((head, rest)) => format!("{head}\n:alarm_clock: schedule *{name}*{by}\n{rest}"),
        None => format!("{message}\n:alarm_clock: schedule *{name}*{by}"),
    }
}

/// Whether a run needs no word of its own beside its message: nobody asked for it, and all went well.
pub(super) fn is_as_usual(run: &RunState) -> bool {
    run.by.as_schedule().is_some() && run.outcome() == Some(Outcome::Succeeded)
}

/// To the room: what became of a time, where that is not what everybody expects.
pub(super) fn told(told: &Told) -> String {
    let zone = TimeZone::get(&told.zone).unwrap_or(TimeZone::UTC);
    let at = |moment: Timestamp| moment.to_zoned(zone.clone());
    let fire = &told.fire;
    let now = at(fire.at);
    let head = format!("*{}* ({})", defuse(told.schedule.as_str()), typed(&told.command));
    let due = when(&at(fire.due), &now);
    let missed = missed(told, &now, &zone);
    let why = told.why.as_ref().map(|why| format!(": {}", absence(why, &zone))).unwrap_or_default();
    let next = if told.next == Timestamp::MAX {
        String::new()
    } else {
        format!(" Next: {}.", when(&at(told.next), &now))
    };
    let alarm = if told.tell.is_empty() {
        String::new()
    } else {
        told.tell.iter().map(|name| format!("@{name} ")).collect()
    };
    match (&fire.became, missed) {
        (Became::Run(run), Some(missed)) => {
            let once =
                if told.missed.len() + usize::from(told.late) > 1 { ", once for all of them" } else { "" };
            let at = when(&now, &now);
            let zone = &told.zone;
            format!(
                ":alarm_clock: {head} did not run at {missed} ({zone}){why}. It ran at {at} as *{run}*{once}.{next}"
            )
        }
        (Became::NothingToDo, Some(missed)) => format!(
            ":alarm_clock: {head} did not run at {missed} ({}){why}. There was nothing to do at {}.{next}",
            told.zone,
            when(&now, &now),
        ),
        (Became::TooLate, missed) => format!(
            "{alarm}:alarm_clock: {head} did not run at {} ({}){why}. That is too long ago to make up for it (`catch_up`); {} has it run now.{next}",
            missed.unwrap_or(due),
            told.zone,
            run_now(told),
        ),
        (Became::Unknown, missed) => format!(
            "{alarm}:warning: {head} was due at {} ({}), and whether it ran I do not know: my state is of before, or another Houston acted then. I do not make up for it; {} has it run now.{next}",
            missed.unwrap_or(due),
            told.zone,
            run_now(told),
        ),
        (Became::Overlapped(run), missed) => format!(
            "{alarm}:alarm_clock: {head} did not run at {} ({}): *{run}*, its run before, is not done. `!show {run}` says what it needs.{next}",
            missed.unwrap_or(due),
            told.zone,
        ),
        (Became::Refused(text), missed) => {
            let late = missed.map(|missed| format!("It did not run at {missed} ({}){why}. ", told.zone));
            format!(
                "{alarm}:alarm_clock: {head}, due at {due} ({}). {}{text}{next}",
                told.zone,
                late.unwrap_or_default()
            )
        }
        // Not said.
        (Became::Run(_) | Became::NothingToDo, None) => String::new(),
    }
}

fn run_now(told: &Told) -> String {
    code(&format!("!schedules run {}", told.schedule))
}

/// `Thu 01:30 and Fri 01:30`; `None`: nothing was missed.
fn missed(told: &Told, now: &Zoned, zone: &TimeZone) -> Option<String> {
    let due = told.late.then_some(told.fire.due);
    let all: Vec<Timestamp> = told.missed.iter().copied().chain(due).collect();
    let named = all.iter().rev().take(MOST_NAMED).rev();
    let mut named: Vec<String> = named.map(|at| when(&at.to_zoned(zone.clone()), now)).collect();
    match all.len().saturating_sub(MOST_NAMED) {
        _ if all.is_empty() => return None,
        0 if !told.more => {}
        _ if told.more => named.insert(0, format!("more than {} times before", all.len() - MOST_NAMED)),
        1 => named.insert(0, "once before".to_owned()),
        more => named.insert(0, format!("{more} times before")),
    }
    Some(plain_and_list(&named))
}

fn absence(why: &Absence, zone: &TimeZone) -> String {
    let span = |from: &Timestamp, to: &Timestamp| {
        let (from, to) = (from.to_zoned(zone.clone()), to.to_zoned(zone.clone()));
        let day = |at: &Zoned| at.strftime("%a %-d %b %H:%M").to_string();
        if from.date() == to.date() {
            format!("{}–{}", from.strftime("%H:%M"), to.strftime("%H:%M"))
        } else {
            format!("{} – {}", day(&from), day(&to))
        }
    };
    match why {
        Absence::Down { from, to } => format!("I was down {}", span(from, to)),
        Absence::Asleep { from, to } => {
            format!("this machine slept, or its clock was set on, {}", span(from, to))
        }
        Absence::MightNotAct => "I did not know whether another Houston acts".to_owned(),
        Absence::HeldUp => "I could not look at what it would do any sooner".to_owned(),
    }
}

/// `01:30`, with its day when that is another one.
fn when(at: &Zoned, now: &Zoned) -> String {
    let pattern = if at.date() == now.date() {
        "%H:%M"
    } else if at.year() == now.year() {
        "%a %-d %b %H:%M"
    } else {
        "%a %-d %b %Y %H:%M"
    };
    at.strftime(pattern).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::RunId;
    use crate::runs::schedules::Fire;

    fn time(at: &str) -> Timestamp {
        at.parse().expect("a time")
    }

    fn of(became: Became, missed: &[&str], why: Option<Absence>) -> String {
        told(&Told {
            schedule: "nightly".into(),
            command: "deploy staging web".to_owned(),
            zone: "Europe/Lisbon".to_owned(),
            fire: Fire {
                due: time("2026-11-26T01:30:00Z"),
                at: time("2026-11-26T02:21:00Z"),
                by: None,
                became,
            },
            missed: missed.iter().map(|at| time(at)).collect(),
            more: false,
            late: why.is_some(),
            why,
            next: time("2026-11-27T01:30:00Z"),
            tell: Vec::new(),
        })
    }

    #[test]
    fn what_was_missed_says_when_why_and_what_became_of_it() {
        let down =
            || Some(Absence::Down { from: time("2026-11-26T01:10:00Z"), to: time("2026-11-26T02:20:00Z") });
        assert_eq!(
            of(Became::Run(RunId(12)), &[], down()),
            ":alarm_clock: *nightly* (`deploy staging web`) did not run at 01:30 (Europe/Lisbon): I was down \
             01:10–02:20. It ran at 02:21 as *R-12*. Next: Fri 27 Nov 01:30."
        );
        let two = of(Became::Run(RunId(12)), &["2026-11-25T01:30:00Z"], down());
        assert!(two.contains("did not run at Wed 25 Nov 01:30 and 01:30 (Europe/Lisbon)"), "{two}");
        assert!(two.contains("as *R-12*, once for all of them."), "{two}");
        let overlapped = of(Became::Overlapped(RunId(7)), &[], None);
        assert!(
            overlapped.contains("did not run at 01:30 (Europe/Lisbon): *R-7*, its run before, is not done"),
            "{overlapped}"
        );
        let late = of(Became::TooLate, &[], down());
        assert!(late.contains("too long ago") && late.contains("`!schedules run nightly`"), "{late}");
    }
}
