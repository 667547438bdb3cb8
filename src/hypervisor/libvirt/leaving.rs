//! A guest on its way to another plane's host: libvirt's peer-to-peer migration, begun, followed, adopted.
//!
//! ```text
//! begin --call returns--> gone: Ok | error, cancelled, timed out: Err
//!   |        +--connection breaks--> adopt
//!   +--it runs already (its manager died, or this is a repetition)--> adopt: follow the job, then see whether the guest is gone
//! ```
//! By default the guest arrives paused: then a link that breaks in libvirt's last phase leaves at most one that runs.

use super::failure::Trouble;
use super::ffi;
use super::handover::{Hand, find, judge_here};
use super::job::{Abort, Follow, Outcome};
use super::migration::stream;
use super::session::{ANSWER, Pending, Session};
use crate::hypervisor::{ErrorKind, HypervisorError, Rewriting, Transfer, Verdict, rewrite};
use crate::migration::ResumeBy;
use crate::model::{Reason, Span, Standing};
use std::sync::Arc;
use virt::domain::Domain;
use virt_sys as sys;

/// A source that went away in the midst has this long to come back.
const COMEBACK: Span = Span::seconds(60);
/// The end of a move that is just being completed has this long.
const COMPLETION: Span = Span::seconds(60);
const LOOK: Span = Span(100);

/// Moves the guest. `monitor` is another session: the one that moves is busy with that.
pub fn leave(hand: &Hand<'_>, monitor: &Session, transfer: &Transfer) -> Result<(), HypervisorError> {
    let (host, handover) = (hand.door.host.clone(), Arc::new(hand.handover.clone()));
    let what = format!("look at guest {} before its move", handover.vm);
    let verdict = hand.session.call(what, ANSWER, move |connect| Ok(judge_here(connect, &host, &handover)?.0))?;
    match verdict {
        Verdict::Begin => {}
        Verdict::Follow => return adopt(hand, transfer, None),
        _ => return Ok(()),
    }
    let pending = begin(hand, transfer);
    match follow(hand, monitor, transfer).to_the_end(&pending) {
        Outcome::Ended(Ok(()), _) => Ok(()),
        Outcome::Ended(Err(error), aborted) if error.kind == ErrorKind::Unreachable => adopt(hand, transfer, aborted),
        Outcome::Ended(Err(error), aborted) => Err(failed(hand, transfer, error, aborted)),
        Outcome::Stuck(abort) => Err(stuck(hand, transfer, abort)),
    }
}

fn follow<'a>(hand: &Hand<'a>, monitor: &'a Session, transfer: &Transfer) -> Follow<'a> {
    let Transfer { limits, .. } = transfer;
    let (vm, watch, clock) = (hand.handover.vm, hand.watch, hand.clock);
    Follow { monitor, vm, watch, clock, timeout: limits.timeout, max_downtime: limits.max_downtime }
}

/// What libvirt is told.
fn flags(transfer: &Transfer) -> std::ffi::c_uint {
    let Transfer { limits, resume, .. } = transfer;
    let either = |wanted: bool, flag| if wanted { flag } else { 0 };
    sys::VIR_MIGRATE_PEER2PEER
        | sys::VIR_MIGRATE_LIVE
        | sys::VIR_MIGRATE_PERSIST_DEST
        | sys::VIR_MIGRATE_UNDEFINE_SOURCE
        // A disk error in the midst ends the migration rather than the guest.
        | sys::VIR_MIGRATE_ABORT_ON_ERROR
        | either(*resume == ResumeBy::Manager, sys::VIR_MIGRATE_PAUSED)
        | either(limits.auto_converge, sys::VIR_MIGRATE_AUTO_CONVERGE)
        | either(limits.compression, sys::VIR_MIGRATE_COMPRESSED)
        | either(limits.copy_storage, sys::VIR_MIGRATE_NON_SHARED_DISK)
        | either(limits.tls, sys::VIR_MIGRATE_TLS)
}

fn begin(hand: &Hand<'_>, transfer: &Transfer) -> Pending<()> {
    let (host, handover, transfer) = (hand.door.host.clone(), Arc::new(hand.handover.clone()), transfer.clone());
    let what = format!("move guest {} to {} for handover {}", handover.vm, transfer.destination.host, handover.id);
    hand.session.begin(what, move |connect| {
        let (Verdict::Begin, Some(here)) = judge_here(connect, &host, &handover)? else {
            // Somebody began it, or it went, in the last instant; the answer is the same as if it were to be repeated.
            let what = format!("{host}: guest {} is not as it was a moment ago; try again", handover.vm);
            return Err(Trouble::refuse(ErrorKind::Failed, what));
        };
        let definitions = definitions(&here.domain, &transfer.rewriting)?;
        let uri = transfer.destination.migration_uri.as_deref().map(stream);
        let mut texts: Vec<_> = uri.iter().map(|uri| (sys::VIR_MIGRATE_PARAM_URI, uri.as_str())).collect();
        texts.extend(definitions.iter().map(|(name, xml)| (*name, xml.as_str())));
        let bandwidth = transfer.limits.bandwidth_mib_per_s.map(|mib| (sys::VIR_MIGRATE_PARAM_BANDWIDTH, mib.max(1)));
        let counts: Vec<_> = bandwidth.into_iter().collect();
        Ok(ffi::migrate(&here.domain, &transfer.destination.uri, &texts, &counts, flags(&transfer))?)
    })
}

