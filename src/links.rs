//! Links to the pages of runs: signed with a key of the state folder, and good for a time.
//!
//! Must not: decide who gets one, or serve what it leads to. Whoever has a link may look, until it expires: it is
//! said only where the run itself is shown.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::config::Http;
use crate::ids::RunId;

/// In the state folder. Without it every link that was given is void, and the next start makes another.
const KEY: &str = "page.key";

const KEY_BYTES: usize = 32;

/// Parts of a link's time to which its end is rounded up, so that a message that is drawn again shows the same link.
const ROUNDED: u32 = 24;

/// Clones sign with the same key.
#[derive(Clone)]
pub struct Links(hmac::Key);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub address: String,
    pub until: Timestamp,
}

impl Links {
    /// With the key of this state folder, which is made if there is none that nobody else may read.
    pub fn open(state: &Path) -> io::Result<Self> {
        let path = state.join(KEY);
        let key = match kept(&path)? {
            Some(key) => key,
            None => make(state, &path)?,
        };
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// `None`: nobody has said under which address the pages can be reached.
    pub fn to(&self, run: RunId, http: Option<&Http>, now: Timestamp) -> Option<Link> {
        let http = http?;
        let base = http.public_url.as_ref()?.as_str().trim_end_matches('/');
        let until = end(now, http.link_expires)?;
        let address = format!("{base}/runs/{run}?key={}", self.token(run, until));
        Some(Link { address, until })
    }

    /// Until when this token opens the page of that run; `None`: it does not, or no more.
    pub fn check(&self, run: RunId, token: &str, now: Timestamp) -> Option<Timestamp> {
        let (until, tag) = token.split_once('.')?;
        let until: i64 = until.parse().ok()?;
        let until = Timestamp::from_second(until).ok()?;
        // In constant time. The text is made anew: only one spelling of a moment is signed.
        hmac::verify(&self.0, signed(run, until).as_bytes(), &unhex(tag)?).ok()?;
        (now < until).then_some(until)
    }

    fn token(&self, run: RunId, until: Timestamp) -> String {
        let mut token = format!("{}.", until.as_second());
        for byte in hmac::sign(&self.0, signed(run, until).as_bytes()).as_ref() {
            let _ = write!(token, "{byte:02x}");
        }
        token
    }
}

/// What a token is the proof of.
fn signed(run: RunId, until: Timestamp) -> String {
    format!("the page of {run} until {}", until.as_second())
}

fn end(now: Timestamp, last: Duration) -> Option<Timestamp> {
    let part = i64::try_from((last / ROUNDED).as_secs().max(1)).ok()?;
    let least = now.checked_add(last).ok()?.as_second();
    Timestamp::from_second(least.checked_add(part - 1)? / part * part).ok()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let digit = |d: u8| char::from(d).to_digit(16).and_then(|value| u8::try_from(value).ok());
    if !digits.len().is_multiple_of(2) || digits.len() > 2 * KEY_BYTES {
        return None;
    }
    digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// `None`: there is none, it is not whole, or others may have read it.
fn kept(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if file.metadata()?.mode() & 0o077 != 0 {
        tracing::warn!(
            "others could read `{}`: it is replaced, and links that were given are void",
            path.display()
        );
        return Ok(None);
    }
    let mut key = Vec::with_capacity(KEY_BYTES);
    file.take(KEY_BYTES as u64 + 1).read_to_end(&mut key)?;
    Ok((key.len() == KEY_BYTES).then_some(key))
}

fn make(state: &Path, path: &Path) -> io::Result<Vec<u8>> {
    let mut key = vec![0; KEY_BYTES];
    SystemRandom::new().fill(&mut key).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    let part = path.with_extension("key.part");
    // A part that somebody else made with other rights is not written into.
    let _ = std::fs::remove_file(&part);
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&part)?;
    file.write_all(&key)?;
    file.sync_all()?;
    std::fs::rename(&part, path)?;
    File::open(state)?.sync_all()?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn links(state: &Path) -> Links {
        Links::open(state).expect("opens")
    }

    #[test]
    fn a_token_opens_one_run_until_its_end_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a folder");
        let links = links(dir.path());
        let token = links.token(RunId(41), at(1000));
        assert_eq!(links.check(RunId(41), &token, at(999)), Some(at(1000)));
        assert_eq!(links.check(RunId(41), &token, at(1000)), None, "expired");
        assert_eq!(links.check(RunId(4), &token, at(1)), None, "of another run");
        let longer = token.replacen("1000", "9000", 1);
        assert_eq!(links.check(RunId(41), &longer, at(1)), None, "made longer");
        for wrong in
            ["", ".", "1000.", "1000", "x.y", "+1000.00", &token[..token.len() - 2], &format!("{token}00")]
        {
            assert_eq!(links.check(RunId(41), wrong, at(1)), None, "{wrong}");
        }
        let (until, tag) = token.split_once('.').expect("both parts");
        assert_eq!(
            links.check(RunId(41), &format!("0{until}.{tag}"), at(1)),
            Some(at(1000)),
            "the same moment"
        );
    }

    #[test]
    fn the_key_is_kept_is_private_and_is_replaced_when_it_was_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(KEY);
        let token = links(dir.path()).token(RunId(1), at(1000));
        assert_eq!(std::fs::metadata(&path).expect("is there").permissions().mode() & 0o777, 0o600);
        assert!(links(dir.path()).check(RunId(1), &token, at(1)).is_some(), "over a restart");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("is set");
        assert!(links(dir.path()).check(RunId(1), &token, at(1)).is_none());
        std::fs::write(&path, "short").expect("writes");
        let token = links(dir.path()).token(RunId(1), at(1000));
        assert!(links(dir.path()).check(RunId(1), &token, at(1)).is_some());
    }

    #[test]
    fn a_message_that_is_drawn_again_shows_the_same_link_for_an_hour() {
        let day = Duration::from_secs(86_400);
        assert_eq!(end(at(1), day), Some(at(90_000)));
        assert_eq!(end(at(3600), day), Some(at(90_000)));
        assert_eq!(end(at(3601), day), Some(at(93_600)));
        assert_eq!(end(at(10), Duration::from_secs(1)), Some(at(11)));
    }
}
