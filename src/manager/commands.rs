//! What admins ask, and what they are answered. The answer leaves when the command is durable.

use super::{Manager, Output};
use crate::model::{ActionId, ActionState, Command, ElementId, EventBody, Mode, Reply, Ticket, VmId};
use std::sync::Arc;

/// Of many guests that an admin named, so many are told why they cannot be managed; the rest is counted.
const TROUBLE_TOLD: usize = 20;

impl Manager {
    pub(super) fn command(&mut self, command: &Command, by: &Arc<str>, ticket: Option<Ticket>) {
        let reply = match self.obey(command, by) {
            Ok((message, actions)) => Reply::Done { message, actions },
            Err(reason) => Reply::Refused { reason },
        };
        self.audit_command(command, by, &reply);
        if let Some(ticket) = ticket {
            self.turn.outputs.push(Output::Reply(ticket, reply));
        }
    }

    fn obey(&mut self, command: &Command, by: &Arc<str>) -> Result<(String, Vec<ActionId>), String> {
        let only = |message: String| (message, Vec::new());
        match command {
            Command::Act { kind, reason } => {
                self.must_be_settled()?;
                let actions = self.act_for_admin(kind.clone(), reason.clone(), by)?;
                Ok((format!("{} is planned", kind.verb()), actions))
            }
            Command::Maintenance { host, on } => self.maintenance(host, *on).map(only),
            Command::Disarm { cancel } => Ok(self.disarm(*cancel, by)),
            Command::Arm => {
                let was = std::mem::replace(&mut self.world.borrow_mut().armed, true);
                self.row.armed = true;
                self.looks_for_unmarked = true;
                Ok(only(if was { "the plane is armed already" } else { "the plane is armed: it acts again" }.into()))
            }
            Command::Approve { action, reason } => {
                self.approve(*action, by, reason.as_ref()).map(|id| (format!("action {id} is approved"), vec![id]))
            }
            Command::Reject { action, reason, rest } => {
                self.reject(*action, by, reason.as_ref(), *rest).map(|id| (format!("action {id} is rejected"), vec![id]))
            }
            Command::Lift { action, reason } => self.lift(*action, by, reason.as_ref()).map(only),
            Command::Cancel { action, reason } => {
                self.cancel(*action, by, reason.as_ref()).map(|id| (format!("action {id} is being cancelled"), vec![id]))
            }
            Command::Manage { vms, mode } => {
                if *mode > Mode::Observe {
                    self.must_be_settled()?;
                }
                self.manage(vms, *mode, by)
            }
            Command::LoadModule { file, manifest, policies } => self.load_module(file, manifest, policies, by, None).map(only),
            Command::DeclareModule { file, texts: Some((manifest, policies)) } => {
                self.declare_module(file, manifest, policies, by).map(only)
            }
            Command::DeclareModule { file, texts: None } => Ok(only(self.undeclare_module(file))),
            Command::UnloadModule { module } => self.unload_module(module).map(only),
            Command::ModuleMode { module, mode } => self.module_mode(module, *mode).map(only),
            Command::RollBack { module } => self.roll_back(module, by).map(only),
            Command::CancelMigration { migration } => self.cancel_migration(migration, by).map(only),
            Command::ResolveMigration { migration, owner, fenced } => {
                self.resolve_migration(migration, owner, fenced, by).map(only)
            }
            Command::Adjust { settings } => self.adjust(settings).map(only),
            Command::Audit { deed } => Ok(only(deed.to_string())),
            Command::Unsuspend { embot } => {
                let Some(found) = self.roster.embot_mut(embot) else {
                    return Err(format!("there is no embot `{embot}`; `embot modules show {}` lists them", embot.module));
                };
                found.unsuspend();
                found.dirty = false;
                self.turn.embots.extend(self.roster.slot(embot));
                // What it slept through is past; this is where it takes up its timers again.
                self.event(self.now, embot.element.clone(), Some(embot.clone()), EventBody::Loaded);
                Ok(only(format!("{embot} steps again")))
            }
        }
    }

