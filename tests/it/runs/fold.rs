//! The fold: any history the engine writes folds step by step to the same state, anything else is refused
//! and changes nothing.

use houston::approvals::Choice;
use houston::digest::Digest;
use houston::ids::{EffectToken, RunId};
use houston::playbook::model::{BreakGlass, Preview};
use houston::playbook::steps::{Pause, StepError};
use houston::runs::event::{EVENT_VERSION, Event, Found, Origin, Outcome, Recorded, Resolution};
use houston::runs::next::{Next, next};
use houston::runs::state::{Phase, RunState, StepState};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::Value as Json;

use super::bench::*;

fn recorded(seq: u32, event: Event) -> Recorded {
    Recorded {
        v: EVENT_VERSION,
        run: RunId(1),
        seq,
        at: Timestamp::from_second(i64::from(seq)).unwrap(),
        event,
    }
}

fn created(approval: bool) -> Recorded {
    begun(approval, false, false)
}

fn begun(approval: bool, glass: bool, asks: bool) -> Recorded {
    let mut plan = plan(vec![step("idem", "a"), step("once", "b"), wait_step(5)]);
    if asks {
        plan.steps[1..].iter_mut().for_each(|step| *step = asking(step.clone()));
    }
    if approval {
        plan = approved_by(1, plan);
    }
    if glass {
        let without = plan.approval.take();
        plan.break_glass = Some(BreakGlass {
            reason: "burning".into(),
            without,
            steps: Vec::new(),
            through: None,
            outside: None,
            reviewers: vec!["lead".into()],
        });
    }
    let approval = plan.approval.is_some();
    let origin = Origin {
        room: houston::gateway::events::Room {
            id: "room".into(),
            kind: houston::gateway::events::RoomKind::Public,
            name: None,
        },
        thread: None,
        message: "m".into(),
        schedule: None,
    };
    let event = Event::Created {
        digest: plan.digest(),
        expires_at: approval.then(|| Timestamp::from_second(1800).unwrap()),
        plan: Box::new(plan),
        by: actor("alice"),
        origin,
        engine: "0".into(),
        card: "card".into(),
        progress: "progress".into(),
    };
    recorded(0, event)
}

