//! Moving a guest to another host: from server to server, so the plane needs a way to the source only.
//!
//! * Live: the source's libvirt connects to the target's, copies memory while the guest runs, and switches over. Whatever goes
//!   wrong, the guest runs on at the source and the target drops its half; the error says so, after looking.
//! * Cold: the definition of a guest that is off moves.
//! * libvirt forgets the autostart flag on the way. So it is noted in the guest's mark before, which travels along, and set
//!   again at the target. Because it is noted in the guest, a manager that died meanwhile can still do it.
//! * The connection breaking in the midst says nothing about the migration: then the source is asked again.

use super::description::Marked;
use super::failure::{Trouble, is_missing};
use super::ffi;
use super::job::{Abort, Follow, Outcome};
use super::lifecycle::whereabouts;
use super::neighbours;
use super::order::{Errand, act_on, lookup, read_mark, write_mark};
use super::recover;
use super::session::{ANSWER, Session};
use crate::hypervisor::{Destination, ErrorKind, Fate, HypervisorError};
use crate::model::{HostId, Reason, Span, VmId, VmState};
use virt_sys as sys;

/// A source that went away in the midst has this long to come back.
const COMEBACK: Span = Span::seconds(60);

/// Carries out a migration. `monitor` is another session: the one that migrates is busy with that.
pub fn migrate(errand: &Errand<'_>, monitor: &Session, live: bool) -> Result<(), HypervisorError> {
    let Some(destination) = errand.order.destination.clone() else {
        let what = format!("cannot migrate guest {}: the order names no destination", errand.vm);
        return Err(HypervisorError::new(ErrorKind::Failed, what));
    };
    prepare(errand, live)?;
    let pending = begin(errand, &destination, live);
    let limits = errand.order.limits;
    let follow = Follow {
        monitor,
        vm: errand.vm,
        watch: errand.watch,
        clock: errand.clock,
        timeout: limits.timeout,
        max_downtime: limits.max_downtime.filter(|_| live),
    };
    match follow.to_the_end(&pending) {
        Outcome::Ended(Ok(()), _) => {
            arrived(&destination.host, errand.vm);
            Ok(())
        }
        Outcome::Ended(Err(error), aborted) if error.kind == ErrorKind::Unreachable => {
            comeback(errand, &destination, error, aborted)
        }
        Outcome::Ended(Err(error), aborted) => Err(failed(errand, monitor, &destination.host, error, aborted)),
        Outcome::Stuck(abort) => {
            let what = format!(
                "migration of guest {} to {} {}, but libvirt of {} waits for {}, which does not answer; it lets go of the guest when that host answers \
                 or is declared dead (restart libvirtd on either)",
                errand.vm,
                destination.host,
                words(abort, errand),
                errand.door.host,
                destination.host,
            );
            Err(HypervisorError::new(kind(abort), what + whereabouts(monitor, errand).as_str()))
        }
    }
}

/// Checks, and notes the autostart flag in the mark: once the migration runs, nothing about the guest can be changed.
fn prepare(errand: &Errand<'_>, live: bool) -> Result<(), HypervisorError> {
    errand.act("migrate", move |domain, found| {
        check(found.state, found.reason, &found.name, live)?;
        if let Some(marked) = &found.marked
            && domain.is_persistent()?
        {
            let autostart = domain.autostart()?;
            if autostart != marked.autostart {
                write_mark(domain, &Marked { autostart, ..marked.clone() })?;
            }
        }
        Ok(())
    })
}

fn check(state: VmState, reason: Reason, name: &str, live: bool) -> Result<(), Trouble> {
    let refuse = |why: &str| Err(Trouble::refuse(ErrorKind::Precondition, format!("cannot migrate guest {name}: {why}")));
    match (state, live) {
        (VmState::Paused, _) if reason == Reason::Migration => refuse("it is on its way already"),
        (VmState::Running | VmState::Paused | VmState::Asleep, true) | (VmState::Off, false) => Ok(()),
        (VmState::Crashed, false) => Ok(()),
        (state, true) => refuse(&format!("it is {state}; a guest that does not run migrates cold")),
        (state, false) => refuse(&format!("it is {state}; only a guest that is off migrates cold")),
    }
}

