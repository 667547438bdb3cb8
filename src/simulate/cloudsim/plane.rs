//! A day that is decided by a module of policies: the daemon's own manager over the compatibility world.
//!
//! At each tick hosts and guests are told to the manager as a hypervisor tells them, its embots step, and the planner takes
//! what they propose as one batch. Guardrails are off here, and only here: what is accepted begins in its order. How moves end
//! comes back as updates. Policies try moves on a [`Draft`](super::Draft), so that they see the world with all its defects.

use super::cluster::{Cluster, Guest, Host};
use super::day::{Day, Move};
use super::native::Reference;
use super::trial::{DraftTrials, guest_id};
use super::{Placement, Power, Setup};
use crate::manager::{HandoverSettings, HostSettings, Manager, Output, Settings};
use crate::model::{
    ActionId, ActionKind, ActionUpdate, Capacity, Description, DomainReport, HostId, HostLoad, HostReport, Input, Mark, Mode,
    Notice, NoticeBody, Reason, Record, Reply, Span, Ticket, Timestamp, VmLoad, VmState,
};
use crate::plan::Guardrails;
use crate::policy::Limits;
use crate::process::Process;
use crate::simulate::scenario::{Deployment, Outcome, Progress, Stopped, Variant, with_settings};
use crate::simulate::traces::Traces;
use crate::simulate::world::{Library, START};
use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PLANE: &str = "plane";
/// The processors of a host.
const PROCESSORS: u32 = 2;
/// The memory that hosts say they have.
const MEMORY_MIB: u64 = 32_768;
/// Guests begin to work when the day is so old, and the module is loaded then: what it does every five minutes it does at
/// every tick.
const BEGIN: Timestamp = Timestamp(START.0 + 100);
const DAY: Span = Span::hours(24);
/// No list or map of a policy grows beyond this.
const MOST: usize = 1_000_000;

/// A world that the literature compares policies in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Experiment {
    /// Its name among the scenarios.
    pub name: &'static str,
    /// What it is.
    pub description: &'static str,
    memory_mb: Option<f64>,
}

impl Experiment {
    /// The experiments, by name.
    pub const ALL: [Experiment; 2] = [
        Experiment {
            name: "cloudsim-planetlab",
            description: "CloudSim 3.0.3's model of 800 hosts, to the bit",
            memory_mb: None,
        },
        Experiment {
            name: "cloudsim-planetlab-32gib",
            description: "the same, with 32,768 MB of memory a host that bind",
            memory_mb: Some(MEMORY_MIB as f64),
        },
    ];

    /// The experiment of this name.
    pub fn named(name: &str) -> Option<Experiment> {
        Experiment::ALL.into_iter().find(|experiment| experiment.name == name)
    }

    /// Its world for a module: the policies of the literature come with a placement to begin with and a way to count power, all
    /// others get those of most.
    fn setup(self, module: Option<&str>) -> Setup {
        let usual = || Setup { placement: Placement::LeastPower { limit: 0.7 }, power: Power::ByUse, memory_mb: None };
        let known = module.and_then(Reference::of_module).map(|reference| reference.setup);
        Setup { memory_mb: self.memory_mb, ..known.unwrap_or_else(usual) }
    }

