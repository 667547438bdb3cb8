//! What admins said no to: a module does not advise the same for the same guest again for a while.

use super::{Decided, No};
use crate::model::{Action, ActionId, ActionState, Timestamp, Verb, Vm, VmId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Advice that an admin rejected, for as long as that stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// The module that advised it. Others may advise the same.
    pub module: Arc<str>,
    /// What is not advised again.
    pub verb: Verb,
    /// The action that was rejected.
    pub action: ActionId,
    /// Who rejected it.
    pub by: Arc<str>,
    /// Why, where it was said.
    pub reason: Option<Arc<str>>,
    /// When.
    pub at: Timestamp,
    /// The same may be advised again from here on.
    pub until: Timestamp,
}

/// All that stand.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Rejections(BTreeMap<(VmId, Verb, Arc<str>), Rejection>);

impl Rejection {
    /// What a rejected action leaves behind; `None` where it is not one, or no module advised it.
    pub(super) fn of(action: &Action) -> Option<(VmId, Rejection)> {
        let ActionState::Rejected { by, reason, until } = &action.state else { return None };
        let module = action.proposal.embot.as_ref()?.module.clone();
        let (verb, by, reason) = (action.proposal.kind.verb(), by.clone(), reason.clone());
        let rejection = Rejection { module, verb, action: action.id, by, reason, at: action.state_at, until: *until };
        Some((action.proposal.kind.vm()?, rejection))
    }
}

impl Rejections {
    /// A later one takes the place of an earlier one.
    pub(super) fn add(&mut self, vm: VmId, rejection: Rejection) {
        self.0.insert((vm, rejection.verb, rejection.module.clone()), rejection);
    }

    /// Was this not rejected of late?
    pub(super) fn check(&self, vm: &Vm, verb: Verb, module: &Arc<str>, now: Timestamp) -> Decided<()> {
        let Some(found) = self.0.get(&(vm.id, verb, module.clone())).filter(|found| found.until > now) else { return Ok(()) };
        let why = found.reason.as_ref().map(|reason| format!(", because {reason}")).unwrap_or_default();
        No::because(
            "rejected",
            format!(
                "{} rejected this for {} {} ago (action {}{why}); module {module} may advise it again in {}. To let it do so now: \
                 `embot plan lift {}`",
                found.by,
                vm.name,
                now.since(found.at).rounded(),
                found.action,
                found.until.since(now).rounded(),
                found.action
            ),
        )
    }

    /// Takes one back, by the number of the action that was rejected.
    pub(super) fn lift(&mut self, action: ActionId) -> Option<(VmId, Rejection)> {
        let key = self.0.iter().find(|(_, found)| found.action == action).map(|(key, _)| key.clone())?;
        self.0.remove(&key).map(|found| (key.0, found))
    }

    /// Those that stand, guest by guest.
    pub(super) fn standing(&self, now: Timestamp) -> impl Iterator<Item = (VmId, &Rejection)> {
        self.0.iter().filter(move |(_, found)| found.until > now).map(|((vm, ..), found)| (*vm, found))
    }

    pub(super) fn of_guest(&self, vm: VmId) -> Vec<Rejection> {
        self.0.iter().filter(|((of, ..), _)| *of == vm).map(|(_, found)| found.clone()).collect()
    }

    pub(super) fn forget_guest(&mut self, vm: VmId) {
        self.0.retain(|(of, ..), _| *of != vm);
    }

    pub(super) fn tidy(&mut self, now: Timestamp) {
        self.0.retain(|_, found| found.until > now);
    }
}
