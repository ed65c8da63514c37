//! The page of a run, from the link in its room to what a browser gets: who opens it, what stands on it, what never
//! does.

use std::time::Duration;

use houston::clock::Clock;
use reqwest::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::house::{House, Said, Setup};

const PUBLIC: &str = "https://houston.example.com/bot";

fn setup() -> Setup {
    let houston = format!("http: {{listen: '127.0.0.1:0', public_url: '{PUBLIC}/'}}\n");
    Setup { houston, services: vec![("web", 1), ("staging-web", 1)], ..Setup::default() }
}

/// The path and key of the link in a message.
fn link(said: &Said) -> String {
    let (_, rest) =
        said.text.split_once(&format!("]({PUBLIC}")).unwrap_or_else(|| panic!("a link: {}", said.text));
    rest.split(')').next().expect("its end").to_owned()
}

async fn get(t: &House, path: &str) -> reqwest::Response {
    let address = t.bot().http.expect("it listens");
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    client.get(format!("http://{address}{path}")).send().await.expect("an answer")
}

async fn page(t: &House, path: &str) -> String {
    let answer = get(t, path).await;
    assert_eq!(answer.status(), StatusCode::OK, "{path}");
    answer.text().await.expect("a text")
}

/// Nothing is opened, and it says what to do.
async fn refused(t: &House, path: &str) {
    let answer = get(t, path).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{path}");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let text = answer.text().await.expect("a text");
    assert!(text.contains("This link opens nothing") && text.contains("!show R-41"), "{text}");
    assert!(!text.contains("web"), "nothing of a run: {text}");
}

#[tokio::test]
async fn a_run_s_message_leads_to_its_page_and_no_other_address_does() {
    let t = House::with(setup()).await;
    t.say("alice", "ops", "!deploy prod web 1.8 --reason \"a <b>bold</b> release\"").await;
    let card = t.card().await;
    t.react("bob", &card, ":+1:").await;
    let progress = t.ended("R-1", &[":white_check_mark: *R-1*"]).await;
    let path = link(&progress);
    assert!(path.starts_with("/runs/R-1?key="), "{path}");
    let answer = get(&t, &path).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let policy = answer.headers()["content-security-policy"].to_str().expect("a text").to_owned();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"),
        "{policy}"
    );
    for (name, value) in [
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("x-robots-tag", "noindex"),
    ] {
        assert_eq!(answer.headers()[name], value);
    }
    let text = answer.text().await.expect("a text");
    for part in [
        "<b>R-1</b> succeeded",
        "deploy prod web 1.8",
        "asked by alice",
        "a &lt;b&gt;bold&lt;&#x2f;b&gt; release",
        "update <code>web</code> to <code>1.8</code>",
        "can be undone",
        "approved by bob at ",
        "bob approved by a reaction",
        "needs 1 operator or lead",
        "── succeeded",
        "../pages/run.css",
    ] {
        assert!(text.contains(part), "`{part}`: {text}");
    }
    assert!(!text.contains("run.js"), "nothing moves any more: {text}");
    let key = path.split_once('?').expect("a key").1;
    let log = get(&t, &format!("/runs/R-1/log?{key}")).await;
    assert_eq!(log.headers()["content-disposition"], "attachment; filename=\"R-1.log\"");
    assert_eq!(log.headers()["content-type"], "text/plain; charset=utf-8");
    assert!(log.text().await.expect("a text").ends_with("── succeeded\n"));

    t.say("alice", "ops", "!deploy staging web 1.8").await;
    t.ended("R-2", &[":white_check_mark: *R-2*"]).await;
    let last = if path.ends_with('0') { '1' } else { '0' };
    let forged = format!("{}{last}", &path[..path.len() - 1]);
    for wrong in [
        "/runs/R-1".to_owned(),
        "/runs/R-1?key=".to_owned(),
        "/runs/R-1?key=%ff".to_owned(),
        "/runs/R-99?key=1.00".to_owned(),
        forged,
        format!("/runs/R-2?{key}"),
        format!("/runs/R-2/log?{key}"),
        format!("/runs/R-2/live?{key}"),
        format!("/runs/..%2F..%2Faudit.jsonl?{key}"),
        format!("/runs/R-1.log?{key}"),
    ] {
        refused(&t, &wrong).await;
    }
    for nothing in ["/pages/..%2F..%2Fpage.key", "/pages/page.key", "/runs", "/pages/run.html"] {
        assert_eq!(get(&t, nothing).await.status(), StatusCode::NOT_FOUND, "{nothing}");
    }
    t.end().await;
}

