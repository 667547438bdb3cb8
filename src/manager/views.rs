//! What others may see of the manager: plain data, made between two turns.

use super::Manager;
use crate::model::{Action, ActionId, ElementId, EmbotId, Mode, ModuleVersion, Refusal, Timestamp, Value, Verb, VmId, World};
use crate::plan::Rejection;
use crate::usage::Usage;
use std::cell::Ref;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A refusal, and how often it came.
#[derive(Debug, Clone, PartialEq)]
pub struct RefusalView {
    /// Its number.
    pub number: u64,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// When it last came.
    pub last_at: Timestamp,
    /// How often since it was recorded.
    pub count: u32,
    /// The latest.
    pub refusal: Refusal,
}

/// A loaded module.
#[derive(Debug, Clone, PartialEq)]
pub struct ModuleView {
    /// Its name.
    pub module: Arc<str>,
    /// Its version.
    pub version: Arc<str>,
    /// What it does.
    pub description: Arc<str>,
    /// The mode in force.
    pub mode: Mode,
    /// Did an admin set the mode, against the manifest?
    pub mode_set: bool,
    /// What it may propose.
    pub permits: BTreeSet<Verb>,
    /// Settings in force, by policy.
    pub settings: BTreeMap<Arc<str>, BTreeMap<String, Value>>,
    /// What their author wrote above their functions, by policy: the function's name and the text.
    pub docs: BTreeMap<Arc<str>, Vec<(String, String)>>,
    /// How many embots it has.
    pub embots: usize,
    /// How many of them are suspended.
    pub suspended: usize,
    /// All kept versions, the one in force last.
    pub versions: Vec<ModuleVersion>,
}

/// A module that is known and not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdleModule {
    /// Its name.
    pub module: Arc<str>,
    /// Its file, or that of its last version.
    pub file: Arc<str>,
    /// Why.
    pub why: Idle,
}

/// Why a module that is known is not in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// An admin has unloaded it.
    Unloaded,
    /// It was in force in the last run, and does not check now.
    NoLongerChecks,
    /// Its file is in the folder, and has not checked yet.
    NeverChecked,
}

/// An embot.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbotView {
    /// Which.
    pub id: EmbotId,
    /// Its element's name for people.
    pub element: String,
    /// Recent faults.
    pub faults: u32,
    /// Why it is suspended, where it is.
    pub suspended: Option<Arc<str>>,
    /// State of its policies.
    pub state: BTreeMap<Arc<str>, Arc<Value>>,
    /// Its timers: name and when they are due.
    pub timers: Vec<(Arc<str>, Timestamp)>,
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Figures {
    /// Events taken in.
    pub events: u64,
    /// Steps taken.
    pub steps: u64,
    /// Policy faults.
    pub faults: u64,
    /// Actions planned or advised.
    pub planned: u64,
    /// Proposals refused.
    pub refused: u64,
    /// Actions done.
    pub done: u64,
    /// Actions that failed.
    pub failed: u64,
    /// Batches.
    pub batches: u64,
}

