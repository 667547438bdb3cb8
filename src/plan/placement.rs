//! Where to: the one host that was named, or the best of all that can take the guest.

use super::fleet::Fleet;
use super::target::{Candidate, Fit, Obstacle, Purpose, percent};
use super::{Decided, No};
use crate::error::count;
use crate::model::HostId;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// Hosts named in a refusal or an explanation; the rest are counted.
const NAMED: usize = 6;

/// A host for the guest, and how it was found, one line each.
pub(super) struct Chosen<'a> {
    pub(super) fit: Fit<'a>,
    pub(super) weighed: Vec<String>,
}

/// The host that was named, where it passes.
pub(super) fn named<'a>(fleet: &Fleet<'a>, candidate: &Candidate<'a, '_>, host: &HostId) -> Decided<Chosen<'a>> {
    let Some(seat) = fleet.seat(host) else {
        return No::because("host", format!("the plane has no host {host}; `hosts` in its configuration names those it has"));
    };
    match candidate.at(seat) {
        Ok(fit) => Ok(Chosen { weighed: explain(fleet, candidate, &fit), fit }),
        Err(obstacle) => Err(obstacle.refusal(&format!("{} to", candidate.vm.name), host)),
    }
}

/// The host with the lowest score among those that pass; of equals the first by name.
pub(super) fn best<'a>(fleet: &Fleet<'a>, candidate: &Candidate<'a, '_>) -> Decided<Chosen<'a>> {
    let mut fits: Vec<Fit> = Vec::new();
    let mut others: Vec<(usize, Obstacle)> = Vec::new();
    for seat in (0..fleet.seats.len()).filter(|seat| *seat != candidate.source) {
        match candidate.at(seat) {
            Ok(fit) => fits.push(fit),
            Err(obstacle) => others.push((seat, obstacle)),
        }
    }
    let compared = fits.len() + others.len();
    fits.sort_by(by_score);
    let Some(fit) = fits.first().cloned() else {
        return Err(nowhere(fleet, candidate, &others));
    };
    let mut weighed = explain(fleet, candidate, &fit);
    let scores: Vec<String> =
        fits.iter().take(NAMED).map(|fit| format!("{} {:.2}", fleet.seats[fit.seat].host.id, fit.score)).collect();
    let more = match fits.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    weighed.push(format!("{} compared, lowest score wins: {}{more}", count(compared, "host"), scores.join(", ")));
    if !others.is_empty() {
        weighed.push(format!("not possible: {}", list(fleet, &others)));
    }
    Ok(Chosen { fit, weighed })
}

pub(super) fn by_score(a: &Fit, b: &Fit) -> Ordering {
    a.score.total_cmp(&b.score).then(a.seat.cmp(&b.seat))
}

fn nowhere(fleet: &Fleet, candidate: &Candidate, others: &[(usize, Obstacle)]) -> No {
    let (name, source) = (&candidate.vm.name, &candidate.vm.host);
    if others.is_empty() {
        return No { guardrail: "placement", reason: format!("{name} cannot leave {source}: the plane has no other host") };
    }
    let remedies: BTreeSet<String> = others.iter().filter_map(|(_, obstacle)| obstacle.remedy()).collect();
    let remedies = match remedies.is_empty() {
        true => String::new(),
        false => format!(". What could be set otherwise: {}", remedies.into_iter().collect::<Vec<_>>().join(", ")),
    };
    let reason = format!("no host can take {name} from {source}: {}{remedies}", list(fleet, others));
    No { guardrail: "placement", reason }
}

/// Each host with its obstacle; of many, some by name and the rest by kind.
fn list(fleet: &Fleet, others: &[(usize, Obstacle)]) -> String {
    let named = others.iter().take(NAMED).map(|(seat, obstacle)| format!("{}: {obstacle}", fleet.seats[*seat].host.id));
    let mut parts: Vec<String> = named.collect();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, obstacle) in others.iter().skip(NAMED) {
        *kinds.entry(obstacle.guardrail()).or_default() += 1;
    }
    if !kinds.is_empty() {
        let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        parts.push(format!("and {} more ({})", others.len() - NAMED, kinds.join(", ")));
    }
    parts.join("; ")
}

fn explain(fleet: &Fleet, candidate: &Candidate, fit: &Fit) -> Vec<String> {
    let guardrails = fleet.situation.guardrails;
    let (source, target) = (&fleet.seats[candidate.source].host.id, &fleet.seats[fit.seat].host.id);
    let mut lines = vec![format!(
        "CPU of {source} {} -> {}, of {target} {} -> {}",
        percent(fit.source.0),
        percent(fit.source.1),
        percent(fit.target.0),
        percent(fit.target.1)
    )];
    let why = match candidate.purpose {
        _ if fit.is_repair => "it repairs an affinity rule, so it need not pay",
        Purpose::Balance => "enough to pay",
        Purpose::Evacuation => "the source is in maintenance, so it need not pay",
        Purpose::Admin => "an admin wants it, so it need not pay",
        Purpose::Other => "its module sets no minimum gain",
    };
    lines.push(format!(
        "gain {:.0} core-seconds within {}, cost {:.0}: {why}",
        fit.gain_core_s, guardrails.gain_horizon, fit.cost_core_s
    ));
    if !fit.soft.is_empty() {
        let rules: Vec<&str> = fit.soft.iter().map(|rule| &***rule).collect();
        lines.push(format!("breaks soft rules on {target}: {}", rules.join(", ")));
    }
    lines
}
