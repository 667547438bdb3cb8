//! `embot events`: what happened, one line a record; live with `--follow`.

use super::client::{Client, Lines};
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

/// The live stream of records.
pub struct Following {
    lines: Lines,
    event: String,
}

/// What the live stream says.
pub enum Told {
    /// A record.
    Record(Box<RecordView>),
    /// Something about the stream itself: `gap`, `dropped`, `end`.
    Note(String, Problem),
}

impl Following {
    /// Opens the stream of what passes the filter.
    pub async fn open(client: &Client, filter: &EventFilter) -> Result<Following, Failure> {
        Ok(Following { lines: client.stream("/v1/events/follow", filter).await?, event: String::new() })
    }

    /// What comes next; `None` where the stream has ended.
    pub async fn next(&mut self) -> Result<Option<Told>, Failure> {
        while let Some(next) = self.lines.next().await? {
            if let Some(name) = next.strip_prefix("event:") {
                name.trim().clone_into(&mut self.event);
            }
            let Some(data) = next.strip_prefix("data:").map(str::trim) else { continue };
            if self.event == "record" {
                let record = serde_json::from_str(data)
                    .map_err(|error| Failure::wrong(format!("the daemon's record is not understood: {error}")))?;
                return Ok(Some(Told::Record(record)));
            }
            let problem: Problem = serde_json::from_str(data).unwrap_or(Problem { error: data.to_owned(), hint: None });
            return Ok(Some(Told::Note(self.event.clone(), problem)));
        }
        Ok(None)
    }
}

async fn follow(context: &Context, client: &Client, filter: &EventFilter, own: bool) -> Result<(), Failure> {
    let mut following = Following::open(client, filter).await?;
    while let Some(told) = following.next().await? {
        match told {
            Told::Record(record) => context.show_line(&record, |screen| line(&record, screen))?,
            Told::Note(event, problem) => match event.as_str() {
                "gap" => eprintln!("note: {}", problem.error),
                "end" if own => return Ok(()),
                "end" => return Err(Failure::Wrong(Problem { hint: Some("follow again when it runs".into()), ..problem })),
                _ => return Err(Failure::Wrong(problem)),
            },
        }
    }
    Err(Failure::wrong("the daemon ended the stream").with_hint("`embot status` tells whether it still runs"))
}

/// What a record's line is worth.
pub fn record_tone(record: &RecordView) -> Tone {
    match (record.record.as_str(), record.level.as_deref()) {
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
    }
}

/// One record, one line: `12:03:04 plan 17 migrate web-3 host-a -> host-c: host-a at 93 % for 30s (relieve-hot-host)`.
fn line(record: &RecordView, screen: &Screen) -> String {
    format!("{} {}\n", screen.time(record.at), screen.paint(record_tone(record), &printable(&record.text)))
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
