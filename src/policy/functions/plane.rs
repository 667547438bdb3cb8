//! The plane: the way to all hosts and guests.

use super::{HostView, VmView, vm};
use crate::model::{Affinity, ElementId, HostId, Value, VmId};
use crate::policy::context::{Context, Outcome, complaint};
use crate::policy::step::What;
use rhai::{Array, Dynamic, Engine, Map};
use std::rc::Rc;

/// The plane. There is but one, so there is nothing to remember.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) struct PlaneView;

pub(super) fn register_view(engine: &mut Engine, context: &Rc<Context>) {
    engine.register_type_with_name::<PlaneView>("plane");
    for name in ["to_string", "to_debug"] {
        let here = context.clone();
        engine.register_fn(name, move |_: &mut PlaneView| here.world.borrow().plane.to_string());
    }
}

pub(super) fn register(engine: &mut Engine, context: &Rc<Context>) {
    let here = context.clone();
    engine.register_get("name", move |_: &mut PlaneView| here.world.borrow().plane.to_string());
    let here = context.clone();
    engine.register_get("armed", move |_: &mut PlaneView| {
        let armed = here.world.borrow().armed;
        here.note(ElementId::Plane, What::Property("armed"), Value::Bool(armed));
        armed
    });
    let here = context.clone();
    engine.register_get("hosts", move |_: &mut PlaneView| -> Outcome<Array> {
        let world = here.world.borrow();
        let hosts: Array = world.hosts().map(|host| Dynamic::from(HostView(host.id.clone()))).collect();
        here.charge(hosts.len() as u64)?;
        if hosts.len() > here.limits.array {
            return complaint(format!(
                "the plane has {} hosts, more than the {} a list may hold; use a module that covers each host",
                hosts.len(),
                here.limits.array
            ));
        }
        Ok(hosts)
    });
    let here = context.clone();
    engine.register_get("vms", move |_: &mut PlaneView| -> Outcome<Dynamic> {
        let world = here.world.borrow();
        here.charge(world.vm_count() as u64 / 8)?;
        vm::list(&here, "the plane", world.vms().map(|vm| vm.id).collect())
    });
    let here = context.clone();
    engine.register_get("violations", move |_: &mut PlaneView| violations(&here));
    let here = context.clone();
    engine.register_fn("host", move |_: &mut PlaneView, name: &str| {
        let id = HostId::from(name);
        let known = here.world.borrow().host(&id).is_some();
        if known { Dynamic::from(HostView(id)) } else { Dynamic::UNIT }
    });
    let here = context.clone();
    engine.register_fn("vm", move |_: &mut PlaneView, name: &str| find(&here, name));
}

fn violations(context: &Context) -> Outcome<Array> {
    let world = context.world.borrow();
    context.charge(world.vm_count() as u64)?;
    let violations = world.violations();
    context.note(ElementId::Plane, What::Property("violations"), Value::Int(violations.len() as i64));
    let row = |violation: crate::model::Violation| {
        let kind = match violation.kind {
            Affinity::Together => "together",
            Affinity::Apart => "apart",
        };
        let mut map = Map::new();
        map.insert("rule".into(), violation.rule.to_string().into());
        map.insert("kind".into(), kind.into());
        map.insert("hard".into(), violation.hard.into());
        map.insert("vms".into(), vm::list(context, &format!("the rule {}", violation.rule), violation.vms)?);
        Ok(Dynamic::from_map(map))
    };
    violations.into_iter().map(row).collect()
}

/// A guest by its UUID, or else by its name.
fn find(context: &Context, name: &str) -> Outcome<Dynamic> {
    let world = context.world.borrow();
    if let Ok(ElementId::Vm(id)) = format!("vm:{name}").parse()
        && world.vm(id).is_some()
    {
        return Ok(Dynamic::from(VmView(id)));
    }
    context.charge(world.vm_count() as u64 / 8)?;
    let found: Vec<VmId> = world.vms_named(name).map(|vm| vm.id).take(2).collect();
    match found[..] {
        [] => Ok(Dynamic::UNIT),
        [id] => Ok(Dynamic::from(VmView(id))),
        _ => complaint(format!("several guests are named `{name}`; give the UUID of the one that is meant")),
    }
}
