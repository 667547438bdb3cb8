//! From what is said of a world to a fleet and the settings of its planes.

use super::plain;
use crate::config::{self, Config, PEERS};
use crate::embot::VERBS;
use crate::embot::package::{SigningKey, TrustStore, TrustedKey};
use crate::error::Diagnostic;
use crate::hypervisor::simulated::{Fleet, FleetPlan, Machine, reading};
use crate::hypervisor::{EMBEDDED, MigrationLimits};
use crate::manager::{HandoverSettings, HostSettings, Settings};
use crate::migration::link::PeerSettings;
use crate::model::{HostId, Mode, Peer, Span, Timestamp, Value, Verb};
use crate::policy::Limits;
use crate::yaml::{Key, Shape, Source};
use globset::Glob;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The name of a world's only plane.
const PLANE: &str = "home";
/// What a message takes from one plane to another, where nothing else is said.
pub const DELAY: Span = Span(20);

/// Keys of plane.yaml that say where something is, or who somebody is.
const UNSAID: [&str; 8] = ["plane", "fleet", "store", "socket", "modules", "policies", "journal", "link"];

/// Whose modules a plane trusts: the other planes' by name, for their keys are the world's business.
const TRUST: Shape = Shape::List(&Shape::Keys(&[
    Key::required("name", Shape::Name).like("north"),
    Key::optional("permits", Shape::List(&Shape::OneOf(VERBS))).like("[migrate, notify]"),
    Key::optional("mode", Shape::OneOf(&["observe", "advise", "act"])),
]));

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Trusted {
    name: Arc<str>,
    #[serde(default)]
    permits: BTreeSet<Verb>,
    #[serde(default = "advise")]
    mode: Mode,
}

fn advise() -> Mode {
    Mode::Advise
}

/// A world before it is built.
pub struct Described {
    pub(super) fleet: Fleet,
    pub(super) planes: Vec<PlaneDescribed>,
    /// How often hosts are polled.
    pub(super) poll: Span,
    pub(super) delay: Span,
}

/// One of its planes.
pub(super) struct PlaneDescribed {
    pub(super) settings: Settings,
    pub(super) migration: MigrationLimits,
}

/// A complaint about something that stands in no file.
pub(super) fn words(found: &Diagnostic) -> String {
    match &found.hint {
        Some(hint) => format!("{} ({hint})", found.message),
        None => found.message.clone(),
    }
}

fn keys(shape: &Shape) -> impl Iterator<Item = &'static str> {
    let keys: &'static [crate::yaml::Key] = if let Shape::Keys(keys) = shape { keys } else { &[] };
    keys.iter().map(|key| key.name)
}

/// Reads the map that `world(...)` was given, as it is at `start`: keys of a fleet file, and beside them those of the plane or
/// `planes`.
pub(super) fn read(description: &Value, start: Timestamp) -> Result<Described, String> {
    let Value::Map(given) = description else { return Err("a world is described by a map".to_owned()) };
    let is_fleet = |key: &str| keys(&reading::SHAPE).any(|known| known == key);
    let part = |wanted: bool| {
        given.iter().filter(move |(key, _)| is_fleet(key) == wanted).map(|(key, value)| (key.clone(), value.clone()))
    };
    let first = |found: Vec<Diagnostic>| found.first().map_or_else(String::new, words);
    let source = |value: &Value, shape| Source::parse("world", &plain::written(value, shape).to_string()).map_err(first);
    let fleet = FleetPlan::read_source(source(&Value::Map(part(true).collect()), &reading::SHAPE)?).map_err(first)?;
    let mut own: BTreeMap<String, Value> = part(false).collect();
    let named = match own.remove("planes") {
        None => BTreeMap::from([(PLANE.to_owned(), own)]),
        Some(_) if !own.is_empty() => {
            let key = own.keys().next().map_or("", String::as_str);
            return Err(format!("`{key}` belongs to one of the `planes`"));
        }
        Some(Value::Map(planes)) => planes
            .into_iter()
            .map(|(name, plane)| match plane {
                Value::Map(plane) => Ok((name, plane)),
                _ => Err(format!("the plane `{name}` is described by a map")),
            })
            .collect::<Result<_, _>>()?,
        Some(_) => return Err("`planes` is a map: each plane's name, and what is said of it".to_owned()),
    };
    let planes: Result<_, String> =
        named.into_iter().map(|(name, plane)| Ok((name, source(&Value::Map(plane), &config::SHAPE)?))).collect();
    Described::new(&fleet, planes?, start, DELAY).map_err(first)
}

impl Described {
    /// A fleet, and the planes that have its hosts: each by its name, as plane.yaml would describe it. Without any, one plane
    /// has all hosts. Messages take `delay` from one to another.
    pub fn new(
        fleet: &FleetPlan,
        mut planes: BTreeMap<String, Source>,
        start: Timestamp,
        delay: Span,
    ) -> Result<Described, Vec<Diagnostic>> {
        let nowhere = |why: String| vec![Diagnostic::error("world", 0, 0, 1, why)];
        let fleet = Fleet::new(fleet, start).map_err(|error| nowhere(error.to_string()))?;
        if planes.is_empty() {
            planes.insert(PLANE.to_owned(), Source::parse("world", "{}")?);
        }
        let names: Vec<Arc<str>> = planes.keys().map(|name| Arc::from(name.as_str())).collect();
        let (mut described, mut poll) = (Vec::new(), None);
        for (name, source) in planes {
            let (plane, every) = plane(&name, source, &fleet, &names)?;
            described.push(plane);
            poll = poll.or(Some(every));
        }
        let mut owners = BTreeMap::new();
        for plane in &described {
            for host in &plane.settings.hosts {
                if let Some(other) = owners.insert(&host.id, &plane.settings.plane) {
                    let (host, plane) = (&host.id, &plane.settings.plane);
                    let why =
                        format!("host {host} would belong to planes {other} and {plane}: say of each which `hosts` it has");
                    return Err(nowhere(why));
                }
            }
        }
        Ok(Described { fleet, planes: described, poll: poll.unwrap_or(Span::seconds(5)), delay })
    }
}

