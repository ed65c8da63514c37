//! Reactions: names in a map without times or ids, read, changed and written back as Rocket.Chat does.

use serde_json::{Value, json};

use super::{World, date, text};
use crate::sandbox::refusal::Refusal;

/// Emoji that exist beside the common ones: a custom one of the sandbox.
const CUSTOM: &[&str] = &["rocket_chat"];

impl World {
    /// Adds (`Some(true)`), removes (`Some(false)`) or toggles a reaction. A call that changes nothing
    /// succeeds without a frame.
    pub fn react(
        &mut self,
        uid: &str,
        mid: &str,
        emoji: &str,
        should: Option<bool>,
        missing: Refusal,
    ) -> Result<(), Refusal> {
        let Some(message) = self.messages.get(mid) else { return Err(missing) };
        let rid = text(message, "rid").to_owned();
        let (Some(room), Some(person)) = (self.rooms.get(&rid), self.people.get(uid)) else {
            return Err(Refusal::of("setReaction", "error-not-allowed", "Not allowed"));
        };
        if !self.can_access(&rid, uid) {
            return Err(Refusal::of("setReaction", "not-authorized", "Not Authorized"));
        }
        let key = format!(":{}:", emoji.trim().trim_matches(':'));
        if !is_emoji(key.trim_matches(':')) {
            return Err(Refusal::of("setReaction", "error-not-allowed", "Invalid emoji provided."));
        }
        let username = person.username.clone();
        if room.read_only && !self.may(uid, "post-readonly", Some(&rid)) {
            return Err(Refusal::plain("You can't send messages because the room is readonly."));
        }
        if room.muted.contains(&username) {
            return Err(Refusal::of("setReaction", "You_have_been_muted", "You have been muted"));
        }
        let names = |message: &super::Doc| -> Vec<String> {
            let names =
                message.get("reactions").and_then(|all| all.get(&key)).and_then(|one| one.get("usernames"));
            let names = names.and_then(Value::as_array).into_iter().flatten();
            names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
        };
        let mut names = names(message);
        let has = names.contains(&username);
        if should == Some(has) {
            return Ok(());
        }
        if has {
            names.retain(|name| *name != username);
        } else {
            names.push(username);
        }
        let now = self.now();
        let Some(message) = self.messages.get_mut(mid) else { return Err(missing) };
        let mut all = message.get("reactions").and_then(Value::as_object).cloned().unwrap_or_default();
        if names.is_empty() {
            all.shift_remove(&key);
        } else {
            all.insert(key, json!({"usernames": names}));
        }
        if all.is_empty() {
            message.shift_remove("reactions");
        } else {
            message.insert("reactions".into(), Value::Object(all));
        }
        message.insert("_updatedAt".into(), date(now));
        self.emit_message(mid);
        if self.rooms.get(&rid).is_some_and(|room| room.last.as_deref() == Some(mid)) {
            if let Some(room) = self.rooms.get_mut(&rid) {
                room.updated = now;
            }
            for member in self.members_of(&rid) {
                self.announce_room(&rid, &member, "updated");
            }
        }
        Ok(())
    }
}

/// Shortcodes are plain words here: the sandbox knows no list of all of them, only what cannot be one.
fn is_emoji(name: &str) -> bool {
    let plausible = !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_+-".contains(&b));
    plausible && (CUSTOM.contains(&name) || !name.starts_with("no_such_emoji"))
}
