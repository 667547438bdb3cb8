//! `embot manage`: how far the plane may go with guests.

use super::context::Context;
use super::failure::Failure;
use super::migrate::show;
use crate::api::commands::Manage as Request;
use crate::api::state::ReplyView;
use crate::model::Mode;

/// How far the plane, or a module, may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ModeName {
    /// Watch and record only.
    Observe,
    /// Recommend; an admin approves each action.
    Advise,
    /// Act within permits and guardrails.
    Act,
}

impl From<ModeName> for Mode {
    fn from(mode: ModeName) -> Mode {
        match mode {
            ModeName::Observe => Mode::Observe,
            ModeName::Advise => Mode::Advise,
            ModeName::Act => Mode::Act,
        }
    }
}

/// Say how far the plane may go with guests. `advise` and `act` put the plane's mark on them.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot manage web-1 web-2 --mode act\n  embot manage --all --mode advise\n  embot manage db-1 --mode observe      leave it alone"
)]
pub struct Manage {
    /// The guests.
    #[arg(value_name = "VM", required_unless_present = "all", conflicts_with = "all")]
    vms: Vec<String>,
    /// All guests that the plane knows.
    #[arg(long)]
    all: bool,
    /// How far.
    #[arg(long, value_enum)]
    mode: ModeName,
}

impl Manage {
    /// Gives the command.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let request = Request { vms: self.vms, all: self.all, mode: self.mode.into() };
        let reply: ReplyView = context.client()?.post("/v1/commands/manage", &request).await?;
        show(context, &reply)
    }
}
