//! libvirt's event loop: one thread for the whole process, however many hosts there are.
//!
//! libvirt answers keepalive questions and calls event callbacks from this loop, and it wants the loop registered before the
//! first connection is opened. So every session comes through [`ensure`].

use std::sync::OnceLock;

/// Registers the loop and starts its thread, once; later calls return what the first one found.
pub fn ensure() -> Result<(), String> {
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    STARTED.get_or_init(start).clone()
}

fn start() -> Result<(), String> {
    // Without this libvirt prints every error to standard error, also those we handle.
    virt::error::clear_error_callback();
    virt::event::event_register_default_impl()
        .map_err(|error| format!("cannot register libvirt's event loop: {}", error.message()))?;
    let run = || {
        while let Ok(()) = virt::event::event_run_default_impl() {}
        // Reached only when poll(2) itself fails: nothing then notices a dead host, so say it loudly. Calls stay bounded by
        // their deadlines, and polls find by comparison what events would have told.
        tracing::error!("libvirt's event loop ended; events and keepalive are off until the daemon is restarted");
    };
    let thread = std::thread::Builder::new().name("libvirt-events".into()).spawn(run);
    thread.map(drop).map_err(|error| format!("cannot start libvirt's event thread: {error}"))
}
