//! `GET /v1/elements` and `/v1/elements/{name}`: what the plane manages.

use super::actions::{ActionView, RefusalView, newest_first, refusals};
use super::embots::EmbotView;
use super::error::ApiError;
use super::names::find_element;
use super::request::{Name, Query};
use super::stamp::Stamp;
use super::state::Api;
use crate::manager::Manager;
use crate::model::{ElementId, Host, HostId, Kind, Link, Maintenance, Vm, VmState, World};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HostView {
    /// Its element, `host:NAME`.
    pub element: String,
    /// Its name.
    pub name: String,
    /// The site it stands at; empty where none is configured.
    pub site: String,
    /// Labels from the configuration.
    pub labels: BTreeMap<String, String>,
    /// `up`, `down` or `unknown`.
    pub link: String,
    /// Why it is down.
    pub link_reason: Option<String>,
    /// In maintenance since; absent while in service.
    pub maintenance_since: Option<Stamp>,
    /// Does it sleep, to save power? What is sent or started there wakes it. Absent where it does not tell.
    pub asleep: Option<bool>,
    /// Cores.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// CPU use as a share of its cores, 0 to 1.
    pub cpu: f64,
    /// Memory use as a share of its memory, 0 to 1.
    pub memory: f64,
    /// When these were measured.
    pub load_at: Stamp,
    /// Guests defined there.
    pub guests: usize,
    /// Guests that take up room there now.
    pub guests_active: usize,
}

/// A guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VmView {
    /// Its element, `vm:UUID`.
    pub element: String,
    /// Its UUID.
    pub id: String,
    /// Its name on its host.
    pub name: String,
    /// Where it is defined.
    pub host: String,
    /// `running`, `paused`, `asleep`, `off` or `crashed`.
    pub state: String,
    /// Why, as far as the hypervisor tells.
    pub reason: String,
    /// Since when.
    pub since: Stamp,
    /// How far the plane may go with it: `observe`, `advise` or `act`.
    pub mode: String,
    /// The plane its metadata names as owner.
    pub owner: Option<String>,
    /// The epoch its metadata names.
    pub epoch: Option<u64>,
    /// Processors.
    pub vcpus: u32,
    /// Memory it may use at the most, in MiB.
    pub memory_mib: u64,
    /// Memory it holds at present, in MiB.
    pub balloon_mib: u64,
    /// CPU use as a share of its processors, 0 to 1; absent where unknown.
    pub cpu: Option<f64>,
    /// Memory use as a share of what it holds, 0 to 1; absent where unknown.
    pub memory: Option<f64>,
    /// Disk throughput in bytes a second.
    pub disk_bytes_per_s: Option<f64>,
    /// Network throughput in bytes a second.
    pub net_bytes_per_s: Option<f64>,
    /// When these were measured.
    pub load_at: Stamp,
    /// Does its definition outlive its run?
    pub persistent: bool,
    /// Does its host start it by itself?
    pub autostart: bool,
    /// Is its guest agent connected?
    pub agent: bool,
    /// Labels from its metadata.
    pub labels: BTreeMap<String, String>,
    /// Targets of its disks.
    pub disks: Vec<String>,
    /// Targets or addresses of its network cards.
    pub nics: Vec<String>,
    /// The action planned or under way on it.
    pub action: Option<u64>,
}

/// A disk or a network card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartView {
    /// Its element, `disk:UUID/TARGET` or `nic:UUID/TARGET`.
    pub element: String,
    /// Its name for people: `web-1/vda`.
    pub name: String,
    /// The guest it belongs to, by name.
    pub vm: String,
}

/// An element of any kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ElementView {
    /// The plane.
    Plane {
        /// Its name.
        name: String,
    },
    /// A host.
    Host(HostView),
    /// A guest.
    Vm(Box<VmView>),
    /// A disk.
    Disk(PartView),
    /// A network card.
    Nic(PartView),
    /// An application in a guest.
    App(PartView),
}

