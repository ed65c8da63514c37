//! A moment of the store's one commit path at which the tests have this process killed: what is on the device then
//! is all that the next process finds.
//!
//! Must not: be part of a release build. Whoever ships Houston ships a program that no variable can kill.

use nix::sys::signal::{Signal, raise};

use super::StartError;
use crate::config::env;
use crate::store::SyncPoint;

/// See [`env::VARIABLES`].
const VARIABLE: &str = "HOUSTON_KILL_AT";

/// What of the environment says when to die; `None`: never.
struct KillPoint {
    point: SyncPoint,
    /// Counts the syncs of this process, from 1.
    number: u64,
}

impl KillPoint {
    fn read(text: &str) -> Option<Self> {
        let (point, number) = text.split_once(':')?;
        let point = match point {
            "before" => SyncPoint::Before,
            "after" => SyncPoint::After,
            _ => return None,
        };
        Some(Self { point, number: number.parse().ok().filter(|number| *number > 0)? })
    }
}

/// `watch`, and death at the moment that the environment names, if it names one.
pub fn with(
    watch: impl Fn(SyncPoint) + Send + 'static,
) -> Result<impl Fn(SyncPoint) + Send + 'static, StartError> {
    let kill = match env::get(VARIABLE) {
        None => None,
        Some(text) => Some(KillPoint::read(&text).ok_or_else(|| {
            StartError::new(format!("`{VARIABLE}` is `{text}`"))
                .hint("it is `before:N` or `after:N`, N counting from 1; unset it where nothing is tested")
        })?),
    };
    let count = std::cell::Cell::new(0);
    Ok(move |point| {
        watch(point);
        if point == SyncPoint::Before {
            count.set(count.get() + 1);
        }
        if kill.as_ref().is_some_and(|kill| kill.point == point && kill.number == count.get()) {
            let _ = raise(Signal::SIGKILL);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_named_by_its_side_of_a_sync_and_its_number() {
        let read = |text| KillPoint::read(text).map(|kill| (kill.point, kill.number));
        assert_eq!(read("before:1"), Some((SyncPoint::Before, 1)));
        assert_eq!(read("after:17"), Some((SyncPoint::After, 17)));
        for wrong in ["", "before", "before:", "before:0", "during:3", "after:-1", "after:x"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
