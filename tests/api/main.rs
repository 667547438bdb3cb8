//! The API over the network, as strangers, careless programs and the command line use it: against running daemons.

mod access;
mod certificates;
mod kit;
mod misuse;
mod slow;
mod streams;

// Daemons as processes, as the crash test has them.
#[path = "../crash/door.rs"]
mod door;
#[path = "../crash/process.rs"]
#[allow(dead_code, reason = "the crash test needs more of it")]
mod process;
