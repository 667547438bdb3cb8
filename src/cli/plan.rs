//! `embot plan`: what is open, what waits for an admin, what was refused and why; and the admin's answers.

use super::client::Client;
use super::context::Context;
use super::failure::Failure;
use super::screen::{Screen, Tone, printable};
use super::table::{Fit, table};
use crate::api::actions::{ActionView, PlanView, RefusalView};
use crate::api::commands::Settle;
use crate::api::state::ReplyView;

/// Show the plan; approve, reject or cancel its actions.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot plan                what is open, what waits for you, what was refused\n  embot plan approve 18     carry out advised action 18\n  embot plan reject 18\n  embot plan cancel 17      end an action that is planned or under way"
)]
pub struct Plan {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum What {
    /// Show the plan (also without a word).
    List,
    /// Carry out advised actions.
    #[command(after_help = "Example:\n  embot plan approve 18 19")]
    Approve(Ids),
    /// Turn advised actions down.
    #[command(after_help = "Example:\n  embot plan reject 18")]
    Reject(Ids),
    /// End actions that are planned or under way; what was begun is undone where that is possible.
    #[command(after_help = "Example:\n  embot plan cancel 17")]
    Cancel(Ids),
}

#[derive(Debug, Clone, clap::Args)]
struct Ids {
    /// Numbers of actions.
    #[arg(required = true, value_name = "ACTION")]
    actions: Vec<u64>,
}

impl Plan {
    /// Asks and shows.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self.what {
            None | Some(What::List) => {
                let plan: PlanView = client.get("/v1/plan").await?;
                context.show(&plan, |screen| render(&plan, screen))
            }
            Some(What::Approve(ids)) => settle(context, &client, "approve", &ids).await,
            Some(What::Reject(ids)) => settle(context, &client, "reject", &ids).await,
            Some(What::Cancel(ids)) => settle(context, &client, "cancel", &ids).await,
        }
    }
}

async fn settle(context: &Context, client: &Client, what: &str, ids: &Ids) -> Result<(), Failure> {
    for action in &ids.actions {
        let reply: ReplyView = client.post(&format!("/v1/commands/{what}"), &Settle { action: *action }).await?;
        context.show(&reply, |_| format!("{}\n", printable(&reply.message)))?;
    }
    Ok(())
}

/// An action's state, with its progress.
pub fn state(action: &ActionView) -> String {
    let word = if action.cancelling.is_some() { "cancelling" } else { &action.state };
    match action.progress.filter(|_| action.state == "started") {
        Some(progress) if progress.total_bytes > 0 => {
            let share = progress.done_bytes as f64 / progress.total_bytes as f64;
            format!("{word}, {:.0} %", share.clamp(0.0, 1.0) * 100.0)
        }
        _ => word.to_owned(),
    }
}

/// Actions as a table, each with its reason in full on the lines below: an admin who is to approve one must read it.
pub fn action_table(actions: &[ActionView], screen: &Screen) -> String {
    let row =
        |action: &ActionView| vec![action.id.to_string(), screen.time(action.state_at), state(action), action.what.clone()];
    let columns = [("ACTION", Fit::Right), ("SINCE", Fit::Keep), ("STATE", Fit::State), ("WHAT", Fit::Cut)];
    let table = table(&columns, actions.iter().map(row).collect(), screen);
    let mut lines = table.lines();
    let mut text: String = lines.next().map(|heading| format!("{heading}\n")).unwrap_or_default();
    for (line, action) in lines.zip(actions) {
        let ended = action.state_reason.as_ref().map(|reason| format!("\n{}: {reason}", action.state)).unwrap_or_default();
        let why = format!("because {} ({}){ended}", action.reason, action.by);
        text += &format!("{line}\n{}", indented(&why, screen));
    }
    text
}

fn indented(text: &str, screen: &Screen) -> String {
    super::table::pairs(&[("", text.to_owned())], screen)
}

/// Refusals, each with its reason in full: the reason is the point of showing them.
pub fn refusal_table(refusals: &[RefusalView], screen: &Screen) -> String {
    let mut rows = Vec::new();
    for refusal in refusals {
        let times = if refusal.times > 1 { format!(", {} times", refusal.times) } else { String::new() };
        let at = refusal.at.map(|at| screen.time(at)).unwrap_or_default();
        let number = refusal.number.map(|number| format!("r{number} ")).unwrap_or_default();
        rows.push((at, format!("{number}{} ({}{times})\n{}: {}", refusal.what, refusal.by, refusal.guardrail, refusal.reason)));
    }
    let rows: Vec<(&str, String)> = rows.iter().map(|(at, text)| (at.as_str(), text.clone())).collect();
    if rows.is_empty() {
        return String::new();
    }
    format!("{}\n{}", screen.paint(Tone::Strong, "REFUSED"), super::table::pairs(&rows, screen))
}

/// So many refusals are shown before the rest is only counted.
const REFUSALS: usize = 10;

fn render(plan: &PlanView, screen: &Screen) -> String {
    let mut text = String::new();
    if !plan.armed {
        text += &screen.paint(Tone::Bad, "The plane is disarmed: it starts nothing new until `embot arm`.");
        text += "\n\n";
    }
    if plan.open.is_empty() && plan.advised.is_empty() {
        text += "Nothing is planned or under way, and nothing waits for an answer.\n";
    }
    text += &action_table(&plan.open, screen);
    if !plan.advised.is_empty() {
        if !plan.open.is_empty() {
            text += "\n";
        }
        text += &action_table(&plan.advised, screen);
        let first = plan.advised[0].id;
        text +=
            &screen.paint(Tone::Faint, &format!("Answer with `embot plan approve {first}` or `embot plan reject {first}`."));
        text += "\n";
    }
    for violation in &plan.violations {
        let hard = if violation.hard { "hard" } else { "soft" };
        text +=
            &format!("\nrule {} ({hard}, {}) is broken by {}\n", violation.rule, violation.kind, violation.guests.join(", "));
    }
    if !plan.refused.is_empty() {
        text += "\n";
        text += &refusal_table(&plan.refused[..plan.refused.len().min(REFUSALS)], screen);
        if plan.refused.len() > REFUSALS {
            text += &format!("and {} more (`--output json` has all)\n", plan.refused.len() - REFUSALS);
        }
        if let Some(number) = plan.refused.iter().find_map(|refusal| refusal.number) {
            text += &screen.paint(Tone::Faint, &format!("`embot explain r{number}` tells what led to it."));
            text += "\n";
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{actions, testing};
    use crate::cli::screen::plain;

    #[test]
    fn the_plan_as_people_see_it() {
        let mut plan = actions::plan(&testing::manager());
        plan.open.push(ActionView { cancelling: Some("ada".to_owned()), ..plan.open[0].clone() });
        let refused = RefusalView::new(Some(testing::NOW), &testing::refusal(), 3, &testing::world());
        plan.refused = vec![RefusalView { number: Some(4), ..refused }];
        let full = [render(&plan, &plain(80)), render(&plan, &plain(140))];
        plan.open.clear();
        plan.advised.clear();
        plan.refused.clear();
        plan.armed = false;
        insta::assert_snapshot!(format!("{}---\n{}---\n{}", full[0], full[1], render(&plan, &plain(80))));
    }
}
