//! `policies.yaml`: what people expect of rights and approvals, a line each. `houston check` holds the folder
//! against them.
//!
//! Must not: decide whether they are met; that is done with the code that decides in chat.

use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::yaml::Node;

/// The file, at the top of the configuration folder.
pub(super) const FILE: &str = "policies.yaml";

/// One expectation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// A user name, as in `access.roles`.
    pub who: String,
    /// Roles that Rocket.Chat is taken to say they have.
    pub rocketchat_roles: Vec<String>,
    /// In which room, by its name. Default `ops`.
    pub room: String,
    /// As typed, without the `!`.
    pub command: String,
    /// Whether they may ask for it.
    pub may: Option<bool>,
    /// The step of its playbook whose rule of consent is meant, in place of the command's.
    pub step: Option<(String, Location)>,
    /// Whether somebody has to consent.
    pub approval: Option<bool>,
    /// Who consents, by user name; and whether that is enough.
    pub approved_by: Option<(Vec<String>, bool)>,
    pub at: Location,
}

pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Vec<Expectation> {
    let lines = node.list(found).unwrap_or_default();
    lines.iter().filter_map(|node| expectation(node, found)).collect()
}

fn expectation(node: &Node, found: &mut Diagnostics) -> Option<Expectation> {
    let mut map = node.map(found)?;
    let who = map.need("who", "a user name", found).and_then(|node| node.text(found));
    let command = map.need("command", "what they type", found).and_then(|node| node.text(found));
    let roles = map.take("rocketchat_roles").and_then(|node| node.one_or_more_texts(found));
    let room = map.take("room").and_then(|node| node.text(found)).unwrap_or("ops");
    let may = map.take("may").and_then(|node| node.boolean(found));
    let step = map.take("step").and_then(|node| Some((node.text(found)?.to_owned(), node.at.clone())));
    let approval =
        map.take("approval").and_then(|node| node.choice(&[("needed", true), ("none", false)], found));
    let by = map.take("approved_by").and_then(|node| node.one_or_more_texts(found));
    let enough = map.take("enough");
    let enough_at = enough.map(|node| node.at.clone());
    let enough = enough.and_then(|node| node.boolean(found));
    map.finish(found);
    let names = |list: Vec<(String, Location)>| {
        list.into_iter().map(|(name, _)| name.trim_start_matches('@').to_owned()).collect::<Vec<_>>()
    };
    if by.is_none()
        && let Some(at) = enough_at
    {
        found.push(Diagnostic::error(at, "`enough` of whom?").hint("name who consents: approved_by: [bob]"));
    }
    if may.is_none() && approval.is_none() && by.is_none() {
        found.push(
            Diagnostic::error(node.at.clone(), "nothing is expected here")
                .hint("write may: true or false, approval: needed or none, or approved_by: [NAME]"),
        );
        return None;
    }
    Some(Expectation {
        who: who?.trim_start_matches('@').to_owned(),
        rocketchat_roles: roles.map(names).unwrap_or_default(),
        room: room.trim_start_matches('#').to_owned(),
        command: command?.to_owned(),
        may,
        step,
        approval,
        approved_by: by.map(|by| (names(by), enough.unwrap_or(true))),
        at: node.at.clone(),
    })
}
