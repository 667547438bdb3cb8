//! What travels with a guest: everything that the plane remembers of it and its dependents, and the events that still wait.
//!
//! ```text
//! source: world, roster, timers, planner, usage, actions --capture--> Bundle --bytes--> target: checked, rebased, put in force
//!         queue (held facts) --------------------------------------> Waiting --bytes--> target: in this order, numbered anew
//! ```
//! - Exact: states of policies go bit for bit, as the store keeps them.
//! - Whole: the embots that stand for the guest go, with all they have. An embot over several elements stands for its plane
//!   and stays there; it is not torn.
//! - Clocks: times are the source's, beside the instant of the capture, so that a timer has as long to go and a cool-down is as
//!   old as it was. [`Bundle::rebase`] puts all of them on the target's clock at once.
//! - Strangers: bytes come from another plane. Whatever does not concern the guest is refused when it is read, so nothing
//!   else of the target can be reached by it.
//!
//! A later capture replaces an earlier one as a whole, but for usage history, which goes once; so a repeated or a missed round
//! does no harm.

use crate::model::{
    Action, ActionId, ActionKind, ActionState, ElementId, EmbotId, EmbotRow, Event, EventBody, EventClass, ModuleRow, Span,
    Timestamp, Value, Vm, VmId,
};
use crate::plan::GuestMemory;
use crate::usage::Usage;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The version of the bytes.
const VERSION: u8 = 2;
/// Decisions that go along for `embot explain`: so many of the latest at the most,
const DECISIONS: usize = 16;
/// and no more of them than fit in so many bytes.
const DECISIONS_BYTES: usize = 4_096;
/// Values in states and messages of one payload; far more than the embots of one guest may keep.
const VALUES: usize = 200_000;
/// Timers of one embot; more than an embot may set are not taken.
const TIMERS: usize = 64;

/// A module that manages the guest, as it is in force at the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleStamp {
    /// Its name.
    pub name: Arc<str>,
    /// Its version, for people.
    pub version: Arc<str>,
    /// The SHA-256 of its files, see [`module_hash`].
    pub hash: [u8; 32],
}

/// A timer on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TravellingTimer {
    /// Whose.
    pub embot: EmbotId,
    /// How long it still had to go at the capture.
    pub remaining: Span,
    /// Its name.
    pub name: Arc<str>,
    /// What was attached.
    pub content: Value,
}

/// What is remembered of a guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    /// When it was captured. All times in it are by the same clock.
    pub captured_at: Timestamp,
    /// The guest: labels, mode, mark and all that is known of it.
    pub guest: Vm,
    /// The modules of its embots, by name.
    pub modules: Vec<ModuleStamp>,
    /// Its embots and their state, in their order.
    pub embots: Vec<(EmbotId, EmbotRow)>,
    /// Their timers.
    pub timers: Vec<TravellingTimer>,
    /// What the planner remembers of it: cool-downs, holds, budgets.
    pub memory: GuestMemory,
    /// Usage histories of it and its dependents; empty where they were sent before.
    pub usage: Vec<(ElementId, Vec<u8>)>,
    /// Advice that waits for an admin.
    pub advice: Vec<Action>,
    /// The latest decisions about it that are carried out, the oldest first; for `embot explain`.
    pub decisions: Vec<Action>,
}

/// Facts that wait for the guest's embots, in the order in which they are to be handled. Each has the number that the source
/// gave it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Waiting {
    /// When they were captured, by the source's clock.
    pub captured_at: Timestamp,
    /// The facts.
    pub events: Vec<Event>,
}

/// What a capture is taken from: the manager's parts, as they are at one instant.
pub struct Parts<'a> {
    /// The guest.
    pub guest: &'a Vm,
    /// The embots that stand for it and their state, in their order.
    pub embots: Vec<(EmbotId, EmbotRow)>,
    /// The modules in force, by name: version and row.
    pub modules: BTreeMap<Arc<str>, (Arc<str>, &'a ModuleRow)>,
    /// Their timers: whose, when due, name, content.
    pub timers: Vec<crate::model::TimerRow>,
    /// What the planner remembers of the guest.
    pub memory: GuestMemory,
    /// Usage history; `None`: it was sent before.
    pub usage: Option<&'a Usage>,
    /// The actions about the guest, in the order of their numbers.
    pub actions: Vec<&'a Action>,
    /// The present instant.
    pub now: Timestamp,
}

