//! By what Houston finds its servers again: the labels that it puts on each of them.
//!
//! Must not: let two runs, or two Houstons, have the same.

use std::collections::BTreeMap;

use crate::ids::{EffectToken, EnvName, RunId};

/// Of the step that made it.
pub const TOKEN: &str = "houston-token";
/// What the tokens of its run have in common.
pub const RUN: &str = "houston-run";
pub const ENVIRONMENT: &str = "houston-environment";
/// As the environment file calls it.
pub const HOST: &str = "houston-host";
/// The public half of its host key.
pub const KEY: &str = "houston-host-key";

/// Of a server that a step makes.
pub fn of(token: &EffectToken, environment: &EnvName, host: &str, key: &str) -> BTreeMap<String, String> {
    [
        (TOKEN, token.as_str()),
        (RUN, token.run()),
        (ENVIRONMENT, environment.as_str()),
        (HOST, host),
        (KEY, key),
    ]
    .into_iter()
    .map(|(label, value)| (label.to_owned(), value.to_owned()))
    .collect()
}

/// What one step made.
pub fn by_token(token: &EffectToken) -> String {
    format!("{TOKEN}={token}")
}

/// A run's server for a host.
pub fn by_host(run: &str, environment: &EnvName, host: &str) -> String {
    format!("{RUN}={run},{ENVIRONMENT}={environment},{HOST}={host}")
}

/// The run that a label names, in whatever Houston.
pub fn run_of(label: &str) -> Option<RunId> {
    let rest = label.strip_prefix("houston-")?;
    rest.rsplit_once('-')?.0.parse().ok()
}

/// A name that no other run's server has: Hetzner refuses the second one of a name, so that nothing is ever made and
/// paid for twice, whatever was lost on the way.
pub fn server_name(run: &str, environment: &EnvName, host: &str) -> String {
    let part = |text: &str| -> String {
        let text: String =
            text.chars().take(18).map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        text.trim_matches('-').to_owned()
    };
    let run = run.strip_prefix("houston-").unwrap_or(run);
    format!("{}-{}-{run}", part(environment.as_str()), part(host)).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_hostname_and_a_label_names_its_run() {
        let token = EffectToken::new(RunId(41), &"AbC9xyZ2more".into(), 3);
        assert_eq!(run_of(token.run()), Some(RunId(41)));
        let undo = EffectToken::of_undo(RunId(41), &"AbC9xyZ2more".into(), 3);
        assert_eq!(token.run(), undo.run(), "what a run undoes is its own");
        let name = server_name(token.run(), &"prod_eu".into(), "a-very-long-name-of-a-host");
        assert_eq!(name, "prod-eu-a-very-long-name-o-r-41-abc9xyz2");
        assert_eq!(run_of("houston-x"), None);
    }
}
