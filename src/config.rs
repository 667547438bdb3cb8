//! `plane.yaml`: what one plane manages, where it keeps its things, and the limits that hold for all its modules.
//!
//! Everything but the plane's name and its hosts has a default, and `embot check --effective` prints all values in force.
//! Unknown keys, values that do not fit, and values that contradict each other are all reported at once, each with its place
//! and what to write instead. The [`SHAPE`] says what the file may contain; a test holds it and the types below together.

mod api;
mod audit;
mod files;
mod handover;
mod hosts;
mod link;
mod listen;
mod notify;
mod observe;
mod trust;

pub use audit::AuditConfig;
pub use handover::{HandoverConfig, Names};
pub(crate) use link::PEERS;
pub use observe::{MetricsConfig, TracesConfig};

use crate::api::NetworkSettings;
use crate::effectors::ChannelSettings;
use crate::embot::package::TrustedKey;
use crate::error::Diagnostic;
use crate::hypervisor::MigrationLimits;
use crate::hypervisor::simulated::FleetPlan;
use crate::migration::link::{LinkSettings, PeerSettings};
use crate::model::{AffinityRule, Capacity, Mode, Span};
use crate::plan::Guardrails;
use crate::policy::Limits;
use crate::store::Retention;
use crate::yaml::{self, Document, Key, Shape};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The configuration's usual name; the command line looks for it where no other is named.
pub const FILE: &str = "plane.yaml";
/// The configuration of the machine's own plane, as its package installs it. Those who ask a daemon look here where there is
/// none in their folder.
pub const SYSTEM_FILE: &str = "/etc/embot/plane.yaml";

/// A plane's configuration. Paths are resolved: relative ones start at the configuration file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The plane's name; stands in the metadata of the guests it owns.
    pub plane: Arc<str>,
    /// The durable store's file.
    #[serde(default = "default_store")]
    pub store: PathBuf,
    /// The API's socket.
    #[serde(default = "default_socket")]
    pub socket: PathBuf,
    /// The API on the network; without it, it is on the socket only.
    #[serde(default)]
    pub api: Option<NetworkSettings>,
    /// The folder of manifests.
    #[serde(default = "default_modules")]
    pub modules: PathBuf,
    /// The folder of policies.
    #[serde(default = "default_policies")]
    pub policies: PathBuf,
    /// How often hosts are asked.
    #[serde(default = "default_poll")]
    pub poll: Span,
    /// The mode of guests seen for the first time.
    #[serde(default)]
    pub adopt: Mode,
    /// How far a module that is seen for the first time may go, whatever its manifest says.
    #[serde(default = "default_new_modules")]
    pub new_modules: Mode,
    /// The journal.
    #[serde(default)]
    pub journal: Journal,
    /// The audit.
    #[serde(default)]
    pub audit: AuditConfig,
    /// An address of its own for metrics; without it they are on the API's socket only.
    #[serde(default)]
    pub metrics: Option<MetricsConfig>,
    /// The collector that traces go to; without it, none are made.
    #[serde(default)]
    pub traces: Option<TracesConfig>,
    /// The hosts. May be empty where there is a fleet.
    #[serde(default)]
    pub hosts: Vec<HostConfig>,
    /// An embedded simulated fleet: `demo`, or a fleet file.
    #[serde(default)]
    pub fleet: Option<Arc<str>>,
    /// Which guests belong together or apart.
    #[serde(default)]
    pub rules: Vec<AffinityRule>,
    /// The key this plane signs modules with that go to other planes (a file with a PKCS#8 private key).
    #[serde(default)]
    pub module_key: Option<PathBuf>,
    /// The keys whose modules may come here, and what those may do.
    #[serde(default)]
    pub trust: Vec<TrustedKey>,
    /// How other planes are reached, and reach this one; without it, this plane is alone.
    #[serde(default)]
    pub link: Option<LinkSettings>,
    /// The other planes.
    #[serde(default)]
    pub peers: Vec<PeerSettings>,
    /// How guests go to them and come from them.
    #[serde(default)]
    pub handover: HandoverConfig,
    /// Where notifications go beside the log.
    #[serde(default)]
    pub notify: Vec<ChannelSettings>,
    /// The limits that hold whatever a script says.
    #[serde(default)]
    pub guardrails: Guardrails,
    /// How migrations may behave.
    #[serde(default)]
    pub migration: MigrationLimits,
    /// What a step of a policy may use.
    #[serde(default)]
    pub policy: PolicyLimits,
}