/// Why bytes of a peer are not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Written by another version.
    #[error("it has version {0}; this program reads version {VERSION}: run the same version of embot on both planes")]
    Version(u8),
    /// No sense can be made of it.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// It is about something else than the guest that was offered.
    #[error("it reaches beyond the guest that was offered: {0}")]
    Foreign(String),
}

/// The SHA-256 of a module's files as they are in force: manifest, then each policy's name and text.
pub fn module_hash(row: &ModuleRow) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    };
    if let Some(version) = row.versions.last() {
        part(&version.manifest);
        version.policies.iter().for_each(|(file, text)| {
            part(file);
            part(text);
        });
    }
    hash.finalize().into()
}

impl Parts<'_> {
    /// Takes everything of the guest together.
    pub fn capture(self) -> Bundle {
        let names: BTreeSet<&Arc<str>> = self.embots.iter().map(|(id, _)| &id.module).collect();
        let stamp = |name: &Arc<str>| {
            let (version, row) = self.modules.get(name)?;
            Some(ModuleStamp { name: name.clone(), version: version.clone(), hash: module_hash(row) })
        };
        let modules = names.iter().copied().filter_map(stamp).collect();
        let mut memory = self.memory;
        // Modules that stay here, such as those for a host or the plane, keep what they have spent on the guest.
        let of_module = self.actions.iter().filter_map(|action| {
            let module = &action.proposal.embot.as_ref()?.module;
            names.contains(module).then(|| (module.clone(), action.decided_at))
        });
        memory.spent = of_module.collect();
        let mine = |element: &ElementId| element.vm() == Some(self.guest.id);
        let usage = self.usage.map_or_else(Vec::new, |usage| {
            let elements = usage.elements().filter(|element| mine(element));
            elements.filter_map(|element| Some((element.clone(), usage.export(element)?))).collect()
        });
        let timer = |timer: crate::model::TimerRow| TravellingTimer {
            embot: timer.embot,
            remaining: timer.due.since(self.now),
            name: timer.name,
            content: timer.content,
        };
        let is_advice = |action: &&&Action| matches!(action.state, ActionState::Advised { .. });
        Bundle {
            captured_at: self.now,
            guest: self.guest.clone(),
            modules,
            embots: self.embots,
            timers: self.timers.into_iter().map(timer).collect(),
            memory,
            usage,
            advice: self.actions.iter().filter(is_advice).map(|action| (*action).clone()).collect(),
            decisions: latest(&self.actions),
        }
    }
}

/// The latest decisions that are over, as many as fit; this handover as well, which is done for whoever takes it in.
fn latest(actions: &[&Action]) -> Vec<Action> {
    let mut bytes = 0;
    let over = |action: &Action| match (&action.state, &action.proposal.kind) {
        (state, _) if state.is_final() => Some(action.clone()),
        (ActionState::Started, ActionKind::Handover { .. }) => {
            Some(Action { state: ActionState::Done, progress: None, ..action.clone() })
        }
        _ => None,
    };
    let over = actions.iter().rev().filter_map(|action| over(action)).take(DECISIONS);
    let fitting = over.take_while(|action| {
        bytes += postcard::to_stdvec(action).map_or(DECISIONS_BYTES, |form| form.len());
        bytes <= DECISIONS_BYTES
    });
    let mut decisions: Vec<Action> = fitting.collect();
    decisions.reverse();
    decisions
}

