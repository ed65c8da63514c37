//! How a place in the queue reads: in the message of a run that waits, in `locks`, in `runs`. Pure.
//!
//! Must not: show a time that grows; nothing is edited while nothing moves.

use jiff::Timestamp;

use crate::runs::locks::{Held, Holder};
use crate::runs::queue::{Doing, InTheWay, Place};
use crate::text::{code, count, defuse, duration, ordinal, plain_and_list, typed};

/// Of those in the way; the rest is counted.
const MOST_NAMED: usize = 3;

/// `2nd in the queue for `prod/web`, behind R-7 (`deploy prod web 1.8` by alice, step 2 of 4, usually 40 s) and R-8 (…)`
pub(super) fn place(place: &Place) -> String {
    said(place, in_full)
}

/// As [`place`], where the others stand beside it.
pub(super) fn in_short(place: &Place) -> String {
    said(place, |one| match (&one.holder, one.run()) {
        (_, Some(run)) => run.to_string(),
        (holder, None) => holder.queue_line(),
    })
}

fn said(place: &Place, name: impl Fn(&InTheWay) -> String) -> String {
    let mut behind: Vec<String> = place.behind.iter().take(MOST_NAMED).map(name).collect();
    if place.behind.len() > MOST_NAMED {
        behind.push(format!("{} more", place.behind.len() - MOST_NAMED));
    }
    let locks: Vec<String> = match place.locks.as_slice() {
        few if few.len() <= MOST_NAMED => few.iter().map(|lock| code(&lock.to_string())).collect(),
        many => vec![count(many.len(), "lock")],
    };
    format!(
        "{} in the queue for {}, behind {}",
        ordinal(place.nth),
        plain_and_list(&locks),
        plain_and_list(&behind)
    )
}

fn in_full(one: &InTheWay) -> String {
    let Holder::Run { run, command, by, .. } = &one.holder else { return one.holder.queue_line() };
    let doing = one.doing.as_ref().map_or_else(|| ", waits too".to_owned(), doing);
    format!("{run} ({} by {}{doing})", typed(command), defuse(&by.username))
}

/// A line of `locks`: who holds what, and how far that is.
pub(super) fn held(held: &Held, at: Option<&Doing>, now: Timestamp) -> String {
    match &held.holder {
        Holder::Person(_) => held.holder.describe(now),
        Holder::Run { .. } | Holder::Unreadable { .. } => {
            let at = at.map(doing).unwrap_or_default();
            format!("{} is held by {}{at}", code(&held.name.to_string()), held.holder.describe(now))
        }
    }
}

fn doing(doing: &Doing) -> String {
    let word = doing.word.map(|word| format!(", {word}")).unwrap_or_default();
    let usual = doing.usual.map(|usual| format!(", usually {}", duration(usual))).unwrap_or_default();
    format!(", step {} of {}{word}{usual}", doing.step, doing.of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::Actor;
    use crate::ids::RunId;
    use crate::playbook::model::LockName;

    fn run(id: u64, doing: Option<Doing>) -> InTheWay {
        let by = Actor { id: "alice".into(), username: "alice".into() };
        let (run, command) = (RunId(id), format!("deploy prod web {id}"));
        InTheWay { holder: Holder::Run { run, command, by, since: Timestamp::UNIX_EPOCH }, doing }
    }

    #[test]
    fn a_place_says_how_many_go_first_and_what_they_do() {
        let at = |step, word, usual: Option<u64>| {
            Some(Doing { step, of: 4, word, usual: usual.map(std::time::Duration::from_secs) })
        };
        let web = LockName { environment: "prod".into(), service: Some("web".into()) };
        let behind = vec![run(7, at(2, None, Some(40))), run(8, None)];
        let mut two = Place { nth: 2, locks: vec![web.clone()], behind };
        assert_eq!(
            place(&two),
            "2nd in the queue for `prod/web`, behind R-7 (`deploy prod web 7` by alice, step 2 of 4, usually 40 s) \
             and R-8 (`deploy prod web 8` by alice, waits too)"
        );
        assert_eq!(in_short(&two), "2nd in the queue for `prod/web`, behind R-7 and R-8");
        two.behind[0] = run(7, at(3, Some("stuck"), None));
        assert!(place(&two).contains("R-7 (`deploy prod web 7` by alice, step 3 of 4, stuck)"));
        two.behind.extend((9..13).map(|id| run(id, None)));
        two.nth = 6;
        assert_eq!(in_short(&two), "6th in the queue for `prod/web`, behind R-7, R-8, R-9 and 3 more");
        two.locks = vec![web; 5];
        assert!(in_short(&two).starts_with("6th in the queue for 5 locks, behind"));
    }
}