/// The journal's bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Journal {
    /// The oldest batches are dropped when it grows beyond this.
    pub keep_bytes: u64,
}

impl Default for Journal {
    fn default() -> Journal {
        Journal { keep_bytes: 1 << 30 }
    }
}

/// Where a host's own load is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadFrom {
    /// From the node: everything that runs there counts.
    #[default]
    Node,
    /// From its guests, added up: for hosts that share a machine, as in a lab.
    Guests,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// Its name in the plane.
    pub name: Arc<str>,
    /// Where its hypervisor answers: a libvirt URI, or `simulated:unix:PATH`.
    pub uri: Arc<str>,
    /// The URI under which other hosts reach it for a migration; `uri` where it is not set.
    #[serde(default)]
    pub migration_uri: Option<Arc<str>>,
    /// The address for the memory stream, where it differs from what the hypervisor chooses.
    #[serde(default)]
    pub migration_address: Option<Arc<str>>,
    /// The site it stands at.
    #[serde(default)]
    pub site: Arc<str>,
    /// Labels that modules select by.
    #[serde(default)]
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// What it has to give, in place of what it reports.
    #[serde(default)]
    pub capacity: Option<Capacity>,
    /// Where its load is read.
    #[serde(default)]
    pub load_from: LoadFrom,
}

/// What one step of a policy may use. A step that exceeds it is stopped and undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyLimits {
    /// Operations of the script.
    pub operations: u64,
    /// Work inside native functions, in elements touched.
    pub units: u64,
    /// Wall time, as the last resort.
    pub deadline: Span,
    /// What it may keep in `this`, in bytes.
    pub state_bytes: u64,
}

impl Default for PolicyLimits {
    fn default() -> PolicyLimits {
        let Limits { operations, units, deadline, state_bytes, .. } = Limits::default();
        let deadline = Span(deadline.as_millis() as u64);
        PolicyLimits { operations, units, deadline, state_bytes: state_bytes as u64 }
    }
}

fn default_store() -> PathBuf {
    "embot.redb".into()
}

fn default_socket() -> PathBuf {
    "embot.sock".into()
}

fn default_modules() -> PathBuf {
    "embots".into()
}

fn default_policies() -> PathBuf {
    "policies".into()
}

fn default_new_modules() -> Mode {
    Mode::Advise
}

fn default_poll() -> Span {
    Span::seconds(5)
}

const RATE: Shape = Shape::Keys(&[Key::required("actions", Shape::Whole), Key::required("per", Shape::Span)]);

const HOST: Shape = Shape::Keys(&[
    Key::required("name", Shape::Name),
    Key::required("uri", Shape::Text),
    Key::optional("migration_uri", Shape::Text),
    Key::optional("migration_address", Shape::Text),
    Key::optional("site", Shape::Text),
    Key::optional("labels", Shape::Named(&Shape::Text)),
    Key::optional("capacity", Shape::Keys(&[Key::required("cpus", Shape::Whole), Key::required("memory_mib", Shape::Whole)])),
    Key::optional("load_from", Shape::OneOf(&["node", "guests"])),
]);

const RULE: Shape = Shape::Keys(&[
    Key::required("name", Shape::Name),
    Key::required("kind", Shape::OneOf(&["together", "apart"])),
    Key::optional("hard", Shape::Bool),
    Key::required("vms", Shape::List(&Shape::Pattern)),
]);

const GUARDRAILS: Shape = Shape::Keys(&[
    Key::optional("cooldown", Shape::Span),
    Key::optional("hold", Shape::Span),
    Key::optional("module_rate", RATE),
    Key::optional("plane_rate", RATE),
    Key::optional("blast_radius", Shape::Number),
    Key::optional("blast_window", Shape::Span),
    Key::optional("migrations_per_host", Shape::Whole),
    Key::optional("migrations", Shape::Whole),
    Key::optional("minimum_gain", Shape::Number),
    Key::optional("load_window", Shape::Span),
    Key::optional("gain_horizon", Shape::Span),
    Key::optional("migration_mib_per_s", Shape::Number),
    Key::optional("target_max_cpu", Shape::Number),
    Key::optional("target_max_memory", Shape::Number),
    Key::optional("overcommit", Shape::Keys(&[Key::optional("cpu", Shape::Number), Key::optional("memory", Shape::Number)])),
    Key::optional("advice_expires", Shape::Span),
    Key::optional("module_advice", Shape::Whole),
]);

