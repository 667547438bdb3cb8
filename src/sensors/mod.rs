//! Sensors state facts: what hypervisors say becomes events, without judgement.

pub mod inventory;

pub use inventory::{Inventory, Sensed};
