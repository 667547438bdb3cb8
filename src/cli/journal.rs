//! `embot journal`: the durable record of what the plane knew and decided.

use super::context::{Context, Output};
use super::failure::Failure;
use super::screen::{Screen, cut, printable};
use crate::api::journal::JournalFilter;
use crate::api::stamp::Stamp;
use crate::model::Timestamp;
use serde_json::Value;

/// Export or show the journal.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot journal export > journal.jsonl      every input and decision, a line each\n  embot journal export --from 1207\n  embot journal show --from 1207            the same for people, one line each"
)]
pub struct Journal {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum What {
    /// Write the journal as JSON lines. The same journal gives the same bytes.
    #[command(after_help = "Example:\n  embot journal export --from 1207 | jq -c 'select(.record == \"planned\")'")]
    Export(From),
    /// Show it for people, a line for each input and record.
    #[command(after_help = "Example:\n  embot journal show --from 1207 | less")]
    Show(From),
}

#[derive(Debug, Clone, Copy, clap::Args)]
struct From {
    /// From this batch on.
    #[arg(long, default_value_t = 0, value_name = "BATCH")]
    from: u64,
}

impl Journal {
    /// Streams it to standard output.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let (From { from }, people) = match self.what {
            What::Export(from) => (from, false),
            What::Show(from) => (from, context.output == Output::Table),
        };
        let mut lines = context.client()?.stream("/v1/journal/export", &JournalFilter { from }).await?;
        if !people {
            let mut end = Vec::new();
            while let Some(piece) = lines.piece().await? {
                context.print_bytes(&piece)?;
                remember_end(&mut end, &piece);
            }
            // A failure in the middle is the last line; whoever reads only the exit code must hear of it, too.
            let last = String::from_utf8_lossy(&end);
            return last.lines().last().and_then(broken).map_or(Ok(()), Err);
        }
        while let Some(next) = lines.next().await? {
            if let Some(failure) = broken(&next) {
                return Err(failure);
            }
            context.print(&line(&next, &context.screen))?;
        }
        Ok(())
    }
}

/// Keeps the last stretch of a stream.
pub(super) fn remember_end(end: &mut Vec<u8>, piece: &[u8]) {
    const KEPT: usize = 4_096;
    end.extend_from_slice(&piece[piece.len().saturating_sub(KEPT)..]);
    end.drain(..end.len().saturating_sub(KEPT));
}

/// Is this the line with which a stream says why it breaks off?
pub(super) fn broken(line: &str) -> Option<Failure> {
    let json: Value = serde_json::from_str(line).ok()?;
    let only = json.as_object().filter(|fields| !fields.contains_key("batch"))?;
    Some(Failure::wrong(only.get("error")?.as_str()?))
}

/// One line of the export for people: time, batch, what it is, and what it holds.
fn line(text: &str, screen: &Screen) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(text) else { return format!("{}\n", printable(text)) };
    let batch = fields.remove("batch").and_then(|batch| batch.as_u64()).unwrap_or(0);
    let now = fields.remove("now").and_then(|now| now.as_i64()).map(|now| Stamp(Timestamp(now)));
    let time = now.map(|now| screen.exact_time(now)).unwrap_or_default();
    let (sort, rest) = match (fields.remove("input"), fields.remove("record")) {
        (Some(input), _) => ("input".to_owned(), input),
        (None, Some(record)) => (record.as_str().unwrap_or("record").to_owned(), Value::Object(fields)),
        (None, None) => (String::new(), Value::Object(fields)),
    };
    let head = format!("{time} {batch:>7}  {sort:<8} ");
    let room = screen.width.saturating_sub(head.chars().count());
    format!("{head}{}\n", cut(&printable(&rest.to_string()), room))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::screen::plain;

    #[test]
    fn the_journal_for_people() {
        let lines = [
            r#"{"batch":7,"now":1772366584000,"input":"Tick"}"#,
            r#"{"batch":7,"now":1772366584000,"record":"notice","level":"alarm","text":"db-1 crashed 5 times in 10m: no more restarts"}"#,
            "not JSON",
        ];
        let text: String = lines.iter().map(|one| line(one, &plain(80))).collect();
        insta::assert_snapshot!(text);
        assert!(broken(lines[0]).is_none());
        assert!(broken(r#"{"error":"the export broke off: disk"}"#).is_some());
    }

    #[test]
    fn the_end_of_a_stream_is_kept() {
        let mut end = Vec::new();
        for _ in 0..10 {
            remember_end(&mut end, &[b'x'; 3_000]);
        }
        remember_end(&mut end, b"\nlast\n");
        assert_eq!(end.len(), 4_096);
        assert_eq!(String::from_utf8_lossy(&end).lines().last(), Some("last"));
    }
}
