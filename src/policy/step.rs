//! One step: what goes in, what comes out.

use crate::error::Diagnostic;
use crate::model::{ActionKind, ElementId, EmbotId, Event, Place, Read, Span, Timestamp, Value, Verdict};
use crate::usage::Metric;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// What a step is taken on.
#[derive(Debug, Clone, Copy)]
pub struct StepInput<'a> {
    /// Whose step.
    pub embot: &'a EmbotId,
    /// What happened.
    pub event: &'a Event,
    /// The present instant.
    pub now: Timestamp,
}

/// A proposal before it is the embot's: the engine knows neither its cause nor its maker.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// What.
    pub kind: ActionKind,
    /// Why, in the script's words.
    pub reason: Arc<str>,
    /// Where in the script.
    pub place: Place,
}

/// What becomes of an embot's timers.
#[derive(Debug, Clone, PartialEq)]
pub enum TimerChange {
    /// One is set; one of the same name is replaced.
    Set {
        /// Its name.
        name: Arc<str>,
        /// When it is due.
        due: Timestamp,
        /// What `on_timer` finds in `event.content`.
        content: Value,
    },
    /// One is taken back.
    Cancel {
        /// Its name.
        name: Arc<str>,
    },
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Step {
    /// What is proposed, in the script's order.
    pub proposals: Vec<Draft>,
    /// What was read, the first and the latest of them; empty where nothing was proposed.
    pub reads: Vec<Read>,
    /// Timers set and cancelled, in the script's order.
    pub timers: Vec<TimerChange>,
    /// Messages sent: channel and content, in the script's order.
    pub messages: Vec<(Arc<str>, Value)>,
    /// What was printed.
    pub logs: Vec<String>,
    /// The answer to an offer, and where the script gave it.
    pub verdict: Option<(Verdict, Place)>,
    /// Did the state change?
    pub changed: bool,
}

/// Why a step came to nothing. The state is as before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// What went wrong, where in the script.
    pub error: Diagnostic,
    /// The wall clock ended it: a replay may not meet the same end.
    pub deadline: bool,
}

/// Reads kept: so many of the first, and so many of the latest.
const READS: usize = 32;

/// What a step has gathered so far. One for the engine, used again and again, so that steps that gather nothing allocate
/// nothing.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    pub(super) now: Timestamp,
    pub(super) file: Arc<str>,
    pub(super) proposals: Vec<Draft>,
    pub(super) timers: Vec<TimerChange>,
    pub(super) messages: Vec<(Arc<str>, Value)>,
    pub(super) logs: Vec<String>,
    pub(super) verdict: Option<(Verdict, Place)>,
    notes: Vec<Note>,
    noted: usize,
    seed: Option<(EmbotId, u64)>,
    chance: Option<ChaCha8Rng>,
}

/// A value read, in a form that costs little while nobody wants to know.
#[derive(Debug, Clone, PartialEq)]
struct Note {
    element: ElementId,
    what: What,
    value: Value,
}

/// What was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum What {
    /// A property.
    Property(&'static str),
    /// A label.
    Label(String),
    /// A property of a peer.
    Peer(Arc<str>, &'static str),
    /// A figure of a usage window: its name, what it was asked beside the span, the span.
    Usage(Metric, &'static str, Option<f64>, Option<Span>),
}

impl Sheet {
    /// Begins a step; `None` of an embot: a policy is being loaded.
    pub(super) fn begin(&mut self, file: &Arc<str>, input: Option<StepInput>) {
        if !Arc::ptr_eq(&self.file, file) {
            self.file = file.clone();
        }
        self.now = input.map_or(Timestamp::default(), |input| input.now);
        self.seed = input.map(|input| (input.embot.clone(), input.event.seq));
        self.restart();
    }

    /// Begins the same step anew.
    pub(super) fn restart(&mut self) {
        self.proposals.clear();
        self.timers.clear();
        self.messages.clear();
        self.logs.clear();
        self.verdict = None;
        self.notes.clear();
        self.noted = 0;
        self.chance = None;
    }

    /// Remembers that a value was read.
    pub(super) fn note(&mut self, element: ElementId, what: What, value: Value) {
        let note = Note { element, what, value };
        if self.notes.len() < 2 * READS {
            self.notes.push(note);
        } else {
            let oldest = READS + (self.noted - 2 * READS) % READS;
            self.notes[oldest] = note;
        }
        self.noted += 1;
    }

    /// What was read, in order and each once.
    pub(super) fn reads(&mut self) -> Vec<Read> {
        if self.noted > 2 * READS {
            self.notes[READS..].rotate_left((self.noted - 2 * READS) % READS);
        }
        let mut reads: Vec<Read> = Vec::with_capacity(self.notes.len());
        for note in self.notes.drain(..) {
            let what = match note.what {
                What::Property(name) => name.into(),
                What::Label(key) => format!("label({key})").into(),
                What::Peer(peer, name) => format!("peer({peer}).{name}").into(),
                What::Usage(metric, figure, argument, span) => {
                    let argument = argument.map(|argument| argument.to_string());
                    let span = span.map(|span| span.to_string());
                    let arguments: Vec<String> = argument.into_iter().chain(span).collect();
                    format!("usage({metric}).{figure}({})", arguments.join(", ")).into()
                }
            };
            let read = Read { element: note.element, what, value: note.value };
            if !reads.contains(&read) {
                reads.push(read);
            }
        }
        reads
    }

    /// A number from 0 to 1, the same for the same embot, event and number of calls before. `None` while loading.
    pub(super) fn chance(&mut self) -> Option<f64> {
        let (embot, seq) = self.seed.as_ref()?;
        let chance = self.chance.get_or_insert_with(|| {
            let mut hash = Sha256::new();
            hash.update(embot.to_string());
            hash.update([0]);
            hash.update(seq.to_le_bytes());
            ChaCha8Rng::from_seed(hash.finalize().into())
        });
        Some((chance.next_u64() >> 11) as f64 / (1_u64 << 53) as f64)
    }

    /// Is a policy being loaded, so that there is neither time nor world?
    pub(super) fn is_loading(&self) -> bool {
        self.seed.is_none()
    }
}
