//! `houston doctor`.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Args;

use super::{ConfigArg, Failure, StateArg, admin, log, out};
use crate::app;
use crate::clock::Clock;
use crate::doctor::{self, Check, Daemon, Level, Told};
use crate::secret::Redactor;
use crate::text;

/// For each look; what goes on side by side takes no longer together.
const LIMIT: Duration = Duration::from_secs(30);

/// How long a running Houston may take to answer over its socket.
const ALIVE: Duration = Duration::from_secs(5);

#[derive(Args, Debug)]
pub struct Doctor {
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    state: StateArg,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub async fn run(self, redactor: Redactor) -> Result<(), Failure> {
        let state = &self.state.state;
        let daemon = match tokio::time::timeout(ALIVE, admin(state, "/livez")).await {
            Ok(Ok(Some(_))) => Daemon::Runs,
            Ok(Ok(None)) => Daemon::Absent,
            Ok(Err(failure)) => Daemon::Silent(failure.message),
            Err(_) => Daemon::Silent(format!("no answer within {}", text::duration(ALIVE))),
        };
        let options = doctor::Options {
            config: self.config.config.clone(),
            state: state.clone(),
            kinds: app::kinds(),
            daemon,
            runtime: std::env::temp_dir().join(format!("houston-doctor-{}", std::process::id())),
            clock: Clock::system(),
            redactor,
            limit: LIMIT,
        };
        let mut printer = Printer { json: self.json, colour: out::stdout_colour(), shown: false };
        let mut checks = vec![written_filter()];
        printer.told(Told::Checks(&checks));
        checks.extend(doctor::examine(options, |told| printer.told(told)).await);
        printer.clear();
        self.summary(&checks)
    }

    fn summary(&self, checks: &[Check]) -> Result<(), Failure> {
        let count = |level| checks.iter().filter(|check| check.result == level).count();
        let (problems, warnings) = (count(Level::Problem), count(Level::Warning));
        if self.json {
            let all = serde_json::json!({"problems": problems, "warnings": warnings, "checks": checks});
            out::line(all.to_string());
        }
        let looked = text::count(checks.len(), "check");
        let found = match (problems, warnings) {
            (0, 0) => "nothing to mend".to_owned(),
            (0, _) => text::count(warnings, "warning"),
            (_, 0) => text::count(problems, "problem"),
            _ => format!("{} and {}", text::count(problems, "problem"), text::count(warnings, "warning")),
        };
        if problems > 0 {
            return Err(
                Failure::new(format!("{looked}: {found}")).hint("each finding above says how to mend it")
            );
        }
        if !self.json {
            out::line(format!("{looked}: {found}"));
        }
        Ok(())
    }
}

/// Whether `HOUSTON_LOG` is one that the log can follow.
fn written_filter() -> Check {
    match log::written_filter() {
        Ok(None) => Check::ok("log", "`HOUSTON_LOG` is not set here: `info`"),
        Ok(Some(_)) => Check::ok("log", "`HOUSTON_LOG` is understood"),
        Err(wrong) => Check::warning("log", wrong.to_string()).fix(log::VALID),
    }
}

/// Lines as they come, and what is waited for while a terminal looks on.
struct Printer {
    json: bool,
    colour: bool,
    /// A line of progress stands on the terminal.
    shown: bool,
}

impl Printer {
    fn told(&mut self, told: Told<'_>) {
        match told {
            Told::Checks(checks) => {
                self.clear();
                if !self.json {
                    checks.iter().for_each(|check| self.line(check));
                }
            }
            Told::Waiting(waiting) => self.waiting(waiting),
        }
    }

    fn line(&self, check: &Check) {
        let (word, style) = match check.result {
            Level::Ok => ("ok", "32"),
            Level::Warning => ("warning", "1;33"),
            Level::Problem => ("problem", "1;31"),
        };
        // One line a check, whatever a server says.
        let plain = out::foreign;
        let word = self.styled(&format!("{word:<7}"), style);
        out::line(format!("{word}  {}: {}", plain(&check.check), plain(&check.message)));
        for fix in &check.fixes {
            out::line(format!("         {}: {}", self.styled("fix", "36"), plain(fix)));
        }
    }

    fn styled(&self, text: &str, code: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn waiting(&mut self, waiting: &[&str]) {
        let mut err = std::io::stderr().lock();
        if err.is_terminal() && !waiting.is_empty() {
            let line = format!("looking at {}…", text::plain_and_list(waiting));
            let _ = write!(err, "\r\u{1b}[K{}", text::ellipsis(&line, 78));
            let _ = err.flush();
            self.shown = true;
        }
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let mut err = std::io::stderr().lock();
            let _ = write!(err, "\r\u{1b}[K");
            let _ = err.flush();
        }
    }
}
