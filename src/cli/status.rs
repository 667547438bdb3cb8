//! `embot status`: the plane at a glance, and what needs somebody's attention.

use super::context::Context;
use super::failure::Failure;
use super::screen::{Screen, Tone};
use super::table::pairs;
use crate::api::status::StatusView;
use crate::error::count;
use std::collections::BTreeMap;

/// So many guests that died are named.
const CRASHED: usize = 10;

/// Show the plane at a glance.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  embot status\n  embot status --output json | jq .guests")]
pub struct Status {}

impl Status {
    /// Asks and shows.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let status: StatusView = context.client()?.get("/v1/status").await?;
        context.show(&status, |screen| render(&status, screen))
    }
}

fn counts(counts: &BTreeMap<String, usize>) -> String {
    counts.iter().map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
}

fn render(status: &StatusView, screen: &Screen) -> String {
    let armed = match (status.armed, status.starting) {
        (false, _) => screen.paint(Tone::Bad, "disarmed: it starts nothing new (`embot arm`)"),
        (true, true) => screen.paint(Tone::Warning, "starting: it finds out what is true before it decides"),
        (true, false) => screen.paint(Tone::Good, "armed"),
    };
    let mut text = format!("plane {}, {armed}, {}, embot {}\n\n", status.plane, screen.time(status.now), status.version);
    let guests: usize = status.guests.values().sum();
    let figures = &status.figures.so_far;
    let maintenance = match status.hosts_in_maintenance.as_slice() {
        [] => String::new(),
        hosts => format!(", in maintenance: {}", hosts.join(", ")),
    };
    let hosts_up = status.hosts - status.hosts_down.len();
    let advised = if status.advised > 0 { " (`embot plan`)" } else { "" };
    let mut rows = vec![("hosts", format!("{hosts_up} of {} answer{maintenance}", status.hosts))];
    let kinds = if guests == 0 { String::new() } else { format!(": {}", counts(&status.guests)) };
    rows.push(("guests", format!("{guests}{kinds}")));
    if guests > 0 {
        rows.push(("", format!("by mode: {}", counts(&status.guests_by_mode))));
    }
    let suspended = match status.embots_suspended.len() {
        0 => String::new(),
        suspended => format!(", {suspended} suspended"),
    };
    rows.push(("modules", format!("{} with {}{suspended}", status.modules, count(status.embots, "embot"))));
    rows.push(("actions", format!("{} open, {} to be approved{advised}", status.open, status.advised)));
    let clip = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let (events, steps) = (clip(figures.events), clip(figures.steps));
    rows.push((
        "so far",
        format!(
            "{}, {}, {} planned, {} refused, {} done, {} failed; {} waiting",
            count(events, "event"),
            count(steps, "step"),
            figures.planned,
            figures.refused,
            figures.done,
            figures.failed,
            count(status.figures.waiting, "event")
        ),
    ));
    if let Some(store) = &status.store {
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / 1_048_576.0);
        let file = store.file_bytes.map_or_else(|| "no file".to_owned(), mib);
        rows.push(("store", format!("{file}; journal {}, audit {}", mib(store.journal_bytes), mib(store.audit_bytes))));
    }
    text += &pairs(&rows, screen);
    let mut attention: Vec<(&str, String)> = Vec::new();
    for down in &status.hosts_down {
        let reason = down.reason.as_deref().unwrap_or("not heard of yet");
        attention.push(("host", format!("{} does not answer: {reason}", down.host)));
    }
    for away in &status.channels_away {
        let held = count(away.held, "notification");
        attention.push(("channel", format!("{} cannot be reached: {}; {held} wait for it", away.channel, away.reason)));
    }
    for violation in &status.violations {
        let hard = if violation.hard { "hard" } else { "soft" };
        let guests = violation.guests.join(", ");
        attention.push(("rule", format!("{} ({hard}, {}) is broken by {guests}", violation.rule, violation.kind)));
    }
    for embot in &status.embots_suspended {
        attention
            .push(("embot", format!("{embot} is suspended: see `embot embots --suspended`, then `embot unsuspend {embot}`")));
    }
    for guest in status.guests_crashed.iter().take(CRASHED) {
        let lasted = status.now.0.since(guest.since.0).rounded();
        attention.push(("guest", format!("{} on {} is down for {lasted}: {}", guest.name, guest.host, guest.reason)));
    }
    if status.guests_crashed.len() > CRASHED {
        let more = count(status.guests_crashed.len() - CRASHED, "guest");
        attention.push(("", format!("and {more} more (`--output json` has all)")));
    }
    for module in &status.modules_unchecked {
        let stays = if module.in_force { "the version before stays in force" } else { "nothing of it is in force" };
        attention.push(("module", format!("{} does not check, {stays}: `embot check` says why", module.file)));
    }
    if !attention.is_empty() {
        text += &format!("\n{}\n{}", screen.paint(Tone::Warning, "Needs attention"), pairs(&attention, screen));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status::{CrashedView, UncheckedView};
    use crate::api::testing;
    use crate::cli::screen::plain;

    #[test]
    fn the_plane_at_a_glance() {
        let mut status = crate::api::status::status(&testing::manager(), testing::NOW);
        status.starting = false;
        let sizes = crate::store::Sizes { file_bytes: Some(3 << 20), journal_bytes: 1 << 20, audit_bytes: 70_000 };
        status.store = Some(sizes);
        status.modules_unchecked =
            [true, false].map(|in_force| UncheckedView { module: "a".into(), file: "a.yaml".into(), in_force }).into();
        let guest = CrashedView {
            vm: "00000000-0000-0000-0000-000000000004".to_owned(),
            name: "db-1".to_owned(),
            host: "host-b".to_owned(),
            reason: "crashed".to_owned(),
            since: (testing::NOW - crate::model::Span::minutes(3)).into(),
        };
        status.guests_crashed = vec![guest; CRASHED + 2];
        let reason = "the webhook does not answer: Connection refused".to_owned();
        status.channels_away = vec![crate::api::status::AwayView { channel: "chat".to_owned(), reason, held: 3 }];
        let first = render(&status, &plain(80));
        status.guests_crashed.clear();
        status.modules_unchecked.clear();
        status.armed = false;
        status.hosts_down.clear();
        status.channels_away.clear();
        status.embots_suspended.clear();
        insta::assert_snapshot!(format!("{first}---\n{}", render(&status, &plain(100))));
    }
}
