//! A simulated fleet in a process of its own, which outlives the daemons that manage it and writes down what they do to it.

use crate::process::{Process, within};
use embot::clock::SystemClock;
use embot::hypervisor::simulated::{Fault, RemoteFleet};
use embot::model::Timestamp;
use nix::sys::signal::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Long enough for anything that is to happen at all, on a machine that has much else to do.
pub const LONG: Duration = Duration::from_secs(90);

/// A fleet, and the folder of all that belongs to it.
pub struct Fleet {
    // Fields are dropped in this order: the process does not outlive the folder.
    process: Process,
    remote: Arc<RemoteFleet>,
    folder: TempDir,
}

impl Fleet {
    /// A fleet of this description, which runs from now on.
    pub fn new(description: &str) -> Fleet {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let text = |name: &str| path(name).display().to_string();
        fs::write(path("fleet.yaml"), description).expect("a file");
        let (listen, description, log) = (format!("unix:{}", text("fleet.sock")), text("fleet.yaml"), text("effects.jsonl"));
        let arguments = ["hypervisor", "--listen", &listen, "--fleet", &description, "--effects-log", &log];
        let process = Process::start(&arguments, &path("fleet.log"));
        let remote = RemoteFleet::new(&path("fleet.sock"), SystemClock::start(Timestamp(0)));
        within(LONG, || remote.hosts().ok()).expect("the fleet answers");
        Fleet { process, remote, folder }
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// How a plane names one of its hosts.
    pub fn uri(&self) -> String {
        format!("simulated:unix:{}", self.path("fleet.sock").display())
    }

    /// Its log of effects.
    pub fn effects(&self) -> PathBuf {
        self.path("effects.jsonl")
    }

    /// Lets something go wrong.
    pub fn inject(&self, fault: &Fault) {
        self.remote.inject(fault).expect("the fleet answers");
    }

    /// Stops its process where it stands, or lets it go on.
    pub fn freeze(&self, on: bool) {
        self.process.signal(if on { Signal::SIGSTOP } else { Signal::SIGCONT });
    }

    /// Takes its socket away, or puts it back.
    pub fn hide(&self, on: bool) {
        let (here, away) = (self.path("fleet.sock"), self.path("fleet.away"));
        let (from, to) = if on { (here, away) } else { (away, here) };
        fs::rename(from, to).expect("a socket can be moved");
    }

    /// Leaves a copy of everything in this folder.
    pub fn keep(&self, folder: &Path) {
        copy(self.folder.path(), folder).expect("a copy");
    }
}

/// Copies a folder's files, and those of the folders in it.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, to) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &to)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
