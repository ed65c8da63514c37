//! How one event becomes one line: for people, or as JSON with every id that it has, its own and those of the spans
//! around it, as a field of its own.
//!
//! Must not: let a known secret out, or know where lines go.

use std::fmt::{self, Write as _};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::LogFormat;
use crate::clock::Clock;
use crate::secret::Redactor;

/// What tracing calls the text of an event.
const MESSAGE: &str = "message";

/// Writes the line of each event.
pub struct Lines<W> {
    pub format: LogFormat,
    pub colour: bool,
    pub redactor: Redactor,
    pub clock: Clock,
    /// Takes a whole line with its end.
    pub write: W,
}

/// Names and values in the order in which they came; the latest value of a name counts.
#[derive(Clone, Debug, Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn put(&mut self, name: &'static str, value: Value) {
        // For traces alone.
        if name.starts_with("otel.") {
            return;
        }
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value.into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value.into());
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), format!("{value:?}").into());
    }
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Fn(&str) + Send + Sync + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(|spans| spans.from_root()) {
            for (name, value) in span.extensions().get::<Fields>().into_iter().flat_map(|fields| &fields.0) {
                fields.put(name, value.clone());
            }
        }
        // A span may have a field of that name, too; the text is the event's.
        fields.put(MESSAGE, "".into());
        event.record(&mut fields);
        let message = fields.0.iter().position(|(name, _)| *name == MESSAGE);
        let message = message.map_or(Value::Null, |at| fields.0.remove(at).1);
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        let line = match self.format {
            LogFormat::Json => self.json(level, target, message, fields),
            LogFormat::Text => self.text(level, &message, &fields),
        };
        (self.write)(&line);
    }
}

impl<W> Lines<W> {
    fn json(&self, level: Level, target: &str, message: Value, fields: Fields) -> String {
        let own = [
            ("timestamp", format!("{:.6}", self.clock.now()).into()),
            ("level", level.as_str().into()),
            ("target", target.into()),
            (MESSAGE, message),
        ];
        let mut line = String::from("{");
        // What a library calls by one of these names gives way.
        let taken = own.each_ref().map(|(name, _)| *name);
        let others = fields.0.into_iter().filter(|(name, _)| !taken.contains(name));
        for (at, (name, value)) in own.into_iter().chain(others).enumerate() {
            let comma = if at > 0 { "," } else { "" };
            // Value by value, before anything is escaped: a secret with a quote or a line end is found as it is.
            let _ = write!(line, "{comma}{}:{}", Value::from(name), self.redactor.redact_json(&value));
        }
        line + "}\n"
    }

    fn text(&self, level: Level, message: &Value, fields: &Fields) -> String {
        let [dim, off] = if self.colour { ["\x1b[2m", "\x1b[0m"] } else { [""; 2] };
        let colour = match level {
            _ if !self.colour => "",
            Level::ERROR => "\x1b[31m",
            Level::WARN => "\x1b[33m",
            Level::INFO => "\x1b[32m",
            Level::DEBUG => "\x1b[34m",
            Level::TRACE => "\x1b[35m",
        };
        let now = self.clock.now();
        let mut line = format!("{dim}{now:.6}{off} {colour}{level:>5}{off} {}", self.plain(message));
        let [dim, off] = if fields.0.is_empty() { [""; 2] } else { [dim, off] };
        line.push_str(dim);
        for (name, value) in &fields.0 {
            let _ = write!(line, " {name}={}", self.plain(value));
        }
        line.push_str(off);
        line.push('\n');
        line
    }

