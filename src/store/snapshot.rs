//! Reading everything as it was at one moment, while others go on writing: what they change meanwhile is
//! remembered as it was, until the reader has passed it.
//!
//! Must not: hold writers up for longer than it takes to read a handful of records, or remember without bound.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::PoisonError;

use super::{Applied, Store, StoreError, TALLY, Tree, record};

/// Records that are read while writers wait.
const AT_ONCE: usize = 256;

/// Bytes of changed records that are remembered.
const MOST_REMEMBERED: usize = 64 * 1024 * 1024;

/// What writers do for the reader.
#[derive(Default)]
pub(super) struct Before {
    /// The reader is beyond this key.
    passed: Vec<u8>,
    /// What stood under keys that were changed since, if anything did.
    values: BTreeMap<Vec<u8>, Option<sled::IVec>>,
    bytes: usize,
    too_much: bool,
}

impl Before {
    pub(super) fn wants(&self, key: &[u8]) -> bool {
        !self.too_much && key > self.passed.as_slice() && !self.values.contains_key(key)
    }

    pub(super) fn remember(&mut self, key: &[u8], value: Option<sled::IVec>) {
        self.bytes += key.len() + value.as_ref().map_or(0, |value| value.len());
        self.values.insert(key.to_vec(), value);
        if self.bytes > MOST_REMEMBERED {
            self.too_much = true;
            self.values.clear();
        }
    }
}

/// A record as it is in the database.
#[derive(Debug, PartialEq)]
pub struct Raw {
    pub tree: Tree,
    /// Without the tree.
    pub key: Vec<u8>,
    pub version: u8,
    pub json: Vec<u8>,
}

/// Every record, in the order of trees and keys. There is one at a time.
pub struct Snapshot {
    store: Store,
    read: VecDeque<(Vec<u8>, sled::IVec)>,
    done: bool,
}

impl Store {
    /// Everything as it is now, whatever is written while it is read.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let mut applied = self.applied();
        if applied.before.is_some() {
            return Err(StoreError::Read("it is read as a whole already".to_owned()));
        }
        applied.before = Some(Before::default());
        Ok(Snapshot { store: self.clone(), read: VecDeque::new(), done: false })
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.store.0.applied.lock().unwrap_or_else(PoisonError::into_inner).before = None;
    }
}

impl Snapshot {
    fn read_on(&mut self) -> Result<(), StoreError> {
        let mut applied = self.store.applied();
        let Applied { before: Some(before), .. } = &mut *applied else { return Ok(()) };
        if before.too_much {
            return Err(StoreError::Read("too much was written while it was read as a whole".to_owned()));
        }
        let after = (Bound::Excluded(before.passed.clone()), Bound::Unbounded);
        let mut found: BTreeMap<Vec<u8>, sled::IVec> = BTreeMap::new();
        for entry in self.store.0.db.range(after).take(AT_ONCE) {
            let (key, value) = entry.map_err(|e| self.store.damaged(&e))?;
            found.insert(key.to_vec(), value);
        }
        let last = found.last_key_value().map(|(key, _)| key.clone()).filter(|_| found.len() == AT_ONCE);
        // What is left in `values` lies beyond the last key.
        let later = match &last {
            Some(last) => {
                let mut later = before.values.split_off(last);
                if let Some(here) = later.remove(last) {
                    before.values.insert(last.clone(), here);
                }
                later
            }
            None => BTreeMap::new(),
        };
        for (key, value) in std::mem::replace(&mut before.values, later) {
            match value {
                Some(value) => found.insert(key, value),
                None => found.remove(&key),
            };
        }
        before.bytes = before.values.iter().map(|(k, v)| k.len() + v.as_ref().map_or(0, |v| v.len())).sum();
        match last {
            Some(last) => before.passed = last,
            None => self.done = true,
        }
        self.read.extend(found);
        Ok(())
    }
}

impl Iterator for Snapshot {
    type Item = Result<Raw, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            while let Some((key, value)) = self.read.pop_front() {
                if key == TALLY {
                    continue;
                }
                let Some(tree) = key.first().and_then(|first| Tree::numbered(*first)) else {
                    return Some(Err(StoreError::Read(format!("no tree has the number {:?}", key.first()))));
                };
                let (version, json) = record::split(&value);
                return Some(Ok(Raw { tree, key: key[1..].to_vec(), version, json: json.to_vec() }));
            }
            if self.done {
                return None;
            }
            let store = self.store.clone();
            if let Err(error) = store.guard(|| self.read_on()).and_then(|read| read) {
                self.done = true;
                return Some(Err(error));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Batch;

    fn put(store: &Store, number: u32, text: &str) {
        let mut batch = Batch::new();
        batch.put(Tree::Events, &number.to_be_bytes(), &text);
        store.apply(batch).expect("applies");
    }

    #[test]
    fn it_is_of_one_moment_whatever_is_written_while_it_is_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path()).expect("opens");
        for number in 0..2000 {
            put(&store, number * 2, "old");
        }
        let expected: Vec<Raw> =
            store.snapshot().expect("begins").collect::<Result<_, _>>().expect("reads everything");
        let mut snapshot = store.snapshot().expect("begins");
        assert!(store.snapshot().is_err(), "there is one at a time");
        let mut seen = Vec::new();
        for round in 0..4001_u32 {
            // Before, at and behind the reader: changed, put in, taken out, and changed again.
            put(&store, (round * 7919) % 4000, "new");
            put(&store, (round * 7919) % 4000, "newer");
            let mut batch = Batch::new();
            batch.delete(Tree::Events, &((round * 104_729) % 4000).to_be_bytes());
            store.apply(batch).expect("applies");
            seen.extend(snapshot.next());
        }
        assert!(snapshot.next().is_none());
        assert_eq!(seen.into_iter().collect::<Result<Vec<_>, _>>().expect("reads"), expected);
        drop(snapshot);
        assert!(store.snapshot().is_ok());
    }

    #[test]
    fn what_it_has_to_remember_is_bounded() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path()).expect("opens");
        let long = "x".repeat(1024 * 1024);
        for number in 0..70 {
            put(&store, number, &long);
        }
        let mut snapshot = store.snapshot().expect("begins");
        for number in 0..70 {
            put(&store, number, "short");
        }
        let error = snapshot.find_map(Result::err).expect("gives up");
        assert!(error.to_string().contains("too much was written"), "{error}");
        assert!(snapshot.next().is_none());
    }
}
