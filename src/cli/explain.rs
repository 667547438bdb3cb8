//! `embot explain`: the whole chain behind an action, from the event to the result.

use super::client::{Client, segment};
use super::context::Context;
use super::failure::Failure;
use super::plan::{action_table, refusal_table, state};
use super::screen::{Screen, Tone, cut, printable, tone};
use super::table::pairs;
use crate::api::actions::RefusalView;
use crate::api::elements::ElementDetail;
use crate::api::explain::{Explanation, PlaceView, ReadView, RefusalExplanation};
use crate::api::words;

/// Explain an action: event, policy and line, values read, what was refused, what the planner weighed, result.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot explain 17          action 17\n  embot explain r4          refusal 4\n  embot explain web-3       the latest action on a guest, and what was refused\n  embot explain host-a      the same for moves to or from a host"
)]
pub struct Explain {
    /// An action's number, a refusal's (`r4`), or the name of a guest or host.
    #[arg(value_name = "ACTION|REFUSAL|ELEMENT")]
    what: String,
}

impl Explain {
    /// Asks and shows.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        if let Ok(id) = self.what.parse::<u64>() {
            return action(context, &client, id).await;
        }
        let mut unknown = None;
        if self.what.strip_prefix('r').is_some_and(|number| number.parse::<u64>().is_ok()) {
            match client.get::<RefusalExplanation>(&format!("/v1/refusals/{}", self.what)).await {
                Ok(explanation) => return context.show(&explanation, |screen| render_refusal(&explanation, screen)),
                // A guest may be called that.
                Err(error @ Failure::No(_)) => unknown = Some(error),
                Err(error) => return Err(error),
            }
        }
        let detail = client.get(&format!("/v1/elements/{}", segment(&self.what))).await;
        let detail: ElementDetail = detail.map_err(|error| unknown.unwrap_or(error))?;
        let explanation = match detail.actions.first() {
            Some(action) => Some(fetch(&client, action.id).await?),
            None => None,
        };
        context.show(&serde_json::json!({ "latest": explanation, "element": detail }), |screen| {
            render_element(&detail, explanation.as_ref(), screen)
        })
    }
}

/// Explains one action.
pub async fn action(context: &Context, client: &Client, id: u64) -> Result<(), Failure> {
    let explanation = fetch(client, id).await?;
    context.show(&explanation, |screen| render(&explanation, screen))
}

async fn fetch(client: &Client, id: u64) -> Result<Explanation, Failure> {
    client.get(&format!("/v1/actions/{id}")).await
}

fn number(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Number(number) if number.is_f64() => {
            let x = number.as_f64().unwrap_or(f64::NAN);
            let text = format!("{x:.3}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        serde_json::Value::String(text) => format!("\"{text}\""),
        serde_json::Value::Null => "()".to_owned(),
        other => other.to_string(),
    }
}

