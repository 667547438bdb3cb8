//! Who gets how much of a host's cores when its guests want more than there is.
//!
//! As a fair scheduler does it: cores are dealt out in proportion to the guests' processors, nobody gets more than it wants,
//! and what one leaves is dealt to the others (max-min fairness).

/// What one guest wants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Claim {
    /// Its share of the cores relative to the others'; above 0.
    pub(super) weight: f64,
    /// Cores it could use now.
    pub(super) demand: f64,
}

/// Cores given to each claim, in the order of the claims.
pub(super) fn share_out(cores: f64, claims: &[Claim]) -> Vec<f64> {
    let wanted: f64 = claims.iter().map(|claim| claim.demand).sum();
    if wanted <= cores {
        return claims.iter().map(|claim| claim.demand).collect();
    }
    // Served by how much they want for their weight, the most modest first: each takes what it wants or an equal part of
    // what is left, whichever is less.
    let mut order: Vec<usize> = (0..claims.len()).collect();
    order.sort_by(|a, b| {
        let thirst = |index: &usize| claims[*index].demand / claims[*index].weight;
        thirst(a).total_cmp(&thirst(b)).then(a.cmp(b))
    });
    let mut left = cores.max(0.0);
    let mut weight: f64 = claims.iter().map(|claim| claim.weight).sum();
    let mut given = vec![0.0; claims.len()];
    for index in order {
        let claim = claims[index];
        let fair = left * claim.weight / weight.max(f64::MIN_POSITIVE);
        given[index] = claim.demand.min(fair).max(0.0);
        left -= given[index];
        weight -= claim.weight;
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(of: &[(f64, f64)]) -> Vec<Claim> {
        of.iter().map(|(weight, demand)| Claim { weight: *weight, demand: *demand }).collect()
    }

    #[test]
    fn everybody_gets_what_they_want_while_there_is_enough() {
        assert_eq!(share_out(4.0, &claims(&[(2.0, 1.5), (2.0, 2.5)])), [1.5, 2.5]);
    }

    #[test]
    fn scarce_cores_are_shared_by_weight_and_leftovers_go_round() {
        // Equal weights, 3 cores: the modest one takes its 0.5, the others share the remaining 2.5.
        assert_eq!(share_out(3.0, &claims(&[(1.0, 2.0), (1.0, 0.5), (1.0, 2.0)])), [1.25, 0.5, 1.25]);
        // Weights 4 and 2, both want everything of 6 cores: 4 and 2.
        assert_eq!(share_out(6.0, &claims(&[(4.0, 6.0), (2.0, 6.0)])), [4.0, 2.0]);
        // Weights 4 and 2 of 3 cores: 2 and 1.
        assert_eq!(share_out(3.0, &claims(&[(4.0, 4.0), (2.0, 2.0)])), [2.0, 1.0]);
        assert_eq!(share_out(0.0, &claims(&[(1.0, 1.0)])), [0.0]);
    }
}
