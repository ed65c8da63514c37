//! The clock of Houston's machine is set a day on or back while something is open: an approval, a step, the
//! budget of a person's commands, what was read of a room. Nothing is lost, done twice or stuck.

use std::time::Duration;

use houston::clock::Clock;

use crate::step_kinds::tour;
use crate::support::house::{House, Said, Setup};

const DAY: Duration = Duration::from_secs(86_400);

/// A house of which the test sets Houston's clock; the chat server's goes right.
async fn house(more: &str) -> (House, Clock) {
    let clock = Clock::manual(Clock::system().now());
    let server_clock = Some(Clock::system());
    let setup = Setup { clock: clock.clone(), server_clock, houston: more.to_owned(), ..Setup::default() };
    (House::with(setup).await, clock)
}

fn back(clock: &Clock) {
    clock.set(clock.now().checked_sub(DAY).expect("a time"));
}

fn on(clock: &Clock) {
    clock.set(clock.now().checked_add(DAY).expect("a time"));
}

async fn asked(t: &House) -> Said {
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    t.card().await
}

#[tokio::test]
async fn an_open_request_outlives_a_clock_that_goes_back_and_expires_when_it_goes_on() {
    let (t, clock) = house("").await;
    let card = asked(&t).await;
    back(&clock);
    t.silence("ops").await;
    t.until(&card, &["*needs*"]).await;
    on(&clock);
    t.silence("ops").await;
    t.until(&card, &["*needs*"]).await;
    back(&clock);
    t.react("bob", &card, ":+1:").await;
    t.until(&card, &["*approved* by bob"]).await;
    t.ended("R-1", &["deployed in"]).await;
    // A day on is longer than anybody waits for a vote.
    t.say("alice", "ops", "!deploy prod web 1.7").await;
    let card = t.card().await;
    on(&clock);
    t.until(&card, &["*expired*"]).await;
    t.expect("ops", &["@alice *R-2*", "expired"]).await;
    back(&clock);
    t.react("bob", &card, ":+1:").await;
    t.silence("ops").await;
    assert_eq!(t.image("web").await, "demo/web:1.8");
    t.end().await;
}

/// What an earlier process has asked, by its own messages, however late that was by the clock of then.
#[tokio::test]
async fn what_was_asked_is_followed_though_the_clock_was_set_back_over_a_restart() {
    let (mut t, clock) = house("").await;
    let card = asked(&t).await;
    t.stop().await;
    back(&clock);
    t.start_again().await;
    t.react("bob", &card, ":+1:").await;
    t.until(&card, &["*approved* by bob"]).await;
    t.ended("R-1", &["deployed in"]).await;
    t.end().await;
}

#[tokio::test]
async fn the_card_of_a_step_is_followed_though_the_clock_was_set_back_over_a_restart() {
    const TELL: &str = "  - id: tell\n    approval: {from: [lead]}\n    notify: {room: general, text: \"it is {{ colour }}\"}\n";
    let clock = Clock::manual(Clock::system().now());
    let setup = Setup {
        clock: clock.clone(),
        server_clock: Some(Clock::system()),
        prod: "approvals: {default: none}\n".to_owned(),
        files: tour(TELL),
        ..Setup::default()
    };
    let mut t = House::with(setup).await;
    t.say("alice", "ops", "!tour prod red").await;
    let progress = t.progress("R-1").await;
    let card = t.expect("ops", &[":raised_hand:", "waits before step"]).await;
    t.kill().await;
    back(&clock);
    t.start_again().await;
    t.react("carol", &card, ":+1:").await;
    t.until(&card, &["*approved* by carol"]).await;
    t.expect("general", &["it is red"]).await;
    t.until(&progress, &[":white_check_mark: *R-1*"]).await;
    t.expect("ops", &["@alice", "done in"]).await;
    t.end().await;
}

#[tokio::test]
async fn a_step_that_runs_is_neither_ended_nor_held_up_by_the_clock() {
    for ahead in [true, false] {
        let (t, clock) = house("").await;
        t.say("alice", "ops", "!deploy prod web 1.8-slow").await;
        let card = t.card().await;
        t.react("bob", &card, ":+1:").await;
        t.until(&card, &["*approved* by bob"]).await;
        t.wait_for_image("web", "demo/web:1.8-slow").await;
        if ahead {
            on(&clock);
        } else {
            back(&clock);
        }
        t.ended("R-1", &["deployed in"]).await;
        assert_eq!(t.image("web").await, "demo/web:1.8-slow");
        t.end().await;
    }
}

