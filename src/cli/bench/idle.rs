//! A small quiet plane: the whole daemon as a process of its own, with nothing to do.

use super::BenchError;
use super::folder::{Folder, Module};
use crate::cli::progress::Progress;
use crate::process::Process;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// It runs so long before anything is measured.
const WARM_UP: Duration = Duration::from_secs(5);

/// A daemon that listens does so after this.
const PATIENCE: Duration = Duration::from_secs(30);

const CONFIG: &str = "plane: idle\nnew_modules: act\nfleet: fleet.yaml\n";

const FLEET: &str = "seed: 1
hosts: [{ name: 'host-{n}', count: 4 }]
guests: [{ name: 'guest-{n}', count: 40, memory_mib: 1024, mark: { plane: idle, epoch: 1 } }]
";

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct IdleFigures {
    /// Hosts.
    pub hosts: usize,
    /// Guests.
    pub guests: usize,
    /// So long it was measured.
    pub seconds: f64,
    /// Processor time as a share of one core, the simulated fleet included.
    pub cpu_of_core: f64,
    /// Resident memory, in MiB.
    pub resident_mib: f64,
    /// Threads.
    pub threads: usize,
}

/// A process that is ended when it is dropped.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.0.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.0.wait();
    }
}

/// Runs the daemon and measures it.
pub fn run(seconds: u64, progress: &Progress) -> Result<IdleFigures, BenchError> {
    progress.say("idle daemon: starting");
    let folder = Folder::new("idle")?;
    folder.write("plane.yaml", CONFIG)?;
    folder.write("fleet.yaml", FLEET)?;
    for module in Module::shipped() {
        folder.write(&format!("embots/{}", module.file), &module.manifest)?;
        for (name, text) in &module.policies {
            folder.write(&format!("policies/{name}"), text)?;
        }
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("run").arg("--config").arg(folder.path("plane.yaml"));
    // A socket named in the environment is another daemon's.
    command.env_remove("EMBOT_SOCKET").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut daemon = Daemon(command.spawn()?);
    let started = Instant::now();
    while !folder.path("embot.sock").exists() {
        if daemon.0.try_wait()?.is_some() || started.elapsed() > PATIENCE {
            return Err(BenchError::TooSlow("the idle daemon does not listen", PATIENCE));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    progress.wait(WARM_UP, "idle daemon: warming up");
    let process = Process::of(daemon.0.id());
    let (began, before) = (Instant::now(), process.cpu());
    progress.wait(Duration::from_secs(seconds), "idle daemon: measuring");
    let (cpu, seconds) = (process.cpu().saturating_sub(before), began.elapsed().as_secs_f64());
    let (resident, threads) = (process.resident(), process.threads());
    Ok(IdleFigures {
        hosts: 4,
        guests: 40,
        seconds,
        cpu_of_core: cpu.as_secs_f64() / seconds.max(0.001),
        resident_mib: resident as f64 / 1_048_576.0,
        threads,
    })
}