#[tokio::test]
async fn a_link_is_said_where_the_run_may_be_seen_and_expires() {
    let clock = Clock::manual(Clock::system().now());
    let t = House::with(Setup { clock: clock.clone(), ..setup() }).await;
    t.say("alice", "ops", "!deploy staging web 1.8").await;
    let end = t.tick_until(&clock, "the end", &[":white_check_mark: *R-1*"]).await;
    t.expect("ops", &["@alice", "deployed in"]).await;
    t.say("bob", "ops", "!show R-1").await;
    let shown = t.expect("ops", &["*R-1*", "_asked "]).await;
    assert_eq!(link(&shown), link(&end), "the same for an hour");
    t.say("bob", "ops", "!logs R-1").await;
    link(&t.expect("ops", &["*R-1*", "── succeeded"]).await);
    // Carol may see it from anywhere; others in the room where she asks may not.
    t.say("carol", "general", "!show R-1").await;
    let elsewhere = t.expect("general", &["*R-1*", "_asked "]).await;
    assert!(!elsewhere.text.contains(PUBLIC), "{}", elsewhere.text);
    page(&t, &link(&end)).await;
    clock.advance(Duration::from_secs(26 * 3600));
    refused(&t, &link(&end)).await;
    t.say("bob", "ops", "!show R-1").await;
    page(&t, &link(&t.expect("ops", &["*R-1*", "_asked "]).await)).await;
    t.end().await;
}

#[tokio::test]
async fn nothing_that_an_output_says_becomes_more_than_text_and_no_secret_is_in_it() {
    // The last words of a task that crashes hold Houston's own password.
    let marker = "migration 0042_add_index has not been applied";
    let t = House::with(Setup { password: Some(marker.to_owned()), ..setup() }).await;
    t.say("alice", "ops", "!deploy staging web 1.9").await;
    let progress = t.ended("R-1", &["*failed*"]).await;
    let path = link(&progress);
    let text = page(&t, &path).await;
    assert!(text.contains("fatal: [redacted]") && !text.contains(marker), "{text}");
    let transcript = t.state().join("transcripts/R-1.log");
    let hostile = format!(
        "</pre><script>alert(1)</script><img src=x onerror=alert(1)>\n\u{1b}[31mred\u{1b}[0m \u{202e}evil\n{marker}\n"
    );
    t.wait("the end of the transcript", || {
        let text = std::fs::read_to_string(&transcript).unwrap_or_default();
        text.ends_with("── failed\n").then_some(())
    })
    .await;
    std::fs::write(&transcript, hostile.repeat(2000)).expect("written");
    let text = page(&t, &path).await;
    assert!(text.contains("&lt;script&gt;alert(1)"), "{text}");
    for never in ["<script>", "<img", "\u{1b}", "\u{202e}", marker] {
        assert!(!text.contains(never), "{never:?}");
    }
    assert!(text.contains("Its end; the file has the whole.") && text.len() < 300_000);
    t.end().await;
}

