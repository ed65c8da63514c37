//! Whom and what a sandbox starts with: people, rooms, settings. Read from JSON, or the default of the demo.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The world before the first message. Unknown keys are refused, so that a typing error in a seed is seen.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seed {
    pub people: Vec<SeedPerson>,
    pub rooms: Vec<SeedRoom>,
    /// Public settings by their Rocket.Chat names, such as `Message_MaxAllowedSize`.
    #[serde(default)]
    pub settings: BTreeMap<String, Value>,
}

/// One account.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedPerson {
    pub username: String,
    /// Defaults to `u-<username>`.
    #[serde(default)]
    pub id: Option<String>,
    /// Defaults to the user name with a capital letter.
    #[serde(default)]
    pub name: Option<String>,
    /// Defaults to the user name.
    #[serde(default)]
    pub password: Option<String>,
    /// Global roles; default `["user"]`.
    #[serde(default)]
    pub roles: Option<Vec<String>>,
    /// A personal access token that exists from the start.
    #[serde(default)]
    pub token: Option<String>,
    /// The code that a password login of this account has to bring; none is asked for when absent.
    #[serde(default)]
    pub totp: Option<String>,
    /// Hours that their clock is ahead of UTC, as their client would tell.
    #[serde(default)]
    pub utc_offset: f64,
}

/// One room.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedRoom {
    pub name: String,
    /// Defaults to `r-<name>`; `general` is `GENERAL`, as on every Rocket.Chat.
    #[serde(default)]
    pub id: Option<String>,
    /// Private group instead of public channel.
    #[serde(default)]
    pub private: bool,
    /// User names. The first is the owner. Absent: everybody.
    #[serde(default)]
    pub members: Option<Vec<String>>,
    #[serde(default)]
    pub topic: Option<String>,
    #[serde(default)]
    pub read_only: bool,
    #[serde(default)]
    pub archived: bool,
    #[serde(default)]
    pub encrypted: bool,
}

/// A seed that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    #[error("the seed is not valid: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the seed's room `{room}` has the member `{member}`, who is not among its people")]
    NoSuchMember { room: String, member: String },
    #[error("the seed has two {what} called `{name}`")]
    Twice { what: &'static str, name: String },
}

impl Seed {
    /// Reads and checks a seed.
    pub fn from_json(text: &str) -> Result<Self, SeedError> {
        let seed: Self = serde_json::from_str(text)?;
        seed.check()?;
        Ok(seed)
    }

    fn check(&self) -> Result<(), SeedError> {
        let mut people = std::collections::BTreeSet::new();
        for person in &self.people {
            if !people.insert(person.username.as_str()) {
                return Err(SeedError::Twice { what: "people", name: person.username.clone() });
            }
        }
        let mut rooms = std::collections::BTreeSet::new();
        for room in &self.rooms {
            if !rooms.insert(room.name.as_str()) {
                return Err(SeedError::Twice { what: "rooms", name: room.name.clone() });
            }
            for member in room.members.iter().flatten() {
                if !people.contains(member.as_str()) {
                    let (room, member) = (room.name.clone(), member.clone());
                    return Err(SeedError::NoSuchMember { room, member });
                }
            }
        }
        Ok(())
    }
}

impl Default for Seed {
    /// Alice and Bob, Carol who administers the workspace, the account `houston`, and five rooms.
    fn default() -> Self {
        let person = |username: &str, roles: &[&str]| SeedPerson {
            username: username.to_owned(),
            roles: Some(roles.iter().map(|role| (*role).to_owned()).collect()),
            ..SeedPerson::default()
        };
        let room = |name: &str, topic: &str| SeedRoom {
            name: name.to_owned(),
            topic: Some(topic.to_owned()),
            ..SeedRoom::default()
        };
        Self {
            people: vec![
                person("carol", &["user", "admin"]),
                person("alice", &["user"]),
                person("bob", &["user"]),
                person("houston", &["user", "bot"]),
            ],
            rooms: vec![
                room("general", "Everything else"),
                room("ops", "Deployments and operations"),
                room("backups", "Reports of backups"),
                room("sales", "Calls, bookings, questions"),
                SeedRoom {
                    name: "board".to_owned(),
                    private: true,
                    members: Some(vec!["carol".to_owned()]),
                    ..SeedRoom::default()
                },
            ],
            settings: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_seed_is_consistent() {
        Seed::default().check().expect("consistent");
    }

    #[test]
    fn a_member_who_is_nobody_is_refused() {
        let text = r#"{"people":[{"username":"a"}],"rooms":[{"name":"r","members":["b"]}]}"#;
        let error = Seed::from_json(text).expect_err("refused").to_string();
        assert!(error.contains("`b`"), "{error}");
    }
}