    pub(super) fn must_be_settled(&self) -> Result<(), String> {
        if self.is_settled() {
            return Ok(());
        }
        let hosts: Vec<String> = self.awaited.iter().map(ToString::to_string).collect();
        let actions: Vec<String> = self.unreconciled.iter().map(ToString::to_string).collect();
        Err(format!(
            "the plane has just started and still finds out what is true (hosts not heard of: {}; actions of unknown fate: {}); try \
             again in a few seconds",
            if hosts.is_empty() { "none".into() } else { hosts.join(", ") },
            if actions.is_empty() { "none".into() } else { actions.join(", ") },
        ))
    }

    fn disarm(&mut self, cancel: bool, by: &Arc<str>) -> (String, Vec<ActionId>) {
        self.world.borrow_mut().armed = false;
        self.row.armed = false;
        let running: Vec<ActionId> =
            self.open.values().filter(|action| action.state.is_open()).map(|action| action.id).collect();
        // What no effector has begun is not running yet; it is withdrawn.
        let waiting = |id: &ActionId| self.open.get(id).is_some_and(|action| action.state == ActionState::Planned);
        let (waiting, running): (Vec<ActionId>, Vec<ActionId>) = running.into_iter().partition(waiting);
        for id in waiting {
            self.withdraw(id, by);
        }
        if cancel {
            for id in &running {
                self.settled(*id, "cancelling", by, None);
                self.withdraw(*id, by);
            }
        }
        let rest = match (running.len(), cancel) {
            (0, _) => "nothing was running".to_owned(),
            (n, true) => format!("{n} running actions are being cancelled"),
            (n, false) => format!("{n} running actions go on to their end (`embot disarm --cancel` ends them)"),
        };
        (
            format!("the plane is disarmed: it starts nothing until `embot arm`; {rest}"),
            if cancel { running } else { Vec::new() },
        )
    }

    fn manage(&mut self, vms: &[VmId], mode: Mode, by: &Arc<str>) -> Result<(String, Vec<ActionId>), String> {
        let all: Vec<VmId> = if vms.is_empty() { self.world.borrow().vms().map(|vm| vm.id).collect() } else { vms.to_vec() };
        let (mut actions, mut trouble) = (Vec::new(), Vec::new());
        let (mut ready, mut unmarked) = (Vec::new(), Vec::new());
        for vm in all {
            let world = self.world.borrow();
            let Some(guest) = world.vm(vm) else {
                trouble.push(format!("there is no guest {vm}"));
                continue;
            };
            match self.runs_once(vm) {
                _ if mode == Mode::Observe => ready.push(vm),
                _ if self.restoration.awaits(vm) => trouble.push(format!(
                    "{}: its mark has not been read since the plane was restored from a backup; its host {} must answer first",
                    guest.name, guest.host
                )),
                Err(why) => trouble.push(why),
                Ok(()) if guest.epoch_of(&world.plane).is_none() => unmarked.push(vm),
                Ok(()) => ready.push(vm),
            }
        }
        if !unmarked.is_empty() {
            // One decision for all: what has to be looked at for each would be looked at for each of them again.
            let plan = self.mark(&unmarked, by, "an admin put it under management");
            actions.extend(plan.accepted.iter().map(|action| action.id));
            ready.extend(plan.accepted.iter().filter_map(|action| action.proposal.kind.vm()));
            for refusal in plan.refused {
                let name = refusal.proposal.kind.vm().map(|vm| self.world.borrow().label(&ElementId::Vm(vm)));
                // Most reasons begin with the guest's name already.
                let name = name.filter(|name| !refusal.reason.starts_with(name.as_str()));
                trouble.push(name.map_or(refusal.reason.clone(), |name| format!("{name}: {}", refusal.reason)));
            }
        }
        let managed = ready.len();
        for vm in ready {
            self.confirmed(vm);
            self.world.borrow_mut().edit_vm(vm, |vm| vm.mode = mode);
        }
        if trouble.len() > TROUBLE_TOLD {
            let more = trouble.split_off(TROUBLE_TOLD).len();
            trouble.push(format!("{more} more"));
        }
        if managed == 0 && !trouble.is_empty() {
            return Err(trouble.join("; "));
        }
        let but = if trouble.is_empty() { String::new() } else { format!("; but not {}", trouble.join("; ")) };
        Ok((format!("{managed} guests are in mode {mode}{but}"), actions))
    }
}
