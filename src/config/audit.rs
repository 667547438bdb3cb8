//! How long the audit is kept.

use crate::model::Span;
use crate::store::Retention;
use crate::yaml::{Key, Shape};
use serde::{Deserialize, Serialize};

/// The audit's bounds. Its oldest entries go when either is exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// How old an entry may be.
    pub keep: Span,
    /// What all entries may take together, in bytes.
    pub keep_bytes: u64,
}

impl Default for AuditConfig {
    fn default() -> AuditConfig {
        let Retention { audit_age, audit_bytes, .. } = Retention::default();
        AuditConfig { keep: audit_age, keep_bytes: audit_bytes }
    }
}

pub(super) const SHAPE: Shape = Shape::Keys(&[Key::optional("keep", Shape::Span), Key::optional("keep_bytes", Shape::Whole)]);
