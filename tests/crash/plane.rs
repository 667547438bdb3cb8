//! A plane in a folder of its own, over hosts of a fleet that outlives its daemon.

use crate::door::Door;
use crate::fleet::{Fleet, LONG};
use crate::process::{Process, within};
use embot::model::VmId;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A plane's folder, and the fleet that its hosts are of.
pub struct Plane {
    fleet: Arc<Fleet>,
    folder: PathBuf,
}

const MODULES: [(&str, &str, &str); 3] = [
    ("count", include_str!("count.yaml"), include_str!("count.rhai")),
    ("listen", include_str!("listen.yaml"), include_str!("listen.rhai")),
    ("admit-offers", include_str!("../../embots/admit-offers.yaml"), include_str!("../../policies/admit-offers.rhai")),
];

impl Plane {
    /// The only plane of a fleet with the hosts `host-1` to `host-3`.
    pub fn new(fleet: &str) -> Plane {
        Plane::on(&Arc::new(Fleet::new(fleet)), "crash", &["host-1", "host-2", "host-3"], "")
    }

    /// A plane of these hosts, with more in its configuration. No module is there yet.
    pub fn on(fleet: &Arc<Fleet>, name: &str, hosts: &[&str], more: &str) -> Plane {
        let folder = fleet.path(name);
        for name in ["embots", "policies"] {
            fs::create_dir_all(folder.join(name)).expect("a folder");
        }
        let hosts = hosts.iter().map(|host| format!("  - {{ name: {host}, uri: \"{}\" }}\n", fleet.uri()));
        let hosts = format!("hosts:\n{}", hosts.collect::<String>());
        let config = include_str!("plane.yaml").replace("plane: crash", &format!("plane: {name}"));
        let config = config.replace("hosts: []\n", &hosts) + more;
        fs::write(folder.join("plane.yaml"), config).expect("a file");
        Plane { fleet: fleet.clone(), folder }
    }

    /// Changes its configuration: each of these is there, and becomes something else.
    pub fn configure(&self, changes: &[(&str, &str)]) {
        let path = self.path("plane.yaml");
        let mut text = fs::read_to_string(&path).expect("a file");
        for (old, new) in changes {
            assert!(text.contains(old), "the configuration has no `{old}`");
            text = text.replace(old, new);
        }
        fs::write(path, text).expect("a file");
    }

    /// The fleet that its hosts are of.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
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

    /// The guests that the daemon knows.
    pub fn guests(&self) -> Vec<VmId> {
        let elements = self.door().get("/v1/elements?kind=vm").unwrap_or_default();
        let ids = elements.as_array().into_iter().flatten().filter_map(|guest| guest["id"].as_str());
        ids.map(|id| VmId(id.parse().expect("a UUID"))).collect()
    }

    /// What `embot journal export` writes while a daemon runs.
    pub fn export(&self) -> Vec<u8> {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_embot"))
            .args(["journal", "export", "--config"])
            .arg(self.path("plane.yaml"))
            .output()
            .expect("embot starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Tells a daemon to stop; did it, by itself and with exit code 0?
    pub fn stop(&self, mut daemon: Process) -> bool {
        daemon.signal(Signal::SIGTERM);
        let status = daemon.end_within(Duration::from_secs(20));
        status.is_some_and(|status| status.code() == Some(0))
    }

    /// What the daemons said.
    pub fn said(&self) -> String {
        fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }

    /// The end of it.
    pub fn log(&self) -> String {
        let said = self.said();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}
