//! Built-ins for freezes: times in which nothing that changes an environment begins.
//!
//! Must not: touch a run that has started.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::Call;
use crate::config::window::{Day, Moment, how_long, in_a_while, words};
use crate::ids::EnvName;
use crate::runs::freezes::{Frozen, ManualFreeze};
use crate::text::{self, code, plain_and_list, said};

/// Whatever is longer is a mistake, or belongs into the environment's file.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

const WHEN: &str = "a time (`17:00`, `fri 17:00`, `2026-11-27 17:00`) or how long (`3h`)";

pub(super) async fn freeze(call: &Call<'_>) -> String {
    let parts = &call.dispatcher.parts;
    let Some(environment) = environment(call) else { return "Which environment?".to_owned() };
    let zone = zone(call, &environment);
    let now = parts.clock.now();
    let (until, reason) =
        match until_and_reason(call.bound.values.text("when").unwrap_or_default(), now, &zone) {
            Ok(found) => found,
            Err(text) => return text,
        };
    let standing =
        parts.engine.manual_freezes().await.into_iter().find(|freeze| freeze.environment == environment);
    if let Some(other) = standing.as_ref().filter(|freeze| freeze.by.id != call.cause.by.id) {
        return format!("{}. `!unfreeze {environment}` first.", Frozen::by_hand(other).describe());
    }
    let freeze = ManualFreeze {
        environment: environment.clone(),
        by: call.cause.by.clone(),
        reason,
        at: now,
        until: until.clone(),
    };
    let freeze = match parts.engine.freeze(freeze, call.asked()).await {
        Ok(freeze) => freeze,
        Err(error) => return error.to_string(),
    };
    let again = if standing.is_some() { "now " } else { "" };
    format!(
        ":snowflake: {} is {again}frozen until {}: {}. Nothing that changes it begins before; `!unfreeze {environment}` ends it.{}",
        code(environment.as_str()),
        words(&until),
        said(&freeze.reason),
        others(call, &environment).await
    )
}

pub(super) async fn unfreeze(call: &Call<'_>) -> String {
    let parts = &call.dispatcher.parts;
    let Some(environment) = environment(call) else { return "Which environment?".to_owned() };
    let named = code(environment.as_str());
    let removed = match parts.engine.unfreeze(&environment, call.asked()).await {
        Ok(removed) => removed,
        Err(error) => return error.to_string(),
    };
    let remaining = parts.engine.frozen([&environment], false).await;
    let Some(freeze) = removed else {
        return match remaining {
            Some(frozen) => format!("{}. {}", frozen.describe(), frozen.way_out()),
            None => format!("{named} is not frozen."),
        };
    };
    let whose = if freeze.by.id == call.cause.by.id {
        String::new()
    } else {
        format!(" @{}, it was yours.", freeze.by.username)
    };
    match remaining {
        Some(frozen) => {
            format!("That freeze is over.{whose} Still, {}. {}", frozen.describe(), frozen.way_out())
        }
        None => format!(":sunny: {named} is not frozen any more.{whose}"),
    }
}

fn environment(call: &Call<'_>) -> Option<EnvName> {
    call.bound.values.text("environment").map(EnvName::from)
}

fn zone(call: &Call<'_>, environment: &EnvName) -> TimeZone {
    call.config.environments.get(environment).map_or(TimeZone::UTC, |found| found.time_zone.clone())
}

/// Which runs of the environment go on, and which wait.
async fn others(call: &Call<'_>, environment: &EnvName) -> String {
    let (mut moving, mut waiting, mut broken) = (Vec::new(), Vec::new(), Vec::new());
    for run in call.dispatcher.parts.engine.open_runs().await {
        if !run.plan.locks.iter().any(|lock| lock.environment == *environment) {
            continue;
        }
        match (run.holds_locks(), run.plan.break_glass.is_some()) {
            (true, _) => moving.push(run.id.to_string()),
            (false, false) => waiting.push(run.id.to_string()),
            (false, true) => broken.push(run.id.to_string()),
        }
    }
    let mut text = String::new();
    if !moving.is_empty() {
        text.push_str(&format!(" Under way, not held up by it: {}.", plain_and_list(&moving)));
    }
    if !waiting.is_empty() {
        text.push_str(&format!(" Held up until then: {}.", plain_and_list(&waiting)));
    }
    for run in broken {
        text.push_str(&format!(
            " {run} broke the glass and goes through it: `!cancel {run}` takes it out of the queue."
        ));
    }
    text
}

