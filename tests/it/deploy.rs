//! From a line in the room to what runs: deployments that go well and ones that do not, the way back, scale,
//! restarts and cancels in between.

use crate::support::house::{House, Said, Setup};

async fn approved(t: &House, line: &str) -> Said {
    t.say("alice", "ops", line).await;
    let card = t.card().await;
    t.react("bob", &card, ":+1:").await;
    t.until(&card, &["*approved* by bob"]).await
}

/// A deployment, to its end.
async fn deployed(t: &House, version: &str, run: &str) {
    approved(t, &format!("!deploy prod web {version}")).await;
    t.ended(run, &["deployed in"]).await;
}

#[tokio::test]
async fn a_new_version_runs_after_the_consent_and_every_message_says_so() {
    let t = House::with(Setup { services: vec![("web", 2)], ..Setup::default() }).await;
    let card = approved(&t, "!deploy prod web 1.8").await;
    assert!(card.text.contains("after it was asked for"), "{}", card.text);
    let progress = t.ended("R-1", &[":white_check_mark: *R-1* `deploy prod web 1.8` deployed in"]).await;
    assert!(progress.text.contains("update `web` to `1.8`"), "{}", progress.text);
    assert_eq!(t.image("web").await, "demo/web:1.8");
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    t.expect("ops", &["`deploy prod web 1.8`: nothing to do"]).await;
    t.end().await;
}

#[tokio::test]
async fn a_version_that_crashes_is_rolled_back_with_its_last_words() {
    let t = House::start().await;
    approved(&t, "!deploy prod web 1.9").await;
    let progress = t.ended("R-1", &["*failed*"]).await;
    for part in ["was rolled back", "`1.7`", "cannot connect to the database", "`!logs R-1`"] {
        assert!(progress.text.contains(part), "`{part}` is missing: {}", progress.text);
    }
    assert_eq!(t.image("web").await, "demo/web:1.7");
    t.end().await;
}

#[tokio::test]
async fn a_version_that_is_not_healthy_is_rolled_back_and_the_room_is_told_why() {
    let t = House::start().await;
    approved(&t, "!deploy prod web 2.0").await;
    let progress = t.ended("R-1", &["*failed*"]).await;
    for part in ["`web`", "`1.7`", "health"] {
        assert!(progress.text.contains(part), "`{part}` is missing: {}", progress.text);
    }
    assert_eq!(t.image("web").await, "demo/web:1.7");
    t.say("bob", "ops", "!status prod web").await;
    t.expect("ops", &["web", "1.7", "2.0 tried, not kept"]).await;
    t.end().await;
}

#[tokio::test]
async fn a_whole_environment_is_one_plan_in_the_order_of_its_dependencies() {
    let services = vec![("worker", 1), ("web", 1), ("api", 1)];
    let t = House::with(Setup { services, ..Setup::default() }).await;
    t.say("alice", "ops", "!deploy prod").await;
    let card = t.card().await;
    // The api runs what its file says already.
    assert!(card.text.contains("update `web`") && card.text.contains("update `worker`"), "{}", card.text);
    assert!(!card.text.contains("update `api`"), "{}", card.text);
    t.react("carol", &card, ":+1:").await;
    t.until(&card, &["*approved* by carol"]).await;
    t.ended("R-1", &["deployed in", "`web`", "`worker`"]).await;
    assert_eq!(
        [t.image("api").await, t.image("web").await, t.image("worker").await],
        ["demo/api:1.7", "demo/web:1.8", "demo/worker:1.8"]
    );
    t.say("alice", "ops", "!deploy prod").await;
    t.expect("ops", &["`deploy prod`: nothing to do"]).await;
    t.end().await;
}

#[tokio::test]
async fn services_come_after_those_that_they_depend_on() {
    let t = House::talk().await;
    t.say("alice", "ops", "!deploy prod --dry-run").await;
    let plan = t.expect("ops", &["*dry run* `deploy prod"]).await.text;
    let at = |service: &str| plan.find(&format!("update `{service}`")).unwrap_or_else(|| panic!("{plan}"));
    assert!(at("api") < at("web") && at("api") < at("worker"), "{plan}");
    assert!(plan.contains("It would need the approval of 1 operator or lead"), "{plan}");
    t.silence("ops").await;
    assert!(t.runs().is_empty(), "nothing was begun");
    t.end().await;
}

