//! Planes in virtual time: the daemon's own managers over one simulated fleet.
//!
//! Nothing of the planes is imitated but the wire between them: inputs, turns, batches, orders and journal are those of the
//! daemon. Only the hypervisor is the pure [`Fleet`](crate::hypervisor::simulated::Fleet), asked directly, and time jumps from
//! one thing that happens to the next. So a simulation with the same fleet, configuration and seed writes the same journal, to
//! the byte.
//!
//! ```text
//!   plane a: manager, store --orders--> hosts of a --+
//!       |  ^                                         +-- one fleet, one time
//!      messages, after the link's delay              |
//!       v  |                                         |
//!   plane b: manager, store --orders--> hosts of b --+
//! ```
//! Each plane may have a clock that is off, may die at any write to its store, and be started again on what the store holds. A
//! single plane is the simple case.

mod at_host;
pub mod cloudsim;
pub mod figures;
mod plane;
pub mod report;
pub mod scenario;
mod simulation;
pub mod traces;
pub mod world;

pub use plane::Plane;
pub use simulation::{Died, Simulation};
