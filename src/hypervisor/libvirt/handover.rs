//! Steps of a handover to another plane, on libvirt. The rule is `judge`'s; here is what it takes to ask and to act.
//!
//! Check and act are one request of one session, as for orders. Where libvirt's acts cannot be one, their order is such that a
//! crash in between leaves a guest that the same step, repeated, brings to its end: it runs before its seal goes, and it is
//! switched off before its definition goes.
//!
//! What travels, live: memory, the definition with mark and labels, the firmware's variables and the state of an emulated TPM
//! (both are part of QEMU's stream). Cold: the definition and what `copy` copies: disks and the firmware's variables. libvirt
//! has no way to read a TPM's state, so a guest with one does not go cold.

use super::description::Marked;
use super::failure::{Trouble, is_missing, is_unsupported, is_wrong_state};
use super::job;
use super::order::{ACT, lookup, write_mark};
use super::session::{ANSWER, Door, Session};
use super::shutdown::{self, Asked};
use super::volumes;
use crate::clock::Clock;
use crate::hypervisor::{
    Busy, Definition, DiskFile, ErrorKind, Found, Handover, HandoverStep, HypervisorError, Verdict, Watch, backing_files,
    import, judge, portrait, rewrite,
};
use crate::model::{HostId, Progress, Reason, Sighting, Span, VmId, VmState};
use std::sync::Arc;
use std::time::Duration;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;
use virt_sys as sys;

impl Asked for Hand<'_> {
    fn ask(&self) -> Result<(), HypervisorError> {
        self.while_it_runs("shut down", |domain| domain.shutdown_flags(0).map(drop))
    }

    fn runs(&self) -> Result<bool, HypervisorError> {
        let vm = self.handover.vm;
        let runs = move |connect: &Connect| Ok(find(connect, vm)?.is_some_and(|here| here.found.is_active()));
        self.session.call(format!("look at guest {vm}"), ANSWER, runs)
    }

    fn switch_off(&self) -> Result<(), HypervisorError> {
        self.while_it_runs("switch off", |domain| domain.destroy())
    }

    /// What was asked of a guest cannot be taken back: whoever asked waits.
    fn is_cancelled(&self) -> bool {
        false
    }
}

impl Hand<'_> {
    /// Checks, and acts unless the guest is off already.
    fn while_it_runs(
        &self,
        what: &str,
        act: impl FnOnce(&Domain) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), HypervisorError> {
        let (host, handover) = (self.door.host.clone(), Arc::new(self.handover.clone()));
        let what = format!("{what} guest {} for handover {}", handover.vm, handover.id);
        self.session.call(what, ACT, move |connect| match judge_here(connect, &host, &handover)? {
            (Verdict::Begin, Some(here)) => Ok(act(&here.domain)?),
            _ => Ok(()),
        })
    }
}

/// A host that is away is asked again after this.
const AWAY: Span = Span::seconds(1);
/// A guest's clock is put right after a move for so long at the most; its agent may be slow.
const CLOCK: Duration = Duration::from_secs(2);

/// A step being carried out.
pub struct Hand<'a> {
    /// The host it is for.
    pub door: &'a Door,
    /// The connection it is carried out through, of its own.
    pub session: &'a Session,
    /// The step.
    pub handover: &'a Handover,
    /// Who waits for it.
    pub watch: &'a dyn Watch,
    /// The time.
    pub clock: &'a dyn Clock,
}

/// A guest as found, with what only this adapter needs.
pub struct Here {
    /// The domain.
    pub domain: Domain,
    /// What the rule wants to know.
    pub found: Found,
    /// How far its job is, if it has one.
    pub job: Option<Progress>,
    /// Its host used to start it by itself, says its mark.
    autostart: bool,
}

