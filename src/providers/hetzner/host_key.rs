//! The host key of a server that is not there yet: made here, handed over in its cloud-init data, and known before
//! anybody connects.
//!
//! Must not: keep the private half anywhere: it goes into one request.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SecureRandom as _;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

const KIND: &str = "ssh-ed25519";

/// Bytes of a public key.
const PUBLIC: usize = 32;

pub struct HostKey {
    seed: [u8; 32],
    public: [u8; PUBLIC],
}

impl HostKey {
    pub fn make() -> Self {
        let mut seed = [0; 32];
        ring::rand::SystemRandom::new().fill(&mut seed).expect("the system gives random bytes");
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are a seed");
        let mut public = [0; PUBLIC];
        public.copy_from_slice(pair.public_key().as_ref());
        Self { seed, public }
    }

    /// `ssh-ed25519 AAAA…`, as it stands in `known_hosts`.
    pub fn public(&self) -> String {
        line(&self.public)
    }

    /// As a label takes it: Hetzner's have a letter or digit at both ends.
    pub fn label(&self) -> String {
        format!("k{}k", URL_SAFE_NO_PAD.encode(self.public))
    }

    /// What cloud-init is told, so that the server has this key and no other.
    pub fn user_data(&self) -> String {
        let private = self.private();
        let private: Vec<String> = private.lines().map(|line| format!("    {line}")).collect();
        format!(
            "#cloud-config\nssh_deletekeys: true\nssh_keys:\n  ed25519_private: |\n{}\n  ed25519_public: {}\n",
            private.join("\n"),
            self.public()
        )
    }

    /// In OpenSSH's own format, which is all that sshd reads for this kind (PROTOCOL.key in its sources).
    fn private(&self) -> String {
        let mut secret = Vec::new();
        // Twice the same number shows whoever decrypts that it worked; nothing is encrypted here.
        secret.extend([0; 8]);
        put(&mut secret, KIND.as_bytes());
        put(&mut secret, &self.public);
        put(&mut secret, &[self.seed, self.public].concat());
        put(&mut secret, b"houston");
        let mut padding = 1;
        while secret.len() % 8 != 0 {
            secret.push(padding);
            padding += 1;
        }
        let mut out = b"openssh-key-v1\0".to_vec();
        for text in ["none", "none", ""] {
            put(&mut out, text.as_bytes());
        }
        out.extend(1u32.to_be_bytes());
        put(&mut out, &blob(&self.public));
        put(&mut out, &secret);
        let encoded = STANDARD.encode(out);
        let lines: Vec<&str> =
            encoded.as_bytes().chunks(70).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        format!(
            "-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n",
            lines.join("\n")
        )
    }
}

/// Back from [`HostKey::label`]: the line for `known_hosts`.
pub fn from_label(label: &str) -> Option<String> {
    let inner = label.strip_prefix('k')?.strip_suffix('k')?;
    let public: [u8; PUBLIC] = URL_SAFE_NO_PAD.decode(inner).ok()?.try_into().ok()?;
    Some(line(&public))
}

fn line(public: &[u8; PUBLIC]) -> String {
    format!("{KIND} {}", STANDARD.encode(blob(public)))
}

fn blob(public: &[u8; PUBLIC]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, KIND.as_bytes());
    put(&mut out, public);
    out
}

/// With its length before it.
fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(bytes);
}

/// The known hosts of rented servers, a file each.
#[derive(Clone, Debug)]
pub struct Pins(PathBuf);

impl Pins {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self(dir.into())
    }

    /// The file of a server, by its name.
    pub fn file(&self, server: &str) -> PathBuf {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        match server.chars().all(plain) && !server.is_empty() {
            true => self.0.join(server),
            // Whatever others call a server is no path.
            false => self.0.join(format!("named-{}", crate::digest::Digest::of(server.as_bytes()).short())),
        }
    }

    /// From now on `server` is whoever has this key. Replaces what was known of an earlier one of that name.
    pub fn write(&self, server: &str, address: &str, port: u16, key: &str) -> std::io::Result<PathBuf> {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let name = if port == 22 { address.to_owned() } else { format!("[{address}]:{port}") };
        let file = self.file(server);
        let new = file.with_extension("new");
        std::fs::write(&new, format!("{name} {key}\n"))?;
        std::fs::rename(&new, &file)?;
        Ok(file)
    }

    /// The key that is known, whatever the address.
    pub fn read(&self, server: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.file(server)).ok()?;
        text.trim().split_once(' ').map(|(_, key)| key.to_owned())
    }

    pub fn remove(&self, server: &str) {
        let _ = std::fs::remove_file(self.file(server));
    }

    pub fn dir(&self) -> &Path {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_gives_the_key_back_and_is_one_that_hetzner_takes() {
        for _ in 0..64 {
            let key = HostKey::make();
            let label = key.label();
            assert_eq!(from_label(&label), Some(key.public()));
            let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            assert!(label.len() <= 63 && label.chars().all(inner), "{label}");
        }
        for wrong in ["", "k", "kk", "kAAAAk", "AAAA"] {
            assert_eq!(from_label(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_pinned_is_found_again_and_goes() {
        let dir = tempfile::tempdir().expect("a folder");
        let pins = Pins::new(dir.path().join("pins"));
        let key = HostKey::make().public();
        let file = pins.write("backup", "10.0.0.5", 2222, &key).expect("written");
        assert_eq!(std::fs::read_to_string(file).expect("reads"), format!("[10.0.0.5]:2222 {key}\n"));
        assert_eq!(pins.read("backup"), Some(key));
        let odd = pins.file("../../etc/passwd");
        assert_eq!(odd.parent(), Some(pins.dir()), "{}", odd.display());
        pins.remove("backup");
        assert_eq!(pins.read("backup"), None);
    }
}
