//! All orders but migration: each a check and one or two calls.

use super::description::{self, Marked};
use super::failure::Trouble;
use super::ffi;
use super::job::{self, Follow, Outcome};
use super::order::{ACT, Errand, Found, act_on, look, lookup, write_mark};
use super::session::Session;
use super::shutdown::{Asked, shut_down};
use super::state;
use crate::hypervisor::{ErrorKind, HypervisorError};
use crate::model::{Mark, Reason, Span, VmState};
use std::sync::Arc;
use virt::domain::Domain;
use virt_sys as sys;

/// How often a guest that gives or takes memory is looked at.
const LOOK: Span = Span(250);
/// A guest has this long to give or take memory; while it boots it does neither.
const BALLOON_PATIENCE: Span = Span::seconds(30);

fn need(ok: bool, kind: ErrorKind, what: impl FnOnce() -> String) -> Result<(), Trouble> {
    if ok { Ok(()) } else { Err(Trouble::refuse(kind, what())) }
}

fn need_off(found: &Found, what: &str) -> Result<(), Trouble> {
    need(!found.is_active(), ErrorKind::Precondition, || {
        format!("cannot {what} guest {}: it is {}; shut it down first", found.name, found.state)
    })
}

fn need_active(found: &Found, what: &str) -> Result<(), Trouble> {
    need(found.is_active(), ErrorKind::Precondition, || format!("cannot {what} guest {}: it is {}", found.name, found.state))
}

/// Starts a guest that is off. Where its memory was saved, libvirt goes on from there, as `virsh start` does: booting anew would
/// throw it away.
pub fn start(errand: &Errand<'_>) -> Result<(), HypervisorError> {
    errand.act("start", |domain, found| {
        need_off_for_start(found)?;
        Ok(domain.create()?)
    })
}

fn need_off_for_start(found: &Found) -> Result<(), Trouble> {
    need(!found.is_active(), ErrorKind::Precondition, || {
        format!("cannot start guest {}: it is {} already", found.name, found.state)
    })
}

/// Starts a guest from its saved memory.
pub fn restore(errand: &Errand<'_>) -> Result<(), HypervisorError> {
    errand.act("restore", |domain, found| {
        need_off_for_start(found)?;
        let saved = domain.has_managed_save(0)?;
        need(saved, ErrorKind::Precondition, || {
            format!("cannot restore guest {}: no memory of it is saved; start it instead", found.name)
        })?;
        Ok(domain.create()?)
    })
}

/// Shuts a guest down.
pub fn shutdown(errand: &Errand<'_>, force_after: Option<Span>) -> Result<(), HypervisorError> {
    let vm = errand.vm;
    let name = errand.look()?.map_or_else(|| vm.to_string(), |found| format!("{} ({vm})", found.name));
    shut_down(errand, &name, errand.clock, force_after, errand.clock.now())
}

impl Asked for Errand<'_> {
    fn ask(&self) -> Result<(), HypervisorError> {
        self.act("shut down", |domain, found| {
            need_active(found, "shut down")?;
            need(found.state != VmState::Paused, ErrorKind::Precondition, || {
                format!("cannot shut down guest {}: it is paused and would not hear of it; resume or destroy it", found.name)
            })?;
            Ok(domain.shutdown_flags(0).map(drop)?)
        })
    }

    fn runs(&self) -> Result<bool, HypervisorError> {
        Ok(self.look()?.is_some_and(|found| found.is_active()))
    }

    fn switch_off(&self) -> Result<(), HypervisorError> {
        destroy(self)
    }

    fn is_cancelled(&self) -> bool {
        self.watch.is_cancelled()
    }
}

/// Switches a guest off.
pub fn destroy(errand: &Errand<'_>) -> Result<(), HypervisorError> {
    errand.act("destroy", |domain, found| {
        // Not by the state: a panicked guest that is kept for inspection is crashed and has a QEMU.
        let active = domain.is_active()?;
        need(active, ErrorKind::Precondition, || format!("cannot destroy guest {}: it is {}", found.name, found.state))?;
        Ok(domain.destroy()?)
    })
}

/// Presses the guest's reset button.
pub fn reset(errand: &Errand<'_>) -> Result<(), HypervisorError> {
    errand.act("reset", |domain, found| {
        need_active(found, "reset")?;
        Ok(domain.reset()?)
    })
}

