//! A guest, as a script reads it.

use super::HostView;
use crate::model::{ElementId, Value, Vm, VmId, VmState};
use crate::policy::context::{Context, Outcome, complaint, gone, known};
use crate::policy::step::What;
use rhai::{Array, Dynamic, Engine};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// A guest by its identity: each property is looked up when it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) struct VmView(pub(in crate::policy) VmId);

/// A property's name and how it is read.
type Property = (&'static str, fn(&Vm) -> Value);

pub(super) fn register_view(engine: &mut Engine, context: &Rc<Context>) {
    engine.register_type_with_name::<VmView>("vm");
    for name in ["to_string", "to_debug"] {
        let here = context.clone();
        engine.register_fn(name, move |vm: &mut VmView| here.world.borrow().label(&ElementId::Vm(vm.0)));
    }
    engine.register_fn("==", |left: VmView, right: VmView| left == right);
    engine.register_fn("!=", |left: VmView, right: VmView| left != right);
}

pub(super) fn register(engine: &mut Engine, context: &Rc<Context>) {
    let properties: [Property; 22] = [
        ("state", |vm| Value::Text(vm.state.to_string())),
        ("reason", |vm| Value::Text(vm.reason.to_string())),
        ("since", |vm| Value::Int(vm.since.0)),
        ("vcpus", |vm| Value::Int(vm.vcpus.into())),
        ("memory_mib", |vm| mib(vm.memory_mib)),
        ("balloon_mib", |vm| mib(vm.balloon_mib)),
        ("cpu", |vm| share(vm.load.cpu_cores, f64::from(vm.vcpus))),
        ("cpu_cores", |vm| known(vm.load.cpu_cores)),
        ("cpu_wait", |vm| share(vm.load.cpu_wait_cores, f64::from(vm.vcpus))),
        ("memory", |vm| share(vm.load.memory_used_mib, vm.balloon_mib as f64)),
        ("memory_used_mib", |vm| known(vm.load.memory_used_mib)),
        ("disk", |vm| known(vm.load.disk_bytes_per_s)),
        ("iops", |vm| known(vm.load.disk_iops)),
        ("net", |vm| known(vm.load.net_bytes_per_s)),
        ("agent", |vm| Value::Bool(vm.agent)),
        ("autostart", |vm| Value::Bool(vm.autostart)),
        ("persistent", |vm| Value::Bool(vm.persistent)),
        ("labels", |vm| labels(&vm.labels)),
        ("mode", |vm| Value::Text(vm.mode.to_string())),
        ("running", |vm| Value::Bool(vm.state == VmState::Running)),
        ("disks", |vm| texts(&vm.disks)),
        ("nics", |vm| texts(&vm.nics)),
    ];
    for (name, look) in properties {
        let here = context.clone();
        engine.register_get(name, move |vm: &mut VmView| here.vm(vm.0, name, look));
    }
    engine.register_get("id", |vm: &mut VmView| vm.0.to_string());
    let here = context.clone();
    engine.register_get("name", move |vm: &mut VmView| -> Outcome<String> {
        let world = here.world.borrow();
        world.vm(vm.0).map_or_else(|| gone(vm.0), |found| Ok(found.name.to_string()))
    });
    let here = context.clone();
    engine.register_get("host", move |vm: &mut VmView| -> Outcome<HostView> {
        let world = here.world.borrow();
        world.vm(vm.0).map_or_else(|| gone(vm.0), |found| Ok(HostView(found.host.clone())))
    });
    let here = context.clone();
    engine.register_get("busy", move |vm: &mut VmView| {
        let busy = here.world.borrow().open.contains_key(&vm.0);
        here.note(ElementId::Vm(vm.0), What::Property("busy"), Value::Bool(busy));
        busy
    });
    let here = context.clone();
    engine.register_get("advised", move |vm: &mut VmView| {
        let advised = here.world.borrow().advised.contains(&vm.0);
        here.note(ElementId::Vm(vm.0), What::Property("advised"), Value::Bool(advised));
        advised
    });
    let here = context.clone();
    engine.register_fn("label", move |vm: &mut VmView, key: &str| -> Outcome<String> {
        let world = here.world.borrow();
        let Some(found) = world.vm(vm.0) else { return gone(vm.0) };
        let text = found.labels.get(key).map_or(String::new(), |text| text.to_string());
        here.note(ElementId::Vm(vm.0), What::Label(key.to_owned()), Value::Text(text.clone()));
        Ok(text)
    });
}

/// A list of views, where a script's list may hold so many.
pub(super) fn list(context: &Context, whose: &str, vms: Vec<VmId>) -> Outcome<Dynamic> {
    context.charge(vms.len() as u64)?;
    if vms.len() > context.limits.array {
        return complaint(format!(
            "{whose} has {} guests, more than the {} a list may hold; go by host: `for host in plane.hosts {{ for vm in host.vms {{ ... }} }}`",
            vms.len(),
            context.limits.array
        ));
    }
    Ok(Dynamic::from_array(vms.into_iter().map(|vm| Dynamic::from(VmView(vm))).collect::<Array>()))
}

fn share(part: Option<f32>, whole: f64) -> Value {
    Value::Float(part.map_or(f64::NAN, |part| f64::from(part) / whole.max(1.0)))
}

pub(super) fn mib(memory_mib: u64) -> Value {
    Value::Int(i64::try_from(memory_mib).unwrap_or(i64::MAX))
}

pub(super) fn labels(labels: &BTreeMap<Arc<str>, Arc<str>>) -> Value {
    Value::Map(labels.iter().map(|(key, text)| (key.to_string(), Value::Text(text.to_string()))).collect())
}

fn texts(texts: &[Arc<str>]) -> Value {
    Value::Array(texts.iter().map(|text| Value::Text(text.to_string())).collect())
}
