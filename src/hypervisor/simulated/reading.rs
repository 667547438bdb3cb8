//! Reads and checks the description of a fleet. Complaints name file, line and remedy.

use super::fleet_plan::{FaultPlan, FleetPlan, GuestPlan, HeatPlan, HostPlan};
use super::load;
use crate::error::Diagnostic;
use crate::model::Span;
use crate::yaml::{self, Key, Shape};
use std::path::Path;

/// No entry makes more hosts or guests: more is a slip of the pen.
const MOST: u32 = 1_000_000;

const PATTERNS: Shape = Shape::List(&Shape::Pattern);

/// What the file may contain.
pub const SHAPE: Shape = Shape::Keys(&[
    Key::optional("seed", Shape::Whole),
    Key::required("hosts", Shape::List(&HOST)),
    Key::optional("guests", Shape::List(&GUEST)),
    Key::optional("heats", Shape::List(&HEAT)),
    Key::optional("faults", Shape::List(&FAULT)),
    Key::optional("chances", Shape::Keys(CHANCES)),
    Key::optional("times", Shape::Keys(TIMES)),
]);

const HOST: Shape = Shape::Keys(&[
    Key::required("name", Shape::Text),
    Key::optional("count", Shape::Whole),
    Key::optional("site", Shape::Text),
    Key::optional("labels", Shape::Named(&Shape::Text)),
    Key::optional("cpus", Shape::Whole),
    Key::optional("memory_mib", Shape::Whole),
    Key::optional("bandwidth_mib_per_s", Shape::Number),
    Key::optional("shared_mib", Shape::Whole),
    // A name or a list of watts, which its own reader tells apart.
    Key::optional("power", Shape::Any).like("hp-ml110-g4"),
    Key::optional(
        "idle",
        Shape::Keys(&[
            Key::required("sleeps_after", Shape::Span),
            Key::optional("wakes_in", Shape::Span),
            Key::optional("wake_watts", Shape::Number),
            Key::optional("asleep_watts", Shape::Number),
        ]),
    ),
]);

const GUEST: Shape = Shape::Keys(&[
    Key::required("name", Shape::Text),
    Key::optional("uuid", Shape::Text),
    Key::optional("count", Shape::Whole),
    Key::optional("on", PATTERNS),
    Key::optional("vcpus", Shape::Whole),
    Key::optional("memory_mib", Shape::Whole),
    Key::optional("balloon_mib", Shape::Whole),
    Key::optional("disk_mib", Shape::Whole),
    Key::optional("labels", Shape::Named(&Shape::Text)),
    Key::optional("disks", Shape::List(&Shape::Text)),
    Key::optional("nics", Shape::List(&Shape::Text)),
    Key::optional("running", Shape::Bool),
    Key::optional("autostart", Shape::Bool),
    Key::optional("agent", Shape::Bool),
    Key::optional("ignores_shutdown", Shape::Bool),
    Key::optional("mark", Shape::Keys(&[Key::required("plane", Shape::Text), Key::required("epoch", Shape::Whole)])),
    // What a load may look like, its own reader says.
    Key::optional(
        "load",
        Shape::Keys(&[
            Key::optional("cpu", Shape::Any),
            Key::optional("memory", Shape::Any),
            Key::optional("disk_mib_per_s", Shape::Any),
            Key::optional("iops", Shape::Any),
            Key::optional("net_mib_per_s", Shape::Any),
            Key::optional("dirty_mib_per_s", Shape::Number),
        ]),
    ),
]);

const HEAT: Shape = Shape::Keys(&[
    Key::required("at", Shape::Span),
    Key::required("for", Shape::Span),
    Key::required("cpu", Shape::Number),
    Key::optional("every", Shape::Span),
    Key::optional("hosts", PATTERNS),
    Key::optional("guests", PATTERNS),
    Key::optional("count", Shape::Whole),
]);

const FAULT: Shape = Shape::Keys(&[
    Key::required("at", Shape::Span),
    Key::required(
        "fault",
        Shape::OneOf(&[
            "host_dies",
            "host_hangs",
            "host_lost",
            "host_refuses",
            "statistics_missing",
            "migrations_fail",
            "cut_at_switch",
            "killed_at_switch",
            "guest_crashes",
            "guest_stops",
            "guest_sleeps",
            "guest_reboots",
            "watchdog",
            "watchdog_off",
            "watchdog_only",
            "io_error",
            "agent_lost",
        ]),
    ),
    Key::optional("every", Shape::Span),
    Key::optional("host", Shape::Pattern),
    Key::optional("guest", Shape::Pattern),
    Key::optional("for", Shape::Span),
    Key::optional("at_percent", Shape::Whole),
    Key::optional("disk", Shape::Text),
]);

const CHANCES: &[Key] = &[
    Key::optional("trouble_lasts", Shape::Span),
    Key::optional("host_dies", Shape::Number),
    Key::optional("host_hangs", Shape::Number),
    Key::optional("host_lost", Shape::Number),
    Key::optional("host_refuses", Shape::Number),
    Key::optional("statistics_missing", Shape::Number),
    Key::optional("guest_crashes", Shape::Number),
    Key::optional("guest_stops", Shape::Number),
    Key::optional("guest_reboots", Shape::Number),
    Key::optional("watchdog", Shape::Number),
    Key::optional("io_error", Shape::Number),
    Key::optional("agent_lost", Shape::Number),
    Key::optional("migration_fails", Shape::Number),
    Key::optional("order_refused", Shape::Number),
];

