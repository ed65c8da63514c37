//! What a server of the fake Hetzner really is: an sshd of its own, with a folder, an address of this machine's loopback
//! net, the host key that cloud-init would give it, and the keys of the project that may log in. A process sandbox and
//! no container, so that it is there wherever an sshd is.
//!
//! Must not: outlive its removal, with anything that was started on it.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub struct Machine {
    sshd: Option<Child>,
    dir: PathBuf,
    address: String,
    port: u16,
}

impl Machine {
    /// `user_data` is cloud-init's; without a host key in it the machine makes one.
    pub fn new(dir: &Path, address: &str, port: u16, user_data: &str, authorized: &[String]) -> Self {
        std::fs::create_dir_all(dir).expect("a folder");
        private(&dir.join("authorized_keys"), &(authorized.join("\n") + "\n"));
        let host = dir.join("host");
        match block(user_data, "ed25519_private: |") {
            Some(key) => private(&host, &key),
            None => {
                let made =
                    run("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&host).status();
                assert!(made.expect("ssh-keygen runs").success());
            }
        }
        Self { sshd: None, dir: dir.to_owned(), address: address.to_owned(), port }
    }

    pub fn on(&mut self) {
        if self.sshd.is_some() {
            return;
        }
        let log =
            std::fs::File::options().create(true).append(true).open(self.dir.join("log")).expect("a log");
        let option = |text: String| ["-o".to_owned(), text];
        let sshd = ["/usr/sbin/sshd", "/usr/bin/sshd"].into_iter().find(|path| Path::new(path).exists());
        let mut command = run(sshd.expect("an sshd"));
        command.args(["-D", "-e", "-f", "/dev/null", "-h"]).arg(self.dir.join("host"));
        for text in [
            format!("ListenAddress={}:{}", self.address, self.port),
            format!("AuthorizedKeysFile={}", self.dir.join("authorized_keys").display()),
            format!("SetEnv=XDG_STATE_HOME={}", self.dir.join("state").display()),
            "PidFile=none".to_owned(),
            "PasswordAuthentication=no".to_owned(),
            "KbdInteractiveAuthentication=no".to_owned(),
            "PermitRootLogin=prohibit-password".to_owned(),
            "UsePAM=no".to_owned(),
            "StrictModes=no".to_owned(),
            "AllowStreamLocalForwarding=yes".to_owned(),
        ] {
            command.args(option(text));
        }
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("sshd starts");
        self.sshd = Some(child);
    }

    /// As when the power goes: nothing that ran there runs on.
    pub fn off(&mut self) {
        let Some(mut sshd) = self.sshd.take() else { return };
        let id = i32::try_from(sshd.id()).expect("a process id");
        for process in descendants(id).into_iter().chain([id]) {
            let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
        }
        let _ = sshd.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.off();
    }
}

fn run(program: &str) -> std::process::Command {
    #[expect(clippy::disallowed_methods, reason = "a rented server is a process of the test's")]
    std::process::Command::new(program)
}

fn private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("ours");
}

/// A block of YAML after the line that ends in `key`, without its indentation.
fn block(yaml: &str, key: &str) -> Option<String> {
    let mut lines = yaml.lines().skip_while(|line| line.trim() != key);
    let indented = |line: &str| line.len() - line.trim_start().len();
    let depth = indented(lines.next()?);
    let lines: Vec<&str> = lines.take_while(|line| indented(line) > depth).map(str::trim_start).collect();
    Some(lines.join("\n") + "\n")
}

/// All that was started by it, and by what it started.
fn descendants(parent: i32) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("Linux").flatten() {
        let Ok(process) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name stands in parentheses and may hold anything; the parent is the second word after it.
        let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
        if after.split(' ').nth(1).and_then(|word| word.parse::<i32>().ok()) == Some(parent) {
            found.extend(descendants(process));
            found.push(process);
        }
    }
    found
}
