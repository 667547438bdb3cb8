//! `embot start`, `shutdown`, `suspend`, ...: what an admin does to one guest.

use super::context::Context;
use super::failure::Failure;
use super::migrate::show;
use super::waiting::wait;
use crate::api::commands::{
    Guest as Request, SetMemory as MemoryRequest, SetVcpus as VcpusRequest, Shutdown as ShutdownRequest,
};
use crate::api::state::ReplyView;
use crate::model::Span;

/// The guest, and why.
#[derive(Debug, Clone, clap::Args)]
pub struct Guest {
    /// The guest: its name, UUID, or a beginning only one guest has.
    vm: String,
    /// Why, for the journal.
    #[arg(long)]
    reason: Option<String>,
    /// Wait for the end.
    #[arg(long)]
    wait: bool,
}

/// Shut a guest down.
#[derive(Debug, Clone, clap::Args)]
pub struct Shutdown {
    #[command(flatten)]
    guest: Guest,
    /// Switch it off if it still runs after this time (`30s`, `2m`); without it, never.
    #[arg(long, value_name = "SPAN")]
    force_after: Option<Span>,
}

/// Change a guest's processors.
#[derive(Debug, Clone, clap::Args)]
pub struct SetVcpus {
    #[command(flatten)]
    guest: Guest,
    /// To how many.
    vcpus: u32,
}

/// Change a guest's memory.
#[derive(Debug, Clone, clap::Args)]
pub struct SetMemory {
    #[command(flatten)]
    guest: Guest,
    /// To how much, in MiB.
    memory_mib: u64,
}

impl Guest {
    /// Gives the command with this name (`start`, `suspend`, ...).
    pub async fn run(self, verb: &str, context: &Context) -> Result<(), Failure> {
        let request = Request { vm: self.vm.clone(), reason: self.reason.clone() };
        self.give(verb, &request, context).await
    }

    async fn give(&self, verb: &str, request: &impl serde::Serialize, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        let reply: ReplyView = client.post(&format!("/v1/commands/{verb}"), request).await?;
        match reply.actions.first().filter(|_| self.wait) {
            Some(action) => wait(context, &client, *action).await,
            None => show(context, &reply),
        }
    }
}

impl Shutdown {
    /// Gives the command.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let guest = self.guest;
        let request = ShutdownRequest { vm: guest.vm.clone(), force_after: self.force_after, reason: guest.reason.clone() };
        guest.give("shutdown", &request, context).await
    }
}

impl SetVcpus {
    /// Gives the command.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let guest = self.guest;
        let request = VcpusRequest { vm: guest.vm.clone(), vcpus: self.vcpus, reason: guest.reason.clone() };
        guest.give("set_vcpus", &request, context).await
    }
}

impl SetMemory {
    /// Gives the command with this name (`set_memory` or `balloon`).
    pub async fn run(self, verb: &str, context: &Context) -> Result<(), Failure> {
        let guest = self.guest;
        let request = MemoryRequest { vm: guest.vm.clone(), memory_mib: self.memory_mib, reason: guest.reason.clone() };
        guest.give(verb, &request, context).await
    }
}
