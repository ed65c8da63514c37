//! The log: standard error, one line an event, every line redacted on its way out.
//!
//! Must not: be set up twice in one process (tests do not set it up at all).

#[cfg(feature = "otel")]
mod export;
mod line;

use std::io::{self, Write as _};

use clap::ValueEnum;
use tokio::runtime::Handle;
use tracing::Subscriber;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::{Filter, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use self::line::Lines;
use super::out;
use crate::clock::Clock;
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

/// Besides what `filter` lets through, the spans that carry ids.
fn with_ids<S>(filter: EnvFilter) -> impl Filter<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let ids = filter_fn(|what| what.is_span() && what.target() == crate::trace::TARGET);
    ids.with_max_level_hint(tracing::Level::INFO).or(filter)
}

/// Goes on until the end of the program.
#[must_use]
pub struct Started {
    #[cfg(feature = "otel")]
    export: Option<export::Export>,
}

impl Started {
    /// The last of it, while the runtime is still there.
    pub fn end(self) {
        #[cfg(feature = "otel")]
        if let Some(export) = self.export {
            export.end();
        }
    }
}

/// `verbosity`: 0 `info`, 1 `debug`, 2 and more `trace`; `HOUSTON_LOG` (as `RUST_LOG` is written) wins. With the
/// feature `otel` also the export of what a Houston does, for one that is `working`.
#[cfg_attr(
    not(feature = "otel"),
    expect(unused_variables, reason = "nothing is exported without the feature")
)]
pub fn start(
    format: LogFormat,
    verbosity: u8,
    redactor: Redactor,
    runtime: &Handle,
    working: bool,
) -> Started {
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
    let colour = out::colour(&io::stderr());
    #[cfg(feature = "otel")]
    let export = if working { export::Export::wanted(runtime, &redactor) } else { Ok(None) };
    let lines = Lines { format, colour, redactor, clock: Clock::system(), write: to_stderr };
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(with_ids(filter)));
    #[cfg(feature = "otel")]
    let subscriber =
        subscriber.with(export.as_ref().ok().and_then(Option::as_ref).map(export::Export::layer));
    if let Err(error) = subscriber.try_init() {
        out::note(format!("the log is set up already: {error}"));
    }
    if let Some(wrong) = wrong {
        tracing::error!("{wrong}; `{level}` is logged instead: {VALID}");
    }
    #[cfg(feature = "otel")]
    if let Err(why) = &export {
        tracing::error!("no spans are exported: {why}");
    }
    Started {
        #[cfg(feature = "otel")]
        export: export.unwrap_or_default(),
    }
}

/// A line at once, so that those of several threads do not run into each other.
fn to_stderr(line: &str) {
    let _ = io::stderr().lock().write_all(line.as_bytes());
}
