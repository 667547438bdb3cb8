//! May this be done to this guest at all? Armed, known, mode, permit, owner, state.
//!
//! Nothing here looks at other guests, at loads or at the past; that is the business of the other checks.

use super::terms::Terms;
use super::{Decided, No};
use crate::model::{ActionKind, Host, HostId, Link, Mode, Peer, Reason, Verb, Vm, VmState, World};
use std::fmt::Write;

/// The kill switch. It stops admins as well; what tells admins goes on.
pub(super) fn armed(world: &World) -> Decided<()> {
    if world.armed {
        return Ok(());
    }
    No::because("armed", "the kill switch is on, nothing new is started; `embot arm` ends that")
}

/// The guest, and the host it is on, where the host answers.
pub(super) fn known<'w>(world: &'w World, kind: &ActionKind) -> Decided<(Option<&'w Vm>, &'w Host)> {
    let verb = kind.verb();
    let Some(id) = kind.vm() else { return No::because("guest", format!("{verb} names no guest")) };
    let vm = world.vm(id);
    let host = match (kind, vm) {
        (ActionKind::Define { host, .. }, Some(vm)) if vm.host != *host => {
            return No::because(
                "guest",
                format!("{} is defined on {} already; to have it on {host}, migrate it", vm.name, vm.host),
            );
        }
        (ActionKind::Define { host, .. }, _) => host,
        (_, Some(vm)) => &vm.host,
        (_, None) => {
            return No::because("guest", format!("the plane knows no guest {id}; `embot elements` lists those it knows"));
        }
    };
    Ok((vm, up(world, host)?))
}

/// The host, where it answers.
pub(super) fn up<'w>(world: &'w World, id: &HostId) -> Decided<&'w Host> {
    let Some(host) = world.host(id) else {
        return No::because("host", format!("the plane has no host {id}; `hosts` in its configuration names those it has"));
    };
    match &host.link {
        Link::Up => Ok(host),
        Link::Unknown => {
            No::because("host", format!("{id} has not answered since the daemon started; nothing is done there until it does"))
        }
        Link::Down(why) => No::because("host", format!("{id} does not answer ({why}); nothing is done there until it does")),
    }
}

/// How far this may go: the smaller of what the module and what the guest allow.
pub(super) fn mode(terms: &Terms, vm: Option<&Vm>) -> Decided<Mode> {
    if terms.is_admin {
        return Ok(Mode::Act);
    }
    if terms.mode == Mode::Observe {
        let module = &terms.module;
        return No::because(
            "mode",
            format!("module {module} only observes; `embot modules mode {module} advise` (or `act`) lets it propose"),
        );
    }
    match vm {
        Some(vm) if vm.mode == Mode::Observe => No::because(
            "mode",
            format!("{0} is only observed; `embot manage {0} --mode advise` (or `act`) lets modules propose for it", vm.name),
        ),
        Some(vm) => Ok(vm.mode.min(terms.mode)),
        None => Ok(terms.mode),
    }
}

/// The module's permit.
pub(super) fn permit(terms: &Terms, verb: Verb) -> Decided<()> {
    if terms.is_admin || terms.permits.contains(&verb) {
        return Ok(());
    }
    let mut has = String::new();
    for permit in &terms.permits {
        let _ = write!(has, "{}{permit}", if has.is_empty() { "" } else { ", " });
    }
    let has = if has.is_empty() { "none".to_owned() } else { has };
    No::because(
        "permit",
        format!(
            "module {} has no permit to {verb} (it has: {has}); add `{verb}` to `permits` in its manifest if it should",
            terms.module
        ),
    )
}

/// The epoch to act under: the guest must carry this plane's mark.
pub(super) fn owner(world: &World, kind: &ActionKind, vm: Option<&Vm>) -> Decided<u64> {
    let Some(vm) = vm else { return Ok(1) };
    let ours = vm.epoch_of(&world.plane);
    match (ours, &vm.mark) {
        (Some(epoch), _) => Ok(epoch),
        // The first mark is what an adoption writes.
        (None, None) if matches!(kind, ActionKind::Adopt { .. }) => Ok(1),
        (None, None) => No::because(
            "owner",
            format!(
                "{0} carries no plane's mark, so nobody may act on it; `embot manage {0} --mode act` puts this plane's mark on it",
                vm.name
            ),
        ),
        (None, Some(mark)) => No::because(
            "owner",
            format!(
                "{} belongs to plane {} (epoch {}), not to {}; only its owner may act on it. Should it be otherwise, have {} give it up first",
                vm.name, mark.plane, mark.epoch, world.plane, mark.plane
            ),
        ),
    }
}

