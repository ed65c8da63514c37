//! Reads an environment file.

use std::path::Path;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::{Environment, Freeze};
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::ids::EnvName;
use crate::yaml::Node;

/// Words that stand where an environment's name stands: `backup list prod`.
const RESERVED: &[&str] = &["list", "verify"];

/// The longest name of a host, a service or an environment.
const LONGEST: usize = 63;

/// What holds where the file says nothing.
pub(crate) struct Defaults<'a> {
    /// What relative paths count from.
    pub dir: &'a Path,
    /// Of a request for consent.
    pub expires: Duration,
    pub time_zone: &'a TimeZone,
}

/// `file` gives the environment its name.
pub(crate) fn read(
    node: &Node,
    file: &Path,
    defaults: &Defaults<'_>,
    found: &mut Diagnostics,
) -> Option<Environment> {
    let name = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let start = Location::new(file, 1, 1);
    check_name("environment", name, &start, found);
    if RESERVED.contains(&name) {
        found.push(
            Diagnostic::error(start, format!("an environment cannot be called `{name}`"))
                .hint("`backup list ENV` and `backup verify ENV` are commands: rename the file"),
        );
    }
    let mut map = node.map(found)?;
    let hosts_node = map.take("hosts");
    let (hosts, temporary) =
        hosts_node.map(|node| super::hosts::read(node, defaults.dir, found)).unwrap_or_default();
    let swarm_node = map.take("swarm");
    let swarm = swarm_node.and_then(|node| super::hosts::swarm(node, hosts_node, found));
    // restic may run on a host that is rented for the run.
    let known: Vec<&str> = hosts.keys().chain(temporary.keys()).map(String::as_str).collect();
    let backups = map.take("backups").and_then(|node| super::backups::read(node, &known, found));
    let services_at = map.key_at("services");
    let services = map.take("services").map(|node| super::services::read(node, found)).unwrap_or_default();
    let variables = map.take("variables").map(|node| super::services::variables(node, found));
    let approvals = map.take("approvals");
    let break_glass = approvals.and_then(|node| crate::config::approvals::break_glass(node, found));
    let approvals = approvals.map(|node| crate::config::approvals::read(node, defaults.expires, found));
    let time_zone = map.take("time_zone").and_then(|node| crate::config::window::read_zone(node, found));
    let time_zone = time_zone.unwrap_or_else(|| defaults.time_zone.clone());
    let freezes = map.take("freezes").map(|node| freezes(node, &time_zone, found));
    let maintenance = map
        .take("maintenance")
        .map(|node| crate::config::maintenance::of_environment(node, &time_zone, found));
    map.finish(found);
    if !services.is_empty() && swarm_node.is_none() {
        found.push(
            Diagnostic::error(services_at, format!("`{name}` has services and no Swarm to run them"))
                .hint("add swarm: {managers: [HOST]}, or swarm: {socket: /var/run/docker.sock}"),
        );
    }
    Some(Environment {
        name: EnvName::from(name),
        at: node.at.clone(),
        hosts,
        temporary,
        swarm,
        backups,
        services,
        variables: variables.unwrap_or_default(),
        approvals: approvals.unwrap_or_default(),
        time_zone,
        freezes: freezes.unwrap_or_default(),
        maintenance: maintenance.unwrap_or_default(),
        break_glass,
    })
}

/// `freezes: [{days, from, to, time_zone, reason}]`
fn freezes(node: &Node, zone: &TimeZone, found: &mut Diagnostics) -> Vec<Freeze> {
    let mut freezes = Vec::new();
    for node in node.list(found).unwrap_or_default() {
        let Some(mut map) = node.map(found) else { continue };
        let window = crate::config::window::read(&mut map, node, zone, found);
        let reason = map.need("reason", "say why: whoever is refused reads it", found);
        let reason = reason.and_then(|node| node.text(found));
        map.finish(found);
        if let (Some(window), Some(reason)) = (window, reason) {
            freezes.push(Freeze { window, reason: reason.to_owned(), at: node.at.clone() });
        }
    }
    freezes
}

/// Names are typed in chat, written in templates and given to other programs.
pub(super) fn check_name(what: &str, name: &str, at: &Location, found: &mut Diagnostics) {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if begins && name.len() <= LONGEST && name.chars().all(good) {
        return;
    }
    found.push(
        Diagnostic::error(
            at.clone(),
            format!("`{}` is not a name for a {what}", crate::text::ellipsis(name, 70)),
        )
        .hint(format!(
            "lower-case letters, digits, `-`, `_` and `.`, at most {LONGEST}, a letter or digit first"
        )),
    );
}
