//! What a move is worth, and what it costs: both in core-seconds.
//!
//! A host's guests wait for processors long before the host is fully used, and the more so the fewer cores it has. How many
//! wait on the average is estimated as for a queue served by `c` cores that are in use to the share `u` (H. Sakasegawa, "An
//! approximation formula Lq = a p^b / (1 - p)", Ann. Inst. Statist. Math. 29 (1977), with its coefficients for exponential
//! times): `u^sqrt(2 (c + 1)) / (1 - u)`. A move gains what waits less, on both hosts together, over the horizon.
//! Since this is convex, a move between equal hosts gains something only if it leaves the target cooler than the source was.

use super::guardrails::Guardrails;
use crate::model::Vm;

/// Use beyond this share is taken along the tangent: use that is measured cannot exceed the cores, so near the top it says
/// little about what is wanted.
const STEEP: f64 = 0.9;

/// How many virtual processors wait on a host with so many cores, on the average.
pub(super) fn waiting(cores_used: f64, cpus: u32) -> f64 {
    let cpus = f64::from(cpus.max(1));
    let share = (cores_used / cpus).max(0.0);
    let power = (2.0 * (cpus + 1.0)).sqrt();
    let up_to = |u: f64| u.powf(power) / (1.0 - u);
    if share <= STEEP {
        return up_to(share);
    }
    let slope = up_to(STEEP) * (power / STEEP + 1.0 / (1.0 - STEEP));
    up_to(STEEP) + slope * (share - STEEP)
}

/// What a live move costs: about one core at each end for as long as the guest's memory takes to cross.
pub(super) fn cost_core_s(vm: &Vm, guardrails: &Guardrails) -> f64 {
    2.0 * vm.balloon_mib as f64 / guardrails.migration_mib_per_s.max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_convex_and_rises() {
        for cpus in [1, 2, 8, 64, 256] {
            let at = |percent: i32| waiting(f64::from(percent) / 100.0 * f64::from(cpus), cpus);
            for percent in 1..150 {
                let (before, here, after) = (at(percent - 1), at(percent), at(percent + 1));
                assert!(here >= before && after - here >= here - before - 1e-9, "{cpus} cores at {percent} %");
            }
        }
    }

    #[test]
    fn waiting_is_what_the_formula_says() {
        assert!((waiting(7.2, 8) - 6.395).abs() < 0.001, "{}", waiting(7.2, 8));
        assert!(waiting(2.4, 8) < 0.01, "a host at 30 % makes nobody wait");
    }
}