const MIGRATION: Shape = Shape::Keys(&[
    Key::optional("bandwidth_mib_per_s", Shape::Whole),
    Key::optional("max_downtime", Shape::Span),
    Key::optional("timeout", Shape::Span),
    Key::optional("auto_converge", Shape::Bool),
    Key::optional("compression", Shape::Bool),
    Key::optional("copy_storage", Shape::Bool),
    Key::optional("tls", Shape::Bool),
]);

const POLICY: Shape = Shape::Keys(&[
    Key::optional("operations", Shape::Whole),
    Key::optional("units", Shape::Whole),
    Key::optional("deadline", Shape::Span),
    Key::optional("state_bytes", Shape::Whole),
]);

/// What the file may contain.
pub const SHAPE: Shape = Shape::Keys(&[
    Key::required("plane", Shape::Name),
    Key::optional("store", Shape::Text),
    Key::optional("socket", Shape::Text),
    Key::optional("api", api::SHAPE),
    Key::optional("modules", Shape::Text),
    Key::optional("policies", Shape::Text),
    Key::optional("poll", Shape::Span),
    Key::optional("adopt", Shape::OneOf(&["observe", "advise", "act"])),
    Key::optional("new_modules", Shape::OneOf(&["observe", "advise", "act"])),
    Key::optional("journal", Shape::Keys(&[Key::optional("keep_bytes", Shape::Whole)])),
    Key::optional("audit", audit::SHAPE),
    Key::optional("metrics", observe::METRICS),
    Key::optional("traces", observe::TRACES),
    Key::optional("hosts", Shape::List(&HOST)),
    Key::optional("fleet", Shape::Text),
    Key::optional("rules", Shape::List(&RULE)),
    Key::optional("module_key", Shape::Text),
    Key::optional("trust", trust::SHAPE),
    Key::optional("link", link::LINK),
    Key::optional("peers", link::PEERS),
    Key::optional("handover", handover::SHAPE),
    Key::optional("notify", notify::SHAPE),
    Key::optional("guardrails", GUARDRAILS),
    Key::optional("migration", MIGRATION),
    Key::optional("policy", POLICY),
]);

