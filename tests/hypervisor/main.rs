//! Every hypervisor is held to one contract, whatever is behind it.
//!
//! `contract.rs` holds the cases, `handovers.rs` those of moves to another plane; each of the other files brings a fixture and runs all cases on it, along with what only that
//! hypervisor promises. To add a hypervisor: implement [`contract::Fixture`] in a file of its own, and call
//! `contract_tests!` there.

#[macro_use]
mod contract;
mod handovers;
mod libvirt;
mod remote;
mod simulated;