const TIMES: &[Key] = &[
    Key::optional("start", Shape::Span),
    Key::optional("boot", Shape::Span),
    Key::optional("shutdown", Shape::Span),
    Key::optional("shutdown_patience", Shape::Span),
    Key::optional("quick", Shape::Span),
    Key::optional("disk_mib_per_s", Shape::Number),
    Key::optional("migration_cpu", Shape::Number),
    Key::optional("migration_slows", Shape::Number),
];

/// What is wrong with a description, beyond the form of its file.
#[derive(Debug)]
pub(super) struct Complaint {
    /// The list it is in, and its number there.
    place: (&'static str, Option<usize>),
    /// What is wrong, and with whom.
    pub(super) what: String,
}

impl FleetPlan {
    /// The fleet that ships with the program: two sites with four hosts each, and 40 guests.
    pub const DEMO: &'static str = include_str!("demo-fleet.yaml");

    /// Reads a description; `file` is what complaints call it. All complaints about the form are told, or else the first one
    /// about the content.
    pub fn parse_all(file: &str, text: &str) -> Result<FleetPlan, Vec<Diagnostic>> {
        FleetPlan::read_source(yaml::Source::parse(file, text)?)
    }

    /// The same of a file, or of a part of one.
    pub fn read_source(source: yaml::Source) -> Result<FleetPlan, Vec<Diagnostic>> {
        let (plan, document): (FleetPlan, _) = source.read(&SHAPE)?;
        match plan.complaint() {
            None => Ok(plan),
            Some(Complaint { place: (list, number), what }) => {
                let number = number.map(|number| number.to_string());
                let path: Vec<&str> = std::iter::once(list).chain(number.as_deref()).collect();
                Err(vec![document.error(&path, what)])
            }
        }
    }

    /// The same with the first complaint only.
    pub fn parse(file: &str, text: &str) -> Result<FleetPlan, Diagnostic> {
        FleetPlan::parse_all(file, text).map_err(|complaints| {
            let first = complaints.into_iter().next();
            first.unwrap_or_else(|| Diagnostic::error(file, 0, 0, 1, "this is no description of a fleet"))
        })
    }

    /// The name by which configurations and commands ask for [`FleetPlan::DEMO`].
    pub const DEMO_NAME: &'static str = "demo";

    /// The fleet that ships with the program, by its name, or one described in a file.
    pub fn named(fleet: &str) -> Result<FleetPlan, Diagnostic> {
        match fleet {
            FleetPlan::DEMO_NAME => FleetPlan::parse("demo-fleet.yaml", FleetPlan::DEMO),
            path => FleetPlan::read(Path::new(path)),
        }
    }

