//! What a request calls a guest, a host or an element, and which one it means.
//!
//! A guest may be named by its name, its UUID, `vm:UUID`, or the beginning of its name or UUID where only one guest begins
//! so. An exact name always wins over a longer one that begins with it, also that of a guest that belongs to another plane now.

use super::error::ApiError;
use crate::error::nearest;
use crate::model::{ElementId, HostId, Vm, VmId, World};

/// So many candidates are listed at the most.
const LISTED: usize = 8;

/// The guest meant by `text`.
pub fn find_vm(world: &World, text: &str) -> Result<VmId, ApiError> {
    match vm_candidates(world, text) {
        Candidates::One(vm) => Ok(vm),
        Candidates::Unclear(error) => Err(error),
        Candidates::None => Err(unknown("guest", text, world.vms().map(|vm| &*vm.name), "embot elements --kind vm")),
    }
}

/// A guest that went to another plane: whoever asks here is sent on.
fn elsewhere(world: &World, text: &str) -> Option<ApiError> {
    let named = |(vm, stone): &(&VmId, &crate::model::Tombstone)| &*stone.name == text || vm.to_string() == text;
    let (_, stone) = world.gone.iter().find(named)?;
    Some(
        ApiError::not_found(format!("guest {} belongs to plane {} now (epoch {})", stone.name, stone.plane, stone.epoch))
            .with_hint(format!("ask the daemon of plane {}; `embot migrations` shows how it went", stone.plane)),
    )
}

/// The host meant by `text`: its name, `host:NAME`, or a beginning that only one host has.
pub fn find_host(world: &World, text: &str) -> Result<HostId, ApiError> {
    match host_candidates(world, text) {
        Candidates::One(host) => Ok(host),
        Candidates::Unclear(error) => Err(error),
        Candidates::None => {
            Err(unknown("host", text, world.hosts().map(|host| host.id.as_str()), "embot elements --kind host"))
        }
    }
}

/// The element meant by `text`: an element's own text form, or the name of a host or guest. Exact names win.
pub fn find_element(world: &World, text: &str) -> Result<ElementId, ApiError> {
    if text == "plane" || text == &*world.plane {
        return Ok(ElementId::Plane);
    }
    if let Ok(element) = text.parse::<ElementId>() {
        let known = match &element {
            ElementId::Plane => true,
            ElementId::Host(host) => world.host(host).is_some(),
            ElementId::Vm(vm) => world.vm(*vm).is_some(),
            part => part.vm().and_then(|vm| world.vm(vm)).is_some_and(|vm| vm.dependents().any(|one| one == *part)),
        };
        if known {
            return Ok(element);
        }
    }
    if let Some((guest, part)) = text.split_once('/') {
        let vm = find_vm(world, guest.strip_prefix("disk:").or(guest.strip_prefix("nic:")).unwrap_or(guest))?;
        let found = world.vm(vm).and_then(|vm| vm.dependents().find(|one| one.to_string().ends_with(&format!("/{part}"))));
        return found.ok_or_else(|| {
            ApiError::not_found(format!("guest `{guest}` has no disk or network card `{part}`"))
                .with_hint(format!("`embot elements {guest}` shows what it has"))
        });
    }
    if world.host(&HostId::from(text)).is_some() {
        return Ok(ElementId::Host(HostId::from(text)));
    }
    match (vm_candidates(world, text), host_candidates(world, text)) {
        (Candidates::One(vm), Candidates::None) => Ok(ElementId::Vm(vm)),
        (Candidates::None, Candidates::One(host)) => Ok(ElementId::Host(host)),
        (Candidates::One(vm), Candidates::One(host)) => {
            let named = world.vm(vm).is_some_and(|vm| &*vm.name == text);
            let both = vec![world.label(&ElementId::Vm(vm)), host.to_string()];
            if named { Ok(ElementId::Vm(vm)) } else { Err(ambiguous("guests and hosts", text, &both)) }
        }
        (Candidates::Unclear(error), _) | (_, Candidates::Unclear(error)) => Err(error),
        (Candidates::None, Candidates::None) => {
            let names = world.vms().map(|vm| &*vm.name).chain(world.hosts().map(|host| host.id.as_str()));
            Err(unknown("guest or host", text, names, "embot elements"))
        }
    }
}

enum Candidates<T> {
    None,
    One(T),
    /// What to say instead.
    Unclear(ApiError),
}

fn vm_candidates(world: &World, text: &str) -> Candidates<VmId> {
    let text = text.strip_prefix("vm:").unwrap_or(text);
    if let Some(vm) = uuid::Uuid::parse_str(text).ok().and_then(|id| world.vm(VmId(id))) {
        return Candidates::One(vm.id);
    }
    if text.is_empty() {
        return Candidates::None;
    }
    let mut found: Vec<&Vm> = world.vms_named(text).collect();
    if found.is_empty() {
        // The whole name of one that has left means that one, and no other whose name begins so.
        if let Some(error) = elsewhere(world, text) {
            return Candidates::Unclear(error);
        }
        found = world.vms().filter(|vm| vm.name.starts_with(text) || vm.id.to_string().starts_with(text)).collect();
    }
    match found.as_slice() {
        [] => Candidates::None,
        [vm] => Candidates::One(vm.id),
        several => {
            // The UUID tells apart only what nothing else does.
            let twins = several.iter().all(|vm| vm.name == several[0].name);
            let named = |vm: &&Vm| if twins { format!("{} on {} ({})", vm.name, vm.host, vm.id) } else { vm.name.to_string() };
            let mut names: Vec<_> = several.iter().map(named).collect();
            names.sort();
            Candidates::Unclear(ambiguous("guests", text, &names))
        }
    }
}

