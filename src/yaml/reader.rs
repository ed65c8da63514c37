//! Taking nodes apart with an expectation: what does not fit is reported with its place, and the reader
//! goes on.
//!
//! Must not: know what any key means.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value as Json;

use super::{Key, Node, Value};
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::secret::SecretRef;
use crate::text;

impl Node {
    /// What was written, for messages: `the number 7`, `a list`.
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".into(),
            Value::Bool(b) => format!("`{b}`"),
            Value::Integer(_, written) | Value::Float(_, written) => format!("the number {written}"),
            Value::Text(text) => format!("`{}`", text::ellipsis(text, 60)),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a mapping".into(),
        }
    }

    /// Reports that something else was expected: ``\`replicas\` takes a number, not `three` ``.
    pub fn expected(&self, what: impl Display) -> Diagnostic {
        Diagnostic::error(self.at.clone(), format!("`{}` takes {what}, not {}", self.label, self.describe()))
    }

    pub fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// Text that is not empty. A number is refused with the hint to quote it.
    pub fn text(&self, found: &mut Diagnostics) -> Option<&str> {
        match &self.value {
            Value::Text(text) if !text.trim().is_empty() => return Some(text),
            Value::Integer(_, written) | Value::Float(_, written) => {
                found.push(self.expected("text").hint(format!("quote it: \"{written}\"")));
            }
            Value::Bool(b) => found.push(self.expected("text").hint(format!("quote it: \"{b}\""))),
            Value::Text(_) => {
                found.push(Diagnostic::error(self.at.clone(), format!("`{}` is empty", self.label)));
            }
            Value::Null | Value::List(_) | Value::Map(_) => found.push(self.expected("text")),
        }
        None
    }

    /// Text, without blanks around it; of anything else nothing is said.
    pub fn word(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text.trim()),
            _ => None,
        }
    }

    /// Text, or a number or truth value as it was written: values of environment variables.
    pub fn scalar(&self, found: &mut Diagnostics) -> Option<String> {
        match &self.value {
            Value::Text(text) => Some(text.clone()),
            Value::Integer(_, written) | Value::Float(_, written) => Some(written.clone()),
            Value::Bool(b) => Some(b.to_string()),
            Value::Null | Value::List(_) | Value::Map(_) => {
                found.push(self.expected("one value"));
                None
            }
        }
    }

    pub fn integer(&self, range: RangeInclusive<i64>, found: &mut Diagnostics) -> Option<i64> {
        match &self.value {
            Value::Integer(n, _) if range.contains(n) => Some(*n),
            _ => {
                found.push(self.expected(format_args!(
                    "a whole number from {} to {}",
                    range.start(),
                    range.end()
                )));
                None
            }
        }
    }

    pub fn ratio(&self, found: &mut Diagnostics) -> Option<f64> {
        match &self.value {
            Value::Integer(n @ (0 | 1), _) => Some(*n as f64),
            Value::Float(f, _) if (0.0..=1.0).contains(f) => Some(*f),
            _ => {
                found.push(self.expected("a share from 0 to 1, such as 0.25"));
                None
            }
        }
    }

    pub fn boolean(&self, found: &mut Diagnostics) -> Option<bool> {
        match &self.value {
            Value::Bool(b) => Some(*b),
            _ => {
                found.push(self.expected("`true` or `false`"));
                None
            }
        }
    }

    /// `30s`, `10m`, `2h`, `1d`, within `range`.
    pub fn duration(&self, range: RangeInclusive<Duration>, found: &mut Diagnostics) -> Option<Duration> {
        let limits = || {
            format!("a duration from {} to {}", text::duration(*range.start()), text::duration(*range.end()))
        };
        let read = match &self.value {
            Value::Text(written) => text::parse_duration(written),
            _ => None,
        };
        match read {
            Some(d) if range.contains(&d) => Some(d),
            Some(_) => {
                found.push(self.expected(limits()));
                None
            }
            None => {
                let mut finding = self.expected(limits());
                finding = match &self.value {
                    Value::Integer(_, n) => finding.hint(format!("write the unit: {n}s, {n}m or {n}h")),
                    _ => finding.hint("write it as 30s, 10m, 2h or 1d"),
                };
                found.push(finding);
                None
            }
        }
    }

    /// One of the words of `choices`.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)], found: &mut Diagnostics) -> Option<T> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let written = match &self.value {
            Value::Text(written) => written.as_str(),
            _ => "",
        };
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == written) {
            return Some(*value);
        }
        let mut finding = self.expected(text::or_list(&words));
        if let Some(meant) = text::did_you_mean(written, words.iter().copied()) {
            finding = finding.hint(format!("did you mean `{meant}`?"));
        }
        found.push(finding);
        None
    }

    pub fn list(&self, found: &mut Diagnostics) -> Option<&[Node]> {
        match &self.value {
            Value::List(items) => Some(items),
            _ => {
                let mut finding = self.expected("a list");
                if let Value::Text(text) = &self.value {
                    finding = finding.hint(format!("write [{text}]"));
                }
                found.push(finding);
                None
            }
        }
    }

    /// A list of texts; items that are none are reported and left out.
    pub fn texts(&self, found: &mut Diagnostics) -> Option<Vec<(String, Location)>> {
        let items = self.list(found)?;
        Some(items.iter().filter_map(|i| Some((i.text(found)?.to_owned(), i.at.clone()))).collect())
    }

    /// As [`Node::texts`], where one text alone is a list of one.
    pub fn one_or_more_texts(&self, found: &mut Diagnostics) -> Option<Vec<(String, Location)>> {
        match &self.value {
            Value::Text(_) => Some(vec![(self.text(found)?.to_owned(), self.at.clone())]),
            _ => self.texts(found),
        }
    }

    /// argv: a list of strings, never a shell string. Numbers count as written.
    pub fn argv(&self, found: &mut Diagnostics) -> Option<Vec<String>> {
        let Value::List(items) = &self.value else {
            let mut finding = self.expected("a list of arguments");
            if let Value::Text(line) = &self.value {
                let words: Vec<&str> = line.split_whitespace().collect();
                finding = finding.hint(format!(
                    "write [{}]: no shell reads this, so nothing has to be escaped",
                    words.join(", ")
                ));
            }
            found.push(finding);
            return None;
        };
        if items.is_empty() {
            found.push(Diagnostic::error(self.at.clone(), format!("`{}` is empty", self.label)));
            return None;
        }
        Some(items.iter().filter_map(|i| i.scalar(found)).collect())
    }

    /// A reference to a secret. A value in its place is refused, and not repeated in the message.
    pub fn secret(&self, found: &mut Diagnostics) -> Option<SecretRef> {
        let Value::Map(_) = &self.value else {
            found.push(
                Diagnostic::error(
                    self.at.clone(),
                    format!("`{}` must be a reference to a secret, not the secret itself", self.label),
                )
                .confidential()
                .hint("write {file: PATH}, {env: NAME} or {command: [PROGRAM, ARGUMENT]}")
                .hint("if a real secret was written here, treat it as known and replace it"),
            );
            return None;
        };
        let mut map = self.map(found)?;
        let file = map.take("file").and_then(|n| n.text(found)).map(|p| SecretRef::File(PathBuf::from(p)));
        let env = map.take("env").and_then(|n| n.text(found)).map(|v| SecretRef::Env(v.to_owned()));
        let command = map.take("command").and_then(|n| n.argv(found)).map(SecretRef::Command);
        let given = map.given();
        map.finish(found);
        let mut references = [file, env, command].into_iter().flatten();
        match (references.next(), references.next()) {
            (Some(reference), None) => Some(reference),
            (None, None) if given > 0 => None,
            _ => {
                found.push(
                    Diagnostic::error(
                        self.at.clone(),
                        format!("`{}` needs exactly one of `file`, `env` and `command`", self.label),
                    )
                    .hint("write {file: PATH}, {env: NAME} or {command: [PROGRAM, ARGUMENT]}"),
                );
                None
            }
        }
    }

    /// A mapping whose keys the caller knows: take them, then [`Map::finish`].
    pub fn map(&self, found: &mut Diagnostics) -> Option<Map<'_>> {
        Some(Map { at: &self.at, label: &self.label, entries: self.entries(found)?, known: Vec::new() })
    }

    /// A mapping whose keys are names that the file makes up.
    pub fn entries(&self, found: &mut Diagnostics) -> Option<&[(Key, Node)]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => {
                found.push(self.expected("a mapping"));
                None
            }
        }
    }

    /// Plain data, for parameters of step kinds.
    pub fn json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Integer(n, _) => Json::from(*n),
            Value::Float(f, _) => serde_json::Number::from_f64(*f).map_or(Json::Null, Json::Number),
            Value::Text(text) => Json::String(text.clone()),
            Value::List(items) => Json::Array(items.iter().map(Self::json).collect()),
            Value::Map(entries) => {
                Json::Object(entries.iter().map(|(k, v)| (k.name.to_string(), v.json())).collect())
            }
        }
    }
}

