//! A terminal of some size with a shell in it: tmux, on a socket of its own, which ends with the test.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A condition that takes longer than this never comes.
const LONG: Duration = Duration::from_secs(90);

/// The proof that there is a tmux.
#[derive(Clone, Copy)]
pub struct Tmux(());

/// Is there a tmux? Where there is none, the test says so and is skipped; a machine of CI must have it.
pub fn tmux() -> Option<Tmux> {
    if Command::new("tmux").arg("-V").output().is_ok_and(|said| said.status.success()) {
        return Some(Tmux(()));
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "tmux is not installed");
    eprintln!("skipped: tmux is not installed");
    None
}

/// A terminal.
pub struct Terminal(TempDir);

impl Terminal {
    /// One with so many columns and lines, and a shell that waits.
    pub fn new(_: Tmux, width: u16, height: u16) -> Terminal {
        let terminal = Terminal(tempfile::tempdir().unwrap());
        let (width, height) = (width.to_string(), height.to_string());
        let shell = "env -u NO_COLOR PS1=ready: bash --norc --noprofile -i";
        terminal.tmux(&["new-session", "-d", "-x", &width, "-y", &height, shell]);
        // The status line of tmux would take a line.
        terminal.tmux(&["set", "-g", "status", "off"]);
        terminal.tmux(&["set", "-g", "window-size", "manual"]);
        terminal.resize(width.parse().unwrap(), height.parse().unwrap());
        terminal.wait("there is a shell", |screen| screen.contains("ready:"));
        terminal
    }

    fn socket(&self) -> PathBuf {
        self.0.path().join("tmux")
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut tmux = Command::new("tmux");
        tmux.arg("-u").arg("-S").arg(self.socket()).args(["-f", "/dev/null"]).args(arguments);
        let said = tmux.env("LC_ALL", "C.UTF-8").env("TERM", "screen").env_remove("TMUX").output().unwrap();
        assert!(said.status.success(), "tmux {arguments:?}: {}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8(said.stdout).unwrap()
    }

    /// Gives the terminal another size.
    pub fn resize(&self, width: u16, height: u16) {
        self.tmux(&["resize-window", "-x", &width.to_string(), "-y", &height.to_string()]);
    }

    /// Types a line.
    pub fn run(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.tmux(&["send-keys", "Enter"]);
    }

    /// Presses keys, by tmux's names of them.
    pub fn keys(&self, keys: &[&str]) {
        for key in keys {
            self.tmux(&["send-keys", key]);
        }
    }

    /// Waits until the screen is so, and gives it.
    pub fn wait(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let started = Instant::now();
        loop {
            let screen = self.tmux(&["capture-pane", "-p"]);
            if is_so(&screen) {
                return screen;
            }
            assert!(started.elapsed() < LONG, "never: {what}; the screen shows\n{screen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The server has ended already where its shell has.
        let _ = Command::new("tmux").arg("-S").arg(self.socket()).arg("kill-server").output();
    }
}