/// Stops a guest's processors.
pub fn suspend(errand: &Errand<'_>) -> Result<(), HypervisorError> {
    errand.act("suspend", |domain, found| {
        need_active(found, "suspend")?;
        // libvirt would take it for help with the switch-over, and let the guest run on at the end.
        let busy = || {
            let name = &found.name;
            format!("cannot suspend guest {name}: it is just being migrated or saved; wait for the end of that")
        };
        need(!job::is_active(domain)?, ErrorKind::Precondition, busy)?;
        domain.suspend()?;
        let (state, reason) = ffi::state(domain)?;
        let moving = state::of(state, reason) == (VmState::Paused, Reason::Migration) && job::is_active(domain)?;
        need(!moving, ErrorKind::Precondition, busy)
    })
}

/// Lets a guest run on, or wakes it.
pub fn resume(errand: &Errand<'_>) -> Result<(), HypervisorError> {
    errand.act("resume", |domain, found| {
        let moving = found.state == VmState::Paused && found.reason == Reason::Migration && job::is_active(domain)?;
        need(!moving, ErrorKind::Precondition, || {
            format!("cannot resume guest {}: it is paused only while it moves", found.name)
        })?;
        if found.state == VmState::Asleep { Ok(domain.pm_wakeup(0)?) } else { Ok(domain.resume()?) }
    })
}

/// Saves a guest's memory to disk and stops it. `monitor` is another session: the one that saves is busy with that.
pub fn save(errand: &Errand<'_>, monitor: &Session) -> Result<(), HypervisorError> {
    let (host, order, vm) = (errand.door.host.clone(), errand.order.clone(), errand.vm);
    let pending = errand.session.begin(format!("save guest {vm}"), move |connect| {
        act_on(connect, &host, &order, vm, "save", |domain, found| {
            need_active(found, "save")?;
            Ok(domain.managed_save(0)?)
        })
    });
    let follow = Follow { monitor, vm, watch: errand.watch, clock: errand.clock, timeout: None, max_downtime: None };
    match follow.to_the_end(&pending) {
        Outcome::Ended(result, _) => result,
        Outcome::Stuck(_) => {
            let what = format!(
                "{}: saving guest {vm} was cancelled, but libvirt has not ended it yet; look at `virsh domjobinfo`",
                errand.door.host
            );
            Err(HypervisorError::new(ErrorKind::Cancelled, what))
        }
    }
}

/// Plugs processors in or out; also for the next start.
pub fn set_vcpus(errand: &Errand<'_>, vcpus: u32) -> Result<(), HypervisorError> {
    errand.act("set the vcpus of", move |domain, found| {
        need(vcpus > 0, ErrorKind::Precondition, || format!("guest {} needs at least one vcpu", found.name))?;
        let config = sys::VIR_DOMAIN_VCPU_CONFIG;
        if found.is_active() {
            let most = domain.vcpus_flags(sys::VIR_DOMAIN_VCPU_LIVE | sys::VIR_DOMAIN_VCPU_MAXIMUM)?;
            need(vcpus <= most, ErrorKind::Unsupported, || {
                format!("guest {} runs with sockets for {most} vcpus and cannot have {vcpus}; shut it down first", found.name)
            })?;
            let lasting = if domain.is_persistent()? { config } else { 0 };
            return Ok(domain.set_vcpus_flags(vcpus, sys::VIR_DOMAIN_VCPU_LIVE | lasting)?);
        }
        if vcpus > domain.vcpus_flags(config | sys::VIR_DOMAIN_VCPU_MAXIMUM)? {
            domain.set_vcpus_flags(vcpus, config | sys::VIR_DOMAIN_VCPU_MAXIMUM)?;
        }
        Ok(domain.set_vcpus_flags(vcpus, config)?)
    })
}

/// Changes the most memory a guest may use; QEMU cannot do that to a guest that runs.
pub fn set_memory(errand: &Errand<'_>, memory_mib: u64) -> Result<(), HypervisorError> {
    errand.act("set the memory of", move |domain, found| {
        need(memory_mib > 0, ErrorKind::Precondition, || format!("guest {} needs some memory", found.name))?;
        need(!found.is_active(), ErrorKind::Unsupported, || {
            format!("the most memory of guest {} cannot change while it is {}; shut it down first, or use balloon within what it has", found.name, found.state)
        })?;
        let kib = memory_mib.saturating_mul(1024);
        domain.set_memory_flags(kib, sys::VIR_DOMAIN_MEM_CONFIG | sys::VIR_DOMAIN_MEM_MAXIMUM)?;
        Ok(domain.set_memory_flags(kib, sys::VIR_DOMAIN_MEM_CONFIG).map(drop)?)
    })
}

