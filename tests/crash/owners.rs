//! Who owned and ran what: by the fleet's log at every moment, and by the stores of both planes in the end.

use crate::account::Account;
use embot::hypervisor::simulated::{LogLine, Outcome, Step};
use embot::model::{ActionId, ElementId, HostId, MigrationId, Side, Span, Verb, VmId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Facts of a guest that is managed wait no longer than this, with nothing under way.
const SOON: Span = Span::seconds(10);

/// What is wrong with it.
pub fn compare(accounts: &[Account], log: &[LogLine]) -> Vec<String> {
    let mut complaints = runs(log);
    complaints.extend(epochs(log));
    complaints.extend(steps(accounts, log));
    complaints.extend(ends(accounts));
    complaints.extend(accounts.iter().flat_map(holds));
    complaints
}

/// No guest ever ran on two hosts.
pub fn runs(log: &[LogLine]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut running: BTreeMap<VmId, BTreeSet<HostId>> = BTreeMap::new();
    for line in log {
        let LogLine::Run(run) = line else { continue };
        let hosts = running.entry(run.vm).or_default();
        let _ = if run.runs { hosts.insert(run.host.clone()) } else { hosts.remove(&run.host) };
        if hosts.len() > 1 {
            complaints.push(format!("guest {} runs on {hosts:?} at {:?}", run.vm, run.at));
        }
    }
    complaints
}

/// Under each epoch one plane acted on a guest, and nobody under an older one afterwards.
fn epochs(log: &[LogLine]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut acted: BTreeMap<VmId, (u64, Arc<str>)> = BTreeMap::new();
    for line in log {
        let LogLine::Effect(effect) = line else { continue };
        match effect.outcome {
            Outcome::Begun => {}
            Outcome::Double => complaints.push(format!("action {} of {} was begun twice", effect.action, effect.plane)),
            _ => continue,
        }
        let now = (effect.epoch, effect.plane.clone());
        if let Some(before) = acted.insert(effect.vm, now.clone())
            && (before.0 > now.0 || (before.0 == now.0 && before.1 != now.1))
        {
            complaints.push(format!("guest {}: after epoch {} of {} acted {now:?}", effect.vm, before.0, before.1));
        }
    }
    complaints
}

/// Every step of a handover was planned by the plane that the guest left, and no guest was moved twice by one.
fn steps(accounts: &[Account], log: &[LogLine]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut moves: BTreeMap<&str, u32> = BTreeMap::new();
    for line in log {
        let LogLine::Step(step) = line else { continue };
        if !is_planned(accounts, step) {
            complaints.push(format!("nobody has planned {step:?}"));
        }
        if &*step.step == "move" && step.outcome == Outcome::Begun {
            *moves.entry(&step.handover).or_default() += 1;
        }
    }
    let twice = moves.into_iter().filter(|(_, times)| *times > 1);
    complaints.extend(twice.map(|(id, times)| format!("migration {id} was begun {times} times")));
    complaints
}

fn is_planned(accounts: &[Account], step: &Step) -> bool {
    let Ok(id) = step.handover.parse::<MigrationId>() else { return false };
    let source = accounts.iter().find(|account| account.plane == id.plane);
    let action = source.and_then(|source| source.planned.get(&ActionId(id.number)));
    action.is_some_and(|action| action.proposal.kind.verb() == Verb::Handover && action.proposal.kind.vm() == Some(step.vm))
}

/// In the end each guest has one owner, which is where the last epoch is.
fn ends(accounts: &[Account]) -> Vec<String> {
    let mut owners: BTreeMap<VmId, Vec<(Arc<str>, u64)>> = BTreeMap::new();
    for account in accounts {
        for (vm, guest) in &account.recovered.vms {
            let owned = owners.entry(*vm).or_default();
            if let Some(epoch) = guest.epoch_of(&account.plane) {
                owned.push((account.plane.clone(), epoch));
            }
        }
        for (vm, stone) in &account.recovered.tombstones {
            owners.entry(*vm).or_default();
            if account.recovered.vms.contains_key(vm) {
                owners.entry(*vm).or_default().push((format!("{} with a tombstone", account.plane).into(), stone.epoch));
            }
        }
    }
    let wrong = owners.iter().filter(|(_, owners)| owners.len() != 1);
    let mut complaints: Vec<String> = wrong.map(|(vm, owners)| format!("guest {vm} has the owners {owners:?}")).collect();
    if owners.len() != 12 {
        complaints.push(format!("there are {} guests, and were 12", owners.len()));
    }
    complaints
}

/// With nothing under way nothing is held, reserved or kept aside.
fn holds(account: &Account) -> Vec<String> {
    let recovered = &account.recovered;
    let mut complaints = Vec::new();
    for (id, row) in &recovered.migrations {
        let is_here = recovered.vms.get(&row.vm).is_some_and(|guest| guest.epoch_of(&account.plane).is_some());
        // A guest that has left stays on hold, so that late facts are sent after it.
        let held = row.is_held && (is_here || row.side == Side::Target);
        if row.outcome.is_none() || held || row.is_frozen || row.reservation.is_some() {
            let what = (row.phase(), &row.outcome, row.is_held, row.is_frozen, &row.reservation);
            complaints.push(format!("{}: migration {id} is not over: {what:?}", account.plane));
        }
    }
    for event in recovered.pending.values() {
        let managed = event.element.vm().is_none_or(|vm| recovered.vms.contains_key(&vm));
        if managed && event.at + SOON < account.last_now {
            complaints.push(format!("{}: {event:?} still waits", account.plane));
        }
    }
    for timer in recovered.timers.values() {
        if !recovered.embots.contains_key(&timer.embot) {
            complaints.push(format!("{}: a timer of {}, which is not here", account.plane, timer.embot));
        }
    }
    let homeless = recovered.embots.keys().filter(|embot| match embot.element {
        ElementId::Vm(vm) => !recovered.vms.contains_key(&vm),
        _ => false,
    });
    complaints.extend(homeless.map(|embot| format!("{}: {embot} has no guest here", account.plane)));
    complaints
}
