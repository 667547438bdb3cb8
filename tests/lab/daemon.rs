//! A plane as a process, driven by the command line as an admin would.

use crate::lab::{Guest, Lab};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A host of a lab for a plane's configuration, which counts as so many cores. Its load is that of its guests: the machine may
/// have much else to do.
pub fn host(lab: &Lab, host: &str, cpus: u32) -> String {
    let (uri, there) = (lab.uri(host), lab.destination(host).uri);
    let address = there.replace("qemu+tcp://", "").replace("/system", "");
    format!(
        "  - {{ name: {host}, uri: \"{uri}\", migration_uri: \"{there}\", migration_address: \"{address}\", \
         load_from: guests, capacity: {{ cpus: {cpus}, memory_mib: 1024 }} }}\n"
    )
}

/// A plane in a folder, and its daemon while that runs.
pub struct Plane {
    folder: tempfile::TempDir,
    daemon: Option<Child>,
}

impl Plane {
    /// A plane with this configuration and the modules that ship, which act.
    pub fn new(configuration: &str) -> Plane {
        let plane = Plane { folder: tempfile::tempdir().unwrap(), daemon: None };
        let (_, said, ok) = plane.embot(&["init", &plane.folder.path().display().to_string(), "--mode", "act"]);
        assert!(ok, "{said}");
        fs::write(plane.config(), configuration).unwrap();
        plane
    }

    /// Changes what stands in a module's manifest.
    pub fn hurry(&self, module: &str, changes: &[(&str, &str)]) {
        let path = self.folder.path().join("embots").join(module);
        let mut text = fs::read_to_string(&path).unwrap();
        for (old, new) in changes {
            assert!(text.contains(old), "{module} has no `{old}`");
            text = text.replace(old, new);
        }
        fs::write(path, text).unwrap();
    }

    /// Adds a module of its own name, with its policy.
    pub fn deploy(&self, name: &str, manifest: &str, policy: &str) {
        fs::write(self.folder.path().join(format!("policies/{name}.rhai")), policy).unwrap();
        let policies = format!("module: {name}\npolicies: [{name}.rhai]\n{manifest}");
        fs::write(self.folder.path().join(format!("embots/{name}.yaml")), policies).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("plane.yaml")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Output, errors, and whether the answer was yes.
    pub fn embot(&self, words: &[&str]) -> (String, String, bool) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_embot"));
        let output = command.arg("--config").arg(self.config()).args(words).env("NO_COLOR", "1").output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr), output.status.success())
    }

    /// An answer of the daemon; `None`: it does not answer, or says no.
    pub fn ask(&self, words: &[&str]) -> Option<Value> {
        let (text, _, ok) = self.embot(&[&["--output", "json"], words].concat());
        if ok { serde_json::from_str(&text).ok() } else { None }
    }

    /// Starts the daemon and waits until it decides.
    pub fn start(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_embot"));
        command.arg("--config").arg(self.config()).arg("run").env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.daemon = Some(command.spawn().unwrap());
        self.until("an answer", |plane| plane.ask(&["status"]).filter(|status| status["starting"] == false));
    }

    /// Kills the daemon as a fault would.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }

    /// Sends the daemon a signal, if it runs.
    pub fn signal(&self, signal: Signal) {
        if let Some(daemon) = &self.daemon {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon.id().cast_signed()), signal).unwrap();
        }
    }

    /// Waits, and shows the plane's view of things where that is in vain.
    #[track_caller]
    pub fn until<T>(&self, what: &str, look: impl Fn(&Plane) -> Option<T>) -> T {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(90);
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            if std::time::Instant::now() > deadline {
                panic!("gave up waiting for {what}\n{}", self.view());
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }

    /// The plane's view of things, for whoever looks for a fault.
    pub fn view(&self) -> String {
        let questions = [&["elements"][..], &["plan"], &["migrations"], &["events", "--limit", "60"]];
        let views = questions.map(|words| self.embot(words)).map(|(out, err, _)| [out, err].concat());
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        format!("{}\n{log}", views.join("\n"))
    }

    /// A guest as the plane knows it.
    pub fn guest(&self, guest: &Guest) -> Option<Value> {
        let guests = self.ask(&["elements", "--kind", "vm"])?;
        guests.as_array()?.iter().find(|known| known["id"] == guest.vm.to_string().as_str()).cloned()
    }

    /// Where a guest runs, with nothing under way.
    pub fn at(&self, guest: &Guest) -> Option<String> {
        let known = self.guest(guest).filter(|known| known["state"] == "running" && known["action"].is_null())?;
        known["host"].as_str().map(str::to_owned)
    }

    /// The latest action on a guest: the whole explanation.
    pub fn latest(&self, guest: &Guest) -> Option<Value> {
        Some(self.ask(&["explain", &guest.name])?["latest"].clone()).filter(|latest| !latest.is_null())
    }

    /// All records at hand since a position.
    pub fn events(&self, since: &str) -> Vec<Value> {
        let records = self.ask(&["events", "--details", "--limit", "100000", "--since", since]);
        records.as_ref().and_then(Value::as_array).cloned().unwrap_or_default()
    }

    /// Where the records end at present.
    pub fn position(&self) -> String {
        self.events("0").last().and_then(|record| record["position"].as_str()).unwrap_or("0").to_owned()
    }

    /// A record since a position that says so.
    pub fn told(&self, since: &str, text: &str) -> Option<Value> {
        self.events(since).into_iter().find(|record| record["text"].as_str().is_some_and(|said| said.contains(text)))
    }

    /// Waits until nothing is being done.
    pub fn idle(&self) {
        self.until("the end of all actions", |plane| plane.ask(&["status"]).filter(|status| status["open"] == 0));
    }

    /// The journal, whole: a line for each input and record, in batches that are numbered from 1 without a gap.
    pub fn journal(&self) -> Vec<Value> {
        let (text, error, ok) = self.embot(&["journal", "export"]);
        assert!(ok, "{error}");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut batches: Vec<u64> = lines.iter().map(|line| line["batch"].as_u64().unwrap()).collect();
        assert!(batches.is_sorted(), "batches come in order");
        batches.dedup();
        assert_eq!(batches.first(), Some(&1));
        let gap = batches.windows(2).find(|pair| pair[1] != pair[0] + 1);
        assert_eq!(gap, None, "the journal has a gap");
        lines
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}
