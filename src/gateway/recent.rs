//! A map by message id that forgets its oldest entries.
//!
//! Must not: grow beyond its bound.

use std::collections::{HashMap, VecDeque};

use crate::ids::MessageId;

#[derive(Debug)]
pub struct Recent<V> {
    entries: HashMap<MessageId, V>,
    /// Oldest first.
    order: VecDeque<MessageId>,
    bound: usize,
}

impl<V> Recent<V> {
    pub fn new(bound: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), bound }
    }

    pub fn contains(&self, id: &MessageId) -> bool {
        self.entries.contains_key(id)
    }

    pub fn get_mut(&mut self, id: &MessageId) -> Option<&mut V> {
        self.entries.get_mut(id)
    }

    /// Puts or replaces; an entry that is replaced keeps its place in the order.
    pub fn insert(&mut self, id: MessageId, value: V) {
        if self.entries.insert(id.clone(), value).is_some() {
            return;
        }
        self.order.push_back(id);
        while self.order.len() > self.bound {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entry_goes_first_and_the_bound_holds() {
        let mut recent = Recent::new(2);
        for id in ["a", "b", "a", "c"] {
            recent.insert(id.into(), ());
        }
        assert!(!recent.contains(&"a".into()));
        assert!(recent.contains(&"b".into()) && recent.contains(&"c".into()));
        assert_eq!(recent.entries.len(), recent.order.len());
    }
}
