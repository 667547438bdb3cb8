//! A host, as a script reads it.

use super::vm;
use crate::model::{ElementId, Host, HostId, HostLoad, Timestamp, Value};
use crate::policy::context::{Context, Outcome, unknown_host};
use crate::policy::step::What;
use rhai::{Dynamic, Engine};
use std::rc::Rc;

/// A host by its name: each property is looked up when it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::policy) struct HostView(pub(in crate::policy) HostId);

/// A property's name and how it is read.
type Property = (&'static str, fn(&Host) -> Value);

pub(super) fn register_view(engine: &mut Engine) {
    engine.register_type_with_name::<HostView>("host");
    for name in ["to_string", "to_debug"] {
        engine.register_fn(name, |host: &mut HostView| host.0.to_string());
    }
    engine.register_fn("==", |left: HostView, right: HostView| left == right);
    engine.register_fn("!=", |left: HostView, right: HostView| left != right);
}

pub(super) fn register(engine: &mut Engine, context: &Rc<Context>) {
    let properties: [Property; 13] = [
        ("site", |host| Value::Text(host.site.to_string())),
        ("labels", |host| vm::labels(&host.labels)),
        ("cpus", |host| Value::Int(host.capacity.cpus.into())),
        ("memory_mib", |host| vm::mib(host.capacity.memory_mib)),
        ("cpu", |host| sampled(host, Host::cpu)),
        ("cpu_cores", |host| sampled(host, |host| host.load.cpu_cores.into())),
        ("cpu_wait", |host| sampled(host, |host| f64::from(host.load.cpu_wait_cores) / f64::from(host.capacity.cpus.max(1)))),
        ("memory", |host| sampled(host, Host::memory)),
        ("memory_used_mib", |host| sampled(host, |host| host.load.memory_used_mib.into())),
        ("memory_shared_mib", |host| sampled(host, |host| host.load.memory_shared_mib.map_or(f64::NAN, f64::from))),
        ("up", |host| Value::Bool(host.is_up())),
        ("maintenance", |host| Value::Bool(host.in_maintenance())),
        ("asleep", |host| Value::Bool(host.load.asleep == Some(true))),
    ];
    for (name, look) in properties {
        let here = context.clone();
        engine.register_get(name, move |host: &mut HostView| here.host(&host.0, name, look));
    }
    engine.register_get("name", |host: &mut HostView| host.0.to_string());
    let here = context.clone();
    engine.register_get("vms", move |host: &mut HostView| -> Outcome<Dynamic> {
        let world = here.world.borrow();
        vm::list(&here, host.0.as_str(), world.vms_on(&host.0).map(|vm| vm.id).collect())
    });
    let here = context.clone();
    engine.register_get("busy", move |host: &mut HostView| -> Outcome<i64> {
        let world = here.world.borrow();
        let Some(found) = world.host(&host.0) else { return unknown_host(&host.0) };
        here.charge(world.open.len() as u64 / 4)?;
        let busy = world.open.keys().filter(|vm| found.vms.contains(vm)).count() as i64;
        here.note(ElementId::Host(host.0.clone()), What::Property("busy"), Value::Int(busy));
        Ok(busy)
    });
    let here = context.clone();
    engine.register_fn("label", move |host: &mut HostView, key: &str| -> Outcome<String> {
        let world = here.world.borrow();
        let Some(found) = world.host(&host.0) else { return unknown_host(&host.0) };
        let text = found.labels.get(key).map_or(String::new(), |text| text.to_string());
        here.note(ElementId::Host(host.0.clone()), What::Label(key.to_owned()), Value::Text(text.clone()));
        Ok(text)
    });
}

/// A figure of the host's latest sample; unknown where there was none yet.
fn sampled(host: &Host, figure: impl FnOnce(&Host) -> f64) -> Value {
    let never = host.load_at == Timestamp::default() && host.load == HostLoad::default();
    Value::Float(if never { f64::NAN } else { figure(host) })
}
