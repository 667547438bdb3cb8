//! What systemd is told: that the daemon is ready, that it reloads or stops, and that it is alive. Without systemd nothing happens.

use crate::manager::Handle;
use sd_notify::NotifyState;
use std::time::Duration;

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("systemd does not hear this daemon: {error}");
    }
}

/// The API answers.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is being read again; [`ready`] follows.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!("no monotonic time: {error}"),
    }
}

/// The daemon stops.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says that the daemon is alive for as long as its manager answers, where systemd wants to know. A manager that hangs is
/// silence, and systemd starts the daemon anew.
pub(super) async fn watch(handle: Handle) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    let interval = (patience / 4).max(Duration::from_millis(10));
    loop {
        if let Ok(Ok(())) = tokio::time::timeout(patience / 2, handle.ask(|_| ())).await {
            tell(&[NotifyState::Watchdog]);
        }
        tokio::time::sleep(interval).await;
    }
}
