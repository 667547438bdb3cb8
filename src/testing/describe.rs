//! From what a script says of a world to a fleet and the settings of its planes.

use super::plain;
use crate::config::{self, Config};
use crate::embot::package::{SigningKey, TrustStore, TrustedKey};
use crate::error::Diagnostic;
use crate::hypervisor::simulated::{Fleet, FleetPlan, Machine, reading};
use crate::hypervisor::{EMBEDDED, MigrationLimits};
use crate::manager::{HandoverSettings, HostSettings, Settings};
use crate::migration::link::PeerSettings;
use crate::model::{HostId, Mode, Peer, Span, Timestamp, Value, Verb};
use crate::policy::Limits;
use crate::yaml::Shape;
use globset::Glob;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The name of a world's only plane.
const PLANE: &str = "home";
/// What a message takes from one plane to another.
const DELAY: Span = Span(20);

/// Keys of plane.yaml that say where something is, or who somebody is.
const UNSAID: [&str; 8] = ["plane", "fleet", "store", "socket", "modules", "policies", "journal", "link"];

/// A world before it is built.
pub(super) struct Described {
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

/// Reads the map that `world(...)` was given, as it is at `start`: keys of a fleet file, and beside them those of the plane or `planes`.
pub(super) fn read(description: &Value, start: Timestamp) -> Result<Described, String> {
    let Value::Map(given) = description else { return Err("a world is described by a map".to_owned()) };
    let is_fleet = |key: &str| keys(&reading::SHAPE).any(|known| known == key);
    let part = |wanted: bool| {
        given.iter().filter(move |(key, _)| is_fleet(key) == wanted).map(|(key, value)| (key.clone(), value.clone()))
    };
    let fleet = plain::written(&Value::Map(part(true).collect()), &reading::SHAPE);
    let fleet = FleetPlan::parse("world", &fleet.to_string()).map_err(|found| words(&found))?;
    let fleet = Fleet::new(&fleet, start).map_err(|error| error.to_string())?;
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
    let names: Vec<Arc<str>> = named.keys().map(|name| Arc::from(name.as_str())).collect();
    let mut planes = Vec::new();
    let mut poll = None;
    for (name, own) in named {
        let (plane, every) = plane(&name, own, &fleet, &names)?;
        planes.push(plane);
        poll = poll.or(Some(every));
    }
    let mut owners = BTreeMap::new();
    for plane in &planes {
        for host in &plane.settings.hosts {
            if let Some(other) = owners.insert(&host.id, &plane.settings.plane) {
                let (host, plane) = (&host.id, &plane.settings.plane);
                return Err(format!(
                    "host {host} would belong to planes {other} and {plane}: say of each which `hosts` it has"
                ));
            }
        }
    }
    Ok(Described { fleet, planes, poll: poll.unwrap_or(Span::seconds(5)), delay: DELAY })
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

fn plane(
    name: &str,
    mut own: BTreeMap<String, Value>,
    fleet: &Fleet,
    names: &[Arc<str>],
) -> Result<(PlaneDescribed, Span), String> {
    let patterns = match own.remove("hosts") {
        None => vec!["*".to_owned()],
        Some(Value::Array(patterns)) => {
            let text = |pattern| match pattern {
                Value::Text(text) => Ok(text),
                _ => Err(format!("the `hosts` of plane {name} are names or patterns of the fleet's hosts")),
            };
            patterns.into_iter().map(text).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(format!("the `hosts` of plane {name} are a list")),
    };
    let mut matchers = Vec::new();
    for pattern in &patterns {
        matchers.push(Glob::new(pattern).map_err(|error| error.to_string())?.compile_matcher());
    }
    if let Some(key) = UNSAID.iter().find(|key| own.contains_key(**key)) {
        return Err(format!("`{key}` has no meaning for a plane of a test"));
    }
    // A plane's configuration has peers only where it has a link, and these planes have none.
    let said_of_peers: Option<Vec<PeerSettings>> = own
        .remove("peers")
        .map(|peers| serde_json::from_value(peers.to_json()).map_err(|error| format!("`peers` of plane {name}: {error}")))
        .transpose()?;
    let says_trust = own.contains_key("trust");
    // Each plane signs its modules, unless it is said to have no key.
    let signs = !matches!(own.remove("module_key"), Some(Value::Text(path)) if path.is_empty());
    if let Some(Value::Array(trusted)) = own.get_mut("trust") {
        for one in trusted {
            // Who is trusted is said by the plane's name; its key is the world's business.
            let Value::Map(one) = one else { continue };
            if let Some(Value::Text(plane)) = one.get("name") {
                let public = key(plane, names)?.public().to_string();
                one.insert("key".to_owned(), Value::Text(public));
            }
        }
    }
    own.insert("plane".to_owned(), Value::Text(name.to_owned()));
    // Its hosts are those of the world's fleet; a plane without any would be refused.
    own.insert("fleet".to_owned(), Value::Text(FleetPlan::DEMO_NAME.to_owned()));
    for mode in ["adopt", "new_modules"] {
        own.entry(mode.to_owned()).or_insert_with(|| Value::Text("act".to_owned()));
    }
    let written = plain::written(&Value::Map(own), &config::SHAPE);
    let config = Config::read("world", &written.to_string(), Path::new(""));
    let config = config.map_err(|found| found.first().map_or_else(String::new, words))?;
    let own = fleet.hosts().filter(|(id, _)| matchers.iter().any(|matcher| matcher.is_match(id.as_str())));
    let host = |(id, machine): (&HostId, &Machine)| HostSettings {
        id: id.clone(),
        site: machine.site.clone(),
        labels: machine.labels.clone(),
    };
    let settings: Vec<HostSettings> = own.map(host).collect();
    if settings.is_empty() {
        return Err(format!("plane {name} has no hosts: none of the fleet is called {}", patterns.join(" or ")));
    }
    // Where nothing else is said every plane is the others' peer, and trusts their modules with everything.
    let others = || names.iter().filter(|other| ***other != *name);
    let peers = match said_of_peers {
        Some(peers) => peers.iter().map(PeerSettings::peer).collect(),
        None => others().map(|other| Peer::new(other, true, true)).collect(),
    };
    let mut trusted = config.trust.clone();
    if !says_trust {
        for other in others() {
            let permits = Verb::ALL.iter().map(|(verb, ..)| *verb).collect();
            trusted.push(TrustedKey { name: other.clone(), key: key(other, names)?.public(), permits, mode: Mode::Act });
        }
    }
    let handover = HandoverSettings {
        peers,
        timing: config.handover.timing(),
        resume: config.handover.resume,
        lease: config.handover.lease,
        rewrites: config.handover.names.rewrites(),
        destinations: settings.iter().map(|host| (host.id.clone(), (EMBEDDED.into(), "".into()))).collect(),
        trust: TrustStore::new(trusted),
        module_key: if signs { Some(Arc::new(key(name, names)?)) } else { None },
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
