//! The compatibility world: CloudSim 3.0.3's model of a data centre in which the literature compares consolidation policies
//! (Beloglazov and Buyya 2012), followed to the bit, so that policies can be held against published figures.
//!
//! 800 hosts of two kinds, and guests that follow a day of recorded CPU use, 288 samples five minutes apart. The manager looks
//! at every sample (a *tick*) and may move guests; a move takes as long as the guest's memory needs over half of a gigabit link.
//!
//! ```text
//!   Day      next_tick: finishes moves, updates all hosts, adds energy, forgets idle guests
//!    |
//!   Cluster  what is so: hosts and guests, to be looked at
//!    |
//!   Draft    what would be so: a decision tries moves, takes them back, and reads them off
//!    |
//!   Day      start: begins the moves in their order; in the end, the figures
//! ```
//! The world is `day`, `placement`, `cluster`, `host`, `metrics`; what decides is `native` over `draft`, or modules of
//! policies over the same (`plane`). They meet in [`Cluster`] and [`Move`] only, so that something else can decide.
//!
//! # What is wrong with it
//!
//! The model has defects that set its figures. Here they are kept, all of them, and nowhere else:
//!
//! - A guest that wants nothing at all at an update is gone for the rest of the day (`Day::forget_idle`).
//! - Memory and the network bind when the day begins, and never again (`placement`; [`Setup::memory_mb`] mends it).
//! - When the day begins, guests that were placed already count as wanting nothing in the test for overload, but as having
//!   all of their MIPS otherwise (`placement`).
//! - Which trace goes with which size of guest follows from the order of the traces, in four blocks (`SIZES`).
//! - A host that receives a guest counts as violating its promise for as long as the move takes, since the guest asks for
//!   all there and is given a tenth (`Day::refresh`). So may the source, by rounding.
//! - Waking a host is free and takes no time: until its next update it draws nothing, and placement counts its idle watts as
//!   spent already (`Day::update`, `Draft::power_increase`). A host that is left draws half of its idle watts until then.
//! - The watts that a move adds are counted from the last update on, without what has been moved there tentatively.
//! - The first five minutes are free, and after the last sample nothing is counted any more.
//! - A host is emptied only if all its guests find a place elsewhere, but guests that are on their way there by the same
//!   decision are moved on, so that a guest can be moved twice at one instant, and both count.
//! - Every host counts as in use before the first update, so those that are not have a shutdown at once (`metrics`).
//! - Robust local regression (Lrr) is local regression (Lr), and neither is local: it is a plain line through ten samples.

mod cluster;
mod day;
mod draft;
mod host;
mod metrics;
pub mod native;
mod placement;
mod plane;
#[cfg(test)]
mod tests;
mod trial;

pub use cluster::{Cluster, Guest, Host};
pub use day::{Day, Illegal, Move, SAMPLE_S, SAMPLES, Unfit};
pub use draft::Draft;
pub use host::HostKind;
pub use placement::Placement;
pub use plane::Experiment;

/// The hosts of a day.
const HOSTS: usize = 800;

/// The sizes of guests, MIPS and MB of memory: the first quarter of the traces has the first size, and so on.
const SIZES: [(f64, f64); 4] = [(2_500.0, 870.0), (2_000.0, 1_740.0), (1_000.0, 1_740.0), (500.0, 613.0)];

/// How the world differs from experiment to experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct Setup {
    /// Where guests are when the day begins.
    pub placement: Placement,
    /// What hosts draw.
    pub power: Power,
    /// The memory of a host once the day has begun; `None`: memory does not bind. (When it begins, a host has 4,096 MB.)
    pub memory_mb: Option<f64>,
}

/// What hosts draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// All of them, all day, as under full load.
    AlwaysFull,
    /// By what is used; nothing where nothing is.
    ByUse,
}
