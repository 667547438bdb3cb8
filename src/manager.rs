//! A stand-in with the manager's outward interface, until the loop itself is merged.
#![allow(missing_docs)]

use crate::model::{
    Action, ActionId, Batch, Command, ElementId, EmbotId, Input, Mode, ModuleVersion, Refusal, Reply, Ticket, Timestamp, World,
};
use crate::usage::Usage;
use std::cell::{Ref, RefCell};
use std::collections::{BTreeMap, VecDeque};
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

#[derive(Debug, Clone)]
pub struct ModuleView {
    pub name: Arc<str>,
    pub mode: Mode,
    pub manifest: crate::embot::Manifest,
    pub versions: Vec<ModuleVersion>,
    pub embots: usize,
    pub suspended: usize,
}

#[derive(Debug, Clone)]
pub struct EmbotView {
    pub id: EmbotId,
    pub faults: u32,
    pub suspended: Option<Arc<str>>,
    pub state: BTreeMap<Arc<str>, crate::model::Value>,
    pub covers: Vec<ElementId>,
}

#[derive(Debug, Clone, Default)]
pub struct Figures {
    pub events: u64,
    pub steps: u64,
    pub batches: u64,
    pub queue: usize,
    pub delay_p50_ms: f64,
    pub delay_p99_ms: f64,
}

#[derive(Default)]
pub struct Manager {
    pub now: Timestamp,
    pub world: RefCell<World>,
    pub usage: RefCell<Usage>,
    pub actions: BTreeMap<ActionId, Action>,
    pub modules: Vec<ModuleView>,
    pub embots: Vec<EmbotView>,
    pub refusals: VecDeque<(Timestamp, Refusal, u64)>,
}

impl Manager {
    pub fn world(&self) -> Ref<'_, World> {
        self.world.borrow()
    }
    pub fn usage(&self) -> Ref<'_, Usage> {
        self.usage.borrow()
    }
    pub fn actions(&self) -> &BTreeMap<ActionId, Action> {
        &self.actions
    }
    pub fn modules(&self) -> Vec<ModuleView> {
        self.modules.clone()
    }
    pub fn embots(&self) -> Vec<EmbotView> {
        self.embots.clone()
    }
    pub fn refusals(&self) -> &VecDeque<(Timestamp, Refusal, u64)> {
        &self.refusals
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