impl Bundle {
    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        written(self)
    }

    /// The bundle of these bytes, if all of it is about this guest.
    pub fn from_bytes(bytes: &[u8], vm: VmId) -> Result<Bundle, BundleError> {
        let bundle: Bundle = read(bytes)?;
        bundle.check(vm)?;
        Ok(bundle)
    }

    /// Is all of it about this guest, and within bounds?
    fn check(&self, vm: VmId) -> Result<(), BundleError> {
        let foreign = |what: String| Err(BundleError::Foreign(what));
        if self.guest.id != vm {
            return foreign(format!("its guest is {}, not {vm}", self.guest.id));
        }
        let modules: BTreeSet<&Arc<str>> = self.modules.iter().map(|module| &module.name).collect();
        for (embot, _) in &self.embots {
            if embot.element.vm() != Some(vm) || !modules.contains(&embot.module) {
                return foreign(format!("the state of embot {embot}"));
            }
        }
        let mut timers: BTreeMap<&EmbotId, usize> = BTreeMap::new();
        for timer in &self.timers {
            let count = timers.entry(&timer.embot).or_default();
            *count += 1;
            if *count > TIMERS || !self.embots.iter().any(|(embot, _)| *embot == timer.embot) {
                return foreign(format!("timer `{}` of embot {}", timer.name, timer.embot));
            }
        }
        for (element, bytes) in &self.usage {
            if element.vm() != Some(vm) {
                return foreign(format!("usage history of {element}"));
            }
            Usage::check(bytes).map_err(BundleError::Damaged)?;
        }
        if !self.memory.is_of(vm) {
            return foreign("cool-downs of other embots".to_owned());
        }
        if let Some((module, _)) = self.memory.spent.iter().find(|(module, _)| !modules.contains(module)) {
            return foreign(format!("a budget of module {module}"));
        }
        for action in self.advice.iter().chain(&self.decisions) {
            let advised = matches!(action.state, ActionState::Advised { .. });
            if action.proposal.kind.vm() != Some(vm) || (!advised && !action.state.is_final()) {
                return foreign(format!("action {} ({})", action.id, action.proposal.kind.verb()));
            }
        }
        if self.decisions.len() > DECISIONS {
            return foreign(format!("{} past decisions; at most {DECISIONS} are taken", self.decisions.len()));
        }
        Ok(())
    }

    /// Two captures with the same fingerprint differ in nothing that has to travel: samples and the passing of time do not count.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut still = self.clone();
        let due = |span: Span| Span(span.0.saturating_add_signed(self.captured_at.0));
        still.timers.iter_mut().for_each(|timer| timer.remaining = due(timer.remaining));
        still.captured_at = Timestamp::default();
        (still.guest.load, still.guest.load_at) = Default::default();
        still.usage.clear();
        Sha256::digest(still.to_bytes()).into()
    }

    /// Takes over what an earlier round brought and this one does not: usage history.
    pub fn after(mut self, earlier: Bundle) -> Bundle {
        if self.usage.is_empty() {
            self.usage = earlier.usage;
        }
        self
    }

    /// How much later the target's clock shows what the source's calls the instant of capture, in milliseconds. `ahead_ms`: by how
    /// much the target's clock is ahead, as measured by the link. What was captured was captured before `now`, however wrong the measurement.
    pub fn shift_ms(captured_at: Timestamp, ahead_ms: i64, now: Timestamp) -> i64 {
        ahead_ms.min(now.0.saturating_sub(captured_at.0))
    }

    /// Puts all its times on the clock of the plane it has come to, which shows `by_ms` more than its own.
    #[must_use]
    pub fn rebase(mut self, by_ms: i64) -> Bundle {
        let shift = |at: Timestamp| Timestamp(at.0.saturating_add(by_ms));
        self.captured_at = shift(self.captured_at);
        self.guest.since = shift(self.guest.since);
        self.guest.load_at = shift(self.guest.load_at);
        for (_, row) in &mut self.embots {
            row.fault_at = shift(row.fault_at);
        }
        self.memory = self.memory.shifted(shift);
        for action in self.advice.iter_mut().chain(&mut self.decisions) {
            action.decided_at = shift(action.decided_at);
            action.state_at = shift(action.state_at);
            if let ActionState::Advised { until } = &mut action.state {
                *until = shift(*until);
            }
            if let Some(cause) = &action.proposal.cause {
                action.proposal.cause = Some(Arc::new(Event { at: shift(cause.at), ..(**cause).clone() }));
            }
        }
        self
    }

    /// Gives its actions numbers of the plane it has come to, from `next` on, and notes in each where it was decided. Returns
    /// their old numbers with the new ones.
    pub fn renumber(&mut self, plane: &str, next: &mut u64) -> BTreeMap<ActionId, ActionId> {
        let mut numbers = BTreeMap::new();
        for action in self.decisions.iter_mut().chain(&mut self.advice) {
            let old = std::mem::replace(&mut action.id, ActionId(*next));
            *next += 1;
            numbers.insert(old, action.id);
            action.weighed.insert(0, format!("decided by plane {plane}, as its action {old}, before the guest came here"));
        }
        self.memory.renumber(|old| numbers.get(&old).copied().unwrap_or(old));
        numbers
    }
}

