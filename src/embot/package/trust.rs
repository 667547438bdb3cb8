//! Whose modules are taken: the trust store of a plane.

use super::key::PublicKey;
use crate::model::{Mode, Verb};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A key whose modules may be loaded here, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedKey {
    /// Its name here.
    pub name: Arc<str>,
    /// The key.
    pub key: PublicKey,
    /// What modules by this key may propose. A module that asks for more is refused.
    #[serde(default)]
    pub permits: BTreeSet<Verb>,
    /// How far they may go. A module that wants to go farther goes this far.
    #[serde(default = "advise")]
    pub mode: Mode,
}

fn advise() -> Mode {
    Mode::Advise
}

/// The keys that a plane trusts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustStore {
    keys: Vec<TrustedKey>,
}

impl TrustStore {
    /// These keys and no others.
    pub fn new(keys: Vec<TrustedKey>) -> TrustStore {
        TrustStore { keys }
    }

    /// The same with the plane's own key: what it packed itself may come back to it, as it went.
    pub fn with_own(mut self, plane: &str, key: PublicKey) -> TrustStore {
        if self.named(&key).is_none() {
            let permits = Verb::ALL.iter().map(|(verb, ..)| *verb).collect();
            self.keys.push(TrustedKey { name: plane.into(), key, permits, mode: Mode::Act });
        }
        self
    }

    /// The key, where it is trusted.
    pub fn named(&self, key: &PublicKey) -> Option<&TrustedKey> {
        self.keys.iter().find(|trusted| trusted.key == *key)
    }

    /// All of them.
    pub fn keys(&self) -> &[TrustedKey] {
        &self.keys
    }
}