/// `17:00 reason`, `fri 17:00 reason`, `2026-11-27 17:00 reason`, `3h reason`.
pub(super) fn until_and_reason(
    typed: &str,
    now: Timestamp,
    zone: &TimeZone,
) -> Result<(Zoned, String), String> {
    let words: Vec<&str> = typed.split_whitespace().collect();
    let mut read = None;
    for taken in [2, 1] {
        let Some(head) = words.get(..taken) else { continue };
        if let Some(moment) = Moment::parse(&head.join(" ")) {
            let at = moment.after(now, zone).ok_or_else(|| match moment.day {
                Day::On(_) => format!("{} is over already: say {WHEN}.", text::typed(&head.join(" "))),
                _ => format!("There is no {} ahead: say {WHEN}.", text::typed(&head.join(" "))),
            })?;
            read = Some((at, taken));
            break;
        }
    }
    if read.is_none()
        && let Some((away, taken)) = how_long(&words)
    {
        let too_long = || format!("That is longer than a year: say {WHEN}.");
        let away = Some(away).filter(|away| *away <= LONGEST).ok_or_else(too_long)?;
        read = Some((in_a_while(now, away, zone).ok_or_else(too_long)?, taken));
    }
    let Some((until, taken)) = read else {
        return Err(format!("I cannot tell until when: say {WHEN}, then why."));
    };
    if until.timestamp() > now.checked_add(LONGEST).unwrap_or(Timestamp::MAX) {
        return Err(format!("That is more than a year ahead: say {WHEN}."));
    }
    let reason = words[taken..].join(" ");
    if reason.is_empty() {
        return Err("And why? Whoever is refused reads the reason: say it after the time.".to_owned());
    }
    Ok((until, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(typed: &str) -> Result<(String, String), String> {
        let now: Timestamp = "2026-11-25T12:00:00Z".parse().expect("a time");
        let zone = TimeZone::get("America/New_York").expect("a zone");
        until_and_reason(typed, now, &zone).map(|(until, reason)| (until.timestamp().to_string(), reason))
    }

    #[test]
    fn a_time_is_read_in_the_environments_zone_and_the_rest_is_the_reason() {
        for (typed, until) in [
            ("17:00 black friday", "2026-11-25T22:00:00Z"),
            ("07:00 black friday", "2026-11-26T12:00:00Z"),
            ("fri 17:00 black friday", "2026-11-27T22:00:00Z"),
            ("2026-11-27 17:00 black friday", "2026-11-27T22:00:00Z"),
            ("2026-11-27T17:00 black friday", "2026-11-27T22:00:00Z"),
            ("3h black friday", "2026-11-25T15:00:00Z"),
            ("1d12h black friday", "2026-11-27T00:00:00Z"),
            ("1d 12h black friday", "2026-11-27T00:00:00Z"),
            ("Thu 17:00 black friday", "2026-11-26T22:00:00Z"),
        ] {
            assert_eq!(read(typed), Ok((until.to_owned(), "black friday".to_owned())), "{typed}");
        }
        assert_eq!(
            read("3h 17:00 is too late").map(|(_, reason)| reason),
            Ok("17:00 is too late".to_owned())
        );
    }

    #[test]
    fn what_cannot_be_read_is_asked_for() {
        for (typed, says) in [
            ("", "until when"),
            ("tomorrow because", "until when"),
            ("0s because", "until when"),
            ("2026-11-27 because", "until when"),
            ("2026-11-24 17:00 because", "is over already"),
            ("400d because", "longer than a year"),
            ("2028-11-24 17:00 because", "more than a year"),
            ("17:00", "And why?"),
        ] {
            let said = read(typed).expect_err(typed);
            assert!(said.contains(says), "{typed}: {said}");
        }
    }
}
