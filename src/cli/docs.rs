//! `houston docs`: reference from the code.

use clap::{Args, ValueEnum};

use super::{Failure, out};
use crate::app;

#[derive(Args, Debug)]
pub struct Docs {
    /// What about
    #[arg(value_enum)]
    about: About,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum About {
    /// Keys of the configuration folder
    Config,
    /// Chat commands
    Commands,
    /// Step kinds of playbooks
    Steps,
    /// What Houston's account in Rocket.Chat needs: roles and permissions
    Roles,
    /// Environment variables
    Env,
    /// What `/metrics` tells
    Metrics,
}

impl Docs {
    pub fn run(self) -> Result<(), Failure> {
        let text = match self.about {
            About::Config => crate::config::docs::config(),
            About::Commands => {
                let kinds = app::kinds();
                let kinds: Vec<&dyn crate::playbook::steps::StepKind> =
                    kinds.values().map(AsRef::as_ref).collect();
                let (sample, _) = crate::config::Config::sample(&kinds);
                let sample = sample.ok_or_else(|| Failure::new("the built-in commands cannot be read"))?;
                crate::config::docs::commands(&sample.commands)
            }
            About::Steps => {
                let kinds = app::kinds();
                let kinds: Vec<_> = kinds.values().map(AsRef::as_ref).collect();
                crate::config::docs::steps(&kinds)
            }
            About::Roles => crate::doctor::permissions::reference(),
            About::Metrics => crate::metrics::table::reference(),
            About::Env => crate::config::env::VARIABLES
                .iter()
                .map(|variable| format!("- `{}`: {}", variable.name, variable.doc))
                .collect::<Vec<_>>()
                .join("\n"),
        };
        out::line(text.trim_end());
        Ok(())
    }
}
