//! `embot run`: the daemon.

use super::context::Context;
use super::events::Events;
use super::failure::Failure;
use crate::daemon::{self, DaemonError};
use crate::error::Style;
use std::error::Error;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Run the daemon: watch the hosts, let policies decide, act.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot run --config plane.yaml\n  embot run --follow                 and show what happens, as `embot events --follow` does\n  EMBOT_LOG=debug embot run          with more in the log\n\nStop it with Ctrl-C or SIGTERM: what runs on hypervisors goes on, and is found again at the next start."
)]
pub struct Run {
    /// Show what happens and what is decided, one line each.
    #[arg(short, long)]
    follow: bool,
    /// How the log on standard error is written.
    #[arg(long, value_enum, default_value = "text")]
    log: Log,
}

/// Forms of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Log {
    /// Lines for people.
    Text,
    /// A JSON object a line.
    Json,
}

impl Run {
    /// Runs until told to stop.
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        let config = context.config()?;
        self.start_log();
        let follower = context.clone().for_socket(&config.socket);
        let follow = self.follow;
        daemon::run(&config, move |_| {
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

    fn start_log(&self) {
        // Where the log is followed on the same terminal, the usual is in the lines of events already.
        let usual = if self.follow { "warn" } else { "info" };
        let filter = EnvFilter::try_from_env("EMBOT_LOG").unwrap_or_else(|_| EnvFilter::new(usual));
        // Colours are for eyes, not for files.
        let colours = std::io::stderr().is_terminal();
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
        let log = log.with_target(false);
        // The only subscriber of the process; a second attempt could only come from a test.
        let _ = match self.log {
            Log::Text => log.try_init(),
            Log::Json => log.json().try_init(),
        };
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