/// Changes the memory a guest holds, and looks until its driver has done so.
pub fn balloon(errand: &Errand<'_>, memory_mib: u64) -> Result<(), HypervisorError> {
    let kib = memory_mib.saturating_mul(1024);
    let moves = errand.act("set the balloon of", move |domain, found| {
        let most_mib = domain.max_memory()? / 1024;
        need((1..=most_mib).contains(&memory_mib), ErrorKind::Precondition, || {
            format!("guest {} can hold from 1 to {most_mib} MiB, not {memory_mib}", found.name)
        })?;
        let lasting = if domain.is_persistent()? { sys::VIR_DOMAIN_MEM_CONFIG } else { 0 };
        let live = if found.is_active() { sys::VIR_DOMAIN_MEM_LIVE } else { 0 };
        domain.set_memory_flags(kib, live | lasting)?;
        // Only a guest that runs can move its balloon.
        Ok(found.state == VmState::Running)
    })?;
    if moves { await_balloon(errand, memory_mib) } else { Ok(()) }
}

fn await_balloon(errand: &Errand<'_>, memory_mib: u64) -> Result<(), HypervisorError> {
    let vm = errand.vm;
    let asked = errand.clock.now();
    loop {
        let read = format!("read the balloon of guest {vm}");
        let held_mib = errand.session.call(read, ACT, move |connect| Ok(lookup(connect, vm)?.info()?.memory / 1024))?;
        if held_mib.abs_diff(memory_mib) <= 1 {
            return Ok(());
        }
        let stop = if errand.watch.is_cancelled() {
            Some((ErrorKind::Cancelled, "the wait for it was cancelled"))
        } else if errand.clock.now().since(asked) >= BALLOON_PATIENCE {
            Some((ErrorKind::TimedOut, "its balloon driver may be missing, or it needs the memory itself"))
        } else {
            None
        };
        if let Some((kind, why)) = stop {
            let what = format!("guest {vm} was told to hold {memory_mib} MiB and holds {held_mib}; {why}");
            return Err(HypervisorError::new(kind, what));
        }
        errand.clock.sleep(LOOK);
    }
}

/// Defines a guest that is not known yet, and marks it.
pub fn define(errand: &Errand<'_>, xml: &Arc<str>) -> Result<(), HypervisorError> {
    let (host, order, vm, xml) = (errand.door.host.clone(), errand.order.clone(), errand.vm, xml.clone());
    errand.session.call(format!("define guest {vm}"), ACT, move |connect| {
        let bad = |why: &str| format!("{host}: cannot define guest {vm} by this XML: {why}");
        // `virt` panics on it.
        need(!xml.contains('\0'), ErrorKind::Failed, || bad("it contains a NUL character"))?;
        let given = description::uuid(&xml).and_then(|given| given.ok_or_else(|| "it has no <uuid>".into()));
        let given = given.map_err(|why| Trouble::refuse(ErrorKind::Failed, bad(&why)))?;
        need(given == vm.0, ErrorKind::Failed, || bad(&format!("its <uuid> is {given}")))?;
        if let Ok(known) = lookup(connect, vm) {
            let name = known.name()?;
            let why = format!("{host}: cannot define guest {vm}: it is defined already, as {name}; undefine it first");
            return Err(Trouble::refuse(ErrorKind::Precondition, why));
        }
        let mark = Mark { plane: order.plane.clone(), epoch: order.epoch };
        let marked = Marked { mark, autostart: false, seal: None }.in_domain(&xml);
        connect.define_domain_xml(&marked.map_err(|why| Trouble::refuse(ErrorKind::Failed, bad(&why)))?)?;
        Ok(())
    })
}

/// Removes a guest's definition with what libvirt keeps for it: saved memory, firmware variables, notes on snapshots. Its
/// disks stay.
pub fn undefine(errand: &Errand<'_>) -> Result<(), HypervisorError> {
    errand.act("undefine", |domain, found| {
        need_off(found, "undefine")?;
        let all = sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
            | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
            | sys::VIR_DOMAIN_UNDEFINE_NVRAM;
        Ok(domain.undefine_flags(all)?)
    })
}

/// Puts the plane's mark on a guest that nobody owns.
pub fn adopt(errand: &Errand<'_>) -> Result<(), HypervisorError> {
    let mark = Mark { plane: errand.order.plane.clone(), epoch: errand.order.epoch };
    errand.act("adopt", move |domain: &Domain, _| Ok(write_mark(domain, &Marked { mark, autostart: false, seal: None })?))
}

/// Where a guest is now, in words, for the end of an error; empty where nobody can tell.
pub fn whereabouts(session: &Session, errand: &Errand<'_>) -> String {
    match look(session, errand.vm) {
        Ok(Some(found)) => format!("; it is {} ({}) on {}", found.state, found.reason, errand.door.host),
        Ok(None) => format!("; {} knows it no more", errand.door.host),
        Err(_) => String::new(),
    }
}
