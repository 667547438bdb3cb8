//! Admission: a peer offers a guest with its management, policies of this plane answer.
//!
//! ```text
//! Offer (what the peer says, what this plane found) --on_migration_offer--> Answer, one for each policy that gave one
//!        --Admission::of--> one Verdict: a denial beats all, the smallest grants are what is granted, silence denies
//! ```
//! An offer is plain data: it is journalled as part of the event that the policies hear, so a replay decides the same.

use super::action::{Place, Verb};
use super::element::{EmbotId, HostId, VmId};
use super::hash::ContentHash;
use super::vm::Mode;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A guest that a peer wants to hand over, with its management.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// The migration's name: the source plane and the number of its action (`site-a/41`).
    pub migration: Arc<str>,
    /// The plane that offers, as its certificate says.
    pub plane: Arc<str>,
    /// Why it wants to, in its words.
    pub reason: Arc<str>,
    /// The guest.
    pub guest: OfferedGuest,
    /// The modules that manage it, which come along.
    pub modules: Vec<OfferedModule>,
    /// How far the source's modules may go with it; no more than that is granted.
    pub mode: Mode,
    /// What those modules may propose there, together.
    pub permits: BTreeSet<Verb>,
    /// The host of this plane that is asked for; `None`: any.
    pub host: Option<HostId>,
    /// While it runs (else it is off).
    pub live: bool,
    /// This plane's hosts, in the order in which its planner would choose them, each with what stands in the way.
    pub hosts: Vec<OfferedHost>,
}

/// The guest of an offer, as the source describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OfferedGuest {
    /// Its identity, which it keeps.
    pub id: VmId,
    /// Its name.
    pub name: Arc<str>,
    /// The epoch of the source's mark; its next owner's is one higher.
    pub epoch: u64,
    /// Processors.
    pub vcpus: u32,
    /// Memory it may use at the most, in MiB.
    pub memory_mib: u64,
    /// Processor time it used of late, in cores; `None`: not known.
    pub cpu_cores: Option<f32>,
    /// The CPU model it sees: a model's name, `host-passthrough`, or empty where its definition names none.
    pub cpu_model: Arc<str>,
    /// Its devices, one word each (`disk:virtio`, `nic:virtio`, `hostdev:pci`, `tpm`, ...).
    pub devices: Vec<Arc<str>>,
    /// Networks and bridges its cards are on.
    pub networks: BTreeSet<Arc<str>>,
    /// Storage that is not shared with this plane and has to be copied, in bytes.
    pub copy_bytes: u64,
    /// Its labels.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
}

/// A module of an offer. Where a key of this plane's trust store stands for it, what it says of itself was verified before the
/// offer is put to a policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OfferedModule {
    /// Its name.
    pub name: Arc<str>,
    /// Its version, for people.
    pub version: Arc<str>,
    /// Rises with each release; a lower one than what is in force is a downgrade.
    pub serial: u64,
    /// Its package's address.
    pub hash: ContentHash,
    /// The name, in this plane's trust store, of the key that signed it; `None`: unsigned, or by an unknown key.
    pub signed_by: Option<Arc<str>>,
    /// How far it wants to go.
    pub mode: Mode,
    /// What it wants to propose.
    pub permits: BTreeSet<Verb>,
    /// The plane has a module of this name, which stays in force: nothing of this one is loaded.
    pub in_force: bool,
    /// Why it cannot be loaded here, whatever a policy says; `None`: it can.
    pub refusal: Option<Arc<str>>,
}

/// A host of this plane, as a place for the offered guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OfferedHost {
    /// Which.
    pub host: HostId,
    /// What stands in the way; `None`: it can take the guest.
    pub obstacle: Option<Arc<str>>,
}

/// What is granted. Each part is a limit: what was not asked for is not granted by it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Grant {
    /// The mode of the modules that come along, at the most; `None`: as asked.
    pub mode: Option<Mode>,
    /// The permits of the modules that come along, at the most; `None`: as asked.
    pub permits: Option<BTreeSet<Verb>>,
    /// The host; `None`: the one that was asked for, or else the planner's choice.
    pub host: Option<HostId>,
}

/// A policy's word on an offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The guest may come.
    Accept(Grant),
    /// It may not; why.
    Deny {
        /// In words for the policy or admin that asked.
        reason: Arc<str>,
    },
}

/// A verdict, and whose it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Who answered.
    pub embot: EmbotId,
    /// What.
    pub verdict: Verdict,
    /// Where in the script.
    pub place: Place,
}

/// What is decided on an offer, and by whom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Admission {
    /// What.
    pub verdict: Verdict,
    /// The answers it rests on; of a denial, those that deny.
    pub by: Vec<Answer>,
}

