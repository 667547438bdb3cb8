//! `embot disarm` and `embot arm`: the kill switch.

use super::context::Context;
use super::failure::Failure;
use super::migrate::show;
use crate::api::commands::{Disarm as Request, Nothing};
use crate::api::state::ReplyView;

/// Start nothing new until `embot arm`, also across restarts. What runs goes on to its end.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  embot disarm\n  embot disarm --cancel      end what runs, too\n  embot arm")]
pub struct Disarm {
    /// Cancel what runs, too.
    #[arg(long)]
    cancel: bool,
}

impl Disarm {
    /// Gives the command.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let reply: ReplyView = context.client()?.post("/v1/commands/disarm", &Request { cancel: self.cancel }).await?;
        show(context, &reply)
    }
}

/// Act again after `embot disarm`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  embot arm")]
pub struct Arm {}

impl Arm {
    /// Gives the command.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let reply: ReplyView = context.client()?.post("/v1/commands/arm", &Nothing {}).await?;
        show(context, &reply)
    }
}