#[tokio::test]
async fn who_looks_sees_steps_and_output_as_they_come_to_the_end() {
    let t = House::with(setup()).await;
    t.say("alice", "ops", "!deploy staging web 1.8-slow").await;
    let progress = t.progress("R-1").await;
    let progress = t.until(&progress, &[PUBLIC]).await;
    let path = link(&progress);
    let text = page(&t, &path).await;
    assert!(text.contains("data-live=\"R-1/live\"") && text.contains("http-equiv=\"refresh\""), "{text}");
    let live = path.replace("R-1?", "R-1/live?");
    let answer = get(&t, &live).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    // It ends by itself.
    let events = tokio::time::timeout(Duration::from_secs(30), answer.text()).await;
    let events = events.expect("it ends").expect("a text");
    for part in [
        "event: output",
        "update web to 1.8-slow",
        "event: now",
        "R-1 running",
        "R-1 succeeded",
        "── succeeded",
    ] {
        assert!(events.contains(part), "`{part}`: {events}");
    }
    assert!(events.trim_end().ends_with("event: end\ndata: done"), "{events}");
    t.until(&progress, &["deployed in"]).await;
    t.expect("ops", &["@alice", "deployed in"]).await;
    t.end().await;
}

/// A stop is not held up by who looks.
#[tokio::test]
async fn a_page_that_is_open_ends_with_houston_and_goes_on_with_the_next() {
    let mut t = House::with(setup()).await;
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    let card = t.card().await;
    t.say("bob", "ops", "!show R-1").await;
    let path = link(&t.expect("ops", &["*R-1*", "_asked "]).await);
    let text = page(&t, &path).await;
    assert!(text.contains("React to its card, or say !approve R-1 or !deny R-1 why."), "{text}");
    let answer = get(&t, &path.replace("R-1?", "R-1/live?")).await;
    let reading = tokio::spawn(answer.text());
    let begun = tokio::time::Instant::now();
    t.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(reading.await.expect("no panic").expect("a whole answer").contains("event: now"));
    t.start_again().await;
    // The key is kept: links are good over a restart.
    page(&t, &path).await;
    t.say("bob", "ops", "!deny R-1 not today").await;
    t.expect("ops", &["R-1 is denied."]).await;
    t.denied("R-1", "bob").await;
    t.until(&card, &["*denied* by bob"]).await;
    assert!(page(&t, &path).await.contains("denied by bob at "));
    t.end().await;
}

/// Asks for a file as somebody does who then reads no more of it.
async fn ask_and_stall(t: &House, path: &str) -> (tokio::net::TcpStream, String) {
    let address = t.bot().http.expect("it listens");
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut head = vec![0; 12];
    stream.read_exact(&mut head).await.expect("an answer");
    (stream, String::from_utf8(head).expect("text"))
}

#[tokio::test]
async fn only_so_many_logs_are_sent_at_one_time_and_none_of_them_holds_up_a_stop() {
    let mut t = House::with(setup()).await;
    t.say("alice", "ops", "!deploy staging web 1.8").await;
    let path = link(&t.ended("R-1", &["deployed in"]).await).replace("R-1?", "R-1/log?");
    let transcript = t.state().join("transcripts/R-1.log");
    std::fs::write(&transcript, "line after line\n".repeat(4_000_000)).expect("written");
    let mut stalled = Vec::new();
    for _ in 0..8 {
        let (stream, head) = ask_and_stall(&t, &path).await;
        assert_eq!(head, "HTTP/1.1 200");
        stalled.push(stream);
    }
    let answer = get(&t, &path).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["retry-after"], "30");
    assert!(answer.text().await.expect("a text").contains("Too many files are being sent"));
    // Whoever goes makes room.
    stalled.pop();
    let again = async {
        while get(&t, &path).await.status() != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), again).await.expect("there is room again");
    let begun = tokio::time::Instant::now();
    t.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // What was cut off does not look whole.
    let mut rest = Vec::new();
    let read = stalled.remove(0).read_to_end(&mut rest).await;
    assert!(read.is_err() || !rest.ends_with(b"0\r\n\r\n"), "an end that looks like one");
    t.start_again().await;
    t.end().await;
}
