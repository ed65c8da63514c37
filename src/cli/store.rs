//! `houston store`.

use clap::{Args, Subcommand};

use super::{Failure, StateArg, admin, open_store, out};
use crate::admin::StoreStat;
use crate::store::Tree;

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
                let store = open_store(state).await?;
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
                let store = open_store(state).await?;
                for tree in Tree::ALL {
                    for entry in store.scan::<serde_json::Value>(tree, &[]) {
                        let (key, value) = entry.map_err(|e| Failure::new(e.to_string()))?;
                        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
                        let tree = format!("{tree:?}").to_lowercase();
                        out::line(serde_json::json!({"tree": tree, "key": key, "value": value}).to_string());
                    }
                }
            }
        }
        Ok(())
    }
}
