//! Shutting a guest down: it is asked, looked at until it is off, and switched off after a time where that is wanted.

use crate::clock::Clock;
use crate::hypervisor::{ErrorKind, HypervisorError};
use crate::model::{Span, Timestamp};

/// How often a guest that shuts down is looked at.
const LOOK: Span = Span(250);
/// A guest that is still booting does not hear the first request: ask again after this time.
const ASK_AGAIN: Span = Span::seconds(10);
/// A guest that may not be forced has this long to shut down.
pub const PATIENCE: Span = Span::minutes(10);

/// A guest, for whoever may shut it down. Each call checks anew that it still may be.
pub trait Asked {
    /// Its agent, where it has one that answers; else its power button.
    fn ask(&self) -> Result<(), HypervisorError>;

    /// Does it still run?
    fn runs(&self) -> Result<bool, HypervisorError>;

    /// Switches it off.
    fn switch_off(&self) -> Result<(), HypervisorError>;

    /// Does nobody wait for it any more?
    fn is_cancelled(&self) -> bool;
}

/// Shuts a guest down; `name` is for messages. Its time runs since `asked`.
pub fn shut_down(
    guest: &dyn Asked,
    name: &str,
    clock: &dyn Clock,
    force_after: Option<Span>,
    asked: Timestamp,
) -> Result<(), HypervisorError> {
    guest.ask()?;
    let mut asked_last = clock.now();
    loop {
        clock.sleep(LOOK);
        if !guest.runs()? {
            return Ok(());
        }
        if guest.is_cancelled() {
            let what = format!("shutting down guest {name} was cancelled; it was asked already and may still do it");
            return Err(HypervisorError::new(ErrorKind::Cancelled, what));
        }
        let now = clock.now();
        match force_after {
            Some(span) if now.since(asked) >= span => {
                // By itself in the last moment is as good.
                return guest.switch_off().or_else(|error| if matches!(guest.runs(), Ok(true)) { Err(error) } else { Ok(()) });
            }
            None if now.since(asked) >= PATIENCE => {
                let what = format!(
                    "guest {name} was asked to shut down and still runs after {PATIENCE}; it may have no agent and ignore its power button: give `force_after`, or destroy it"
                );
                return Err(HypervisorError::new(ErrorKind::TimedOut, what));
            }
            _ => {}
        }
        if now.since(asked_last) >= ASK_AGAIN {
            asked_last = now;
            // It may have gone since the last look; the next look tells.
            let _ = guest.ask();
        }
    }
}
