//! A stand-in with the manager's outward interface, until the loop itself is merged.
#![allow(missing_docs)]

use crate::model::{
    Action, ActionId, Batch, Command, EmbotId, Input, Mode, ModuleVersion, Refusal, Reply, Ticket, Timestamp, Value, Verb,
    World,
};
use crate::usage::Usage;
use std::cell::{Ref, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{broadcast, oneshot};

pub enum Message {
    Input(Input),
    Ask(Box<dyn FnOnce(&Manager) + Send>),
    Stop,
}

type Waiting = Arc<Mutex<BTreeMap<Ticket, oneshot::Sender<Reply>>>>;

#[derive(Clone)]
pub struct Handle {
    sender: crossbeam_channel::Sender<Message>,
    batches: broadcast::Sender<Arc<Batch>>,
    waiting: Waiting,
    tickets: Arc<AtomicU64>,
}

impl Handle {
    pub fn send(&self, input: Input) {
        self.sender.send(Message::Input(input)).ok();
    }

    pub fn command(&self, command: Command, by: Arc<str>) -> oneshot::Receiver<Reply> {
        let (sender, receiver) = oneshot::channel();
        let ticket = Ticket(self.tickets.fetch_add(1, Ordering::Relaxed));
        if let Ok(mut waiting) = self.waiting.lock() {
            waiting.insert(ticket, sender);
        }
        self.send(Input::Command { command, by, ticket: Some(ticket) });
        receiver
    }

    pub fn ask<T: Send + 'static>(&self, question: impl FnOnce(&Manager) -> T + Send + 'static) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        let ask = Box::new(move |manager: &Manager| {
            sender.send(question(manager)).ok();
        });
        self.sender.send(Message::Ask(ask)).ok();
        receiver
    }

    pub fn follow(&self) -> broadcast::Receiver<Arc<Batch>> {
        self.batches.subscribe()
    }
}

/// A refusal, and how often it came.
#[derive(Debug, Clone, PartialEq)]
pub struct RefusalView {
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
    /// How many embots it has.
    pub embots: usize,
    /// How many of them are suspended.
    pub suspended: usize,
    /// All kept versions, the one in force last.
    pub versions: Vec<ModuleVersion>,
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
    pub state: BTreeMap<Arc<str>, Value>,
    /// Its timers: name and when they are due.
    pub timers: Vec<(Arc<str>, Timestamp)>,
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
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
    /// Actions that failed, were cancelled, rejected or expired.
    pub failed: u64,
    /// Batches.
    pub batches: u64,
}

#[derive(Default)]
pub struct Manager {
    pub now: Timestamp,
    pub world: RefCell<World>,
    pub usage: RefCell<Usage>,
    pub actions: BTreeMap<ActionId, Action>,
    pub modules: Vec<ModuleView>,
    pub embots: Vec<EmbotView>,
    pub refusals: VecDeque<RefusalView>,
}

impl Manager {
    pub fn world(&self) -> Ref<'_, World> {
        self.world.borrow()
    }
    pub fn usage(&self) -> Ref<'_, Usage> {
        self.usage.borrow()
    }
    pub fn action(&self, id: ActionId) -> Option<&Action> {
        self.actions.get(&id)
    }
    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        self.actions.values()
    }
    pub fn open(&self) -> impl Iterator<Item = &Action> {
        self.actions.values().filter(|action| !action.state.is_final())
    }
    pub fn modules(&self) -> Vec<ModuleView> {
        self.modules.clone()
    }
    pub fn embots(&self, module: Option<&str>) -> Vec<EmbotView> {
        self.embots.iter().filter(|embot| module.is_none_or(|module| module == &*embot.id.module)).cloned().collect()
    }
    pub fn refusals(&self) -> impl DoubleEndedIterator<Item = &RefusalView> {
        self.refusals.iter()
    }
    pub fn waiting(&self) -> usize {
        0
    }
    pub fn is_starting(&self) -> bool {
        false
    }
    pub fn figures(&self) -> Figures {
        Figures::default()
    }
    pub fn now(&self) -> Timestamp {
        self.now
    }
}

/// What a stand-in answers to commands, and the batches it commits on them.
pub type Answer = Box<dyn FnMut(&mut Manager, Command, &str) -> (Reply, Option<Batch>) + Send>;

/// Starts a stand-in manager.
pub fn stand_in(make: impl FnOnce() -> Manager + Send + 'static, mut answer: Answer) -> Handle {
    let (sender, receiver) = crossbeam_channel::unbounded();
    let (batches, _) = broadcast::channel(64);
    let waiting = Waiting::default();
    let handle = Handle { sender, batches: batches.clone(), waiting: waiting.clone(), tickets: Arc::default() };
    std::thread::spawn(move || {
        let mut manager = make();
        for message in receiver {
            match message {
                Message::Stop => break,
                Message::Ask(ask) => ask(&manager),
                Message::Input(Input::Command { command, by, ticket }) => {
                    let (reply, batch) = answer(&mut manager, command, &by);
                    if let Some(batch) = batch {
                        batches.send(Arc::new(batch)).ok();
                    }
                    let sender = ticket.and_then(|ticket| waiting.lock().ok()?.remove(&ticket));
                    if let Some(sender) = sender {
                        sender.send(reply).ok();
                    }
                }
                Message::Input(_) => {}
            }
        }
    });
    handle
}
