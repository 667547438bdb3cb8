//! The map of the house, in the order data flows.
#![deny(missing_docs)]

pub mod clock;
// pub mod embot;
pub mod error;
pub mod hypervisor;
pub mod model;
pub mod plan;
pub mod queue;
pub mod sensors;
pub mod usage;
