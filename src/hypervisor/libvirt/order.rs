//! What holds for every order: found, ours, under the epoch it was decided under, in the state it was decided for.
//!
//! The check and the act are one request of one session, so that as little as possible can happen in between.

use super::description::{MARK, MARK_KEY, Marked};
use super::failure::{self, Trouble, is_missing, is_without_metadata, is_wrong_state};
use super::ffi;
use super::session::{Door, Session};
use super::state;
use crate::clock::Clock;
use crate::hypervisor::{ErrorKind, HypervisorError, Order, Watch};
use crate::model::{ActionKind, HostId, Mark, Reason, VmId, VmState};
use std::sync::Arc;
use std::time::Duration;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;
use virt_sys as sys;

/// How long a changing call may take. libvirt itself gives up after 30 s where another job holds the guest; starting a large
/// guest takes its time.
pub const ACT: Duration = Duration::from_secs(120);

/// An order being carried out.
pub struct Errand<'a> {
    /// The host it is for.
    pub door: &'a Door,
    /// The connection it is carried out through, of its own.
    pub session: &'a Session,
    /// The order.
    pub order: &'a Order,
    /// Whom it concerns.
    pub vm: VmId,
    /// Who waits for it.
    pub watch: &'a dyn Watch,
    /// The time.
    pub clock: &'a dyn Clock,
}

/// A guest as found at the moment of acting.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: VmState,
    /// Why.
    pub reason: Reason,
    /// Its mark.
    pub marked: Option<Marked>,
}

impl Found {
    /// Does it have a QEMU?
    pub fn is_active(&self) -> bool {
        matches!(self.state, VmState::Running | VmState::Paused | VmState::Asleep)
    }
}

/// The domain with this identity.
pub fn lookup(connect: &Connect, vm: VmId) -> Result<Domain, Error> {
    connect.lookup_domain_by_uuid(vm.0)
}

