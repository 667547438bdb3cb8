//! Sensors state facts: what hypervisors say becomes events, without judgement.
//!
//! `polling` and `poller` ask the hosts and pass on raw reports and notices, on threads of their own; `inventory` turns
//! those into events, in the manager's thread.

pub mod inventory;
mod poller;
mod polling;

#[cfg(test)]
mod tests;

pub use inventory::{Inventory, Sensed};
pub use polling::{Polling, Sensors};
