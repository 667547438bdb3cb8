//! Scenarios: a world, modules, what happens to it, and what must come of it.
//!
//! ```yaml
//! scenario: one-hot-host
//! lasts: 20m
//! fleet:                       # as in a fleet file
//!   hosts:
//!     - { name: "host-{n}", count: 2, cpus: 8 }
//!   guests:
//!     - { name: "web-{n}", count: 4, vcpus: 4, on: [host-1], load: { cpu: 0.6 } }
//! plane: { poll: 5s }          # as in plane.yaml; or `planes`, each under its name with its `hosts`
//! modules: [relieve-hot-host]
//! steps:
//!   - { at: 10m, do: 'w.maintenance("host-2", true)' }
//! expect:
//!   - w.host("host-1").cpu < 0.8
//!   - result.migrations <= 2
//! ```
//! The world is the one that tests of policies have, so steps and expectations can call what tests can call (`embot
//! reference`). A [`Scenario`] is only read here; [`Run`] lets it happen.

mod outcome;
mod reading;
mod run;
mod traced;

pub use outcome::{Outcome, Unmet};
pub(in crate::simulate) use run::with_settings;
pub use run::{Progress, Run, Stopped, Variant};

use crate::hypervisor::simulated::FleetPlan;
use crate::model::{Span, Value};
use crate::policy::scene::{Scene, Snippet};
use crate::yaml::Source;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A scenario as it was read.
#[derive(Debug)]
pub struct Scenario {
    /// Its name.
    pub name: Arc<str>,
    /// What it shows.
    pub description: Arc<str>,
    /// How long it lasts, in its own time.
    pub lasts: Span,
    /// The seed of all chance in it.
    pub seed: u64,
    fleet: FleetPlan,
    planes: BTreeMap<String, Source>,
    delay: Span,
    traced: Option<traced::Traced>,
    modules: Vec<Deployment>,
    steps: Vec<Step>,
    expectations: Vec<Snippet>,
    scene: Scene,
}

/// A module that is loaded when a run begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    /// Its name.
    pub module: Arc<str>,
    /// The plane that loads it; every plane where none is named.
    pub plane: Option<Arc<str>>,
    /// Keys of its manifest that are different here. It acts, unless they say otherwise.
    pub changes: Value,
}

/// Something that is done at a time.
#[derive(Debug)]
struct Step {
    at: Span,
    every: Option<Span>,
    act: Snippet,
}