fn begin(errand: &Errand<'_>, destination: &Destination, live: bool) -> super::session::Pending<()> {
    let (host, order, vm, destination) = (errand.door.host.clone(), errand.order.clone(), errand.vm, destination.clone());
    let limits = order.limits;
    let mut flags = sys::VIR_MIGRATE_PEER2PEER | sys::VIR_MIGRATE_PERSIST_DEST | sys::VIR_MIGRATE_UNDEFINE_SOURCE;
    if live {
        // A disk error in the midst ends the migration rather than the guest.
        flags |= sys::VIR_MIGRATE_LIVE | sys::VIR_MIGRATE_ABORT_ON_ERROR;
        let wanted = [
            (limits.auto_converge, sys::VIR_MIGRATE_AUTO_CONVERGE),
            (limits.compression, sys::VIR_MIGRATE_COMPRESSED),
            (limits.copy_storage, sys::VIR_MIGRATE_NON_SHARED_DISK),
            (limits.tls, sys::VIR_MIGRATE_TLS),
        ];
        flags |= wanted.iter().filter(|(wanted, _)| *wanted).fold(0, |all, (_, flag)| all | flag);
    } else {
        flags |= sys::VIR_MIGRATE_OFFLINE;
    }
    let what = format!("migrate guest {vm} to {}", destination.host);
    errand.session.begin(what, move |connect| {
        act_on(connect, &host, &order, vm, "migrate", |domain, found| {
            check(found.state, found.reason, &found.name, live)?;
            let stream = destination.migration_uri.as_deref().filter(|_| live).map(stream);
            let texts: Vec<_> = stream.iter().map(|uri| (sys::VIR_MIGRATE_PARAM_URI, uri.as_str())).collect();
            let bandwidth =
                limits.bandwidth_mib_per_s.filter(|_| live).map(|mib| (sys::VIR_MIGRATE_PARAM_BANDWIDTH, mib.max(1)));
            let counts: Vec<_> = bandwidth.into_iter().collect();
            Ok(ffi::migrate(domain, &destination.uri, &texts, &counts, flags)?)
        })
    })
}

/// Where the memory goes, as libvirt wants it: as a URI. A bare address stands for TCP.
pub fn stream(address: &str) -> String {
    match address.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("tcp://[{address}]"),
        Err(_) if address.contains("://") => address.to_owned(),
        Err(_) => format!("tcp://{address}"),
    }
}

fn words(abort: Abort, errand: &Errand<'_>) -> String {
    match (abort, errand.order.limits.timeout) {
        (Abort::TimedOut, Some(timeout)) => format!("took longer than {timeout} and was given up"),
        (Abort::TimedOut, None) => "took too long and was given up".into(),
        (Abort::Cancelled, _) => "was cancelled".into(),
    }
}

fn kind(abort: Abort) -> ErrorKind {
    match abort {
        Abort::Cancelled => ErrorKind::Cancelled,
        Abort::TimedOut => ErrorKind::TimedOut,
    }
}

