//! Why a command did not do what was asked, in the words the terminal shows, and the exit code that tells scripts.

use crate::api::error::Problem;
use crate::error::{Diagnostic, Severity, Style, count, render};
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// The answer is no: exit code 1.
    No(Problem),
    /// Wrong usage or input, or nobody there to ask: exit code 2.
    Wrong(Problem),
    /// No daemon answers.
    NoDaemon {
        /// Where it should.
        socket: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Files that admins wrote are not right. Each with its file's text, where that could be read.
    Complaints(Vec<(Diagnostic, Option<String>)>),
    /// Whoever read our output has gone; not worth a word.
    NobodyReads,
    /// A command has said all there is to say; only the exit code is left.
    Said(u8),
}

impl Failure {
    /// The answer is no.
    pub fn no(error: impl Into<String>) -> Failure {
        Failure::No(Problem { error: error.into(), hint: None })
    }

    /// Wrong usage or input.
    pub fn wrong(error: impl Into<String>) -> Failure {
        Failure::Wrong(Problem { error: error.into(), hint: None })
    }

    /// An error of another part, with all that led to it.
    pub fn of(error: &dyn std::error::Error) -> Failure {
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        Failure::wrong(causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}")))
    }

    /// The same with what to do next.
    pub fn with_hint(mut self, text: impl Into<String>) -> Failure {
        if let Failure::No(problem) | Failure::Wrong(problem) = &mut self {
            problem.hint = Some(text.into());
        }
        self
    }

    /// Complaints about one file; its text is read again for the lines they are about.
    pub fn complaints(found: Vec<Diagnostic>) -> Failure {
        let source = |complaint: &Diagnostic| std::fs::read_to_string(&*complaint.file).ok();
        Failure::Complaints(found.into_iter().map(|complaint| (source(&complaint), complaint)).map(|(a, b)| (b, a)).collect())
    }

    /// What the terminal shows; ends with a line break unless there is nothing to say.
    pub fn text(&self, style: Style) -> String {
        match self {
            Failure::No(problem) | Failure::Wrong(problem) => said(problem),
            Failure::NoDaemon { socket, source } => said(&no_daemon(socket, source)),
            Failure::Complaints(found) => {
                let mut text: String =
                    found.iter().map(|(complaint, source)| render(complaint, source.as_deref(), style) + "\n").collect();
                let errors = found.iter().filter(|(complaint, _)| complaint.severity == Severity::Error).count();
                let warnings = found.len() - errors;
                let _ = match (errors, warnings) {
                    (errors, 0) => writeln!(text, "{}", count(errors, "error")),
                    (0, warnings) => writeln!(text, "{}", count(warnings, "warning")),
                    (errors, warnings) => writeln!(text, "{}, {}", count(errors, "error"), count(warnings, "warning")),
                };
                text
            }
            Failure::NobodyReads | Failure::Said(_) => String::new(),
        }
    }

    /// The same for scripts: one object in one line, `error` and `hint`, or `diagnostics`.
    pub fn json(&self) -> String {
        let object = match self {
            Failure::NobodyReads | Failure::Said(_) => return String::new(),
            Failure::Complaints(found) => {
                serde_json::json!({ "diagnostics": found.iter().map(|(complaint, _)| complaint).collect::<Vec<_>>() })
            }
            Failure::No(problem) | Failure::Wrong(problem) => {
                serde_json::json!({ "error": problem.error, "hint": problem.hint })
            }
            Failure::NoDaemon { socket, source } => {
                let problem = no_daemon(socket, source);
                serde_json::json!({ "error": problem.error, "hint": problem.hint })
            }
        };
        format!("{object}\n")
    }

    /// The exit code: 1 where the answer is no, 2 for wrong usage or input.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::NobodyReads => 0,
            Failure::Said(code) => *code,
            Failure::No(_) => 1,
            Failure::Wrong(_) | Failure::NoDaemon { .. } | Failure::Complaints(_) => 2,
        })
    }
}

fn no_daemon(socket: &Path, source: &io::Error) -> Problem {
    let socket = socket.display();
    let (error, hint) = match source.kind() {
        io::ErrorKind::PermissionDenied => (
            format!("{socket} may be used by its owner only"),
            "run this as the user who runs the daemon, for example with sudo",
        ),
        _ => (
            format!("no daemon answers on {socket}"),
            "start it with `embot run --config plane.yaml`, or name its socket with --socket or EMBOT_SOCKET",
        ),
    };
    Problem { error, hint: Some(hint.to_owned()) }
}

fn said(problem: &Problem) -> String {
    let hint = problem.hint.as_ref().map(|hint| format!(" hint: {hint}\n")).unwrap_or_default();
    format!("error: {}\n{hint}", problem.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_says_what_to_do() {
        let no_daemon = |kind: io::ErrorKind| Failure::NoDaemon { socket: "/run/embot.sock".into(), source: kind.into() };
        let text = "plane: home\npol: 5s\n".to_owned();
        let complaint = Diagnostic::error("plane.yaml", 2, 1, 3, "unknown key `pol`").with_hint("did you mean `poll`?");
        let all = [
            Failure::no("action 17 is started, it needs no approval"),
            Failure::wrong("there is no guest `wbe-1`").with_hint("did you mean `web-1`?"),
            no_daemon(io::ErrorKind::NotFound),
            no_daemon(io::ErrorKind::PermissionDenied),
            Failure::Complaints(vec![(complaint.clone(), Some(text)), (complaint.as_warning(), None)]),
        ];
        let all: Vec<_> = all
            .iter()
            .map(|failure| format!("{}{}=> {:?}", failure.text(Style::Plain), failure.json(), failure.code()))
            .collect();
        insta::assert_snapshot!(all.join("\n---\n"));
    }
}
