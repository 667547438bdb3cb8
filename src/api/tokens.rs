//! Who may ask over the network: tokens, of which only hashes are kept, in a file of their own.
//!
//! ```text
//!  embot token create --> POST /v1/commands/create_token --> tokens.json (0600, replaced in one step)
//!                                    |  the secret, once              | looked at before every check
//!                                    v                                v
//!                          Authorization: Bearer embot_...  -->  SHA-256  -->  compared in constant time  -->  Caller
//! ```
//! A file that changes in any other way (restored, or brought by configuration management) counts at once, too; one that
//! cannot be read leaves in force what was. Names of tokens are unique among those that are valid.

mod file;
pub mod views;

pub use file::{Token, TokensError};

use super::caller::{Caller, Role};
use super::stamp::Stamp;
use crate::clock::Clock;
use crate::model::{ContentHash, Span, Timestamp, hex};
use crate::pki::files::FileState;
use crate::pki::{PkiError, is_plane_name};
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use subtle::ConstantTimeEq;

/// Tokens begin so, which lets people and scanners of secrets know them.
const PREFIX: &str = "embot_";
/// Random bytes of a token.
const SECRET_BYTES: usize = 32;
/// So many tokens are kept, those that are over included.
const MOST: usize = 1_000;

/// Why a token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// No token of this plane.
    Unknown,
    /// Its time is over.
    Expired {
        /// Its name.
        name: String,
        /// Since when.
        at: Stamp,
    },
    /// It was taken back.
    Revoked {
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denied::Unknown => f.write_str("the token is none of this plane's"),
            Denied::Expired { name, at } => write!(f, "the token `{name}` has expired ({at})"),
            Denied::Revoked { name } => write!(f, "the token `{name}` was revoked"),
        }
    }
}

/// Why a token is not made or taken back.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// A name that no token can have.
    #[error("`{0}` cannot be a token's name; it has 1 to 64 of the letters a-z, digits, `-`, `_` and `.`")]
    Name(String),
    /// The name is taken.
    #[error("there is a token `{0}` already; choose another name, or take it back with `embot token revoke {0}`")]
    Taken(String),
    /// A token that would be over at once.
    #[error("a token that is never valid is of no use; write for example `90d`, or nothing for one that does not expire")]
    Never,
    /// No such token.
    #[error("there is no token `{0}` that is valid; `embot token list --all` lists all")]
    None(String),
    /// There are too many.
    #[error("there are {MOST} tokens already; revoke some, or delete old ones from the file")]
    Many,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// The file.
    #[error(transparent)]
    File(#[from] TokensError),
    /// The file was changed by somebody else, and cannot be read.
    #[error("the file of tokens was changed and cannot be read, so that nothing is written to it: {0}")]
    Unread(String),
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] PkiError),
}

#[derive(Debug)]
struct Known {
    state: FileState,
    tokens: Vec<Token>,
    /// Why the file as it is now could not be read; what was known before stays in force.
    unread: Option<String>,
}

/// The tokens of a plane.
pub struct Tokens {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Reads the file; without one, there are no tokens yet.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Tokens, TokensError> {
        let path = path.to_owned();
        let state = FileState::of([&path]);
        let tokens = file::read(&path)?;
        Ok(Tokens { path, clock, known: Mutex::new(Known { state, tokens, unread: None }) })
    }

    /// Whose token is it?
    pub fn check(&self, secret: &str) -> Result<Caller, Denied> {
        self.holder(&hash(secret))
    }

    /// Who holds the token with this hash, as of now?
    pub(super) fn holder(&self, hash: &str) -> Result<Caller, Denied> {
        let now = self.clock.now();
        let known = self.known();
        // All are compared: how long it takes says nothing.
        let mut found = None;
        for token in &known.tokens {
            if bool::from(token.hash.as_bytes().ct_eq(hash.as_bytes())) {
                found = Some(token);
            }
        }
        let token = found.ok_or(Denied::Unknown)?;
        if token.revoked.is_some() {
            return Err(Denied::Revoked { name: token.name.clone() });
        }
        match token.expires {
            Some(at) if at.0 <= now => Err(Denied::Expired { name: token.name.clone(), at }),
            _ => Ok(Caller::of_token(&token.name, token.role)),
        }
    }

    /// All there are, those that are over included.
    pub fn list(&self) -> Vec<Token> {
        self.known().tokens.clone()
    }

    /// The plane's time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Makes a token; the second is the secret, which is nowhere else. One of the same name that is over goes.
    pub fn create(&self, name: &str, role: Role, lives: Option<Span>, by: &str) -> Result<(Token, String), TokenError> {
        if !is_plane_name(name) {
            return Err(TokenError::Name(name.to_owned()));
        }
        if lives == Some(Span::ZERO) {
            return Err(TokenError::Never);
        }
        let mut bytes = [0_u8; SECRET_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| TokenError::Random)?;
        let secret = format!("{PREFIX}{}", hex(&bytes));
        let now = self.clock.now();
        let mut known = self.known();
        if known.tokens.iter().any(|token| token.name == name && token.is_valid(now)) {
            return Err(TokenError::Taken(name.to_owned()));
        }
        let mut tokens = known.tokens.clone();
        tokens.retain(|token| token.name != name);
        if tokens.len() >= MOST {
            return Err(TokenError::Many);
        }
        let token = Token {
            name: name.to_owned(),
            role,
            hash: hash(&secret),
            created: now.into(),
            by: by.to_owned(),
            expires: lives.map(|lives| (now + lives).into()),
            revoked: None,
        };
        tokens.push(token.clone());
        self.write(&mut known, tokens)?;
        Ok((token, secret))
    }