/// The definitions for the target, where anything is called otherwise there: what runs, and what will be started next.
fn definitions(domain: &Domain, rewriting: &Rewriting) -> Result<Vec<(&'static std::ffi::CStr, String)>, Trouble> {
    let mut definitions = Vec::new();
    if *rewriting == Rewriting::default() {
        return Ok(definitions);
    }
    let flags = sys::VIR_DOMAIN_XML_SECURE | sys::VIR_DOMAIN_XML_MIGRATABLE;
    let changed = |flags| {
        let xml = domain.xml_desc(flags)?;
        rewrite(&xml, rewriting).map_err(|why| Trouble::refuse(ErrorKind::Failed, format!("cannot rewrite its XML: {why}")))
    };
    definitions.push((sys::VIR_MIGRATE_PARAM_DEST_XML, changed(flags)?));
    if domain.is_persistent()? {
        definitions.push((sys::VIR_MIGRATE_PARAM_PERSIST_XML, changed(flags | sys::VIR_DOMAIN_XML_INACTIVE)?));
    }
    Ok(definitions)
}

fn words(abort: Abort) -> (ErrorKind, &'static str) {
    match abort {
        Abort::Cancelled => (ErrorKind::Cancelled, "was cancelled"),
        Abort::TimedOut => (ErrorKind::TimedOut, "took longer than permitted and was given up"),
    }
}

fn naming(hand: &Hand<'_>, transfer: &Transfer) -> String {
    let (host, target) = (&hand.door.host, &transfer.destination.host);
    format!("the move of guest {} from {host} to {target} for handover {}", hand.handover.vm, hand.handover.id)
}

fn failed(hand: &Hand<'_>, transfer: &Transfer, error: HypervisorError, aborted: Option<Abort>) -> HypervisorError {
    match aborted {
        Some(abort) => {
            let (kind, words) = words(abort);
            HypervisorError::new(kind, format!("{} {words}", naming(hand, transfer)))
        }
        // Nobody of ours asked for that.
        None if error.kind == ErrorKind::Cancelled => {
            HypervisorError::new(ErrorKind::Failed, format!("{}; somebody else aborted it", error.what))
        }
        None => error,
    }
}

fn stuck(hand: &Hand<'_>, transfer: &Transfer, abort: Abort) -> HypervisorError {
    let (kind, words) = words(abort);
    let (host, target) = (&hand.door.host, &transfer.destination.host);
    let what = format!(
        "{} {words}, but libvirt of {host} waits for {target}, which does not answer; it lets go of the guest when that host \
         answers or is declared dead (restart libvirtd on either)",
        naming(hand, transfer)
    );
    HypervisorError::new(kind, what)
}

/// Waits for a move that runs without our call, and sees what came of it.
fn adopt(hand: &Hand<'_>, transfer: &Transfer, mut aborted: Option<Abort>) -> Result<(), HypervisorError> {
    let since = hand.clock.now();
    loop {
        let session = Session::open(hand.door, None);
        match see(hand, &session, transfer, &mut aborted) {
            Err(error) if error.kind == ErrorKind::Unreachable && hand.clock.now().since(since) < COMEBACK => {
                hand.clock.sleep(Span::seconds(1));
            }
            result => return result,
        }
    }
}

fn see(hand: &Hand<'_>, session: &Session, transfer: &Transfer, aborted: &mut Option<Abort>) -> Result<(), HypervisorError> {
    match follow(hand, session, transfer).without_call() {
        Outcome::Ended(Ok(()), by_us) => *aborted = aborted.or(by_us),
        Outcome::Ended(Err(error), by_us) => {
            *aborted = aborted.or(by_us);
            return Err(error);
        }
        Outcome::Stuck(abort) => return Err(stuck(hand, transfer, abort)),
    }
    // The job is over a little before the source forgets the guest, or lets it run again.
    let (vm, since) = (hand.handover.vm, hand.clock.now());
    loop {
        let look = format!("look at guest {vm} after its move");
        let here = session.call(look, ANSWER, move |connect| {
            Ok(find(connect, vm)?.map(|here| (here.found.standing(), here.found.reason, here.job.is_some())))
        })?;
        let Some((standing, reason, busy)) = here else { return Ok(()) };
        let leaving = busy || (reason == Reason::Migration && standing != Standing::Running);
        if !leaving || hand.clock.now().since(since) >= COMPLETION {
            let what = format!("{} did not happen: it is {standing} on {}", naming(hand, transfer), hand.door.host);
            return Err(failed(hand, transfer, HypervisorError::new(ErrorKind::Failed, what), *aborted));
        }
        hand.clock.sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::{Destination, MigrationLimits};

    #[test]
    fn a_guest_arrives_paused_unless_its_disks_are_locked() {
        let destination = Destination { host: "h".into(), uri: "".into(), migration_uri: None };
        let limits = MigrationLimits::default();
        let mut transfer = Transfer { destination, limits, resume: ResumeBy::default(), rewriting: Rewriting::default() };
        let plain = flags(&transfer);
        assert_ne!(plain & sys::VIR_MIGRATE_PAUSED, 0);
        assert_ne!(plain & sys::VIR_MIGRATE_UNDEFINE_SOURCE, 0);
        assert_eq!(plain & (sys::VIR_MIGRATE_COMPRESSED | sys::VIR_MIGRATE_NON_SHARED_DISK), 0);
        transfer.resume = ResumeBy::Hypervisor;
        assert_eq!(flags(&transfer), plain & !sys::VIR_MIGRATE_PAUSED);
        transfer.limits = MigrationLimits { compression: true, copy_storage: true, auto_converge: true, tls: true, ..limits };
        let more = sys::VIR_MIGRATE_COMPRESSED | sys::VIR_MIGRATE_NON_SHARED_DISK | sys::VIR_MIGRATE_AUTO_CONVERGE;
        let more = more | sys::VIR_MIGRATE_TLS;
        assert_eq!(flags(&transfer), (plain & !sys::VIR_MIGRATE_PAUSED) | more);
    }
}