/// The plane a guest is to be handed over to, where guests may be offered to it and it answers. Whether it takes the guest is
/// for its own policies to say.
pub(super) fn peer<'w>(world: &'w World, vm: &Vm, plane: &str) -> Decided<&'w Peer> {
    if *plane == *world.plane {
        return No::because("peer", format!("{} is on plane {plane} already: nothing to do", vm.name));
    }
    let Some(peer) = world.peers.get(plane) else {
        return No::because("peer", format!("the plane has no peer {plane}; `peers` in its configuration names those it has"));
    };
    if !peer.sends {
        return No::because("peer", format!("guests are not offered to {plane}; its `allow` under `peers` says so"));
    }
    if !peer.reachable {
        return No::because("peer", format!("there is no connection to plane {plane}; `embot peers` says why"));
    }
    Ok(peer)
}

/// What the peer said of its room, for `explain`.
pub(super) fn room_there(peer: &Peer) -> String {
    match &peer.summary {
        Some(summary) => format!(
            "{} had {} MiB free, {} of it on one host, when it last said so",
            peer.name, summary.free_memory_mib, summary.largest_free_mib
        ),
        None => format!("{} has not said what room it has", peer.name),
    }
}

/// Is the guest in a state from which this can be done, and is it not so already?
pub(super) fn state(kind: &ActionKind, vm: &Vm) -> Decided<()> {
    use VmState::{Asleep, Crashed, Off, Paused, Running};
    let name = &vm.name;
    let already = |what: &str| No::because("already", format!("{name} {what}: nothing to do"));
    // What a moving guest seems to be on one host says nothing about it. After a move it is running there, with this reason.
    if vm.reason == Reason::Migration && vm.state != Running {
        return No::because("state", format!("{name} is {} because it is being moved; wait until it runs again", vm.state));
    }
    let not = |advice: &str| No::because("state", format!("{name} is {}: {} is not possible. {advice}", vm.state, kind.verb()));
    match (kind, vm.state) {
        (ActionKind::Start { .. }, Off | Crashed) => Ok(()),
        (ActionKind::Start { .. }, Running) => already("runs"),
        (ActionKind::Start { .. }, Paused) => not("Resume it"),
        (ActionKind::Start { .. }, Asleep) => not("It sleeps of its own will; it has to be woken"),

        (ActionKind::Shutdown { .. } | ActionKind::Destroy { .. }, Off) => already("is off"),
        (ActionKind::Shutdown { .. }, Running) | (ActionKind::Destroy { .. }, _) => Ok(()),
        (ActionKind::Shutdown { .. }, Paused | Asleep) => {
            not("Its system cannot hear the request: resume it first, or destroy it")
        }
        (ActionKind::Shutdown { .. }, Crashed) => not("Its system cannot hear the request: destroy it"),

        (ActionKind::Reset { .. }, Running | Paused) => Ok(()),
        (ActionKind::Reset { .. }, Off | Crashed | Asleep) => not("Only a running or paused guest can be reset; start it"),

        (ActionKind::Suspend { .. }, Running) => Ok(()),
        (ActionKind::Suspend { .. }, Paused) => already("is paused"),
        (ActionKind::Suspend { .. }, Off | Crashed | Asleep) => not("Only a running guest can be paused"),

        (ActionKind::Resume { .. }, Paused) => Ok(()),
        (ActionKind::Resume { .. }, Running) => already("runs"),
        (ActionKind::Resume { .. }, Off | Crashed) => not("Only a paused guest can be resumed; start it"),
        (ActionKind::Resume { .. }, Asleep) => not("It sleeps of its own will; it has to be woken"),

        (ActionKind::Save { .. }, Running | Paused) => Ok(()),
        (ActionKind::Save { .. }, Off) if vm.reason == Reason::Saved => already("is saved"),
        (ActionKind::Save { .. }, Off | Crashed | Asleep) => not("Only a running or paused guest has memory to save"),

        (ActionKind::Restore { .. }, Off) if vm.reason == Reason::Saved => Ok(()),
        (ActionKind::Restore { .. }, Running) => already("runs"),
        (ActionKind::Restore { .. }, _) => not("It was not saved; start or resume it"),

        (ActionKind::Migrate { to: Some(to), .. }, _) if *to == vm.host => already(&format!("is on {to}")),
        (ActionKind::Migrate { live: true, .. }, Running) | (ActionKind::Migrate { live: false, .. }, Off | Crashed) => Ok(()),
        (ActionKind::Migrate { live: true, .. }, Off | Crashed) => {
            not("Only a running guest moves live: move it cold, or start it first")
        }
        (ActionKind::Migrate { live: true, .. }, Paused | Asleep) => not("Only a running guest moves live: resume it first"),
        (ActionKind::Migrate { live: false, .. }, _) => not("A cold move needs it off: move it live, or shut it down first"),

        (ActionKind::Handover { live: false, .. }, Off) if vm.reason == Reason::Saved => {
            not("Its memory is saved, and would be lost: restore it first")
        }
        (ActionKind::Handover { live: true, .. }, Running)
        | (ActionKind::Handover { live: false, .. }, Running | Off | Crashed) => Ok(()),
        (ActionKind::Handover { live: true, .. }, Off | Crashed) => {
            not("Only a running guest goes to another plane live: hand it over cold, or start it first")
        }
        (ActionKind::Handover { .. }, Paused | Asleep) => {
            not("Only a guest that runs, or is off, goes to another plane: resume it first")
        }

        (ActionKind::SetVcpus { vcpus: 0, .. }, _) => {
            No::because("state", format!("{name} cannot have 0 vcpus; it needs at least one"))
        }
        (ActionKind::SetVcpus { vcpus, .. }, _) if *vcpus == vm.vcpus => already(&format!("has {vcpus} vcpus")),
        (ActionKind::SetMemory { memory_mib: 0, .. } | ActionKind::Balloon { memory_mib: 0, .. }, _) => {
            No::because("state", format!("{name} cannot have 0 MiB of memory"))
        }
        (ActionKind::SetMemory { memory_mib, .. }, _) if *memory_mib == vm.memory_mib => {
            already(&format!("has {memory_mib} MiB"))
        }
        (ActionKind::SetMemory { memory_mib, .. }, Running | Paused) if *memory_mib < vm.memory_mib => enough(vm, *memory_mib),
        (ActionKind::SetVcpus { .. } | ActionKind::SetMemory { .. }, Running | Paused | Off) => Ok(()),
        (ActionKind::SetVcpus { .. } | ActionKind::SetMemory { .. }, Asleep | Crashed) => not("Start or wake it first"),

        (ActionKind::Balloon { memory_mib, .. }, Running) if *memory_mib == vm.balloon_mib => {
            already(&format!("holds {memory_mib} MiB"))
        }
        (ActionKind::Balloon { memory_mib, .. }, Running) if *memory_mib > vm.memory_mib => No::because(
            "state",
            format!(
                "{name} may use {} MiB at the most, so it cannot hold {memory_mib} MiB; raise its memory with set_memory first",
                vm.memory_mib
            ),
        ),
        (ActionKind::Balloon { memory_mib, .. }, Running) if *memory_mib < vm.balloon_mib => enough(vm, *memory_mib),
        (ActionKind::Balloon { .. }, Running) => Ok(()),
        (ActionKind::Balloon { .. }, Paused | Asleep | Off | Crashed) => {
            not("Only a running guest gives memory back or takes it")
        }

        (ActionKind::Undefine { .. }, Off | Crashed) => Ok(()),
        (ActionKind::Undefine { .. }, Running | Paused | Asleep) => not("Shut it down first"),
        (ActionKind::Define { .. } | ActionKind::Adopt { .. } | ActionKind::Notify { .. }, _) => Ok(()),
    }
}

/// Is there nothing left of this to do, since it is so already, or the guest is off? A guest that is paused for a moment, or in
/// flight, says nothing about it.
pub fn nothing_to_do(kind: &ActionKind, vm: &Vm) -> Option<String> {
    let is_down = matches!(vm.state, VmState::Off | VmState::Crashed) && vm.reason != Reason::Migration;
    state(kind, vm).err().filter(|no| no.guardrail == "already" || is_down).map(|no| no.reason)
}

/// Can a guest do with this much memory, as far as is known what it uses?
fn enough(vm: &Vm, memory_mib: u64) -> Decided<()> {
    match vm.load.memory_used_mib {
        Some(used) if f64::from(used) > memory_mib as f64 => No::because(
            "memory",
            format!(
                "{} uses {:.0} MiB now and cannot do with {memory_mib} MiB: its programs would be killed, or it would swap. \
                 Leave it more than it uses",
                vm.name,
                used.ceil()
            ),
        ),
        _ => Ok(()),
    }
}
