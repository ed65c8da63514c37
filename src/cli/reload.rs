//! `houston reload`.

use clap::Args;

use super::{Failure, StateArg, out};
use crate::chat::credentials::Renewal;
use crate::chat::reload::Reloaded;

#[derive(Args, Debug)]
pub struct Reload {
    #[command(flatten)]
    state: StateArg,
}

impl Reload {
    pub async fn run(self) -> Result<(), Failure> {
        let state = &self.state.state;
        let Some(body) = super::admin_do(state, "/reload").await? else {
            return Err(Failure::new(format!("no Houston runs on the state in `{}`", state.display()))
                .hint("`--state DIR` names the folder that `houston serve` uses"));
        };
        let reloaded: Reloaded = serde_json::from_str(&body)
            .map_err(|e| Failure::new(format!("the running Houston's answer cannot be read: {e}")))?;
        match reloaded {
            Reloaded::Unchanged { revision, renewal: None } => {
                out::line(format!("nothing has changed: revision {revision} stays in force"));
            }
            Reloaded::Unchanged { revision, renewal: Some(renewal) } => {
                told(&renewal)?;
                out::line(format!("else nothing has changed: revision {revision} stays in force"));
            }
            Reloaded::InForce { from, to, files, changes, needs_restart, warnings, renewal } => {
                warnings.iter().for_each(out::note);
                out::line(format!("revision {to} is in force, after {from}"));
                files.iter().chain(&changes).for_each(|line| out::line(format!("  {line}")));
                if !needs_restart.is_empty() {
                    out::line(format!("  needs a restart: {}", needs_restart.join(", ")));
                }
                renewal.as_ref().map_or(Ok(()), told)?;
            }
            Reloaded::Refused { in_force, findings, .. } => {
                findings.iter().for_each(out::note);
                return Err(Failure::new("the configuration folder is wrong, so nothing was changed")
                    .hint(format!("revision {in_force} stays in force")));
            }
        }
        Ok(())
    }
}

/// What became of the secret, which is an error where it was not taken.
fn told(renewal: &Renewal) -> Result<(), Failure> {
    if renewal.taken {
        out::line(&renewal.said);
        return Ok(());
    }
    Err(Failure::new(&renewal.said).hint("put a good one in its place and `houston reload` again"))
}
