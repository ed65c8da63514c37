//! What is so when this Houston has taken the lease over from one with a state folder of its own: what that one has
//! obeyed is not obeyed again, and whoever waits for one of its runs is told what can be known.
//!
//! Must not: go on with what the other one had under way, or guess what became of it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::audit::{Audit, Event, Who};
use crate::clock::Clock;
use crate::conversation::Post;
use crate::gateway::{self, Ledger};
use crate::ids::{UserId, derived_id};
use crate::lease::{AtWork, Predecessor};
use crate::runs::{ActError, Engine, restored};
use crate::store::{Batch, Store};
use crate::text::{self, inert, typed};

/// How far the clocks of two machines may differ without a command being missed.
const CLOCKS: SignedDuration = SignedDuration::from_secs(5);

/// Makes it durable. Before this Houston hears anything.
pub async fn settle(
    before: &Predecessor,
    store: &Store,
    ledger: &Ledger,
    engine: &Engine,
    audit: &Audit,
    clock: &Clock,
) -> Result<(), ActError> {
    let (read_up_to, asked_up_to) = bounds(before, clock.now());
    let mut batch = Batch::new();
    gateway::begin_at(read_up_to, store, &mut batch)?;
    restored::ask_about_what_was_said_before(asked_up_to, &mut batch);
    let record = &before.record;
    for message in &record.obeyed {
        ledger.batch_for(message, &mut batch);
    }
    store.apply(batch)?;
    tracing::warn!(
        "taken over from {}, {}; it had under way: {}",
        record.holder,
        gone(before),
        match record.at_work.as_slice() {
            [] => "nothing that is known".to_owned(),
            runs => text::plain_and_list(
                &runs.iter().map(|at| format!("{} `{}`", at.run, at.command)).collect::<Vec<_>>()
            ),
        }
    );
    for at_work in &record.at_work {
        let id = derived_id(&format!("taken over/{}/{}", record.term, at_work.run)).into();
        let (room, thread) = (at_work.room.clone(), Some(at_work.thread.clone()));
        engine.say(Post { id, room, thread, text: told(at_work, before) }).await?;
    }
    let event = Event {
        who: Who { id: UserId::from("houston"), name: "Houston".to_owned() },
        action: "taken over".to_owned(),
        command: String::new(),
        target: None,
        run: None,
        approval: None,
        result: Some(format!("from {}, {}", record.holder, gone(before))),
        event: None,
        happened_at: None,
    };
    if let Err(error) = audit.append(clock, event).await {
        tracing::error!("the audit log cannot be written: {error}");
    }
    store.sync().await?;
    Ok(())
}

/// Up to when the other one has surely read everything; and up to when it may have obeyed what was said.
fn bounds(before: &Predecessor, now: Timestamp) -> (Timestamp, Timestamp) {
    let lasts = SignedDuration::from_millis(before.record.milliseconds.try_into().unwrap_or(i64::MAX));
    let earlier = |at: Timestamp, by| at.checked_sub(by).unwrap_or(Timestamp::MIN);
    match before.record.released {
        Some(released) => {
            let up_to = released.checked_add(CLOCKS).unwrap_or(Timestamp::MAX);
            (earlier(released.min(now), CLOCKS), up_to.min(now))
        }
        // It may have been cut off from its lease and gone on for a while.
        None => (earlier(before.last_seen, lasts), now),
    }
}

fn gone(before: &Predecessor) -> String {
    match before.record.released {
        Some(released) => format!("which stopped at {}", released.strftime("%H:%M:%S UTC")),
        None => {
            let lasts = Duration::from_millis(before.record.milliseconds);
            format!("which has not renewed its lease for {}", text::duration(lasts))
        }
    }
}

