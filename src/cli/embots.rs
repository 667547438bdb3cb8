//! `embot embots` and `embot unsuspend`: the autonomic elements, and how to let a suspended one step again.

use super::context::Context;
use super::failure::Failure;
use super::migrate::show;
use super::screen::Screen;
use super::table::{Fit, pairs, table};
use crate::api::commands::Unsuspend as Request;
use crate::api::embots::{EmbotFilter, EmbotView};
use crate::api::state::ReplyView;

/// Show embots: what they stand for, remember, and whether they are suspended.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot embots --module relieve-hot-host\n  embot embots --element host-a      with what each remembers\n  embot embots --suspended"
)]
pub struct Embots {
    /// Only those of this module.
    #[arg(long)]
    module: Option<String>,
    /// Only those that stand for this element.
    #[arg(long)]
    element: Option<String>,
    /// Only those that are suspended.
    #[arg(long)]
    suspended: bool,
}

impl Embots {
    /// Asks and shows.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let filter = EmbotFilter { module: self.module, element: self.element, suspended: self.suspended.then_some(true) };
        let detailed = filter.element.is_some();
        let found: Vec<EmbotView> = context.client()?.find("/v1/embots", &filter).await?;
        context.show(&found, |screen| if detailed { render_detail(&found, screen) } else { render(&found, screen) })
    }
}

fn render(embots: &[EmbotView], screen: &Screen) -> String {
    let row = |embot: &EmbotView| {
        let state = if embot.suspended.is_some() { "suspended" } else { "works" };
        vec![
            embot.module.clone(),
            embot.name.clone(),
            state.to_owned(),
            embot.faults.to_string(),
            embot.suspended.clone().unwrap_or_default(),
        ]
    };
    let columns =
        [("MODULE", Fit::Keep), ("STANDS FOR", Fit::Keep), ("STATE", Fit::State), ("FAULTS", Fit::Right), ("", Fit::Cut)];
    let text = table(&columns, embots.iter().map(row).collect(), screen);
    if text.is_empty() { "no such embot (`embot modules list` shows what is loaded)\n".to_owned() } else { text }
}

/// Each embot with its faults, its timers and what it remembers.
pub fn render_detail(embots: &[EmbotView], screen: &Screen) -> String {
    if embots.is_empty() {
        return render(embots, screen);
    }
    let blocks = embots.iter().map(|embot| {
        let mut rows = vec![("embot", embot.embot.clone()), ("stands for", embot.name.clone())];
        rows.push(("faults", embot.faults.to_string()));
        if let Some(reason) = &embot.suspended {
            rows.push(("suspended", reason.clone()));
        }
        for (name, due) in &embot.timers {
            rows.push(("timer", format!("{name}, due {}", screen.date(*due))));
        }
        for (policy, state) in &embot.state {
            rows.push(("remembers", format!("{policy}: {state}")));
        }
        pairs(&rows, screen)
    });
    blocks.collect::<Vec<_>>().join("\n")
}

/// Let a suspended embot step again, after its policy was mended.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  embot embots --suspended\n  embot unsuspend relieve-hot-host@host-a")]
pub struct Unsuspend {
    /// The embot: MODULE@ELEMENT.
    #[arg(value_name = "EMBOT")]
    embot: String,
}

impl Unsuspend {
    /// Gives the command.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let reply: ReplyView = context.client()?.post("/v1/commands/unsuspend", &Request { embot: self.embot }).await?;
        show(context, &reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing;
    use crate::cli::screen::plain;

    #[test]
    fn embots_as_people_see_them() {
        let all: Vec<_> = testing::manager().embots(None).iter().map(EmbotView::new).collect();
        let texts = [render(&all, &plain(80)), render_detail(&all, &plain(80)), render(&[], &plain(80))];
        insta::assert_snapshot!(texts.join("---\n"));
    }
}
