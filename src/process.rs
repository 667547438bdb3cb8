//! What a process uses, as the kernel counts it: processor time, memory, open files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A process of this machine.
#[derive(Debug, Clone)]
pub struct Process(PathBuf);

impl Process {
    /// This one.
    pub fn own() -> Process {
        Process("/proc/self".into())
    }

    /// Another one.
    pub fn of(pid: u32) -> Process {
        Process(format!("/proc/{pid}").into())
    }

    /// Processor time so far, of all its threads, those that have ended included.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(self.0.join("stat")).unwrap_or_default();
        // The second field is the program's name, which may contain anything; the numbers follow the last bracket.
        let numbers = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let field = |number: usize| numbers.split_whitespace().nth(number).and_then(|text| text.parse::<u64>().ok());
        let ticks = field(11).unwrap_or(0) + field(12).unwrap_or(0);
        Duration::from_millis(ticks * 1_000 / TICKS_A_SECOND)
    }

    /// Processor time so far of the threads that are alive, by their names; numbers and what follows a name are left out.
    pub fn cpu_by_thread(&self) -> BTreeMap<String, Duration> {
        let mut times = BTreeMap::new();
        let Ok(threads) = fs::read_dir(self.0.join("task")) else { return times };
        for thread in threads.flatten() {
            let Some((name, time)) = thread_time(&thread.path()) else { continue };
            *times.entry(name).or_default() += time;
        }
        times
    }

    /// Threads that are alive.
    pub fn threads(&self) -> usize {
        fs::read_dir(self.0.join("task")).map_or(0, Iterator::count)
    }

    /// Files, sockets and pipes that are open.
    pub fn open_files(&self) -> usize {
        fs::read_dir(self.0.join("fd")).map_or(0, Iterator::count)
    }

    /// Resident memory now, in bytes.
    pub fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most resident memory it has had, in bytes.
    pub fn peak(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> u64 {
        let status = fs::read_to_string(self.0.join("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("");
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1_024
    }
}

/// Linux shows times in hundredths of a second on every machine.
const TICKS_A_SECOND: u64 = 100;

/// A thread's name without what tells it from its like, and its processor time.
fn thread_time(thread: &Path) -> Option<(String, Duration)> {
    let name = fs::read_to_string(thread.join("comm")).ok()?;
    let name = name.split([' ', '-', '\n']).next().unwrap_or("").to_owned();
    // Nanoseconds on a processor.
    let time = fs::read_to_string(thread.join("schedstat")).ok()?.split_whitespace().next()?.parse().ok()?;
    Some((name, Duration::from_nanos(time)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let own = Process::own();
        assert!(own.resident() > 100_000 && own.threads() > 0 && own.open_files() > 2);
        let named = std::thread::Builder::new().name("bench-thread 7".to_owned());
        let seen = named.spawn(move || own.cpu_by_thread().contains_key("bench")).unwrap().join();
        assert!(seen.unwrap(), "the thread shows under its name without its number");
    }
}