fn host_candidates(world: &World, text: &str) -> Candidates<HostId> {
    let text = text.strip_prefix("host:").unwrap_or(text);
    if let Some(host) = world.host(&HostId::from(text)) {
        return Candidates::One(host.id.clone());
    }
    let found: Vec<_> = world.hosts().filter(|host| !text.is_empty() && host.id.as_str().starts_with(text)).collect();
    match found.as_slice() {
        [] => Candidates::None,
        [host] => Candidates::One(host.id.clone()),
        several => {
            let names: Vec<_> = several.iter().map(|host| host.id.to_string()).collect();
            Candidates::Unclear(ambiguous("hosts", text, &names))
        }
    }
}

fn ambiguous(what: &str, text: &str, names: &[String]) -> ApiError {
    let more = if names.len() > LISTED { format!(" and {} more", names.len() - LISTED) } else { String::new() };
    let listed = names.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
    ApiError::senseless(format!("`{text}` fits {} {what}: {listed}{more}", names.len()))
        .with_hint("write the whole name, or the UUID where names are equal")
}

fn unknown<'a>(what: &str, text: &str, names: impl Iterator<Item = &'a str>, list: &str) -> ApiError {
    let error = ApiError::not_found(format!("there is no {what} `{text}`"));
    error.with_hint(match nearest(text, names) {
        Some(near) => format!("did you mean `{near}`? `{list}` lists all"),
        None => format!("`{list}` lists all"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{host, vm};

    fn world() -> World {
        let mut world = World::new("home");
        for name in ["host-a", "host-b"] {
            world.put_host(host(name));
        }
        world.put_vm(vm(1, "web-1", "host-a"));
        world.put_vm(vm(2, "web-10", "host-a"));
        world.put_vm(vm(3, "db", "host-b"));
        world.put_vm(vm(4, "twin", "host-a"));
        world.put_vm(vm(5, "twin", "host-b"));
        world.put_vm(vm(6, "host-c-builder", "host-b"));
        world
    }

    fn said(result: Result<impl std::fmt::Debug, ApiError>) -> String {
        let problem = result.unwrap_err().problem;
        format!("error: {}\nhint: {}\n", problem.error, problem.hint.unwrap_or_default())
    }

    #[test]
    fn names_uuids_and_unique_beginnings_are_found() {
        let world = world();
        let id = |n: u128| VmId(uuid::Uuid::from_u128(n));
        assert_eq!(find_vm(&world, "web-1"), Ok(id(1)), "an exact name wins");
        assert_eq!(find_vm(&world, "d"), Ok(id(3)));
        assert_eq!(find_vm(&world, "00000000-0000-0000-0000-000000000005"), Ok(id(5)));
        assert_eq!(find_vm(&world, "vm:00000000-0000-0000-0000-000000000005"), Ok(id(5)));
        assert_eq!(find_host(&world, "host:host-b"), Ok("host-b".into()));
        assert_eq!(find_element(&world, "db/vda"), Ok(ElementId::Disk(id(3), "vda".into())));
        assert_eq!(find_element(&world, "home"), Ok(ElementId::Plane));
        assert_eq!(find_element(&world, "host-c"), Ok(ElementId::Vm(id(6))));
    }

    #[test]
    fn whoever_asks_for_a_guest_that_went_to_another_plane_is_sent_on() {
        let mut world = world();
        let stone = crate::model::Tombstone { name: "shop".into(), plane: "site-b".into(), epoch: 2, at: Default::default() };
        world.gone.insert(VmId(uuid::Uuid::from_u128(7)), stone);
        world.put_vm(vm(8, "shop-1", "host-a"));
        let told = said(find_vm(&world, "shop"));
        assert!(told.starts_with("error: guest shop belongs to plane site-b now (epoch 2)\nhint: ask the daemon"), "{told}");
        assert_eq!(said(find_element(&world, "shop")), told);
        assert_eq!(said(find_element(&world, "vm:00000000-0000-0000-0000-000000000007")), told);
    }

    #[test]
    fn what_is_unknown_or_ambiguous_is_said_with_a_way_on() {
        let world = world();
        let all = [
            said(find_vm(&world, "web")),
            said(find_vm(&world, "wbe-1")),
            said(find_vm(&world, "twin")),
            said(find_vm(&world, "")),
            said(find_host(&world, "host-")),
            said(find_host(&world, "hosta")),
            said(find_element(&world, "host")),
            said(find_element(&world, "db/vdb")),
            said(find_element(&world, "zzzzzzzz")),
        ];
        insta::assert_snapshot!(all.join("\n"));
    }
}
