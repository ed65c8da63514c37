//! `houston check`.

use clap::Args;

use super::{ConfigArg, Failure, out};
use crate::app;
use crate::chat::schedules::list;
use crate::clock::Clock;

#[derive(Args, Debug)]
pub struct Check {
    #[command(flatten)]
    config: ConfigArg,
}

impl Check {
    pub fn run(self) -> Result<(), Failure> {
        let kinds = app::kinds();
        let kinds: Vec<&dyn crate::playbook::steps::StepKind> = kinds.values().map(AsRef::as_ref).collect();
        let dir = &self.config.config;
        let report = crate::chat::policies::load(dir, &kinds);
        let terminal = crate::diagnostic::render::Terminal {
            colour: out::stdout_colour(),
            root: dir,
            source: &|file| crate::config::load::source_text(dir, file),
        };
        let rendered = terminal.render(&report.diagnostics);
        if !rendered.is_empty() {
            out::line(rendered.trim_end());
        }
        let now = Clock::system().now();
        for schedule in report.config.iter().flat_map(|config| config.schedules.values()) {
            list::in_terminal(schedule, now).iter().for_each(out::line);
        }
        out::line(report.summary());
        if report.config.is_some() { Ok(()) } else { Err(Failure::new("the configuration is wrong")) }
    }
}
