//! How `status` reads in a room: a headline, one aligned line per service, what is not well in words. Pure.
//!
//! Must not: look at the world; it is given what was seen. Rocket.Chat has no tables, so columns stand in a
//! fenced block.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::providers::swarm::{EnvironmentStatus, NodeStatus, ServiceStatus, UpdateState};
use crate::runs::locks::Held;
use crate::runs::releases::Release;
use crate::runs::state::RunState;
use crate::text::{self, ellipsis, inert};

/// Columns never grow beyond this; the rest is cut with `…`.
const WIDEST: usize = 24;

/// Nodes that are named; a Swarm may have hundreds.
const MOST_NODES: usize = 12;

/// What is known of one environment.
pub struct Seen<'a> {
    pub name: &'a str,
    pub world: &'a EnvironmentStatus,
    /// The last release of each service by its name, where Houston made one.
    pub releases: &'a [Release],
    /// Runs under way here.
    pub runs: &'a [RunState],
    /// Break-glass runs that nobody has reviewed yet.
    pub reviews: &'a [RunState],
    pub locks: &'a [Held],
    /// Only this service.
    pub only: Option<&'a str>,
    /// The environment was asked for by its name: whole images and every node.
    pub whole: bool,
}

pub fn render(seen: &Seen<'_>, now: Timestamp) -> String {
    let services: Vec<&ServiceStatus> =
        seen.world.services.iter().filter(|s| seen.only.is_none_or(|only| s.name == only)).collect();
    let well = services.iter().filter(|service| service.is_well()).count();
    let nodes_well = seen.world.nodes.iter().filter(|node| node.is_well()).count();
    let sign = if well == services.len() && nodes_well == seen.world.nodes.len() {
        ":green_circle:"
    } else {
        ":yellow_circle:"
    };
    let mut out = format!(
        "{sign} *{}* {well} of {} well, {nodes_well} of {} ready\n",
        inert(seen.name),
        text::count(services.len(), "service"),
        text::count(seen.world.nodes.len(), "node"),
    );
    let rows: Vec<[String; 4]> = services
        .iter()
        .map(|service| {
            [
                service.name.clone(),
                if service.exists {
                    format!("{}/{}", service.running, service.wanted)
                } else {
                    "–".to_owned()
                },
                match (service.exists, seen.whole) {
                    (false, _) => "not there".to_owned(),
                    (true, false) => service.version.clone(),
                    (true, true) => image(&service.image),
                },
                service.changed_at.map(|at| text::ago(at, now)).unwrap_or_default(),
            ]
        })
        .collect();
    let third = if seen.whole { "image" } else { "version" };
    if !rows.is_empty() {
        out.push_str(&text::fence(&columns(["service", "tasks", third, "changed"], &rows)));
        out.push('\n');
    }
    if seen.whole && seen.only.is_none() && !seen.world.nodes.is_empty() {
        let _ = writeln!(out, "_nodes: {}_", nodes(&seen.world.nodes));
    }
    for service in &services {
        for line in remarks(service) {
            let _ = writeln!(out, ":warning: *{}* {line}", inert(&service.name));
        }
    }
    for node in seen.world.nodes.iter().filter(|node| !node.is_well()) {
        let _ = writeln!(
            out,
            ":warning: node *{}* is {}, {}",
            inert(&node.node.hostname),
            inert(&node.node.state),
            inert(&node.node.availability)
        );
    }
    for release in seen.releases.iter().filter(|r| services.iter().any(|s| s.name == r.service.as_str())) {
        let _ = writeln!(
            out,
            "_{}: {} {} by {}, {} ({})_",
            inert(release.service.as_str()),
            text::ellipsis(&inert(&release.version), 40),
            if release.healthy { "released" } else { "tried, not kept," },
            inert(&release.by.username),
            text::ago(release.at, now),
            release.run
        );
    }
    for run in seen.runs {
        let _ = writeln!(
            out,
            ":arrow_forward: {} {} by {}: {}",
            run.id,
            text::typed(&run.plan.command),
            inert(&run.by.username),
            run.word()
        );
    }
    for run in seen.reviews {
        let _ = writeln!(out, "{}", super::glass::open_review(run, now));
    }
    for lock in seen.locks {
        if matches!(lock.holder, crate::runs::locks::Holder::Person(_)) {
            let _ = writeln!(out, ":lock: {}", lock.holder.describe(now));
        }
    }
    out.trim_end().to_owned()
}

