//! `embot plan`: what is open, what waits for an admin, what was refused and why; and the admin's answers.

use super::client::Client;
use super::context::Context;
use super::failure::Failure;
use super::screen::{Screen, Tone, printable};
use super::table::{Fit, table};
use crate::api::actions::{ActionFilter, ActionView, PlanView, RefusalView, RejectionView};
use crate::api::commands::{Reject, Settle};
use crate::api::state::ReplyView;
use crate::model::Span;
use serde::Serialize;

/// Show the plan; approve, reject or cancel its actions.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot plan                       what is open, what waits for you, what was refused\n  embot plan show 18               all about action 18, and what would come of it now\n  embot plan approve 18            carry it out, after all checks once more\n  embot plan reject 18 --reason 'not in office hours' --for 8h\n  embot plan list --state rejected who turned down what, and why\n  embot plan cancel 17             end an action that is planned or under way"
)]
pub struct Plan {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum What {
    /// Show the plan (also without a word), or the actions in some state.
    #[command(
        after_help = "Examples:\n  embot plan list\n  embot plan list --all                 what is over, too: done, rejected, withdrawn, ...\n  embot plan list --state advised --module relieve-hot-host\n  embot plan list --state failed --limit 10"
    )]
    List(List),
    /// Show all about an action, and what would come of it, were it approved now.
    #[command(after_help = "Example:\n  embot plan show 18")]
    Show {
        /// Its number.
        action: u64,
    },
    /// Carry out advised actions: each is checked once more, as things are now.
    #[command(
        after_help = "Examples:\n  embot plan approve 18 19\n  embot plan approve --module restart-crashed     all that it advises\n  embot plan approve 18 --reason CHG-2041"
    )]
    Approve(Choice),
    /// Turn advised actions down; their modules do not advise the same for their guests again for a while.
    #[command(
        after_help = "Examples:\n  embot plan reject 18 --reason 'a backup runs until six'\n  embot plan reject 18 --for 7d\n\n`embot plan rejections` shows what was rejected and until when, `embot plan lift 18` takes it back."
    )]
    Reject {
        #[command(flatten)]
        choice: Choice,
        /// Do not advise the same for the guest again for so long (an hour where it is not said).
        #[arg(long = "for", value_name = "SPAN")]
        rest: Option<Span>,
    },
    /// Show what was rejected and is not advised again yet: until when, by whom and why.
    #[command(after_help = "Example:\n  embot plan rejections")]
    Rejections,
    /// Take rejections back: their modules may advise the same again.
    #[command(
        after_help = "Examples:\n  embot plan lift 18                 18 is the action that was rejected\n  embot plan lift 18 --reason 'the backup is done'"
    )]
    Lift {
        /// Numbers of actions that were rejected.
        #[arg(required = true, value_name = "ACTION")]
        actions: Vec<u64>,
        /// Why; kept with the decision.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// End actions that are planned or under way; what was begun is undone where that is possible.
    #[command(after_help = "Example:\n  embot plan cancel 17")]
    Cancel {
        /// Numbers of actions.
        #[arg(required = true, value_name = "ACTION")]
        actions: Vec<u64>,
        /// Why; kept with the decision.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

#[derive(Debug, Clone, clap::Args)]
struct List {
    /// All actions at hand, those that are over too, the newest first.
    #[arg(long)]
    all: bool,
    /// Only actions in this state, the newest first: advised, planned, started, done, failed, cancelled, rejected, expired, withdrawn.
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Only actions on this guest, or to or from this host.
    #[arg(long, value_name = "ELEMENT")]
    element: Option<String>,
    /// Only actions of this module.
    #[arg(long, value_name = "MODULE")]
    module: Option<String>,
    /// At most so many (100 where it is not said).
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
}

/// Which advice an answer is for.
#[derive(Debug, Clone, clap::Args)]
struct Choice {
    /// Numbers of actions.
    #[arg(required_unless_present = "module", conflicts_with = "module", value_name = "ACTION")]
    actions: Vec<u64>,
    /// All that this module advises now.
    #[arg(long, value_name = "MODULE")]
    module: Option<String>,
    /// Why; kept with the decision.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Plan {
    /// Asks and shows.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self.what {
            Some(What::List(List { all, state, element, module, limit }))
                if all || state.is_some() || element.is_some() || module.is_some() || limit.is_some() =>
            {
                let filter = ActionFilter { state, element, module, limit };
                let actions: Vec<ActionView> = client.find("/v1/actions", &filter).await?;
                let none = "No action is like that.\n";
                context.show(&actions, |screen| match actions.is_empty() {
                    true => none.to_owned(),
                    false => action_table(&actions, screen),
                })
            }
            None | Some(What::List(_)) => {
                let plan: PlanView = client.get("/v1/plan").await?;
                context.show(&plan, |screen| render(&plan, screen))
            }
            Some(What::Show { action }) => super::explain::action(context, &client, action).await,
            Some(What::Approve(choice)) => {
                let actions = choice.actions(&client).await?;
                let requests = actions.into_iter().map(|action| (action, Settle { action, reason: choice.reason.clone() }));
                settle(context, &client, "approve", requests.collect()).await
            }
            Some(What::Reject { choice, rest }) => {
                let actions = choice.actions(&client).await?;
                let request = |action| Reject { action, reason: choice.reason.clone(), rest };
                settle(context, &client, "reject", actions.into_iter().map(|action| (action, request(action))).collect()).await
            }
            Some(What::Rejections) => {
                let rejections: Vec<RejectionView> = client.get("/v1/rejections").await?;
                context.show(&rejections, |screen| rejection_table(&rejections, screen))
            }
            Some(What::Lift { actions, reason }) => {
                let requests = actions.into_iter().map(|action| (action, Settle { action, reason: reason.clone() }));
                settle(context, &client, "lift", requests.collect()).await
            }
            Some(What::Cancel { actions, reason }) => {
                let requests = actions.into_iter().map(|action| (action, Settle { action, reason: reason.clone() }));
                settle(context, &client, "cancel", requests.collect()).await
            }
        }
    }
}

