//! Embots: autonomic elements made from management modules.
//!
//! An admin deploys a *module* ([`Manifest`]); loading it makes *embots* ([`Embot`]), by default one for each element the
//! module covers; the [`Roster`] knows who hears of what. An embot takes one step for each event it hears.

pub mod check;
mod effective;
pub mod manifest;
mod module;
pub mod package;
mod reading;
mod roster;
mod shipped;
mod step;

pub use effective::effective;
pub use manifest::{Cover, Manifest};
pub use module::Module;
pub use reading::{SHAPE, VERBS};
pub use roster::Roster;
pub use shipped::SHIPPED;
pub use step::{Embot, FAULTS, FORGIVEN_AFTER, Stepped};
