//! The description of a simulated fleet, as it stands in a YAML file.
//!
//! ```yaml
//! seed: 7
//! hosts:
//!   - { name: "north-{n}", count: 4, site: north, cpus: 8, memory_mib: 32768 }
//! guests:
//!   - { name: "web-{n}", count: 12, vcpus: 2, memory_mib: 2048, load: { cpu: 0.3 } }
//! heats:
//!   - { at: 25s, every: 2m, for: 90s, cpu: 0.95 }
//! faults:
//!   - { at: 90s, every: 5m, fault: guest_crashes, guest: web-3 }
//! ```
//! An entry with a `count` makes that many, and `{n}` in its name is replaced by 1, 2, 3 and so on. Everything that names a host
//! or a guest may name several by a pattern such as `web-*`.

use super::fault::Chances;
use super::load::Shape;
use crate::error::{Diagnostic, nearest};
use crate::model::{Mark, Span};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A fleet's description.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FleetPlan {
    /// All that is left to chance follows from it.
    pub seed: u64,
    /// The hosts.
    pub hosts: Vec<HostPlan>,
    /// The guests.
    pub guests: Vec<GuestPlan>,
    /// Times at which the guests of a host get busy.
    pub heats: Vec<HeatPlan>,
    /// Faults at given times.
    pub faults: Vec<FaultPlan>,
    /// Faults by chance.
    pub chances: Chances,
    /// How long things take.
    pub times: Times,
}

/// A host, or several alike.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostPlan {
    /// Its name; with `{n}` where there are several.
    pub name: String,
    /// How many.
    pub count: u32,
    /// Where it stands.
    pub site: Arc<str>,
    /// Labels.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Cores.
    pub cpus: u32,
    /// Memory.
    pub memory_mib: u64,
    /// What its link carries for migrations, in and out together.
    pub bandwidth_mib_per_s: f64,
}

/// A guest, or several alike.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuestPlan {
    /// Its name; with `{n}` where there are several.
    pub name: String,
    /// Its UUID; made from its name where not set.
    pub uuid: Option<uuid::Uuid>,
    /// How many.
    pub count: u32,
    /// Names or patterns of hosts, over which the guests are dealt out in turn; empty: all hosts.
    pub on: Vec<String>,
    /// Processors.
    pub vcpus: u32,
    /// Memory at the most.
    pub memory_mib: u64,
    /// Memory it holds at first; all where not set.
    pub balloon_mib: Option<u64>,
    /// The size of its disks together, which counts where a migration copies them.
    pub disk_mib: u64,
    /// Labels.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Targets of its disks.
    pub disks: Vec<Arc<str>>,
    /// Targets of its network cards.
    pub nics: Vec<Arc<str>>,
    /// Does it run at first?
    pub running: bool,
    /// Does its host start it by itself?
    pub autostart: bool,
    /// Has it a guest agent?
    pub agent: bool,
    /// Does it ignore requests to shut down?
    pub ignores_shutdown: bool,
    /// The owner its metadata names.
    pub mark: Option<Mark>,
    /// What it does.
    pub load: LoadPlan,
}

/// What a guest does.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoadPlan {
    /// Processor use it wants, as a share of its processors.
    pub cpu: Shape,
    /// Memory in use, as a share of its memory.
    pub memory: Shape,
    /// Disk traffic, in MiB a second.
    pub disk_mib_per_s: Shape,
    /// Disk operations a second.
    pub iops: Shape,
    /// Network traffic, in MiB a second.
    pub net_mib_per_s: Shape,
    /// Memory it dirties while it runs, in MiB a second.
    pub dirty_mib_per_s: f64,
}

