//! `embot events`: what happened, one line a record; live with `--follow`.

use super::context::Context;
use super::failure::Failure;
use super::screen::{Screen, Tone, printable};
use crate::api::error::Problem;
use crate::api::events::EventFilter;
use crate::api::recent::{Position, RecordView};

/// Show what happened lately, or live.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot events                     the latest 100 records\n  embot events --follow            and what comes, until Ctrl-C\n  embot events --record refused    only refusals (also: event, plan, action, fault, log, notice)\n  embot events --text web-3 -f     only lines that contain `web-3`"
)]
pub struct Events {
    /// Go on with what comes, until Ctrl-C.
    #[arg(short, long)]
    follow: bool,
    /// Only this sort: event, plan, refused, action, fault, log, notice.
    #[arg(long, value_name = "SORT")]
    record: Option<String>,
    /// Only lines that contain this text.
    #[arg(long)]
    text: Option<String>,
    /// Only records after this position (a batch's number, or the `position` of a record).
    #[arg(long, value_name = "POSITION")]
    since: Option<Position>,
    /// How many of the latest are shown.
    #[arg(short = 'n', long, default_value_t = 100)]
    limit: u32,
    /// Show details as well: progress of long actions, timers, what embots are told of their actions, marks.
    #[arg(long)]
    details: bool,
    /// Within the daemon: that it stops is no failure then.
    #[arg(skip)]
    own: bool,
}

impl Events {
    /// What comes from now on, for the daemon that shows its own events.
    pub fn following() -> Events {
        Events { follow: true, record: None, text: None, since: None, limit: 20, details: false, own: true }
    }

    /// Asks and shows, until Ctrl-C where it follows.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        let mut filter = EventFilter {
            record: self.record.clone(),
            text: self.text.clone(),
            since: self.since,
            details: Some(self.details),
            limit: Some(self.limit),
        };
        let latest: Vec<RecordView> = client.find("/v1/events", &filter).await?;
        if !self.follow {
            return context.show(&latest, |screen| {
                let text: String = latest.iter().map(|record| line(record, screen)).collect();
                if text.is_empty() { "nothing happened yet (`--follow` waits for it)\n".to_owned() } else { text }
            });
        }
        for record in &latest {
            context.show_line(record, |screen| line(record, screen))?;
        }
        // Where nothing was found, everything from the beginning would be as much: what comes is wanted.
        filter.since = latest.last().map(|record| record.position).or(filter.since);
        filter.limit = None;
        tokio::select! {
            result = follow(context, &client, &filter, self.own) => result,
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    }
}

async fn follow(context: &Context, client: &super::client::Client, filter: &EventFilter, own: bool) -> Result<(), Failure> {
    let mut lines = client.stream("/v1/events/follow", filter).await?;
    let mut event = String::new();
    while let Some(next) = lines.next().await? {
        if let Some(name) = next.strip_prefix("event:") {
            name.trim().clone_into(&mut event);
        }
        let Some(data) = next.strip_prefix("data:").map(str::trim) else { continue };
        if event == "record" {
            let record: RecordView = serde_json::from_str(data)
                .map_err(|error| Failure::wrong(format!("the daemon's record is not understood: {error}")))?;
            context.show_line(&record, |screen| line(&record, screen))?;
            continue;
        }
        let problem: Problem = serde_json::from_str(data).unwrap_or(Problem { error: data.to_owned(), hint: None });
        match event.as_str() {
            "gap" => eprintln!("note: {}", problem.error),
            "end" if own => return Ok(()),
            "end" => return Err(Failure::Wrong(Problem { hint: Some("follow again when it runs".into()), ..problem })),
            _ => return Err(Failure::Wrong(problem)),
        }
    }
    Err(Failure::wrong("the daemon ended the stream").with_hint("`embot status` tells whether it still runs"))
}

/// One record, one line: `12:03:04 plan 17 migrate web-3 host-a -> host-c: host-a at 93 % for 30s (relieve-hot-host)`.
fn line(record: &RecordView, screen: &Screen) -> String {
    let tone = match (record.record.as_str(), record.level.as_deref()) {
        ("plan", _) => Tone::Strong,
        ("refused" | "log", _) | (_, Some("info")) => Tone::Faint,
        ("fault", _) | (_, Some("alarm")) => Tone::Bad,
        (_, Some(_)) => Tone::Warning,
        ("action", _) => match record.text.split(' ').next() {
            Some("done") => Tone::Good,
            Some("failed") => Tone::Bad,
            _ => Tone::Plain,
        },
        _ => Tone::Plain,
    };
    format!("{} {}\n", screen.time(record.at), screen.paint(tone, &printable(&record.text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::recent::Scribe;
    use crate::api::testing;
    use crate::cli::screen::plain;

    #[test]
    fn one_line_a_record() {
        let records = Scribe::new(&testing::world(), std::iter::empty()).read(&testing::a_batch(7));
        let text: String = records.iter().map(|record| line(record, &plain(80))).collect();
        insta::assert_snapshot!(text);
    }
}
