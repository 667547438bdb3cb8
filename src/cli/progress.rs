//! What is going on, on a line that is written anew, where somebody looks.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// The line.
#[derive(Debug)]
pub struct Progress {
    live: bool,
}

impl Progress {
    /// On standard error, so that results can go elsewhere.
    pub fn new() -> Progress {
        Progress { live: std::io::stderr().is_terminal() }
    }

    /// Shows a text in place of the last.
    pub fn say(&self, text: &str) {
        if self.live {
            let mut out = std::io::stderr().lock();
            let _ = write!(out, "\r\x1b[K{text}").and_then(|()| out.flush());
        }
    }

    /// Waits so long.
    pub fn wait(&self, time: Duration, what: &str) {
        let started = Instant::now();
        while let Some(left) = time.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) {
            self.say(&format!("{what}, {} s to go", left.as_secs() + 1));
            std::thread::sleep(left.min(Duration::from_millis(500)));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.say("");
    }
}