/// The running guests of a host get busy for a while. The heat is the guests': it goes along when they move.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeatPlan {
    /// The first time, counted from the fleet's start.
    pub at: Span,
    /// Again after this.
    #[serde(default)]
    pub every: Option<Span>,
    /// How long it lasts.
    #[serde(rename = "for")]
    pub lasts: Span,
    /// Names or patterns of hosts, one of which is heated each time, in turn; empty: all hosts.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Names or patterns of the guests that get busy; empty: all.
    #[serde(default)]
    pub guests: Vec<String>,
    /// How many of them at the most.
    #[serde(default)]
    pub count: Option<u32>,
    /// Processor use they want, as a share of their processors.
    pub cpu: f64,
}

/// A fault at a given time.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultPlan {
    /// The first time, counted from the fleet's start.
    pub at: Span,
    /// Again after this.
    #[serde(default)]
    pub every: Option<Span>,
    /// What goes wrong.
    pub fault: FaultName,
    /// On which hosts: a name or a pattern.
    #[serde(default)]
    pub host: Option<String>,
    /// In which guests: a name or a pattern.
    #[serde(default)]
    pub guest: Option<String>,
    /// How long it lasts, where it lasts.
    #[serde(default, rename = "for")]
    pub lasts: Option<Span>,
    /// Where migrations break off.
    #[serde(default)]
    pub at_percent: Option<u8>,
    /// The disk that fails.
    #[serde(default)]
    pub disk: Option<Arc<str>>,
}

/// Faults by name. See [`super::Trouble`] and [`super::Mishap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are those of `Trouble` and `Mishap`, where they are explained")]
pub enum FaultName {
    HostDies,
    HostHangs,
    HostLost,
    HostRefuses,
    StatisticsMissing,
    MigrationsFail,
    GuestCrashes,
    GuestStops,
    GuestSleeps,
    GuestReboots,
    Watchdog,
    IoError,
    AgentLost,
}

impl FaultName {
    /// Is it a host's, rather than a guest's?
    pub fn is_of_host(self) -> bool {
        matches!(
            self,
            FaultName::HostDies
                | FaultName::HostHangs
                | FaultName::HostLost
                | FaultName::HostRefuses
                | FaultName::StatisticsMissing
                | FaultName::MigrationsFail
        )
    }
}

/// How long things take.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Times {
    /// From the order to start until the guest runs.
    pub start: Span,
    /// From then until its agent answers; it does not hear a request to shut down before.
    pub boot: Span,
    /// From the request to shut down until it is off.
    pub shutdown: Span,
    /// So long a guest is waited for that was asked to shut down and is not to be forced.
    pub shutdown_patience: Span,
    /// Everything else that takes no time worth mentioning.
    pub quick: Span,
    /// How fast memory is saved and restored.
    pub disk_mib_per_s: f64,
    /// What a migration costs on either host, in cores for each of the guest's processors.
    pub migration_cpu: f64,
}

impl Default for HostPlan {
    fn default() -> HostPlan {
        HostPlan {
            name: String::new(),
            count: 1,
            site: "".into(),
            labels: BTreeMap::new(),
            cpus: 8,
            memory_mib: 32_768,
            bandwidth_mib_per_s: 1_000.0,
        }
    }
}

impl Default for GuestPlan {
    fn default() -> GuestPlan {
        GuestPlan {
            name: String::new(),
            uuid: None,
            count: 1,
            on: Vec::new(),
            vcpus: 2,
            memory_mib: 2_048,
            balloon_mib: None,
            disk_mib: 10_240,
            labels: BTreeMap::new(),
            disks: vec!["vda".into()],
            nics: vec!["vnet0".into()],
            running: true,
            autostart: false,
            agent: true,
            ignores_shutdown: false,
            mark: None,
            load: LoadPlan::default(),
        }
    }
}

impl Default for LoadPlan {
    fn default() -> LoadPlan {
        LoadPlan {
            cpu: Shape::Constant(0.1),
            memory: Shape::Constant(0.5),
            disk_mib_per_s: Shape::Constant(0.2),
            iops: Shape::Constant(20.0),
            net_mib_per_s: Shape::Constant(0.1),
            dirty_mib_per_s: 20.0,
        }
    }
}

