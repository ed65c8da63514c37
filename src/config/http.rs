//! `http:` in `houston.yaml`: where Houston itself listens.

use std::net::SocketAddr;
use std::time::Duration;

use super::Http;
use crate::diagnostic::Diagnostics;
use crate::yaml::{Node, Value};

/// What [`Http::link_expires`] is where nothing is said.
pub(super) const LINK_EXPIRES: Duration = Duration::from_secs(86_400);

pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Option<Http> {
    let mut map = node.map(found)?;
    let listen = map
        .need("listen", "an address and port, such as 127.0.0.1:8080", found)
        .and_then(|node| listen(node, found));
    let public = map.take("public_url");
    let public_url = public.and_then(|node| super::rocketchat::url(node, found));
    let range = Duration::from_secs(300)..=Duration::from_secs(30 * 86_400);
    let link_expires = map.take("link_expires").and_then(|node| node.duration(range, found));
    map.finish(found);
    Some(Http { listen: listen?, public_url, link_expires: link_expires.unwrap_or(LINK_EXPIRES) })
}

fn listen(node: &Node, found: &mut Diagnostics) -> Option<SocketAddr> {
    let written = match &node.value {
        Value::Text(text) => text.trim(),
        Value::Integer(_, port) => port.as_str(),
        _ => "",
    };
    if let Ok(address) = written.parse() {
        return Some(address);
    }
    let finding = node.expected("an address and port");
    let port = written.trim_start_matches("localhost").trim_start_matches(':').parse::<u16>();
    found.push(match port {
        Ok(port) => finding.hint(format!("write 127.0.0.1:{port} for this machine only, or 0.0.0.0:{port}")),
        Err(_) => finding.hint("write an IP address and a port, such as 127.0.0.1:8080"),
    });
    None
}
