//! A world that scripts see: a simulated fleet and its planes in virtual time, and what tests and scenarios may do to them.
//! What they see of them is in `looking`.

mod describe;
mod library;
mod looking;
mod plain;

pub use describe::{DELAY, Described};
pub use library::{Library, files};
pub use plain::{seen, value as written};

use crate::api::names::{find_host, find_vm};
use crate::api::recent::{RecordView, Scribe};
use crate::error::nearest;
use crate::hypervisor::simulated::{Fleet, FleetPlan, reading};
use crate::manager::Manager;
use crate::model::{ActionId, ActionKind, Command, HostId, Mode, Record, Reply, Span, Timestamp, Value, Verb, VmId};
use crate::policy::Lines;
use crate::policy::suite::Stage;
use crate::simulate::{Died, Plane, Simulation};
use crate::store::Recovered;
use globset::Glob;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Where the time of each world begins: a Monday, at midnight UTC.
pub const START: Timestamp = Timestamp(1_767_571_200_000);

/// So long its planes take to know their hosts and guests.
const BEGINNING: Span = Span::seconds(1);

/// A world.
pub struct World {
    planes: Simulation,
    tellers: Vec<Teller>,
    library: Arc<Library>,
    /// The policies that came with its modules.
    deployed: BTreeSet<Arc<str>>,
    /// Has the test asked for faults? If not, there must be none.
    asked_for_faults: bool,
}

/// Puts what happened on one plane in words.
struct Teller {
    scribe: Scribe,
    /// Batches that were read.
    read: usize,
    told: Vec<RecordView>,
}

impl World {
    /// The world that a script describes; with `watch_lines`, it is known later which lines of policies ran.
    pub fn read(description: &Value, library: Arc<Library>, watch_lines: bool) -> Result<World, String> {
        World::new(describe::read(description, START)?, library, watch_lines)
    }

    /// The world so described.
    pub fn new(described: Described, library: Arc<Library>, watch_lines: bool) -> Result<World, String> {
        let mut planes = Vec::new();
        for described in described.planes {
            let mut manager = Manager::new(described.settings, Recovered::nothing());
            if watch_lines {
                manager.watch_lines();
            }
            planes.push(Plane::new(manager, described.migration).with_batches());
        }
        let tellers = planes.iter().map(|plane: &Plane| {
            let scribe = Scribe::new(&plane.manager().world(), std::iter::empty());
            Teller { scribe, read: 0, told: Vec::new() }
        });
        let tellers = tellers.collect();
        let planes = Simulation::new(described.fleet, planes, described.poll, described.delay).with_summaries(described.poll);
        let mut world = World { planes, tellers, library, deployed: BTreeSet::new(), asked_for_faults: false };
        // It begins when its planes know their hosts and guests.
        world.planes.run_for(BEGINNING).map_err(died)?;
        Ok(world)
    }

    /// The lines of policies that ran on any of its planes.
    pub fn lines_run(&self) -> Lines {
        let mut all = Lines::new();
        for plane in 0..self.tellers.len() {
            for (file, lines) in self.planes.manager(plane).lines_run() {
                all.entry(file).or_default().extend(lines);
            }
        }
        all
    }

    /// The policies that came with modules on any of its planes.
    pub fn deployed(&self) -> &BTreeSet<Arc<str>> {
        &self.deployed
    }

    /// Each of these patterns must be that of some guest.
    fn must_match(&self, patterns: &[String]) -> Result<(), String> {
        let fleet = self.planes.fleet();
        for pattern in patterns {
            let matcher = Glob::new(pattern).map_err(|error| error.to_string())?.compile_matcher();
            if !fleet.guests().any(|guest| matcher.is_match(&*guest.description.name)) {
                let near = nearest(pattern, fleet.guests().map(|guest| &*guest.description.name));
                let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
                return Err(format!("no guest is called `{pattern}`{hint}"));
            }
        }
        Ok(())
    }

    /// Policies that failed, where the test did not ask for them.
    pub fn unexpected_faults(&self) -> Vec<String> {
        let records = (0..self.tellers.len()).filter(|_| !self.asked_for_faults).flat_map(|plane| self.records(plane));
        let fault = |record: (Timestamp, &Record)| match record.1 {
            Record::Fault { embot, error, .. } => Some(format!("policy of module {} failed: {error}", embot.module)),
            _ => None,
        };
        records.filter_map(fault).collect()
    }

    /// The last of what happened, in words, with the time since the world began.
    pub fn last_told(&mut self, most: usize) -> Vec<String> {
        let several = self.tellers.len() > 1;
        let mut all = Vec::new();
        for plane in 0..self.tellers.len() {
            let name = self.planes.manager(plane).settings().plane.clone();
            for view in self.told(plane).iter().filter(|view| !view.detail) {
                let since = Span((view.at.0.0 - START.0).unsigned_abs());
                let on = if several { format!(" {name}:") } else { String::new() };
                all.push((view.at.0, format!("{since:>9}{on} {}", view.text)));
            }
        }
        all.sort_by_key(|(at, _)| *at);
        let skip = all.len().saturating_sub(most);
        let end = format!("{:>9} here the test ended", Span((self.planes.now().0 - START.0).unsigned_abs()));
        all.into_iter().skip(skip).map(|(_, line)| line).chain([end]).collect()
    }

