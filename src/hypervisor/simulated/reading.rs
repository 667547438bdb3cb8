//! Reads and checks the description of a fleet. Complaints name file, line and remedy.

use super::fleet_plan::{FaultPlan, FleetPlan, GuestPlan, HeatPlan, HostPlan};
use super::load::Shape;
use crate::error::{Diagnostic, nearest};
use crate::model::Span;
use std::path::Path;

/// No entry makes more hosts or guests: more is a slip of the pen.
const MOST: u32 = 1_000_000;

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
    pub(super) fn complaint(&self) -> Option<(String, String)> {
        if self.hosts.is_empty() {
            return Some(("hosts".to_owned(), "a fleet needs at least one host".to_owned()));
        }
        for host in &self.hosts {
            if let Some(what) = host.complaint() {
                return Some((or(&host.name, "hosts"), what));
            }
        }
        for guest in &self.guests {
            if let Some(what) = guest.complaint() {
                return Some((or(&guest.name, "guests"), what));
            }
        }
        let times = &self.times;
        if !(times.disk_mib_per_s > 0.0 && times.migration_cpu >= 0.0) {
            let what = "`disk_mib_per_s` must be above 0, and `migration_cpu` not below 0";
            return Some(("times".to_owned(), what.to_owned()));
        }
        let heats = self.heats.iter().filter_map(|heat| Some(("heats".to_owned(), heat.complaint()?)));
        heats.chain(self.faults.iter().filter_map(|fault| Some(("faults".to_owned(), fault.complaint()?)))).next()
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
    if count > MOST {
        return Some(format!("`count: {count}` is more than {MOST}"));
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
