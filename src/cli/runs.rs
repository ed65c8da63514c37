//! `houston runs`: over the admin socket when a daemon runs, else on the closed store.

mod story;

use std::io::Read as _;

use clap::{Args, Subcommand};

use super::{Failure, StateArg, admin, open_store, out};
use crate::admin::{RunLog, for_terminal, nothing_written, run_log};
use crate::chat::status::columns;
use crate::exec::transcript::packed;
use crate::ids::RunId;
use crate::runs::journal::{Header, headers};

#[derive(Args, Debug)]
pub struct Runs {
    #[command(flatten)]
    state: StateArg,
    /// JSON instead of text: everything that is known
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    act: Option<Act>,
}

#[derive(Subcommand, Debug)]
enum Act {
    /// The newest runs (the default)
    List {
        /// At most so many
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// What happened to a run, from its request to its end
    Show {
        /// Its id, such as R-41
        run: RunId,
    },
    /// What a run's steps wrote
    Logs {
        /// Its id, such as R-41
        run: RunId,
    },
}

impl Runs {
    pub async fn run(self) -> Result<(), Failure> {
        let state = &self.state.state;
        match self.act.unwrap_or(Act::List { limit: 20 }) {
            Act::List { limit } => {
                let list: Vec<Header> = match admin(state, &format!("/runs?limit={limit}")).await? {
                    Some(body) => parse(&body)?,
                    None => {
                        let store = open_store(state, "houston runs").await?;
                        headers(&store)
                            .take(limit)
                            .collect::<Result<_, _>>()
                            .map_err(|e| Failure::new(e.to_string()))?
                    }
                };
                if self.json {
                    out::line(pretty(&list));
                } else if list.is_empty() {
                    out::line("no runs yet");
                } else {
                    let rows: Vec<[String; 5]> = list
                        .into_iter()
                        .map(|h| {
                            [
                                h.run.to_string(),
                                h.state,
                                out::foreign(&h.by),
                                h.created_at.strftime("%F %H:%M:%SZ").to_string(),
                                out::foreign(&h.command),
                            ]
                        })
                        .collect();
                    out::line(columns(["run", "state", "by", "asked", "command"], &rows).trim_end());
                }
            }
            Act::Show { run } => {
                let log: RunLog = match admin(state, &format!("/runs/{run}")).await? {
                    Some(body) => parse(&body)?,
                    None => run_log(&*open_store(state, "houston runs").await?, run)
                        .map_err(|e| Failure::new(for_terminal(&e)))?,
                };
                if self.json {
                    out::line(pretty(&log));
                    return Ok(());
                }
                if let Some(header) = &log.header {
                    let said = format!("{} ({}, asked for by {})", header.command, header.state, header.by);
                    out::line(format!("{} {}", header.run, out::foreign(&said)));
                }
                story::lines(&log.events).iter().for_each(|line| out::line(out::foreign(line)));
            }
            Act::Logs { run } => match admin(state, &format!("/runs/{run}/logs")).await? {
                Some(body) => out::output(body.trim_end()),
                None => {
                    let path = crate::exec::transcript::path(&state.join("transcripts"), &run.to_string());
                    let mut bytes = Vec::new();
                    let read = packed::open(&path).and_then(|mut whole| whole.read_to_end(&mut bytes));
                    match read {
                        Ok(_) => out::output(String::from_utf8_lossy(&bytes).trim_end()),
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                            let store = open_store(state, "houston runs").await?;
                            run_log(&store, run).map_err(|e| Failure::new(for_terminal(&e)))?;
                            return Err(Failure::new(nothing_written(&store, run)));
                        }
                        Err(error) => {
                            return Err(Failure::new(format!("cannot read `{}`: {error}", path.display())));
                        }
                    }
                }
            },
        }
        Ok(())
    }
}

fn parse<T: serde::de::DeserializeOwned>(body: &str) -> Result<T, Failure> {
    serde_json::from_str(body).map_err(|e| {
        Failure::new(format!("the running Houston answered what this one does not understand: {e}"))
    })
}

pub fn pretty<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}
