//! The daemon's log on standard error: text or JSON, with what suits whoever reads it.

use super::failure::Failure;
use nix::sys::stat::fstat;
use std::io::{self, IsTerminal, Write};
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Names the levels that are shown.
pub const VARIABLE: &str = "EMBOT_LOG";

/// Forms of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// Lines for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Starts the log, with `usual` where EMBOT_LOG says nothing.
pub fn start(form: Form, usual: &str) -> Result<(), Failure> {
    let wanted = std::env::var(VARIABLE).unwrap_or_default();
    let filter = filter(if wanted.is_empty() { usual } else { &wanted })?;
    let journal = is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref());
    // Colours are for eyes, not for files.
    let colours = io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Stderr { journal });
    let log = log.with_ansi(colours).with_target(false);
    // The only subscriber of the process; a second attempt could only come from a test.
    let _ = match (form, journal) {
        (Form::Text, false) => log.try_init(),
        (Form::Json, false) => log.json().try_init(),
        // The journal notes time and level itself.
        (Form::Text, true) => log.without_time().with_level(false).try_init(),
        (Form::Json, true) => log.without_time().json().try_init(),
    };
    Ok(())
}

fn filter(text: &str) -> Result<EnvFilter, Failure> {
    EnvFilter::try_new(text).map_err(|error| {
        Failure::wrong(format!("{VARIABLE}: `{text}` is not understood: {error}"))
            .with_hint("write a level (error, warn, info, debug, trace), or levels by part: `info,embot::migration=debug`")
    })
}

/// Does standard error lead to systemd's journal? It says which file that is, so that a redirection is not taken for it.
fn is_journal(stream: Option<&str>) -> bool {
    let Ok(file) = fstat(io::stderr()) else { return false };
    stream == Some(&format!("{}:{}", file.st_dev, file.st_ino))
}

/// Standard error; for the journal each entry begins with its level.
struct Stderr {
    journal: bool,
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Entry;

    fn make_writer(&'a self) -> Entry {
        Entry(None)
    }

    fn make_writer_for(&'a self, about: &Metadata<'_>) -> Entry {
        Entry(self.journal.then(|| priority(*about.level())))
    }
}

/// The number of a level, as sd-daemon(3) has them.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

/// One entry, written at once.
struct Entry(Option<&'static str>);

impl Write for Entry {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(priority) = self.0 else { return io::stderr().write(bytes) };
        let text = String::from_utf8_lossy(bytes);
        // The journal takes each line for itself.
        let lines: String = text.split_inclusive('\n').map(|line| format!("{priority}{line}")).collect();
        io::stderr().write_all(lines.as_bytes()).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Style;

    #[test]
    fn levels_are_understood_or_complained_about() {
        assert!(filter("debug").is_ok() && filter("info,embot::migration=trace").is_ok());
        let said = filter("embot=loud").unwrap_err().text(Style::Plain);
        assert!(said.contains("EMBOT_LOG") && said.contains("error, warn, info"), "{said}");
    }

    #[test]
    fn another_file_is_not_the_journal() {
        assert!(!is_journal(None) && !is_journal(Some("1:1")));
        let file = fstat(io::stderr()).unwrap();
        assert!(is_journal(Some(&format!("{}:{}", file.st_dev, file.st_ino))));
    }
}
