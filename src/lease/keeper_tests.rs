//! Several keepers of one lease, on a clock of the test, with a register whose answers get lost.

use std::cell::Cell;
use std::sync::Mutex;

use futures_util::future::BoxFuture;
use proptest::prelude::*;

use super::*;

thread_local! {
    static UP: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

fn up() -> Duration {
    UP.get()
}

fn pass(time: Duration) {
    UP.set(UP.get() + time);
}

const SECOND: Duration = Duration::from_secs(1);

/// What becomes of the next requests of one keeper.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Line {
    Good,
    /// Nothing arrives.
    Cut,
    /// What is written arrives, and the answer is lost.
    Deaf,
}

#[derive(Default)]
struct Shelf(Mutex<(u64, Option<Entry>)>);

/// One keeper's way to the shelf.
struct Way {
    shelf: Arc<Shelf>,
    line: Mutex<Line>,
}

fn lost<T>() -> Result<T, RegisterError> {
    Err(RegisterError::Unreachable("no answer".to_owned()))
}

impl Register for Way {
    fn place(&self) -> &str {
        "the test"
    }
    fn read(&self) -> BoxFuture<'_, Result<Option<Entry>, RegisterError>> {
        Box::pin(async {
            if *self.line.lock().expect("free") != Line::Good {
                return lost();
            }
            Ok(self.shelf.0.lock().expect("free").1.clone())
        })
    }
    fn write<'a>(
        &'a self,
        over: Option<u64>,
        record: &'a Record,
    ) -> BoxFuture<'a, Result<(), RegisterError>> {
        Box::pin(async move {
            let line = *self.line.lock().expect("free");
            if line == Line::Cut {
                return lost();
            }
            let mut shelf = self.shelf.0.lock().expect("free");
            let written = shelf.1.as_ref().map(|entry| entry.version) == over;
            if written {
                shelf.0 += 1;
                shelf.1 = Some(Entry { version: shelf.0, record: Some(record.clone()) });
            }
            match (line, written) {
                (Line::Deaf, _) => lost(),
                (_, true) => Ok(()),
                (_, false) => Err(RegisterError::Stale),
            }
        })
    }
}

struct One {
    keeper: Keeper,
    way: Arc<Way>,
}

impl One {
    fn new(shelf: &Arc<Shelf>, folder: &str, duration: Duration, state: Option<PathBuf>) -> Self {
        let way = Arc::new(Way { shelf: Arc::clone(shelf), line: Mutex::new(Line::Good) });
        let clock = Clock::system();
        let parts = KeeperParts {
            register: Arc::<Way>::clone(&way),
            duration,
            required: false,
            process: Process::this(folder, &clock),
            folder: Some(folder.to_owned()),
            state,
            clock,
        };
        Self { keeper: Keeper::by(up, parts), way }
    }

    async fn turn(&mut self) {
        self.keeper.turn().await;
        // As `app` does when it starts.
        if self.keeper.lease.predecessor().is_some() {
            self.keeper.lease.settled();
        }
    }

    fn acts(&self) -> bool {
        self.keeper.lease.may_act().is_ok()
    }

    fn line(&self, line: Line) {
        *self.way.line.lock().expect("free") = line;
    }
}

#[tokio::test]
async fn another_takes_over_only_after_it_saw_a_whole_duration_without_a_renewal() {
    let shelf = Arc::default();
    let mut first = One::new(&shelf, "a", 30 * SECOND, None);
    let mut second = One::new(&shelf, "b", 10 * SECOND, None);
    first.turn().await;
    second.turn().await;
    assert!(first.acts() && !second.acts());
    let told = second.keeper.lease.describe();
    assert!(told.starts_with("another Houston holds the lease in the test: `a`, process "), "{told}");
    pass(19 * SECOND);
    first.line(Line::Cut);
    first.turn().await;
    assert!(first.acts(), "for two thirds of the time after it last renewed it");
    pass(SECOND);
    assert!(!first.acts());
    // Its own duration is shorter; the holder's counts.
    pass(9 * SECOND);
    second.turn().await;
    assert!(!second.acts());
    pass(SECOND);
    second.turn().await;
    assert!(second.acts() && !first.acts());
    first.line(Line::Good);
    first.turn().await;
    assert_eq!(first.keeper.lease.word(), crate::lease::Word::StandsBy);
}

#[tokio::test]
async fn a_renewal_after_its_time_is_as_good_when_nobody_was_quicker() {
    let shelf = Arc::default();
    let mut first = One::new(&shelf, "a", 30 * SECOND, None);
    first.turn().await;
    first.line(Line::Cut);
    pass(25 * SECOND);
    first.turn().await;
    assert!(!first.acts());
    first.line(Line::Good);
    first.turn().await;
    assert!(first.acts());
    assert_eq!(first.keeper.lease.predecessor(), None);
}