impl Config {
    /// Reads a configuration file.
    pub fn load(path: &Path) -> Result<Config, Vec<Diagnostic>> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            let hint = format!("name the plane's configuration with `--config`; usually it is called {FILE}");
            vec![Diagnostic::error(&file, 0, 0, 1, format!("cannot read the configuration: {error}")).with_hint(hint)]
        })?;
        Config::read(&file, &text, path.parent().unwrap_or(Path::new("")))
    }

    /// Reads a configuration's text; relative paths in it start at `base`.
    pub fn read(file: &str, text: &str, base: &Path) -> Result<Config, Vec<Diagnostic>> {
        Config::read_source(yaml::Source::parse(file, text)?, base)
    }

    /// The same of a file, or of a part of one.
    pub fn read_source(source: yaml::Source, base: &Path) -> Result<Config, Vec<Diagnostic>> {
        let (mut config, document) = source.read::<Config>(&SHAPE)?;
        let complaints = config.complaints(&document);
        if !complaints.is_empty() {
            return Err(complaints);
        }
        for path in [&mut config.store, &mut config.socket, &mut config.modules, &mut config.policies] {
            *path = base.join(&*path);
        }
        if let Some(path) = &mut config.module_key {
            *path = base.join(&*path);
        }
        config.place_api(base);
        config.place_link(base);
        config.place_notify(base);
        config.place_hosts(base);
        // A fleet that is no built-in one is a file, and files are found from here as well.
        if let Some(fleet) = config.fleet.as_mut().filter(|fleet| &***fleet != FleetPlan::DEMO_NAME) {
            *fleet = base.join(&**fleet).display().to_string().into();
        }
        Ok(config)
    }

    /// How much of the past the store keeps.
    pub fn retention(&self) -> Retention {
        Retention {
            journal_bytes: self.journal.keep_bytes,
            audit_bytes: self.audit.keep_bytes,
            audit_age: self.audit.keep,
            ..Retention::default()
        }
    }

    /// What a step of a policy may use.
    pub fn policy_limits(&self) -> crate::policy::Limits {
        crate::policy::Limits {
            operations: self.policy.operations,
            units: self.policy.units,
            deadline: self.policy.deadline.as_duration(),
            state_bytes: usize::try_from(self.policy.state_bytes).unwrap_or(usize::MAX),
            ..crate::policy::Limits::default()
        }
    }

    /// All values in force, defaults included, in the form they are written in.
    pub fn effective(&self) -> String {
        // Every type here is plain data, which YAML can always hold; should that change, a comment says so instead.
        serde_yaml::to_string(self).unwrap_or_else(|error| format!("# cannot be shown: {error}\n"))
    }

    /// What the shape cannot say.
    fn complaints(&self, document: &Document) -> Vec<Diagnostic> {
        let mut check = Check { document, found: Vec::new() };
        self.check_hosts(&mut check);
        self.check_rules(&mut check);
        self.check_numbers(&mut check);
        self.check_trust(&mut check);
        self.check_api(&mut check);
        self.check_link(&mut check);
        self.check_listeners(&mut check);
        self.check_handover(&mut check);
        self.check_observe(&mut check);
        self.check_notify(&mut check);
        for (key, path) in
            [("store", &self.store), ("socket", &self.socket), ("modules", &self.modules), ("policies", &self.policies)]
        {
            check.must(!path.as_os_str().is_empty(), &[key], "is empty", "write a path, or remove the key");
        }
        check.found.sort_by_key(|complaint| (complaint.line, complaint.column));
        check.found
    }

    fn check_rules(&self, check: &mut Check<'_>) {
        for (index, rule) in self.rules.iter().enumerate() {
            let number = index.to_string();
            if self.rules[..index].iter().any(|other| other.name == rule.name) {
                let error = check.document.error(&["rules", &number, "name"], format!("two rules are called `{}`", rule.name));
                check.found.push(error.with_hint("refusals name the rule, so its name must be its own"));
            }
            let some = !rule.vms.is_empty();
            check.must(some, &["rules", &number, "vms"], "is empty", "name guests or patterns, for example `[\"db-*\"]`");
        }
    }

    fn check_numbers(&self, check: &mut Check<'_>) {
        let guard = &self.guardrails;
        let share = "write a share between 0 and 1, for example `0.8`";
        for (key, value) in [
            ("blast_radius", guard.blast_radius),
            ("target_max_cpu", guard.target_max_cpu),
            ("target_max_memory", guard.target_max_memory),
        ] {
            check.must(value <= 1.0, &["guardrails", key], "must not be above 1", share);
        }
        for (key, value) in [("cpu", guard.overcommit.cpu), ("memory", guard.overcommit.memory)] {
            let hint = "1.0 promises guests what the host has, 2.0 twice as much";
            check.must(value > 0.0, &["guardrails", "overcommit", key], "must be above 0", hint);
        }
        for (key, rate) in [("module_rate", guard.module_rate), ("plane_rate", guard.plane_rate)] {
            let hint = "to stop all actions use `embot disarm`";
            check.must(rate.actions > 0, &["guardrails", key, "actions"], "must be at least 1", hint);
            check.must(rate.per > Span::ZERO, &["guardrails", key, "per"], "must be above 0", "write for example `10m`");
        }
        for (key, value) in [("migrations", guard.migrations), ("migrations_per_host", guard.migrations_per_host)] {
            let hint = "to stop all actions use `embot disarm`";
            check.must(value > 0, &["guardrails", key], "must be at least 1", hint);
        }
        let fast = guard.migration_mib_per_s > 0.0;
        check.must(fast, &["guardrails", "migration_mib_per_s"], "must be above 0", "it serves to estimate what a move costs");
        let slow = self.poll >= Span(100);
        check.must(slow, &["poll"], "must be at least 100ms", "each poll asks every host about all its guests; 5s is usual");
        let bandwidth = self.migration.bandwidth_mib_per_s != Some(0);
        check.must(bandwidth, &["migration", "bandwidth_mib_per_s"], "must be above 0", "remove the key for no limit");
        let kept = self.journal.keep_bytes >= 1 << 20;
        let hint = "write at least 1048576 (1 MiB); 1073741824 (1 GiB) is the default";
        check.must(kept, &["journal", "keep_bytes"], "is too small to keep anything of use", hint);
        for (key, value) in [("operations", self.policy.operations), ("units", self.policy.units)] {
            check.must(value >= 1_000, &["policy", key], "must be at least 1000", "remove the key for the default");
        }
        let deadline = self.policy.deadline > Span::ZERO;
        check.must(deadline, &["policy", "deadline"], "must be above 0", "remove the key for the default, 6ms");
    }
}

