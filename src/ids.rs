//! Names of things: newtypes, so that a room id is never passed where a message id is meant.
//!
//! Must not: give out meaning. Whether an id exists, and who may use it, is decided elsewhere.

use std::fmt;
use std::str::FromStr;

use rand::RngExt as _;
use serde::{Deserialize, Serialize};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            pub fn new(id: impl Into<String>) -> Self {
                Self(id.into())
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
        impl From<&str> for $name {
            fn from(id: &str) -> Self {
                Self(id.to_owned())
            }
        }
        impl From<String> for $name {
            fn from(id: String) -> Self {
                Self(id)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id!(
    /// Rocket.Chat's `u._id`. The only identity that authority may rest on: names change hands.
    UserId
);
text_id!(
    /// Rocket.Chat's `rid`.
    RoomId
);
text_id!(
    /// Rocket.Chat's message `_id`; ours are made by [`random_id`], so that a resend is no second message.
    MessageId
);
text_id!(
    /// An environment: the file name of `environments/<name>.yaml`.
    EnvName
);
text_id!(
    /// A service of an environment, as its file names it.
    ServiceName
);
text_id!(
    /// A role of `houston.yaml`: `operator`, `lead`, …
    RoleName
);
text_id!(
    /// A step's id, unique within its plan.
    StepId
);
text_id!(
    /// A schedule of `houston.yaml`, by its key there.
    ScheduleName
);

/// A run, said by people as `R-41`. Counted from 1, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub u64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "R-{}", self.0)
    }
}
impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "R-{}", self.0)
    }
}

/// What was typed is no run id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a run: runs are called `R-1`, `R-2`, …")]
pub struct NotARunId(pub String);

impl FromStr for RunId {
    type Err = NotARunId;
    /// Takes `R-41`, `r-41`, `R41` and `41`.
    fn from_str(text: &str) -> Result<Self, NotARunId> {
        let digits = text.strip_prefix(['R', 'r']).unwrap_or(text);
        let digits = digits.strip_prefix('-').unwrap_or(digits);
        match digits.parse::<u64>() {
            Ok(n) if n > 0 && digits.bytes().all(|b| b.is_ascii_digit()) => Ok(Self(n)),
            _ => Err(NotARunId(text.to_owned())),
        }
    }
}

/// Where the outside world can show a run's step again: `houston-R-41-3`. The attempt is left out on
/// purpose, so that a second attempt finds what the first one made.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EffectToken(String);

impl EffectToken {
    /// Of a step. `card` is the run's first message: numbers of runs begin anew with a new state folder, and
    /// what an earlier Houston left in the world must not be taken for this one's.
    pub fn new(run: RunId, card: &MessageId, step: usize) -> Self {
        Self(format!("houston-{run}-{}-{step}", nonce(card)))
    }
    /// Of the step that undoes `step`: what is done and what reverses it must not be taken for each other.
    pub fn of_undo(run: RunId, card: &MessageId, step: usize) -> Self {
        Self(format!("houston-{run}-{}-undo{step}", nonce(card)))
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// What the tokens of one run have in common: `houston-R-41-x8fk2mqa`.
    pub fn run(&self) -> &str {
        self.0.rsplit_once('-').map_or(self.0.as_str(), |(run, _)| run)
    }
}
impl fmt::Display for EffectToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Eight letters and digits.
fn nonce(card: &MessageId) -> String {
    card.as_str().chars().filter(char::is_ascii_alphanumeric).take(8).collect()
}

/// Letters and digits that cannot be mistaken for one another: Meteor's alphabet for ids.
pub const UNMISTAKABLE: &[u8] = b"23456789ABCDEFGHJKLMNPQRSTWXYZabcdefghijkmnopqrstuvwxyz";

/// A message id of Rocket.Chat's own shape: 17 characters, about 98 bits.
pub fn random_id() -> String {
    let mut rng = rand::rng();
    (0..17).map(|_| UNMISTAKABLE[rng.random_range(0..UNMISTAKABLE.len())] as char).collect()
}

/// An id of the same shape that is always the same for the same `seed`, so that what is said about one
/// event is said once, however often it is sent.
pub fn derived_id(seed: &str) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(seed.as_bytes())
        .iter()
        .take(17)
        .map(|byte| UNMISTAKABLE[usize::from(*byte) % UNMISTAKABLE.len()] as char)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_are_read_as_people_write_them() {
        for text in ["R-41", "r-41", "R41", "41"] {
            assert_eq!(text.parse(), Ok(RunId(41)), "{text}");
        }
        for text in ["", "R-", "R-0", "R--4", "R-+4", "web", "R-41x"] {
            assert!(text.parse::<RunId>().is_err(), "{text}");
        }
    }

    #[test]
    fn random_ids_have_rocketchats_shape_and_differ() {
        let (a, b) = (random_id(), random_id());
        assert_eq!(a.len(), 17);
        assert_ne!(a, b);
    }
}
