//! `embot reload`: has the daemon read its configuration again.

use super::context::Context;
use super::failure::Failure;
use crate::api::commands::Nothing;
use crate::api::reload::ReloadView;

/// Have the daemon read plane.yaml again, as SIGHUP does. A file with errors changes nothing.
///
/// Guardrails, rules, the folders of modules and policies, `adopt` and `new_modules` are taken over at once; whatever else has
/// changed is named, and is in force after a restart.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  embot check && embot reload\n  embot reload --output json")]
pub struct Reload {}

impl Reload {
    /// Gives the command.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let view: ReloadView = context.client()?.post("/v1/commands/reload", &Nothing {}).await?;
        context.show(&view, |_| format!("{}\n", view.message))
    }
}
