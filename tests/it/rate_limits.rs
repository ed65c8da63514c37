//! Houston under Rocket.Chat's own rate limits: ten calls a minute of each route where its account is no bot, all
//! calls where it is one. What somebody waits for never stands behind progress, and nothing is lost.

use std::time::Duration;

use serde_json::json;

use crate::support::house::{House, RateLimits, Setup};

/// Rocket.Chat's default.
const MINUTE: Duration = Duration::from_secs(60);

async fn house(bot: bool, window: Duration) -> House {
    let rate_limits = Some(RateLimits { bot, window });
    House::with(Setup { rate_limits, services: vec![("web", 1), ("api", 1)], ..Setup::default() }).await
}

/// How many calls of a route the server has let through.
async fn calls(t: &House, route: &str) -> usize {
    let log = t.control("log", json!({"name": route})).await;
    log["lines"].as_array().expect("lines").len()
}

/// Every wait of this conversation is shorter than a window: what it waits for cannot have stood behind one.
async fn story(t: &House) {
    t.say("alice", "ops", "!deploy prod web 1.8-slow").await;
    let card = t.card().await;
    t.react("bob", &card, ":+1:").await;
    t.until(&card, &["*approved* by bob"]).await;
    // The second request comes while the first one's progress is being edited.
    t.wait_for_image("web", "demo/web:1.8-slow").await;
    t.say("bob", "ops", "!deploy prod api 1.8").await;
    let card = t.card().await;
    t.react("carol", &card, ":+1:").await;
    t.until(&card, &["*approved* by carol"]).await;
    t.ended("R-1", &["deployed in"]).await;
    t.ended("R-2", &["deployed in"]).await;
    assert_eq!(
        (t.image("web").await, t.image("api").await),
        ("demo/web:1.8-slow".into(), "demo/api:1.8".into())
    );
}

#[tokio::test]
async fn with_the_bot_role_a_deployment_is_told_as_it_goes() {
    let t = house(true, MINUTE).await;
    story(&t).await;
    assert!(calls(&t, "chat.update").await > 0, "progress was shown");
    t.end().await;
}

#[tokio::test]
async fn without_the_bot_role_approval_and_result_do_not_wait_for_the_window() {
    let t = house(false, MINUTE).await;
    story(&t).await;
    for route in ["chat.sendMessage", "chat.update"] {
        assert!((1..=10).contains(&calls(&t, route).await), "{route}: no more than fit");
    }
    t.end().await;
}

#[tokio::test]
async fn more_answers_than_a_window_takes_come_in_the_next_ones_each_once() {
    let t = house(false, Duration::from_secs(3)).await;
    for n in 1..=24 {
        t.say(if n % 2 == 0 { "alice" } else { "bob" }, "ops", &format!("!ping number-{n}-")).await;
    }
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    let card = t.card().await;
    t.react("bob", &card, ":+1:").await;
    t.until(&card, &["*approved* by bob"]).await;
    for n in 1..=24 {
        t.expect("ops", &[&format!("pong number-{n}-")]).await;
    }
    t.ended("R-1", &["deployed in"]).await;
    t.silence("ops").await;
    t.end().await;
}
