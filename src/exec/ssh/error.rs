//! What ssh says when it cannot connect, in words that tell people what to do. ssh offers nothing but
//! text here; the texts are those of OpenSSH 8 to 10, and they are matched in this one place.

use super::config::Settings;
use crate::exec::ExecError;
use crate::text;

pub(super) fn connecting(what: String, host: &Settings, error: &openssh::Error) -> ExecError {
    let said = match error {
        openssh::Error::Connect(io)
            if io.kind() == std::io::ErrorKind::NotFound && !io.to_string().contains("ssh") =>
        {
            return ExecError::NotStarted {
                what,
                reason: "the program `ssh` cannot be started".into(),
                hint: Some("install OpenSSH's client (Debian: `apt-get install openssh-client`)".into()),
                transient: false,
            };
        }
        openssh::Error::Connect(io) => io.to_string(),
        other => text::with_causes(other),
    };
    let (reason, hint, transient) = explain(&said, host);
    ExecError::NotStarted { what, reason, hint, transient }
}

/// Reason, hint, and whether another attempt may help.
fn explain(said: &str, host: &Settings) -> (String, Option<String>, bool) {
    let known_hosts = host
        .known_hosts
        .as_ref()
        .map_or_else(|| "~/.ssh/known_hosts".to_owned(), |path| path.display().to_string());
    let address = &host.address;
    let port = if host.port == 22 { String::new() } else { format!("-p {} ", host.port) };
    let name = host.known_hosts_name();
    // The line that names the cause; ssh writes warnings before it.
    let last = said.lines().rev().map(str::trim).find(|l| !l.is_empty()).unwrap_or("ssh gave no reason");
    let has = |text: &str| said.contains(text);
    if has("IDENTIFICATION HAS CHANGED") || has("REVOKED HOST KEY") {
        return (
            "the host key is NOT the one that is known: either the machine was set up anew, or somebody \
             is between you and it"
                .into(),
            Some(format!(
                "find out which, on the machine's own console: `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`; \
                 only then remove the old key: `ssh-keygen -f {known_hosts} -R '{name}'`"
            )),
            false,
        );
    }
    if has("Host key verification failed") || has("host key is known for") {
        let of_jump = !host.jump.is_empty() && !has(&format!("host key is known for {name} "));
        let line = if of_jump {
            "the host key of a jump host may be the unknown one; for each host on the way: `ssh-keyscan \
             [-p PORT] HOST`"
                .to_owned()
        } else {
            format!("`ssh-keyscan {port}{address} >> {known_hosts}`")
        };
        return (
            "the host key is not known".into(),
            Some(format!(
                "{line}; then compare the fingerprint (`ssh-keygen -lf {known_hosts}`) with the one on the \
                 machine's own console: a key that was only scanned proves nothing"
            )),
            false,
        );
    }
    if has("UNPROTECTED PRIVATE KEY") || has("bad permissions") {
        let identity = host.identity.as_ref().map_or("the key".into(), |p| p.display().to_string());
        let hint = format!("`chmod 600 {identity}`");
        return ("the private key can be read by others, so ssh does not use it".into(), Some(hint), false);
    }
    if has("Permission denied") || has("Too many authentication failures") {
        let user = host.user.as_deref().unwrap_or("Houston's own user name");
        let key = host.identity.as_ref().map_or_else(
            || "a key of Houston's user or agent".to_owned(),
            |p| format!("the public half of `{}`", p.display()),
        );
        return (
            format!("the login was refused ({last})"),
            Some(format!("is {key} in `authorized_keys` of `{user}` there?")),
            false,
        );
    }
    if has("Could not resolve") {
        let hint = format!("check `{address}` in the environment file, and the DNS of this machine");
        return (format!("the name is not known: {last}"), Some(hint), has("Temporary failure"));
    }
    let by_hand = format!("by hand: `{}`", host.by_hand());
    if has("Connection refused") {
        let hint = format!("is sshd running there, on port {}? {by_hand}", host.port);
        return (last.to_owned(), Some(hint), true);
    }
    if has("No route to host") || has("Network is unreachable") || has("timed out") {
        let hint =
            format!("is the machine up, and may this one reach it (firewall, private network)? {by_hand}");
        return (last.to_owned(), Some(hint), true);
    }
    if !host.jump.is_empty() {
        let hint = format!("the jump host {} may be the cause; {by_hand}", crate::text::and_list(&host.jump));
        return (last.to_owned(), Some(hint), true);
    }
    (last.to_owned(), Some(by_hand), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Settings {
        Settings {
            name: "node1".into(),
            address: "10.0.0.2".into(),
            user: Some("deploy".into()),
            port: 2222,
            identity: Some("/etc/houston/id".into()),
            known_hosts: Some("/etc/houston/known_hosts".into()),
            jump: vec![],
        }
    }

    fn explained(said: &str) -> (String, String, bool) {
        let (reason, hint, transient) = explain(said, &host());
        (reason, hint.expect("a hint"), transient)
    }

    #[test]
    fn an_unknown_key_names_the_scan_and_warns_to_compare_the_fingerprint() {
        let (reason, hint, transient) = explained(
            "No ED25519 host key is known for [10.0.0.2]:2222 and you have requested strict checking.\r\n\
             Host key verification failed.",
        );
        assert_eq!(reason, "the host key is not known");
        assert!(hint.contains("`ssh-keyscan -p 2222 10.0.0.2 >> /etc/houston/known_hosts`"), "{hint}");
        assert!(hint.contains("fingerprint") && !transient);
    }

    #[test]
    fn a_changed_key_is_not_mistaken_for_an_unknown_one() {
        let (reason, hint, transient) = explained(
            "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\nHost key verification failed.",
        );
        assert!(reason.contains("NOT the one that is known"), "{reason}");
        assert!(hint.contains("-R '[10.0.0.2]:2222'") && !transient, "{hint}");
    }

    #[test]
    fn refusals_that_only_people_can_mend_are_terminal_and_the_network_is_transient() {
        assert!(!explained("deploy@10.0.0.2: Permission denied (publickey).").2);
        assert!(!explained("Could not resolve hostname node1: Name or service not known").2);
        for said in [
            "connect to host 10.0.0.2 port 2222: Connection refused",
            "connect to host x port 22: No route to host",
        ] {
            let (reason, hint, transient) = explained(said);
            let by_hand = "`ssh -v -o BatchMode=yes -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes -i /etc/houston/id \
                -o UserKnownHostsFile=/etc/houston/known_hosts ssh://deploy@10.0.0.2:2222 true`";
            assert!(transient && reason == said && hint.contains(by_hand), "{hint}");
        }
    }
}
