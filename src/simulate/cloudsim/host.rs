//! A host's kind, and how it shares out its MIPS.
//!
//! CloudSim's `VmSchedulerTimeSharedOverSubscription` in one pass: its outcome depends on the guests and their order only.

use crate::model::PowerCurve;

/// A kind of host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostKind {
    /// The MIPS of each of its processors: a guest, which has one processor, gets no more.
    pub processor_mips: f64,
    /// The MIPS of all its processors.
    pub total_mips: f64,
    /// What it draws.
    pub curve: PowerCurve,
}

/// How a guest stands to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// It runs there.
    Settled,
    /// It runs there, and is being moved elsewhere.
    Leaving,
    /// It is being moved there.
    Arriving,
}

impl Presence {
    /// The share of its MIPS that a guest gets.
    fn granted(self) -> f64 {
        match self {
            Presence::Settled => 1.0,
            Presence::Leaving => LEAVING,
            Presence::Arriving => ARRIVING,
        }
    }

    /// The share of its MIPS that a guest takes up.
    fn requested(self) -> f64 {
        if self == Presence::Arriving { ARRIVING } else { 1.0 }
    }
}

/// A guest that is moved away loses a tenth of its MIPS.
pub(super) const LEAVING: f64 = 0.9;
/// A guest that is on its way takes up a tenth of its MIPS.
const ARRIVING: f64 = 0.1;

impl HostKind {
    /// The two kinds of the experiment; host i is of kind i modulo 2.
    pub(super) fn both() -> [HostKind; 2] {
        [("hp-ml110-g4", 1_860.0), ("hp-ml110-g5", 2_660.0)].map(|(curve, processor_mips)| HostKind {
            processor_mips,
            total_mips: 2.0 * processor_mips,
            curve: PowerCurve::named(curve).expect("a known curve"),
        })
    }

    /// Shares its MIPS out among guests that want so much each, in their order; `grants` becomes what each gets. Gives the
    /// MIPS that are left.
    ///
    /// As long as there is enough, each gets what it wants. Where that comes to more than there is, all get the same share of
    /// it, in whole MIPS.
    pub(super) fn share(&self, wanted: impl Iterator<Item = (f64, Presence)> + Clone, grants: &mut Vec<f64>) -> f64 {
        grants.clear();
        let mut free = self.total_mips;
        for (mips, presence) in wanted.clone() {
            let mips = mips.min(self.processor_mips);
            let request = mips * presence.requested();
            if free < request {
                self.share_scarce(wanted, grants);
                return 0.0;
            }
            grants.push(mips * presence.granted());
            free -= request;
        }
        free
    }

    fn share_scarce(&self, wanted: impl Iterator<Item = (f64, Presence)> + Clone, grants: &mut Vec<f64>) {
        let requests = wanted.clone().map(|(mips, presence)| mips.min(self.processor_mips) * presence.requested());
        let share = self.total_mips / requests.sum::<f64>();
        grants.clear();
        grants.extend(wanted.map(|(mips, presence)| {
            let mips = mips.min(self.processor_mips);
            let scaled = match presence {
                Presence::Settled => mips * share,
                Presence::Leaving => mips * share * LEAVING,
                Presence::Arriving => mips * ARRIVING * share,
            };
            scaled.floor()
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::Presence::{Arriving, Leaving, Settled};
    use super::*;

    fn shared(wanted: &[(f64, Presence)]) -> (Vec<f64>, f64) {
        let [small, _] = HostKind::both();
        let mut grants = Vec::new();
        let free = small.share(wanted.iter().copied(), &mut grants);
        (grants, free)
    }

    #[test]
    fn there_is_enough() {
        assert_eq!(shared(&[]), (vec![], 3_720.0));
        assert_eq!(shared(&[(1_000.0, Settled), (720.0, Settled)]), (vec![1_000.0, 720.0], 2_000.0));
        // No guest gets more than one processor has.
        assert_eq!(shared(&[(2_500.0, Settled)]), (vec![1_860.0], 1_860.0));
        // One that leaves takes up all of its MIPS, and one that arrives a tenth.
        assert_eq!(shared(&[(1_000.0, Leaving), (1_000.0, Arriving)]), (vec![900.0, 100.0], 2_620.0));
    }

    #[test]
    fn there_is_not_enough() {
        // 1,860 + 1,500 + 1,500 = 4,860 of 3,720 MIPS: each gets 0.765.. of what it asks for, rounded down.
        let (grants, free) = shared(&[(2_000.0, Settled), (1_500.0, Settled), (1_500.0, Settled)]);
        assert_eq!((grants, free), (vec![1_423.0, 1_148.0, 1_148.0], 0.0));
        // 1,860 + 1,860 + 186 = 3,906: 0.952.., of which one that leaves gets nine tenths.
        let (grants, free) = shared(&[(1_860.0, Leaving), (1_860.0, Settled), (1_860.0, Arriving)]);
        assert_eq!((grants, free), (vec![1_594.0, 1_771.0, 177.0], 0.0));
    }
}
