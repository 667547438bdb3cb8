//! The stage the shipped policies are tried on.

use embot::model::{
    ActionId, ActionKind, Affinity, AffinityRule, Capacity, ContentHash, ElementId, EmbotId, Event, EventBody, Host, HostLoad,
    Level, Link, Maintenance, Mark, Mode, Offer, OfferedGuest, OfferedHost, OfferedModule, Peer, Reason, Span, Summary,
    Timestamp, Value, Verb, Verdict, Vm, VmId, VmLoad, VmState, World,
};
use embot::policy::{Bound, Engine, Limits, State, StepInput, TimerChange};
use embot::usage::Usage;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// One embot with a shipped policy, and the world around it.
pub struct Stage {
    world: Rc<RefCell<World>>,
    usage: Rc<RefCell<Usage>>,
    engine: Engine,
    bound: Bound,
    state: State,
    element: String,
    timers: BTreeMap<Arc<str>, (Timestamp, Value)>,
    now: Timestamp,
    seq: u64,
    verdict: Option<Verdict>,
}

/// How a level is written in the texts of these tests.
pub fn word(level: Level) -> &'static str {
    match level {
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Alarm => "alarm",
    }
}

impl Stage {
    /// Hosts `a` and `b` of 8 cores, no guests, and an embot for `element`: `host:a` or `vm:NAME`.
    pub fn new(policy: &str, element: &str) -> Stage {
        Stage::with(policy, element, BTreeMap::new())
    }

