//! What a plane's link does to those who should not speak to it, or speak as they should not: each is refused with a reason,
//! the identity that was presented is on record, and good peers are served on.

mod conversation;
mod daemon;
mod decoders;
mod frames;
mod identity;
mod limits;
mod rotation;
mod seeds;
mod world;

// Daemons as processes, as the crash test has them.
#[path = "../crash/door.rs"]
mod door;
#[path = "../crash/fleet.rs"]
#[allow(dead_code, reason = "the crash test needs more of it")]
mod fleet;
#[path = "../crash/pair.rs"]
#[allow(dead_code, reason = "the crash test needs more of it")]
mod pair;
#[path = "../crash/plane.rs"]
#[allow(dead_code, reason = "the crash test needs more of it")]
mod plane;
#[path = "../crash/process.rs"]
#[allow(dead_code, reason = "the crash test needs more of it")]
mod process;
