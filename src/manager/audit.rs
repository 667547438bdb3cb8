//! What goes into the audit: every command with its answer, and of every action that it was decided and how it ended.
//!
//! Entries are changes of the turn like all others: they are durable when the answer, or the action, leaves.

use super::Manager;
use super::modules::digest;
use crate::model::{
    Action, ActionId, ActionKind, ActionState, AuditAnswer, AuditEntry, Change, Command, Deed, ElementId, Reply, VmId,
};
use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

/// Of many guests that a command names, so many stand in its entry by name.
const NAMED: usize = 20;

impl Manager {
    pub(super) fn audit(&mut self, entry: AuditEntry) {
        self.turn.changes.push(Change::Audit(Box::new(entry)));
    }

    /// A command was answered.
    pub(super) fn audit_command(&mut self, command: &Command, by: &Arc<str>, reply: &Reply) {
        let (what, action, elements, text) = self.told(command);
        let answer = match reply {
            Reply::Done { message, .. } => AuditAnswer::Done(message.clone()),
            Reply::Refused { reason } => AuditAnswer::Refused(reason.clone()),
        };
        let what = Cow::Borrowed(what);
        self.audit(AuditEntry { at: self.now, by: by.clone(), what, action, elements, text, answer: Some(answer) });
    }

    /// An action was decided, or is over.
    pub(super) fn audit_action(&mut self, action: &Action) {
        let proposal = &action.proposal;
        let (is_over, mut text) = (action.state.is_final(), format!("action {}: {}", action.id, self.deed(&proposal.kind)));
        let author = match (&proposal.embot, &proposal.admin) {
            (Some(embot), _) => embot.to_string().into(),
            (None, Some(admin)) => admin.clone(),
            (None, None) => Arc::from("plane"),
        };
        let (by, why) = match &action.state {
            ActionState::Cancelled { by } => {
                (action.cancelling.clone().unwrap_or_else(|| by.clone()), Some(format!("cancelled by {by}")))
            }
            ActionState::Rejected { by, reason, .. } => {
                let why = reason.as_ref().map(|reason| format!(", because {reason}")).unwrap_or_default();
                (by.clone(), Some(format!("rejected by {by}{why}")))
            }
            ActionState::Failed { reason } => (author, Some(reason.to_string())),
            ActionState::Withdrawn { why } => (author, Some(why.to_string())),
            _ => (author, None),
        };
        // Writing to a string does not fail.
        let _ = match why {
            Some(why) => write!(text, " ({why})"),
            None if is_over => Ok(()),
            None => write!(text, ", because {}", proposal.reason),
        };
        if let (true, Some(admin)) = (is_over, &action.approved_by) {
            let _ = write!(text, "; approved by {admin}");
        }
        let mut elements: Vec<ElementId> = proposal.kind.vm().map(ElementId::Vm).into_iter().collect();
        let hosts = action.host.iter().chain(proposal.kind.destination());
        elements.extend(hosts.cloned().map(ElementId::Host));
        elements.dedup();
        let what = Cow::Borrowed(action.state.word());
        let id = Some(action.id);
        self.audit(AuditEntry { at: self.now, by, what, action: id, elements, text, answer: None });
    }

