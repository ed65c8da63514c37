//! `houston check`.

use clap::Args;

use super::{ConfigArg, Failure, out};
use crate::app;

#[derive(Args, Debug)]
pub struct Check {
    #[command(flatten)]
    config: ConfigArg,
}

impl Check {
    pub fn run(self) -> Result<(), Failure> {
        let kinds = app::kinds();
        let kinds: Vec<&dyn crate::playbook::steps::StepKind> = kinds.values().map(AsRef::as_ref).collect();
        let report = crate::config::check(&self.config.config, &kinds);
        let rendered = crate::diagnostic::render::terminal(
            &report.diagnostics,
            &self.config.config,
            out::stdout_colour(),
        );
        if !rendered.is_empty() {
            out::line(rendered.trim_end());
        }
        out::line(report.summary());
        if report.config.is_some() { Ok(()) } else { Err(Failure::new("the configuration is wrong")) }
    }
}
