//! A small world and an engine that looks at it, for the tests of this folder.

use super::{Bound, Engine, Fault, Limits, State, Step, StepInput};
use crate::error::Diagnostic;
use crate::model::testing::{host, peer, vm};
use crate::model::{ElementId, EmbotId, Event, EventBody, Timestamp, VmId, VmLoad, World};
use crate::usage::Usage;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Two hosts, `a` with guests `web` (1) and `db` (2), `b` with none; `web` is busy.
pub(super) struct Bench {
    pub(super) world: Rc<RefCell<World>>,
    pub(super) usage: Rc<RefCell<Usage>>,
    pub(super) engine: Engine,
}

pub(super) const NOW: Timestamp = Timestamp(1_000_000);

pub(super) fn web() -> VmId {
    VmId(uuid::Uuid::from_u128(1))
}

impl Bench {
    pub(super) fn new() -> Bench {
        // Debug builds are slow: the other limits, not the clock, must end what the tests run.
        Bench::with(Limits { deadline: std::time::Duration::from_secs(60), ..Limits::default() })
    }

    pub(super) fn with(limits: Limits) -> Bench {
        let mut world = World::new("home");
        world.put_host(host("a"));
        world.put_host(host("b"));
        world.peers.insert("b".into(), peer("b"));
        let mut busy = vm(1, "web", "a");
        busy.load = VmLoad { cpu_cores: Some(1.5), memory_used_mib: Some(512.0), ..VmLoad::default() };
        busy.load_at = NOW;
        busy.labels.insert("tier".into(), "web".into());
        world.put_vm(busy.clone());
        world.put_vm(vm(2, "db", "a"));
        world.sample_host(&"a".into(), |host| {
            host.load.cpu_cores = 6.0;
            host.load_at = NOW;
        });
        let mut usage = Usage::default();
        for second in 0..60 {
            busy.load_at = Timestamp(NOW.0 - 60_000 + (second + 1) * 1_000);
            busy.load.cpu_cores = Some(second as f32 / 30.0);
            usage.record_vm(&busy);
        }
        let (world, usage) = (Rc::new(RefCell::new(world)), Rc::new(RefCell::new(usage)));
        let engine = Engine::new(world.clone(), usage.clone(), limits);
        Bench { world, usage, engine }
    }

    /// As the daemon does it.
    pub(super) fn checked(&self, text: &str) -> Result<Bound, Vec<Diagnostic>> {
        let policy = self.engine.compile("test.rhai", text)?;
        Ok(self.engine.bind(policy, &BTreeMap::new()).expect("no settings were given"))
    }

    /// Without the static check: what it would refuse must end well when it runs all the same.
    pub(super) fn bound(&self, text: &str) -> Result<Bound, Vec<Diagnostic>> {
        let policy = self.engine.compile_unchecked("test.rhai", text)?;
        Ok(self.engine.bind(policy, &BTreeMap::new()).expect("no settings were given"))
    }

    /// One step on an event.
    pub(super) fn step(&self, bound: &Bound, state: &mut State, event: &Event) -> Result<Step, Fault> {
        let embot = EmbotId { module: "m".into(), element: ElementId::Vm(web()) };
        self.engine.step(bound, state, StepInput { embot: &embot, event, now: NOW })
    }

    /// One step of a script on a `load` of `web`, with a fresh state.
    pub(super) fn load(&self, text: &str) -> Result<(Step, State), Fault> {
        let bound = self.bound(text).map_err(|errors| Fault { error: errors[0].clone(), deadline: false })?;
        let mut state = State::default();
        self.step(&bound, &mut state, &load()).map(|step| (step, state))
    }
}

pub(super) fn event(element: ElementId, body: EventBody) -> Event {
    Event { seq: 7, at: NOW, element, to: None, body }
}

pub(super) fn load() -> Event {
    event(ElementId::Vm(web()), EventBody::Load)
}