/// Values in columns: whose, what, how much.
fn reads(reads: &[ReadView]) -> String {
    let width = |of: fn(&ReadView) -> &str| reads.iter().map(|read| of(read).chars().count()).max().unwrap_or(0).min(40);
    let (of, what) = (width(|read| &read.of), width(|read| &read.what));
    let line = |read: &ReadView| format!("{:of$}  {:what$}  {}", read.of, read.what, number(&read.value));
    reads.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn refused(refusals: &[RefusalView]) -> String {
    let line = |refusal: &RefusalView| {
        let place = refusal.place.as_ref().map(|place| format!(" at {place}")).unwrap_or_default();
        format!("{}{place}\n{}: {}", refusal.what, refusal.guardrail, refusal.reason)
    };
    refusals.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The chain, from the event to the result.
pub fn render(explanation: &Explanation, screen: &Screen) -> String {
    let action = &explanation.action;
    let word = screen.paint(tone(&action.state), &state(action));
    let title = screen.paint(Tone::Strong, &printable(&format!("action {}: {}", action.id, action.what)));
    let mut text = format!("{title}\n{word}, because {}\n\n", printable(&action.reason));
    let mut rows: Vec<(&str, String)> = Vec::new();
    match &explanation.cause {
        Some(cause) => rows.push(("event", format!("{}  {} (event {})", screen.exact_time(cause.at), cause.text, cause.seq))),
        None => rows.push(("event", format!("none: {} asked for it", action.by))),
    }
    let module = if action.embot.is_some() { format!("{}, ", action.by) } else { String::new() };
    rows.extend(source(explanation.place.as_ref(), &module, &explanation.reads, screen));
    if !explanation.refused.is_empty() {
        rows.push(("refused", refused(&explanation.refused)));
    }
    if !explanation.weighed.is_empty() {
        rows.push(("weighed", explanation.weighed.join("\n")));
    }
    rows.push(("mode", mode(explanation)));
    if let Some(prospect) = &explanation.if_approved {
        let would = if prospect.carried_out { "would be carried out" } else { "would be refused" };
        let weighed: String = prospect.weighed.iter().map(|line| format!("\n{line}")).collect();
        rows.push(("now", format!("approved now it {would}: {}{weighed}", prospect.text)));
    }
    let mut result: Vec<String> = Vec::new();
    let start = explanation.timeline.first().map(|first| first.at);
    for step in &explanation.timeline {
        let after = start.map(|start| step.at.0.since(start.0)).filter(|span| span.0 > 0);
        let after = after.map(|span| format!(" (+{})", span.rounded())).unwrap_or_default();
        result.push(format!("{}  {}{after}", screen.exact_time(step.at), step.text));
    }
    if let Some(progress) = action.progress.filter(|_| action.state == "started") {
        let progress = crate::model::Progress { done_bytes: progress.done_bytes, total_bytes: progress.total_bytes };
        result.push(words::progress(progress));
    }
    rows.push(("result", result.join("\n")));
    text += &pairs(&rows, screen);
    if let Some(next) = next(explanation) {
        text += &screen.paint(Tone::Faint, &format!("\n{next}\n"));
    }
    text
}

/// Where a proposal came from: the line of the policy, and what it had read.
fn source<'a>(place: Option<&PlaceView>, module: &str, values: &[ReadView], screen: &Screen) -> Vec<(&'a str, String)> {
    let mut rows = Vec::new();
    if let Some(place) = place {
        rows.push(("policy", format!("{module}{}:{}:{}", place.file, place.line, place.column)));
        let room = screen.width.saturating_sub(24);
        match &place.source {
            Some(source) => rows.push(("", marked(place.line, place.column, source, room))),
            None => rows.push(("", "(that version of the module is no longer kept)".to_owned())),
        }
    }
    if !values.is_empty() {
        rows.push(("read", reads(values)));
    }
    rows
}

/// Why something was not done: the event, the line, the values read, the guardrail.
pub fn render_refusal(explanation: &RefusalExplanation, screen: &Screen) -> String {
    let refusal = &explanation.refusal;
    let number = refusal.number.unwrap_or_default();
    let title = screen.paint(Tone::Strong, &printable(&format!("refusal r{number}: {}", refusal.what)));
    let word = screen.paint(Tone::Warning, "refused");
    let mut text = format!("{title}\n{word}; wanted because {}\n\n", printable(&refusal.wanted_because));
    let mut rows: Vec<(&str, String)> = Vec::new();
    match &explanation.cause {
        Some(cause) => rows.push(("event", format!("{}  {} (event {})", screen.exact_time(cause.at), cause.text, cause.seq))),
        None => rows.push(("event", format!("none: {} asked for it", refusal.by))),
    }
    rows.extend(source(explanation.place.as_ref(), &format!("{}, ", refusal.by), &explanation.reads, screen));
    rows.push(("guardrail", refusal.guardrail.clone()));
    rows.push(("", refusal.reason.clone()));
    let first = screen.exact_time(explanation.first_at);
    rows.push((
        "when",
        match refusal.at {
            Some(last) if refusal.times > 1 => {
                format!("{} times since {first}, the last at {}", refusal.times, screen.exact_time(last))
            }
            _ => first,
        },
    ));
    text += &pairs(&rows, screen);
    text
}

/// The line of the script with a caret under the place, as far as there is room for it.
fn marked(line: u32, column: u32, source: &str, room: usize) -> String {
    // A tab takes one character here, so that the caret stays where it belongs.
    let shown = format!("{line:>4} | {}", cut(&source.replace('\t', " "), room));
    match column as usize {
        column @ 1.. if column < room => format!("{shown}\n     | {}^", " ".repeat(column - 1)),
        _ => shown,
    }
}

fn mode(explanation: &Explanation) -> String {
    let action = &explanation.action;
    match (&action.approved_by, action.mode.as_str()) {
        (Some(admin), mode) => format!("{mode}: approved by {admin}"),
        (None, "advise") => "advise: an admin must approve".to_owned(),
        (None, mode) => mode.to_owned(),
    }
}

fn next(explanation: &Explanation) -> Option<String> {
    let id = explanation.action.id;
    if let Some(admin) = &explanation.action.cancelling {
        return Some(format!("It is being cancelled, as {admin} asked."));
    }
    match explanation.action.state.as_str() {
        "advised" => Some(format!("Answer with `embot plan approve {id}` or `embot plan reject {id}`.")),
        "planned" | "started" => Some(format!("End it with `embot plan cancel {id}`.")),
        _ => None,
    }
}

fn render_element(detail: &ElementDetail, latest: Option<&Explanation>, screen: &Screen) -> String {
    let mut text = match latest {
        Some(explanation) => render(explanation, screen),
        None => format!("Nothing was done about {}, and nothing waits for an answer.\n", detail.element.name()),
    };
    if detail.actions.len() > 1 {
        text += "\nEarlier actions\n";
        text += &action_table(&detail.actions[1..], screen);
    }
    let refused = refusal_table(&detail.refusals, screen);
    if !refused.is_empty() {
        text += "\n";
        text += &refused;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::recent::Scribe;
    use crate::api::{elements, explain, testing};
    use crate::cli::screen::plain;
    use crate::model::ActionId;

    #[test]
    fn the_chain_behind_an_action() {
        let manager = testing::manager();
        let mut scribe = Scribe::new(&testing::world(), std::iter::empty());
        let recent = scribe.read(&testing::a_batch(7));
        let about = |id| recent.iter().filter(|view| view.action == Some(id)).take(1).cloned().collect::<Vec<_>>();
        let texts = [17, 18, 9].map(|id| {
            let explanation = explain::explain(&manager, ActionId(id), &about(id)).unwrap();
            render(&explanation, &plain(90))
        });
        insta::assert_snapshot!(texts.join("\n---\n"));
    }

    #[test]
    fn the_chain_behind_a_refusal() {
        let manager = testing::manager();
        let chain = explain::explain(&manager, ActionId(17), &[]).unwrap();
        let refused = RefusalView::new(Some(testing::NOW), &testing::refusal(), 3, &testing::world());
        let explanation = RefusalExplanation {
            refusal: RefusalView { number: Some(4), ..refused },
            first_at: chain.action.decided_at,
            cause: chain.cause,
            place: chain.place,
            reads: chain.reads,
        };
        insta::assert_snapshot!(render_refusal(&explanation, &plain(90)));
        let error = explain::explain_refusal(&manager, 4).unwrap_err();
        assert_eq!(error.problem.error, "there is no refusal r4 at hand");
    }

    #[test]
    fn what_happened_to_an_element() {
        let manager = testing::manager();
        let texts = ["web-3", "web-2"].map(|name| {
            let detail = elements::detail(&manager, name).unwrap();
            let latest = detail.actions.first().map(|action| explain::explain(&manager, ActionId(action.id), &[]).unwrap());
            render_element(&detail, latest.as_ref(), &plain(90))
        });
        insta::assert_snapshot!(texts.join("\n---\n"));
    }

    #[test]
    fn an_action_nobody_knows() {
        let error = explain::explain(&testing::manager(), ActionId(99), &[]).unwrap_err();
        assert_eq!(error.problem.error, "there is no action 99");
    }
}
