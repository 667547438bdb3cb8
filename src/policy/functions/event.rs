//! The event being handled.

use crate::model::{Event, EventBody, EventKind, Value};
use crate::policy::context::{Outcome, complaint};
use crate::policy::state::to_dynamic;
use rhai::{Dynamic, Engine};
use std::collections::BTreeSet;
use std::rc::Rc;

/// The event; shared, since a handler that takes it pays for one copy of it as it is.
#[derive(Debug, Clone)]
pub(in crate::policy) struct EventView(pub(in crate::policy) Rc<Event>);

pub(super) fn register_view(engine: &mut Engine) {
    engine.register_type_with_name::<EventView>("event");
    for name in ["to_string", "to_debug"] {
        engine.register_fn(name, |event: &mut EventView| format!("{} of {}", event.0.body.kind().name, event.0.element));
    }
}

pub(super) fn register(engine: &mut Engine) {
    engine.register_get("at", |event: &mut EventView| event.0.at.0);
    engine.register_get("kind", |event: &mut EventView| event.0.body.kind().name);
    engine.register_get("element", |event: &mut EventView| event.0.element.to_string());
    let names: BTreeSet<&'static str> = EventKind::ALL.iter().flat_map(|kind| kind.fields).map(|(name, _)| *name).collect();
    for name in names {
        engine.register_get(name, move |event: &mut EventView| -> Outcome<Dynamic> {
            field(&event.0.body, name).map_or_else(|| missing(&event.0, name), |value| Ok(to_dynamic(&value)))
        });
    }
}

/// A field of an event; `None` where its kind lacks it.
fn field(body: &EventBody, name: &str) -> Option<Value> {
    let text = |text: &dyn ToString| Some(Value::Text(text.to_string()));
    let number = |number: u64| Some(Value::Int(i64::try_from(number).unwrap_or(i64::MAX)));
    match (body, name) {
        (
            EventBody::Started(reason)
            | EventBody::Stopped(reason)
            | EventBody::Crashed(reason)
            | EventBody::Paused(reason)
            | EventBody::Resumed(reason),
            "reason",
        ) => text(reason),
        (EventBody::Migrated { from, .. }, "from") => text(from),
        (EventBody::Migrated { to, .. }, "to") => text(to),
        (EventBody::Balloon { memory_mib }, "memory_mib") => number(*memory_mib),
        (EventBody::Watchdog { action }, "action") => text(action),
        (EventBody::IoError { reason } | EventBody::HostDown(reason), "reason") => text(reason),
        (EventBody::Agent(state), "connected") => Some(Value::Bool(*state == crate::model::AgentState::Connected)),
        (EventBody::Conflict(mark), "plane") => text(&mark.plane),
        (EventBody::Conflict(mark), "epoch") => number(mark.epoch),
        (EventBody::Maintenance { on }, "on") => Some(Value::Bool(*on)),
        (EventBody::Timer { name, .. }, "name") => text(name),
        (EventBody::Timer { content, .. } | EventBody::Message { content, .. }, "content") => Some(content.clone()),
        (EventBody::Message { from, .. }, "from") => text(from),
        (EventBody::Message { channel, .. }, "channel") => text(channel),
        (EventBody::ActionDone(action) | EventBody::ActionFailed { action, .. }, "action") => number(action.0),
        (EventBody::ActionFailed { reason, .. }, "reason") => text(reason),
        (EventBody::MigrationOffer(offer), "from") => text(&offer.plane),
        _ => None,
    }
}

fn missing<T>(event: &Event, name: &str) -> Outcome<T> {
    let kind = event.body.kind();
    let fields: Vec<&str> = ["at", "kind", "element"].into_iter().chain(kind.fields.iter().map(|(name, _)| *name)).collect();
    complaint(format!("an event `{}` has no field `{name}`; it has {}", kind.name, fields.join(", ")))
}
