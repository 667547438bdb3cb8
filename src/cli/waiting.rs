//! Waiting for an action's end: a live line on a terminal, a line for each change elsewhere.

use super::client::Client;
use super::context::{Context, Output};
use super::failure::Failure;
use super::plan::state;
use super::screen::{Screen, cut};
use crate::api::actions::ActionView;
use crate::api::explain::Explanation;
use crate::api::migrations::{MigrationFilter, MigrationView};
use crate::api::words::bytes;
use crate::model::{Side, Span};
use std::time::{Duration, Instant};

/// How often the daemon is asked.
const PACE: Duration = Duration::from_millis(250);

/// Waits for the end of an action. Ctrl-C ends the waiting, not the action.
pub async fn wait(context: &Context, client: &Client, action: u64) -> Result<(), Failure> {
    let live = context.screen.live && context.output == Output::Table;
    tokio::select! {
        result = watch(context, client, action, live) => result,
        _ = tokio::signal::ctrl_c() => {
            if live {
                context.print("\n")?;
            }
            eprintln!("no longer waiting; action {action} goes on. End it with `embot plan cancel {action}`, see it with `embot explain {action}`.");
            Err(Failure::Said(130))
        }
    }
}

async fn watch(context: &Context, client: &Client, id: u64, live: bool) -> Result<(), Failure> {
    let started = Instant::now();
    let mut shown = String::new();
    loop {
        let explanation: Explanation = client.get(&format!("/v1/actions/{id}")).await?;
        let action = explanation.action;
        let elapsed = Span(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
        if action.is_final() {
            if live {
                context.print("\r\x1b[K")?;
            }
            context.show(&action, |screen| ended(&action, elapsed, screen))?;
            return if action.state == "done" { Ok(()) } else { Err(Failure::Said(1)) };
        }
        if live {
            let line = match handover(client, &action).await {
                Some(migration) => cut(&super::migrations::line(&migration, elapsed), context.screen.width),
                None => line(&action, elapsed, &context.screen),
            };
            context.print(&format!("\r\x1b[K{line}"))?;
        } else if context.output == Output::Table {
            let (state, line) = match handover(client, &action).await {
                Some(migration) => (migration.phase().to_owned(), super::migrations::line(&migration, elapsed)),
                None => (action.state.clone(), format!("action {id} is {}", action.state)),
            };
            if shown != state {
                context.print(&format!("{line}\n"))?;
                shown = state;
            }
        }
        tokio::time::sleep(PACE).await;
    }
}

/// The migration that an action is, where it hands a guest over to another plane.
async fn handover(client: &Client, action: &ActionView) -> Option<MigrationView> {
    let open = MigrationFilter { open: Some(true) };
    let migrations: Vec<MigrationView> = client.find("/v1/migrations", &open).await.ok()?;
    let number = format!("/{}", action.id);
    migrations.into_iter().find(|one| one.side == Side::Source && one.id.ends_with(&number))
}

/// The live line: what, how far, how long.
fn line(action: &ActionView, elapsed: Span, screen: &Screen) -> String {
    let seconds = Span::seconds(elapsed.0 / 1_000);
    let far = match action.progress.filter(|progress| progress.total_bytes > 0) {
        Some(progress) => {
            let share = (progress.done_bytes as f64 / progress.total_bytes as f64).clamp(0.0, 1.0);
            let full = (share * 10.0).round() as usize;
            let bar = format!("{}{}", "█".repeat(full), "░".repeat(10 - full));
            format!("{bar} {:3.0} % {} of {}", share * 100.0, bytes(progress.done_bytes), bytes(progress.total_bytes))
        }
        None => action.state.clone(),
    };
    let room = screen.width.saturating_sub(far.chars().count() + seconds.to_string().len() + 4);
    format!("{}  {far}  {seconds}", cut(&action.what, room.max(12)))
}

/// The last line.
fn ended(action: &ActionView, elapsed: Span, screen: &Screen) -> String {
    let why = action.state_reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let word = screen.paint(super::screen::tone(&action.state), &state(action));
    let seconds = elapsed.as_seconds();
    format!("action {} {word} after {seconds:.1} s: {}{why}\n", action.id, action.what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing;
    use crate::cli::screen::plain;

    #[test]
    fn the_live_line_and_the_last() {
        let world = testing::world();
        let mut action = ActionView::new(&testing::action(), &world);
        let half = line(&action, Span(12_345), &plain(80));
        action.progress = None;
        let none = line(&action, Span(345), &plain(80));
        let failed = ended(&ActionView::new(&testing::failure(), &world), Span(20_100), &plain(80));
        insta::assert_snapshot!([half, none, failed].join("\n"));
    }
}
