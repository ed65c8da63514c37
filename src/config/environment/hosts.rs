//! `hosts:` and `swarm:` of an environment file.
//!
//! Addresses end up as arguments of `ssh`: one that ssh would take for an option is refused here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Host, SwarmAccess, Temporary, temporary};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::yaml::{Node, Value};

/// Where the Docker Engine listens unless something else is said.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// Those that are there, and those that are rented when a run needs them.
type Hosts = (BTreeMap<String, Host>, BTreeMap<String, Temporary>);

pub(super) fn read(node: &Node, dir: &Path, found: &mut Diagnostics) -> Hosts {
    let (mut hosts, mut rented) = Hosts::default();
    for (key, node) in node.entries(found).unwrap_or_default() {
        super::read::check_name("host", &key.name, &key.at, found);
        if temporary::is_one(node) {
            if let Some(host) = temporary::read(&key.name, node, dir, found) {
                rented.insert(key.name.to_string(), host);
            }
        } else if let Some(host) = host(&key.name, node, dir, found) {
            hosts.insert(key.name.to_string(), host);
        }
    }
    (hosts, rented)
}

/// `deploy@10.0.0.2:22` alone, or a mapping with it under `ssh`.
fn host(name: &str, node: &Node, dir: &Path, found: &mut Diagnostics) -> Option<Host> {
    let mut host = Host {
        name: name.to_owned(),
        address: String::new(),
        user: None,
        port: 22,
        identity: None,
        known_hosts: None,
        jump: Vec::new(),
        at: node.at.clone(),
    };
    let address = if let Value::Text(_) = node.value {
        ssh_address(node, found)
    } else {
        let mut map = node.map(found)?;
        let address = map.need("ssh", "how the host is reached: user@address:port", found);
        let address = address.and_then(|node| ssh_address(node, found));
        host.identity = map.take("identity").and_then(|node| file(node, dir, found));
        host.known_hosts = map.take("known_hosts").and_then(|node| file(node, dir, found));
        if let Some(node) = map.take("jump") {
            host.jump = jump(node, found)?;
        }
        map.finish(found);
        address
    };
    (host.user, host.address, host.port) = address?;
    Some(host)
}

/// Hosts to go through: one, or a list.
pub(super) fn jump(node: &Node, found: &mut Diagnostics) -> Option<Vec<String>> {
    let hops = match &node.value {
        Value::Text(_) => std::slice::from_ref(node),
        _ => node.list(found)?,
    };
    let hops = hops.iter().filter(|hop| ssh_address(hop, found).is_some()).collect::<Vec<_>>();
    Some(hops.into_iter().filter_map(|hop| Some(hop.text(found)?.to_owned())).collect())
}

type Address = (Option<String>, String, u16);

/// `[user@]host[:port]`, an IPv6 address in brackets.
fn ssh_address(node: &Node, found: &mut Diagnostics) -> Option<Address> {
    let text = node.text(found)?.trim();
    let parsed = parse_address(text);
    if parsed.is_none() {
        found.push(
            node.expected("[user@]address[:port]")
                .hint("for example deploy@10.0.0.2, or deploy@[2001:db8::1]:2222"),
        );
    }
    parsed
}

fn parse_address(text: &str) -> Option<Address> {
    let (user, rest) = match text.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, text),
    };
    let (address, port) = if let Some(inner) = rest.strip_prefix('[') {
        let (address, after) = inner.split_once(']')?;
        address.parse::<std::net::Ipv6Addr>().ok()?;
        match after.strip_prefix(':') {
            Some(port) => (address, Some(port)),
            None if after.is_empty() => (address, None),
            None => return None,
        }
    } else {
        match rest.split_once(':') {
            // Two colons without brackets: where the port begins would be a guess.
            Some((_, port)) if port.contains(':') => return None,
            Some((address, port)) => (address, Some(port)),
            None => (rest, None),
        }
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port > 0)?,
        None => 22,
    };
    let safe = |word: &str| {
        !word.is_empty()
            && !word.starts_with('-')
            && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%'))
    };
    (safe(address) && user.is_none_or(safe)).then(|| (user.map(str::to_owned), address.to_owned(), port))
}

/// A path; relative ones count from the configuration folder.
pub(super) fn file(node: &Node, dir: &Path, found: &mut Diagnostics) -> Option<PathBuf> {
    let text = node.text(found)?;
    if text.starts_with('~') {
        found.push(
            node.expected("a path")
                .hint("`~` is not expanded: write the path out, or relative to the configuration folder"),
        );
        return None;
    }
    Some(dir.join(text))
}

/// `swarm:`; that the managers are hosts is checked when both are known.
pub(super) fn swarm(node: &Node, hosts: Option<&Node>, found: &mut Diagnostics) -> Option<SwarmAccess> {
    let mut map = node.map(found)?;
    let managers = map.take("managers");
    let socket = map.take("socket").and_then(|node| Some((node, node.text(found)?)));
    map.finish(found);
    if let Some((node, socket)) = socket
        && !socket.starts_with('/')
    {
        found.push(
            node.expected("the absolute path of a socket").hint(format!("for example {DOCKER_SOCKET}")),
        );
        return None;
    }
    let socket = socket.map(|(_, socket)| PathBuf::from(socket));
    match (managers, socket) {
        (Some(managers), socket) => {
            let names = managers.one_or_more_texts(found)?;
            if names.is_empty() {
                found.push(Diagnostic::error(managers.at.clone(), "`managers` is empty"));
            }
            let known: Vec<&str> = match hosts.map(|node| &node.value) {
                Some(Value::Map(entries)) => {
                    // What is there only while a run has it manages nothing.
                    entries.iter().filter(|(_, n)| !temporary::is_one(n)).map(|(key, _)| &*key.name).collect()
                }
                _ => Vec::new(),
            };
            for (name, at) in &names {
                if !known.contains(&name.as_str()) {
                    let finding = Diagnostic::error(at.clone(), format!("`{name}` is not a host"));
                    found.push(match crate::text::did_you_mean(name, known.iter().copied()) {
                        Some(meant) => finding.hint(format!("did you mean `{meant}`?")),
                        None if known.is_empty() => finding.hint("declare it under `hosts`"),
                        None => finding.hint(format!("hosts are {}", crate::text::and_list(&known))),
                    });
                }
            }
            Some(SwarmAccess::Managers {
                hosts: names.into_iter().map(|(name, _)| name).collect(),
                socket: socket.unwrap_or_else(|| DOCKER_SOCKET.into()),
            })
        }
        (None, Some(socket)) => Some(SwarmAccess::Socket(socket)),
        (None, None) => {
            found.push(
                Diagnostic::error(node.at.clone(), "how the Swarm is reached is missing")
                    .hint(format!("write {{managers: [HOST]}}, or {{socket: {DOCKER_SOCKET}}}")),
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_ssh_reads_them() {
        let some =
            |user: Option<&str>, host: &str, port| Some((user.map(str::to_owned), host.to_owned(), port));
        assert_eq!(parse_address("deploy@10.0.0.2:2222"), some(Some("deploy"), "10.0.0.2", 2222));
        assert_eq!(parse_address("node1"), some(None, "node1", 22));
        assert_eq!(parse_address("root@[2001:db8::1]:23"), some(Some("root"), "2001:db8::1", 23));
    }

    #[test]
    fn what_ssh_would_take_for_an_option_is_no_address() {
        for text in
            ["-oProxyCommand=x", "-l@host", "a b", "host:0", "host:x", "::1", "u@", "", "h\n", "[::1", "h;x"]
        {
            assert_eq!(parse_address(text), None, "{text}");
        }
    }
}