impl Admission {
    /// Decides on the answers that policies gave. Nobody's answer is a denial.
    pub fn of(offer: &Offer, answers: Vec<Answer>) -> Admission {
        let denies = |answer: &Answer| matches!(answer.verdict, Verdict::Deny { .. });
        let denials: Vec<Answer> = answers.iter().filter(|answer| denies(answer)).cloned().collect();
        if let Some(first) = denials.first() {
            return Admission { verdict: first.verdict.clone(), by: denials };
        }
        if answers.is_empty() {
            let reason = "no policy of the plane answers offers; one with `on_migration_offer` and the permit `admit` would";
            return Admission { verdict: Verdict::Deny { reason: reason.into() }, by: answers };
        }
        let mut granted = Grant { mode: Some(offer.mode), permits: Some(offer.permits.clone()), host: offer.host.clone() };
        for answer in &answers {
            let Verdict::Accept(grant) = &answer.verdict else { continue };
            granted.mode = granted.mode.min(grant.mode.or(granted.mode));
            if let (Some(permits), Some(limit)) = (&mut granted.permits, &grant.permits) {
                permits.retain(|permit| limit.contains(permit));
            }
            let Some(host) = &grant.host else { continue };
            match &granted.host {
                Some(other) if other != host => {
                    let reason = format!("host {other} is asked for, and {} grants host {host} only", answer.embot.module);
                    let by = vec![answer.clone()];
                    return Admission { verdict: Verdict::Deny { reason: reason.into() }, by };
                }
                _ => granted.host = Some(host.clone()),
            }
        }
        Admission { verdict: Verdict::Accept(granted), by: answers }
    }
}

impl Offer {
    /// The first host that can take the guest: the one asked for, or else the planner's choice.
    pub fn best_host(&self) -> Option<&HostId> {
        let fits = |place: &&OfferedHost| place.obstacle.is_none();
        let asked = |place: &&OfferedHost| self.host.as_ref().is_none_or(|host| *host == place.host);
        self.hosts.iter().filter(asked).find(fits).map(|place| &place.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ElementId;
    use crate::model::testing::offer;

    fn answer(module: &str, verdict: Verdict) -> Answer {
        let embot = EmbotId { module: module.into(), element: ElementId::Plane };
        Answer { embot, verdict, place: Place { file: "a.rhai".into(), line: 1, column: 1 } }
    }

    fn grant(mode: Option<Mode>, permits: Option<&[Verb]>, host: Option<&str>) -> Verdict {
        Verdict::Accept(Grant { mode, permits: permits.map(|all| all.iter().copied().collect()), host: host.map(HostId::from) })
    }

    #[test]
    fn silence_denies_and_one_denial_beats_all() {
        let offer = offer("site-a");
        let Verdict::Deny { reason } = Admission::of(&offer, Vec::new()).verdict else { panic!("silence was taken for a yes") };
        assert!(reason.contains("on_migration_offer"), "{reason}");
        let no = answer("no", Verdict::Deny { reason: "full".into() });
        for answers in
            [[answer("yes", grant(None, None, None)), no.clone()], [no.clone(), answer("yes", grant(None, None, None))]]
        {
            let admission = Admission::of(&offer, answers.to_vec());
            assert_eq!(admission, Admission { verdict: no.verdict.clone(), by: vec![no.clone()] });
        }
    }

    #[test]
    fn the_smallest_grants_are_granted_and_nothing_that_was_not_asked_for() {
        let mut offer = offer("site-a");
        offer.mode = Mode::Advise;
        let all = Admission::of(&offer, vec![answer("a", grant(None, None, None))]).verdict;
        assert_eq!(all, grant(Some(Mode::Advise), Some(&[Verb::Migrate, Verb::Notify]), None));
        let more = grant(Some(Mode::Act), Some(&[Verb::Notify, Verb::Destroy]), Some("a"));
        let less = grant(Some(Mode::Observe), None, None);
        let both = Admission::of(&offer, vec![answer("a", more.clone()), answer("b", less)]).verdict;
        assert_eq!(both, grant(Some(Mode::Observe), Some(&[Verb::Notify]), Some("a")));
        offer.host = Some("b".into());
        let Verdict::Deny { reason } = Admission::of(&offer, vec![answer("a", more)]).verdict else {
            panic!("another host was granted than the one asked for");
        };
        assert_eq!(&*reason, "host b is asked for, and a grants host a only");
    }

    #[test]
    fn the_best_host_is_the_first_that_can() {
        let mut offer = offer("site-a");
        assert_eq!(offer.best_host(), Some(&"a".into()));
        offer.host = Some("b".into());
        assert_eq!(offer.best_host(), None, "the one asked for cannot take it");
        offer.hosts.reverse();
        offer.host = None;
        assert_eq!(offer.best_host(), Some(&"a".into()));
    }
}
