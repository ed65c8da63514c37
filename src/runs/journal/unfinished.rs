//! Which runs are not done, or have to be reviewed: an index, so that a start reads these and not all that ever were.
//!
//! It is written in the batch of every event. A store of an earlier Houston has none, and one that an earlier Houston
//! wrote into in between lacks the runs of that time: how far it knows the runs stands beside it, and the headers
//! from there on are read. A run that is done is never under way again, so that what the index names in vain does no harm.
//!
//! Must not: be believed against a header.

use super::Header;
use crate::ids::RunId;
use crate::store::{Batch, Store, StoreError, Tree};

/// In [`Tree::Meta`]: runs with smaller numbers are in the index if they have to be.
const KNOWN_TO: &[u8] = b"unfinished_known_to";

fn is_unfinished(header: &Header) -> bool {
    !header.done || header.review_open
}

pub(super) fn put(batch: &mut Batch, header: &Header) {
    let key = header.run.0.to_be_bytes();
    if is_unfinished(header) {
        batch.put(Tree::Unfinished, &key, &true);
    } else {
        batch.delete(Tree::Unfinished, &key);
    }
}

/// `next`: of a run that is in the same batch.
pub(super) fn known_to(batch: &mut Batch, next: u64) {
    batch.put(Tree::Meta, KNOWN_TO, &next);
}

/// All of them, by their numbers; makes the index whole where it is not. `next`: the number of the next run.
pub(super) fn load(store: &Store, next: u64) -> Result<Vec<Header>, StoreError> {
    let known: u64 = store.get(Tree::Meta, KNOWN_TO)?.unwrap_or_default();
    let mut batch = Batch::new();
    let mut found: Vec<Header> = Vec::new();
    for entry in store.scan::<bool>(Tree::Unfinished, &[]) {
        let (key, _) = entry?;
        match store.get::<Header>(Tree::Runs, &key)?.filter(is_unfinished) {
            // Read below.
            Some(header) if header.run.0 >= known => {}
            Some(header) => found.push(header),
            None => drop(batch.delete(Tree::Unfinished, &key)),
        }
    }
    if known < next {
        for entry in store.scan_from::<Header>(Tree::Runs, &known.to_be_bytes()) {
            let (_, header) = entry?;
            if is_unfinished(&header) {
                put(&mut batch, &header);
                found.push(header);
            }
        }
        known_to(&mut batch, next);
        let read = RunId(known);
        tracing::debug!("runs from {read} on were looked through for unfinished ones");
    }
    if !batch.is_empty() {
        store.apply(batch)?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(run: u64, done: bool, review_open: bool) -> Header {
        Header {
            run: RunId(run),
            command: String::new(),
            by: String::new(),
            environment: None,
            state: String::new(),
            done,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            ended_at: None,
            review_open,
        }
    }

    /// As an earlier Houston wrote it.
    fn by_an_earlier_one(store: &Store, header: &Header) {
        let mut batch = Batch::new();
        batch.put(Tree::Runs, &header.run.0.to_be_bytes(), header);
        store.apply(batch).expect("applies");
    }

    fn loaded(store: &Store, next: u64) -> Vec<u64> {
        load(store, next).expect("loads").into_iter().map(|header| header.run.0).collect()
    }

    fn indexed(store: &Store) -> usize {
        store.scan::<bool>(Tree::Unfinished, &[]).count()
    }

    #[test]
    fn a_store_of_an_earlier_houston_is_looked_through_once_and_again_where_one_wrote_into_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path()).expect("opens");
        by_an_earlier_one(&store, &header(1, true, false));
        by_an_earlier_one(&store, &header(2, false, false));
        by_an_earlier_one(&store, &header(3, true, true));
        assert_eq!(loaded(&store, 4), [2, 3]);
        assert_eq!(indexed(&store), 2);
        // From here on nothing but the index is read: what it does not name is not looked for.
        by_an_earlier_one(&store, &header(1, false, false));
        assert_eq!(loaded(&store, 4), [2, 3]);

        // An earlier Houston ends one of them, and begins others.
        by_an_earlier_one(&store, &header(2, true, false));
        by_an_earlier_one(&store, &header(4, true, false));
        by_an_earlier_one(&store, &header(5, false, false));
        assert_eq!(loaded(&store, 6), [3, 5]);
        assert_eq!(indexed(&store), 2, "what is over is no longer named");
        assert_eq!(loaded(&store, 6), [3, 5]);
    }

    #[test]
    fn every_header_that_is_written_is_in_its_place() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path()).expect("opens");
        let write = |header: &Header| {
            let mut batch = Batch::new();
            super::super::put_header(&mut batch, header);
            known_to(&mut batch, header.run.0 + 1);
            store.apply(batch).expect("applies");
        };
        write(&header(1, false, false));
        write(&header(2, false, false));
        assert_eq!(loaded(&store, 3), [1, 2]);
        write(&header(1, true, true));
        write(&header(2, true, false));
        assert_eq!((loaded(&store, 3), indexed(&store)), (vec![1], 1));
    }
}
