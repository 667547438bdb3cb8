//! What a plane asks of its own host while a VM moves to another plane.
//!
//! A handover is no policy's action: its steps are wanted by the machines of `migration`, on either side, and may be wanted
//! again after a crash. So each step may be repeated, and says `Ok` when what it wants is so already.
//!
//! ```text
//! source                                            target
//! Seal          nobody but this handover acts
//! Move ---- p2p: memory, definition, mark, seal --> a copy: defined, sealed, paused for the move
//! (gone)                                            Resume    after its commit: runs, the seal goes
//!   | failed, cancelled: still here                 Remove    the copy that nobody will use
//! Resume        runs as before, the seal goes
//!
//! cold:
//!                                                   Define    off, sealed
//! Seal
//! ShutDown      where it runs
//! Copy ---- files, with checksums ----------------> files
//! Remove        the definition goes                 Resume    started if it ran before, the seal goes
//!   | failed, cancelled                             Remove    the definition goes
//! Resume        started if it ran before
//! ```
//! **The seal** is the handover's id in the guest's own metadata, beside the mark of owner and epoch, and travels with it. While
//! it is there, ordinary orders of either plane are refused, and so are steps of any other handover: a step that comes late,
//! from an attempt that was given up, finds another seal or none and does nothing. [`judge`] is that rule, one for all
//! hypervisors.
//!
//! Nothing here decides. Whether a move that ended is *moved*, *aborted* or *undecided* is found by looking at both hosts.

use super::{Destination, ErrorKind, HypervisorError, MigrationLimits, Rewriting};
use crate::migration::ResumeBy;
use crate::model::{HostId, Mark, Reason, Span, Standing, VmId, VmState};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One step, wanted by one plane of its own host.
///
/// Before it acts, at the last moment, the host reads the guest's mark and seal, and refuses as [`ErrorKind::NotOwner`] unless
///
/// * the guest is sealed for this handover, and its mark is of no newer epoch than `mark`; or
/// * it is not sealed, and the step is `Seal` and its mark is exactly `mark`, or the step is `Resume` and its mark is the asking
///   plane's and of no newer epoch (an attempt that came to its end before it had sealed).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Handover {
    /// The handover's id, such as `site-a/41`.
    pub id: Arc<str>,
    /// The plane that asks: the log of effects names it.
    pub plane: Arc<str>,
    /// Whom it concerns.
    pub vm: VmId,
    /// The newest mark that the guest may carry now; for `Seal` the one it must carry.
    pub mark: Mark,
    /// What to do.
    pub step: HandoverStep,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandoverStep {
    /// Write a mark, into what runs and what will be started next, and seal the guest. (While libvirt moves a guest, nothing
    /// can be written: so this comes first.)
    Seal {
        /// The new mark.
        becomes: Mark,
    },
    /// Define the guest, off and sealed, with `Handover::mark`. Refused as a precondition where it is known already, unless by
    /// this very step.
    Define {
        /// Its definition at the source.
        xml: Arc<str>,
        /// What is called otherwise here.
        rewriting: Rewriting,
        /// The XML is of this plane's own record. That of another plane may reach no file, device or network of this host that
        /// `rewriting` does not name.
        trusted: bool,
        /// Its host started it by itself. This one does from the moment on that the plane has taken it over.
        autostart: bool,
        /// Files of this host without which it will not start, and that do not come with it. Refused where one is missing.
        needs: Vec<Arc<str>>,
    },
    /// Move the guest, which runs or is paused, to another plane's host. Where this move runs already, waits for that.
    ///
    /// `Ok`: this host knows it no more. Any error: it may still be here, or not; look, and look there. Cancelling is tried as
    /// long as memory is under way, and says [`ErrorKind::Cancelled`] where it succeeded.
    Move(Box<Transfer>),
    /// Shut the guest down, as far as it runs. What was asked of a guest cannot be taken back: so this is not cancelled, and ends
    /// when the guest is off or will not hear.
    ShutDown {
        /// Switch it off if it still runs after this time; `None`: never.
        force_after: Option<Span>,
    },
    /// Copy the files of a guest that is off to another plane's host, which knows it by `Define`; verify each by its SHA-256.
    /// Disks are copied where [`MigrationLimits::copy_storage`] says that they are not shared, the file of its firmware's
    /// variables always.
    Copy(Box<Transfer>),
    /// The guest is the asking plane's from here on: write a mark, let it run if it is paused for the move, take the seal away.
    /// This is how a target takes it over, and how a source takes it back. Refused as a precondition while the move is under way.
    /// Where it is to be started and cannot, it is the asking plane's all the same, off, and the error says why.
    Resume {
        /// The new mark.
        becomes: Mark,
        /// If it is off: start it.
        start: bool,
    },
    /// Take the guest away: at the target the copy that nobody will use, at the source what is left after the commit. `Ok`
    /// also where there is none. Refused as a precondition if it runs or was paused by somebody. Its files stay, those for
    /// firmware variables and the TPM's state included: they may be shared with the host that keeps the guest.
    Remove {
        /// Also where it runs: an admin has decided.
        running: bool,
    },
}

