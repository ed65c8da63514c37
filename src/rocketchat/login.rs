//! Who we are to Rocket.Chat: a token that we were given, or a password that buys one.
//!
//! Must not: print a token or a password, or log in by password when a token still works: each password login
//! adds a token to the account, and the server evicts the oldest ones.

use std::fmt;

/// How the bot's account proves itself.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A personal access token (does not expire), or any login token.
    Token { user_id: String, token: String },
    /// REST login; the token that it gives is then used for both APIs until it expires.
    Password { username: String, password: String },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token { user_id, .. } => write!(f, "Token({user_id:?}, …)"),
            Self::Password { username, .. } => write!(f, "Password({username:?}, …)"),
        }
    }
}