/// An element with what concerns it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ElementDetail {
    /// The element.
    pub element: ElementView,
    /// A host's guests.
    pub guests: Vec<VmView>,
    /// The embots that stand for it.
    pub embots: Vec<EmbotView>,
    /// The latest actions on it, or for a host those to or from it; the newest first.
    pub actions: Vec<ActionView>,
    /// What was recently refused on it; the newest first.
    pub refusals: Vec<RefusalView>,
}

/// Which elements are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ElementFilter {
    /// Only this kind; hosts and guests where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Only those whose name matches this pattern (`web-*`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// In which order; by name where it is not said. Loads come the highest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort: Option<Sort>,
    /// Without so many of the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 4_294_967_295_usize)]
    pub skip: Option<u32>,
    /// At most so many; all where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 4_294_967_295_usize)]
    pub limit: Option<u32>,
}

/// An order of hosts among hosts, and of guests among guests. What is equal follows by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// By name.
    Name,
    /// By state: what needs a look first.
    State,
    /// By CPU use, the highest share first.
    Cpu,
    /// By memory use, the highest share first.
    Memory,
    /// Guests by their host.
    Host,
    /// Hosts by how many guests they have, the most first.
    Guests,
}

/// Labels on the wire.
fn labels(labels: &BTreeMap<std::sync::Arc<str>, std::sync::Arc<str>>) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

impl HostView {
    /// A host as the API shows it.
    pub fn new(host: &Host, world: &World) -> HostView {
        let (link, link_reason) = match &host.link {
            Link::Up => ("up", None),
            Link::Unknown => ("unknown", None),
            Link::Down(reason) => ("down", Some(reason.clone())),
        };
        HostView {
            element: ElementId::Host(host.id.clone()).to_string(),
            name: host.id.to_string(),
            site: host.site.to_string(),
            labels: labels(&host.labels),
            link: link.to_owned(),
            link_reason,
            maintenance_since: match host.maintenance {
                Maintenance::Off => None,
                Maintenance::On(since) => Some(since.into()),
            },
            asleep: host.load.asleep,
            cpus: host.capacity.cpus,
            memory_mib: host.capacity.memory_mib,
            cpu: host.cpu(),
            memory: host.memory(),
            load_at: host.load_at.into(),
            guests: host.vms.len(),
            guests_active: world.vms_on(&host.id).filter(|vm| vm.is_active()).count(),
        }
    }
}

fn share(part: Option<f32>, whole: f64) -> Option<f64> {
    part.map(|part| f64::from(part) / whole.max(1.0))
}

/// CPU use as a share of the guest's processors.
fn cpu(vm: &Vm) -> Option<f64> {
    share(vm.load.cpu_cores, f64::from(vm.vcpus))
}

/// Memory use as a share of what the guest holds.
fn memory(vm: &Vm) -> Option<f64> {
    share(vm.load.memory_used_mib, vm.balloon_mib as f64)
}

impl VmView {
    /// A guest as the API shows it.
    pub fn new(vm: &Vm, world: &World) -> VmView {
        VmView {
            element: ElementId::Vm(vm.id).to_string(),
            id: vm.id.to_string(),
            name: vm.name.to_string(),
            host: vm.host.to_string(),
            state: vm.state.to_string(),
            reason: vm.reason.to_string(),
            since: vm.since.into(),
            mode: vm.mode.to_string(),
            owner: vm.mark.as_ref().map(|mark| mark.plane.to_string()),
            epoch: vm.mark.as_ref().map(|mark| mark.epoch),
            vcpus: vm.vcpus,
            memory_mib: vm.memory_mib,
            balloon_mib: vm.balloon_mib,
            cpu: cpu(vm),
            memory: memory(vm),
            disk_bytes_per_s: vm.load.disk_bytes_per_s.map(f64::from),
            net_bytes_per_s: vm.load.net_bytes_per_s.map(f64::from),
            load_at: vm.load_at.into(),
            persistent: vm.persistent,
            autostart: vm.autostart,
            agent: vm.agent,
            labels: labels(&vm.labels),
            disks: vm.disks.iter().map(ToString::to_string).collect(),
            nics: vm.nics.iter().map(ToString::to_string).collect(),
            action: world.open.get(&vm.id).map(|(action, _)| action.0),
        }
    }
}

