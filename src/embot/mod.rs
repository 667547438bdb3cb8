//! Embots: autonomic elements made from management modules.

pub mod manifest;

pub use manifest::{Cover, Manifest};