/// In the thread of a run that only its own Houston knows.
fn told(run: &AtWork, before: &Predecessor) -> String {
    let (id, command) = (run.run, typed(&run.command));
    let other = format!("another Houston ({}), {}", inert(&before.record.holder.to_string()), gone(before));
    let back = "When that Houston acts again, it takes the run up where it is.";
    let look = run.environment.as_ref().map_or_else(
        || "look there before you repeat it".to_owned(),
        |environment| format!("`!status {}` shows what is so now", inert(environment)),
    );
    if run.begun {
        format!(
            ":warning: *{id}* {command} was carried out by {other}. I have taken over, and that one's state is not mine: how far the run got I do not know. I neither go on with it nor put anything back, and I hold none of its locks. What it had begun on a cluster or a host may go on by itself: {look}. {back}"
        )
    } else if before.record.released.is_none() {
        // What a lease tells was so when it was written: a moment later the run may have begun.
        format!(
            ":warning: *{id}* {command} had not begun when its Houston wrote its lease last, and may have begun since: that was {other}. I have taken over, and that one's state is not mine: I cannot count who approved it, and I do not begin it. If it is still meant, look first ({look}), then give the command again. {back}"
        )
    } else {
        format!(
            ":warning: *{id}* {command} waits with {other}. I have taken over, and that one's state is not mine: I cannot count who approved it, and I do not begin it. If it is still meant, give the command again. {back}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holder::Process;
    use crate::ids::RunId;
    use crate::lease::Record;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn before(released: Option<Timestamp>) -> Predecessor {
        let holder = Process { pid: 7, host: "a".into(), since: at(0), doing: "houston serve".into() };
        let record = Record {
            holder,
            folder: String::new(),
            instance: String::new(),
            term: String::new(),
            write: String::new(),
            milliseconds: 30_000,
            released,
            at_work: Vec::new(),
            obeyed: Vec::new(),
        };
        Predecessor { record, last_seen: at(1000) }
    }

    #[test]
    fn what_the_other_one_may_have_obeyed_is_asked_about_and_what_it_surely_read_is_left() {
        assert_eq!(bounds(&before(None), at(1040)), (at(970), at(1040)));
        assert_eq!(bounds(&before(Some(at(1030))), at(1040)), (at(1025), at(1035)));
        // Its clock is ahead: nothing is left out that was said after now.
        assert_eq!(bounds(&before(Some(at(2000))), at(1040)), (at(1035), at(1040)));
    }

    #[test]
    fn who_writes_a_lease_makes_no_line_and_no_link_of_houstons() {
        let mut before = before(None);
        before.record.holder.host = "a\n:white_check_mark: *all is well* [here](https://evil.example)".into();
        let run = AtWork {
            run: RunId(41),
            command: "deploy\nprod".into(),
            environment: Some("prod`\n:white_check_mark: fine".into()),
            cause: "m".into(),
            begun: true,
            room: "r".into(),
            thread: "t".into(),
        };
        let told = told(&run, &before);
        assert!(!told.contains('\n') && !told.contains("](") && told.contains("*all is well*"), "{told}");
    }

    #[test]
    fn a_run_that_had_begun_and_one_that_waits_are_told_of_differently() {
        let mut run = AtWork {
            run: RunId(41),
            command: "deploy prod web 1.8".into(),
            environment: Some("prod".into()),
            cause: "m".into(),
            begun: true,
            room: "r".into(),
            thread: "t".into(),
        };
        let told_begun = told(&run, &before(None));
        assert!(told_begun.contains("has not renewed its lease for 30 s"), "{told_begun}");
        assert!(told_begun.contains("`!status prod` shows what is so now"), "{told_begun}");
        run.begun = false;
        let perhaps = told(&run, &before(None));
        assert!(
            perhaps.contains("may have begun since")
                && perhaps.contains(
                    "look first (`!status prod` shows what is so now), then give the command again"
                ),
            "{perhaps}"
        );
        let waits = told(&run, &before(Some(at(0))));
        assert!(!waits.contains("may have begun"), "its last word was its last: {waits}");
        assert!(
            waits.contains("which stopped at 00:00:00 UTC") && waits.contains("give the command again"),
            "{waits}"
        );
    }
}