fn part(element: &ElementId, world: &World) -> PartView {
    let vm = element.vm().map(|vm| world.label(&ElementId::Vm(vm)));
    PartView { element: element.to_string(), name: world.label(element), vm: vm.unwrap_or_default() }
}

impl ElementView {
    /// An element as the API shows it; `None` where it is not known (any more).
    pub fn new(element: &ElementId, world: &World) -> Option<ElementView> {
        Some(match element {
            ElementId::Plane => ElementView::Plane { name: world.plane.to_string() },
            ElementId::Host(host) => ElementView::Host(HostView::new(world.host(host)?, world)),
            ElementId::Vm(vm) => ElementView::Vm(Box::new(VmView::new(world.vm(*vm)?, world))),
            ElementId::Disk(..) => ElementView::Disk(part(element, world)),
            ElementId::Nic(..) => ElementView::Nic(part(element, world)),
            ElementId::App(..) => ElementView::App(part(element, world)),
        })
    }

    /// Its name for people.
    pub fn name(&self) -> &str {
        match self {
            ElementView::Plane { name } => name,
            ElementView::Host(host) => &host.name,
            ElementView::Vm(vm) => &vm.name,
            ElementView::Disk(part) | ElementView::Nic(part) | ElementView::App(part) => &part.name,
        }
    }
}

/// The elements that pass the filter: hosts, then guests, each followed by its parts where these are asked for.
pub fn list(world: &World, filter: &ElementFilter) -> Result<Vec<ElementView>, ApiError> {
    let pattern = filter.name.as_deref().map(|name| {
        let bad = |error: globset::Error| {
            ApiError::senseless(format!("`{name}` is no pattern of names: {error}")).with_hint("write for example `web-*`")
        };
        globset::Glob::new(name).map(|glob| glob.compile_matcher()).map_err(bad)
    });
    let pattern = pattern.transpose()?;
    let sort = filter.sort.unwrap_or(Sort::Name);
    let hosts = hosts_sorted(world, sort).into_iter().map(|host| ElementId::Host(host.id.clone()));
    // Sorting all guests for a list of hosts would be for nothing.
    let guests = if matches!(filter.kind, Some(Kind::Plane | Kind::Host)) { Vec::new() } else { guests_sorted(world, sort) };
    let guests = guests.into_iter().flat_map(|vm| std::iter::once(ElementId::Vm(vm.id)).chain(vm.dependents()));
    let wanted = |element: &ElementId| {
        let kind = element.kind();
        filter.kind.map_or(matches!(kind, Kind::Host | Kind::Vm), |wanted| wanted == kind)
            && pattern.as_ref().is_none_or(|pattern| pattern.is_match(world.label(element)))
    };
    let all = std::iter::once(ElementId::Plane).chain(hosts).chain(guests).filter(wanted);
    let shown = all.skip(filter.skip.unwrap_or(0) as usize).take(filter.limit.unwrap_or(u32::MAX) as usize);
    Ok(shown.filter_map(|element| ElementView::new(&element, world)).collect())
}

/// The highest first; what is not known, last.
fn highest_first(a: Option<f64>, b: Option<f64>) -> Ordering {
    let known = |share: Option<f64>| share.filter(|share| !share.is_nan()).unwrap_or(f64::NEG_INFINITY);
    known(b).total_cmp(&known(a))
}

