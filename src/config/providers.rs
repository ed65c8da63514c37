//! `providers:` in `houston.yaml`: what Houston rents or asks elsewhere, and with whose token. One section each.
//!
//! Must not: connect to anything, or resolve a token.

use std::collections::BTreeMap;

use super::environment::Environment;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::ids::EnvName;
use crate::secret::SecretRef;
use crate::yaml::Node;

/// Where Hetzner's API is, unless something else is said.
pub const HETZNER: &str = "https://api.hetzner.cloud/v1";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Providers {
    pub hetzner: Option<Hetzner>,
}

/// A project of Hetzner Cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hetzner {
    /// Without a slash at its end.
    pub url: url::Url,
    /// A token belongs to one project.
    pub token: SecretRef,
}

pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Providers {
    let Some(mut map) = node.map(found) else { return Providers::default() };
    let hetzner = map.take("hetzner").and_then(|node| hetzner(node, found));
    map.finish(found);
    Providers { hetzner }
}

fn hetzner(node: &Node, found: &mut Diagnostics) -> Option<Hetzner> {
    let mut map = node.map(found)?;
    let token =
        map.need("token", "a token of the project that may read and write: {env: HCLOUD_TOKEN}", found);
    let token = token.and_then(|node| node.secret(found));
    let url = match map.take("url") {
        Some(node) => super::rocketchat::url(node, found),
        None => url::Url::parse(HETZNER).ok(),
    };
    map.finish(found);
    Some(Hetzner { url: url?, token: token? })
}

/// Servers cannot be rented from nobody.
pub(super) fn check(
    providers: &Providers,
    environments: &BTreeMap<EnvName, Environment>,
    found: &mut Diagnostics,
) {
    if providers.hetzner.is_some() {
        return;
    }
    for host in environments.values().flat_map(|environment| environment.temporary.values()) {
        found.push(
            Diagnostic::error(
                host.at.clone(),
                format!("`{}` is rented from Hetzner, and nothing is known about Hetzner", host.name),
            )
            .hint("add to houston.yaml: providers: {hetzner: {token: {env: HCLOUD_TOKEN}}}"),
        );
    }
}
