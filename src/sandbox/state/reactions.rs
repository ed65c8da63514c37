//! Reactions: names in a map without times or ids, read, changed and written back as Rocket.Chat does.

use serde_json::{Value, json};

use super::{World, date, text};
use crate::sandbox::refusal::Refusal;

/// The shortcodes that the sandbox knows; skin tones may follow hands. Rocket.Chat knows some 1800.
const EMOJI: &str = "+1 -1 100 alarm_clock angry arrow_down arrow_left arrow_right arrow_up ballot_box_with_check \
    bangbang beer beers bell blue_heart blush boom bug bulb bow calendar cat chart_with_downwards_trend \
    chart_with_upwards_trend clap clock1 cloud coffee confetti_ball confused construction cry dancer dart dizzy dog \
    eight exclamation eyes fire five four gear ghost gift grey_question grin grinning hammer handshake heart \
    heart_eyes heavy_check_mark heavy_multiplication_x heavy_plus_sign hourglass hourglass_flowing_sand house \
    hugging hushed inbox_tray information_source innocent joy key kissing_heart laughing link lock loudspeaker mag \
    mega memo moneybag mute muscle negative_squared_cross_mark neutral_face nine no_bell no_entry no_entry_sign ok \
    ok_hand octagonal_sign one open_mouth package pause_button pensive point_down point_left point_right point_up \
    pray pushpin question rage raised_hand raised_hands recycle red_circle relaxed relieved repeat robot rocket rofl \
    rolling_eyes rotating_light rewind scream seven shield ship shrug six sleeping slight_frown slight_smile smile \
    smiley sob sos sparkles star star2 stop_button stopwatch sunglasses sweat_smile tada ten thinking three \
    thumbsdown thumbsup tools traffic_light triangular_flag_on_post trophy turtle two unlock upside_down v warning \
    wave white_check_mark wink worried wrench x yellow_circle green_circle large_blue_circle yum zap zero zzz";

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

fn is_emoji(name: &str) -> bool {
    let base = name.rsplit_once("_tone").filter(|(_, tone)| matches!(*tone, "1" | "2" | "3" | "4" | "5"));
    let base = base.map_or(name, |(base, _)| base);
    EMOJI.split_whitespace().any(|known| known == base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortcodes_are_known_with_and_without_a_skin_tone() {
        for known in ["+1", "thumbsup", "thumbsup_tone3", "white_check_mark", "eyes"] {
            assert!(is_emoji(known), "{known}");
        }
        for unknown in ["", "no_such_emoji_zz", "👍", "thumbsup_tone9"] {
            assert!(!is_emoji(unknown), "{unknown}");
        }
    }
}
