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
                out::line(plain(&text));
                Ok(())
            }
            Planning::NotAllowed(text) => Err(Failure::new(plain(&text)).code(2)),
            Planning::Wrong(text) => Err(Failure::new(plain(&text))),
        }
    }
}

/// A message without the marks that only chat understands: signs, bold, fences, and what keeps a name from
/// calling somebody, which would spoil what is copied. What stood in a fence is indented, and begins on a
/// line of its own.
fn plain(text: &str) -> String {
    let text = text.replace('\u{200b}', "").replace(":bulb: ", "hint: ");
    let mut lines = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.starts_with("```") {
            if !fenced && lines.is_empty() {
                lines.push("not understood".to_owned());
            }
            fenced = !fenced;
        } else if fenced {
            lines.push(format!("  {line}"));
        } else {
            let words = line.split(' ').filter(|word| !is_sign(word));
            lines.push(words.map(unmarked).collect::<Vec<_>>().join(" "));
        }
    }
    lines.join("\n")
}

/// `:mag:`
fn is_sign(word: &str) -> bool {
    let name = word.strip_prefix(':').and_then(|rest| rest.strip_suffix(':'));
    name.is_some_and(|name| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-".contains(&b))
    })
}

/// `*bold` and `words*` without the star.
fn unmarked(word: &str) -> &str {
    let word = word.strip_prefix('*').filter(|rest| !rest.is_empty()).unwrap_or(word);
    word.strip_suffix('*').filter(|rest| !rest.is_empty()).unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_chat_do_not_reach_the_terminal() {
        assert_eq!(plain(":mag: *dry run* `a * b`\n*1.* update"), "dry run `a * b`\n1. update");
        assert_eq!(
            plain(":x: no way to deploy@\u{200b}10.0.0.1\n:bulb: is it up?"),
            "no way to deploy@10.0.0.1\nhint: is it up?"
        );
        assert_eq!(
            plain("```\ndeploy x\n       ^\n```\nno `x`"),
            "not understood\n  deploy x\n         ^\nno `x`"
        );
    }
}
