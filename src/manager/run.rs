//! The manager's thread: drives [`Manager::turn`] with what comes in, hands batches to the store thread, and lets outputs go
//! when their batch is durable.
//!
//! While the store commits batch N, the manager steps batch N+1; no more than [`AHEAD`] batches are ahead of the store, so
//! that a slow disk slows the plane instead of filling its memory.

use super::{Manager, Output, tally};
use crate::clock::Clock;
use crate::model::{Batch, Command, Input, Reply, Ticket, Timestamp};
use crate::store::{Committed, StoreError};
use crossbeam_channel::{Receiver, Sender, TrySendError, after, never, select};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{broadcast, oneshot};

/// Batches that may wait for the store.
const AHEAD: usize = 4;
/// Inputs taken together in one turn.
const INPUTS_A_TURN: usize = 1_024;
/// Batches a slow follower may lag behind before it loses some.
const FEED: usize = 1_024;

/// What reaches the manager's thread.
pub enum Message {
    /// An input.
    Input(Input),
    /// Somebody wants a look, between two turns.
    Ask(Box<dyn FnOnce(&Manager) + Send>),
    /// Stop: commit what there is and end.
    Stop,
}

/// Where outputs go once they are durable.
pub trait Outlet: Send {
    /// An action is to be carried out, or cancelled.
    fn leave(&mut self, output: Output);
}

/// A door to the manager for the network side and the sensors. Clones are cheap.
#[derive(Clone)]
pub struct Handle {
    inbox: Sender<Message>,
    feed: broadcast::Sender<Arc<Batch>>,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    tickets: BTreeMap<Ticket, oneshot::Sender<Reply>>,
}

impl Handle {
    /// A door, and the inbox behind it.
    pub fn new(capacity: usize) -> (Handle, Receiver<Message>) {
        let (inbox, receiver) = crossbeam_channel::bounded(capacity);
        let (feed, _) = broadcast::channel(FEED);
        (Handle { inbox, feed, waiting: Arc::default() }, receiver)
    }

    /// Hands an input over; waits where the manager is behind. Returns `false` when it has stopped.
    pub fn send(&self, input: Input) -> bool {
        self.inbox.send(Message::Input(input)).is_ok()
    }

    /// Hands an input over if there is room at once.
    pub fn try_send(&self, input: Input) -> bool {
        self.inbox.try_send(Message::Input(input)).is_ok()
    }

    /// Asks the manager to stop.
    pub fn stop(&self) {
        let _ = self.inbox.send(Message::Stop);
    }

    /// An admin's command; the answer comes when it is durable. No answer: the manager has stopped or is too far behind.
    pub fn command(&self, command: Command, by: Arc<str>) -> oneshot::Receiver<Reply> {
        let (sender, receiver) = oneshot::channel();
        let ticket = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.next += 1;
            let ticket = Ticket(waiting.next);
            waiting.tickets.insert(ticket, sender);
            ticket
        };
        let message = Message::Input(Input::Command { command, by, ticket: Some(ticket) });
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.inbox.try_send(message) {
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).tickets.remove(&ticket);
        }
        receiver
    }

    /// A look at the manager, between two turns.
    pub fn ask<T: Send + 'static>(&self, question: impl FnOnce(&Manager) -> T + Send + 'static) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        let ask = Message::Ask(Box::new(move |manager| drop(sender.send(question(manager)))));
        let _ = self.inbox.try_send(ask);
        receiver
    }

    /// The batches, as they become durable.
    pub fn follow(&self) -> broadcast::Receiver<Arc<Batch>> {
        self.feed.subscribe()
    }

    fn reply(&self, ticket: Ticket, reply: Reply) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).tickets.remove(&ticket);
        if let Some(waiting) = waiting {
            let _ = waiting.send(reply);
        }
    }
}

/// A batch on its way to the disk, and what leaves after it.
struct Underway {
    seq: u64,
    batch: Option<Arc<Batch>>,
    /// When that happened which it decides upon.
    causes: Vec<Timestamp>,
    outputs: Vec<Output>,
}