impl Described {
    /// The same with its energy and service measured.
    pub fn measured(mut self) -> Described {
        self.fleet.measure(self.poll);
        self
    }
}

/// The key that a plane of the world signs its modules with.
fn key(plane: &str, names: &[Arc<str>]) -> Result<SigningKey, String> {
    let number = names.iter().position(|name| **name == *plane);
    let number = number.and_then(|number| u8::try_from(number).ok());
    let number = number.ok_or_else(|| format!("this world has no plane `{plane}`"))?;
    let mut seed = [7; 32];
    seed[0] = number;
    SigningKey::from_seed(&seed).map_err(|error| error.to_string())
}

fn plane(name: &str, mut source: Source, fleet: &Fleet, names: &[Arc<str>]) -> Result<(PlaneDescribed, Span), Vec<Diagnostic>> {
    if let Some(key) = source.keys().iter().find(|key| UNSAID.contains(&key.as_str())) {
        return Err(vec![source.key_error(key, format!("`{key}` has no meaning for a plane of a simulated world"))]);
    }
    let of_all = |why: String| vec![Diagnostic::error("world", 0, 0, 1, why)];
    let patterns: Vec<String> = match source.take("hosts") {
        None => vec!["*".to_owned()],
        Some(patterns) => patterns.read(&Shape::List(&Shape::Pattern))?.0,
    };
    let mut matchers = Vec::new();
    for pattern in &patterns {
        matchers.push(Glob::new(pattern).map_err(|error| of_all(error.to_string()))?.compile_matcher());
    }
    // A plane's configuration has peers only where it has a link, and these planes have none.
    let said_of_peers: Option<Vec<PeerSettings>> =
        source.take("peers").map(|peers| peers.read(&PEERS)).transpose()?.map(|(peers, _)| peers);
    // Each plane signs its modules, unless it is said to have no key.
    let signs = match source.take("module_key") {
        None => true,
        Some(path) => !path.read::<String>(&Shape::Text)?.0.is_empty(),
    };
    let said_of_trust: Option<Vec<Trusted>> =
        source.take("trust").map(|trust| trust.read(&TRUST)).transpose()?.map(|(trusted, _)| trusted);
    source.add("plane", name);
    // Its hosts are those of the world's fleet; a plane without any would be refused.
    source.add("fleet", FleetPlan::DEMO_NAME);
    for mode in ["adopt", "new_modules"] {
        source.add(mode, "act");
    }
    let config = Config::read_source(source, Path::new(""))?;
    let own = fleet.hosts().filter(|(id, _)| matchers.iter().any(|matcher| matcher.is_match(id.as_str())));
    let host = |(id, machine): (&HostId, &Machine)| HostSettings {
        id: id.clone(),
        site: machine.site.clone(),
        labels: machine.labels.clone(),
    };
    let settings: Vec<HostSettings> = own.map(host).collect();
    if settings.is_empty() {
        let why = format!("plane {name} has no hosts: none of the fleet is called {}", patterns.join(" or "));
        return Err(of_all(why));
    }
    // Where nothing else is said every plane is the others' peer, and trusts their modules with everything.
    let others = || names.iter().filter(|other| ***other != *name);
    let peers = match said_of_peers {
        Some(peers) => peers.iter().map(PeerSettings::peer).collect(),
        None => others().map(|other| Peer::new(other, true, true)).collect(),
    };
    let everything = || Verb::ALL.iter().map(|(verb, ..)| *verb).collect();
    let trusted = said_of_trust.unwrap_or_else(|| {
        others().map(|other| Trusted { name: other.clone(), permits: everything(), mode: Mode::Act }).collect()
    });
    let trusted = trusted.into_iter().map(|Trusted { name, permits, mode }| {
        Ok(TrustedKey { key: key(&name, names).map_err(of_all)?.public(), name, permits, mode })
    });
    let trusted: Vec<TrustedKey> = trusted.collect::<Result<_, Vec<Diagnostic>>>()?;
    let handover = HandoverSettings {
        peers,
        timing: config.handover.timing(),
        resume: config.handover.resume,
        lease: config.handover.lease,
        rewrites: config.handover.names.rewrites(),
        destinations: settings.iter().map(|host| (host.id.clone(), (EMBEDDED.into(), "".into()))).collect(),
        trust: TrustStore::new(trusted),
        module_key: if signs { Some(Arc::new(key(name, names).map_err(of_all)?)) } else { None },
    };
    // The same test must end the same on a slow machine: operations bound a policy, the clock does not.
    let policy = Limits { deadline: Duration::from_secs(3_600), ..config.policy_limits() };
    let settings = Settings {
        plane: name.into(),
        hosts: settings,
        rules: config.rules.clone(),
        guardrails: config.guardrails.clone(),
        policy,
        adopt: config.adopt,
        new_modules: config.new_modules,
        handover,
    };
    Ok((PlaneDescribed { settings, migration: config.migration }, config.poll))
}