/// A mapping that is being taken apart. What nobody took is unknown.
pub struct Map<'n> {
    pub at: &'n Location,
    label: &'n str,
    entries: &'n [(Key, Node)],
    known: Vec<&'static str>,
}

impl<'n> Map<'n> {
    /// The value under `key`; a key without a value counts as absent.
    pub fn take(&mut self, key: &'static str) -> Option<&'n Node> {
        self.known.push(key);
        self.entries.iter().find(|(k, _)| &*k.name == key).map(|(_, node)| node).filter(|n| !n.is_null())
    }

    /// As [`Map::take`], and reports that it is missing.
    pub fn need(&mut self, key: &'static str, hint: &str, found: &mut Diagnostics) -> Option<&'n Node> {
        let node = self.take(key);
        if node.is_none() {
            let place = self.entries.iter().find(|(k, _)| &*k.name == key).map_or(self.at, |(k, _)| &k.at);
            let mut finding =
                Diagnostic::error(place.clone(), format!("`{key}` is missing in {}", self.what()));
            if !hint.is_empty() {
                finding = finding.hint(hint);
            }
            found.push(finding);
        }
        node
    }

    fn what(&self) -> String {
        if self.label == "the file" { "the file".into() } else { format!("`{}`", self.label) }
    }

    /// How many keys with a value stand in it.
    pub fn given(&self) -> usize {
        self.entries.iter().filter(|(_, node)| !node.is_null()).count()
    }

    /// Where `key` itself stands.
    pub fn key_at(&self, key: &str) -> Option<Location> {
        self.entries.iter().find(|(k, _)| &*k.name == key).map(|(k, _)| k.at.clone())
    }

    /// What was not taken, without reporting it.
    pub fn rest(&self) -> impl Iterator<Item = &'n (Key, Node)> + use<'n, '_> {
        self.entries.iter().filter(|(k, _)| !self.known.iter().any(|known| *known == &*k.name))
    }

    /// Reports every key that nobody took.
    pub fn finish(self, found: &mut Diagnostics) {
        for (key, _) in self.rest() {
            let finding =
                Diagnostic::error(key.at.clone(), format!("unknown key `{}` in {}", key.name, self.what()));
            found.push(match text::did_you_mean(&key.name, self.known.iter().copied()) {
                Some(meant) => finding.hint(format!("did you mean `{meant}`?")),
                None => finding.hint(format!("known keys: {}", text::plain_and_list(&self.known))),
            });
        }
    }
}
