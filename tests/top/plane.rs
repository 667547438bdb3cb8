//! A plane in a folder of its own, on a simulated fleet in which nothing happens by chance.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Two guests that do nothing crash, and the policy would start them; the loads stay as they are.
const FLEET: &str = "
seed: 1
hosts: [{ name: 'host-{n}', count: HOSTS, cpus: 8, memory_mib: 32768, site: north }]
guests:
  - { name: 'web-{n}', count: GUESTS, vcpus: 2, memory_mib: 2048, mark: { plane: home, epoch: 1 }, load: { cpu: 0.6, memory: 0.5 } }
  - { name: 'db-{n}', count: 2, vcpus: 2, memory_mib: 2048, mark: { plane: home, epoch: 1 }, load: { cpu: 0, memory: 0 } }
faults:
  - { at: 4s, fault: guest_crashes, guest: 'db-*' }
times: { boot: 1s }
";

const CONFIG: &str = "
plane: home
fleet: fleet.yaml
poll: 500ms
adopt: act
new_modules: advise
guardrails: { cooldown: 1s }
";

const POLICY: &str = "fn on_crashed(vm) { vm.start(\"it crashed\"); }\n";

const MANIFEST: &str = "
module: restart-now
version: \"1.0.0\"
description: Starts crashed guests at once.
policies: [restart-now.rhai]
covers: { each: vm }
mode: advise
permits: [start]
";

/// A plane and its daemon. Both end with the test.
pub struct Plane {
    folder: TempDir,
    daemon: Child,
}

impl Plane {
    /// A plane with so many hosts, which all have two guests at work.
    pub fn start(hosts: usize) -> Plane {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let fleet = FLEET.replace("HOSTS", &hosts.to_string()).replace("GUESTS", &(2 * hosts).to_string());
        write("fleet.yaml", &fleet);
        write("plane.yaml", CONFIG);
        write("policies/restart-now.rhai", POLICY);
        write("embots/restart-now.yaml", MANIFEST);
        let daemon = daemon(folder.path().join("plane.yaml"));
        let plane = Plane { folder, daemon };
        plane.wait();
        plane
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command that shows it.
    pub fn top(&self) -> String {
        format!("{} top --config {} --every 200ms", env!("CARGO_BIN_EXE_embot"), self.path("plane.yaml").display())
    }

    /// What a command says.
    pub fn embot(&self, arguments: &[&str]) -> String {
        let mut embot = Command::new(env!("CARGO_BIN_EXE_embot"));
        let said = embot.arg("--config").arg(self.path("plane.yaml")).args(arguments).output().unwrap();
        String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned()
    }

    /// Ends the daemon as a fault would.
    pub fn kill(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }

    /// Starts the daemon again.
    pub fn restart(&mut self) {
        self.daemon = daemon(self.path("plane.yaml"));
        self.wait();
    }

    /// Waits until it has told admins this.
    pub fn until_told(&self, words: &str) {
        let started = Instant::now();
        while !self.embot(&["events", "--limit", "100"]).contains(words) {
            assert!(started.elapsed() < Duration::from_secs(120), "{words} was never told:\n{}", self.embot(&["events"]));
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn wait(&self) {
        let started = Instant::now();
        while !self.embot(&["status"]).contains("armed") {
            let log = || fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(started.elapsed() < Duration::from_secs(60), "the daemon does not answer:\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        // It may have ended by itself; then it is gone all the same.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn daemon(config: PathBuf) -> Child {
    let log = OpenOptions::new().create(true).append(true).open(config.with_file_name("log")).unwrap();
    let mut embot = Command::new(env!("CARGO_BIN_EXE_embot"));
    embot.arg("run").arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    embot.spawn().expect("embot starts")
}

/// Asks a process to end; `true` once it is gone.
pub fn terminate(id: &str) -> bool {
    let id = Pid::from_raw(id.parse().expect("the id of a process"));
    kill(id, Signal::SIGTERM).is_err()
}
