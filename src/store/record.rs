//! How a record stands in the database: a byte with the version of its tree's records, then JSON. What an
//! earlier Houston wrote without that byte is version 1.
//!
//! A tree whose records change in a way that an older Houston would misread raises [`Tree::version`], and its
//! older records are read here as they were. Must not: know what a record means.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{StoreError, Tree};

/// JSON never begins with a byte below this.
const FIRST_OF_TEXT: u8 = b' ';

impl Tree {
    /// Of its records, as this build writes them.
    pub fn version(self) -> u8 {
        1
    }
}

pub(super) fn encode<T: Serialize>(tree: Tree, value: &T) -> Vec<u8> {
    let mut bytes = vec![tree.version()];
    serde_json::to_writer(&mut bytes, value).expect("records are plain data");
    bytes
}

pub(super) fn decode<T: DeserializeOwned>(tree: Tree, bytes: &[u8]) -> Result<T, StoreError> {
    let (version, json) = split(bytes);
    if version > tree.version() {
        let reason = format!(
            "a newer Houston wrote it: it is of version {version}, this one knows version {}",
            tree.version()
        );
        return Err(StoreError::Record { tree, reason });
    }
    serde_json::from_slice(json).map_err(|e| StoreError::Record { tree, reason: e.to_string() })
}

/// The version, and the JSON.
pub(super) fn split(bytes: &[u8]) -> (u8, &[u8]) {
    match bytes.split_first() {
        Some((version, json)) if *version < FIRST_OF_TEXT => (*version, json),
        _ => (1, bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_carries_its_version_and_one_without_is_of_the_first() {
        let bytes = encode(Tree::Locks, &"why");
        assert_eq!((bytes[0], &bytes[1..]), (1, b"\"why\"".as_slice()));
        assert_eq!(decode::<String>(Tree::Locks, &bytes).expect("reads"), "why");
        assert_eq!(decode::<String>(Tree::Locks, b"\"why\"").expect("reads"), "why");
        let newer = decode::<String>(Tree::Locks, b"\x02{}").expect_err("is refused");
        assert!(newer.to_string().contains("of version 2, this one knows version 1"), "{newer}");
    }
}