impl Choice {
    /// The actions that were named, or all that wait of the module.
    async fn actions(&self, client: &Client) -> Result<Vec<u64>, Failure> {
        let Some(module) = &self.module else { return Ok(self.actions.clone()) };
        let plan: PlanView = client.get("/v1/plan").await?;
        let of_module = plan.advised.iter().filter(|action| action.embot.is_some() && action.by == *module);
        let waiting: Vec<u64> = of_module.map(|action| action.id).collect();
        if waiting.is_empty() {
            return Err(Failure::no(format!("no advice of module {module} waits")).with_hint("`embot plan` shows what does"));
        }
        Ok(waiting)
    }
}

/// What came of an answer to one action.
#[derive(Debug, Serialize)]
struct Settled {
    action: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Gives the same answer to several actions. One that is refused does not keep the others from theirs.
async fn settle<R: Serialize>(context: &Context, client: &Client, what: &str, requests: Vec<(u64, R)>) -> Result<(), Failure> {
    let mut all = Vec::new();
    for (action, request) in requests {
        all.push(match client.post::<ReplyView>(&format!("/v1/commands/{what}"), &request).await {
            Ok(reply) => Settled { action, message: Some(reply.message), error: None },
            Err(Failure::No(problem)) => Settled { action, message: None, error: Some(problem.error) },
            Err(other) => return Err(other),
        });
    }
    context.show(&all, |screen| all.iter().map(|one| settled_line(one, screen)).collect())?;
    if all.iter().any(|one| one.error.is_some()) { Err(Failure::Said(1)) } else { Ok(()) }
}

fn settled_line(one: &Settled, screen: &Screen) -> String {
    match (&one.message, &one.error) {
        (Some(message), _) => format!("{}\n", printable(message)),
        (None, error) => {
            let word = screen.paint(Tone::Bad, "refused");
            format!("{word}: action {}: {}\n", one.action, printable(error.as_deref().unwrap_or("no reason was given")))
        }
    }
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
        let expires = action
            .expires_at
            .map(|at| format!("\nexpires after {}", at.0.since(action.state_at.0).rounded()))
            .unwrap_or_default();
        let ended = action.state_reason.as_ref().map(|reason| format!("\n{}: {reason}", action.state)).unwrap_or_default();
        let why = format!("because {} ({}){expires}{ended}", action.reason, action.by);
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

/// Rejections, each with who said no and why.
fn rejection_table(rejections: &[RejectionView], screen: &Screen) -> String {
    let Some(first) = rejections.first() else {
        return "Nothing that was rejected is kept from being advised again.\n".to_owned();
    };
    let row = |one: &RejectionView| {
        vec![one.action.to_string(), screen.date(one.until), one.module.clone(), format!("{} {}", one.verb, one.vm_name)]
    };
    let columns = [("ACTION", Fit::Right), ("UNTIL", Fit::Keep), ("MODULE", Fit::Keep), ("NOT ADVISED", Fit::Cut)];
    let table = table(&columns, rejections.iter().map(row).collect(), screen);
    let mut lines = table.lines();
    let mut text: String = lines.next().map(|heading| format!("{heading}\n")).unwrap_or_default();
    for (line, one) in lines.zip(rejections) {
        let why = one.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        text += &format!("{line}\n{}", indented(&format!("rejected by {} at {}{why}", one.by, screen.date(one.at)), screen));
    }
    let hint = format!("`embot plan lift {}` lets its module advise the same again.", first.action);
    text += &screen.paint(Tone::Faint, &hint);
    text += "\n";
    text
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
        text += &screen.paint(
            Tone::Faint,
            &format!("`embot plan show {first}` tells more; answer with `embot plan approve {first}` or `reject {first}`."),
        );
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

    #[test]
    fn rejections_as_people_see_them() {
        let rejection = RejectionView {
            action: 18,
            module: "restart-crashed".to_owned(),
            verb: "start".to_owned(),
            vm: "00000000-0000-0000-0000-000000000004".to_owned(),
            vm_name: "db-1".to_owned(),
            by: "ada".to_owned(),
            reason: Some("a backup runs until six".to_owned()),
            at: testing::NOW.into(),
            until: (testing::NOW + Span::hours(8)).into(),
        };
        let other = RejectionView { action: 21, reason: None, by: "bob".to_owned(), ..rejection.clone() };
        insta::assert_snapshot!(format!(
            "{}---\n{}",
            rejection_table(&[rejection, other], &plain(80)),
            rejection_table(&[], &plain(80))
        ));
    }
}
