//! The terminal we write to: how wide it is, whether colours make sense, which time zone its reader lives in.
//!
//! All rendering takes a [`Screen`] and gives text, so that tests see exactly what people see.

use crate::api::stamp::Stamp;
use jiff::tz::TimeZone;
use std::io::IsTerminal;

/// Where text goes.
#[derive(Debug, Clone)]
pub struct Screen {
    /// Characters in a line, at least [`NARROWEST`].
    pub width: usize,
    /// May colours be used?
    pub color: bool,
    /// Is somebody looking, so that a line may be written anew?
    pub live: bool,
    /// The reader's time zone.
    pub zone: TimeZone,
}

/// No narrower than this, even if the terminal is: lines wrap then.
pub const NARROWEST: usize = 80;

/// The width of what is not a terminal, so that scripts and files are not cut short.
const UNBOUND: usize = 200;

/// Colours by what they mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    Plain,
    /// A heading.
    Strong,
    /// Less important.
    Faint,
    /// It went well.
    Good,
    /// Somebody should look.
    Warning,
    /// It went wrong.
    Bad,
}

impl Screen {
    /// Standard output as it is now.
    pub fn of_stdout() -> Screen {
        let live = std::io::stdout().is_terminal();
        let size = terminal_size::terminal_size().map(|(terminal_size::Width(width), _)| usize::from(width));
        Screen {
            width: if live { size.unwrap_or(NARROWEST).max(NARROWEST) } else { UNBOUND },
            color: live && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            live,
            zone: TimeZone::system(),
        }
    }

    /// A text in a tone.
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Strong => "1",
            Tone::Faint => "2",
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "31",
        };
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A time of day: `12:03:04`.
    pub fn time(&self, at: Stamp) -> String {
        self.format(at, "%H:%M:%S")
    }

    /// A time of day with milliseconds.
    pub fn exact_time(&self, at: Stamp) -> String {
        self.format(at, "%H:%M:%S%.3f")
    }

    /// A date and a time of day.
    pub fn date(&self, at: Stamp) -> String {
        self.format(at, "%Y-%m-%d %H:%M:%S")
    }

    fn format(&self, at: Stamp, format: &str) -> String {
        let Ok(instant) = jiff::Timestamp::from_millisecond(at.0.0) else { return at.to_string() };
        instant.to_zoned(self.zone.clone()).strftime(format).to_string()
    }
}

/// The tone of a state's word, wherever it stands.
pub fn tone(word: &str) -> Tone {
    match word {
        "up" | "running" | "done" | "act" => Tone::Good,
        "down" | "crashed" | "failed" | "alarm" | "disarmed" => Tone::Bad,
        "maintenance" | "paused" | "advised" | "warning" | "cancelled" | "rejected" | "suspended" | "unknown" => Tone::Warning,
        "off" | "observe" | "expired" | "withdrawn" => Tone::Faint,
        _ => Tone::Plain,
    }
}

/// A share of 1 as people read it: `93 %`.
pub fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.0} %", share * 100.0) } else { "-".to_owned() }
}

/// Cuts a text to so many characters; what was cut shows as `…`.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// Texts from elsewhere may hold control characters, which could move the cursor or worse.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A screen as tests see it: 80 columns, no colours, UTC.
#[cfg(test)]
pub fn plain(width: usize) -> Screen {
    Screen { width, color: false, live: false, zone: TimeZone::UTC }
}
