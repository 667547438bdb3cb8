//! Complaints about what admins wrote: file, line, column, what is wrong, and what to do.
//!
//! Every reader of text (configuration, manifests, policies, scenarios) reports through [`Diagnostic`], so that all of them
//! look alike on the terminal and in JSON.

mod render;

pub use render::{Style, render};

use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// Must it be mended?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// What was asked cannot be done.
    Error,
    /// It can, but it is probably not what was meant.
    Warning,
}

/// One complaint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Must it be mended?
    pub severity: Severity,
    /// The file.
    pub file: Arc<str>,
    /// Line, from 1; 0 where it concerns the whole file.
    pub line: u32,
    /// Column in characters, from 1; 0 where it concerns the whole line.
    pub column: u32,
    /// How many characters are meant, at least 1.
    pub length: u32,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// A number of things: `1 embot`, `3 embots`.
pub fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// Where something stands in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// How many characters, on that line.
    pub length: u32,
}

impl Spot {
    /// The first character of a file.
    pub const START: Spot = Spot { line: 1, column: 1, length: 1 };

    /// An error here.
    pub fn error(self, file: &str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(file, self.line, self.column, self.length, message)
    }
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(file: &str, line: u32, column: u32, length: u32, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            file: file.into(),
            line,
            column,
            length: length.max(1),
            message: message.into(),
            hint: None,
        }
    }

    /// The same with what to do about it.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }

    /// The same as a warning.
    pub fn as_warning(mut self) -> Diagnostic {
        self.severity = Severity::Warning;
        self
    }
}

/// One line, without the source: `file:line:column: error: message (hint)`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}:{}:{}: {word}: {}", self.file, self.line, self.column, self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}

/// The known name nearest to `name`, if one is near enough to be what was meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.into_iter().map(|known| (strsim::damerau_levenshtein(name, known), known)).min()?;
    (near.0 <= (name.chars().count() / 3).max(1)).then_some(near.1)
}
