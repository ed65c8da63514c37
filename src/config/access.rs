//! `access:` in `houston.yaml`: who is in which role, and the rules before the built-in ones.

use std::collections::BTreeMap;

use super::{Access, Role, Rule};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::ids::RoleName;
use crate::yaml::{Map, Node};

pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Access {
    let mut access = Access::default();
    let Some(mut map) = node.map(found) else { return access };
    if let Some(roles) = map.take("roles").and_then(|node| node.entries(found)) {
        for (key, node) in roles {
            if let Some(role) = role(node, found) {
                access.roles.insert(RoleName::from(&*key.name), role);
            }
        }
    }
    if let Some(rules) = map.take("rules").and_then(|node| node.list(found)) {
        access.rules = rules.iter().filter_map(|node| rule(node, found)).collect();
    }
    map.finish(found);
    access
}

fn role(node: &Node, found: &mut Diagnostics) -> Option<Role> {
    let mut map = node.map(found)?;
    let users = names(&mut map, "users", found);
    let rocketchat_roles = names(&mut map, "rocketchat_roles", found);
    map.finish(found);
    if users.is_empty() && rocketchat_roles.is_empty() {
        found.push(
            Diagnostic::warning(node.at.clone(), format!("nobody is in the role `{}`", node.label))
                .hint("give `users: [NAME]`, or `rocketchat_roles: [ROLE]`"),
        );
    }
    Some(Role { users, rocketchat_roles, at: node.at.clone() })
}

/// `- allow: {…}` or `- deny: {…}`.
fn rule(node: &Node, found: &mut Diagnostics) -> Option<Rule> {
    let mut map = node.map(found)?;
    let (allow, deny) = (map.take("allow"), map.take("deny"));
    if allow.is_some() || deny.is_some() {
        map.finish(found);
    }
    let (allows, body) = match (allow, deny) {
        (Some(body), None) => (true, body),
        (None, Some(body)) => (false, body),
        _ => {
            found.push(
                Diagnostic::error(node.at.clone(), "a rule either allows or denies")
                    .hint("write - allow: {roles: [operator], commands: [deploy]}, or - deny: {…}"),
            );
            return None;
        }
    };
    let mut map = body.map(found)?;
    let mut rule = Rule {
        allow: allows,
        roles: names(&mut map, "roles", found).into_iter().map(RoleName::from).collect(),
        users: names(&mut map, "users", found),
        rooms: names(&mut map, "rooms", found),
        commands: names(&mut map, "commands", found),
        arguments: BTreeMap::new(),
        at: node.at.clone(),
    };
    if let Some(arguments) = map.take("arguments").and_then(|node| node.entries(found)) {
        for (key, values) in arguments {
            if let Some(values) = values.one_or_more_texts(found) {
                let values = values.into_iter().map(|(value, _)| value).collect();
                rule.arguments.insert(key.name.to_string(), values);
            }
        }
    }
    map.finish(found);
    Some(rule)
}

/// Names without the `@` or `#` that people put before them.
fn names(map: &mut Map<'_>, key: &'static str, found: &mut Diagnostics) -> Vec<String> {
    let list = map.take(key).and_then(|node| node.one_or_more_texts(found)).unwrap_or_default();
    list.into_iter().map(|(name, _)| name.trim_start_matches(['@', '#']).to_owned()).collect()
}