    /// Takes a token back, from now on.
    pub fn revoke(&self, name: &str) -> Result<Token, TokenError> {
        let now = self.clock.now();
        let mut known = self.known();
        let mut tokens = known.tokens.clone();
        let found = tokens.iter_mut().find(|token| token.name == name && token.is_valid(now));
        let token = found.ok_or_else(|| TokenError::None(name.to_owned()))?;
        token.revoked = Some(now.into());
        let token = token.clone();
        self.write(&mut known, tokens)?;
        Ok(token)
    }

    fn write(&self, known: &mut Known, tokens: Vec<Token>) -> Result<(), TokenError> {
        // What somebody else has written there must not be lost.
        if let Some(why) = &known.unread {
            return Err(TokenError::Unread(why.clone()));
        }
        file::write(&self.path, &tokens)?;
        *known = Known { state: FileState::of([&self.path]), tokens, unread: None };
        Ok(())
    }

    /// What the file holds now.
    fn known(&self) -> MutexGuard<'_, Known> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let state = FileState::of([&self.path]);
        if state != known.state {
            known.state = state;
            match file::read(&self.path) {
                Ok(tokens) => {
                    tracing::info!(tokens = tokens.len(), "tokens read again");
                    (known.tokens, known.unread) = (tokens, None);
                }
                Err(error) => {
                    tracing::error!("the tokens have changed, and the old ones stay in force: {error}");
                    known.unread = Some(error.to_string());
                }
            }
        }
        known
    }
}

/// What is kept of a secret. It is long and random, so that nothing more is needed.
pub(super) fn hash(secret: &str) -> String {
    ContentHash::of(secret.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::VirtualClock;
    use std::os::unix::fs::PermissionsExt;

    const NOW: Timestamp = Timestamp(1_790_000_000_000);

    fn tokens() -> (Tokens, Arc<VirtualClock>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let clock = VirtualClock::at(NOW);
        (Tokens::open(&folder.path().join("tokens.json"), clock.clone()).unwrap(), clock, folder)
    }

    #[test]
    fn a_token_is_good_until_it_expires_or_is_revoked() {
        let (tokens, clock, _folder) = tokens();
        let (made, ops) = tokens.create("ops", Role::Operator, None, "ada").unwrap();
        let (_, ci) = tokens.create("ci", Role::Viewer, Some(Span::hours(1)), "ada").unwrap();
        assert_eq!(tokens.check(&ops), Ok(Caller { name: "token:ops".into(), role: Role::Operator }));
        assert_eq!(tokens.check(&ci).unwrap().role, Role::Viewer);
        for wrong in ["", "embot_", &ops[..ops.len() - 1], &made.hash] {
            assert_eq!(tokens.check(wrong), Err(Denied::Unknown), "{wrong}");
        }
        clock.advance_to(NOW + Span::hours(1));
        assert!(matches!(tokens.check(&ci), Err(Denied::Expired { name, .. }) if name == "ci"));
        tokens.revoke("ops").unwrap();
        assert_eq!(tokens.check(&ops), Err(Denied::Revoked { name: "ops".into() }));
        let (_, fresh) = tokens.create("ops", Role::Admin, None, "ada").unwrap();
        assert_ne!(fresh, ops, "each is its own");
        assert_eq!(tokens.check(&fresh).unwrap().role, Role::Admin);
        assert_eq!(tokens.list().len(), 2, "one of the same name goes when it is over");
    }

    #[test]
    fn only_hashes_are_kept_where_only_the_owner_reads() {
        let (tokens, _, folder) = tokens();
        let (_, secret) = tokens.create("ops", Role::Admin, None, "ada").unwrap();
        let path = folder.path().join("tokens.json");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&secret) && !text.contains(&secret[PREFIX.len()..]), "{text}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = Tokens::open(&path, VirtualClock::at(NOW)).unwrap();
        assert!(again.check(&secret).is_ok(), "a restart changes nothing");
    }

    #[test]
    fn a_file_that_changes_counts_at_once_and_one_that_cannot_be_read_changes_nothing() {
        let (tokens, _, folder) = tokens();
        let (_, first) = tokens.create("first", Role::Viewer, None, "ada").unwrap();
        let path = folder.path().join("tokens.json");
        let elsewhere = Tokens::open(&path, VirtualClock::at(NOW)).unwrap();
        let (_, second) = elsewhere.create("second", Role::Viewer, None, "ada").unwrap();
        assert!(tokens.check(&second).is_ok());
        std::fs::write(&path, "{ broken").unwrap();
        assert!(tokens.check(&first).is_ok() && tokens.check(&second).is_ok());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(tokens.check(&first), Err(Denied::Unknown), "no file, no tokens");
    }

    #[test]
    fn what_cannot_be_made_is_said() {
        let (tokens, _, folder) = tokens();
        tokens.create("ops", Role::Admin, None, "ada").unwrap();
        let said = |result: Result<(Token, String), TokenError>| result.unwrap_err().to_string();
        let path = folder.path().join("odd.json");
        let file = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = Tokens::open(&path, VirtualClock::at(NOW)).unwrap_err().to_string();
            error.replace(&folder.path().display().to_string(), "FOLDER")
        };
        let all = [
            said(tokens.create("ops", Role::Admin, None, "ada")),
            said(tokens.create("my token", Role::Admin, None, "ada")),
            said(tokens.create("never", Role::Admin, Some(Span::ZERO), "ada")),
            tokens.revoke("other").unwrap_err().to_string(),
            file("{}", 0o600),
            file("{\"version\": 2, \"tokens\": []}", 0o600),
            file("{\"version\": 1, \"tokens\": [], \"more\": 1}", 0o600),
            file("{\"version\": 1, \"tokens\": []}", 0o640),
            file("{\"version\": 1, \"tokens\": []}", 0o602),
        ];
        insta::assert_snapshot!(all.join("\n"));
    }
}
