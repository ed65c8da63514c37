//! An environment's host as ssh's own configuration: a file per host, so that the same key, known hosts
//! and strictness hold for its jump hosts too (`-J` passes nothing else on).

use std::fmt;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::SshOptions;
use crate::config::environment::Host;

/// What ssh is told to connect to; the file says what that is. So no address is ever taken for an option.
pub(super) const ALIAS: &str = "houston-target";

/// What makes a connection; two hosts that are equal here can share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) user: Option<String>,
    pub(super) port: u16,
    pub(super) identity: Option<PathBuf>,
    pub(super) known_hosts: Option<PathBuf>,
    pub(super) jump: Vec<String>,
}

/// A setting that ssh must not be given.
pub(super) struct BadSetting {
    pub(super) reason: String,
    pub(super) hint: String,
}

impl Settings {
    pub(super) fn of(host: &Host) -> Self {
        Self {
            name: host.name.clone(),
            address: host.address.clone(),
            user: host.user.clone(),
            port: host.port,
            identity: host.identity.clone(),
            known_hosts: host.known_hosts.clone(),
            jump: host.jump.clone(),
        }
    }

    /// What a person types to have the host's shell read `line`. Whose key opens the host is theirs to know.
    pub(super) fn typed(&self, line: &str) -> String {
        let Self { address, user, port, jump, .. } = self;
        let mut words = vec!["ssh".to_owned()];
        if *port != 22 {
            words.extend(["-p".to_owned(), port.to_string()]);
        }
        if !jump.is_empty() {
            words.extend(["-J".to_owned(), jump.join(",")]);
        }
        if let Some(user) = user {
            words.extend(["-l".to_owned(), user.clone()]);
        }
        words.extend([address.clone(), "--".to_owned()]);
        // The shell here reads it once before the one there does; ssh joins what it is given with spaces.
        let line = if line.contains('\'') { crate::text::shell_words(&[line]) } else { line.to_owned() };
        format!("{} {line}", crate::text::shell_words(&words))
    }

    /// The file's text, and the jump hosts for the command line.
    pub(super) fn ssh_config(&self, options: &SshOptions) -> Result<(String, Vec<String>), BadSetting> {
        let Self { address, user, port, identity, known_hosts, jump, .. } = self;
        word("address", address)?;
        let mut text = format!("Host {ALIAS}\n  HostName {address}\n  Port {port}\n");
        if let Some(user) = user {
            word("user", user)?;
            let _ = writeln!(text, "  User {user}");
        }
        text.push_str(
            "Host *\n  StrictHostKeyChecking yes\n  UpdateHostKeys no\n  BatchMode yes\n  \
             PasswordAuthentication no\n  KbdInteractiveAuthentication no\n  ForwardAgent no\n  ForwardX11 no\n  \
             PermitLocalCommand no\n  StreamLocalBindMask 0177\n  StreamLocalBindUnlink yes\n  \
             ServerAliveCountMax 3\n",
        );
        let _ = writeln!(text, "  ServerAliveInterval {}", options.alive_interval.as_secs().max(1));
        let _ = writeln!(text, "  ConnectTimeout {}", options.connect_timeout.as_secs().max(1));
        if let Some(identity) = identity {
            readable("identity", identity)?;
            let _ = writeln!(text, "  IdentitiesOnly yes\n  IdentityFile {}", quoted("identity", identity)?);
        }
        if let Some(known_hosts) = known_hosts {
            readable("known_hosts", known_hosts)?;
            let path = quoted("known_hosts", known_hosts)?;
            let _ = writeln!(text, "  UserKnownHostsFile {path}\n  GlobalKnownHostsFile /dev/null");
        }
        for hop in jump {
            word("jump", hop)?;
        }
        Ok((text, jump.clone()))
    }

    /// The command that a person types to see more; with jump hosts, up to the first one.
    pub(super) fn by_hand(&self) -> String {
        let mut words = vec!["ssh -v -o BatchMode=yes -o StrictHostKeyChecking=yes".to_owned()];
        if let Some(identity) = &self.identity {
            words.push(format!("-o IdentitiesOnly=yes -i {}", identity.display()));
        }
        if let Some(known_hosts) = &self.known_hosts {
            words.push(format!("-o UserKnownHostsFile={}", known_hosts.display()));
        }
        let user = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        let address =
            if self.address.contains(':') { format!("[{}]", self.address) } else { self.address.clone() };
        words.push(match self.jump.first() {
            Some(hop) => format!("ssh://{hop}"),
            None => format!("ssh://{user}{address}:{}", self.port),
        });
        words.push("true".to_owned());
        words.join(" ")
    }

    /// `host`, or `[host]:port`, as it stands in `known_hosts`.
    pub(super) fn known_hosts_name(&self) -> String {
        if self.port == 22 { self.address.clone() } else { format!("[{}]:{}", self.address, self.port) }
    }
}

impl fmt::Display for Settings {
    /// `node1 (deploy@10.0.0.2)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", self.name)?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        write!(f, "{}", self.address)?;
        if self.port != 22 {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(")")
    }
}

/// Names and addresses: nothing that begins like an option or that ssh's configuration would read as more.
fn word(what: &str, value: &str) -> Result<(), BadSetting> {
    let fits = |c: char| c.is_alphanumeric() || "._-:@[]".contains(c);
    if !value.is_empty() && !value.starts_with('-') && value.chars().all(fits) {
        return Ok(());
    }
    Err(BadSetting {
        reason: format!("`{}` cannot be used as {what}", value.escape_debug()),
        hint: "letters, digits and `._-:@[]` are what ssh may be given there".into(),
    })
}

fn quoted(what: &str, path: &Path) -> Result<String, BadSetting> {
    let bad = || BadSetting {
        reason: format!("`{}` cannot be used as {what}", path.display()),
        hint: "choose a path without quotes, `$` and control characters".into(),
    };
    let absolute = std::path::absolute(path).map_err(|_| bad())?;
    match absolute.to_str() {
        Some(text) if !text.contains(['"', '\\', '$']) && !text.contains(char::is_control) => {
            Ok(format!("\"{}\"", text.replace('%', "%%")))
        }
        _ => Err(bad()),
    }
}

fn readable(what: &str, path: &Path) -> Result<(), BadSetting> {
    std::fs::File::open(path).map(drop).map_err(|e| BadSetting {
        reason: format!("the {what} file `{}` cannot be read: {e}", path.display()),
        hint: format!("put it there, readable by Houston's user, or change `{what}` of this host"),
    })
}
