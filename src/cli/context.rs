//! What every command is given: where the daemon is, and how to show an answer.

use super::client::Client;
use super::failure::Failure;
use super::screen::Screen;
use crate::config::{self, Config};
use serde::Serialize;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// How answers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For scripts.
    Json,
}

/// The global options and what follows from them.
#[derive(Debug, Clone)]
pub struct Context {
    /// `--socket` or EMBOT_SOCKET.
    pub socket: Option<PathBuf>,
    /// `--config`.
    pub config: Option<PathBuf>,
    /// How answers are shown.
    pub output: Output,
    /// Where they are shown.
    pub screen: Screen,
}

impl Context {
    /// The same for the daemon at this socket.
    pub fn for_socket(mut self, socket: &Path) -> Context {
        self.socket = Some(socket.to_owned());
        self
    }

    /// The configuration's path: as named, or the usual one.
    pub fn config_path(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(config::FILE))
    }

    /// The configuration.
    pub fn config(&self) -> Result<Config, Failure> {
        Config::load(self.config_path()).map_err(Failure::complaints)
    }

    /// A client of the daemon on the named socket, else on the configuration's, else on the usual one.
    pub fn client(&self) -> Result<Client, Failure> {
        if let Some(socket) = &self.socket {
            return Ok(Client { socket: socket.clone() });
        }
        if self.config.is_some() || Path::new(config::FILE).exists() {
            return Ok(Client { socket: self.config()?.socket });
        }
        Ok(Client { socket: "embot.sock".into() })
    }

    /// Shows an answer: as JSON, or rendered for people.
    pub fn show(&self, answer: &impl Serialize, render: impl FnOnce(&Screen) -> String) -> Result<(), Failure> {
        match self.output {
            Output::Table => print(&render(&self.screen)),
            Output::Json => {
                let json = serde_json::to_string_pretty(answer);
                let json = json.map_err(|error| Failure::wrong(format!("the answer cannot be written as JSON: {error}")))?;
                print(&format!("{json}\n"))
            }
        }
    }

    /// Shows one of many answers that come over time: JSON takes a line each.
    pub fn show_line(&self, answer: &impl Serialize, render: impl FnOnce(&Screen) -> String) -> Result<(), Failure> {
        match self.output {
            Output::Table => print(&render(&self.screen)),
            Output::Json => {
                let json = serde_json::to_string(answer);
                let json = json.map_err(|error| Failure::wrong(format!("the answer cannot be written as JSON: {error}")))?;
                print(&format!("{json}\n"))
            }
        }
    }
}

/// Writes to standard output at once. A reader that has gone (`| head`) is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// The same with bytes.
pub fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::NobodyReads),
        Err(error) => Err(Failure::wrong(format!("cannot write to standard output: {error}"))),
    }
}
