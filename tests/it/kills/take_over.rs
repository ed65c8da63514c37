//! Two Houstons on one account: the one that acts is killed before and after its commits, and the other takes over.
//! What was asked for is done once or is told of, and nobody is left without an answer.

use futures_util::{StreamExt as _, stream};

use super::{SIDE_BY_SIDE, lot, points};
use crate::support::pair::Pair;
use rand::RngExt as _;

/// As short as it may be.
const LEASE: &str = "lease: {duration: 3s}\n";

/// Moments that are drawn.
const TRIALS: usize = 6;

/// Commits of a Houston that starts and deploys one service, about.
const COMMITS: u64 = 12;

async fn taken_over(moment: &str) {
    let it = Pair::new(&[("web", 1)]).await;
    it.configure("one", &it.socket(), LEASE);
    it.configure("two", &it.socket(), LEASE);
    let mut first = it.serve_until("one", "state-one", Some(moment));
    // Perhaps it does not get so far.
    let begun = it.until("the first to act or to die", || first.acts_or_died()).await;
    let second = it.serve("two", "state-two");
    if begun {
        second.is(503, "standing by").await;
    }
    it.say("alice", "!deploy staging web 1.8").await;
    let _ = tokio::time::timeout(std::time::Duration::from_secs(20), first.ended()).await;
    drop(first);
    second.is(200, "ready").await;
    // Done by the first, by the second, or told of.
    let told = |said: &&String| {
        said.contains("*R-1* `deploy staging web 1.8`")
            && ["deployed in", "I have taken over"].iter().any(|end| said.contains(end))
            || said.contains("Is it still meant?")
    };
    it.until("somebody to answer alice", || it.said().iter().find(told).cloned()).await;
    it.say("alice", "!ping after").await;
    it.hear(&["pong after"]).await;
    assert_eq!(it.count("pong after"), 1, "{moment}");
    // Changed once, or not at all.
    let web = it.docker("GET", "/services/web", None).await;
    let before = &web["PreviousSpec"]["TaskTemplate"]["ContainerSpec"]["Image"];
    let changed = before.is_null() || before == "demo/web:1.7";
    assert!(changed, "{moment}: {before} came before {}", it.image("web").await);
    it.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stderr, reason = "the seed has to be seen where a trial fails")]
async fn whoever_takes_over_does_nothing_again_wherever_the_first_was_killed() {
    let (seed, mut lot) = lot();
    eprintln!("HOUSTON_TEST_SEED={seed}");
    let all: Vec<String> = points(COMMITS).map(|kill| kill.to_string()).collect();
    let trials: Vec<String> = (0..TRIALS).map(|_| all[lot.random_range(0..all.len())].clone()).collect();
    let trials = stream::iter(trials).map(|moment| async move {
        eprintln!("killed {moment}");
        taken_over(&moment).await;
    });
    trials.buffer_unordered(SIDE_BY_SIDE).collect::<Vec<()>>().await;
}