fn hosts_sorted(world: &World, sort: Sort) -> Vec<&Host> {
    let mut hosts: Vec<&Host> = world.hosts().collect();
    let rank = |host: &Host| match (&host.link, host.maintenance) {
        (Link::Down(_), _) => 0,
        (Link::Unknown, _) => 1,
        (Link::Up, Maintenance::On(_)) => 2,
        (Link::Up, Maintenance::Off) => 3,
    };
    let order = |a: &&Host, b: &&Host| match sort {
        Sort::Name | Sort::Host => Ordering::Equal,
        Sort::State => rank(a).cmp(&rank(b)),
        Sort::Cpu => highest_first(Some(a.cpu()), Some(b.cpu())),
        Sort::Memory => highest_first(Some(a.memory()), Some(b.memory())),
        Sort::Guests => b.vms.len().cmp(&a.vms.len()),
    };
    // They come by name, and sorting keeps that where they are equal.
    hosts.sort_by(order);
    hosts
}

fn guests_sorted(world: &World, sort: Sort) -> Vec<&Vm> {
    let mut guests: Vec<&Vm> = world.vms().collect();
    let rank = |vm: &Vm| match vm.state {
        VmState::Crashed => 0,
        VmState::Paused => 1,
        VmState::Asleep => 2,
        VmState::Off => 3,
        VmState::Running => 4,
    };
    let order = |a: &Vm, b: &Vm| match sort {
        Sort::Name | Sort::Guests => Ordering::Equal,
        Sort::State => rank(a).cmp(&rank(b)),
        Sort::Cpu => highest_first(cpu(a), cpu(b)),
        Sort::Memory => highest_first(memory(a), memory(b)),
        Sort::Host => a.host.cmp(&b.host),
    };
    guests.sort_by(|a, b| order(a, b).then_with(|| (&a.name, a.id).cmp(&(&b.name, b.id))));
    guests
}

/// So many actions and refusals are shown with an element.
const SHOWN: usize = 20;

/// An element and what concerns it.
pub fn detail(manager: &Manager, name: &str) -> Result<ElementDetail, ApiError> {
    let world = manager.world();
    let id = find_element(&world, name)?;
    let element = ElementView::new(&id, &world).ok_or_else(|| ApiError::not_found(format!("there is no element `{name}`")))?;
    let concerns = |host: Option<&HostId>, kind: &crate::model::ActionKind| match &id {
        ElementId::Plane => kind.vm().is_none(),
        ElementId::Host(this) => host == Some(this) || kind.destination() == Some(this),
        other => other.vm() == kind.vm(),
    };
    let actions = newest_first(manager).into_iter();
    let actions = actions.filter(|action| concerns(action.host.as_ref(), &action.proposal.kind));
    let actions = actions.take(SHOWN).map(|action| ActionView::new(action, &world)).collect();
    let guests = match &id {
        ElementId::Host(host) => world.vms_on(host).map(|vm| VmView::new(vm, &world)).collect(),
        _ => Vec::new(),
    };
    let refused = refusals(manager, |refusal| {
        let kind = &refusal.proposal.kind;
        concerns(kind.vm().and_then(|vm| world.vm(vm)).map(|vm| &vm.host), kind)
    });
    let of = id.parent().unwrap_or(id.clone());
    let embots = manager.embots(None).into_iter().filter(|embot| embot.id.element == of);
    Ok(ElementDetail {
        element,
        guests,
        embots: embots.map(|embot| EmbotView::new(&embot)).collect(),
        actions,
        refusals: refused.into_iter().take(SHOWN).collect(),
    })
}

pub(super) async fn get_list(
    State(api): State<Api>,
    Query(filter): Query<ElementFilter>,
) -> Result<Json<Vec<ElementView>>, ApiError> {
    api.ask(move |manager| list(&manager.world(), &filter)).await?.map(Json)
}

pub(super) async fn get_one(State(api): State<Api>, Name(name): Name) -> Result<Json<ElementDetail>, ApiError> {
    api.ask(move |manager| detail(manager, &name)).await?.map(Json)
}
