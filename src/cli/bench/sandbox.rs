//! A few misbehaving embots among a thousand good ones.
//!
//! The manager's own loop is driven here turn by turn, a host's report each, as fast as it goes. Misbehaving guests are alone
//! on their hosts, so that the turn of such a host is the misbehaving step, and all other turns are the other embots'.

use super::BenchError;
use super::delays::Delays;
use super::folder::Module;
use crate::cli::progress::Progress;
use crate::manager::{HostSettings, Manager, Settings};
use crate::model::{
    Capacity, Command, Description, DomainReport, HostId, HostLoad, HostReport, Input, Mode, Reason, Span, Timestamp, VmId,
    VmLoad, VmState,
};
use crate::store::Recovered;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Hosts of good guests, and guests on each.
const HOSTS: u128 = 100;
const GUESTS: u128 = 10;

const GOOD: &str = r#"
fn settings() { #{ alpha: 0.2, hot: 0.95 } }
fn on_load(vm, settings) {
    let mean = this.get("mean", 0.0);
    this.mean = mean + settings.alpha * (vm.cpu - mean);
    if this.mean > settings.hot { vm.migrate("hot"); }
}
"#;

/// What goes wrong, and the script.
const BAD: &[(&str, &str)] = &[
    ("loop", "fn on_load(vm) { let n = 0; loop { n += 1; } }"),
    ("huge-text", r#"fn on_load(vm) { let text = "0123456789"; loop { text += text; this.text = text; } }"#),
    ("search", "fn on_load(vm) { let list = []; list.pad(1000, 1); loop { list.index_of(2); } }"),
    ("nests-maps", "fn on_load(vm) { let map = #{}; loop { map = #{ map: map }; } }"),
    ("copies", "fn on_load(vm) { let list = []; list.pad(1000, 1); loop { let copy = list; copy.retain(|x| false); } }"),
    ("splits", r#"fn on_load(vm) { let text = ""; text.pad(60000, ','); loop { text.split(','); } }"#),
    ("prints", "fn on_load(vm) { let list = []; list.pad(1000, 1); loop { print(list); } }"),
    ("counts", "fn on_load(vm) { for i in 0..9000000000000000000 { let x = i; } }"),
];

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SandboxFigures {
    /// Good embots.
    pub embots: usize,
    /// Misbehaving embots.
    pub others: usize,
    /// Each of the two phases lasted so long.
    pub seconds: f64,
    /// Turns of the good embots' hosts (ten steps each) before there were any others.
    pub before: Delays,
    /// The misbehaving steps, until their embots were suspended.
    pub misbehaving: Delays,
    /// The good embots' turns after the suspension.
    pub after: Delays,
    /// Embots that are suspended at the end.
    pub suspended: usize,
}

/// Runs both phases and measures them.
pub fn run(seconds: u64, progress: &Progress) -> Result<SandboxFigures, BenchError> {
    let mut sandbox = Sandbox::new();
    let good = "module: good\nversion: '1'\ndescription: Keeps a mean.\npolicies: [good.rhai]\ncovers: { each: vm, names: ['good-*'] }\npermits: [migrate]\n";
    sandbox.load(&Module::new("good.yaml", good, &[("good.rhai", GOOD)]))?;
    sandbox.phase(Duration::from_secs(2), "sandbox: warming up", progress);
    let phase = Duration::from_secs(seconds);
    let before = sandbox.phase(phase, "sandbox: good embots alone", progress);
    for (name, policy) in BAD {
        let file = format!("{name}.rhai");
        let manifest = format!(
            "module: {name}\nversion: '1'\ndescription: Misbehaves.\npolicies: [{file}]\ncovers: {{ each: vm, names: ['bad-{name}'] }}\n"
        );
        sandbox.load(&Module::new(&format!("{name}.yaml"), &manifest, &[(&file, policy)]))?;
    }
    let misbehaving = sandbox.until_suspended();
    let after = sandbox.phase(phase, "sandbox: after the suspension", progress);
    let suspended = sandbox.suspended();
    Ok(SandboxFigures {
        embots: usize::try_from(HOSTS * GUESTS).unwrap_or(0),
        others: BAD.len(),
        seconds: phase.as_secs_f64(),
        before: Delays::of(before),
        misbehaving: Delays::of(misbehaving),
        after: Delays::of(after),
        suspended,
    })
}

struct Sandbox {
    manager: Manager,
    now: Timestamp,
}

impl Sandbox {
    fn new() -> Sandbox {
        let hosts = (0..HOSTS).map(good_host).chain(BAD.iter().map(|(name, _)| HostId::from(*name)));
        let host = |id: HostId| HostSettings { id, site: "".into(), labels: BTreeMap::new() };
        let settings =
            Settings { plane: "bench".into(), hosts: hosts.map(host).collect(), new_modules: Mode::Act, ..Settings::default() };
        let mut sandbox = Sandbox { manager: Manager::new(settings, Recovered::nothing()), now: Timestamp(0) };
        sandbox.round(true);
        sandbox
    }

    fn load(&mut self, module: &Module) -> Result<(), BenchError> {
        let (file, manifest, policies) = (module.file.clone(), module.manifest.clone(), module.policies.clone());
        let command = Command::LoadModule { file, manifest, policies };
        self.manager.turn(vec![Input::Command { command, by: "bench".into(), ticket: None }], self.now);
        // What came with it is handled.
        while self.manager.waiting() > 0 {
            self.manager.turn(vec![Input::Tick], self.now);
        }
        let loaded = self.manager.modules().iter().any(|loaded| module.file.strip_suffix(".yaml") == Some(&loaded.module));
        if loaded { Ok(()) } else { Err(BenchError::Refused(format!("{} is not taken over", module.file))) }
    }

    /// A report of every host; how long the turns took: of good hosts, and of misbehaving ones.
    fn round(&mut self, described: bool) -> (Vec<Duration>, Vec<Duration>) {
        self.now = self.now + Span::seconds(1);
        let now = self.now;
        let good = (0..HOSTS).map(|host| {
            let guests = (0..GUESTS).map(|guest| {
                let number = host * GUESTS + guest;
                domain(number + 1, &format!("good-{number}"), now, described)
            });
            report(good_host(host), now, guests.collect())
        });
        let good: Vec<Input> = good.collect();
        let bad = (10_000..).zip(BAD).map(|(number, (name, _))| {
            let guest = domain(number, &format!("bad-{name}"), now, described);
            report((*name).into(), now, vec![guest])
        });
        let bad: Vec<Input> = bad.collect();
        (self.turns(good), self.turns(bad))
    }

    fn turns(&mut self, inputs: Vec<Input>) -> Vec<Duration> {
        let mut times = Vec::with_capacity(inputs.len());
        for input in inputs {
            let started = Instant::now();
            let batch = self.manager.turn(vec![input], self.now);
            times.push(started.elapsed());
            drop(batch);
        }
        times
    }

    fn phase(&mut self, time: Duration, what: &str, progress: &Progress) -> Vec<Duration> {
        let (started, mut times) = (Instant::now(), Vec::new());
        let mut shown = None;
        while started.elapsed() < time {
            times.extend(self.round(false).0);
            let left = time.saturating_sub(started.elapsed()).as_secs();
            if shown.replace(left) != Some(left) {
                progress.say(&format!("{what}, {left} s to go"));
            }
        }
        times
    }

    /// Rounds until all misbehaving embots are suspended; how long their steps took.
    fn until_suspended(&mut self) -> Vec<Duration> {
        let mut times = Vec::new();
        // Three faults suspend an embot; should that fail, the figures will show it.
        for _ in 0..10 {
            if self.suspended() == BAD.len() {
                break;
            }
            times.extend(self.round(false).1);
        }
        times
    }

    fn suspended(&self) -> usize {
        self.manager.modules().iter().map(|module| module.suspended).sum()
    }
}

fn good_host(number: u128) -> HostId {
    HostId::from(format!("host-{number}").as_str())
}

fn domain(number: u128, name: &str, now: Timestamp, described: bool) -> DomainReport {
    let description = || Description {
        name: name.into(),
        vcpus: 2,
        memory_mib: 2_048,
        persistent: true,
        autostart: false,
        labels: BTreeMap::new(),
        mark: None,
        disks: vec!["vda".into()],
        nics: Vec::new(),
    };
    let cores = 0.4 + ((now.0 / 1_000).unsigned_abs() as u128 + number).rem_euclid(17) as f32 / 100.0;
    DomainReport {
        vm: VmId(uuid::Uuid::from_u128(number)),
        state: VmState::Running,
        reason: Reason::Booted,
        balloon_mib: Some(2_048),
        load: VmLoad { cpu_cores: Some(cores), memory_used_mib: Some(1_000.0), ..VmLoad::default() },
        description: described.then(|| Box::new(description())),
    }
}

fn report(host: HostId, now: Timestamp, domains: Vec<DomainReport>) -> Input {
    let load =
        HostLoad { cpu_cores: 5.0, cpu_wait_cores: 0.0, memory_used_mib: 20_000.0, memory_shared_mib: None, asleep: None };
    let capacity = Capacity { cpus: 32, memory_mib: 262_144 };
    Input::Report(host, HostReport { asked_at: now, capacity, load: Some(load), domains })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_misbehaves_is_suspended_and_nobody_else() {
        let figures = run(0, &Progress::new()).unwrap();
        assert_eq!((figures.suspended, figures.misbehaving.count), (BAD.len(), 3 * BAD.len()), "each at its third fault");
    }
}
