//! `embot run`: the daemon.

use super::context::Context;
use super::events::Events;
use super::failure::Failure;
use super::log;
use crate::daemon::{self, DaemonError};
use crate::error::Style;
use std::error::Error;

/// Run the daemon: watch the hosts, let policies decide, act.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot run --config plane.yaml\n  embot run --follow                 and show what happens, as `embot events --follow` does\n  EMBOT_LOG=debug embot run          with more in the log\n  embot run --log json               a JSON object a line, for machines\n\nEMBOT_LOG names the least level that is logged (error, warn, info, debug, trace; info is usual), or levels by part:\n`EMBOT_LOG=info,embot::migration=debug`. Under systemd time and level are left to the journal.\n\nSIGHUP has plane.yaml read again, as `embot reload` does. Stop it with Ctrl-C or SIGTERM: what runs on hypervisors goes on, and is found again at the next start."
)]
pub struct Run {
    /// Show what happens and what is decided, one line each.
    #[arg(short, long)]
    follow: bool,
    /// How the log on standard error is written; EMBOT_LOG says how much.
    #[arg(long, value_enum, default_value = "text")]
    log: log::Form,
}

impl Run {
    /// Runs until told to stop.
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        let config = context.config()?;
        // Where the log is followed on the same terminal, the usual is in the lines of events already.
        log::start(self.log, if self.follow { "warn" } else { "info" })?;
        let follower = context.clone().for_socket(&config.socket);
        let follow = self.follow;
        daemon::run(context.config_path(), &config, move |_| {
            if follow {
                tokio::spawn(async move {
                    if let Err(failure) = Events::following().run(&follower).await {
                        tracing::warn!("nothing more is shown: {}", failure.text(Style::Plain).trim_end());
                    }
                });
            }
        })
        .map_err(told)
    }
}

/// The error with its causes, in the terminal's words.
fn told(error: DaemonError) -> Failure {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    Failure::wrong(text)
}
