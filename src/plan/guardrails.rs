//! The limits that hold whatever a script says. The plane's configuration sets them for all; a module's manifest may only
//! tighten them for itself ([`Limits`]), with one exception: a module may set its own minimum gain.

use crate::model::Span;
use serde::{Deserialize, Serialize};

/// At most so many actions in so long a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// So many.
    pub actions: u32,
    /// In so long.
    pub per: Span,
}

/// How much more than a host has may be promised to its guests.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Overcommit {
    /// Virtual processors for each core.
    pub cpu: f64,
    /// Guest memory for each MiB.
    pub memory: f64,
}

impl Default for Overcommit {
    fn default() -> Overcommit {
        Overcommit { cpu: 4.0, memory: 1.0 }
    }
}

/// The plane's guardrails.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Guardrails {
    /// After an action on a guest, it is left alone so long.
    pub cooldown: Span,
    /// A condition must have led to the same proposal for so long before it is acted upon.
    pub hold: Span,
    /// Actions of one module.
    pub module_rate: Rate,
    /// Actions of the whole plane.
    pub plane_rate: Rate,
    /// The share of the plane's guests (0 to 1) that may be acted on within `blast_window`; at least one always may.
    pub blast_radius: f64,
    /// The window of the blast radius.
    pub blast_window: Span,
    /// Migrations at a time, in and out of one host together.
    pub migrations_per_host: u32,
    /// Migrations at a time in the whole plane, to and from other planes included.
    pub migrations: u32,
    /// A balancing move must gain at least so many times its cost (both in core-seconds).
    pub minimum_gain: f64,
    /// The time of usage history that load estimates rest on: the longer, the less a short peak counts.
    pub load_window: Span,
    /// The time over which a move's gain is counted.
    pub gain_horizon: Span,
    /// The bandwidth assumed for a move's cost, in MiB a second.
    pub migration_mib_per_s: f64,
    /// CPU load (0 to 1) that a move may bring its target to, at the most.
    pub target_max_cpu: f64,
    /// Memory (0 to 1 of what the host may promise) that placements may bring a host to, at the most.
    pub target_max_memory: f64,
    /// Promises beyond what hosts have.
    pub overcommit: Overcommit,
    /// Unanswered advice expires after this.
    pub advice_expires: Span,
    /// Advised actions of one module that may wait for an answer at a time.
    pub module_advice: u32,
    /// Whatever is proposed by who may act, and for a guest that can be moved, is done, several moves of a guest included. No
    /// configuration says so: it is for the compatibility world of the simulator, whose moves others have published.
    #[serde(skip)]
    pub off: bool,
}

impl Default for Guardrails {
    fn default() -> Guardrails {
        Guardrails {
            cooldown: Span::minutes(5),
            hold: Span::ZERO,
            module_rate: Rate { actions: 10, per: Span::minutes(10) },
            plane_rate: Rate { actions: 30, per: Span::minutes(10) },
            blast_radius: 0.2,
            blast_window: Span::minutes(10),
            migrations_per_host: 2,
            migrations: 8,
            minimum_gain: 2.0,
            load_window: Span::minutes(2),
            gain_horizon: Span::minutes(10),
            migration_mib_per_s: 100.0,
            target_max_cpu: 0.8,
            target_max_memory: 0.9,
            overcommit: Overcommit::default(),
            advice_expires: Span::hours(24),
            module_advice: 50,
            off: false,
        }
    }
}

/// What a module's manifest sets for itself. A value looser than the plane's has no effect, but for `minimum_gain`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The longer of this and the plane's counts.
    pub cooldown: Option<Span>,
    /// The longer of this and the plane's counts.
    pub hold: Option<Span>,
    /// Both this and the plane's hold.
    pub rate: Option<Rate>,
    /// In place of the plane's: what a move of this module must gain; 0 where balance is not its purpose.
    pub minimum_gain: Option<f64>,
    /// The lower of this and the plane's counts.
    pub target_max_cpu: Option<f64>,
}