#[tokio::test]
async fn rollback_goes_to_what_ran_before_the_first_release() {
    let t = House::start().await;
    deployed(&t, "1.8", "R-1").await;
    t.say("bob", "ops", "!rollback prod web --dry-run").await;
    t.expect("ops", &["`rollback prod web 1.7`: nothing was changed", "`demo/web:1.8` → `demo/web:1.7`"])
        .await;
    let card = approved(&t, "!rollback prod web").await;
    assert!(card.text.contains("`rollback prod web 1.7`"), "{}", card.text);
    t.ended("R-2", &["rolled back in"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.7");
    t.end().await;
}

/// The version that the file declares may never have run: it is nothing to go back to.
#[tokio::test]
async fn rollback_without_a_release_of_houston_goes_to_what_the_swarm_remembers() {
    let t = House::start().await;
    t.say("alice", "ops", "!rollback prod web").await;
    let answer = ["cannot be planned: the Swarm remembers no earlier release of `web`", "name the version"];
    t.expect("ops", &answer).await;
    t.change_image("web", "demo/web:1.6").await;
    t.say("alice", "ops", "!rollback prod web --dry-run").await;
    t.expect("ops", &["back to the release before", "`demo/web:1.6` → `demo/web:1.7`"]).await;
    t.end().await;
}

#[tokio::test]
async fn rollback_passes_over_a_release_that_failed() {
    let t = House::start().await;
    deployed(&t, "1.6", "R-1").await;
    deployed(&t, "1.8", "R-2").await;
    approved(&t, "!deploy prod web 1.9").await;
    t.ended("R-3", &["*failed*"]).await;
    let card = approved(&t, "!rollback prod web").await;
    assert!(card.text.contains("`rollback prod web 1.6`"), "{}", card.text);
    t.ended("R-4", &["rolled back in"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.6");
    t.end().await;
}

#[tokio::test]
async fn scale_keeps_to_the_limits_of_the_file() {
    let t = House::start().await;
    t.say("alice", "ops", "!scale prod web 7").await;
    t.expect("ops", &["may have 1 to 3 tasks, 7 is beyond that", "Nothing was changed", "prod.yaml:"]).await;
    assert!(t.runs().is_empty());
    approved(&t, "!scale prod web 3").await;
    t.ended("R-1", &["scaled in"]).await;
    assert_eq!(t.tasks_wanted("web").await, 3);
    t.end().await;
}

#[tokio::test]
async fn an_update_that_a_restart_interrupts_is_finished_once() {
    let mut t = House::start().await;
    approved(&t, "!deploy prod web 1.8-slow").await;
    let progress = t.progress("R-1").await;
    t.until(&progress, &["step 1 of 1"]).await;
    t.wait_for_image("web", "demo/web:1.8-slow").await;
    t.kill().await;
    t.start_again().await;
    t.until(&progress, &["deployed in"]).await;
    t.expect("ops", &["@alice", "deployed in"]).await;
    t.silence("ops").await;
    assert_eq!(t.runs(), ["deploy prod web 1.8-slow"]);
    let deployed = t.audited().iter().filter(|entry| entry.event.action == "succeeded").count();
    assert_eq!(deployed, 1);
    t.end().await;
}

#[tokio::test]
async fn a_graceful_stop_lets_the_step_end_and_the_room_hears_it() {
    let mut t = House::start().await;
    approved(&t, "!deploy prod web 1.8-slow").await;
    let progress = t.progress("R-1").await;
    t.wait_for_image("web", "demo/web:1.8-slow").await;
    t.restart().await;
    t.until(&progress, &["deployed in"]).await;
    t.expect("ops", &["@alice", "deployed in"]).await;
    t.end().await;
}

#[tokio::test]
async fn a_run_is_cancelled_before_its_approval() {
    let t = House::start().await;
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    let card = t.card().await;
    t.say("bob", "ops", "!cancel R-1").await;
    t.expect("ops", &["R-1 is cancelled. Nothing was changed."]).await;
    t.until(&card, &["*cancelled* by bob before it was decided"]).await;
    t.react("carol", &card, ":+1:").await;
    t.silence("ops").await;
    assert_eq!(t.image("web").await, "demo/web:1.7");
    t.end().await;
}

#[tokio::test]
async fn a_cancelled_update_puts_the_service_back_and_says_so() {
    let t = House::start().await;
    approved(&t, "!deploy prod web 1.8-slow").await;
    t.wait_for_image("web", "demo/web:1.8-slow").await;
    t.say("alice", "ops", "!cancel R-1").await;
    t.expect("ops", &["Cancelling R-1", "update `web` to `1.8-slow`"]).await;
    let progress = t.ended("R-1", &["*cancelled* by alice"]).await;
    assert!(progress.text.contains("back at `1.7`"), "{}", progress.text);
    assert_eq!(t.image("web").await, "demo/web:1.7");
    t.end().await;
}

#[tokio::test]
async fn a_stop_sign_on_the_progress_message_cancels() {
    let t = House::start().await;
    t.newcomer("dave").await;
    approved(&t, "!deploy prod web 1.8-slow").await;
    let progress = t.progress("R-1").await;
    t.wait_for_image("web", "demo/web:1.8-slow").await;
    t.react("dave", &progress, ":octagonal_sign:").await;
    t.expect("ops", &["You may not `cancel` here"]).await;
    t.react("bob", &progress, ":octagonal_sign:").await;
    t.until(&progress, &["*cancelled* by bob", "back at `1.7`"]).await;
    t.expect("ops", &["@alice", "cancelled"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.7");
    t.end().await;
}
