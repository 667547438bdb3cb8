//! `embot maintenance`: take a host out of service, or back.

use super::context::Context;
use super::failure::Failure;
use super::migrate::show;
use crate::api::commands::Maintenance as Request;
use crate::api::state::ReplyView;

/// Take a host out of service, or back.
///
/// While it is in maintenance, nothing is placed there. A module such as the shipped `maintenance` moves away what runs there,
/// and back when it returns.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot maintenance host-a on\n  embot events --follow            watch it being emptied\n  embot maintenance host-a off"
)]
pub struct Maintenance {
    /// The host.
    host: String,
    /// Out of service, or back.
    #[arg(value_enum)]
    state: Switch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Switch {
    /// Out of service.
    On,
    /// Back in service.
    Off,
}

impl Maintenance {
    /// Gives the command.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let request = Request { host: self.host, on: self.state == Switch::On };
        let reply: ReplyView = context.client()?.post("/v1/commands/maintenance", &request).await?;
        show(context, &reply)
    }
}
