//! `embot top`: the plane as it is now, on the whole terminal, and the keys to act on it.
//!
//! ```text
//! terminal (keys, time, size) -+
//! feed (looks, live records) --+-> update -> state -> draw -> terminal
//!                                    +-> effects: looks, commands -> feed
//! ```
//! `state`, `update`, `keys`, `rows`, `page` and `draw` are pure: tests press keys, hand in what the daemon would
//! say, and see what people see. Only `feed` speaks to the daemon, only `terminal` touches the terminal and the clock.

mod cursor;
mod draw;
mod feed;
mod grid;
mod keys;
mod layout;
mod page;
mod panes;
mod rows;
mod state;
mod terminal;
#[cfg(test)]
mod tests;
mod update;

use super::context::{Context, Output};
use super::failure::Failure;
use crate::api::status::StatusView;
use crate::model::Span;
use std::io::IsTerminal;

/// Watch the plane live, and answer it: hosts, guests, actions, decisions with their reasons.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = after_help())]
pub struct Top {
    /// How often the daemon is asked (`1s`, `500ms`); decisions come at once.
    #[arg(long, value_name = "SPAN", default_value = "1s", value_parser = pace)]
    every: Span,
}

fn after_help() -> String {
    let keys: String = keys::KEYS.iter().map(|(keys, what)| format!("\n  {keys:<13} {what}")).collect();
    format!(
        "Examples:\n  embot top\n  embot top --every 5s       over a slow line\n  NO_COLOR=1 embot top       without colours\n\nKeys:{keys}"
    )
}

/// More often than ten times a second would only cost.
fn pace(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|error: crate::model::time::SpanError| error.to_string())?;
    if span.0 < 100 { Err("100ms at the least".to_owned()) } else { Ok(span) }
}

impl Top {
    /// Shows the plane until the reader quits.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let hint = "use `embot status`, or `embot events --follow` for what happens; both have `--output json`";
        if context.output == Output::Json {
            return Err(Failure::wrong("`embot top` has no JSON form").with_hint(hint));
        }
        if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
            return Err(Failure::wrong("`embot top` needs a terminal, and this is none").with_hint(hint));
        }
        let client = context.client()?;
        // Whoever cannot be asked at all is told so on the usual terminal.
        let status: StatusView = client.get("/v1/status").await?;
        let state = state::State::new(context.screen.clone(), (0, 0), status);
        terminal::run(client, state, self.every.as_duration()).await
    }
}
