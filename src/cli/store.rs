//! `houston store`.

use std::io::{BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{Failure, StateArg, admin, open_store, out, request};
use crate::admin::{StoreStat, store_stat};
use crate::app::StartError;
use crate::chat::status::columns;
use crate::clock::Clock;
use crate::holder::Holder;
use crate::runs::restored::{self, Restored};
use crate::store::compact::Sizes;
use crate::store::exports;
use crate::store::home;
use crate::store::transfer::{self, ExportError, ImportError};
use crate::text;

/// Lines about what the audit log knows beyond an export.
const MOST_LISTED: usize = 50;

#[derive(Args, Debug)]
pub struct StoreArgs {
    #[command(flatten)]
    state: StateArg,
    #[command(subcommand)]
    act: Act,
}

#[derive(Subcommand, Debug)]
enum Act {
    /// How large it is, how many records it holds, the oldest run, the exports, and the free space
    Stat {
        /// JSON instead of tables
        #[arg(long)]
        json: bool,
    },
    /// Every record as a line of JSON on standard output, of one moment, whether the daemon runs or not
    Export,
    /// Gives back the space that the database takes beyond what is in it; nobody may use it meanwhile
    Compact,
    /// Makes the store out of an export, packed or not; there must be none yet
    Import {
        /// What `export` has written, or a file of the folder `exports`; `-` is standard input
        file: PathBuf,
    },
}

impl StoreArgs {
    pub async fn run(self) -> Result<(), Failure> {
        let state = &self.state.state;
        match self.act {
            Act::Stat { json } => {
                let stat = match admin(state, "/store").await? {
                    Some(body) => serde_json::from_str(&body).map_err(|e| {
                        Failure::new(format!("the running Houston's answer is not understood: {e}"))
                    })?,
                    None => store_stat(&*open_store(state, "houston store").await?)
                        .map_err(|e| Failure::new(e.to_string()))?,
                };
                out::line(if json { super::runs::pretty(&stat) } else { described(&stat) });
                Ok(())
            }
            Act::Export => export(state).await,
            Act::Compact => compact(state).await,
            Act::Import { file } => import(state, &file).await,
        }
    }
}

fn described(stat: &StoreStat) -> String {
    let mut rows: Vec<[String; 3]> = Vec::new();
    for tree in &stat.trees {
        rows.push([tree.tree.clone(), tree.records.to_string(), size(tree.bytes)]);
    }
    let mut out = columns(["tree", "records", "size"], &rows);
    let line = |what: &str, value: String| format!("\n{what:<12} {value}");
    out.push_str(&line("on disk", format!("{}, in {}", size(stat.bytes), stat.path.display())));
    if let Some(more) = could_be_given_back(stat) {
        out.push_str(&line("", more));
    }
    if let Some(oldest) = &stat.oldest_run {
        let at = oldest.created_at.strftime("%F %H:%MZ");
        out.push_str(&line("oldest run", format!("{}, of {at}", oldest.run)));
    }
    out.push_str(&line("transcripts", size(stat.transcripts_bytes)));
    let exports = match stat.exports.last() {
        None => "none".to_owned(),
        Some(newest) => format!(
            "{}, {} together; the newest: {}",
            text::count(stat.exports.len(), "file"),
            size(stat.exports.iter().map(|export| export.bytes).sum()),
            newest.path.display()
        ),
    };
    out.push_str(&line("exports", exports));
    if let Some(free) = stat.free_bytes {
        out.push_str(&line("free", size(free)));
    }
    out
}

/// Where so much of it is free that it is worth the while.
fn could_be_given_back(stat: &StoreStat) -> Option<String> {
    let (sizes, live) = (Sizes::default(), stat.trees.iter().map(|tree| tree.bytes).sum());
    if !sizes.are_worth_it(stat.bytes, live) {
        return None;
    }
    let when = if sizes.are_worth_a_start(stat.bytes, Some(live)) {
        "the next start gives it back"
    } else {
        "stop Houston and say `houston store compact`"
    };
    Some(format!("most of it is free: {when}"))
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

async fn export(state: &Path) -> Result<(), Failure> {
    let mut out = BufWriter::new(std::io::stdout());
    let cannot = |e: std::io::Error| Failure::new(format!("the export cannot be written: {e}"));
    if let Some(mut response) = request(state, reqwest::Method::GET, "/store/export").await? {
        let broke_off = |e: reqwest::Error| {
            Failure::new(format!("the export broke off: {e}")).hint("what came is not whole: throw it away")
        };
        while let Some(piece) = response.chunk().await.map_err(broke_off)? {
            out.write_all(&piece).map_err(cannot)?;
        }
        return out.flush().map_err(cannot);
    }
    let store = open_store(state, "houston store").await?;
    let exported = transfer::export(&store, Clock::system().now(), &mut out);
    exported.map(drop).map_err(|error| match error {
        ExportError::Io(error) => cannot(error),
        ExportError::Store(error) => StartError::from(error).into(),
    })
}

async fn compact(state: &Path) -> Result<(), Failure> {
    if !state.join(home::DATABASE).exists() {
        return Err(Failure::new(format!("there is no store in `{}`", state.display()))
            .hint("`--state DIR` names the folder that `houston serve` uses"));
    }
    let clock = Clock::system();
    let _holder = Holder::take(state, "houston store compact", &clock).await.map_err(StartError::from)?;
    let folder = state.to_owned();
    let given_back = tokio::task::spawn_blocking(move || home::give_back(&folder)).await;
    let given_back = given_back.map_err(|e| Failure::new(e.to_string()))?.map_err(StartError::from)?;
    out::line(match given_back {
        Some(sizes) => format!("the database takes {}, and took {}", size(sizes.now), size(sizes.before)),
        None => "there is nothing to give back".to_owned(),
    });
    Ok(())
}

async fn import(state: &Path, file: &Path) -> Result<(), Failure> {
    let cannot = |e: std::io::Error| Failure::new(format!("cannot read `{}`: {e}", file.display()));
    let lines = if file.as_os_str() == "-" {
        exports::lines(BufReader::new(std::io::stdin()))
    } else {
        exports::lines(BufReader::new(std::fs::File::open(file).map_err(cannot)?))
    };
    let lines = lines.map_err(cannot)?;
    home::is_free_or_ours(state).map_err(StartError::from)?;
    let clock = Clock::system();
    // Nobody begins a new one meanwhile.
    let _holder = Holder::take(state, "houston store import", &clock).await.map_err(StartError::from)?;
    let (log, now) = (state.join("audit.jsonl"), clock.now());
    let mut restored = Restored::default();
    let imported = transfer::import(&state.join(home::DATABASE), lines, |store, at| {
        restored = restored::settle(store, &log, at, now).map_err(|e| ImportError::Unfit(e.to_string()))?;
        Ok(())
    })
    .await;
    let imported = imported.map_err(|error| {
        let failure = Failure::new(error.to_string());
        match error {
            ImportError::Exists(_) => home::way_back(state).into_iter().take(1).fold(failure, Failure::hint),
            _ => failure.hint("nothing was changed: there is no store yet"),
        }
    })?;
    let count = usize::try_from(imported.records).unwrap_or(usize::MAX);
    let of = imported.at.map(|at| format!(", of {}", at.strftime("%F %H:%M:%SZ"))).unwrap_or_default();
    out::line(format!("{} imported{of}", text::count(count, "record")));
    if log.exists() {
        tell(&restored);
    }
    Ok(())
}

/// What the operator has to know before Houston goes on.
fn tell(restored: &Restored) {
    let runs: Vec<String> = restored
        .runs
        .iter()
        .map(|(run, since)| {
            let when = since.at.strftime("%F %H:%MZ");
            let lost = if since.unknown { "" } else { " (the export knows its beginning)" };
            format!("{run} `{}` by {}, {when}: {}{lost}", since.command, since.by, since.last)
        })
        .collect();
    let others: Vec<String> = restored
        .others
        .iter()
        .map(|entry| {
            let (when, event) = (entry.time.strftime("%F %H:%MZ"), &entry.event);
            format!("{when} {} {} by {}", event.action, event.command, event.who.name)
        })
        .collect();
    if runs.is_empty() && others.is_empty() && restored.ended.is_empty() {
        out::line("The audit log knows of nothing beyond it.");
        return;
    }
    list("Runs that the audit log knows of, and the store does not or not to their end:", &runs);
    list("Done beside runs since, as far as the audit log says; not in the store:", &others);
    if !restored.ended.is_empty() {
        let ended: Vec<String> = restored.ended.iter().map(ToString::to_string).collect();
        out::line(format!(
            "Ended as abandoned, since nobody knows how far they got: {}. Look at what they were to change, then ask for it again.",
            ended.join(", ")
        ));
    }
}

fn list(title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    out::line(title);
    for line in lines.iter().rev().take(MOST_LISTED).rev() {
        out::line(format!("  {line}"));
    }
    if lines.len() > MOST_LISTED {
        out::line(format!("  and {} before; `houston audit` has all of it", lines.len() - MOST_LISTED));
    }
}