    /// As people read it. No control character reaches the terminal, and what looks like another line of the log is
    /// set in.
    fn plain(&self, value: &Value) -> String {
        let text = match value {
            Value::String(text) => self.redactor.redact(text).into_owned(),
            other => other.to_string(),
        };
        let mut plain = String::with_capacity(text.len());
        for c in text.trim_end().chars() {
            match c {
                '\n' => plain.push_str("\n    "),
                '\t' => plain.push(c),
                c if c.is_control() => plain.extend(c.escape_default()),
                c => plain.push(c),
            }
        }
        plain
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use jiff::Timestamp;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::ids::RunId;
    use crate::trace;

    /// What is written while `work` is at it.
    fn written(format: LogFormat, filter: &str, work: impl FnOnce()) -> String {
        let redactor = Redactor::new();
        redactor.learn("marker\"3141\nsecond line");
        let kept = Arc::new(Mutex::new(String::new()));
        let write = {
            let kept = Arc::clone(&kept);
            move |line: &str| kept.lock().expect("no panic").push_str(line)
        };
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let lines = Lines { format, colour: false, redactor, clock, write };
        let filter = super::super::filter(filter).expect("a filter");
        let subscriber =
            tracing_subscriber::registry().with(lines.with_filter(super::super::with_ids(filter)));
        tracing::subscriber::with_default(subscriber, work);
        kept.lock().expect("no panic").clone()
    }

    fn json(filter: &str, work: impl FnOnce()) -> Vec<Value> {
        let written = written(LogFormat::Json, filter, work);
        written.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    #[test]
    fn a_line_has_the_ids_of_all_that_it_is_inside_of_and_its_own() {
        let lines = json("info", || {
            let _run = trace::run(RunId(41), None).entered();
            tracing::info!("before");
            let card = "card".into();
            let of = trace::OfRun { run: RunId(41), card: &card };
            let _step = trace::step(of, "web", "swarm_service", trace::Act::Perform, 2).entered();
            tracing::warn!(run.id = "R-42", count = 3, flag = true, "inside {}", 1);
            tracing::debug!("left out");
        });
        assert_eq!(
            lines,
            [
                serde_json::json!({
                    "timestamp": "1970-01-01T00:00:00.000000Z", "level": "INFO", "message": "before",
                    "target": module_path!(), "run.id": "R-41",
                }),
                serde_json::json!({
                    "timestamp": "1970-01-01T00:00:00.000000Z", "level": "WARN", "message": "inside 1",
                    "target": module_path!(), "run.id": "R-42", "step.id": "web", "step.kind": "swarm_service",
                    "step.act": "perform", "step.attempt": 2, "count": 3, "flag": true,
                }),
            ]
        );
    }

    #[test]
    fn what_is_known_later_stands_in_the_lines_after_it() {
        let lines = json("info", || {
            let (message, room, user) = ("m".into(), "r".into(), "u".into());
            let cause = trace::Cause { message: &message, room: &room, user: &user };
            let _command = trace::command("deploy", cause).entered();
            tracing::info!("before");
            trace::about(RunId(7));
            tracing::info!("after");
        });
        assert_eq!(lines[0].get("run.id"), None);
        let ids = ["run.id", "message.id", "room.id", "user.id", "command.name"].map(|id| &lines[1][id]);
        assert_eq!(ids, ["R-7", "m", "r", "u", "deploy"]);
    }

    #[test]
    fn ids_are_there_whatever_the_log_leaves_out() {
        for filter in ["error", "houston::cli=error"] {
            let lines = json(filter, || {
                let _run = trace::run(RunId(41), None).entered();
                tracing::info!("left out");
                tracing::error!("said");
            });
            assert_eq!(lines.len(), 1, "{filter}");
            assert_eq!(lines[0]["run.id"], "R-41", "{filter}");
        }
    }

    #[test]
    fn a_secret_does_not_reach_the_log_however_it_is_spelled() {
        let work = || {
            let _request = trace::request("GET", "/marker\"3141\nsecond line").entered();
            let list = ["marker\"3141\nsecond line"];
            tracing::info!(?list, level = "mine", "token=marker\"3141\nsecond line, and second line");
        };
        let lines = json("info", work);
        assert_eq!(lines[0]["message"], "token=[redacted], and [redacted]");
        assert_eq!(lines[0]["list"], "[\"[redacted]\"]");
        assert_eq!(lines[0]["request.path"], "/[redacted]");
        assert_eq!(lines[0]["level"], "INFO");
        let text = written(LogFormat::Text, "info", work);
        assert!(text.contains(" INFO token=[redacted], and [redacted]") && !text.contains("3141"), "{text}");
    }

    #[test]
    fn nobody_forges_a_line_for_people() {
        let text = written(LogFormat::Text, "info", || {
            tracing::info!(run.id = %RunId(1), "one\n2026-01-01T00:00:00Z  INFO two\x1b[2J\u{9b}");
        });
        let wanted = "1970-01-01T00:00:00.000000Z  INFO one\n    2026-01-01T00:00:00Z  INFO \
                      two\\u{1b}[2J\\u{9b} run.id=R-1\n";
        assert_eq!(text, wanted);
    }
}
