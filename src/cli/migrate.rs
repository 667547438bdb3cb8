//! `embot migrate`: move a guest to another host of the plane, or to another plane, and watch it move.

use super::context::Context;
use super::failure::Failure;
use super::waiting::wait;
use crate::api::commands::Migrate as Request;
use crate::api::migrations::DryRunView;
use crate::api::state::ReplyView;
use crate::model::Span;

/// Move a guest to another host of the plane, or to another plane with all that manages it.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot migrate web-3                    to the host that suits best\n  embot migrate web-3 --to host-c --wait and show how far it is\n  embot migrate web-3 --to site-b        to another plane, with its embots and what they know\n  embot migrate web-3 --to site-b --cold --force-after 2m\n  embot migrate web-3 --to site-b/host-9 --dry-run\n  embot plan cancel 17                   end it: the guest stays where it was"
)]
pub struct Migrate {
    /// The guest: its name, UUID, or a beginning only one guest has.
    vm: String,
    /// The host to move it to, or the plane, or both as PLANE/HOST; without it the planner chooses a host of this plane.
    #[arg(long, value_name = "HOST or PLANE")]
    to: Option<String>,
    /// Wait for the end, and show how far it is.
    #[arg(long)]
    wait: bool,
    /// Only say whether the planner would do it, and what it weighs.
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    /// Why, for the journal.
    #[arg(long)]
    reason: Option<String>,
    /// While it is off. To a host of this plane it must be; to another plane it is shut down first, and started there again.
    #[arg(long, conflicts_with = "live")]
    cold: bool,
    /// With `--cold` and another plane: switch it off if it still runs after this time (`30s`, `2m`); without it, never.
    #[arg(long, value_name = "SPAN", requires = "cold")]
    force_after: Option<Span>,
    /// While it runs (it must). Without either, as it is now.
    #[arg(long)]
    live: bool,
}

impl Migrate {
    /// Asks, and waits where that is wanted.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        let live = if self.cold { Some(false) } else { self.live.then_some(true) };
        let request = Request { vm: self.vm, to: self.to, live, force_after: self.force_after, reason: self.reason };
        if self.dry_run {
            let view: DryRunView = client.post("/v1/migrate/dry-run", &request).await?;
            context.show(&view, |_| tried(&view))?;
            return if view.possible { Ok(()) } else { Err(Failure::Said(1)) };
        }
        let reply: ReplyView = client.post("/v1/commands/migrate", &request).await?;
        match reply.actions.first().filter(|_| self.wait) {
            Some(action) => wait(context, &client, *action).await,
            None => context.show(&reply, |_| said(&reply)),
        }
    }
}

/// What a dry run found.
fn tried(view: &DryRunView) -> String {
    let what = super::screen::printable(&view.what);
    match &view.reason {
        Some(reason) => format!("would not: {what}\n  {}\n", super::screen::printable(reason)),
        None => {
            let weighed = view.weighed.iter().map(|line| format!("  {}\n", super::screen::printable(line)));
            format!("would: {what}\n{}", weighed.collect::<String>())
        }
    }
}

/// A reply, with where to look for its actions.
pub fn said(reply: &ReplyView) -> String {
    let more = match reply.actions.as_slice() {
        [] => String::new(),
        [one] => format!(" (action {one}: `embot explain {one}`)"),
        several => {
            let all: Vec<String> = several.iter().map(ToString::to_string).collect();
            format!(" (actions {})", all.join(", "))
        }
    };
    format!("{}{more}\n", super::screen::printable(&reply.message))
}

/// Shows a reply.
pub fn show(context: &Context, reply: &ReplyView) -> Result<(), Failure> {
    match context.output {
        super::context::Output::Table => context.print(&said(reply)),
        super::context::Output::Json | super::context::Output::Html => context.show(reply, |_| String::new()),
    }
}