/// Every kind of event, legal or not at the place where it comes.
fn any_event() -> impl Strategy<Value = Event> {
    let of_plan = RunState::begin(&created(true)).unwrap().consent.digest;
    let of_step = Digest::of(b"step");
    (0..33_u8, 0..4_usize, 1..4_u32, any::<bool>()).prop_map(move |(which, step, attempt, flag)| {
        let by = actor(if flag { "bob" } else { "carol" });
        let error = if flag { StepError::new("no").transient() } else { StepError::new("no").with_effects() };
        match which {
            0 | 1 => {
                let choice = if flag { Choice::Approve } else { Choice::Deny };
                let digest = if attempt == 1 { of_plan.clone() } else { of_step.clone() };
                Event::Voted { vote: vote(&by.username, choice), digest }
            }
            3 if flag => Event::Reminded,
            2 => Event::VoteWithdrawn { by, vanished: flag, lost: false },
            3 => Event::Told { who: by.id },
            4 => Event::CardReplaced { card: "other".into() },
            5 => Event::Approved,
            6 => Event::Denied { by, reason: None },
            7 => Event::DenialExplained { reason: "so".into() },
            8 => Event::Expired,
            9 => Event::Voided { differences: Vec::new() },
            10 if flag => {
                Event::Frozen { until: Timestamp::UNIX_EPOCH, why: "so".into(), for_maintenance: false }
            }
            10 => Event::Queued { behind: vec!["R-0".into()] },
            11 => Event::Started,
            27 if attempt == 1 => Event::TakenUp { away_since: Timestamp::UNIX_EPOCH },
            27 if attempt == 2 => Event::Found { step, found: Found::Harmless { only_reads: flag } },
            12 | 13 => {
                Event::StepStarted { step, attempt, token: EffectToken::new(RunId(1), &"card".into(), step) }
            }
            14 | 15 => Event::StepSucceeded { step, output: Json::Null, adopted: flag },
            16 => Event::StepFailed { step, error },
            17 => Event::RetryAt { step, at: Timestamp::UNIX_EPOCH },
            18 => {
                Event::StepWaiting { step, pause: Pause::For(std::time::Duration::from_secs(5)), until: None }
            }
            19 => Event::WaitEnded { step },
            20 => Event::OutcomeUnknown { step, why: "?".into(), look: Vec::new() },
            21 => {
                let all =
                    [Resolution::Happened, Resolution::DidNotHappen, Resolution::Undo, Resolution::Undone];
                let one = (attempt as usize - 1) + usize::from(flag);
                Event::Resolved { step, by, resolution: all[one] }
            }
            22 => Event::Paused { step },
            23 => Event::RetryRequested { by },
            24 => Event::CancelRequested { by },
            25 => Event::UndoStarted { step, attempt },
            26 if flag => Event::UndoSucceeded { step, nothing: attempt == 2 },
            26 => Event::UndoFailed { step, error },
            27 if flag => Event::Stuck { by_hand: Vec::new() },
            30..=32 => Event::StepAsked {
                step,
                preview: Preview::default(),
                digest: of_step.clone(),
                card: "step".into(),
                expires_at: Timestamp::from_second(1800).unwrap(),
            },
            28 => Event::ReviewReminded,
            29 => {
                let by = if attempt == 1 { actor("alice") } else { by };
                Event::Reviewed { by, findings: "well".into() }
            }
            _ => {
                let all = [Outcome::Succeeded, Outcome::Failed, Outcome::Cancelled, Outcome::Void];
                Event::Finished { outcome: all[step] }
            }
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is thrown at it: what is taken folds from the log to the same state, what is refused says
    /// where and leaves everything as it was, and there is always a decision.
    #[test]
    fn any_sequence_of_events_is_folded_or_refused(
        (approval, glass, asks) in any::<(bool, bool, bool)>(),
        events in prop::collection::vec(any_event(), 0..120),
    ) {
        let first = begun(approval, glass, asks);
        let mut state = RunState::begin(&first).unwrap();
        let mut log = vec![first];
        for event in events {
            let before = state.clone();
            let record = recorded(state.next_seq, event);
            match state.apply(&record) {
                Ok(()) => {
                    if let Event::StepStarted { step, .. } | Event::StepWaiting { step, .. } = record.event {
                        let consented = before.ask_of(step).is_some_and(|ask| ask.ballot.is_approved());
                        prop_assert!(consented || before.plan.steps[step].approval.is_none());
                    }
                    log.push(record);
                }
                Err(illegal) => {
                    prop_assert_eq!(&state, &before);
                    prop_assert_eq!(illegal.run, RunId(1));
                    prop_assert_eq!(illegal.seq, before.next_seq);
                    prop_assert_eq!(&illegal.state, before.phase.word());
                    let event = serde_json::to_value(&record.event).unwrap();
                    prop_assert_eq!(Some(illegal.event.as_str()), event["type"].as_str());
                }
            }
            // What holds of every state that can be reached.
            let _ = next(&state, Timestamp::UNIX_EPOCH);
            let running = state.steps.iter().filter(|s| matches!(s.state, StepState::Running { .. })).count();
            prop_assert!(running <= 1);
            prop_assert!(!(state.holds_locks() && state.wants_locks()));
            prop_assert!(state.open_ask().is_none() || state.holds_locks());
            prop_assert!(state.asking().is_none() || state.open_ballot() == state.asking());
            prop_assert!(!state.review_open() || (glass && state.started_at.is_some()));
            if let Some(review) = &state.review {
                prop_assert!(glass && state.is_done() && state.started_at.is_some());
                prop_assert!(review.by.id != state.by.id && !state.review_open());
                prop_assert_eq!(state.remind_of_review_at(), None);
            }
            if state.outcome() == Some(Outcome::Succeeded) {
                let all = state.steps.iter().all(|s| matches!(s.state, StepState::Succeeded { .. }));
                prop_assert!(all);
            }
        }
        for end in 1..=log.len() {
            let folded = RunState::fold(&log[..end]).unwrap().unwrap();
            prop_assert_eq!(folded.next_seq as usize, end);
            if end == log.len() {
                prop_assert_eq!(&folded, &state);
            }
        }
        // The log survives its own format.
        let json = serde_json::to_vec(&log).unwrap();
        prop_assert_eq!(serde_json::from_slice::<Vec<Recorded>>(&json).unwrap(), log);
    }

    /// What `next` decides, the fold takes: else the engine would decide it again for ever.
    #[test]
    fn every_decision_can_be_recorded(
        (approval, glass, asks) in any::<(bool, bool, bool)>(),
        events in prop::collection::vec(any_event(), 0..120),
        later in 0..400_000_i64,
    ) {
        let mut state = RunState::begin(&begun(approval, glass, asks)).unwrap();
        for event in events {
            let record = recorded(state.next_seq, event);
            let _ = state.apply(&record);
        }
        let seq = state.next_seq;
        let event = match next(&state, Timestamp::from_second(later).unwrap()) {
            Next::Rest | Next::Sleep(_) => return Ok(()),
            Next::Expire => Event::Expired,
            Next::Remind => Event::Reminded,
            Next::RemindOfReview => Event::ReviewReminded,
            Next::Escalate => Event::Escalated,
            Next::Ask { step } => Event::StepAsked {
                step,
                preview: Preview::default(),
                digest: Digest::of(b"step"),
                card: "step".into(),
                expires_at: Timestamp::from_second(later + 1800).unwrap(),
            },
            Next::Step { step, attempt } => Event::StepStarted { step, attempt, token: EffectToken::new(RunId(1), &"card".into(), step) },
            Next::Recover { step, attempt } => {
                Event::StepStarted { step, attempt: attempt + 1, token: EffectToken::new(RunId(1), &"card".into(), step) }
            }
            Next::ScheduleRetry { step, at } => Event::RetryAt { step, at },
            Next::Pause { step } => Event::Paused { step },
            Next::EndWait { step } => Event::WaitEnded { step },
            Next::Undo { step, attempt } => Event::UndoStarted { step, attempt },
            Next::Stuck => Event::Stuck { by_hand: Vec::new() },
            Next::Finish(outcome) => Event::Finished { outcome },
        };
        let said = format!("{event:?} to {:?} {:?}", state.phase, state.steps);
        prop_assert!(state.apply(&recorded(seq, event)).is_ok(), "{}", said);
    }
}

#[test]
fn a_broken_glass_leaves_a_review_that_another_closes_once() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let by = |who: &str| Event::Reviewed { by: actor(who), findings: "was needed".into() };
    let waiting = RunState::begin(&begun(true, true, false)).unwrap();
    assert!(waiting.wants_locks(), "nobody is asked");
    let cancelled = waiting.after(Event::Finished { outcome: Outcome::Cancelled }, at(1)).unwrap();
    assert!(!cancelled.review_open(), "nothing was done");
    let started = waiting.after(Event::Started, at(1)).unwrap();
    assert_eq!(started.after(by("bob"), at(2)).unwrap_err().why, "it is reviewed when it has ended");
    let ended = started.after(Event::Finished { outcome: Outcome::Failed }, at(10)).unwrap();
    assert!(ended.review_open());
    let day = 86_400;
    assert_eq!(next(&ended, at(10)), Next::Sleep(at(day + 10)));
    assert_eq!(next(&ended, at(day + 10)), Next::RemindOfReview);
    let reminded = ended.after(Event::ReviewReminded, at(3 * day)).unwrap();
    assert_eq!(next(&reminded, at(3 * day)), Next::Sleep(at(4 * day)), "one, however long nobody looked");
    assert_eq!(reminded.after(by("alice"), at(11)).unwrap_err().why, "who asked for it cannot review it");
    let reviewed = reminded.after(by("bob"), at(11)).unwrap();
    assert_eq!(next(&reviewed, at(9 * day)), Next::Rest);
    for again in [by("carol"), Event::ReviewReminded] {
        assert!(reviewed.after(again, at(12)).is_err());
    }
    let consented = state_of_a_run_with_consent();
    assert_eq!(consented.after(by("bob"), at(2)).unwrap_err().why, "it has no open review");
}

fn state_of_a_run_with_consent() -> RunState {
    let begun = RunState::begin(&created(false)).unwrap();
    let started = begun.after(Event::Started, Timestamp::UNIX_EPOCH).unwrap();
    started.after(Event::Finished { outcome: Outcome::Failed }, Timestamp::UNIX_EPOCH).unwrap()
}

#[test]
fn a_log_begins_once_at_its_beginning_and_has_no_gap() {
    let first = created(false);
    assert!(RunState::fold(&[]).unwrap().is_none());
    assert!(RunState::fold(&[recorded(0, Event::Started)]).is_err());
    assert!(RunState::fold(&[first.clone(), recorded(2, Event::Started)]).is_err());
    assert!(RunState::fold(&[first.clone(), Recorded { seq: 1, ..first.clone() }]).is_err());
    let newer = Recorded { v: EVENT_VERSION + 1, ..recorded(1, Event::Started) };
    let error = RunState::fold(&[first.clone(), newer]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "R-1 event 1: `started` cannot happen to a run that is about to start: a newer Houston wrote it"
    );
    let mut foreign = recorded(1, Event::Started);
    foreign.run = RunId(2);
    assert!(RunState::fold(&[first, foreign]).is_err());
}

/// A Houston that knows no step that asks would begin it without consent.
#[test]
fn only_what_an_older_houston_would_get_wrong_is_kept_from_it() {
    assert_eq!(created(true).event.version(), 1);
    assert_eq!(begun(true, false, true).event.version(), 2);
    assert_eq!((Event::Started.version(), Event::Approved.version()), (1, 1));
}

/// One row per phase: what is next.
#[test]
fn what_is_next_follows_from_the_state_alone() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let state = |events: &[Event]| {
        let mut log = vec![created(false)];
        log.extend(events.iter().enumerate().map(|(i, event)| recorded(i as u32 + 1, event.clone())));
        RunState::fold(&log).unwrap().unwrap()
    };
    let started = |step, attempt| Event::StepStarted {
        step,
        attempt,
        token: EffectToken::new(RunId(1), &"card".into(), step),
    };
    let succeeded = |step| Event::StepSucceeded { step, output: Json::Null, adopted: false };
    let failed = |error: StepError| Event::StepFailed { step: 0, error };
    let cancel = Event::CancelRequested { by: actor("bob") };
    let deciding = RunState::begin(&created(true)).unwrap();
    assert_eq!(next(&deciding, at(899)), Next::Sleep(at(900)));
    assert_eq!(next(&deciding, at(900)), Next::Remind);
    let reminded = deciding.after(Event::Reminded, at(900)).unwrap();
    assert_eq!(next(&reminded, at(901)), Next::Sleep(at(1800)), "once");
    assert!(reminded.after(Event::Reminded, at(901)).is_err());
    assert_eq!(next(&deciding, at(1800)), Next::Expire);
    assert_eq!(next(&state(&[]), at(9)), Next::Rest, "starting takes locks, which `next` cannot see");
    let begun = [Event::Started, started(0, 1)];
    assert_eq!(next(&state(&begun[..1]), at(9)), Next::Step { step: 0, attempt: 1 });
    assert_eq!(next(&state(&begun), at(9)), Next::Recover { step: 0, attempt: 1 });
    let with = |more: Vec<Event>| state(&[begun.to_vec(), more].concat());
    assert_eq!(next(&with(vec![succeeded(0)]), at(9)), Next::Step { step: 1, attempt: 1 });
    assert_eq!(next(&with(vec![failed(StepError::new("no"))]), at(9)), Next::Finish(Outcome::Failed));
    let touched = failed(StepError::new("no").with_effects());
    assert_eq!(next(&with(vec![touched]), at(9)), Next::Undo { step: 0, attempt: 1 });
    assert_eq!(next(&with(vec![succeeded(0), cancel.clone()]), at(9)), Next::Undo { step: 0, attempt: 1 });
    assert_eq!(next(&state(&[Event::Started, cancel]), at(9)), Next::Finish(Outcome::Cancelled));
    let unknown = Event::OutcomeUnknown { step: 0, why: "?".into(), look: Vec::new() };
    assert_eq!(next(&with(vec![unknown]), at(9)), Next::Rest);
    let undo = |attempt| Event::UndoStarted { step: 0, attempt };
    let refused = || Event::UndoFailed { step: 0, error: StepError::new("no") };
    let undoing = vec![succeeded(0), undo(1), refused()];
    assert_eq!(next(&with(undoing.clone()), at(9)), Next::Undo { step: 0, attempt: 2 });
    let thrice = [undoing, vec![undo(2), refused(), undo(3), refused()]].concat();
    assert_eq!(next(&with(thrice.clone()), at(9)), Next::Stuck);
    let stuck = with([thrice, vec![Event::Stuck { by_hand: Vec::new() }]].concat());
    assert_eq!((next(&stuck, at(9)), stuck.phase), (Next::Rest, Phase::Stuck));
}