impl Default for Times {
    fn default() -> Times {
        Times {
            start: Span(500),
            boot: Span::seconds(5),
            shutdown: Span::seconds(2),
            shutdown_patience: Span::minutes(5),
            quick: Span(100),
            disk_mib_per_s: 500.0,
            migration_cpu: 0.1,
        }
    }
}

impl HeatPlan {
    /// What is wrong with it.
    fn complaint(&self) -> Option<String> {
        if self.every == Some(Span::ZERO) {
            return Some("`every` must be longer than 0".to_owned());
        }
        (!(0.0..=1.0).contains(&self.cpu)).then(|| format!("`cpu: {}` is a share and must lie between 0 and 1", self.cpu))
    }
}

impl FaultPlan {
    /// What is wrong with it.
    fn complaint(&self) -> Option<String> {
        if self.every == Some(Span::ZERO) {
            return Some("`every` must be longer than 0".to_owned());
        }
        let (wanted, other) = if self.fault.is_of_host() { ("host", "guest") } else { ("guest", "host") };
        let given = |name: &str| if name == "host" { self.host.is_some() } else { self.guest.is_some() };
        if !given(wanted) {
            return Some(format!("this fault strikes a {wanted}: add `{wanted}: NAME`"));
        }
        if given(other) {
            return Some(format!("this fault strikes a {wanted}: remove `{other}`"));
        }
        self.at_percent.filter(|percent| *percent > 100).map(|percent| format!("`at_percent: {percent}` is above 100"))
    }
}

impl FleetPlan {
    /// The fleet that ships with the program: two sites with four hosts each, and 40 guests.
    pub const DEMO: &'static str = include_str!("demo-fleet.yaml");

    /// Reads a description; `file` is what complaints call it.
    pub fn parse(file: &str, text: &str) -> Result<FleetPlan, Diagnostic> {
        let plan: FleetPlan = serde_yaml::from_str(text).map_err(|error| explain(file, &error))?;
        match plan.complaint() {
            None => Ok(plan),
            Some((name, what)) => {
                let line = line_of(text, &name);
                Err(Diagnostic::error(file, line, 0, 1, format!("{name}: {what}")))
            }
        }
    }

    /// Reads a description from a file.
    pub fn read(path: &Path) -> Result<FleetPlan, Diagnostic> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Diagnostic::error(&file, 0, 0, 1, format!("cannot read the fleet's description: {error}")))?;
        FleetPlan::parse(&file, &text)
    }

    /// What is wrong with it, if anything, as far as that shows without building the fleet: whose, and what.
    fn complaint(&self) -> Option<(String, String)> {
        if self.hosts.is_empty() {
            return Some(("hosts".to_owned(), "a fleet needs at least one host".to_owned()));
        }
        for host in &self.hosts {
            if let Some(what) = name_complaint(&host.name, host.count) {
                return Some((or(&host.name, "hosts"), what));
            }
            let bad = if host.cpus == 0 {
                Some("`cpus` must be at least 1")
            } else if host.memory_mib == 0 {
                Some("`memory_mib` must be at least 1")
            } else if host.bandwidth_mib_per_s.is_nan() || host.bandwidth_mib_per_s <= 0.0 {
                Some("`bandwidth_mib_per_s` must be above 0")
            } else {
                None
            };
            if let Some(what) = bad {
                return Some((host.name.clone(), what.to_owned()));
            }
        }
        for guest in &self.guests {
            if let Some(what) = guest.complaint() {
                return Some((or(&guest.name, "guests"), what));
            }
        }
        let heats = self.heats.iter().filter_map(|heat| Some(("heats".to_owned(), heat.complaint()?)));
        heats.chain(self.faults.iter().filter_map(|fault| Some(("faults".to_owned(), fault.complaint()?)))).next()
    }
}

