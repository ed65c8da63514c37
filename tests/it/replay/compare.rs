//! A recorded answer beside the one of today: the names of the one mapped to those of the other, then every
//! key, text, number and length compared. Must not: talk to the sandbox.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::exceptions::{LOOSE, UNORDERED};

/// Keys whose texts name something that each server calls by a name of its own.
const NAMES: &[&str] = &[
    "_id",
    "id",
    "rid",
    "authToken",
    "token",
    "fileId",
    "channel",
    "teamId",
    "roomId",
    "drid",
    "prid",
    "tmid",
    "session",
    "lastTokenPart",
];

/// What differs so far.
pub struct Compare {
    pub scenario: &'static str,
    /// Whose ids are the same then and now.
    fixed: Vec<&'static str>,
    /// From what the recording calls something to what it is called today.
    pub names: BTreeMap<String, String>,
    pub differences: Vec<String>,
    /// Which of [`LOOSE`] were needed.
    pub used: BTreeSet<usize>,
}

/// Replaces what stands for a long text: `{{x*5001}}`.
fn unfold(text: &str) -> String {
    let Some((before, rest)) = text.split_once("{{") else { return text.to_owned() };
    let Some((inner, after)) = rest.split_once("}}") else { return text.to_owned() };
    let Some((unit, times)) = inner.rsplit_once('*') else { return text.to_owned() };
    let Ok(times) = times.parse() else { return text.to_owned() };
    format!("{before}{}{}", unit.repeat(times), unfold(after))
}

/// How long one has to wait is by when the server began with the calls before, which no recording has.
fn same_but_for_the_wait(then: &str, now: &str) -> bool {
    let around = |text: &str| {
        let (before, rest) = text.split_once("You must wait ")?;
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        Some((before.to_owned(), rest.to_owned()))
    };
    around(then).is_some() && around(then) == around(now)
}

fn is_date(text: &str) -> bool {
    text.parse::<jiff::Timestamp>().is_ok() || text.len() == 13 && text.bytes().all(|b| b.is_ascii_digit())
}

impl Compare {
    pub fn new(scenario: &'static str, fixed: Vec<&'static str>) -> Self {
        let (names, differences, used) = Default::default();
        Self { scenario, fixed, names, differences, used }
    }

    pub fn today_text(&self, text: &str) -> String {
        let mut text = unfold(text);
        if text.chars().count() < 4000 {
            for (then, now) in &self.names {
                text = text.replace(then, now);
            }
        }
        text
    }

    pub fn today(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.today_text(text).into(),
            Value::Array(list) => list.iter().map(|value| self.today(value)).collect(),
            Value::Object(doc) => {
                doc.iter().map(|(key, value)| (self.today_text(key), self.today(value))).collect()
            }
            other => other.clone(),
        }
    }

    /// Learns the names of today by going through a recorded value and its answer side by side.
    pub fn learn(&mut self, then: &Value, now: &Value) {
        match (then, now) {
            (Value::Object(then), Value::Object(now)) => {
                for (key, then) in then {
                    let Some(now) = now.get(key) else { continue };
                    if let (Value::String(then), Value::String(now)) = (then, now) {
                        self.learn_name(key, then, now);
                    } else {
                        self.learn(then, now);
                    }
                }
            }
            (Value::Array(then), Value::Array(now)) if then.len() == now.len() => {
                then.iter().zip(now).for_each(|(then, now)| self.learn(then, now));
            }
            _ => {}
        }
    }

    fn learn_name(&mut self, key: &str, then: &str, now: &str) {
        let is_fixed = self.fixed.contains(&then) || ["REDACTED", "GENERAL"].contains(&then);
        // The name of a discussion is an id too.
        let is_random = |text: &str| text.len() == 17 && text.bytes().all(|b| b.is_ascii_alphanumeric());
        let is_name =
            NAMES.contains(&key) || ["name", "roomName"].contains(&key) && is_random(then) && is_random(now);
        if is_name && !is_fixed && then.len() >= 5 && then != now {
            self.names.entry(then.to_owned()).or_insert_with(|| now.to_owned());
        }
    }

    pub fn note(&mut self, what: &str, difference: &str) {
        self.differences.push(format!("{}/{what}: {difference}", self.scenario));
    }

    fn is_loose(&mut self, what: &str, path: &str) -> bool {
        let found = LOOSE.iter().position(|(scenario, call, loose, _)| {
            ["", self.scenario].contains(scenario) && (call.is_empty() || *call == what) && {
                if scenario.is_empty() { path.ends_with(loose) } else { path == *loose }
            }
        });
        self.used.extend(found);
        found.is_some()
    }

    /// Notes every difference of two values at `path` of an answer.
    pub fn differ(&mut self, what: &str, path: &str, then: &Value, now: &Value) {
        if self.is_loose(what, path) {
            return;
        }
        match (then, now) {
            (Value::Object(then), Value::Object(now)) => {
                let then: BTreeMap<String, &Value> =
                    then.iter().map(|(key, value)| (self.today_text(key), value)).collect();
                let keys: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
                for key in keys {
                    let path = format!("{path}.{key}");
                    match (then.get(key), now.get(key)) {
                        (Some(then), Some(now)) => self.differ(what, &path, then, now),
                        _ if self.is_loose(what, &path) => {}
                        (Some(then), None) => self.note(what, &format!("lacks {path} = {then}")),
                        (None, now) => self.note(what, &format!("has {path} = {now:?} besides")),
                    }
                }
            }
            (Value::Array(then), Value::Array(now)) => self.differ_lists(what, path, then, now),
            (Value::String(then), Value::String(now)) => {
                let then = self.today_text(then);
                if same_but_for_the_wait(&then, now) {
                    return;
                }
                if then != *now && !(is_date(&then) && is_date(now)) {
                    self.note(what, &format!("{path} is {now:?}, not {then:?}"));
                }
            }
            (Value::Number(_), Value::Number(_)) if path.ends_with(".$date") => {}
            (Value::Number(then), Value::Number(now))
                if is_date(&then.to_string()) && is_date(&now.to_string()) => {}
            (then, now) if then != now => self.note(what, &format!("{path} is {now}, not {then}")),
            _ => {}
        }
    }

    fn differ_lists(&mut self, what: &str, path: &str, then: &[Value], now: &[Value]) {
        let path = format!("{path}[]");
        if then.len() != now.len() && !self.is_loose(what, &format!("{path}.length")) {
            let (then, now) = (Value::from(then), Value::from(now));
            self.note(what, &format!("{path} is {now}, not {then}"));
            return;
        }
        let is_unordered =
            UNORDERED.iter().any(|(scenario, call, ..)| *scenario == self.scenario && *call == what);
        let (mut then, mut now): (Vec<_>, Vec<_>) = (then.iter().collect(), now.iter().collect());
        if is_unordered && then.iter().all(|one| one["_id"].is_string()) {
            then.sort_by_cached_key(|one| self.today(&one["_id"]).to_string());
            now.sort_by_cached_key(|one| one["_id"].to_string());
        }
        for (then, now) in then.into_iter().zip(now) {
            self.differ(what, &path, then, now);
        }
    }
}