/// The mark a domain carries: the live one where it runs.
pub fn read_mark(domain: &Domain) -> Result<Option<Marked>, Trouble> {
    match domain.metadata(sys::VIR_DOMAIN_METADATA_ELEMENT as i32, Some(MARK), sys::VIR_DOMAIN_AFFECT_CURRENT) {
        Ok(xml) => Marked::from_xml(&xml).map(Some).map_err(|error| {
            Trouble::refuse(
                ErrorKind::NotOwner,
                format!("{error}: {xml}; remove it (`virsh metadata GUEST --uri {MARK} --remove`) if no plane owns the guest"),
            )
        }),
        Err(error) if is_without_metadata(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Writes a domain's mark, into what runs and into what will be started next: libvirt keeps two copies.
pub fn write_mark(domain: &Domain, marked: &Marked) -> Result<(), Error> {
    let xml = marked.to_xml();
    if xml.contains('\0') {
        // `virt` panics on it; no XML may contain it anyway.
        return Ok(());
    }
    let set = |impact| {
        let kind = sys::VIR_DOMAIN_METADATA_ELEMENT as i32;
        domain.set_metadata(kind, Some(&xml), Some(MARK_KEY), Some(MARK), impact)
    };
    let transient = domain.is_active()? && !domain.is_persistent()?;
    let both =
        if transient { sys::VIR_DOMAIN_AFFECT_LIVE } else { sys::VIR_DOMAIN_AFFECT_LIVE | sys::VIR_DOMAIN_AFFECT_CONFIG };
    // Between asking whether it runs and setting, it may have started or stopped; so try, and let libvirt say.
    match set(both) {
        Err(error) if is_wrong_state(&error) => set(sys::VIR_DOMAIN_AFFECT_CONFIG),
        result => result,
    }
}

/// What is there to be known before an order.
pub fn find(domain: &Domain) -> Result<Found, Trouble> {
    let (state, reason) = ffi::state(domain)?;
    let (state, reason) = state::of(state, reason);
    Ok(Found { name: domain.name()?, state, reason, marked: read_mark(domain)? })
}

/// May this order be carried out on what was found?
pub fn permit(host: &HostId, order: &Order, vm: VmId, found: &Found) -> Result<(), HypervisorError> {
    let guest = format!("guest {} ({vm}) on {host}", found.name);
    let verb = order.kind.verb();
    let refuse = |kind, why: String| Err(HypervisorError::new(kind, format!("{guest} {why}; {verb} was not begun")));
    let ours = Mark { plane: order.plane.clone(), epoch: order.epoch };
    let adopts = matches!(order.kind, ActionKind::Adopt { .. });
    if let Some(seal) = found.marked.as_ref().and_then(|marked| marked.seal.as_ref()) {
        let why = format!("is on its way to another plane, sealed for handover {}: wait for its end", seal.handover);
        return refuse(ErrorKind::NotOwner, why);
    }
    match found.marked.as_ref().map(|marked| &marked.mark) {
        Some(mark) if *mark == ours => {}
        None if adopts => {}
        // Its own guest from before: adopting it raises the epoch, as losing the journal calls for.
        Some(mark) if adopts && mark.plane == ours.plane && mark.epoch < ours.epoch => {}
        None => {
            return refuse(
                ErrorKind::NotOwner,
                format!("carries no mark, so plane `{}` does not own it: adopt it first", ours.plane),
            );
        }
        Some(mark) if mark.plane == ours.plane => {
            let why = format!("is at epoch {}, but this was decided under epoch {}: decide again", mark.epoch, ours.epoch);
            return refuse(ErrorKind::NotOwner, why);
        }
        Some(mark) => {
            let why = format!("belongs to plane `{}` (epoch {}), not to `{}`", mark.plane, mark.epoch, ours.plane);
            return refuse(ErrorKind::NotOwner, why);
        }
    }
    // The plane calls a guest that died crashed where libvirt may say off, and the reverse.
    let down = |state| matches!(state, VmState::Off | VmState::Crashed);
    match order.expects {
        Some(expected) if expected != found.state && !(down(expected) && down(found.state)) => refuse(
            ErrorKind::Precondition,
            format!("is {} ({}), not {expected} as when this was decided", found.state, found.reason),
        ),
        _ => Ok(()),
    }
}

/// Carries out a check and an act on the session's thread. `what` completes "cannot ..." and is followed by the guest's name.
pub fn act_on<T>(
    connect: &Connect,
    host: &HostId,
    order: &Order,
    vm: VmId,
    what: &str,
    act: impl FnOnce(&Domain, &Found) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let domain = match lookup(connect, vm) {
        Ok(domain) => domain,
        Err(error) if is_missing(&error) => {
            let text =
                format!("{host}: cannot {what} guest {vm}: there is none with this UUID; did it move, or was it undefined?");
            return Err(Trouble::refuse(ErrorKind::NotFound, text));
        }
        Err(error) => return Err(error.into()),
    };
    let found = find(&domain)?;
    permit(host, order, vm, &found).map_err(Trouble::Refused)?;
    let alive = || connect.is_alive().unwrap_or(false);
    act(&domain, &found)
        .map_err(|trouble| Trouble::Refused(trouble.into_error(host, &format!("{what} guest {} ({vm})", found.name), alive())))
}

impl Errand<'_> {
    /// Checks and acts, and waits for the answer.
    pub fn act<T: Send + 'static>(
        &self,
        what: &'static str,
        act: impl FnOnce(&Domain, &Found) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, HypervisorError> {
        let (host, order, vm) = (self.door.host.clone(), Arc::new(self.order.clone()), self.vm);
        self.session.call(format!("{what} guest {vm}"), ACT, move |connect| act_on(connect, &host, &order, vm, what, act))
    }

    /// Looks at the guest without a check; `None`: there is no such guest.
    pub fn look(&self) -> Result<Option<Found>, HypervisorError> {
        look(self.session, self.vm)
    }
}

/// Looks at a guest; `None`: there is none with this identity.
pub fn look(session: &Session, vm: VmId) -> Result<Option<Found>, HypervisorError> {
    session.call(format!("look at guest {vm}"), super::session::ANSWER, move |connect| match lookup(connect, vm) {
        Ok(domain) => match find(&domain) {
            // It may go between the two.
            Err(Trouble::Libvirt(error)) if failure::is_missing(&error) => Ok(None),
            found => found.map(Some),
        },
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::MigrationLimits;
    use crate::model::ActionId;

    const GUEST: VmId = VmId(uuid::Uuid::from_u128(1));

    fn order(kind: ActionKind, expects: Option<VmState>) -> Order {
        let limits = MigrationLimits::default();
        Order { action: ActionId(1), kind, plane: "home".into(), epoch: 7, expects, destination: None, limits }
    }

    fn found(state: VmState, mark: Option<(&str, u64)>) -> Found {
        let marked =
            mark.map(|(plane, epoch)| Marked { mark: Mark { plane: plane.into(), epoch }, autostart: false, seal: None });
        Found { name: "web".into(), state, reason: Reason::Unknown, marked }
    }

    fn refusal(order: &Order, found: &Found) -> String {
        permit(&"host-a".into(), order, GUEST, found)
            .map_or_else(|error| format!("{:?}: {error}", error.kind), |()| "permitted".into())
    }

    #[test]
    fn refusals_say_whose_guest_it_is_and_what_to_do() {
        let start = order(ActionKind::Start { vm: GUEST }, Some(VmState::Off));
        let cases = [None, Some(("home", 7)), Some(("home", 8)), Some(("home", 6)), Some(("other", 7))];
        let texts: Vec<_> = cases.iter().map(|mark| refusal(&start, &found(VmState::Off, *mark))).collect();
        insta::assert_snapshot!(texts.join("\n"));
    }

    #[test]
    fn what_is_on_its_way_to_another_plane_is_left_alone() {
        let ours = || found(VmState::Running, Some(("home", 7)));
        let mut sealed = ours();
        let seal = Some(crate::hypervisor::Seal { handover: "home/41".into(), stays_paused: false });
        sealed.marked = sealed.marked.map(|marked| Marked { seal, ..marked });
        for kind in [ActionKind::Suspend { vm: GUEST }, ActionKind::Adopt { vm: GUEST }] {
            assert_eq!(refusal(&order(kind.clone(), None), &ours()), "permitted");
            let refused = refusal(&order(kind, None), &sealed);
            assert!(refused.starts_with("NotOwner") && refused.contains("home/41"), "{refused}");
        }
    }

    #[test]
    fn adopting_takes_only_what_nobody_owns() {
        let adopt = order(ActionKind::Adopt { vm: GUEST }, None);
        let permitted = |mark| permit(&"host-a".into(), &adopt, GUEST, &found(VmState::Running, mark)).is_ok();
        assert!(permitted(None));
        assert!(permitted(Some(("home", 7))), "adopting twice is adopting once");
        assert!(permitted(Some(("home", 6))), "its own guest, from an earlier life");
        assert!(!permitted(Some(("other", 7))));
        assert!(!permitted(Some(("home", 8))));
    }

    #[test]
    fn the_state_must_be_the_one_decided_for() {
        let ours = Some(("home", 7));
        let suspend = order(ActionKind::Suspend { vm: GUEST }, Some(VmState::Running));
        assert_eq!(refusal(&suspend, &found(VmState::Running, ours)), "permitted");
        insta::assert_snapshot!(refusal(&suspend, &found(VmState::Paused, ours)));
        let start = order(ActionKind::Start { vm: GUEST }, Some(VmState::Crashed));
        assert_eq!(refusal(&start, &found(VmState::Off, ours)), "permitted", "crashed and off are both down");
    }
}
