//! `houston plan`: the plan that chat would show, without chat.

use std::sync::Arc;

use clap::Args;

use super::{ConfigArg, Failure, out, serve};
use crate::app;
use crate::chat::offline::{self, Planning};
use crate::secret::Redactor;

#[derive(Args, Debug)]
pub struct PlanArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Plan as this person: a user name or id of the configuration's roles
    #[arg(long = "as", value_name = "USER")]
    who: Option<String>,
    /// The command, as one would type it in chat, without `!`
    command: String,
}

impl PlanArgs {
    pub async fn run(self, redactor: Redactor) -> Result<(), Failure> {
        let config = Arc::new(serve::load(&self.config.config).map_err(|failure| failure.code(1))?);
        let runtime = std::env::temp_dir().join(format!("houston-plan-{}", std::process::id()));
        let planner = app::planner(Arc::clone(&config), &runtime, redactor)?;
        let planned = offline::plan(&config, &planner, self.who.as_deref(), &self.command).await;
        let _ = std::fs::remove_dir_all(&runtime);
        match planned {
            Planning::Plan(text) => {
                out::line(text);
                Ok(())
            }
            Planning::NotAllowed(text) => Err(Failure::new(text).code(2)),
            Planning::Wrong(text) => Err(Failure::new(text)),
        }
    }
}