impl Manager {
    /// The plane's time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Hosts and guests.
    pub fn world(&self) -> Ref<'_, World> {
        self.world.borrow()
    }

    /// Usage history.
    pub fn usage(&self) -> Ref<'_, Usage> {
        self.usage.borrow()
    }

    /// Remembers from now on which lines of policies run. To be called before the first module is loaded.
    pub fn watch_lines(&mut self) {
        self.engine.watch_lines();
    }

    /// The lines of policies that have run since it began to watch, by file.
    pub fn lines_run(&self) -> crate::policy::Lines {
        self.engine.lines_run()
    }

    /// An action, open or ended.
    pub fn action(&self, id: ActionId) -> Option<&Action> {
        self.open.get(&id).or_else(|| self.ended.get(&id))
    }

    /// Actions: those that ended (the older ones only the store knows), then the open ones.
    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        self.ended.values().chain(self.open.values())
    }

    /// Actions that are not over.
    pub fn open(&self) -> impl Iterator<Item = &Action> {
        self.open.values()
    }

    /// Recent refusals, the oldest first.
    pub fn refusals(&self) -> impl DoubleEndedIterator<Item = &RefusalView> {
        self.refusals.iter()
    }

    /// What admins rejected and modules may not advise again yet, guest by guest.
    pub fn rejections(&self) -> impl Iterator<Item = (VmId, &Rejection)> {
        self.planner.rejections(self.now)
    }

    /// Events that wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Elements whose events are held.
    pub fn holds(&self) -> impl Iterator<Item = &ElementId> {
        self.queue.holds()
    }

    /// Counts since the start.
    pub fn figures(&self) -> Figures {
        self.figures
    }

    /// Is the plane still finding out what is true since its start?
    pub fn is_starting(&self) -> bool {
        !self.is_settled()
    }

    /// How many modules are loaded.
    pub fn module_count(&self) -> usize {
        self.roster.modules().count()
    }

    /// How many embots there are.
    pub fn embot_count(&self) -> usize {
        self.roster.embots().count()
    }

    /// The embots that are suspended.
    pub fn suspended(&self) -> impl Iterator<Item = &EmbotId> {
        self.roster.embots().filter(|embot| embot.suspended.is_some()).map(|embot| &embot.id)
    }

    /// The loaded modules.
    pub fn modules(&self) -> Vec<ModuleView> {
        let mut views = Vec::new();
        for module in self.roster.modules() {
            let mine = || self.roster.embots().filter(|embot| embot.id.module == module.manifest.module);
            let settings = module.policies.iter().map(|policy| (policy.policy().name().clone(), policy.settings().clone()));
            let docs = module.policies.iter().map(|policy| (policy.policy().name().clone(), policy.policy().docs().to_vec()));
            views.push(ModuleView {
                module: module.manifest.module.clone(),
                version: module.manifest.version.clone(),
                description: module.manifest.description.clone(),
                mode: module.mode(),
                mode_set: module.row.mode.is_some(),
                permits: module.manifest.permits.clone(),
                settings: settings.collect(),
                docs: docs.collect(),
                embots: mine().count(),
                suspended: mine().filter(|embot| embot.suspended.is_some()).count(),
                versions: module.row.versions.clone(),
            });
        }
        views
    }

    /// Modules that are not in force, although they were, or their file is in the folder.
    pub fn idle_modules(&self) -> Vec<IdleModule> {
        let idle = self.shelf.unrestored.iter().map(|(name, row)| {
            let declared = row.declared.as_ref().map(|declared| &declared.file);
            let file = declared.or_else(|| row.versions.last().map(|version| &version.file));
            let file = file.cloned().unwrap_or_default();
            let why = if row.versions.is_empty() { Idle::Unloaded } else { Idle::NoLongerChecks };
            IdleModule { module: name.clone(), file, why }
        });
        let unchecked = self.shelf.unchecked.iter().filter(|(file, module)| !self.has_been_in_force(file, Some(module)));
        let never =
            unchecked.map(|(file, module)| IdleModule { module: module.clone(), file: file.clone(), why: Idle::NeverChecked });
        idle.chain(never).collect()
    }

    /// Modules whose files do not check as they are now: name, file, and is a version in force that did?
    pub fn unchecked_modules(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, bool)> {
        self.shelf.unchecked.iter().map(|(file, name)| (name, file, self.roster.module(name).is_some()))
    }

    /// How many embots each module has, and how many of them are suspended.
    pub fn embot_counts(&self) -> BTreeMap<Arc<str>, (usize, usize)> {
        let mut counts: BTreeMap<_, _> = self.roster.modules().map(|module| (module.manifest.module.clone(), (0, 0))).collect();
        for embot in self.roster.embots() {
            let count = counts.entry(embot.id.module.clone()).or_default();
            count.0 += 1;
            count.1 += usize::from(embot.suspended.is_some());
        }
        counts
    }

    /// The embots, of one module or of all.
    pub fn embots(&self, module: Option<&str>) -> Vec<EmbotView> {
        let world = self.world.borrow();
        let mut views = Vec::new();
        for embot in self.roster.embots().filter(|embot| module.is_none_or(|module| *embot.id.module == *module)) {
            let Some(module) = self.roster.module(&embot.id.module) else { continue };
            views.push(EmbotView {
                id: embot.id.clone(),
                element: world.label(&embot.id.element),
                faults: embot.faults(),
                suspended: embot.suspended.clone(),
                state: embot.row(module).state,
                timers: self.timers.of(&embot.id),
            });
        }
        views
    }
}
