//! `houston store`.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Failure, StateArg, admin, open_store, out};
use crate::admin::StoreStat;
use crate::store::{Tree, transfer};
use crate::text;

#[derive(Args, Debug)]
pub struct StoreArgs {
    #[command(flatten)]
    state: StateArg,
    #[command(subcommand)]
    act: Act,
}

#[derive(Subcommand, Debug)]
enum Act {
    /// How large it is, and how many records it holds
    Stat,
    /// Every record as a line of JSON on standard output; the daemon must not run
    Export,
    /// Makes the store out of an export; there must be none yet
    Import {
        /// What `export` has written; `-` is standard input
        file: PathBuf,
    },
}

impl StoreArgs {
    pub async fn run(self) -> Result<(), Failure> {
        let state = &self.state.state;
        match self.act {
            Act::Stat => {
                if let Some(body) = admin(state, "/store").await? {
                    let stat: StoreStat = serde_json::from_str(&body).map_err(|e| {
                        Failure::new(format!("the running Houston's answer is not understood: {e}"))
                    })?;
                    out::line(format!("{}: {} KiB, in use", stat.path.display(), stat.bytes / 1024));
                    return Ok(());
                }
                let store = open_store(state, "houston store").await?;
                out::line(format!("{}: {} KiB", store.path().display(), store.size() / 1024));
                for tree in Tree::ALL {
                    let records = store.scan::<serde_json::Value>(tree, &[]).count();
                    out::line(format!("{:>10}  {records}", format!("{tree:?}").to_lowercase()));
                }
            }
            Act::Export => {
                if admin(state, "/store").await?.is_some() {
                    return Err(Failure::new("the store is in use by a running Houston")
                        .hint("stop it first: an export is of one moment"));
                }
                let store = open_store(state, "houston store").await?;
                transfer::export(&store, |line| out::line(line)).map_err(|e| Failure::new(e.to_string()))?;
            }
            Act::Import { file } => {
                let cannot =
                    |e: std::io::Error| Failure::new(format!("cannot read `{}`: {e}", file.display()));
                let lines: Box<dyn BufRead> = if file.as_os_str() == "-" {
                    Box::new(std::io::stdin().lock())
                } else {
                    Box::new(BufReader::new(std::fs::File::open(&file).map_err(cannot)?))
                };
                let records = transfer::import(&state.join("journal"), lines).await;
                let records = records.map_err(|e| Failure::new(e.to_string()))?;
                out::line(format!("{} imported", text::count(records as usize, "record")));
            }
        }
        Ok(())
    }
}