    /// What one of its planes recorded, and when.
    pub fn records(&self, plane: usize) -> impl Iterator<Item = (Timestamp, &Record)> {
        let batches = self.planes.plane(plane).batches().iter();
        batches.flat_map(|batch| batch.records.iter().map(|record| (batch.now, record)))
    }

    /// The same in words.
    pub fn told(&mut self, plane: usize) -> &[RecordView] {
        let teller = &mut self.tellers[plane];
        let manager = self.planes.manager(plane);
        for batch in &self.planes.plane(plane).batches()[teller.read..] {
            let unknown = teller.scribe.unknown(batch);
            let world = manager.world();
            let known = unknown.into_iter().filter_map(|vm| Some((vm, world.vm(vm)?.name.clone(), world.vm(vm)?.host.clone())));
            let known = known.collect();
            drop(world);
            teller.scribe.tell(known);
            teller.told.extend(teller.scribe.read(batch));
        }
        teller.read = self.planes.plane(plane).batches().len();
        &teller.told
    }

    /// How many planes it has.
    pub fn planes(&self) -> usize {
        self.tellers.len()
    }

    /// The fleet.
    pub fn fleet(&self) -> &Fleet {
        self.planes.fleet()
    }

    /// The manager of one of its planes.
    pub fn manager(&self, plane: usize) -> &Manager {
        self.planes.manager(plane)
    }

    fn guest(&self, plane: usize, name: &str) -> Result<VmId, String> {
        find_vm(&self.manager(plane).world(), name).map_err(|error| error.problem.error)
    }

    fn host(&self, plane: usize, name: &str) -> Result<HostId, String> {
        find_host(&self.manager(plane).world(), name).map_err(|error| error.problem.error)
    }

    /// An admin's command, which must be obeyed.
    fn command(&mut self, plane: usize, command: Command) -> Result<Value, String> {
        match self.planes.command(plane, command).map_err(died)? {
            Some(Reply::Done { .. }) | None => Ok(Value::Unit),
            Some(Reply::Refused { reason }) => Err(reason),
        }
    }

    fn order(&mut self, plane: usize, verb: &str, guest: &str, to: Option<&str>) -> Result<Value, String> {
        let vm = self.guest(plane, guest)?;
        let wanted = verb.parse::<Verb>()?;
        let kind = match (wanted, to) {
            (Verb::Start, None) => ActionKind::Start { vm },
            (Verb::Shutdown, None) => ActionKind::Shutdown { vm, force_after: None },
            (Verb::Destroy, None) => ActionKind::Destroy { vm },
            (Verb::Reset, None) => ActionKind::Reset { vm },
            (Verb::Suspend, None) => ActionKind::Suspend { vm },
            (Verb::Resume, None) => ActionKind::Resume { vm },
            (Verb::Undefine, None) => ActionKind::Undefine { vm },
            (Verb::Migrate, to) => {
                let to = to.map(|host| self.host(plane, host)).transpose()?;
                ActionKind::Migrate { vm, to, live: true }
            }
            (Verb::Handover, Some(peer)) => {
                ActionKind::Handover { vm, plane: peer.into(), host: None, live: true, force_after: None }
            }
            _ => return Err(format!("a test cannot order `{verb}` so; see `order` in `embot reference`")),
        };
        self.command(plane, Command::Act { kind, reason: "the test".into() })
    }
}

/// A store that dies has no place here: these planes have none.
fn died(died: Died) -> String {
    died.to_string()
}

/// One entry of a list in a fleet file, as a script gives it: when it happens need not be said.
fn entry<T>(list: &str, given: &Value, take: impl FnOnce(FleetPlan) -> Vec<T>) -> Result<T, String> {
    let given = Value::Map([(list.to_owned(), Value::Array(vec![given.clone()]))].into());
    let mut written = plain::written(&given, &reading::SHAPE);
    if list != "guests"
        && let Some(entry) = written[list][0].as_object_mut()
    {
        entry.entry("at").or_insert_with(|| "0s".into());
    }
    written["hosts"] = serde_json::json!([{ "name": "any" }]);
    let plan = FleetPlan::parse(list, &written.to_string()).map_err(|found| describe::words(&found))?;
    take(plan).into_iter().next().ok_or_else(|| format!("`{list}` needs an entry"))
}

/// The arguments of a call, by what they must be.
struct Arguments<'a>(&'a [Value]);

