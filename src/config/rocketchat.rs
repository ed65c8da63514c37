//! `rocketchat:` in `houston.yaml`: the workspace and the account that Houston is.

use super::{Auth, RocketChat};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::yaml::{Map, Node};

pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Option<RocketChat> {
    let mut map = node.map(found)?;
    let url = map
        .need("url", "the address of the workspace, such as https://chat.example.com", found)
        .and_then(|node| url(node, found));
    let auth = auth(&mut map, found);
    map.finish(found);
    if let Some(url) = &url {
        warn_about_plain_http(node, url, found);
    }
    Some(RocketChat { url: url?, auth: auth?, at: node.at.clone() })
}

fn auth(map: &mut Map<'_>, found: &mut Diagnostics) -> Option<Auth> {
    const EITHER: &str = "give `user_id` and `token`, or `username` and `password`";
    let (user_id, token) = (map.take("user_id"), map.take("token"));
    let (username, password) = (map.take("username"), map.take("password"));
    let text = |node: Option<&Node>, found: &mut Diagnostics| {
        node.and_then(|node| node.text(found)).map(|text| text.trim_start_matches('@').to_owned())
    };
    let by_token = user_id.is_some() || token.is_some();
    let by_password = username.is_some() || password.is_some();
    if by_token == by_password {
        let what = if by_token { "two ways to log in are given" } else { "there is no way to log in" };
        found.push(Diagnostic::error(map.at.clone(), what).hint(EITHER));
        // What was given is looked at all the same: all problems at once.
        for node in [token, password].into_iter().flatten() {
            node.secret(found);
        }
        return None;
    }
    let mut missing = |name: &str, absent: bool| {
        if absent {
            found.push(Diagnostic::error(map.at.clone(), format!("`{name}` is missing")).hint(EITHER));
        }
    };
    if by_token {
        missing("user_id", user_id.is_none());
        missing("token", token.is_none());
        let user_id = text(user_id, found);
        let token = token.and_then(|node| node.secret(found));
        Some(Auth::Token { user_id: user_id?, token: token? })
    } else {
        missing("username", username.is_none());
        missing("password", password.is_none());
        let username = text(username, found);
        let password = password.and_then(|node| node.secret(found));
        Some(Auth::Password { username: username?, password: password? })
    }
}

/// An HTTP address without query, fragment and credentials, and without a slash at its end.
pub(super) fn url(node: &Node, found: &mut Diagnostics) -> Option<url::Url> {
    let text = node.text(found)?;
    let refuse = |hint: &str| node.expected("an address such as https://chat.example.com").hint(hint);
    let Ok(mut url) = url::Url::parse(text.trim()) else {
        found.push(refuse("it begins with https:// or http://"));
        return None;
    };
    if !url.username().is_empty() || url.password().is_some() {
        found.push(
            Diagnostic::error(node.at.clone(), format!("`{}` holds credentials", node.label))
                .confidential()
                .hint("leave them out of the address; secrets are references"),
        );
        return None;
    }
    let problem = match url.scheme() {
        "ws" | "wss" => Some("write the https:// address of the workspace; the socket's is found from it"),
        "http" | "https" if url.query().is_some() || url.fragment().is_some() => {
            Some("leave out what follows `?` or `#`")
        }
        "http" | "https" => None,
        _ => Some("it begins with https:// or http://"),
    };
    if let Some(hint) = problem {
        found.push(refuse(hint));
        return None;
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Some(url)
}

fn warn_about_plain_http(node: &Node, url: &url::Url, found: &mut Diagnostics) {
    let near = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback() || ip.is_private(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        // A bare name is a container's or a local one.
        Some(url::Host::Domain(name)) => !name.contains('.'),
        None => true,
    };
    if url.scheme() == "http" && !near {
        found.push(
            Diagnostic::warning(node.at.clone(), "the login and all messages travel unencrypted")
                .hint("use https:// if the workspace has it"),
        );
    }
}
