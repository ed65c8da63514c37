//! The log: standard error, one line an event, every line redacted on its way out.
//!
//! Must not: be set up twice in one process (tests do not set it up at all).

use std::io::{self, Write as _};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::out;
use crate::secret::Redactor;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// How a filter is written, for whoever wrote one that is none.
pub const VALID: &str = "write a level (`error`, `warn`, `info`, `debug`, `trace`), or parts with theirs: \
                         `houston=debug,warn`, `houston::runs=trace,info`";

/// What `HOUSTON_LOG` says, and why that is no filter.
#[derive(Debug, thiserror::Error)]
#[error("`HOUSTON_LOG` is `{written}`, which is no filter: {why}")]
pub struct BadFilter {
    written: String,
    why: String,
}

/// The filter that the environment asks for, if it asks for one.
pub fn written_filter() -> Result<Option<EnvFilter>, BadFilter> {
    crate::config::env::get("HOUSTON_LOG").map(|written| filter(&written)).transpose()
}

fn filter(written: &str) -> Result<EnvFilter, BadFilter> {
    let bad = |why: String| BadFilter { written: written.to_owned(), why };
    // A single word that is no level is taken for a part of a program by `EnvFilter`: of one that does not
    // exist, and then nothing is logged at all.
    for word in written.split(',').map(str::trim).filter(|word| !word.contains(['=', '['])) {
        let level = word.parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
        if !level && word.split("::").next() != Some("houston") {
            let word = if word.is_empty() { "nothing" } else { word };
            return Err(bad(format!("`{word}` is neither a level nor a part of Houston")));
        }
    }
    // `error parsing level filter: expected one of …`
    EnvFilter::try_new(written).map_err(|error| bad(error.to_string()))
}

/// `verbosity`: 0 `info`, 1 `debug`, 2 and more `trace`; `HOUSTON_LOG` (as `RUST_LOG` is written) wins.
pub fn start(format: LogFormat, verbosity: u8, redactor: Redactor) {
    let level = match verbosity {
        0 => "houston=info,warn",
        1 => "houston=debug,info",
        _ => "trace",
    };
    let (filter, wrong) = match written_filter() {
        Ok(filter) => (filter, None),
        Err(wrong) => (None, Some(wrong)),
    };
    let filter = filter.unwrap_or_else(|| EnvFilter::new(level));
    let writer = Redacting { redactor };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let result = match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.with_ansi(out::colour(&io::stderr())).with_target(false).try_init(),
    };
    if let Err(error) = result {
        out::note(format!("the log is set up already: {error}"));
    }
    if let Some(wrong) = wrong {
        tracing::error!("{wrong}; `{level}` is logged instead: {VALID}");
    }
}

/// Takes secrets out of whole lines before they reach standard error.
pub struct Redacting {
    redactor: Redactor,
}

impl<'w> MakeWriter<'w> for Redacting {
    type Writer = LineWriter<'w>;
    fn make_writer(&'w self) -> LineWriter<'w> {
        LineWriter { redactor: &self.redactor, line: Vec::new() }
    }
}

/// One event's line; written when the event is complete.
pub struct LineWriter<'w> {
    redactor: &'w Redactor,
    line: Vec<u8>,
}

impl io::Write for LineWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LineWriter<'_> {
    fn drop(&mut self) {
        let line = redacted(self.redactor, &self.line);
        let _ = io::stderr().lock().write_all(line.as_bytes());
    }
}

fn redacted(redactor: &Redactor, line: &[u8]) -> String {
    redactor.redact(&String::from_utf8_lossy(line)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_reach_the_log() {
        let redactor = Redactor::new();
        redactor.learn("marker-secret-3141");
        let line = redacted(&redactor, b"INFO token=marker-secret-3141 \xff");
        assert_eq!(line, "INFO token=[redacted] \u{fffd}");
    }
}
