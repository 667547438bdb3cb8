//! Policies: what admins write in Rhai, compiled, checked and called.
//!
//! An [`Engine`] compiles a script to a [`Policy`], binds it to a module's settings ([`Bound`]), and takes steps with it: an
//! event and the live model go in, a [`Step`] with proposals comes out. What it guarantees, whatever the script does:
//!
//! - A script can look, compute, remember and propose. It has no I/O, no clock but the instant it is given, and no chance but
//!   the seeded one: equal inputs give equal steps.
//! - Operations, native work, sizes, depth and, as the last resort, time are bounded ([`Limits`]).
//! - A step that fails (error, limit, panic of a native function, state that cannot be kept) leaves the state as it was and
//!   says where and why ([`Fault`]). Nothing of it reaches another policy.
//! - State is plain data and converts exactly to and from [`crate::model::Value`] ([`State`]).
//!
//! The engine is not `Send`: it lives in the one thread that steps embots, next to the model it looks at. Views in scripts
//! are names of elements; each property is looked up when it is read, so that a step costs what it looks at.
//!
//! Of the whole program only this folder names `rhai`.

pub mod check;
mod context;
mod coverage;
mod engine;
mod error;
mod functions;
mod limits;
mod runtime;
pub mod scene;
mod script;
mod state;
mod step;
pub mod suite;
pub mod surface;
#[cfg(test)]
mod testing;
mod witness;

pub use check::Facts;
pub use coverage::Lines;
pub use engine::{Bound, Engine, Inspection};
pub use limits::Limits;
pub use script::Policy;
pub use state::State;
pub use step::{Draft, Fault, Step, StepInput, TimerChange};