/// Cut at its beginning: what tells images apart stands at the end.
fn image(image: &str) -> String {
    let too_many = image.chars().count().saturating_sub(WIDEST * 2);
    if too_many == 0 {
        return image.to_owned();
    }
    format!("…{}", image.chars().skip(too_many + 1).collect::<String>())
}

/// `vm1 (leader) 3 tasks, vm2 2 tasks`
fn nodes(nodes: &[NodeStatus]) -> String {
    let mut words: Vec<String> = nodes
        .iter()
        .take(MOST_NODES)
        .map(|node| {
            let role = match (node.node.leader, node.node.manager) {
                (true, _) => " (leader)",
                (false, true) => " (manager)",
                (false, false) => "",
            };
            format!("{}{role} {}", inert(&node.node.hostname), text::count(node.tasks, "task"))
        })
        .collect();
    if nodes.len() > MOST_NODES {
        words.push(format!("… and {} more", nodes.len() - MOST_NODES));
    }
    words.join(", ")
}

/// What is not as it should be, in words.
fn remarks(service: &ServiceStatus) -> Vec<String> {
    let mut lines = Vec::new();
    if !service.declared {
        lines.push("runs here and stands in no environment file".to_owned());
        return lines;
    }
    if !service.exists {
        lines.push(format!(
            "is declared ({}) and does not exist",
            text::code(service.declared_version.as_deref().unwrap_or("?"))
        ));
        return lines;
    }
    if service.drift {
        lines.push(format!(
            "runs {}, its file says {}",
            text::code(&service.version),
            text::code(service.declared_version.as_deref().unwrap_or("?"))
        ));
    }
    if !service.differs.is_empty() {
        lines.push(format!("is not as its file says: {}", inert(&text::plain_and_list(&service.differs))));
    }
    if let Some(update) = &service.update
        && update.state != UpdateState::Completed
    {
        lines.push(match &update.state {
            UpdateState::RollbackCompleted => "failed its last update and was rolled back".to_owned(),
            UpdateState::Updating => "is being updated".to_owned(),
            state => {
                format!("its last update is {}: {}", inert(&state.to_string()), inert(&update.message))
            }
        });
    }
    if let Some(failure) = &service.failure {
        lines.push(format!("a task failed: {}", inert(failure)));
    }
    lines
}

/// Left-aligned columns, two spaces apart.
pub fn columns<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(|title| title.chars().count());
    let cut: Vec<[String; N]> = rows
        .iter()
        .map(|row| row.clone().map(|cell| ellipsis(&cell.replace('\n', " "), WIDEST * 2).into_owned()))
        .collect();
    for row in &cut {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let mut line = |cells: [&str; N]| {
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            let pad = width.saturating_sub(cell.chars().count());
            let _ = write!(text, "{cell}{}  ", " ".repeat(pad));
        }
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(head);
    for row in &cut {
        line(std::array::from_fn(|index| row[index].as_str()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_image_keeps_its_version() {
        assert_eq!(image("demo/web:1.7"), "demo/web:1.7");
        let long = image("registry.example.com:5000/some/where/deep/down/web:2026.11.25-3");
        assert!(long.starts_with('…') && long.ends_with("/web:2026.11.25-3"), "{long}");
        assert_eq!(long.chars().count(), WIDEST * 2);
    }

    #[test]
    fn columns_line_up() {
        let rows = [["web".to_owned(), "3/3".to_owned()], ["worker".to_owned(), "1/1".to_owned()]];
        assert_eq!(columns(["service", "tasks"], &rows), "service  tasks\nweb      3/3\nworker   1/1\n");
    }
}
