//! The map of the house, in the order data flows.
#![deny(missing_docs)]

pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod effectors;
pub mod embot;
pub mod error;
pub mod hypervisor;
pub mod manager;
pub mod migration;
pub mod model;
pub mod pki;
pub mod plan;
pub mod policy;
pub mod process;
pub mod queue;
pub mod sensors;
pub mod simulate;
pub mod store;
pub mod testing;
pub mod traces;
pub mod usage;
pub mod yaml;