/// Where to, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// The other plane's host. For `Move`, addresses as the *source host* reaches them; for `Copy`, as this *daemon* does.
    pub destination: Destination,
    /// How fast, how long, with which means.
    pub limits: MigrationLimits,
    /// Who lets it run there.
    pub resume: ResumeBy,
    /// What is called otherwise there: paths of files, bridges, addresses.
    pub rewriting: Rewriting,
}

/// A guest's definition, as it can be given to another host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// The domain's XML, as it will be when it is started next; without what belongs to this host's running copy. May contain
    /// secrets (passwords of consoles): it is meant for the record and the peer, not for logs. [`super::portrait`] reads it.
    pub xml: Arc<str>,
    /// Sizes of its disks in bytes, by target (`vda`), as far as the host tells.
    pub disk_bytes: Vec<(Arc<str>, u64)>,
    /// Base images that its disks rest on, by path, as far as the host tells.
    pub bases: Vec<Arc<str>>,
    /// It stays defined when it is off.
    pub persistent: bool,
    /// Its host starts it by itself.
    pub autostart: bool,
}

impl HandoverStep {
    /// Its name in the log of effects.
    pub fn name(&self) -> &'static str {
        match self {
            HandoverStep::Seal { .. } => "seal",
            HandoverStep::Define { .. } => "define",
            HandoverStep::Move(_) => "move",
            HandoverStep::ShutDown { .. } => "shut down",
            HandoverStep::Copy(_) => "copy",
            HandoverStep::Resume { .. } => "resume",
            HandoverStep::Remove { .. } => "remove",
        }
    }

    /// Where it takes the guest or its files, if it does.
    pub fn transfer(&self) -> Option<&Transfer> {
        match self {
            HandoverStep::Move(transfer) | HandoverStep::Copy(transfer) => Some(transfer),
            _ => None,
        }
    }
}

/// What a handover writes beside the mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The handover's id.
    pub handover: Arc<str>,
    /// The guest was paused before, by somebody, and stays so after the move.
    pub stays_paused: bool,
}

/// A guest as a host finds it in the moment of a step.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) name: Arc<str>,
    pub(super) state: VmState,
    pub(super) reason: Reason,
    pub(super) mark: Option<Mark>,
    pub(super) seal: Option<Seal>,
    pub(super) job: Busy,
}

/// Why a guest that was saved does not go cold.
pub(super) const SAVED: &str = "is off and its memory is saved, which would be lost; restore it first";

/// What works on a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Busy {
    /// Nothing.
    No,
    /// This handover's move or copy; where libvirt cannot tell whose job it is, that of a guest sealed for this handover.
    Ours,
    /// It is arriving here.
    Arriving,
    /// Something else.
    Other,
}

/// What a step comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is so already.
    Done,
    /// It is under way already.
    Follow,
    /// Write the mark with this seal.
    Seal(Seal),
    /// Define it.
    Define,
    /// Begin.
    Begin,
    /// Resume it or start it, as far as said; then write the mark without a seal.
    Resume { resume: bool, start: bool },
    /// Take it away.
    Remove,
}

impl Found {
    fn is_sealed_for(&self, id: &str) -> bool {
        self.seal.as_ref().is_some_and(|seal| *seal.handover == *id)
    }

