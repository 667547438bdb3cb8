//! A plane in a folder of its own, and its fleet in a process of its own that outlives the daemon.

use crate::door::Door;
use crate::process::{Process, within};
use embot::clock::SystemClock;
use embot::hypervisor::simulated::{Fault, RemoteFleet};
use embot::model::Timestamp;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Long enough for anything that is to happen at all, on a machine that has much else to do.
pub const LONG: Duration = Duration::from_secs(90);

/// The plane's folder, and its fleet.
pub struct Plane {
    // Fields are dropped in this order: no process outlives the folder.
    fleet: Process,
    remote: Arc<RemoteFleet>,
    folder: TempDir,
}

const MODULES: [(&str, &str, &str); 2] = [
    ("count", include_str!("count.yaml"), include_str!("count.rhai")),
    ("listen", include_str!("listen.yaml"), include_str!("listen.rhai")),
];

impl Plane {
    /// A plane over a fleet that runs from now on. No module is there yet.
    pub fn new(fleet: &str) -> Plane {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let text = |name: &str| path(name).display().to_string();
        fs::write(path("fleet.yaml"), fleet).expect("a file");
        for name in ["embots", "policies"] {
            fs::create_dir(path(name)).expect("a folder");
        }
        let socket = text("fleet.sock");
        let hosts = (1..=3).map(|number| format!("  - {{ name: host-{number}, uri: \"simulated:unix:{socket}\" }}\n"));
        let plane = include_str!("plane.yaml").replace("hosts: []\n", &format!("hosts:\n{}", hosts.collect::<String>()));
        fs::write(path("plane.yaml"), plane).expect("a file");
        let listen = format!("unix:{socket}");
        let (description, log) = (text("fleet.yaml"), text("effects.jsonl"));
        let arguments = ["hypervisor", "--listen", &listen, "--fleet", &description, "--effects-log", &log];
        let fleet = Process::start(&arguments, &path("fleet.log"));
        let remote = RemoteFleet::new(&path("fleet.sock"), SystemClock::start(Timestamp(0)));
        within(LONG, || remote.hosts().ok()).expect("the fleet answers");
        Plane { fleet, remote, folder }
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a module where the daemon finds it.
    pub fn deploy(&self, module: &str) {
        let found = MODULES.iter().find(|(name, ..)| *name == module);
        let (name, manifest, policy) = found.unwrap_or_else(|| panic!("there is no module {module}"));
        fs::write(self.path("policies").join(format!("{name}.rhai")), policy).expect("a file");
        fs::write(self.path("embots").join(format!("{name}.yaml")), manifest).expect("a file");
    }

    /// Starts a daemon.
    pub fn daemon(&self) -> Process {
        self.daemon_with(&[])
    }

    /// Starts a daemon with further arguments.
    pub fn daemon_with(&self, more: &[&str]) -> Process {
        let config = self.path("plane.yaml").display().to_string();
        let arguments: Vec<&str> = ["run", "--config", &config].into_iter().chain(more.iter().copied()).collect();
        Process::start(&arguments, &self.path("daemon.log"))
    }

    /// The way to the daemon.
    pub fn door(&self) -> Door {
        Door::at(&self.path("embot.sock"))
    }

    /// The daemon's view of itself, if it answers.
    pub fn status(&self) -> Option<Value> {
        self.door().get("/v1/status")
    }

    /// Waits until the daemon's view of itself is as wanted; panics where it never is.
    pub fn wait_until(&self, what: &str, daemon: &mut Process, is_so: impl Fn(&Value) -> bool) -> Value {
        let seen = within(LONG, || match daemon.ended() {
            Some(status) => panic!("waiting until {what}, the daemon ended ({status}):\n{}", self.log()),
            None => self.status().filter(&is_so),
        });
        seen.unwrap_or_else(|| panic!("never {what}: {:?}\n{}", self.status(), self.log()))
    }

    /// Lets something go wrong in the fleet.
    pub fn inject(&self, fault: &Fault) {
        self.remote.inject(fault).expect("the fleet answers");
    }

    /// Stops the fleet's process where it stands, or lets it go on.
    pub fn freeze(&self, on: bool) {
        self.fleet.signal(if on { Signal::SIGSTOP } else { Signal::SIGCONT });
    }

    /// Takes the fleet's socket away, or puts it back.
    pub fn hide(&self, on: bool) {
        let (here, away) = (self.path("fleet.sock"), self.path("fleet.away"));
        let (from, to) = if on { (here, away) } else { (away, here) };
        fs::rename(from, to).expect("a socket can be moved");
    }

    /// Leaves a copy of everything in this folder.
    pub fn keep(&self, folder: &Path) {
        fs::create_dir_all(folder).expect("a folder");
        for name in ["embot.redb", "effects.jsonl", "daemon.log", "fleet.log", "plane.yaml"] {
            // What is not there yet cannot be kept.
            let _ = fs::copy(self.path(name), folder.join(name));
        }
    }

    /// The end of what the daemons said.
    pub fn log(&self) -> String {
        tail(&self.path("daemon.log"))
    }
}

fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
