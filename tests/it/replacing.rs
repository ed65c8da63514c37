//! One Houston goes, the next one comes: what is said meanwhile, what is under way, and two at once.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::cli::run;
use crate::support::pair::Pair;

/// How long a stop may take: platforms kill after ten seconds.
const STOP: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_around_a_stop_is_done_once_by_one_of_the_two() {
    let it = Pair::new(&[("web", 1)]).await;
    it.configure("config", &it.socket(), "");
    let mut first = it.serve("config", "state");
    first.is(200, "ready").await;
    it.say("alice", "!deploy staging web 1.8-slow").await;
    it.hear(&["*R-1*", "1 of"]).await;
    for number in 0..40 {
        it.say("bob", &format!("!ping before-{number}")).await;
        if number == 20 {
            first.signal(Signal::SIGTERM);
        }
    }
    it.say("bob", "!lock staging/api maintenance").await;
    let (code, took) = first.ended().await;
    assert_eq!(code, Some(0), "{}", first.log());
    assert!(took < STOP, "it took {took:?}");
    assert_eq!(it.image("web").await, "demo/web:1.8-slow", "the update that it began stays");
    it.say("bob", "!ping nobody-is-there").await;

    let second = it.serve("config", "state");
    second.is(200, "ready").await;
    it.hear(&["*R-1*", "deployed in"]).await;
    it.hear(&["pong nobody-is-there"]).await;
    it.hear(&["`staging/api` is locked"]).await;
    for number in 0..40 {
        let answer = format!("pong before-{number}");
        it.until(&answer, || (it.count(&answer) > 0).then_some(())).await;
        assert_eq!(it.count(&answer), 1);
    }
    // One update, begun by the one and followed to its end by the other.
    let web = it.docker("GET", "/services/web", None).await;
    assert_eq!(web["PreviousSpec"]["TaskTemplate"]["ContainerSpec"]["Image"], "demo/web:1.7");
    let runs = run(&["runs", "--state", &it.path("state").display().to_string()]).1;
    assert_eq!(runs.matches("R-").count(), 1, "{runs}");
    drop(second);
    it.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_houston_on_one_folder_is_refused_and_told_who_holds_it() {
    let it = Pair::new(&[]).await;
    it.configure("config", &it.socket(), "");
    let mut first = it.serve("config", "state");
    first.is(200, "ready").await;
    let (config, state) = (it.path("config").display().to_string(), it.path("state").display().to_string());
    let before = listing(&it.path("state"));
    let (code, _, error) = run(&["serve", "--config", &config, "--state", &state]);
    assert_eq!(code, 1, "{error}");
    let holder = format!("is in use by another Houston: `houston serve`, process {} on ", first.pid());
    assert!(error.contains(&holder) && error.contains(", since 2"), "{error}");
    assert!(error.contains("hint: stop the other Houston"), "{error}");
    assert_eq!(listing(&it.path("state")), before, "it touched something");
    it.say("alice", "!ping still-here").await;
    it.hear(&["pong still-here"]).await;

    // Killed: what it leaves behind is no obstacle.
    first.signal(Signal::SIGKILL);
    first.ended().await;
    let second = it.serve("config", "state");
    second.is(200, "ready").await;
    it.say("alice", "!ping again").await;
    it.hear(&["pong again"]).await;
    drop(second);
    it.end().await;
}

/// Every name below `dir` with its mode.
fn listing(dir: &std::path::Path) -> Vec<(std::path::PathBuf, u32)> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut found = vec![(dir.to_owned(), std::fs::metadata(dir).unwrap().permissions().mode())];
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        // A database's own files come and go while it is in use.
        if entry.file_name() != "journal" {
            found.push((entry.path(), entry.metadata().unwrap().permissions().mode()));
        }
    }
    found.sort();
    found
}