    /// Paused for the move, and to run after it? A guest that has arrived to be resumed by a manager is merely paused for
    /// libvirt; what tells it from one that somebody paused is the seal.
    fn waits(&self) -> bool {
        let for_move = self.reason == Reason::Migration || self.seal.as_ref().is_some_and(|seal| !seal.stays_paused);
        self.state == VmState::Paused && for_move
    }

    pub(super) fn is_active(&self) -> bool {
        matches!(self.state, VmState::Running | VmState::Paused | VmState::Asleep)
    }

    /// How it stands.
    pub(super) fn standing(&self) -> Standing {
        if self.waits() { Standing::Migrating } else { Standing::of(self.state, self.reason) }
    }
}

/// May this step be done, and what does it come to?
pub(super) fn judge(host: &HostId, handover: &Handover, found: Option<&Found>) -> Result<Verdict, HypervisorError> {
    let (step, id, vm) = (&handover.step, &handover.id, handover.vm);
    let Some(found) = found else {
        return match step {
            HandoverStep::Move(_) | HandoverStep::Remove { .. } => Ok(Verdict::Done),
            HandoverStep::Define { .. } => Ok(Verdict::Define),
            _ => {
                let what = format!("{host}: cannot {} guest {vm} for handover {id}: it is not on this host", step.name());
                Err(HypervisorError::new(ErrorKind::NotFound, what))
            }
        };
    };
    let guest = format!("guest {} ({vm}) on {host}", found.name);
    let refuse = |kind, why: &str| {
        Err(HypervisorError::new(kind, format!("{guest} {why}; `{}` of handover {id} was not begun", step.name())))
    };
    let busy = || refuse(ErrorKind::Failed, "is being worked on by another job");
    if let HandoverStep::Define { .. } = step {
        let same = found.is_sealed_for(id) && found.mark.as_ref() == Some(&handover.mark);
        return if same { Ok(Verdict::Done) } else { refuse(ErrorKind::Precondition, "is defined already") };
    }
    // Done before?
    match (step, &found.seal) {
        (HandoverStep::Seal { becomes }, Some(_)) if found.is_sealed_for(id) && found.mark.as_ref() == Some(becomes) => {
            return Ok(Verdict::Done);
        }
        (HandoverStep::Resume { becomes, .. }, None) if found.mark.as_ref() == Some(becomes) && !found.waits() => {
            return Ok(Verdict::Done);
        }
        _ => {}
    }
    let carries = found
        .mark
        .as_ref()
        .map_or_else(|| "nobody".to_owned(), |mark| format!("plane `{}` (epoch {})", mark.plane, mark.epoch));
    match (&found.seal, &found.mark) {
        (Some(seal), _) if seal.handover != *id => {
            return refuse(ErrorKind::NotOwner, &format!("is sealed for another handover, {}", seal.handover));
        }
        (Some(_), Some(mark)) if mark.epoch <= handover.mark.epoch => {}
        (None, Some(mark)) if matches!(step, HandoverStep::Seal { .. }) && *mark == handover.mark => {}
        (None, Some(mark))
            if matches!(step, HandoverStep::Resume { .. })
                && mark.plane == handover.plane
                && mark.epoch <= handover.mark.epoch => {}
        (None, _) if !matches!(step, HandoverStep::Seal { .. } | HandoverStep::Resume { .. }) => {
            return refuse(ErrorKind::NotOwner, &format!("is not sealed for it and belongs to {carries}"));
        }
        _ => {
            let Mark { plane, epoch } = &handover.mark;
            return refuse(ErrorKind::NotOwner, &format!("belongs to {carries}, not to plane `{plane}` (epoch {epoch})"));
        }
    }
    match step {
        HandoverStep::Seal { .. } => {
            if found.job != Busy::No {
                return busy();
            }
            let stays_paused = found.state == VmState::Paused && !found.waits();
            let new = Seal { handover: id.clone(), stays_paused };
            Ok(Verdict::Seal(found.seal.clone().unwrap_or(new)))
        }
        HandoverStep::ShutDown { .. } => match found.job {
            _ if !found.is_active() => Ok(Verdict::Done),
            Busy::Ours => Ok(Verdict::Follow),
            Busy::Arriving => refuse(ErrorKind::Precondition, "is only arriving here"),
            Busy::Other => busy(),
            Busy::No if found.state != VmState::Running => {
                refuse(ErrorKind::Precondition, &format!("is {}, and would not hear of it", found.state))
            }
            Busy::No => Ok(Verdict::Begin),
        },
        HandoverStep::Move(_) | HandoverStep::Copy(_) => match found.job {
            Busy::Ours => Ok(Verdict::Follow),
            Busy::Arriving => refuse(ErrorKind::Precondition, "is only arriving here"),
            Busy::Other => busy(),
            Busy::No if matches!(step, HandoverStep::Copy(_)) && found.is_active() => {
                refuse(ErrorKind::Precondition, &format!("is {}; the files of a guest are copied while it is off", found.state))
            }
            Busy::No if matches!(step, HandoverStep::Copy(_)) && found.reason == Reason::Saved => {
                refuse(ErrorKind::Precondition, SAVED)
            }
            Busy::No if matches!(step, HandoverStep::Move(_)) && !found.is_active() => {
                refuse(ErrorKind::Precondition, &format!("is {}; there is nothing to be moved while it runs", found.state))
            }
            Busy::No if (found.state, found.reason) == (VmState::Paused, Reason::Migration) => {
                refuse(ErrorKind::Precondition, "was left paused by an earlier move; resume it first")
            }
            Busy::No => Ok(Verdict::Begin),
        },
        HandoverStep::Resume { start, .. } => match found.job {
            Busy::No => {
                let resume = found.waits() && !found.seal.as_ref().is_some_and(|seal| seal.stays_paused);
                Ok(Verdict::Resume { resume, start: *start && !found.is_active() })
            }
            Busy::Ours | Busy::Arriving => refuse(ErrorKind::Precondition, "is still on its way"),
            Busy::Other => busy(),
        },
        HandoverStep::Remove { running } => match found.job {
            // At the target this ends the move, and the guest stays at the source.
            Busy::No | Busy::Arriving => {
                let stands_still = found.standing() == Standing::Migrating || !found.is_active();
                let paused_all_along = found.state == VmState::Paused && found.seal.is_some();
                if stands_still || paused_all_along || *running {
                    return Ok(Verdict::Remove);
                }
                refuse(ErrorKind::Precondition, &format!("is {}, and what runs is not removed", found.state))
            }
            Busy::Ours | Busy::Other => busy(),
        },
        HandoverStep::Define { .. } => refuse(ErrorKind::Precondition, "is defined already"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(plane: &str, epoch: u64) -> Mark {
        Mark { plane: plane.into(), epoch }
    }

    fn step(plane: &str, mark: Mark, step: HandoverStep) -> Handover {
        Handover { id: "a/41".into(), plane: plane.into(), vm: VmId(uuid::Uuid::from_u128(7)), mark, step }
    }

    fn found(state: VmState, reason: Reason, mark: Mark, seal: Option<&str>) -> Found {
        let seal = seal.map(|id| Seal { handover: id.into(), stays_paused: false });
        Found { name: "web".into(), state, reason, mark: Some(mark), seal, job: Busy::No }
    }

    fn transfer() -> Box<Transfer> {
        let destination = Destination { host: "h".into(), uri: "".into(), migration_uri: None };
        let (limits, resume) = (MigrationLimits::default(), ResumeBy::Manager);
        Box::new(Transfer { destination, limits, resume, rewriting: Rewriting::default() })
    }

    fn told(handover: &Handover, found: Option<&Found>) -> String {
        match judge(&"host-b".into(), handover, found) {
            Ok(verdict) => format!("{verdict:?}"),
            Err(error) => format!("{:?}: {error}", error.kind),
        }
    }

    #[test]
    fn a_step_acts_on_its_own_guest_only_and_only_once() {
        let theirs = || mark("b", 6);
        let becomes = theirs;
        let seal = step("a", mark("a", 5), HandoverStep::Seal { becomes: becomes() });
        let moves = step("a", theirs(), HandoverStep::Move(transfer()));
        let copies = step("a", theirs(), HandoverStep::Copy(transfer()));
        let stops = step("a", theirs(), HandoverStep::ShutDown { force_after: None });
        let takes = step("b", theirs(), HandoverStep::Resume { becomes: becomes(), start: false });
        let back = step("a", mark("a", 7), HandoverStep::Resume { becomes: mark("a", 7), start: false });
        let remove = step("b", theirs(), HandoverStep::Remove { running: false });
        let force = step("b", theirs(), HandoverStep::Remove { running: true });
        let define = step(
            "b",
            theirs(),
            HandoverStep::Define {
                xml: "".into(),
                rewriting: Rewriting::default(),
                trusted: false,
                autostart: false,
                needs: Vec::new(),
            },
        );
        let (running, paused) = ((VmState::Running, Reason::Booted), (VmState::Paused, Reason::Asked));
        let (moving, off) = ((VmState::Paused, Reason::Migration), (VmState::Off, Reason::Shutdown));
        let guest = |(state, reason): (VmState, Reason), mark, seal| Some(found(state, reason, mark, seal));
        let guests = [
            ("none", None),
            ("ours, running", guest(running, mark("a", 5), None)),
            ("ours, newer", guest(running, mark("a", 8), None)),
            ("sealed, running", guest(running, theirs(), Some("a/41"))),
            ("sealed, paused", guest(paused, theirs(), Some("a/41"))),
            ("sealed, migrating", guest(moving, theirs(), Some("a/41"))),
            ("sealed, off", guest(off, theirs(), Some("a/41"))),
            ("sealed, newer", guest(moving, mark("b", 9), Some("a/41"))),
            ("sealed for another", guest(moving, theirs(), Some("a/40"))),
            ("theirs, running", guest(running, theirs(), None)),
            ("theirs, paused", guest(paused, theirs(), None)),
        ];
        let steps = [seal, moves, stops, copies, takes, back, remove, force, define];
        let mut table = String::new();
        for step in &steps {
            table += &format!(
                "{} by {} up to {}/{}
",
                step.step.name(),
                step.plane,
                step.mark.plane,
                step.mark.epoch
            );
            for (name, guest) in &guests {
                table += &format!(
                    "    {name}: {}
",
                    told(step, guest.as_ref())
                );
            }
        }
        insta::assert_snapshot!("verdicts", table);
    }

    #[test]
    fn a_guest_that_is_worked_on_is_left_to_that() {
        let sealed = |job| Some(Found { job, ..found(VmState::Running, Reason::Booted, mark("b", 6), Some("a/41")) });
        let of = |plane: &str, what| step(plane, mark("b", 6), what);
        let steps = [
            of("a", HandoverStep::Seal { becomes: mark("c", 6) }),
            of("a", HandoverStep::Move(transfer())),
            of("a", HandoverStep::ShutDown { force_after: None }),
            of("b", HandoverStep::Resume { becomes: mark("b", 6), start: false }),
            of("b", HandoverStep::Remove { running: true }),
        ];
        let mut table = String::new();
        for step in &steps {
            for job in [Busy::Ours, Busy::Arriving, Busy::Other] {
                table += &format!(
                    "{}, {job:?}: {}
",
                    step.step.name(),
                    told(step, sealed(job).as_ref())
                );
            }
        }
        insta::assert_snapshot!("verdicts_while_busy", table);
    }

    #[test]
    fn what_somebody_paused_stays_paused() {
        let by_admin = found(VmState::Paused, Reason::Asked, mark("a", 5), None);
        let seal = step("a", mark("a", 5), HandoverStep::Seal { becomes: mark("b", 6) });
        let Ok(Verdict::Seal(seal)) = judge(&"h".into(), &seal, Some(&by_admin)) else { panic!("it may be sealed") };
        assert!(seal.stays_paused);
        let arrived = Found { seal: Some(seal), mark: Some(mark("b", 6)), ..by_admin };
        let takes = step("b", mark("b", 6), HandoverStep::Resume { becomes: mark("b", 6), start: true });
        assert_eq!(judge(&"h".into(), &takes, Some(&arrived)), Ok(Verdict::Resume { resume: false, start: false }));
    }
}