    /// Runs a day under the modules of a variant; `tell` hears now and then how far it has come, and may stop it.
    pub fn run(
        self,
        traces: &Arc<Traces>,
        variant: &Variant,
        library: &Library,
        mut tell: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Outcome, Stopped> {
        let started = Instant::now();
        let modules = variant.modules.as_deref().unwrap_or_default();
        let names: Vec<Arc<str>> = modules.iter().map(|deployment| deployment.module.clone()).collect();
        let setup = self.setup(names.first().map(|name| &**name));
        let day = Day::new(traces, &setup).map_err(|unfit| Stopped::Failed(unfit.to_string()))?;
        let mut plane = ManagedDay::new(day, traces);
        plane.begin(modules, &variant.settings, library)?;
        while plane.tick()? {
            let passed = Span((plane.day.now_s() * 1_000.0) as u64);
            if tell(Progress { passed, of: DAY }).is_break() {
                return Err(Stopped::Told);
            }
        }
        let ManagedDay { day, manager, .. } = plane;
        Ok(Outcome {
            scenario: self.name.into(),
            settings: variant.settings.clone(),
            seed: variant.seed.unwrap_or(0),
            figures: day.figures(),
            wall_s: started.elapsed().as_secs_f64(),
            peak_rss_bytes: Process::own().peak(),
            ..Outcome::of(&names, &[&manager])
        })
    }
}

/// A day, and the manager that decides in it.
struct ManagedDay {
    day: Day,
    manager: Manager,
    trials: Rc<DraftTrials>,
    traces: Arc<Traces>,
    /// Where guests were when they were last told of.
    told: Vec<Option<usize>>,
    /// Hosts that were told of with guests.
    in_use: Vec<bool>,
    under_way: VecDeque<(Move, ActionId)>,
    /// What has not been told yet.
    news: Vec<Input>,
}

impl ManagedDay {
    fn new(day: Day, traces: &Arc<Traces>) -> ManagedDay {
        let trials = Rc::new(DraftTrials::new(day.cluster()));
        let host = |id: &HostId| HostSettings { id: id.clone(), site: "".into(), labels: BTreeMap::new() };
        let settings = Settings {
            plane: PLANE.into(),
            hosts: trials.hosts.iter().map(host).collect(),
            rules: Vec::new(),
            guardrails: Guardrails { off: true, ..Guardrails::default() },
            policy: limits(),
            adopt: Mode::Act,
            handover: HandoverSettings::default(),
            new_modules: Mode::Act,
        };
        let mut manager = Manager::new(settings, crate::store::Recovered::nothing());
        manager.set_trials(trials.clone());
        let (guests, hosts) = (day.cluster().guests.len(), day.cluster().hosts.len());
        ManagedDay {
            day,
            manager,
            trials,
            traces: traces.clone(),
            told: vec![None; guests],
            in_use: vec![true; hosts],
            under_way: VecDeque::new(),
            news: Vec::new(),
        }
    }

    /// The manager learns of hosts and guests, and loads its modules.
    fn begin(&mut self, modules: &[Deployment], swept: &BTreeMap<String, f64>, library: &Library) -> Result<(), Stopped> {
        self.tell_all(BEGIN, true);
        for (number, deployment) in modules.iter().enumerate() {
            let changes = with_settings(&deployment.changes, swept, library, &deployment.module);
            let command = library.load(&deployment.module, Some(&changes)).map_err(Stopped::Failed)?;
            self.news.push(Input::Command { command, by: "simulation".into(), ticket: Some(Ticket(number as u64)) });
        }
        self.turn(BEGIN)
    }

    /// The next tick with all that follows from it until the one after; `false` when there is no further one.
    fn tick(&mut self) -> Result<bool, Stopped> {
        if self.day.next_tick().is_none() {
            return Ok(false);
        }
        let now = instant(self.day.now_s());
        self.tell_all(now, false);
        self.turn(now)?;
        while let Some((at_s, ended)) = self.day.finish_next() {
            for one in ended {
                if let Some(index) = self.under_way.iter().position(|(under_way, _)| *under_way == one)
                    && let Some((_, action)) = self.under_way.remove(index)
                {
                    self.news.push(Input::Update(action, ActionUpdate::Done));
                }
            }
            self.turn(instant(at_s))?;
        }
        Ok(true)
    }

    /// The manager takes its turn, and what it wants begins.
    fn turn(&mut self, now: Timestamp) -> Result<(), Stopped> {
        self.trials.show(Some(self.day.cluster()));
        let turned = self.manager.turn(std::mem::take(&mut self.news), now);
        self.trials.show(None);
        let Some((batch, outputs)) = turned else { return Ok(()) };
        let fault = batch.records.iter().find_map(|record| match record {
            Record::Fault { embot, error, .. } => Some(format!("policy of module {} failed: {error}", embot.module)),
            _ => None,
        });
        if let Some(fault) = fault {
            return Err(Stopped::Failed(fault));
        }
        drop(batch);
        for output in outputs {
            match output {
                Output::Dispatch(action) => {
                    let ActionKind::Migrate { vm, to: Some(to), .. } = &action.proposal.kind else {
                        let verb = action.proposal.kind.verb();
                        self.news.push(Input::Update(
                            action.id,
                            ActionUpdate::Failed(format!("{verb}: guests only move here").into()),
                        ));
                        continue;
                    };
                    self.start(action.id, *vm, to);
                }
                Output::Reply(_, Reply::Refused { reason, .. }) => return Err(Stopped::Failed(reason.to_string())),
                _ => {}
            }
        }
        Ok(())
    }

