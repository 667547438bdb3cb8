//! What came of a run.

use crate::hypervisor::simulated::Point;
use crate::manager::Manager;
use crate::model::Verb;
use crate::policy::suite::Failure;
use crate::simulate::figures::Figures;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The figures of one run, in the form in which they are written as JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// The scenario.
    pub scenario: Arc<str>,
    /// What decided: the modules that were loaded, joined by `+`; `none` where there were none.
    pub module: String,
    /// Settings that a sweep had changed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, f64>,
    /// The seed of all chance.
    pub seed: u64,
    /// Energy, moves, and how far guests got what they wanted.
    #[serde(flatten)]
    pub figures: Figures,
    /// Actions that were decided, advice included.
    pub decisions: u64,
    /// Proposals that the planner refused.
    pub refused: u64,
    /// The same by the guardrail that refused.
    pub refusals: BTreeMap<String, u64>,
    /// Policies that failed in a step.
    pub faults: u64,
    /// Steps of embots.
    pub steps: u64,
    /// What a step took in the mean, in microseconds.
    pub step_us: f64,
    /// How long the run took on the wall, in seconds.
    pub wall_s: f64,
    /// The most memory that this process has had, in bytes; 0 where it cannot be known.
    pub peak_rss_bytes: u64,
    /// The world over time, for plots.
    #[serde(skip)]
    pub series: Vec<Point>,
    /// Expectations that were not met.
    pub unmet: Vec<Unmet>,
}

impl Outcome {
    /// What the managers of a run that these modules decided in counted, and no figures yet.
    pub(in crate::simulate) fn of(modules: &[Arc<str>], managers: &[&Manager]) -> Outcome {
        let (mut refusals, mut decisions): (BTreeMap<String, u64>, u64) = Default::default();
        let (mut steps, mut seconds) = (0, 0.0);
        for manager in managers {
            let tally = manager.tally();
            for (guardrail, count) in &tally.refusals {
                *refusals.entry(guardrail.to_string()).or_default() += count;
            }
            for ((verb, result), count) in &tally.actions {
                // Each guest is adopted once, when the world begins: no policy's doing.
                decisions += if *verb != Verb::Adopt && matches!(*result, "planned" | "advised") { *count } else { 0 };
            }
            for module in tally.modules.values() {
                steps += module.count;
                seconds += module.took.as_secs_f64();
            }
        }
        let names: BTreeSet<&str> = modules.iter().map(|name| &**name).collect();
        Outcome {
            scenario: "".into(),
            module: if names.is_empty() { "none".to_owned() } else { names.into_iter().collect::<Vec<_>>().join("+") },
            settings: BTreeMap::new(),
            seed: 0,
            figures: Figures::default(),
            decisions,
            refused: refusals.values().sum(),
            refusals,
            faults: managers.iter().map(|manager| manager.figures().faults).sum(),
            steps,
            step_us: if steps == 0 { 0.0 } else { seconds * 1e6 / steps as f64 },
            wall_s: 0.0,
            peak_rss_bytes: 0,
            series: Vec::new(),
            unmet: Vec::new(),
        }
    }
}

/// An expectation that was not met, or a step that failed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Unmet {
    /// What and where.
    #[serde(flatten)]
    pub failure: Failure,
    /// The last of what had happened by then, in words.
    pub told: Vec<String>,
}
