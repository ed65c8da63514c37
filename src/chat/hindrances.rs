//! What keeps a command from beginning that somebody may give: consent to a step, a freeze; and who may go past it.
//! One wording for `can`, for a dry run and for `houston plan`. Pure.
//!
//! Must not: decide anything, or look anything up.

use jiff::Timestamp;

use super::glass;
use crate::command::{Action, CommandSpec};
use crate::config::Config;
use crate::ids::{EnvName, RoleName};
use crate::runs::freezes::Frozen;
use crate::runs::maintenance::{Maintenance, Outside, now_or_next};
use crate::text::code;

/// What is known of the place and the time.
pub struct Hindrances<'a> {
    pub config: &'a Config,
    pub command: &'a CommandSpec,
    pub environment: Option<EnvName>,
    pub frozen: Option<Frozen>,
    /// Of the environment, what is not over.
    pub maintenance: Vec<Maintenance>,
    pub now: Timestamp,
    /// What people declared in chat is not known.
    pub files_only: bool,
    /// Who would go past it: user name and roles.
    pub who: Option<(&'a str, &'a [RoleName])>,
}

impl Hindrances<'_> {
    /// Nothing for what reads, locks or cancels: that never waits.
    pub fn lines(&self) -> Vec<String> {
        let carried_out = self.command.changes && matches!(self.command.action, Action::Playbook(_));
        let Some(environment) = self.environment.as_ref().filter(|_| carried_out) else { return Vec::new() };
        let freeze = match &self.frozen {
            Some(frozen) => format!("Freeze: not now, {}. {}", frozen.describe(), frozen.way_out()),
            None if self.files_only => {
                "Freeze: none by the files; what somebody declared in chat is not known here".to_owned()
            }
            None => "Freeze: none now".to_owned(),
        };
        let outside = self.outside(environment);
        let maintenance = match &outside {
            Some(outside) => Some(format!("Maintenance: not now, {}", outside.describe())),
            None => now_or_next(&self.maintenance, self.now).map(|one| {
                let under_way = if one.holds(self.now) { "under way, " } else { "" };
                format!("Maintenance: {under_way}{}: {}", one.span(), one.why())
            }),
        };
        let glass = self.break_glass(environment, outside.is_some());
        [Some(freeze), maintenance, Some(glass)].into_iter().flatten().collect()
    }

    /// It begins only in maintenance, and there is none.
    fn outside(&self, environment: &EnvName) -> Option<Outside> {
        let command = &self.command.name;
        let needs = self.config.needs_maintenance(environment, command);
        needs.then(|| Outside::of(environment, command, &self.maintenance, self.now)).flatten()
    }

    fn break_glass(&self, environment: &EnvName, outside: bool) -> String {
        let consent = self.config.approval(environment, &self.command.name).is_some()
            || self.config.some_step_asks(self.command);
        if !consent && !outside && self.frozen.is_none() {
            return "Break-glass: nothing is in the way of it".to_owned();
        }
        let allowed = self.config.may_break_glass(environment);
        if allowed.is_empty() {
            return format!("Break-glass: nobody may in {}", code(environment.as_str()));
        }
        let groups: Vec<String> = allowed.iter().map(|role| glass::with_people(self.config, role)).collect();
        let who = self.who.map(|(name, roles)| {
            let may = if allowed.iter().any(|role| roles.contains(role)) { "may" } else { "may not" };
            format!("; {} {may}", code(name))
        });
        format!(
            "Break-glass: {} may start it without that, by `--break-glass \"why\"`{}",
            crate::text::plain_or_list(&groups),
            who.unwrap_or_default()
        )
    }
}
