//! What every command is given: where the daemon is, and how to show an answer.

use super::client::Client;
use super::failure::Failure;
use super::remote;
use super::screen::Screen;
use crate::config::{self, Config};
use serde::Serialize;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// How answers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For scripts.
    Json,
    /// A page to look at; of simulations only.
    Html,
}

/// The global options and what follows from them.
#[derive(Debug, Clone)]
pub struct Context {
    /// `--socket` or EMBOT_SOCKET.
    pub socket: Option<PathBuf>,
    /// `--plane`, which goes before the socket.
    pub remote: remote::Options,
    /// `--config`.
    pub config: Option<PathBuf>,
    /// How answers are shown.
    pub output: Output,
    /// How wide and colourful they may be.
    pub screen: Screen,
    /// Where they are written.
    pub out: Out,
}

/// Where answers are written.
#[derive(Clone)]
pub struct Out(Arc<Mutex<dyn Write + Send>>);

impl Out {
    /// Standard output.
    pub fn stdout() -> Out {
        Out(Arc::new(Mutex::new(io::stdout())))
    }

    /// Nowhere but in this text.
    #[cfg(test)]
    pub fn kept(text: &Arc<Mutex<Vec<u8>>>) -> Out {
        struct Kept(Arc<Mutex<Vec<u8>>>);
        impl Write for Kept {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        Out(Arc::new(Mutex::new(Kept(text.clone()))))
    }
}

impl fmt::Debug for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Out").finish_non_exhaustive()
    }
}

impl Context {
    /// The same for the daemon at this socket.
    pub fn for_socket(mut self, socket: &Path) -> Context {
        self.remote = remote::Options::default();
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

    /// A client of the plane that is named, else of the daemon on the named socket, else on the one of the configuration that is
    /// named, or is in this folder, or is the system's.
    pub fn client(&self) -> Result<Client, Failure> {
        if let Some(remote) = self.remote.remote()? {
            return Ok(Client::Network(remote));
        }
        if let Some(socket) = &self.socket {
            return Ok(Client::Socket(socket.clone()));
        }
        let usual = [config::FILE, config::SYSTEM_FILE].into_iter().map(Path::new).find(|path| path.exists());
        let Some(path) = self.config.as_deref().or(usual) else {
            let looked = format!(
                "there is no plane to ask: neither {} in this folder nor {} is there",
                config::FILE,
                config::SYSTEM_FILE
            );
            let hint = "name a plane with --plane, its configuration with --config or its socket with --socket; `embot init` makes a new one";
            return Err(Failure::wrong(looked).with_hint(hint));
        };
        Ok(Client::Socket(Config::load(path).map_err(Failure::complaints)?.socket))
    }

    /// Shows an answer: as JSON, or rendered for people.
    pub fn show(&self, answer: &impl Serialize, render: impl FnOnce(&Screen) -> String) -> Result<(), Failure> {
        match self.output {
            Output::Table => self.print(&render(&self.screen)),
            Output::Json | Output::Html => {
                let json = serde_json::to_string_pretty(answer);
                let json = json.map_err(|error| Failure::wrong(format!("the answer cannot be written as JSON: {error}")))?;
                self.print(&format!("{json}\n"))
            }
        }
    }

    /// Shows one of many answers that come over time: JSON takes a line each.
    pub fn show_line(&self, answer: &impl Serialize, render: impl FnOnce(&Screen) -> String) -> Result<(), Failure> {
        match self.output {
            Output::Table => self.print(&render(&self.screen)),
            Output::Json | Output::Html => {
                let json = serde_json::to_string(answer);
                let json = json.map_err(|error| Failure::wrong(format!("the answer cannot be written as JSON: {error}")))?;
                self.print(&format!("{json}\n"))
            }
        }
    }

    /// Writes at once. A reader that has gone (`| head`) is no error.
    pub fn print(&self, text: &str) -> Result<(), Failure> {
        self.print_bytes(text.as_bytes())
    }

    /// The same with bytes.
    pub fn print_bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = self.out.0.lock().unwrap_or_else(PoisonError::into_inner);
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::NobodyReads),
            Err(error) => Err(Failure::wrong(format!("cannot write the answer: {error}"))),
        }
    }
}