/// The error of a migration that did not happen: why, what was undone, where the guest is.
fn failed(
    errand: &Errand<'_>,
    monitor: &Session,
    target: &HostId,
    error: HypervisorError,
    aborted: Option<Abort>,
) -> HypervisorError {
    // The mark goes back to what it was; where that fails, the next migration writes it anew.
    let (order, vm, host) = (errand.order.clone(), errand.vm, errand.door.host.clone());
    let _ = monitor.call("clean the mark", ANSWER, move |connect| {
        act_on(connect, &host, &order, vm, "clean the mark of", |domain, found| match &found.marked {
            Some(marked) if marked.autostart => Ok(write_mark(domain, &Marked { autostart: false, ..marked.clone() })?),
            _ => Ok(()),
        })
    });
    let refused = matches!(error.kind, ErrorKind::NotOwner | ErrorKind::Precondition | ErrorKind::NotFound);
    if refused && aborted.is_none() {
        return error;
    }
    let place = whereabouts(monitor, errand);
    match aborted {
        Some(abort) => {
            let words = words(abort, errand);
            HypervisorError::new(
                kind(abort),
                format!("migration of guest {vm} to {target} {words}; {target} has dropped what it had of it{place}"),
            )
        }
        // Nobody of ours asked for that.
        None if error.kind == ErrorKind::Cancelled => {
            HypervisorError::new(ErrorKind::Failed, format!("{}; somebody else aborted it{place}", error.what))
        }
        None => HypervisorError::new(error.kind, format!("{}; nothing was moved{place}", error.what)),
    }
}

/// The connection to the source broke: finds out what became of the migration.
fn comeback(
    errand: &Errand<'_>,
    destination: &Destination,
    error: HypervisorError,
    aborted: Option<Abort>,
) -> Result<(), HypervisorError> {
    let since = errand.clock.now();
    loop {
        let session = Session::open(errand.door, None);
        let again = Errand { session: &session, ..*errand };
        match recover::migration(&again, destination) {
            Ok(Fate::Done) => return Ok(()),
            Ok(Fate::NotDone(what)) => {
                let (host, vm, target) = (&errand.door.host, errand.vm, &destination.host);
                let what = format!(
                    "migration of guest {vm} to {target} ended because the connection to {host} broke in its midst: {what}"
                );
                let broken = HypervisorError::new(ErrorKind::Failed, what);
                return Err(failed(&again, &session, target, broken, aborted));
            }
            Err(_) if errand.clock.now().since(since) < COMEBACK => errand.clock.sleep(Span::seconds(1)),
            Err(_) => {
                return Err(HypervisorError::new(
                    ErrorKind::Unreachable,
                    format!("{}; nobody knows yet whether guest {} has moved to {}", error.what, errand.vm, destination.host),
                ));
            }
        }
    }
}

/// A guest has arrived: sets its autostart flag, if its mark says so. The guest is there and runs; that this fails is a warning,
/// no failure of the migration.
pub fn arrived(target: &HostId, vm: VmId) {
    let doors = neighbours::doors(target);
    let result = doors.iter().find_map(|door| {
        let session = Session::open(door, None);
        let set = session.call(format!("set the autostart flag of guest {vm}"), ANSWER, move |connect| {
            let domain = match lookup(connect, vm) {
                Err(error) if is_missing(&error) => return Ok(false),
                domain => domain?,
            };
            if let Some(marked) = read_mark(&domain)?
                && marked.autostart
            {
                domain.set_autostart(true)?;
                write_mark(&domain, &Marked { autostart: false, ..marked })?;
            }
            Ok(true)
        });
        match set {
            Ok(false) => None,
            Ok(true) => Some(Ok(())),
            Err(error) => Some(Err(error)),
        }
    });
    if let Some(Err(error)) = result {
        tracing::warn!(
            "guest {vm} moved to {target}, which may not start it by itself now: {error}; check with `virsh dominfo {vm}` there"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::stream;

    #[test]
    fn a_bare_address_is_a_stream_by_tcp() {
        for (written, meant) in [
            ("10.0.0.1", "tcp://10.0.0.1"),
            ("host-b:49152", "tcp://host-b:49152"),
            ("fd00::1", "tcp://[fd00::1]"),
            ("tcp://10.0.0.1", "tcp://10.0.0.1"),
            ("rdma://10.0.0.1", "rdma://10.0.0.1"),
        ] {
            assert_eq!(stream(written), meant);
        }
    }
}