/// A dirty round: what is in force now, where it has changed, and the facts since the round before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Changes {
    /// A [`Bundle`] without usage history.
    pub state: Option<Vec<u8>>,
    /// [`Waiting`].
    pub events: Vec<u8>,
}

impl Changes {
    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        written(self)
    }

    /// The round of these bytes, if all of it is about this guest.
    pub fn from_bytes(bytes: &[u8], vm: VmId) -> Result<Changes, BundleError> {
        let changes: Changes = read(bytes)?;
        changes.state.iter().try_for_each(|state| Bundle::from_bytes(state, vm).map(drop))?;
        Waiting::from_bytes(&changes.events, vm)?;
        Ok(changes)
    }
}

impl Waiting {
    /// The number of the last fact taken in.
    pub fn last(&self) -> Option<u64> {
        self.events.iter().map(|event| event.seq).max()
    }

    /// Of these events, the facts.
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Event>, now: Timestamp) -> Waiting {
        let facts = events.into_iter().filter(|event| event.body.class() == EventClass::Fact);
        Waiting { captured_at: now, events: facts.cloned().collect() }
    }

    /// Their bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        written(self)
    }

    /// The facts of these bytes, if all of them are about this guest.
    pub fn from_bytes(bytes: &[u8], vm: VmId) -> Result<Waiting, BundleError> {
        let waiting: Waiting = read(bytes)?;
        for event in &waiting.events {
            let addressed = event.to.as_ref().is_none_or(|to| to.element.vm() == Some(vm));
            if event.element.vm() != Some(vm) || !addressed || event.body.class() != EventClass::Fact {
                let what = format!("event {} ({}) about {}", event.seq, event.body.kind().name, event.element);
                return Err(BundleError::Foreign(what));
            }
        }
        Ok(waiting)
    }

    /// Puts their times on the target's clock.
    #[must_use]
    pub fn rebase(mut self, by_ms: i64) -> Waiting {
        self.captured_at = Timestamp(self.captured_at.0.saturating_add(by_ms));
        for event in &mut self.events {
            event.at = Timestamp(event.at.0.saturating_add(by_ms));
        }
        self
    }

    /// Names actions by the numbers they have at the target. Those it does not know keep theirs.
    pub fn renumber_actions(&mut self, numbers: &BTreeMap<ActionId, ActionId>) {
        for event in &mut self.events {
            if let EventBody::ActionDone(action) | EventBody::ActionFailed { action, .. } = &mut event.body {
                *action = numbers.get(action).copied().unwrap_or(*action);
            }
        }
    }
}

fn written<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    // Writing to memory fails for types without a fixed shape only, and there are none here.
    bytes.extend(postcard::to_stdvec(value).unwrap_or_default());
    bytes
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BundleError> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => match Value::at_most(VALUES, || postcard::take_from_bytes(rest)) {
            Ok((value, [])) => Ok(value),
            Ok((_, more)) => Err(BundleError::Damaged(format!("{} bytes too many", more.len()))),
            Err(error) => Err(BundleError::Damaged(error.to_string())),
        },
        Some((version, _)) => Err(BundleError::Version(*version)),
        None => Err(BundleError::Damaged("it is empty".to_owned())),
    }
}
