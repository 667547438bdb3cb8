//! `embot notify`: tell admins something, the way modules do.

use super::context::Context;
use super::failure::Failure;
use super::waiting::wait;
use crate::api::commands::Notify as Request;
use crate::api::state::ReplyView;
use crate::model::Level;

/// Tell admins something, over the channels under `notify` in plane.yaml: the way to try them.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot notify 'a trial' --level alarm        does it reach me at night?\n  embot notify 'host-a gets a new disk at ten'"
)]
pub struct Notify {
    /// What.
    text: String,
    /// How loud.
    #[arg(long, value_enum, default_value = "warning")]
    level: Loudness,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Loudness {
    /// Good to know.
    Info,
    /// Somebody should look.
    Warning,
    /// Somebody must look now.
    Alarm,
}

impl Notify {
    /// Gives the command, and waits until it was told.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let level = match self.level {
            Loudness::Info => Level::Info,
            Loudness::Warning => Level::Warning,
            Loudness::Alarm => Level::Alarm,
        };
        let client = context.client()?;
        let reply: ReplyView = client.post("/v1/commands/notify", &Request { level, text: self.text }).await?;
        match reply.actions.first() {
            Some(action) => wait(context, &client, *action).await,
            None => super::migrate::show(context, &reply),
        }
    }
}