/// Why the manager's thread ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A batch could not be made durable; nothing that followed from it has left.
    #[error("the plane stops, since what it decides cannot be kept")]
    Store(#[source] Arc<StoreError>),
    /// The store thread is gone.
    #[error("the plane stops: its store thread has ended")]
    StoreGone,
}

/// Runs until told to stop, or until the store fails: then nothing more leaves, and the error is returned.
pub fn run(
    mut manager: Manager,
    handle: &Handle,
    inbox: &Receiver<Message>,
    commits: &Sender<Batch>,
    committed: &Receiver<Committed>,
    outlet: &mut dyn Outlet,
    clock: &dyn Clock,
) -> Result<(), RunError> {
    let mut underway: VecDeque<Underway> = VecDeque::new();
    let mut stopping = false;
    loop {
        let mut inputs = Vec::new();
        let mut message = None;
        if stopping && underway.is_empty() {
            return Ok(());
        }
        let wait = match manager.next_due() {
            _ if stopping => never(),
            Some(due) => after(due.since(clock.now()).as_duration()),
            None => never(),
        };
        // With too many batches ahead, or when stopping, only the store is listened to.
        if stopping || underway.len() >= AHEAD {
            let done = committed.recv().map_err(|_| RunError::StoreGone)?;
            release(&mut underway, done, handle, outlet, &manager, clock)?;
            continue;
        }
        select! {
            recv(committed) -> done => {
                let done = done.map_err(|_| RunError::StoreGone)?;
                release(&mut underway, done, handle, outlet, &manager, clock)?;
                continue;
            }
            recv(inbox) -> first => message = Some(first.unwrap_or(Message::Stop)),
            recv(wait) -> _ => inputs.push(Input::Tick),
        }
        while let Some(next) = message.take() {
            match next {
                Message::Input(input) => inputs.push(input),
                Message::Ask(question) => question(&manager),
                Message::Stop => {
                    stopping = true;
                    break;
                }
            }
            if inputs.len() < INPUTS_A_TURN {
                message = inbox.try_recv().ok();
            }
        }
        let mut turns = Vec::new();
        if !inputs.is_empty() {
            turns.extend(manager.turn(inputs, clock.now()));
        }
        if stopping {
            turns.extend(manager.checkpoint());
        }
        for (batch, outputs) in turns {
            let feed = (!batch.records.is_empty() && handle.feed.receiver_count() > 0).then(|| told(&batch));
            if batch.durable || !outputs.is_empty() || feed.is_some() {
                underway.push_back(Underway { seq: batch.seq, causes: tally::causes(&batch), batch: feed, outputs });
            }
            commits.send(batch).map_err(|_| RunError::StoreGone)?;
        }
    }
}

/// What followers are told of a batch.
fn told(batch: &Batch) -> Arc<Batch> {
    let records = batch.records.clone();
    Arc::new(Batch { seq: batch.seq, now: batch.now, records, durable: batch.durable, ..Batch::default() })
}

/// Batches up to `done` are durable: their outputs leave.
fn release(
    underway: &mut VecDeque<Underway>,
    done: Committed,
    handle: &Handle,
    outlet: &mut dyn Outlet,
    manager: &Manager,
    clock: &dyn Clock,
) -> Result<(), RunError> {
    let seq = match done {
        Committed::Through { seq } => seq,
        Committed::Failed { error, .. } => return Err(RunError::Store(error)),
    };
    while underway.front().is_some_and(|first| first.seq <= seq) {
        let Some(first) = underway.pop_front() else { break };
        manager.tally().decided(&first.causes, clock.now());
        for output in first.outputs {
            match output {
                Output::Reply(ticket, reply) => handle.reply(ticket, reply),
                other => outlet.leave(other),
            }
        }
        if let Some(batch) = first.batch {
            let _ = handle.feed.send(batch);
        }
    }
    Ok(())
}
