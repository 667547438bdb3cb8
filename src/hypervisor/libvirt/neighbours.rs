//! The doors of all libvirt hosts of this process.
//!
//! One thing about a guest that moved can be done only at its target: setting the autostart flag. The order is the source's, so
//! the source looks up here how this process reaches the target. (The URI in the order is how the *source* reaches it.)

use super::session::Door;
use crate::model::HostId;
use std::sync::{Arc, Mutex, PoisonError, Weak};

static DOORS: Mutex<Vec<Weak<Door>>> = Mutex::new(Vec::new());

/// Makes a host's door known for as long as somebody holds it.
pub fn register(door: &Arc<Door>) {
    let mut doors = DOORS.lock().unwrap_or_else(PoisonError::into_inner);
    doors.retain(|known| known.strong_count() > 0);
    doors.push(Arc::downgrade(door));
}

/// The doors of a host. Several only where two planes in one process call different hosts alike, as tests do.
pub fn doors(host: &HostId) -> Vec<Arc<Door>> {
    let doors = DOORS.lock().unwrap_or_else(PoisonError::into_inner);
    doors.iter().filter_map(Weak::upgrade).filter(|door| door.host == *host).collect()
}
