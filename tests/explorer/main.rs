//! Every way in which a handover can go.
//!
//! The two machines, each with a plane around it, a link and two hypervisors are one state; everything that can happen next
//! leads to the next ones. All states are visited, the nearest first, with every fault at every place where it can strike, and
//! then every other fault after it. In each state it is checked that at most one plane acts and one guest runs; where nothing
//! happens any more, that everything came out right; and that from everywhere such an end is reached without another fault.
//!
//! `EMBOT_EXPLORER_FAULTS=3` goes deeper; `EMBOT_EXPLORER_STATES` bounds how far.

mod chart;
mod hosts;
mod intern;
mod planes;
mod search;
mod steps;
mod world;

use embot::migration::{ResumeBy, Way};
use planes::Setting;
use search::explore;

fn faults(usual: u8) -> u8 {
    std::env::var("EMBOT_EXPLORER_FAULTS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn setting(name: &'static str) -> Setting {
    Setting { name, way: Way::Live, resume: ResumeBy::Manager, runs: true, lacks: false, denies: false }
}

#[test]
fn live_resumed_by_the_manager() {
    explore(&setting("live"), faults(2));
}

#[test]
fn live_resumed_by_the_hypervisor() {
    explore(&Setting { resume: ResumeBy::Hypervisor, ..setting("live, resumed by the hypervisor") }, faults(2));
}

#[test]
fn cold() {
    explore(&Setting { way: Way::Cold, runs: false, ..setting("cold") }, faults(2));
}

#[test]
fn cold_of_a_guest_that_runs() {
    explore(&Setting { way: Way::Cold, ..setting("cold, of a guest that runs") }, faults(2));
}

#[test]
fn with_modules_that_are_lacking() {
    explore(&Setting { lacks: true, ..setting("live, modules lacking") }, faults(2));
}

#[test]
fn denied() {
    explore(&Setting { denies: true, ..setting("denied") }, faults(2));
}
