//! Proposals: what a script wants done to a guest. Nothing happens here; a draft is put on the step's sheet.

use super::{HostView, PeerView, VmView};
use crate::model::{ActionKind, HostId, Place, VmId};
use crate::policy::context::{Context, Outcome, complaint, gone, span};
use crate::policy::limits::Stop;
use crate::policy::step::{Draft, Sheet};
use rhai::{Engine, NativeCallContext};
use std::rc::Rc;
use std::sync::Arc;

/// A reason is cut after so many characters.
const REASON_CHARACTERS: usize = 500;

/// A proposal that needs nothing but a guest and a reason: its name and what it is.
type Simple = (&'static str, fn(VmId) -> ActionKind);

pub(super) fn register(engine: &mut Engine, context: &Rc<Context>) {
    let simple: [Simple; 8] = [
        ("start", |vm| ActionKind::Start { vm }),
        ("shutdown", |vm| ActionKind::Shutdown { vm, force_after: None }),
        ("destroy", |vm| ActionKind::Destroy { vm }),
        ("reset", |vm| ActionKind::Reset { vm }),
        ("suspend", |vm| ActionKind::Suspend { vm }),
        ("resume", |vm| ActionKind::Resume { vm }),
        ("save", |vm| ActionKind::Save { vm }),
        ("restore", |vm| ActionKind::Restore { vm }),
    ];
    for (name, kind) in simple {
        let here = context.clone();
        engine.register_fn(name, move |call: NativeCallContext, vm: &mut VmView, reason: &str| {
            draft(&here, &call, kind(vm.0), reason)
        });
    }
    let here = context.clone();
    engine.register_fn("shutdown", move |call: NativeCallContext, vm: &mut VmView, ms: i64, reason: &str| {
        draft(&here, &call, ActionKind::Shutdown { vm: vm.0, force_after: Some(span(ms)?) }, reason)
    });
    let here = context.clone();
    engine.register_fn("migrate", move |call: NativeCallContext, vm: &mut VmView, reason: &str| {
        migrate(&here, &call, vm.0, None, reason)
    });
    let here = context.clone();
    engine.register_fn("migrate_to", move |call: NativeCallContext, vm: &mut VmView, to: HostView, reason: &str| {
        migrate(&here, &call, vm.0, Some(to.0), reason)
    });
    let here = context.clone();
    engine.register_fn("migrate_to", move |call: NativeCallContext, vm: &mut VmView, to: &str, reason: &str| {
        migrate(&here, &call, vm.0, Some(HostId::from(to)), reason)
    });
    let here = context.clone();
    engine.register_fn("migrate_to", move |call: NativeCallContext, vm: &mut VmView, to: PeerView, reason: &str| {
        hand_over(&here, &call, vm.0, to, None, reason)
    });
    let here = context.clone();
    engine.register_fn(
        "migrate_to",
        move |call: NativeCallContext, vm: &mut VmView, to: PeerView, host: &str, reason: &str| {
            hand_over(&here, &call, vm.0, to, Some(HostId::from(host)), reason)
        },
    );
    let here = context.clone();
    engine.register_fn("set_vcpus", move |call: NativeCallContext, vm: &mut VmView, count: i64, reason: &str| {
        let Some(vcpus) = u32::try_from(count).ok().filter(|count| *count > 0) else {
            return complaint(format!("a guest needs at least one processor, not {count}"));
        };
        draft(&here, &call, ActionKind::SetVcpus { vm: vm.0, vcpus }, reason)
    });
    let here = context.clone();
    engine.register_fn("set_memory", move |call: NativeCallContext, vm: &mut VmView, mib: i64, reason: &str| {
        draft(&here, &call, ActionKind::SetMemory { vm: vm.0, memory_mib: memory(mib)? }, reason)
    });
    let here = context.clone();
    engine.register_fn("balloon", move |call: NativeCallContext, vm: &mut VmView, mib: i64, reason: &str| {
        draft(&here, &call, ActionKind::Balloon { vm: vm.0, memory_mib: memory(mib)? }, reason)
    });
}

fn memory(mib: i64) -> Outcome<u64> {
    match u64::try_from(mib) {
        Ok(mib) if mib > 0 => Ok(mib),
        _ => complaint(format!("memory is a number of MiB above 0, not {mib}")),
    }
}

/// A guest that runs moves while it runs; one that is off is only defined elsewhere.
fn migrate(context: &Context, call: &NativeCallContext, vm: VmId, to: Option<HostId>, reason: &str) -> Outcome<()> {
    let live = {
        let world = context.world.borrow();
        if let Some(to) = to.as_ref().filter(|to| world.host(to).is_none()) {
            return complaint(format!("the plane has no host `{to}`"));
        }
        let Some(guest) = world.vm(vm) else { return gone(vm) };
        guest.is_active()
    };
    draft(context, call, ActionKind::Migrate { vm, to, live }, reason)
}

/// A guest that runs is handed over while it runs; one that is off is only defined elsewhere.
fn hand_over(
    context: &Context,
    call: &NativeCallContext,
    vm: VmId,
    to: PeerView,
    host: Option<HostId>,
    reason: &str,
) -> Outcome<()> {
    let live = {
        let world = context.world.borrow();
        let Some(guest) = world.vm(vm) else { return gone(vm) };
        guest.is_active()
    };
    draft(context, call, ActionKind::Handover { vm, plane: to.0, host, live, force_after: None }, reason)
}

/// Puts a proposal on the step's sheet.
pub(super) fn draft(context: &Context, call: &NativeCallContext, kind: ActionKind, reason: &str) -> Outcome<()> {
    context.now(kind.verb().name())?;
    if reason.trim().is_empty() {
        return complaint("a proposal needs a reason: admins read it in `embot explain`");
    }
    let mut sheet = context.sheet.borrow_mut();
    if sheet.proposals.len() >= context.limits.proposals {
        return context.stop(Stop::Proposals, call.call_position());
    }
    let place = place(&sheet, call);
    sheet.proposals.push(Draft { kind, reason: shortened(reason), place });
    Ok(())
}

/// Where in the script a call stands.
pub(super) fn place(sheet: &Sheet, call: &NativeCallContext) -> Place {
    let at = call.call_position();
    Place { file: sheet.file.clone(), line: at.line().unwrap_or(0) as u32, column: at.position().unwrap_or(0) as u32 }
}

/// A reason as it is kept.
pub(super) fn shortened(reason: &str) -> Arc<str> {
    Arc::from(reason.chars().take(REASON_CHARACTERS).collect::<String>())
}
