//! `houston audit`: on the file, whether a daemon runs or not.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Failure, StateArg, out};
use crate::audit::{self, Filter, VerifyError};

#[derive(Args, Debug)]
pub struct AuditArgs {
    #[command(flatten)]
    state: StateArg,
    #[command(subcommand)]
    act: Option<Act>,
}

#[derive(Subcommand, Debug)]
enum Act {
    /// The newest entries (the default)
    List {
        /// At most so many
        #[arg(long, default_value_t = 20)]
        limit: usize,
        /// JSON lines instead of text
        #[arg(long)]
        json: bool,
    },
    /// The whole chain on standard output
    Export {
        #[arg(long, value_enum, default_value = "json")]
        format: Format,
        /// From this entry on
        #[arg(long)]
        from: Option<u64>,
        /// Up to this entry
        #[arg(long)]
        to: Option<u64>,
    },
    /// Check that no entry was changed, removed or put in
    Verify,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Json,
    Csv,
}

impl AuditArgs {
    pub fn run(self) -> Result<(), Failure> {
        let path: PathBuf = self.state.state.join("audit.jsonl");
        if !audit::is_there(&path) {
            return Err(Failure::new(format!("there is no audit log in `{}`", self.state.state.display()))
                .hint("`--state DIR` names the folder that `houston serve` uses"));
        }
        let unreadable = |e: std::io::Error| Failure::new(format!("cannot read `{}`: {e}", path.display()));
        match self.act.unwrap_or(Act::List { limit: 20, json: false }) {
            Act::List { limit, json } => {
                let entries = audit::tail(&path, limit).map_err(unreadable)?;
                if entries.is_empty() && !json {
                    out::line("no entries yet");
                }
                for entry in entries {
                    if json {
                        out::line(serde_json::to_string(&entry).unwrap_or_default());
                        continue;
                    }
                    let event = &entry.event;
                    let run = event.run.map(|run| format!(" [{run}]")).unwrap_or_default();
                    let result = event.result.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
                    let said = format!("{} {} {}{run}{result}", event.who.name, event.action, event.command);
                    out::line(format!(
                        "{:>5}  {}  {}",
                        entry.number,
                        entry.time.strftime("%F %H:%M:%SZ"),
                        out::foreign(&said)
                    ));
                }
                Ok(())
            }
            Act::Export { format, from, to } => {
                let filter = Filter { from, to, ..Filter::default() };
                let format = match format {
                    Format::Json => audit::Format::Json,
                    Format::Csv => audit::Format::Csv,
                };
                let mut stdout = std::io::stdout().lock();
                audit::export(&path, &filter, format, &mut stdout).map(|_| ()).map_err(unreadable)
            }
            Act::Verify => match audit::verify(&path) {
                Ok(summary) => {
                    let hash =
                        summary.last_hash.map(|hash| format!("; last hash {hash}")).unwrap_or_default();
                    out::line(format!(
                        "{} in {}: the chain holds{hash}",
                        crate::text::count(usize::try_from(summary.entries).unwrap_or(usize::MAX), "entry")
                            .replace("entrys", "entries"),
                        crate::text::count(summary.files, "file"),
                    ));
                    match &summary.cut {
                        Some(cut) => out::line(format!(
                            "The entries before {} were cut off on {} by `{}`: entry {} says so, and names the hash that \
                             entry {} goes on from.",
                            summary.first,
                            cut.at.strftime("%-d %b %Y"),
                            cut.rule,
                            cut.entry,
                            summary.first
                        )),
                        None if summary.first > 1 => out::line(format!(
                            "The entries before {} are not here, and no entry says that they were cut off: somebody moved \
                             them.",
                            summary.first
                        )),
                        None => {}
                    }
                    Ok(())
                }
                Err(VerifyError::Broken(broken)) => {
                    Err(Failure::new(format!("the audit log was tampered with or damaged: {broken}"))
                        .hint("compare with an export that you kept elsewhere"))
                }
                Err(VerifyError::Io(error)) => Err(unreadable(error)),
            },
        }
    }
}
