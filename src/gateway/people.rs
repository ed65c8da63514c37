//! Who has a user name now, and which roles the server lets us see.
//!
//! Must not: take a name from a document as proof of who somebody is, or keep one beyond a rename.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::ids::UserId;
use crate::rocketchat::model::User;
use crate::rocketchat::rest::UserQuery;
use crate::rocketchat::{Rest, RestError};

/// A rename that we were not told of stops mattering after this.
const NAME_GOOD_FOR: Duration = Duration::from_secs(300);

/// A role that was taken away stops mattering after this.
const ROLES_FOR: Duration = Duration::from_secs(300);

/// Names and roles kept; past this everything is looked up anew.
const REMEMBERED: usize = 10_000;

#[derive(Default)]
pub struct People(Mutex<Known>);

#[derive(Default)]
struct Known {
    by_name: HashMap<String, (UserId, Instant)>,
    /// As `user-status` told them.
    roles: HashMap<UserId, (Vec<String>, Instant)>,
}

impl People {
    /// Who has this name; `None` when nobody has.
    pub async fn id_of(&self, rest: &Rest, name: &str) -> Result<Option<UserId>, RestError> {
        let known = self.lock().by_name.get(name).cloned();
        if let Some((id, when)) = known
            && when.elapsed() < NAME_GOOD_FOR
        {
            return Ok(Some(id));
        }
        let found = rest.user_info(UserQuery::Name(name)).await?;
        Ok(found.map(|user| {
            self.met(&user);
            UserId::new(user.id)
        }))
    }

    /// The server just described this person.
    pub fn met(&self, user: &User) {
        let mut known = self.lock();
        if known.by_name.len() >= REMEMBERED {
            known.by_name.clear();
        }
        known.by_name.insert(user.username.clone(), (UserId::new(&*user.id), Instant::now()));
    }

    /// Somebody is called otherwise now, or gone.
    pub fn renamed(&self, id: &UserId, name: Option<&str>) {
        let mut known = self.lock();
        known.by_name.retain(|known_name, (known_id, _)| known_id != id && Some(known_name.as_str()) != name);
    }

    /// Renames may have passed unheard.
    pub fn forget_names(&self) {
        self.lock().by_name.clear();
    }

    pub fn has_roles(&self, id: UserId, roles: Vec<String>) {
        let mut known = self.lock();
        if known.roles.len() >= REMEMBERED {
            known.roles.clear();
        }
        known.roles.insert(id, (roles, Instant::now()));
    }

    /// The roles that were told of lately: nobody tells when a role is taken away.
    pub fn roles_of(&self, id: &UserId) -> Option<Vec<String>> {
        let known = self.lock();
        known.roles.get(id).filter(|(_, told)| told.elapsed() < ROLES_FOR).map(|(roles, _)| roles.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