    /// The same, with settings that differ from the policy's own.
    pub fn with(policy: &str, element: &str, settings: BTreeMap<String, Value>) -> Stage {
        let mut world = World::new("home");
        for name in ["a", "b"] {
            world.put_host(Host {
                id: name.into(),
                site: "".into(),
                labels: BTreeMap::new(),
                capacity: Capacity { cpus: 8, memory_mib: 65_536 },
                link: Link::Up,
                maintenance: Maintenance::Off,
                load: HostLoad::default(),
                load_at: Timestamp(1),
                vms: BTreeSet::new(),
            });
        }
        let world = Rc::new(RefCell::new(world));
        let usage = Rc::new(RefCell::new(Usage::default()));
        // Debug builds are slow: the other limits, not the clock, must end what runs too long.
        let limits = Limits { deadline: std::time::Duration::from_secs(60), ..Limits::default() };
        let engine = Engine::new(world.clone(), usage.clone(), limits);
        let file = format!("policies/{policy}.rhai");
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file)).expect("a shipped policy");
        let compiled = engine.compile(&file, &text).unwrap_or_else(|errors| panic!("{}", errors[0]));
        let bound = engine.bind(compiled, &settings).expect("settings that it has");
        let (state, now) = (State::default(), Timestamp(1_000_000_000));
        Stage {
            world,
            usage,
            engine,
            bound,
            state,
            element: element.into(),
            timers: BTreeMap::new(),
            now,
            seq: 0,
            verdict: None,
        }
    }

    /// A peer that guests may go to and come from, of 16 cores of which so many are used, with so much memory free.
    pub fn peer(&mut self, name: &str, cores: f32, free_memory_mib: u64) {
        let summary = Summary {
            hosts: 2,
            cpus: 16,
            cpu_cores: cores,
            free_memory_mib,
            largest_free_mib: free_memory_mib / 2,
            free_vcpus: 32,
            ..Summary::default()
        };
        let peer = Peer { reachable: true, summary: Some(summary), summary_at: self.now, ..Peer::new(name, true, true) };
        self.world.borrow_mut().peers.insert(name.into(), peer);
    }

    pub fn edit_peer(&mut self, name: &str, edit: impl FnOnce(&mut Peer)) {
        edit(self.world.borrow_mut().peers.get_mut(name).expect("a peer"));
    }

    pub fn label(&mut self, name: &str, key: &str, value: &str) {
        self.world.borrow_mut().edit_vm(Self::id(name), |vm| drop(vm.labels.insert(key.into(), value.into())));
    }

    /// An offer of guest `web` by plane `away`, with a signed module, that host `a` can take and `b` cannot.
    pub fn offer() -> Offer {
        let permits: BTreeSet<Verb> = [Verb::Migrate, Verb::Undefine].into();
        let module = OfferedModule {
            name: "relieve".into(),
            version: "1".into(),
            serial: 1,
            hash: ContentHash::of(b"relieve"),
            signed_by: Some("ops".into()),
            mode: Mode::Act,
            permits: permits.clone(),
            in_force: false,
            refusal: None,
        };
        let guest = OfferedGuest {
            id: Self::id("web"),
            name: "web".into(),
            epoch: 3,
            vcpus: 2,
            memory_mib: 2_048,
            cpu_cores: Some(1.0),
            cpu_model: "Haswell".into(),
            devices: Vec::new(),
            networks: BTreeSet::new(),
            copy_bytes: 0,
            labels: BTreeMap::new(),
        };
        Offer {
            migration: "away/41".into(),
            plane: "away".into(),
            reason: "hot".into(),
            guest,
            modules: vec![module],
            mode: Mode::Act,
            permits,
            host: None,
            live: true,
            hosts: vec![
                OfferedHost { host: "a".into(), obstacle: None },
                OfferedHost { host: "b".into(), obstacle: Some("it is in maintenance".into()) },
            ],
        }
    }

    /// What is answered to an offer.
    pub fn answer(&mut self, offer: Offer) -> Option<Verdict> {
        self.verdict = None;
        assert_eq!(self.about_plane(EventBody::MigrationOffer(Arc::new(offer))), [""; 0]);
        self.verdict.take()
    }

    fn id(name: &str) -> VmId {
        // Names of tests are shorter than 16 bytes.
        VmId(uuid::Uuid::from_u128(name.bytes().fold(1, |id, byte| id * 256 + u128::from(byte))))
    }

    fn name(&self, id: VmId) -> String {
        self.world.borrow().vm(id).map_or("?".into(), |vm| vm.name.to_string())
    }

    pub fn guest(&mut self, name: &str, host: &str, vcpus: u32, memory_mib: u64, cores: f32) {
        self.world.borrow_mut().put_vm(Vm {
            id: Self::id(name),
            name: name.into(),
            host: host.into(),
            state: VmState::Running,
            reason: Reason::Booted,
            since: self.now,
            vcpus,
            memory_mib,
            balloon_mib: memory_mib,
            persistent: true,
            autostart: false,
            labels: BTreeMap::new(),
            disks: Vec::new(),
            nics: Vec::new(),
            agent: false,
            mark: Some(Mark { plane: "home".into(), epoch: 1 }),
            mode: Mode::Act,
            load: VmLoad { cpu_cores: Some(cores), ..VmLoad::default() },
            load_at: self.now,
        });
    }

    pub fn host_load(&mut self, host: &str, cores: f32) {
        let now = self.now;
        self.world.borrow_mut().sample_host(&host.into(), |host| {
            host.load.cpu_cores = cores;
            host.load_at = now;
        });
    }

    pub fn state_of(&mut self, name: &str, state: VmState, reason: Reason) {
        self.world.borrow_mut().edit_vm(Self::id(name), |vm| {
            vm.state = state;
            vm.reason = reason;
        });
    }

    pub fn maintenance(&mut self, host: &str, on: bool) {
        let state = if on { Maintenance::On(self.now) } else { Maintenance::Off };
        self.world.borrow_mut().edit_host(&host.into(), |host| host.maintenance = state);
    }

    pub fn rule(&mut self, name: &str, kind: Affinity, hard: bool, vms: &[&str]) {
        let mut world = self.world.borrow_mut();
        let mut rules = world.rules().to_vec();
        rules.push(AffinityRule { name: name.into(), kind, hard, vms: vms.iter().map(ToString::to_string).collect() });
        world.set_rules(rules);
    }

    pub fn busy(&mut self, name: &str, busy: bool) {
        let open = &mut self.world.borrow_mut().open;
        match busy {
            true => drop(open.insert(Self::id(name), (ActionId(1), Verb::Migrate))),
            false => drop(open.remove(&Self::id(name))),
        }
    }

    pub fn moved(&mut self, name: &str, host: &str) {
        let vm = self.world.borrow().vm(Self::id(name)).cloned().expect("a guest");
        self.world.borrow_mut().put_vm(Vm { host: host.into(), ..vm });
    }

    /// A guest has gone to another plane.
    pub fn left(&mut self, name: &str) {
        self.world.borrow_mut().remove_vm(Self::id(name));
    }

    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The state as JSON.
    pub fn state(&self) -> String {
        self.state.to_value().to_json().to_string()
    }

    pub fn has_timer(&self, name: &str) -> bool {
        self.timers.contains_key(name)
    }

    /// Ten seconds later: a sample of a host and its guests.
    pub fn sample(&mut self, host: &str) -> Vec<String> {
        self.now = self.now + Span::seconds(10);
        {
            let (mut world, now) = (self.world.borrow_mut(), self.now);
            world.sample_host(&host.into(), |host| host.load_at = now);
            let guests: Vec<VmId> = world.vms_on(&host.into()).map(|vm| vm.id).collect();
            for guest in &guests {
                world.sample_vm(*guest, |vm| vm.load_at = now);
            }
            let mut usage = self.usage.borrow_mut();
            usage.record_host(world.host(&host.into()).expect("a host"));
            guests.iter().filter_map(|guest| world.vm(*guest)).for_each(|vm| usage.record_vm(vm));
        }
        self.about_host(host, EventBody::Load)
    }

    pub fn about_host(&mut self, host: &str, body: EventBody) -> Vec<String> {
        self.step(ElementId::Host(host.into()), body)
    }

    pub fn about_plane(&mut self, body: EventBody) -> Vec<String> {
        self.step(ElementId::Plane, body)
    }

    pub fn about_vm(&mut self, name: &str, body: EventBody) -> Vec<String> {
        self.step(ElementId::Vm(Self::id(name)), body)
    }

    /// Lets time pass until this timer is due.
    pub fn next_timer(&mut self, name: &str) -> Vec<String> {
        let (due, content) = self.timers.remove(name).unwrap_or_else(|| panic!("no timer `{name}` is set"));
        self.now = self.now.max(due);
        self.step(self.own(), EventBody::Timer { name: name.into(), content })
    }

    fn own(&self) -> ElementId {
        match self.element.split_once(':') {
            Some(("vm", name)) => ElementId::Vm(Self::id(name)),
            Some((_, host)) => ElementId::Host(host.into()),
            None => ElementId::Plane,
        }
    }

    /// A step; what it proposes, as `verb guest: reason`.
    fn step(&mut self, element: ElementId, body: EventBody) -> Vec<String> {
        self.seq += 1;
        let event = Event { seq: self.seq, at: self.now, element, to: None, body };
        let embot = EmbotId { module: "test".into(), element: self.own() };
        let input = StepInput { embot: &embot, event: &event, now: self.now };
        let step = self.engine.step(&self.bound, &mut self.state, input).unwrap_or_else(|fault| panic!("{}", fault.error));
        self.verdict = step.verdict.map(|(verdict, _)| verdict);
        for change in step.timers {
            match change {
                TimerChange::Set { name, due, content } => drop(self.timers.insert(name, (due, content))),
                TimerChange::Cancel { name } => drop(self.timers.remove(&name)),
            }
        }
        let told = step.proposals.iter().map(|draft| match &draft.kind {
            ActionKind::Notify { level, text } => format!("{}: {text}", word(*level)),
            ActionKind::Migrate { vm, to: Some(to), .. } => format!("migrate {} to {to}: {}", self.name(*vm), draft.reason),
            ActionKind::Handover { vm, plane, .. } => format!("hand {} to {plane}: {}", self.name(*vm), draft.reason),
            kind => format!("{} {}: {}", kind.verb(), kind.vm().map_or("?".into(), |vm| self.name(vm)), draft.reason),
        });
        told.collect()
    }
}
