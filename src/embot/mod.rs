//! Embots: autonomic elements made from management modules.

pub mod check;
pub mod manifest;
mod reading;

pub use manifest::{Cover, Manifest};
pub use reading::SHAPE;
