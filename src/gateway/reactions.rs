//! Who reacted to a watched message: by difference, as user ids that were looked up when the name was new.
//!
//! A document lists names, without actor or time, and a rename does not rewrite it. So a name keeps the id
//! it had when it first stood there, whoever is called so later. The server loses reactions that are made
//! at the same instant; a name that vanishes is reported as removed, and what that means is policy.
//! Must not: believe a document that was not read again from the server, or do I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::doc::Names;
use super::events::{Actor, Reaction};
use crate::ids::{RoomId, UserId};

/// What is known of one watched message. Durable, so that a restart does not look names up anew.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// Emoji → name in the document → who that was when the name was new.
    by_emoji: BTreeMap<String, BTreeMap<String, UserId>>,
}

impl Known {
    /// Who put this name there.
    pub fn id(&self, emoji: &str, name: &str) -> Option<&UserId> {
        self.by_emoji.get(emoji)?.get(name)
    }

    /// Whether `names` tells something new.
    pub fn differs(&self, names: &Names) -> bool {
        let same = self.by_emoji.len() == names.len()
            && self.by_emoji.iter().zip(names).all(|((emoji, known), (other, names))| {
                emoji == other && known.len() == names.len() && known.keys().zip(names).all(|(a, b)| a == b)
            });
        !same
    }

    /// Names that have to be looked up before [`Watched::settle`].
    pub fn unresolved(&self, names: &Names) -> BTreeSet<String> {
        pairs(names)
            .filter(|(emoji, name)| self.id(emoji, name).is_none())
            .map(|(_, name)| name.to_owned())
            .collect()
    }
}

/// One of Houston's messages whose reactions matter.
#[derive(Clone, Debug)]
pub struct Watched {
    pub room: RoomId,
    pub known: Known,
    /// What was reported since this process watches. Empty at first: after a restart everything is reported
    /// again, since nobody can tell what the last process did not live to write down.
    reported: BTreeSet<(String, String)>,
    /// In frames since the last reading.
    glimpsed: Names,
}

/// A difference, to be told.
#[derive(Debug, Default, PartialEq)]
pub struct Difference {
    pub added: Vec<Reaction>,
    pub removed: Vec<Reaction>,
}

impl Watched {
    pub fn new(room: RoomId, known: Known) -> Self {
        Self { room, known, reported: BTreeSet::new(), glimpsed: Names::new() }
    }

    /// A frame shows these names. Returns whether the message has to be read again.
    pub fn glimpse(&mut self, names: &Names) -> bool {
        let new = self.known.differs(names);
        if new {
            for (emoji, name) in pairs(names) {
                self.glimpsed.entry(emoji.to_owned()).or_default().insert(name.to_owned());
            }
        }
        new
    }

    /// What frames have shown since the last [`Watched::settle`].
    pub fn glimpsed(&self) -> &Names {
        &self.glimpsed
    }

    /// The message, read again, shows `names`; `ids` tells who has each of the new ones now. A name without
    /// an id is not counted, and is asked for again next time. A name that only a frame has shown is
    /// reported as removed: the server lost it, or it was taken back at once.
    pub fn settle(&mut self, names: &Names, ids: &HashMap<String, UserId>, me: &UserId) -> Difference {
        let mut next = Known::default();
        let mut difference = Difference::default();
        for (emoji, name) in pairs(names) {
            let Some(id) = self.known.id(emoji, name).or_else(|| ids.get(name)) else { continue };
            next.by_emoji.entry(emoji.to_owned()).or_default().insert(name.to_owned(), id.clone());
            if self.reported.insert((emoji.to_owned(), name.to_owned())) {
                difference.added.push(reaction(emoji, name, id));
            }
        }
        let before = self.known.by_emoji.iter().flat_map(|(emoji, who)| {
            who.iter().map(move |(name, id)| (emoji.as_str(), name.as_str(), Some(id)))
        });
        let glimpsed = pairs(&self.glimpsed).map(|(emoji, name)| (emoji, name, ids.get(name)));
        let mut gone = BTreeSet::new();
        for (emoji, name, id) in before.chain(glimpsed) {
            let there = names.get(emoji).is_some_and(|names| names.contains(name));
            if let (false, Some(id)) = (there, id)
                && gone.insert((emoji.to_owned(), name.to_owned()))
            {
                difference.removed.push(reaction(emoji, name, id));
            }
        }
        self.reported.retain(|(emoji, name)| next.id(emoji, name).is_some());
        self.known = next;
        self.glimpsed.clear();
        difference.added.retain(|r| r.by.id != *me);
        difference.removed.retain(|r| r.by.id != *me);
        difference
    }
}

