//! A simulated fleet of hosts and guests.
//!
//! [`Fleet`] is the fleet itself, pure and in virtual time: the simulator drives it directly. [`LiveFleet`] lets it run in real
//! time within this process; [`serve`] does the same as a process of its own, which outlives a killed daemon, and
//! [`RemoteFleet`] is the way to it. Either gives a [`SimulatedHost`], a [`super::Hypervisor`], for each host.

mod address;
mod client;
mod contention;
mod effects;
mod fault;
mod fleet;
mod fleet_plan;
mod host;
mod live;
mod load;
mod meter;
mod migration;
pub mod reading;
mod server;
mod wire;

pub use address::{Address, AddressError};
pub use client::RemoteFleet;

pub use effects::{Effect, LogLine, Outcome, Run, Step};
pub use fault::{Chances, Fault, Mishap, Trouble};
pub use fleet::{Begun, Changes, Fleet, FleetError, Guest, JobId, Machine, OrderState, Seen};
pub use fleet_plan::{FaultName, FaultPlan, FleetPlan, GuestPlan, HeatPlan, HostPlan, LoadPlan, Times};
pub use host::SimulatedHost;
pub use live::{LiveFleet, LiveOptions};
pub use load::{Recorded, Shape, Sine, Steps, Trace, Walk};
pub use meter::{Figures, Meter, Move, Phase, Point, Standing};
pub use server::{ServeError, ServeOptions, Server, serve};
