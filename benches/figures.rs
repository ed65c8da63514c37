//! The figures that the README quotes, measured side by side in one run and printed as Markdown. How, and
//! what came out: `benches/README.md`.
//!
//! `cargo bench` runs all but what takes many minutes; `cargo bench -- pings burst` runs those named.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

mod client;
#[path = "../tests/it/support/nowhere.rs"]
mod nowhere;
mod pings;
mod processes;
mod recovery;
mod soak;
mod starts;
mod steps;
mod table;

use processes::{Home, Sandbox};
use table::Table;

/// The argument that makes this program the echo bot.
pub const ECHO: &str = "--echo-bot";

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [first, url, user_id, token] = args.as_slice()
        && first == ECHO
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(client::echo(url, user_id, token));
        return;
    }
    let wanted: Vec<&str> = args.iter().map(String::as_str).filter(|arg| !arg.starts_with("--")).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    if let ["soak", minutes @ ..] = wanted.as_slice() {
        let minutes = minutes.first().map_or(60, |minutes| minutes.parse().expect("a number of minutes"));
        let dir = tempfile::Builder::new().prefix("houston-soak-").tempdir().expect("a folder");
        let (verdict, good) = runtime.block_on(soak::for_minutes(minutes, dir.path()));
        println!("\n{verdict}");
        assert!(good, "see above");
        return;
    }
    let table = runtime.block_on(measure(&wanted));
    println!("\n{table}");
}

async fn measure(wanted: &[&str]) -> Table {
    let want = |name: &str| wanted.is_empty() || wanted.contains(&name);
    let dir = tempfile::Builder::new().prefix("houston-figures-").tempdir().expect("a folder");
    let mut table = Table::default();
    if want("pings") {
        let sandbox = Sandbox::start(dir.path()).await;
        let home = Home::new(dir.path().join("pings"), &sandbox.url);
        pings::latency_and_memory(&sandbox, &home, &mut table).await;
    }
    if want("burst") {
        let sandbox = Sandbox::start(dir.path()).await;
        let home = Home::new(dir.path().join("burst"), &sandbox.url);
        pings::burst(&sandbox, &home, &mut table).await;
    }
    if want("starts") {
        starts::cold(dir.path(), &mut table).await;
    }
    // Minutes each: asked for by name.
    if wanted.contains(&"recovery") {
        recovery::after_a_kill(dir.path(), &mut table).await;
    }
    if wanted.contains(&"million") {
        starts::with_a_million_runs(dir.path(), &mut table).await;
    }
    if want("steps") {
        steps::journaled(dir.path(), &mut table).await;
    }
    table
}