impl GuestPlan {
    fn complaint(&self) -> Option<String> {
        if let Some(what) = name_complaint(&self.name, self.count) {
            return Some(what);
        }
        if self.uuid.is_some() && self.count != 1 {
            return Some("several guests cannot share one `uuid`".to_owned());
        }
        if self.vcpus == 0 || self.memory_mib == 0 {
            return Some("`vcpus` and `memory_mib` must be at least 1".to_owned());
        }
        if self.balloon_mib.is_some_and(|balloon| balloon == 0 || balloon > self.memory_mib) {
            return Some("`balloon_mib` must lie between 1 and `memory_mib`".to_owned());
        }
        let load = &self.load;
        let shapes = [&load.cpu, &load.memory, &load.disk_mib_per_s, &load.iops, &load.net_mib_per_s];
        shapes.into_iter().find_map(Shape::complaint)
    }
}

fn or(name: &str, instead: &str) -> String {
    if name.is_empty() { instead.to_owned() } else { name.to_owned() }
}

fn name_complaint(name: &str, count: u32) -> Option<String> {
    if name.is_empty() {
        return Some("an entry has no `name`".to_owned());
    }
    (count > 1 && !name.contains("{n}")).then(|| format!("`count: {count}` needs `{{n}}` in the name, as in `{name}-{{n}}`"))
}

/// The line where an entry's name stands; 0 where it is not found.
fn line_of(text: &str, name: &str) -> u32 {
    let line = text.lines().position(|line| line.contains(name));
    line.map_or(0, |line| u32::try_from(line + 1).unwrap_or(0))
}

/// serde_yaml's error as a complaint with its place and, for a misspelt key, the one that was meant.
fn explain(file: &str, error: &serde_yaml::Error) -> Diagnostic {
    let (line, column) = error.location().map_or((0, 0), |place| (place.line(), place.column()));
    let number = |n: usize| u32::try_from(n).unwrap_or(0);
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
    let diagnostic = Diagnostic::error(file, number(line), number(column), 1, message.clone());
    let mut quoted = message.split('`').skip(1).step_by(2);
    match quoted.next().and_then(|wrong| nearest(wrong, quoted)) {
        Some(meant) if message.contains("unknown") => diagnostic.with_hint(format!("did you mean `{meant}`?")),
        _ => diagnostic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_say_where_and_what() {
        let complaints: Vec<String> = [
            "hosts: [{ name: a, cpu: 8 }]",
            "seed: 1\nhosts:\n  - name: a\n    cpus: many",
            "hosts: []",
            "hosts:\n  - name: a\nguests:\n  - name: web\n    count: 3",
            "hosts: [{ name: a }]\nguests:\n  - name: web\n    load: { cpu: { sin: { mean: 1 } } }",
            "hosts: [{ name: a }]\nguests:\n  - name: web\n    load: { cpu: { sine: { mean: 1, amplitude: 1, period: 5 } } }",
            "hosts: [{ name: a }]\nguests:\n  - name: web\n    load: { cpu: { trace: { interval: 5m, samples: [] } } }",
            "hosts: [{ name: a }]\nfaults:\n  - { at: 5s, fault: host_dies }",
            "hosts: [{ name: a }]\nfaults:\n  - { at: 5s, fault: host_explodes, host: a }",
            "hosts: [{ name: a }]\nheats:\n  - { at: 5s, for: 5s, cpu: 95 }",
        ]
        .map(|text| FleetPlan::parse("fleet.yaml", text).expect_err(text).to_string())
        .into();
        insta::assert_snapshot!(complaints.join("\n"));
    }

    #[test]
    fn the_demo_reads() {
        let plan = FleetPlan::parse("demo-fleet.yaml", FleetPlan::DEMO).expect("the shipped fleet");
        assert_eq!(plan.hosts.iter().map(|host| host.count).sum::<u32>(), 8);
        assert_eq!(plan.guests.iter().map(|guest| guest.count).sum::<u32>(), 40);
    }
}