impl Arguments<'_> {
    fn text(&self, at: usize) -> Result<&str, String> {
        match self.0.get(at) {
            Some(Value::Text(text)) => Ok(text),
            Some(other) => Err(format!("a text is wanted here, not {}", other.to_json())),
            None => Err("a text is wanted here".to_owned()),
        }
    }

    fn optional(&self, at: usize) -> Result<Option<&str>, String> {
        if at < self.0.len() { self.text(at).map(Some) } else { Ok(None) }
    }

    fn flag(&self, at: usize) -> Result<bool, String> {
        match self.0.get(at) {
            Some(Value::Bool(is)) => Ok(*is),
            _ => Err("`true` or `false` is wanted here".to_owned()),
        }
    }

    fn action(&self, at: usize) -> Result<ActionId, String> {
        match self.0.get(at) {
            Some(Value::Int(id)) if *id >= 0 => Ok(ActionId(id.unsigned_abs())),
            _ => Err("the `id` of an action is wanted here".to_owned()),
        }
    }

    fn mode(&self, at: usize) -> Result<Mode, String> {
        let text = self.text(at)?;
        let known = [Mode::Observe, Mode::Advise, Mode::Act].into_iter().find(|mode| mode.to_string() == text);
        known.ok_or_else(|| format!("`{text}` is no mode; the modes are observe, advise and act"))
    }

    fn value(&self, at: usize) -> &Value {
        self.0.get(at).unwrap_or(&Value::Unit)
    }
}

impl Stage for World {
    fn call(&mut self, plane: usize, method: &str, arguments: &[Value]) -> Result<Value, String> {
        let given = Arguments(arguments);
        match method {
            "deploy" => {
                let command = self.library.load(given.text(0)?, arguments.get(1))?;
                if let Command::LoadModule { policies, .. } = &command {
                    self.deployed.extend(policies.iter().map(|(name, _)| name.clone()));
                }
                self.command(plane, command)
            }
            "add" => {
                let guest = entry("guests", given.value(0), |plan| plan.guests)?;
                self.planes.fleet_mut().add(&guest).map(|_| Value::Unit).map_err(|error| error.to_string())
            }
            "fault" => {
                let fault = entry("faults", given.value(0), |plan| plan.faults)?;
                self.planes.fleet_mut().fail(&fault).map(|()| Value::Unit).map_err(|error| error.to_string())
            }
            "heat" => {
                let heat = entry("heats", given.value(0), |plan| plan.heats)?;
                self.must_match(&heat.guests)?;
                self.planes.fleet_mut().heat_up(&heat).map(|()| Value::Unit).map_err(|error| error.to_string())
            }
            "link" => {
                let other = self.plane(given.text(0)?)?;
                self.planes.link(plane, other, given.flag(1)?);
                Ok(Value::Unit)
            }
            "maintenance" => {
                let host = self.host(plane, given.text(0)?)?;
                self.command(plane, Command::Maintenance { host, on: given.flag(1)? })
            }
            "approve" => self.command(plane, Command::Approve { action: given.action(0)?, reason: None }),
            "reject" => self.command(plane, Command::Reject { action: given.action(0)?, reason: None, rest: None }),
            "cancel" => self.command(plane, Command::Cancel { action: given.action(0)?, reason: None }),
            "arm" => self.command(plane, Command::Arm),
            "disarm" => self.command(plane, Command::Disarm { cancel: false }),
            "mode" => self.command(plane, Command::ModuleMode { module: given.text(0)?.into(), mode: given.mode(1)? }),
            "manage" => {
                let vms = vec![self.guest(plane, given.text(0)?)?];
                self.command(plane, Command::Manage { vms, mode: given.mode(1)? })
            }
            "order" => self.order(plane, given.text(0)?, given.text(1)?, given.optional(2)?),
            "faults" => {
                self.asked_for_faults = true;
                Ok(self.faults(plane))
            }
            "vm" => self.vm(plane, given.text(0)?),
            "host" => self.host_view(plane, given.text(0)?),
            "actions" => self.actions(plane, given.optional(0)?),
            "refusals" => self.refusals(plane),
            "notices" => Ok(self.notices(plane)),
            "embot" => self.embot(plane, given.text(0)?, given.text(1)?),
            "migrations" => self.migrations(plane),
            "told" => Ok(Value::Array(self.told(plane).iter().map(|view| Value::Text(view.text.clone())).collect())),
            _ => Err(format!("a world has no `{method}`")),
        }
    }

    fn plane(&self, name: &str) -> Result<usize, String> {
        let mut names = (0..self.tellers.len()).map(|plane| self.manager(plane).settings().plane.clone());
        names.position(|plane| *plane == *name).ok_or_else(|| format!("this world has no plane `{name}`"))
    }

    fn now(&self) -> Timestamp {
        self.planes.now()
    }

    fn step(&mut self, until: Timestamp) -> Result<bool, String> {
        let more = self.planes.step(until).map_err(died)?;
        // Guests are called by their names as long as these are known.
        for plane in 0..self.tellers.len() {
            self.told(plane);
        }
        Ok(more)
    }
}
