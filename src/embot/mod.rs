//! Embots: autonomic elements made from management modules.

pub mod check;
mod effective;
pub mod manifest;
mod reading;

pub use effective::effective;
pub use manifest::{Cover, Manifest};
pub use reading::SHAPE;
