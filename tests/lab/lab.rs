//! Real hosts and guests for tests, by `lab.sh`. A [`Lab`] is up as long as it lives.

use embot::clock::{Clock, SystemClock};
use embot::hypervisor::libvirt::LibvirtHost;
use embot::hypervisor::{Destination, Watch};
use embot::model::{Progress, Timestamp, VmId};
use nix::sys::signal::Signal;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Hosts of one run.
pub struct Lab {
    name: String,
    hosts: Vec<serde_json::Value>,
}

/// A guest of a run.
pub struct Guest {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub vm: VmId,
    log: PathBuf,
}

fn lab_sh(arguments: &[&str]) -> Result<String, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/lab.sh");
    let output = Command::new(script).args(arguments).output().map_err(|error| format!("{script}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("lab.sh {arguments:?}: {}", text(&output.stderr)))
    }
}

/// What keeps the lab from running here; `None`: nothing.
fn missing() -> Option<&'static str> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    let find = || {
        if !nix::unistd::geteuid().is_root() {
            return Some("root".to_owned());
        }
        lab_sh(&["install"]).err().map(|error| format!("what `lab.sh install` installs: {error}"))
    };
    MISSING.get_or_init(find).as_deref()
}

impl Lab {
    /// Starts hosts. `None`, after saying so: this machine cannot, and the test is skipped; where `CI=true` that is a failure.
    pub fn up(test: &str, hosts: usize) -> Option<Lab> {
        if let Some(missing) = missing() {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{test} cannot run without {missing}");
            // Not by a macro: the test harness would swallow it.
            let _ = writeln!(std::io::stderr(), "skipped: {test} needs {missing}");
            return None;
        }
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        let name = format!("t{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::SeqCst));
        let owner = std::process::id().to_string();
        let _ = lab_sh(&["down", "--stale"]);
        let status = lab_sh(&["up", "--name", &name, "--hosts", &hosts.to_string(), "--owner", &owner]).unwrap();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        Some(Lab { name, hosts: status["hosts"].as_array().unwrap().clone() })
    }

    /// A command of `lab.sh` for this run.
    pub fn run(&self, command: &str, arguments: &[&str]) -> Result<String, String> {
        lab_sh(&[&[command, "--name", &self.name], arguments].concat())
    }

    /// A command of `virsh` on a host.
    pub fn virsh(&self, host: &str, arguments: &[&str]) -> Result<String, String> {
        self.run("virsh", &[&["--host", host], arguments].concat())
    }

    fn field(&self, host: &str, field: &str) -> &str {
        let found = self.hosts.iter().find(|known| known["name"] == host).unwrap();
        found[field].as_str().unwrap()
    }

    /// The folder of this run.
    pub fn folder(&self) -> PathBuf {
        let base = std::env::var_os("EMBOT_LAB_BASE").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
        base.join(format!("embot-lab-{}", self.name))
    }

    /// The URI of a host for this process.
    pub fn uri(&self, host: &str) -> &str {
        self.field(host, "uri")
    }

    /// A connection to a host.
    pub fn host(&self, host: &str) -> LibvirtHost {
        LibvirtHost::new(host.into(), self.uri(host), clock())
    }

    /// A host as the destination of a migration.
    pub fn destination(&self, host: &str) -> Destination {
        Destination { host: host.into(), uri: self.field(host, "migration_uri").into(), migration_uri: None }
    }

    /// Does a QEMU of a host send a guest's memory?
    pub fn sends_memory(&self, host: &str) -> bool {
        // To one of the ports that libvirt uses for it.
        let filter = "( dport >= 49152 and dport <= 49215 )";
        let words = ["netns", "exec", self.field(host, "netns"), "ss", "-Htn", "state", "established", filter];
        let output = Command::new("ip").args(words).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        !output.stdout.is_empty()
    }

    /// Makes a guest; with `--start` among the options it counts already.
    pub fn guest(&self, host: &str, name: &str, options: &[&str]) -> Guest {
        let made = self.run("guest", &[&["--host", host, "--vm", name], options].concat()).unwrap();
        let made: serde_json::Value = serde_json::from_str(&made).unwrap();
        let vm = VmId(made["uuid"].as_str().unwrap().parse().unwrap());
        Guest { name: name.into(), vm, log: made["log"].as_str().unwrap().into() }
    }

    /// Tells a guest to do something.
    pub fn tell(&self, guest: &Guest, words: &[&str]) {
        self.run("tell", &[&["--vm", &guest.name], words].concat()).unwrap();
    }

    /// Kills a guest's QEMU.
    pub fn kill(&self, guest: &Guest) {
        self.signal(guest, Signal::SIGKILL);
    }

    /// Sends a signal to a guest's QEMU, which runs on one host only.
    pub fn signal(&self, guest: &Guest, signal: Signal) {
        self.signal_qemu(&["--vm", &guest.name], signal);
    }

    /// Sends a signal to a guest's QEMU on a host.
    pub fn signal_on(&self, host: &str, guest: &Guest, signal: Signal) {
        self.signal_qemu(&["--vm", &guest.name, "--host", host], signal);
    }

    fn signal_qemu(&self, which: &[&str], signal: Signal) {
        let pid = self.run("qemu-pid", which).unwrap().parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = self.run("down", &[]) {
            let _ = writeln!(std::io::stderr(), "{error}");
        }
    }
}

impl Guest {
    /// What the guest counted so far. It begins again at 1 when it boots.
    pub fn counts(&self) -> Vec<u64> {
        let log = std::fs::read_to_string(&self.log).unwrap();
        log.lines().filter_map(|line| line.strip_prefix("count ")?.trim().parse().ok()).collect()
    }

    /// Waits until it has counted some more.
    pub fn counts_on(&self) {
        let before = self.counts().len();
        until("the guest to count on", || (self.counts().len() >= before + 2).then_some(()));
    }

    /// Has it counted without a gap, a repetition or a new beginning?
    pub fn assert_no_gap(&self) {
        let counts = self.counts();
        let gap = counts.windows(2).find(|pair| pair[1] != pair[0] + 1);
        assert_eq!(gap, None, "{} counted {counts:?}", self.name);
    }
}

/// The machine's clock.
pub fn clock() -> Arc<dyn Clock> {
    SystemClock::start(Timestamp(0))
}

/// Waits until there is something, but not for ever.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "gave up waiting for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits for an order, notes its progress, and can change its mind.
#[derive(Default)]
pub struct Waiting {
    /// All progress told.
    pub progress: Mutex<Vec<Progress>>,
    /// Cancel at the first progress.
    pub cancel_at_progress: AtomicBool,
    /// Cancel.
    pub cancelled: AtomicBool,
}

impl Watch for Waiting {
    fn progress(&self, progress: Progress) {
        self.progress.lock().unwrap().push(progress);
        if self.cancel_at_progress.load(Ordering::SeqCst) {
            self.cancelled.store(true, Ordering::SeqCst);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }
}
