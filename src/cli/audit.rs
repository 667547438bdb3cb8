//! `embot audit`: who asked what of the plane, and what became of it; and the proof that nobody has changed that since.

use super::client::Client;
use super::context::Context;
use super::failure::Failure;
use super::journal::broken;
use super::screen::{Screen, Tone, printable};
use super::table::pairs;
use crate::api::audit::{AuditQuery, AuditView};
use crate::store::{AuditHead, Chain, Verified};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// Show who did what, and verify that nobody has changed the record of it.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot audit list --since 7d --by ada      what ada asked for in the last week\n  embot audit list --element web-3          what was done to a guest\n  embot audit verify                        is the record whole? prints its head\n  embot audit verify --head 812:9f0c...     and does it still hold what it held when that was its head?\n  embot audit export > audit.jsonl          all of it, to be kept elsewhere\n\nEach entry carries the hash of the one before, so that an altered, dropped, doubled or moved entry shows. Keep the head that\n`verify` prints in another place now and then: only with it a cut-off end, or a record that was written anew, shows as well."
)]
pub struct Audit {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum What {
    /// Show entries, the newest last.
    #[command(after_help = "Examples:\n  embot audit list --since 2h\n  embot audit list --element host:host-a --output json")]
    List(List),
    /// Check that no entry was altered, dropped, doubled or moved.
    #[command(
        after_help = "Examples:\n  embot audit verify\n  embot audit verify --head 812:9f0c...\n  embot audit verify --file audit.jsonl\n\nExit code 1: it is not whole; what is wrong is said."
    )]
    Verify(Verify),
    /// Write all entries as JSON lines, as they are chained.
    #[command(after_help = "Example:\n  embot audit export > audit.jsonl")]
    Export,
}

#[derive(Debug, Clone, clap::Args)]
struct List {
    /// From then on: an instant, or how long ago (`2h`, `7d`).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// By one whose name contains this.
    #[arg(long, value_name = "WHO")]
    by: Option<String>,
    /// About this guest or host.
    #[arg(long, value_name = "ELEMENT")]
    element: Option<String>,
    /// How many of the newest are shown.
    #[arg(short = 'n', long, default_value_t = 100)]
    limit: u32,
}

#[derive(Debug, Clone, clap::Args)]
struct Verify {
    /// Verify an export, a backup, or the store of a plane that does not run, in place of the running plane's.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The head that was printed once: everything up to it must still be there, unchanged.
    #[arg(long, value_name = "NUMBER:HASH")]
    head: Option<AuditHead>,
}

impl Audit {
    /// Asks and shows.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self.what {
            What::List(List { since, by, element, limit }) => {
                let query = AuditQuery { since, by, element, limit: Some(limit) };
                let entries: Vec<AuditView> = context.client()?.find("/v1/audit", &query).await?;
                context.show(&entries, |screen| render(&entries, screen))
            }
            What::Export => {
                let mut lines = context.client()?.stream("/v1/audit/export", &()).await?;
                while let Some(line) = lines.next().await? {
                    broken(&line).map_or(Ok(()), Err)?;
                    context.print(&format!("{line}\n"))?;
                }
                Ok(())
            }
            What::Verify(verify) => {
                let chain = Chain::with_head(verify.head);
                let verified = match &verify.file {
                    Some(file) => of_file(file, chain)?,
                    None => of_daemon(&context.client()?, chain).await?,
                };
                context.show(&verified, |screen| sound(&verified, screen))
            }
        }
    }
}

fn wrong_entry(error: &crate::store::AuditFault) -> Failure {
    let hint = "keep this audit as it is, and compare it with an export or a backup made earlier";
    Failure::no(format!("the audit is not whole: {error}")).with_hint(hint)
}

async fn of_daemon(client: &Client, mut chain: Chain) -> Result<Verified, Failure> {
    let mut lines = client.stream("/v1/audit/export", &()).await?;
    while let Some(line) = lines.next().await? {
        broken(&line).map_or(Ok(()), Err)?;
        chain.take(&line).map_err(|error| wrong_entry(&error))?;
    }
    chain.finish().map_err(|error| wrong_entry(&error))
}

fn of_file(path: &Path, mut chain: Chain) -> Result<Verified, Failure> {
    let unread = |error: std::io::Error| Failure::wrong(format!("cannot read {}: {error}", path.display()));
    let mut lines = BufReader::new(File::open(path).map_err(unread)?);
    if lines.fill_buf().map_err(unread)?.first().is_some_and(|first| *first != b'{') {
        let take = &mut |line: &str| chain.take(line);
        return match crate::store::audit_of(path, take).map_err(|error| Failure::of(&error))? {
            Ok(()) => chain.finish().map_err(|error| wrong_entry(&error)),
            Err(error) => Err(wrong_entry(&error)),
        };
    }
    for line in lines.lines() {
        chain.take(&line.map_err(unread)?).map_err(|error| wrong_entry(&error))?;
    }
    chain.finish().map_err(|error| wrong_entry(&error))
}

fn sound(verified: &Verified, screen: &Screen) -> String {
    let head = verified.head;
    if head.number == 0 {
        return "the audit has no entry yet\n".to_owned();
    }
    let whole = screen.paint(Tone::Good, "whole");
    let from = if verified.first > 1 {
        format!(", from entry {} on (older ones were dropped)", verified.first)
    } else {
        String::new()
    };
    let count = head.number + 1 - verified.first;
    format!("the audit is {whole}: {count} entries{from}\nhead {head}\n")
}

fn render(entries: &[AuditView], screen: &Screen) -> String {
    let mut rows = Vec::new();
    for entry in entries {
        let answer = match &entry.answer {
            Some(answer) if entry.refused => format!("\n{}: {answer}", screen.paint(Tone::Warning, "refused")),
            Some(answer) => format!("\n{}", printable(answer)),
            None => String::new(),
        };
        let text = format!("{} {}: {}{answer}", entry.by, entry.what, printable(&entry.text));
        rows.push((format!("{} {}", entry.number, screen.time(entry.at)), text));
    }
    if rows.is_empty() {
        return "nothing was found\n".to_owned();
    }
    let rows: Vec<(&str, String)> = rows.iter().map(|(head, text)| (head.as_str(), text.clone())).collect();
    pairs(&rows, screen)
}