    /// A command in one word, what it is about, and in words.
    fn told(&self, command: &Command) -> (&'static str, Option<ActionId>, Vec<ElementId>, String) {
        let settled = |word: &'static str, action: ActionId, reason: Option<&Arc<str>>| {
            let known = self.action(action);
            let vm = known.and_then(|known| known.proposal.kind.vm()).map(ElementId::Vm);
            let deed = known.map(|known| format!(" ({})", self.deed(&known.proposal.kind))).unwrap_or_default();
            let why = reason.map(|reason| format!(", because {reason}")).unwrap_or_default();
            (word, Some(action), vm.into_iter().collect(), format!("{word} action {action}{deed}{why}"))
        };
        let plain = |word: &'static str, text: String| (word, None, Vec::new(), text);
        match command {
            Command::Act { kind, reason } => {
                let vm = kind.vm().map(ElementId::Vm);
                ("act", None, vm.into_iter().collect(), format!("{}, because {reason}", self.deed(kind)))
            }
            Command::Maintenance { host, on } => {
                let text = format!("{host} {} maintenance", if *on { "into" } else { "out of" });
                ("maintenance", None, vec![ElementId::Host(host.clone())], text)
            }
            Command::Disarm { cancel } => {
                plain("disarm", format!("disarm the plane{}", if *cancel { " and cancel what runs" } else { "" }))
            }
            Command::Adjust { settings } => plain("adjust", format!("the configuration, read again: {settings}")),
            Command::Audit { deed } => {
                let word = match deed {
                    Deed::CreateToken { .. } => "create_token",
                    Deed::RevokeToken { .. } => "revoke_token",
                    Deed::Backup => "backup",
                };
                plain(word, deed.to_string())
            }
            Command::Arm => plain("arm", "arm the plane".to_owned()),
            Command::Approve { action, reason } => settled("approve", *action, reason.as_ref()),
            Command::Reject { action, reason, .. } => settled("reject", *action, reason.as_ref()),
            Command::Lift { action, reason } => settled("lift", *action, reason.as_ref()),
            Command::Cancel { action, reason } => settled("cancel", *action, reason.as_ref()),
            Command::Manage { vms, mode } => {
                let elements = vms.iter().copied().map(ElementId::Vm).collect();
                ("manage", None, elements, format!("{} into mode {mode}", self.guests(vms)))
            }
            Command::LoadModule { file, manifest, policies } => {
                plain("load_module", format!("load {file} (sha256 {})", digest(manifest, policies).short()))
            }
            Command::DeclareModule { file, texts: Some((manifest, policies)) } => plain(
                "declare_module",
                format!("{file} in the folder of modules (sha256 {})", digest(manifest, policies).short()),
            ),
            Command::DeclareModule { file, texts: None } => {
                plain("declare_module", format!("{file} is gone from the folder of modules"))
            }
            Command::UnloadModule { module } => plain("unload_module", format!("unload module {module}")),
            Command::ModuleMode { module, mode } => plain("module_mode", format!("module {module} into mode {mode}")),
            Command::RollBack { module } => plain("roll_back", format!("module {module} back to the version before")),
            Command::Unsuspend { embot } => {
                ("unsuspend", None, vec![embot.element.clone()], format!("let embot {embot} step again"))
            }
            Command::CancelMigration { migration } => plain("cancel_migration", format!("cancel migration {migration}")),
            Command::ResolveMigration { migration, owner, fenced } => {
                plain("resolve_migration", format!("migration {migration}: plane {owner} owns the guest, {fenced} is fenced"))
            }
        }
    }

    fn guests(&self, vms: &[VmId]) -> String {
        if vms.is_empty() {
            return "all guests".to_owned();
        }
        let world = self.world.borrow();
        let names: Vec<String> = vms.iter().take(NAMED).map(|vm| world.label(&ElementId::Vm(*vm))).collect();
        match vms.len().saturating_sub(NAMED) {
            0 => names.join(", "),
            more => format!("{} and {more} more", names.join(", ")),
        }
    }

    /// What is done, to whom, where to.
    pub(super) fn deed(&self, kind: &ActionKind) -> String {
        let mut text = kind.verb().to_string();
        if let Some(vm) = kind.vm() {
            let _ = write!(text, " {}", self.world.borrow().label(&ElementId::Vm(vm)));
        }
        let _ = match kind {
            ActionKind::Migrate { to: Some(host), .. } => write!(text, " to {host}"),
            ActionKind::Define { host, .. } => write!(text, " on {host}"),
            ActionKind::Handover { plane, host, .. } => {
                write!(text, " to {plane}{}", host.as_ref().map(|host| format!("/{host}")).unwrap_or_default())
            }
            ActionKind::SetVcpus { vcpus, .. } => write!(text, " to {vcpus}"),
            ActionKind::SetMemory { memory_mib, .. } | ActionKind::Balloon { memory_mib, .. } => {
                write!(text, " to {memory_mib} MiB")
            }
            ActionKind::Notify { text: told, .. } => write!(text, ": {told}"),
            _ => Ok(()),
        };
        text
    }
}
