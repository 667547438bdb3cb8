//! `embot run`: the daemon.

use super::context::Context;
use super::failure::Failure;

/// Run the daemon: watch the hosts, let policies decide, act.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot run --config plane.yaml\n  EMBOT_LOG=debug embot run          with more in the log\n\nStop it with Ctrl-C or SIGTERM: what runs on hypervisors goes on, and is found again at the next start."
)]
pub struct Run {}

impl Run {
    /// Runs until told to stop.
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        let config = context.config()?;
        crate::daemon::run(&config, |_| ()).map_err(|error| Failure::of(&error))
    }
}
