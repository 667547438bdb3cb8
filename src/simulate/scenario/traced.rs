//! Guests whose processor use follows recorded traces.

use super::Scenario;
use crate::hypervisor::simulated::{FleetPlan, Recorded, Shape};
use crate::model::Span;
use crate::simulate::traces::Traces;
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::Arc;

/// `traces` of a scenario.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Traced {
    /// Where they are, from the scenario's file; it can be named when the scenario is run.
    #[serde(default)]
    pub(super) path: Option<PathBuf>,
    /// Entries of the fleet's guests, by their names: each stands for as many guests as there are traces for it. The traces
    /// are dealt to the entries in equal blocks, in order; where they do not divide, the last has fewer.
    pub(super) guests: Vec<String>,
}

impl Scenario {
    /// Do guests of it follow traces?
    pub fn wants_traces(&self) -> bool {
        self.traced.is_some()
    }

    /// Where it says that the traces are.
    pub fn traces(&self) -> Option<&PathBuf> {
        self.traced.as_ref()?.path.as_ref()
    }

    /// The fleet, each traced entry replaced by its guests.
    pub(super) fn with_traces(&self, traces: Option<&Traces>) -> Result<FleetPlan, String> {
        let mut fleet = self.fleet.clone();
        let Some(traced) = &self.traced else { return Ok(fleet) };
        let Some(traces) = traces else {
            return Err(
                "the guests of this scenario follow recorded traces: name a folder or a file of them (`--trace PATH`)".into()
            );
        };
        let block = traces.guests.len().div_ceil(traced.guests.len().max(1)).max(1);
        for entry in &mut fleet.guests {
            let Some(place) = traced.guests.iter().position(|name| *name == entry.name) else { continue };
            let own = traces.guests.iter().skip(place * block).take(block);
            let guests: Arc<[Arc<[f32]>]> =
                own.map(|trace| trace.percent.iter().map(|percent| percent / 100.0).collect()).collect();
            entry.count = u32::try_from(guests.len()).unwrap_or(u32::MAX);
            entry.load.cpu = Shape::Recorded(Recorded { interval: Span::seconds(traces.step_s.into()), guests });
        }
        Ok(fleet)
    }
}