struct Check<'a> {
    document: &'a Document,
    found: Vec<Diagnostic>,
}

impl Check<'_> {
    fn must(&mut self, holds: bool, path: &[&str], what: &str, hint: &str) {
        if !holds {
            let name = path.iter().fold(String::new(), |name, step| match step.parse::<usize>() {
                Ok(index) => format!("{name}[{index}]"),
                Err(_) if name.is_empty() => (*step).to_owned(),
                Err(_) => format!("{name}.{step}"),
            });
            self.found.push(self.document.error(path, format!("`{name}` {what}")).with_hint(hint));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn read(text: &str) -> Result<Config, Vec<Diagnostic>> {
        Config::read("plane.yaml", text, Path::new("/etc/embot"))
    }

    fn complaints(text: &str) -> String {
        read(text).unwrap_err().iter().map(|one| format!("{one}\n")).collect()
    }

    const FULL: &str = r#"
plane: home
store: state/embot.redb
socket: /run/embot.sock
api: { listen: "0.0.0.0:7400", certificate: tls/plane.crt, key: tls/plane.key, tokens: state/tokens.json }
poll: 2s
adopt: advise
new_modules: act
journal: { keep_bytes: 2097152 }
hosts:
  - name: host-a
    uri: qemu:///system
    migration_uri: qemu+tcp://10.0.0.1/system
    migration_address: tcp://10.0.0.1
    site: north
    labels: { rack: r1 }
    capacity: { cpus: 8, memory_mib: 32768 }
    load_from: guests
  - { name: host-b, uri: "simulated:unix:/run/fleet.sock" }
rules: [{ name: db-apart, kind: apart, hard: true, vms: ["db-*"] }]
guardrails: { cooldown: 1m, module_rate: { actions: 3, per: 5m }, overcommit: { cpu: 2 } }
module_key: keys/home.key
trust: [{ name: ops, key: "ed25519:8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c", permits: [migrate] }]
link: { listen: "0.0.0.0:7401", certificate: tls/plane.crt, key: tls/plane.key, ca: tls/ca.crt, crl: tls/crl.pem }
peers:
  - { name: site-b, address: "b.example:7401", limits: { migrations: 2 } }
  - { name: site-c, allow: [receive] }
handover: { step_timeout: 10s, names: { paths: { /images/: /data/images/ }, networks: { br0: lan }, listen: "10.0.0.1" } }
migration: { max_downtime: 300ms, auto_converge: true, tls: true }
policy: { operations: 20000 }
"#;

    #[test]
    fn everything_that_can_be_written_is_read() {
        let config = read(FULL).unwrap();
        assert_eq!(config.store, Path::new("/etc/embot/state/embot.redb"));
        assert_eq!(config.socket, Path::new("/run/embot.sock"));
        assert_eq!(config.modules, Path::new("/etc/embot/embots"));
        assert_eq!(config.hosts[0].load_from, LoadFrom::Guests);
        assert_eq!(config.guardrails.overcommit.memory, 1.0, "what is not written has its default");
        assert_eq!(config.guardrails.module_rate.actions, 3);
        insta::assert_snapshot!(config.effective());
    }

    #[test]
    fn a_small_file_is_enough_and_every_default_is_shown() {
        let config = read("plane: home\nfleet: demo\n").unwrap();
        insta::assert_snapshot!(config.effective());
    }

    #[test]
    fn what_is_effective_reads_back() {
        for text in [FULL, "plane: home\nfleet: fleets/small.yaml\n"] {
            let config = read(text).unwrap();
            assert_eq!(read(&config.effective()).unwrap(), config);
        }
    }

    #[test]
    fn the_shape_knows_every_field() {
        let mut full = read(FULL).unwrap();
        full.fleet = Some(FleetPlan::DEMO_NAME.into());
        full.migration.bandwidth_mib_per_s = Some(1);
        full.migration.timeout = Some(Span::minutes(1));
        let shown: serde_yaml::Value = serde_yaml::from_str(&full.effective()).unwrap();
        compare("", &shown, &SHAPE);
    }

    /// What is shown and what may be written are the same.
    fn compare(path: &str, value: &serde_yaml::Value, shape: &Shape) {
        match (shape, value) {
            (Shape::Keys(keys), serde_yaml::Value::Mapping(map)) => {
                let shown: Vec<&str> = map.keys().filter_map(|key| key.as_str()).collect();
                let known: Vec<&str> = keys.iter().map(|key| key.name).collect();
                assert_eq!(shown, known, "{path}");
                for key in *keys {
                    compare(&format!("{path}.{}", key.name), &map[key.name], &key.shape);
                }
            }
            (Shape::List(inner), serde_yaml::Value::Sequence(items)) => {
                items.iter().for_each(|item| compare(path, item, inner));
            }
            _ => {}
        }
    }

    #[test]
    fn every_complaint_names_its_place_and_what_to_do() {
        let texts = [
            "",
            "plane: home\n",
            "plan: home\nhosts: []\n",
            "plane: home\nfleet: demo\nguardrails: { cooldwn: 5m, hold: 30 }\nadopt: control\n",
            "plane: home\nhosts:\n  - { name: a, uri: qemu:///system }\n  - { name: a, uri: qemu:///system }\n  - { name: b, uri: somewhere }\n",
            "plane: home\nhosts: [{ name: a }]\n",
            "plane: home\nhosts: [{ name: a, uri: 'qemu:///system', capacity: { cpus: 0, memory_mib: 4 } }]\n",
            "plane: home\nfleet: demo\nrules:\n  - { name: r, kind: apart, vms: [] }\n  - { name: r, kind: near, vms: ['['] }\n",
            "plane: home\nfleet: demo\nrules:\n  - { name: r, kind: apart, vms: [] }\n  - { name: r, kind: apart, vms: [a] }\n",
            "plane: home\nfleet: demo\npoll: 1ms\nguardrails:\n  blast_radius: 20\n  plane_rate: { actions: 0, per: 0s }\n  migrations: 0\n  overcommit: { cpu: 0 }\n",
            "plane: home\nfleet: demo\njournal: { keep_bytes: 1 }\nmigration: { bandwidth_mib_per_s: 0 }\npolicy: { operations: 1 }\nstore: ''\n",
            "plane: my plane\nfleet: demo\n",
        ];
        let all: String = texts.iter().map(|text| format!("{}---\n", complaints(text))).collect();
        insta::assert_snapshot!(all);
    }

    #[test]
    fn defaults_are_those_of_the_parts() {
        let config = read("plane: home\nfleet: demo\n").unwrap();
        assert_eq!(config.policy_limits(), crate::policy::Limits::default());
        assert_eq!(config.retention(), Retention::default());
    }

    #[test]
    fn a_misspelt_hypervisor_is_named() {
        let found = read("plane: a\nhosts: [{ name: x, uri: 'qmeu:///system' }]\n").unwrap_err();
        assert_eq!(found[0].to_string(), "plane.yaml:2:25: error: no hypervisor has URIs of `qmeu:` (did you mean `qemu`?)");
    }

    #[test]
    fn a_file_that_is_not_there_is_said() {
        let all = Config::load(Path::new("no/such/plane.yaml")).unwrap_err();
        insta::assert_snapshot!(all[0].to_string());
    }

    proptest::proptest! {
        #[test]
        fn no_configuration_panics(text in "(plane: |hosts:|\n|  |- |name: |uri: |guardrails: |\\{|\\}|\\[|\\]|, |a|qemu:///system|0|1|5m|rules: |fleet: |poll: |:|\\PC)*") {
            let _ = read(&text);
        }
    }
}