impl Difference {
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

fn reaction(emoji: &str, name: &str, id: &UserId) -> Reaction {
    Reaction { emoji: emoji.to_owned(), by: Actor { id: id.clone(), username: name.to_owned() } }
}

fn pairs(names: &Names) -> impl Iterator<Item = (&str, &str)> {
    names.iter().flat_map(|(emoji, names)| names.iter().map(move |name| (emoji.as_str(), name.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const YES: &str = ":+1:";

    fn names(list: &[(&str, &[&str])]) -> Names {
        list.iter()
            .map(|(emoji, who)| ((*emoji).to_owned(), who.iter().map(|w| (*w).to_owned()).collect()))
            .collect()
    }

    fn ids(list: &[(&str, &str)]) -> HashMap<String, UserId> {
        list.iter().map(|(name, id)| ((*name).to_owned(), UserId::from(*id))).collect()
    }

    fn told(reactions: &[Reaction]) -> Vec<(&str, &str, &str)> {
        reactions.iter().map(|r| (r.emoji.as_str(), r.by.username.as_str(), r.by.id.as_str())).collect()
    }

    fn watched() -> Watched {
        Watched::new("R".into(), Known::default())
    }

    fn me() -> UserId {
        "me".into()
    }

    #[test]
    fn only_the_difference_is_told() {
        let mut watched = watched();
        let ids = ids(&[("alice", "A"), ("bob", "B")]);
        let first = watched.settle(&names(&[(YES, &["alice"])]), &ids, &me());
        assert_eq!(told(&first.added), [(YES, "alice", "A")]);
        let second = watched.settle(&names(&[(YES, &["alice", "bob"])]), &ids, &me());
        assert_eq!(told(&second.added), [(YES, "bob", "B")]);
        assert!(second.removed.is_empty());
        assert!(watched.settle(&names(&[(YES, &["alice", "bob"])]), &ids, &me()).is_empty());
        let third = watched.settle(&names(&[(YES, &["bob"])]), &ids, &me());
        assert_eq!((told(&third.removed), third.added.len()), (vec![(YES, "alice", "A")], 0));
    }

    #[test]
    fn a_name_that_somebody_takes_over_moves_no_vote() {
        let mut watched = watched();
        watched.settle(&names(&[(YES, &["bob"])]), &ids(&[("bob", "B")]), &me());
        // Bob is called bob2 now, and carol is called bob: the document says what it said.
        let carols = ids(&[("bob", "C")]);
        assert!(watched.known.unresolved(&names(&[(YES, &["bob"])])).is_empty(), "nothing is looked up");
        assert!(watched.settle(&names(&[(YES, &["bob"])]), &carols, &me()).is_empty());
        assert_eq!(watched.known.id(YES, "bob"), Some(&UserId::from("B")));
        // What she does under another emoji is hers.
        let hers = watched.settle(&names(&[(":-1:", &["bob"]), (YES, &["bob"])]), &carols, &me());
        assert_eq!(told(&hers.added), [(":-1:", "bob", "C")]);
    }

    #[test]
    fn what_was_known_survives_a_restart_and_is_told_again() {
        let mut before = watched();
        let everybody = ids(&[("alice", "A"), ("bob", "B")]);
        before.settle(&names(&[(YES, &["alice", "bob"])]), &everybody, &me());
        let stored = serde_json::to_string(&before.known).expect("plain data");
        let known = serde_json::from_str(&stored).expect("plain data");
        let mut after = Watched::new("R".into(), known);
        // Meanwhile alice took hers back, and somebody else is called bob.
        let told_again = after.settle(&names(&[(YES, &["bob"])]), &ids(&[("bob", "X")]), &me());
        assert_eq!(told(&told_again.added), [(YES, "bob", "B")]);
        assert_eq!(told(&told_again.removed), [(YES, "alice", "A")]);
    }

    #[test]
    fn a_reaction_that_the_server_lost_is_told_as_removed() {
        let mut watched = watched();
        assert!(watched.glimpse(&names(&[(YES, &["alice"])])));
        assert!(watched.glimpse(&names(&[(YES, &["bob"])])));
        let everybody = ids(&[("alice", "A"), ("bob", "B")]);
        let difference = watched.settle(&names(&[(YES, &["bob"])]), &everybody, &me());
        assert_eq!(told(&difference.added), [(YES, "bob", "B")]);
        assert_eq!(told(&difference.removed), [(YES, "alice", "A")]);
    }

    #[test]
    fn a_name_that_cannot_be_looked_up_does_not_count_until_it_can() {
        let mut watched = watched();
        let shown = names(&[(YES, &["alice"])]);
        assert!(watched.settle(&shown, &HashMap::new(), &me()).is_empty());
        assert!(watched.known.differs(&shown), "so it is asked for again");
        assert_eq!(
            told(&watched.settle(&shown, &ids(&[("alice", "A")]), &me()).added),
            [(YES, "alice", "A")]
        );
    }

    #[test]
    fn own_reactions_are_not_told() {
        let mut watched = watched();
        let shown = names(&[(YES, &["houston"])]);
        assert!(watched.settle(&shown, &ids(&[("houston", "me")]), &me()).is_empty());
        assert!(!watched.glimpse(&shown), "and known");
    }
}