    fn start(&mut self, action: ActionId, vm: crate::model::VmId, to: &HostId) {
        let guest = usize::try_from(vm.0.as_u128()).unwrap_or(0).wrapping_sub(1);
        let to = self.trials.hosts.binary_search(to).unwrap_or(usize::MAX);
        let one = Move { guest, to };
        self.news.push(Input::Update(action, ActionUpdate::Started));
        match self.day.start(&[one]) {
            Ok(()) => self.under_way.push_back((one, action)),
            Err(illegal) => self.news.push(Input::Update(action, ActionUpdate::Failed(illegal.to_string().into()))),
        }
    }

    /// Hosts tell of their guests. One that sleeps says so once, and then nothing more until it wakes.
    fn tell_all(&mut self, now: Timestamp, first: bool) {
        let cluster = self.day.cluster().clone();
        for (guest, (now_on, told)) in cluster.guests.iter().map(|guest| guest.host).zip(&mut self.told).enumerate() {
            if let (Some(host), None) = (*told, now_on) {
                let notice =
                    |body| Input::Notice(self.trials.hosts[host].clone(), Notice { vm: guest_id(guest), at: now, body });
                self.news.push(notice(NoticeBody::State(VmState::Off, Reason::Shutdown)));
                self.news.push(notice(NoticeBody::Undefined));
            }
            *told = now_on;
        }
        for (index, host) in cluster.hosts.iter().enumerate() {
            let is_used = host.guests().next().is_some();
            if std::mem::replace(&mut self.in_use[index], is_used) || is_used {
                let domains = host
                    .guests()
                    .map(|guest| domain(&cluster.guests[guest], guest, host, first.then(|| &*self.traces.guests[guest].name)));
                let domains = domains.collect();
                let report = HostReport { asked_at: now, capacity: CAPACITY, load: Some(load(&cluster, host)), domains };
                self.news.push(Input::Report(self.trials.hosts[index].clone(), report));
            }
        }
    }
}

const CAPACITY: Capacity = Capacity { cpus: PROCESSORS, memory_mib: MEMORY_MIB };

fn instant(at_s: f64) -> Timestamp {
    Timestamp(START.0 + (at_s * 1_000.0).round() as i64)
}

/// Policies of the literature look at 800 hosts in one step.
fn limits() -> Limits {
    Limits {
        operations: u64::MAX,
        units: u64::MAX,
        array: MOST,
        map: MOST,
        deadline: Duration::from_secs(3_600),
        state_bytes: 64 * MOST,
        proposals: MOST,
        ..Limits::default()
    }
}

fn load(cluster: &Cluster, host: &Host) -> HostLoad {
    let (wanted, memory_mb) = host
        .guests()
        .map(|guest| &cluster.guests[guest])
        .fold((0.0, 0.0), |(wanted, memory_mb), guest| (wanted + guest.demand_mips, memory_mb + guest.memory_mb));
    HostLoad {
        cpu_cores: (host.utilisation * f64::from(PROCESSORS)) as f32,
        cpu_wait_cores: ((wanted - host.granted_mips).max(0.0) / host.kind.processor_mips) as f32,
        memory_used_mib: memory_mb as f32,
        memory_shared_mib: None,
        asleep: Some(host.guests().next().is_none()),
    }
}

/// A guest as its host tells of it; with its name, its description.
fn domain(guest: &Guest, number: usize, host: &Host, name: Option<&str>) -> DomainReport {
    let describe = |name: &str| {
        Box::new(Description {
            name: name.into(),
            vcpus: 1,
            memory_mib: guest.memory_mb as u64,
            persistent: true,
            autostart: false,
            labels: BTreeMap::new(),
            mark: Some(Mark { plane: PLANE.into(), epoch: 1 }),
            disks: Vec::new(),
            nics: Vec::new(),
        })
    };
    let cores = guest.demand_mips.min(host.kind.processor_mips) / host.kind.processor_mips;
    DomainReport {
        vm: guest_id(number),
        state: VmState::Running,
        reason: if name.is_some() { Reason::Booted } else { Reason::Migration },
        balloon_mib: None,
        load: VmLoad { cpu_cores: Some(cores as f32), ..VmLoad::default() },
        description: name.map(describe),
    }
}