#[tokio::test]
async fn what_was_given_back_and_what_the_same_folder_held_is_taken_at_once() {
    let shelf = Arc::default();
    let mut first = One::new(&shelf, "a", 30 * SECOND, None);
    let mut second = One::new(&shelf, "b", 30 * SECOND, None);
    first.turn().await;
    second.turn().await;
    first.keeper.release(Timestamp::UNIX_EPOCH).await;
    second.keeper.turn().await;
    let before = second.keeper.lease.predecessor().expect("another had it");
    assert_eq!(before.record.released, Some(Timestamp::UNIX_EPOCH));
    assert!(!second.acts(), "not before that is dealt with");
    second.keeper.lease.settled();
    assert!(second.acts());
    // Killed, and started again on its folder.
    drop(second);
    let mut again = One::new(&shelf, "b", 30 * SECOND, None);
    again.turn().await;
    assert!(again.acts());
    // A copy of the folder is another folder.
    let mut copy = One::new(&shelf, "c", 30 * SECOND, None);
    copy.turn().await;
    assert!(!copy.acts());
}

#[tokio::test]
async fn after_a_reboot_the_same_folder_waits_and_then_goes_on_as_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = || Some(dir.path().to_owned());
    let shelf = Arc::default();
    let mut first = One::new(&shelf, "boot 1", 30 * SECOND, state());
    first.turn().await;
    drop(first);
    let mut rebooted = One::new(&shelf, "boot 2", 30 * SECOND, state());
    rebooted.turn().await;
    assert!(!rebooted.acts());
    pass(30 * SECOND);
    rebooted.keeper.turn().await;
    assert!(rebooted.acts(), "its own lease: nobody else's runs and messages");
}

#[tokio::test]
async fn an_answer_that_was_lost_is_found_in_the_register() {
    let shelf = Arc::default();
    let mut first = One::new(&shelf, "a", 30 * SECOND, None);
    first.line(Line::Deaf);
    first.turn().await;
    assert!(!first.acts(), "it does not know yet");
    first.line(Line::Good);
    pass(SECOND);
    first.turn().await;
    assert!(first.acts());
}

#[tokio::test]
async fn one_that_was_removed_is_nobodys_only_after_the_whole_duration() {
    let shelf: Arc<Shelf> = Arc::default();
    let mut first = One::new(&shelf, "a", 30 * SECOND, None);
    let mut second = One::new(&shelf, "b", 30 * SECOND, None);
    first.turn().await;
    second.turn().await;
    shelf.0.lock().expect("free").1 = None;
    second.turn().await;
    assert!(first.acts() && !second.acts());
    first.turn().await;
    first.turn().await;
    assert!(first.acts(), "it makes it anew");
}

#[tokio::test]
async fn without_a_place_it_acts_unless_that_is_forbidden_or_somebodys_lease_was_seen_there() {
    struct Nowhere;
    impl Register for Nowhere {
        fn place(&self) -> &str {
            "nowhere"
        }
        fn read(&self) -> BoxFuture<'_, Result<Option<Entry>, RegisterError>> {
            Box::pin(async { Err(RegisterError::NoPlace("no Swarm".to_owned())) })
        }
        fn write<'a>(&'a self, _: Option<u64>, _: &'a Record) -> BoxFuture<'a, Result<(), RegisterError>> {
            Box::pin(async { Err(RegisterError::NoPlace("no Swarm".to_owned())) })
        }
    }
    for required in [false, true] {
        let mut one = One::new(&Arc::default(), "a", 30 * SECOND, None);
        one.keeper.parts.required = required;
        one.keeper.parts.register = Arc::new(Nowhere);
        one.turn().await;
        assert_eq!(one.acts(), !required);
    }
    let mut one = One::new(&Arc::default(), "a", 30 * SECOND, None);
    one.turn().await;
    one.keeper.parts.register = Arc::new(Nowhere);
    pass(20 * SECOND);
    one.turn().await;
    assert!(!one.acts(), "there was a Swarm, and it may still be there for somebody else");
}

#[derive(Clone, Debug)]
enum Deed {
    Turn(usize),
    Pass(u64),
    Line(usize, Line),
    /// Killed, and started again.
    Restart(usize),
    Release(usize),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let who = 0..3usize;
    let line = prop_oneof![3 => Just(Line::Good), 1 => Just(Line::Cut), 1 => Just(Line::Deaf)];
    let deed = prop_oneof![
        8 => who.clone().prop_map(Deed::Turn),
        4 => (1..12_000u64).prop_map(Deed::Pass),
        2 => (who.clone(), line).prop_map(|(who, line)| Deed::Line(who, line)),
        1 => who.clone().prop_map(Deed::Restart),
        1 => who.prop_map(Deed::Release),
    ];
    proptest::collection::vec(deed, 1..120)
}

proptest! {
    #[test]
    fn whatever_gets_lost_two_never_act_at_once(deeds in deeds()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let shelf = Arc::default();
            // Not even of one mind about how long a lease lasts.
            let one = |who: usize| One::new(&shelf, ["a", "b", "c"][who], [30, 10, 20][who] * SECOND, None);
            let mut all = [one(0), one(1), one(2)];
            for deed in deeds {
                match deed {
                    Deed::Turn(who) => all[who].turn().await,
                    Deed::Pass(milliseconds) => pass(Duration::from_millis(milliseconds)),
                    Deed::Line(who, line) => all[who].line(line),
                    Deed::Restart(who) => all[who] = one(who),
                    Deed::Release(who) => {
                        let gone = std::mem::replace(&mut all[who], one(who));
                        gone.keeper.release(Timestamp::UNIX_EPOCH).await;
                    }
                }
                let acting: Vec<usize> = (0..3).filter(|who| all[*who].acts()).collect();
                assert!(acting.len() < 2, "{acting:?} act at once");
            }
        });
    }
}