/// Looks a guest up; `None`: there is none with this identity.
pub fn find(connect: &Connect, vm: VmId) -> Result<Option<Here>, Trouble> {
    let domain = match lookup(connect, vm) {
        Ok(domain) => domain,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let found = match super::order::find(&domain) {
        // It may go between the two.
        Err(Trouble::Libvirt(error)) if is_missing(&error) => return Ok(None),
        found => found?,
    };
    let starting = (found.state, found.reason) == (VmState::Paused, Reason::Booted);
    let (seal, autostart) = found.marked.as_ref().map_or((None, false), |marked| (marked.seal.clone(), marked.autostart));
    let (busy, job) = match job::progress(&domain) {
        Ok(None) if !starting => (Busy::No, None),
        // The target of a migration says "paused, starting up" first.
        Ok(None) => (Busy::Arriving, Some(Progress::default())),
        // libvirt does not say whose job it is; while a guest is sealed, only its handover begins any.
        Ok(Some(progress)) => (if seal.is_some() { Busy::Ours } else { Busy::Other }, Some(progress)),
        // The target of a migration does not tell how far it is, in these words.
        Err(error) if is_wrong_state(&error) && found.is_active() => (Busy::Arriving, Some(Progress::default())),
        Err(error) if is_wrong_state(&error) => (Busy::No, None),
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let found = Found {
        name: found.name.as_str().into(),
        state: found.state,
        reason: found.reason,
        mark: found.marked.map(|marked| marked.mark),
        seal,
        job: busy,
    };
    Ok(Some(Here { domain, found, job, autostart }))
}

/// What a host says of one guest.
pub fn look(session: &Session, vm: VmId) -> Result<Option<Sighting>, HypervisorError> {
    session.call(format!("look at guest {vm}"), ANSWER, move |connect| {
        Ok(find(connect, vm)?.map(|here| Sighting {
            standing: here.found.standing(),
            mark: here.found.mark,
            sealed: here.found.seal.map(|seal| seal.handover),
            job: here.job,
        }))
    })
}

/// A guest's definition, with the sizes of its disks.
pub fn definition(session: &Session, vm: VmId) -> Result<Definition, HypervisorError> {
    session.call(format!("read the definition of guest {vm}"), ANSWER, move |connect| {
        let domain = lookup(connect, vm)?;
        let lasting = if domain.is_persistent()? { sys::VIR_DOMAIN_XML_INACTIVE } else { 0 };
        let xml = domain.xml_desc(sys::VIR_DOMAIN_XML_SECURE | sys::VIR_DOMAIN_XML_MIGRATABLE | lasting)?;
        // A disk whose size cannot be told is left out; whoever must know it asks the admin.
        let disks = portrait(&xml).map(|portrait| portrait.disks).unwrap_or_default();
        let size = |target: &str| domain.block_info(target, 0).ok().map(|info| info.physical.max(info.allocation));
        let disk_bytes = disks.iter().filter_map(|disk| Some((disk.target.clone(), size(&disk.target)?))).collect();
        let persistent = domain.is_persistent()?;
        let noted = super::order::read_mark(&domain)?.is_some_and(|marked| marked.autostart);
        let autostart = noted || persistent && domain.autostart()?;
        let bases = bases(connect, &domain, &disks)?;
        Ok(Definition { xml: xml.into(), disk_bytes, bases, persistent, autostart })
    })
}

/// The images that a guest's disks rest on: of one that runs its QEMU has opened them, of one that is off the images tell.
fn bases(connect: &Connect, domain: &Domain, disks: &[DiskFile]) -> Result<Vec<Arc<str>>, Trouble> {
    if domain.is_active()? {
        return Ok(backing_files(&domain.xml_desc(0)?).unwrap_or_default());
    }
    let mut bases = Vec::new();
    for disk in disks {
        for base in volumes::bases(connect, &disk.path)? {
            if !bases.contains(&base) {
                bases.push(base);
            }
        }
    }
    Ok(bases)
}

/// Finds the guest and asks the rule, on the session's thread.
pub fn judge_here(connect: &Connect, host: &HostId, handover: &Handover) -> Result<(Verdict, Option<Here>), Trouble> {
    let here = find(connect, handover.vm)?;
    let verdict = judge(host, handover, here.as_ref().map(|here| &here.found)).map_err(Trouble::Refused)?;
    Ok((verdict, here))
}

/// Shuts the guest down. It goes on with what it was asked while its host is away for a moment, so it is waited for again.
pub fn shut_down(hand: &Hand<'_>, force_after: Option<Span>) -> Result<(), HypervisorError> {
    let (name, asked) = (hand.handover.vm.to_string(), hand.clock.now());
    let mut session = hand.session.clone();
    loop {
        let guest = Hand { session: &session, ..*hand };
        match shutdown::shut_down(&guest, &name, hand.clock, force_after, asked) {
            Err(error)
                if error.kind == ErrorKind::Unreachable
                    && !hand.watch.is_cancelled()
                    && hand.clock.now().since(asked) < shutdown::PATIENCE =>
            {
                hand.clock.sleep(AWAY);
                session = Session::open(hand.door, None);
            }
            result => return result,
        }
    }
}

/// Carries out a step that takes no time.
pub fn act(hand: &Hand<'_>) -> Result<(), HypervisorError> {
    let (host, handover) = (hand.door.host.clone(), Arc::new(hand.handover.clone()));
    let what = format!("{} guest {} for handover {}", handover.step.name(), handover.vm, handover.id);
    let vm = handover.vm;
    let resumed = hand.session.call(what, ACT, move |connect| act_on(connect, &host, &handover))?;
    if resumed {
        // A guest that stood still believes it is earlier than it is. Its agent can put that right, where it has one.
        let sync = move |connect: &Connect| Ok(lookup(connect, vm)?.set_time(0, 0, sys::VIR_DOMAIN_TIME_SYNC)?);
        let _ = hand.session.begin(format!("set the clock of guest {vm}"), sync).wait(CLOCK);
    }
    Ok(())
}

/// `true`: a guest that stood still runs now.
fn act_on(connect: &Connect, host: &HostId, handover: &Handover) -> Result<bool, Trouble> {
    let (verdict, here) = judge_here(connect, host, handover)?;
    match (verdict, &handover.step, here) {
        (Verdict::Seal(seal), HandoverStep::Seal { becomes }, Some(here)) => {
            // libvirt forgets this flag on the way; nothing can be written once the move runs.
            let autostart = here.autostart || (here.domain.is_persistent()? && here.domain.autostart()?);
            write_mark(&here.domain, &Marked { mark: becomes.clone(), autostart, seal: Some(seal) })?;
        }
        (Verdict::Define, HandoverStep::Define { xml, rewriting, trusted, autostart, needs }, _) => {
            for path in needs {
                if !volumes::is_there(connect, path)? {
                    let what = format!("{host}: {path} is not there, and guest {} does not start without it", handover.vm);
                    return Err(Trouble::refuse(ErrorKind::Precondition, what));
                }
            }
            let change = if *trusted { rewrite } else { import };
            define(connect, host, handover, change(xml, rewriting), *autostart)?;
        }
        (Verdict::Resume { resume, start }, HandoverStep::Resume { becomes, .. }, Some(here)) => {
            let domain = &here.domain;
            if resume {
                domain.resume()?;
            }
            // One that does not start is its new owner's all the same, to be started by hand.
            let started = if start { domain.create() } else { Ok(()) };
            if here.autostart && !domain.autostart()? {
                domain.set_autostart(true)?;
            }
            write_mark(domain, &Marked { mark: becomes.clone(), autostart: false, seal: None })?;
            started?;
            return Ok(resume);
        }
        (Verdict::Remove, _, Some(here)) => remove(&here.domain)?,
        _ => {}
    }
    Ok(false)
}

fn define(
    connect: &Connect,
    host: &HostId,
    handover: &Handover,
    xml: Result<String, String>,
    autostart: bool,
) -> Result<(), Trouble> {
    let vm = handover.vm;
    let bad = |why: &str| {
        Trouble::refuse(ErrorKind::Failed, format!("{host}: cannot define guest {vm} for handover {}: {why}", handover.id))
    };
    let seal = Some(crate::hypervisor::Seal { handover: handover.id.clone(), stays_paused: false });
    let marked = Marked { mark: handover.mark.clone(), autostart, seal };
    let xml = xml.and_then(|xml| marked.in_domain(&xml)).map_err(|why| bad(&why))?;
    // `virt` panics on it.
    if xml.contains('\0') {
        return Err(bad("its XML contains a NUL character"));
    }
    let given = super::description::uuid(&xml).map_err(|why| bad(&why))?;
    if given != Some(vm.0) {
        return Err(bad("its XML is that of another guest, or has no <uuid>"));
    }
    connect.define_domain_xml(&xml)?;
    Ok(())
}

/// Ends what there is of a guest, and forgets it. Its files stay.
fn remove(domain: &Domain) -> Result<(), Trouble> {
    let gone = |result: Result<(), Error>| match result {
        Err(error) if is_missing(&error) => Ok(()),
        result => result,
    };
    if domain.is_active()? {
        gone(domain.destroy().or_else(|error| if is_wrong_state(&error) { Ok(()) } else { Err(error) }))?;
    }
    let notes = sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
        | sys::VIR_DOMAIN_UNDEFINE_KEEP_NVRAM;
    match domain.undefine_flags(notes | sys::VIR_DOMAIN_UNDEFINE_KEEP_TPM) {
        // Before 8.9 there is no such flag, and no TPM's state is removed.
        Err(error) if is_unsupported(&error) => Ok(gone(domain.undefine_flags(notes))?),
        // What only arrived has no definition; it went when it ended.
        Err(error) if is_missing(&error) || is_wrong_state(&error) => Ok(()),
        result => Ok(result?),
    }
}