    /// Reads a description from a file.
    pub fn read(path: &Path) -> Result<FleetPlan, Diagnostic> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Diagnostic::error(&file, 0, 0, 1, format!("cannot read the fleet's description: {error}")))?;
        FleetPlan::parse(&file, &text)
    }

    /// What is wrong with it, if anything, as far as that shows without building the fleet.
    pub(super) fn complaint(&self) -> Option<Complaint> {
        let complain = |list, number, what: String| Some(Complaint { place: (list, number), what });
        if self.hosts.is_empty() {
            return complain("hosts", None, "a fleet needs at least one host".to_owned());
        }
        for (number, host) in self.hosts.iter().enumerate() {
            if let Some(what) = host.complaint() {
                return complain("hosts", Some(number), format!("host {}: {what}", host.name));
            }
        }
        for (number, guest) in self.guests.iter().enumerate() {
            if let Some(what) = guest.complaint() {
                return complain("guests", Some(number), format!("guest {}: {what}", guest.name));
            }
        }
        for (number, heat) in self.heats.iter().enumerate() {
            if let Some(what) = heat.complaint() {
                return complain("heats", Some(number), what);
            }
        }
        for (number, fault) in self.faults.iter().enumerate() {
            if let Some(what) = fault.complaint() {
                return complain("faults", Some(number), what);
            }
        }
        let times = &self.times;
        let slows = (0.0..=1.0).contains(&times.migration_slows);
        if !(times.disk_mib_per_s > 0.0 && times.migration_cpu >= 0.0 && slows) {
            let what = "`disk_mib_per_s` must be above 0, `migration_cpu` not below 0, and `migration_slows` between 0 and 1";
            return complain("times", None, what.to_owned());
        }
        None
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

impl HostPlan {
    fn complaint(&self) -> Option<String> {
        if let Some(what) = name_complaint(&self.name, self.count) {
            return Some(what);
        }
        if self.cpus == 0 || self.memory_mib == 0 {
            return Some("`cpus` and `memory_mib` must be at least 1".to_owned());
        }
        if self.idle.is_some_and(|idle| idle.sleeps_after == Span::ZERO) {
            return Some("`sleeps_after` must be longer than 0".to_owned());
        }
        let slow = self.bandwidth_mib_per_s.is_nan() || self.bandwidth_mib_per_s <= 0.0;
        slow.then(|| "`bandwidth_mib_per_s` must be above 0".to_owned())
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
        shapes.into_iter().find_map(load::Shape::complaint)
    }
}

fn name_complaint(name: &str, count: u32) -> Option<String> {
    if name.is_empty() {
        return Some("an entry has no `name`".to_owned());
    }
    if count > MOST {
        return Some(format!("`count: {count}` is more than {MOST}"));
    }
    (count > 1 && !name.contains("{n}")).then(|| format!("`count: {count}` needs `{{n}}` in the name, as in `{name}-{{n}}`"))
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
            "guests: []",
            "hosts: [{ name: a, memory: 5 }]\nguest: []\nheats:\n  - { at: 5, for: 10s, cpu: 0.5 }",
            "hosts:\n  - name: a\nguests:\n  - name: web\n    count: 3",
            "hosts: [{ name: a }]\nguests:\n  - name: web\n    load: { cpu: { sin: { mean: 1 } } }",
            "hosts: [{ name: a }]\nguests:\n  - name: web\n    load: { cpu: { sine: { mean: 1, amplitude: 1, period: 5 } } }",
            "hosts: [{ name: a }]\nguests:\n  - name: web\n    load: { cpu: { trace: { interval: 5m, samples: [] } } }",
            "hosts: [{ name: a }]\nfaults:\n  - { at: 5s, fault: host_dies }",
            "hosts: [{ name: a }]\nfaults:\n  - { at: 5s, fault: host_explodes, host: a }",
            "hosts: [{ name: a }]\nheats:\n  - { at: 5s, for: 5s, cpu: 95 }",
            "hosts:\n  - name: a\n    power: hp-ml110",
            "hosts:\n  - name: a\n    power: [86, 89.4]",
            "hosts: [{ name: a, idle: { wakes_in: 90s } }]",
            "hosts: [{ name: a, idle: { sleeps_after: 0s } }]",
            "hosts: [{ name: a }]\ntimes: { migration_slows: 1.5 }",
        ]
        .map(|text| {
            let complaints = FleetPlan::parse_all("fleet.yaml", text).expect_err(text);
            complaints.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        })
        .into();
        insta::assert_snapshot!(complaints.join("\n"));
    }

    #[test]
    fn the_demo_reads() {
        let plan = FleetPlan::parse("demo-fleet.yaml", FleetPlan::DEMO).expect("the shipped fleet");
        assert_eq!(plan.hosts.iter().map(|host| host.count).sum::<u32>(), 8);
        assert_eq!(plan.guests.iter().map(|guest| guest.count).sum::<u32>(), 40);
    }

    #[test]
    fn every_key_is_known_to_both_readers() {
        let text = "
seed: 1
hosts: [{ name: 'h-{n}', count: 2, site: s, labels: { a: b }, cpus: 4, memory_mib: 4096, bandwidth_mib_per_s: 50.5, shared_mib: 9, power: hp-ml110-g5,
  idle: { sleeps_after: 5m, wakes_in: 90s, wake_watts: 130, asleep_watts: 5 } }]
guests:
  - name: g
    uuid: 00000000-0000-0000-0000-000000000001
    count: 1
    on: ['h-*']
    vcpus: 1
    memory_mib: 512
    balloon_mib: 256
    disk_mib: 5
    labels: { a: b }
    disks: [vda]
    nics: [vnet0]
    running: true
    autostart: true
    agent: false
    ignores_shutdown: true
    mark: { plane: p, epoch: 1 }
    load: { cpu: 1, memory: 0.5, disk_mib_per_s: 0, iops: 1, net_mib_per_s: 2, dirty_mib_per_s: 3 }
heats: [{ at: 1s, every: 1m, for: 1s, hosts: [h-1], guests: [g], count: 1, cpu: 0.5 }]
faults:
  - { at: 1s, every: 1m, for: 1s, fault: migrations_fail, host: h-1, at_percent: 10 }
  - { at: 1s, fault: io_error, guest: g, disk: vda }
  - { at: 1s, fault: cut_at_switch, host: h-1 }
  - { at: 1s, fault: killed_at_switch, host: h-1 }
chances: { trouble_lasts: 1s, host_dies: 0.1, host_hangs: 0, host_lost: 0, host_refuses: 0, statistics_missing: 0,
  guest_crashes: 0, guest_stops: 0, guest_reboots: 0, watchdog: 0, io_error: 0, agent_lost: 0, migration_fails: 0, order_refused: 0 }
times: { start: 1s, boot: 1s, shutdown: 1s, shutdown_patience: 1s, quick: 1s, disk_mib_per_s: 1, migration_cpu: 0, migration_slows: 0.2 }
";
        let plan = FleetPlan::parse_all("fleet.yaml", text).unwrap();
        assert_eq!(
            (plan.guests[0].balloon_mib, plan.faults[0].at_percent, plan.times.quick),
            (Some(256), Some(10), Span::seconds(1))
        );
    }
}
