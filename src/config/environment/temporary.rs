//! A host under `hosts:` that is there only while a run has it: what to rent for it.
//!
//! Must not: ask anybody whether that is to be had.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::hosts;
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::yaml::{Node, Value};

/// Labels of Houston's own begin so.
pub const OWN_LABELS: &str = "houston-";

/// What Hetzner takes as a label.
const LONGEST_LABEL: usize = 63;

/// A machine that a step makes, and a later one removes.
#[derive(Clone, Debug)]
pub struct Temporary {
    pub name: String,
    pub server: Rented,
    /// Default root.
    pub user: String,
    /// Default 22.
    pub port: u16,
    /// Private key file; absent: ssh's own defaults and agent.
    pub identity: Option<PathBuf>,
    /// `[user@]host[:port]`, first hop first.
    pub jump: Vec<String>,
    pub address: Reached,
    pub at: Location,
}

/// Which of its addresses Houston connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reached {
    Private,
    Public,
}

/// What is asked of Hetzner; everything by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rented {
    pub image: Image,
    /// `cx22`
    #[serde(rename = "type")]
    pub kind: String,
    /// `nbg1`
    pub location: String,
    pub network: Option<String>,
    pub ssh_keys: Vec<String>,
    pub firewall: Option<String>,
    pub placement_group: Option<String>,
    pub volumes: Vec<String>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Image {
    /// Or its id.
    Name(String),
    /// The newest snapshot with these labels: `purpose=backup`.
    Newest(String),
}

/// Whether an entry of `hosts` is one of these.
pub(super) fn is_one(node: &Node) -> bool {
    matches!(&node.value, Value::Map(entries) if entries.iter().any(|(key, _)| &*key.name == "server"))
}

pub(super) fn read(name: &str, node: &Node, dir: &Path, found: &mut Diagnostics) -> Option<Temporary> {
    let mut map = node.map(found)?;
    let server = map.need("server", "", found).and_then(|node| rented(node, found));
    let user = map.take("user").and_then(|node| word(node, found)).unwrap_or_else(|| "root".to_owned());
    let port = map.take("port").and_then(|node| node.integer(1..=65535, found));
    let identity = map.take("identity").and_then(|node| hosts::file(node, dir, found));
    let jump = map.take("jump").and_then(|node| hosts::jump(node, found)).unwrap_or_default();
    let reached_at = map.take("address");
    let address = reached_at
        .and_then(|node| node.choice(&[("private", Reached::Private), ("public", Reached::Public)], found))
        .unwrap_or(Reached::Private);
    map.finish(found);
    let server = server?;
    if address == Reached::Private && server.network.is_none() {
        found.push(
            Diagnostic::error(
                reached_at.map_or_else(|| node.at.clone(), |node| node.at.clone()),
                format!("`{name}` is reached at its private address, and is in no network"),
            )
            .hint("name the network under `server`, or write address: public"),
        );
    }
    Some(Temporary {
        name: name.to_owned(),
        server,
        user,
        port: port.and_then(|port| u16::try_from(port).ok()).unwrap_or(22),
        identity,
        jump,
        address,
        at: node.at.clone(),
    })
}

fn rented(node: &Node, found: &mut Diagnostics) -> Option<Rented> {
    let mut map = node.map(found)?;
    let image = map.need("image", "a name, an id, or {label: purpose=backup} for the newest snapshot", found);
    let image = image.and_then(|node| image_of(node, found));
    let kind = map.need("type", "a server type, such as cx22", found).and_then(|node| word(node, found));
    let location = map.need("location", "such as nbg1", found).and_then(|node| word(node, found));
    let mut one = |map: &mut crate::yaml::Map<'_>, key| map.take(key).and_then(|n| word_or_number(n, found));
    let network = one(&mut map, "network");
    let firewall = one(&mut map, "firewall");
    let placement_group = one(&mut map, "placement_group");
    let mut several = |map: &mut crate::yaml::Map<'_>, key| -> Vec<String> {
        let texts = map.take(key).and_then(|node| node.one_or_more_texts(found)).unwrap_or_default();
        texts.into_iter().map(|(text, _)| text).collect()
    };
    let volumes = several(&mut map, "volumes");
    let ssh_keys = several(&mut map, "ssh_keys");
    let labels = map.take("labels").map(|node| labels(node, found)).unwrap_or_default();
    if ssh_keys.is_empty() {
        found.push(
            Diagnostic::error(node.at.clone(), "nobody could log in: `ssh_keys` is missing")
                .hint("name the key, as the Hetzner project knows it, whose private half is `identity`"),
        );
    }
    map.finish(found);
    Some(Rented {
        image: image?,
        kind: kind?,
        location: location?,
        network,
        ssh_keys,
        firewall,
        placement_group,
        volumes,
        labels,
    })
}

fn image_of(node: &Node, found: &mut Diagnostics) -> Option<Image> {
    if let Value::Map(_) = &node.value {
        let mut map = node.map(found)?;
        let label = map.need("label", "labels of a snapshot: purpose=backup", found);
        let label = label.and_then(|node| node.text(found)).map(|text| Image::Newest(text.trim().to_owned()));
        map.finish(found);
        return label;
    }
    word_or_number(node, found).map(Image::Name)
}

/// An id is a number, and nobody should have to quote it.
fn word_or_number(node: &Node, found: &mut Diagnostics) -> Option<String> {
    match &node.value {
        Value::Integer(id, _) if *id > 0 => Some(id.to_string()),
        _ => node.text(found).map(|text| text.trim().to_owned()),
    }
}

/// Part of a command line of others: nothing that begins like an option.
fn word(node: &Node, found: &mut Diagnostics) -> Option<String> {
    let text = node.text(found)?.trim();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if text.starts_with('-') || !text.chars().all(fits) {
        found.push(node.expected("letters, digits, `.`, `-` and `_`"));
        return None;
    }
    Some(text.to_owned())
}

fn labels(node: &Node, found: &mut Diagnostics) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (key, node) in node.entries(found).unwrap_or_default() {
        let Some(value) = node.scalar(found) else { continue };
        if key.name.starts_with(OWN_LABELS) {
            found.push(
                Diagnostic::error(key.at.clone(), format!("`{}` is a label of Houston's own", key.name))
                    .hint("by these it finds its servers again: choose another name"),
            );
        } else if !is_label(&key.name) || !(value.is_empty() || is_label(&value)) {
            found.push(
                Diagnostic::error(node.at.clone(), format!("Hetzner takes no label `{}={value}`", key.name)).hint(
                    format!(
                        "up to {LONGEST_LABEL} letters, digits, `-`, `_` and `.`, a letter or digit at both ends"
                    ),
                ),
            );
        } else {
            labels.insert(key.name.to_string(), value);
        }
    }
    labels
}

fn is_label(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_alphanumeric();
    text.len() <= LONGEST_LABEL
        && text.starts_with(alphanumeric)
        && text.ends_with(alphanumeric)
        && text.chars().all(|c| alphanumeric(c) || matches!(c, '-' | '_' | '.'))
}