#[tokio::test]
async fn what_is_said_after_a_jump_is_answered_once_over_restarts_too() {
    for ahead in [true, false] {
        let (mut t, clock) = house("").await;
        t.say("alice", "ops", "!ping before").await;
        t.expect("ops", &["pong before"]).await;
        if ahead {
            on(&clock);
        } else {
            back(&clock);
        }
        t.say("alice", "ops", "!ping after").await;
        t.expect("ops", &["pong after"]).await;
        t.restart().await;
        t.silence("ops").await;
        // And the other way round, while Houston is away.
        t.say("alice", "ops", "!ping last").await;
        t.expect("ops", &["pong last"]).await;
        t.restart().await;
        t.silence("ops").await;
        t.end().await;
    }
}

#[tokio::test]
async fn a_message_sent_while_houston_was_away_is_found_though_its_own_clock_is_a_day_off() {
    for ahead in [true, false] {
        let (mut t, clock) = house("").await;
        t.say("alice", "ops", "!ping before").await;
        t.expect("ops", &["pong before"]).await;
        t.stop().await;
        t.say("alice", "ops", "!ping meanwhile").await;
        t.say("alice", "ops", "!lock prod meanwhile").await;
        if ahead {
            on(&clock);
        } else {
            back(&clock);
        }
        t.start_again().await;
        t.expect("ops", &["pong meanwhile"]).await;
        // Its age is told by the server's clock, and so it is not asked about.
        t.expect("ops", &[":lock: `prod` is locked"]).await;
        t.say("alice", "ops", "!unlock prod").await;
        t.expect("ops", &["`prod` is free"]).await;
        t.silence("ops").await;
        t.end().await;
    }
}

#[tokio::test]
async fn a_persons_budget_of_commands_does_not_wait_for_a_time_that_was() {
    let (t, clock) = house("limits: {commands_per_minute: 2}\n").await;
    for word in ["one", "two"] {
        t.say("alice", "ops", &format!("!ping {word}")).await;
        t.expect("ops", &[&format!("pong {word}")]).await;
    }
    t.say("alice", "ops", "!ping three").await;
    t.expect("ops", &["more than 2 commands a minute"]).await;
    back(&clock);
    t.say("alice", "ops", "!ping four").await;
    t.silence("ops").await;
    clock.advance(Duration::from_secs(61));
    t.say("alice", "ops", "!ping five").await;
    t.expect("ops", &["pong five"]).await;
    t.end().await;
}

#[tokio::test]
async fn a_servers_clock_that_is_set_back_makes_nobody_unheard() {
    // On one machine both clocks are one.
    for both in [true, false] {
        let clock = Clock::manual(Clock::system().now());
        let ours = if both { clock.clone() } else { Clock::system() };
        let setup = Setup { clock: ours, server_clock: Some(clock.clone()), ..Setup::default() };
        let mut t = House::with(setup).await;
        t.say("alice", "ops", "!ping before").await;
        t.expect("ops", &["pong before"]).await;
        back(&clock);
        t.say("alice", "ops", "!ping after").await;
        t.expect("ops", &["pong after"]).await;
        for word in ["!lock prod meanwhile", "!unlock prod"] {
            t.stop().await;
            t.say("alice", "ops", word).await;
            t.start_again().await;
            t.expect("ops", &["`prod` is"]).await;
        }
        t.silence("ops").await;
        t.end().await;
    }
}

#[tokio::test]
async fn a_servers_clock_that_is_set_back_while_houston_is_away_loses_nothing_that_is_said_then() {
    let clock = Clock::manual(Clock::system().now());
    let setup = Setup { server_clock: Some(clock.clone()), ..Setup::default() };
    let mut t = House::with(setup).await;
    t.say("alice", "ops", "!ping before").await;
    t.expect("ops", &["pong before"]).await;
    t.stop().await;
    t.say("alice", "ops", "!lock prod then").await;
    back(&clock);
    t.say("alice", "ops", "!lock prod now").await;
    t.start_again().await;
    // By its time it is of another day; that it is not is not to be known.
    t.expect("ops", &["`lock prod then`", "Is it still meant?"]).await;
    t.expect("ops", &[":lock: `prod` is locked"]).await;
    t.say("alice", "ops", "!unlock prod").await;
    t.expect("ops", &["`prod` is free"]).await;
    t.restart().await;
    t.silence("ops").await;
    t.end().await;
}

#[tokio::test]
async fn a_clock_that_is_set_on_lets_commands_be_asked_about_only_until_the_servers_is_heard() {
    for ahead in [true, false] {
        let (t, clock) = house("").await;
        if ahead {
            on(&clock);
        } else {
            back(&clock);
        }
        t.say("alice", "ops", "!ping").await;
        t.expect("ops", &["pong"]).await;
        t.say("alice", "ops", "!lock prod after").await;
        t.expect("ops", &[":lock: `prod` is locked"]).await;
        t.say("alice", "ops", "!unlock prod").await;
        t.expect("ops", &["`prod` is free"]).await;
        t.end().await;
    }
}
