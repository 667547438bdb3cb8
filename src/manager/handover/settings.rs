//! What the configuration says of migrations between planes.

use crate::embot::package::{SigningKey, TrustStore};
use crate::migration::{ResumeBy, Timing, message};
use crate::model::{HostId, Peer, Span};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the configuration says of migrations between planes.
#[derive(Debug, Clone)]
pub struct HandoverSettings {
    /// The planes that guests may go to or come from.
    pub peers: Vec<Peer>,
    /// How long things may take.
    pub timing: Timing,
    /// Who lets a guest run that has arrived.
    pub resume: ResumeBy,
    /// Room is kept for a guest that is permitted to come for so long.
    pub lease: Span,
    /// How hosts of other planes reach the hypervisors of this one's hosts, and where those want the guests' memory sent (may be empty).
    pub destinations: BTreeMap<HostId, (Arc<str>, Arc<str>)>,
    /// What is called otherwise here.
    pub rewrites: Vec<message::Rewrite>,
    /// Whose modules may come along.
    pub trust: TrustStore,
    /// The key that this plane signs its own modules with when they go along.
    pub module_key: Option<Arc<SigningKey>>,
}

impl Default for HandoverSettings {
    fn default() -> HandoverSettings {
        HandoverSettings {
            peers: Vec::new(),
            timing: Timing::default(),
            resume: ResumeBy::default(),
            lease: Span::minutes(10),
            destinations: BTreeMap::new(),
            rewrites: Vec::new(),
            trust: TrustStore::default(),
            module_key: None,
        }
    }
}
