//! One run of a scenario: the world is made, modules are loaded, time passes, and in the end it is looked at.

use super::{Deployment, Outcome, Scenario, Unmet};
use crate::manager::Manager;
use crate::model::{Span, Timestamp, Value};
use crate::policy::scene::Snippet;
use crate::policy::suite::{Failure, SharedStage, Stage};
use crate::process::Process;
use crate::simulate::figures::Figures;
use crate::simulate::traces::Traces;
use crate::simulate::world::{Described, Library, START, World, seen};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// So many lines of what happened are shown where an expectation is not met.
const TOLD: usize = 20;
/// Between two tellings of how far a run has come lie so many instants at which something happens.
const TELL_EVERY: u32 = 256;

/// How a run differs from what its scenario says.
#[derive(Debug, Clone, Default)]
pub struct Variant {
    /// These modules, in place of the scenario's.
    pub modules: Option<Vec<Deployment>>,
    /// Settings of all modules that have them, as in a sweep.
    pub settings: BTreeMap<String, f64>,
    /// Another seed.
    pub seed: Option<u64>,
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Time that has passed in it.
    pub passed: Span,
    /// Time that it takes.
    pub of: Span,
}

/// Why a run has no outcome.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Stopped {
    /// It was told to stop.
    #[error("stopped before the end")]
    Told,
    /// It could not begin, or could not go on.
    #[error("{0}")]
    Failed(String),
}

/// A run that has begun.
pub struct Run<'a> {
    scenario: &'a Scenario,
    variant: Variant,
    world: Rc<RefCell<World>>,
    modules: Vec<Arc<str>>,
    end: Timestamp,
    unmet: Vec<Unmet>,
    started: Instant,
}

impl<'a> Run<'a> {
    /// Makes the world and loads the modules; with recorded traces, where guests follow them.
    pub fn begin(
        scenario: &'a Scenario,
        variant: Variant,
        library: &Arc<Library>,
        traces: Option<&Traces>,
    ) -> Result<Run<'a>, Stopped> {
        let started = Instant::now();
        let mut fleet = scenario.with_traces(traces).map_err(Stopped::Failed)?;
        fleet.seed = variant.seed.unwrap_or(scenario.seed);
        let described = Described::new(&fleet, scenario.planes.clone(), START, scenario.delay);
        let described =
            described.map_err(|found| Stopped::Failed(found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))?;
        let mut world = World::new(described.measured(), library.clone(), false).map_err(Stopped::Failed)?;
        let mut modules = Vec::new();
        for deployment in variant.modules.as_ref().unwrap_or(&scenario.modules) {
            let changes = with_settings(&deployment.changes, &variant.settings, library, &deployment.module);
            let planes = match &deployment.plane {
                Some(name) => vec![world.plane(name).map_err(Stopped::Failed)?],
                None => (0..world.planes()).collect(),
            };
            for plane in planes {
                let arguments = [Value::Text(deployment.module.to_string()), changes.clone()];
                world.call(plane, "deploy", &arguments).map_err(Stopped::Failed)?;
            }
            modules.push(deployment.module.clone());
        }
        let world = Rc::new(RefCell::new(world));
        Ok(Run { scenario, variant, world, modules, end: START + scenario.lasts, unmet: Vec::new(), started })
    }

    /// Lets it happen to the end; `tell` hears now and then how far it has come, and may stop it.
    pub fn finish(mut self, mut tell: impl FnMut(Progress) -> ControlFlow<()>) -> Result<Outcome, Stopped> {
        let mut due: BTreeMap<(Timestamp, usize), Option<Span>> =
            self.scenario.steps.iter().enumerate().map(|(index, step)| ((START + step.at, index), step.every)).collect();
        let mut instants = 0_u32;
        loop {
            let next = due.first_key_value().map(|((at, _), _)| *at).filter(|at| *at <= self.end);
            loop {
                let stepped = self.world.borrow_mut().step(next.unwrap_or(self.end));
                if !stepped.map_err(Stopped::Failed)? {
                    break;
                }
                instants = instants.wrapping_add(1);
                if instants.is_multiple_of(TELL_EVERY) {
                    let passed = self.world.borrow().now().since(START);
                    if tell(Progress { passed, of: self.scenario.lasts }).is_break() {
                        return Err(Stopped::Told);
                    }
                }
            }
            let Some(((at, index), every)) = next.and_then(|_| due.pop_first()) else { break };
            self.act(index);
            if let Some(every) = every {
                due.insert((at + every, index), Some(every));
            }
        }
        Ok(self.outcome())
    }

    fn shared(&self) -> SharedStage {
        self.world.clone()
    }

    fn act(&mut self, index: usize) {
        let done = self.scenario.scene.run(&self.scenario.steps[index].act, &self.shared(), None);
        if let Err(failure) = done {
            self.unmet(*failure);
        }
    }

    /// What had happened is told once.
    fn unmet(&mut self, failure: Failure) {
        let told = if self.unmet.is_empty() { self.world.borrow_mut().last_told(TOLD) } else { Vec::new() };
        self.unmet.push(Unmet { failure, told });
    }

    fn outcome(mut self) -> Outcome {
        let mut outcome = self.figures();
        let result = seen(&outcome).unwrap_or(Value::Unit);
        let expectations: Vec<&Snippet> = self.scenario.expectations.iter().collect();
        for expectation in expectations {
            if let Err(failure) = self.scenario.scene.holds(expectation, &self.shared(), &result) {
                self.unmet(*failure);
            }
        }
        outcome.unmet = self.unmet;
        outcome.wall_s = self.started.elapsed().as_secs_f64();
        outcome.peak_rss_bytes = Process::own().peak();
        outcome
    }

    fn figures(&self) -> Outcome {
        let world = self.world.borrow();
        let managers: Vec<&Manager> = (0..world.planes()).map(|plane| world.manager(plane)).collect();
        Outcome {
            scenario: self.scenario.name.clone(),
            settings: self.variant.settings.clone(),
            seed: self.variant.seed.unwrap_or(self.scenario.seed),
            figures: world.fleet().meter().map(|meter| Figures::of_fleet(meter, self.end)).unwrap_or_default(),
            series: world.fleet().meter().map(|meter| meter.points().to_vec()).unwrap_or_default(),
            ..Outcome::of(&self.modules, &managers)
        }
    }
}

/// The changes of a manifest, and over them the settings of a sweep that the module has.
pub(in crate::simulate) fn with_settings(
    changes: &Value,
    swept: &BTreeMap<String, f64>,
    library: &Library,
    module: &str,
) -> Value {
    let mut changes = changes.clone();
    let Value::Map(map) = &mut changes else { return changes };
    let known = library.settings(module);
    for (name, number) in swept.iter().filter(|(name, _)| known.contains(*name)) {
        let settings = map.entry("settings".to_owned()).or_insert_with(|| Value::Map(BTreeMap::new()));
        if let Value::Map(settings) = settings {
            settings.insert(name.clone(), Value::Float(*number));
        }
    }
    changes
}
