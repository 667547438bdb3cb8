//! Processes that end with the test, however it ends.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// An `embot` process.
pub struct Process(Child);

impl Process {
    /// Starts `embot` with these arguments. What it prints is added to the file `log`.
    pub fn start(arguments: &[&str], log: &Path) -> Process {
        Process::start_with(arguments, log, &[])
    }

    /// The same with these variables of the environment.
    pub fn start_with(arguments: &[&str], log: &Path, variables: &[(&str, PathBuf)]) -> Process {
        let log = OpenOptions::new().create(true).append(true).open(log).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_embot"))
            .args(arguments)
            .env("NO_COLOR", "1")
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn();
        Process(child.expect("embot starts"))
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.id().cast_signed());
        kill(id, signal).expect("the process is there");
    }

    /// Kills it as a fault would: it gets to do nothing more.
    pub fn kill(mut self) {
        // It may have ended by itself; then it is gone all the same.
        let _ = self.0.kill();
        self.0.wait().expect("a child can be waited for");
    }

    /// Has it ended?
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("a child can be waited for")
    }

    /// Waits for its end.
    pub fn end_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        within(limit, || self.ended())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Looks again and again until there is something to be seen, but not longer than `limit`.
pub fn within<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        let seen = look();
        if seen.is_some() || started.elapsed() >= limit {
            return seen;
        }
        std::thread::sleep(LOOK);
    }
}
