//! What scripts call: one file for each topic. Each registers what [`super::surface`] lists for it, and nothing else.

pub(super) mod bounded;
mod event;
mod host;
mod message;
mod offer;
#[cfg(test)]
mod offer_tests;
mod peer;
mod plane;
mod propose;
mod time;
mod trial;
mod usage;
mod value;
mod vm;

pub(super) use event::EventView;
pub(super) use host::HostView;
pub(super) use offer::{LIMITS, OfferView};
pub(super) use peer::PeerView;
pub(super) use plane::PlaneView;
pub(super) use vm::VmView;

use super::context::Context;
use rhai::Engine;
use std::rc::Rc;

/// Registers the whole surface.
pub(super) fn register(engine: &mut Engine, context: &Rc<Context>) {
    register_views(engine, context);
    time::register(engine, context);
    vm::register(engine, context);
    host::register(engine, context);
    plane::register(engine, context);
    usage::register(engine, context);
    event::register(engine);
    propose::register(engine, context);
    message::register(engine, context);
    peer::register(engine, context);
    offer::register(engine, context);
    trial::register(engine, context);
    value::register(engine);
}

/// What scripts that test policies can call as well: what needs neither a world nor an event.
pub(super) fn register_common(engine: &mut Engine) {
    time::register_spans(engine);
    value::register(engine);
}

/// Names of the views, and how they print and compare: also for the engine in which lists of them are printed and searched.
pub(super) fn register_views(engine: &mut Engine, context: &Rc<Context>) {
    vm::register_view(engine, context);
    host::register_view(engine);
    plane::register_view(engine, context);
    usage::register_view(engine);
    event::register_view(engine);
    peer::register_view(engine);
    offer::register_view(engine);
    trial::register_view(engine);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::offer;
    use crate::model::{ElementId, EventBody, EventKind};
    use crate::policy::State;
    use crate::policy::surface::{FUNCTIONS, TYPES, Type, event_field};
    use crate::policy::testing::{Bench, event};
    use std::any::TypeId;
    use std::collections::BTreeSet;

    /// On what, name, number of parameters (that on which it is called not counted).
    type Entry = (&'static str, String, usize);

    fn listed() -> BTreeSet<Entry> {
        let mut listed = BTreeSet::new();
        for table in TYPES.iter().filter(|table| table.kind != Type::Settings) {
            listed.extend(table.properties.iter().map(|property| (table.name, format!("get${}", property.name), 0)));
            listed.extend(table.methods.iter().map(|method| (table.name, method.name.to_owned(), method.parameters.len())));
        }
        let fields = EventKind::ALL.iter().flat_map(|kind| kind.fields);
        listed.extend(fields.map(|(name, _)| ("event", format!("get${name}"), 0)));
        listed.extend(FUNCTIONS.iter().map(|function| ("", function.name.to_owned(), function.parameters.len())));
        listed
    }

    fn registered(bench: &Bench) -> BTreeSet<Entry> {
        let mut engine = Engine::new_raw();
        register(&mut engine, bench.engine.context());
        let views = [
            (TypeId::of::<VmView>(), "vm"),
            (TypeId::of::<HostView>(), "host"),
            (TypeId::of::<PlaneView>(), "plane"),
            (TypeId::of::<EventView>(), "event"),
            (usage::type_id(), "usage"),
            (TypeId::of::<PeerView>(), "peer"),
            (TypeId::of::<OfferView>(), "offer"),
            (offer::module_type_id(), "module"),
        ];
        let views: Vec<_> = views.into_iter().chain(trial::type_ids()).collect();
        let entry = |function: rhai::FuncInfo| {
            let types = &function.metadata.param_types;
            let view = types.first().and_then(|first| views.iter().find(|(id, _)| id == first)).map(|(_, name)| *name);
            let parameters = types.len() - usize::from(view.is_some());
            Some((view.unwrap_or(""), function.metadata.name.to_string(), parameters))
        };
        let common = ["to_string", "to_debug", "==", "!="];
        engine.collect_fn_metadata(None, entry, true).into_iter().filter(|(_, name, _)| !common.contains(&&**name)).collect()
    }

    #[test]
    fn what_is_registered_is_listed_and_the_reverse() {
        let (listed, registered) = (listed(), registered(&Bench::new()));
        let unlisted: Vec<&Entry> = registered.difference(&listed).collect();
        let missing: Vec<&Entry> = listed.difference(&registered).collect();
        assert!(unlisted.is_empty() && missing.is_empty(), "not in the surface: {unlisted:?}; not registered: {missing:?}");
    }

    #[test]
    fn every_event_field_has_a_type() {
        for (name, _) in EventKind::ALL.iter().flat_map(|kind| kind.fields) {
            assert!(event_field(name).is_some(), "{name}");
        }
    }

    /// Calls everything in the table once, in the forms it promises, so that the types in it are those that are taken.
    #[test]
    fn everything_can_be_called_as_the_surface_says() {
        let bench = Bench::new();
        let example = |kind: Type, name: &str| match kind {
            Type::Text if name == "metric" => "\"cpu\"".to_owned(),
            Type::Text if name == "level" => "\"info\"".to_owned(),
            Type::Text | Type::Any => "\"text\"".to_owned(),
            Type::Int | Type::Number => "2".to_owned(),
            Type::Float => "0.5".to_owned(),
            Type::Span => "minutes(10)".to_owned(),
            Type::Map => "#{}".to_owned(),
            Type::HostOrText => "host".to_owned(),
            Type::Peer => "peer(\"b\")".to_owned(),
            Type::Host => "host".to_owned(),
            Type::Vm => "vm".to_owned(),
            Type::Array(Type::Vm) => "[vm]".to_owned(),
            Type::Hosts => "trial.hosts".to_owned(),
            Type::LoadTest => "limit(0.8)".to_owned(),
            other => panic!("no example of {other:?}"),
        };
        let call = |function: &crate::policy::surface::Function| {
            let arguments: Vec<String> =
                function.parameters.iter().map(|parameter| example(parameter.kind, parameter.name)).collect();
            format!("{}({})", function.name, arguments.join(", "))
        };
        let mut lines: Vec<String> = FUNCTIONS.iter().map(|function| format!("print({});", call(function))).collect();
        let mut answers = Vec::new();
        for table in TYPES {
            let (object, lines) = match table.kind {
                Type::Usage => ("vm.usage(\"cpu\")", &mut lines),
                Type::Peer => ("peer(\"b\")", &mut lines),
                Type::Offer => ("offer", &mut answers),
                Type::OfferedModule => ("offer.modules[0]", &mut answers),
                Type::Hosts => ("trial.hosts", &mut lines),
                Type::Move => ("trial.moves[0]", &mut lines),
                _ => (table.name, &mut lines),
            };
            lines.extend(table.properties.iter().map(|property| format!("print({object}.{});", property.name)));
            lines.extend(table.methods.iter().map(|method| format!("{object}.{};", call(method))));
        }
        let tried = "let trial = plane.trial(); trial.put(vm, plane.host(\"b\"));";
        for line in lines {
            let fault = bench.load(&format!("fn on_load(vm, host, plane, event, settings) {{ {tried} {line} }}")).err();
            assert!(fault.is_none(), "{line}: {}", fault.unwrap().error);
        }
        for line in answers {
            let bound = bench.bound(&format!("fn on_migration_offer(offer, plane, event, settings) {{ {line} }}")).unwrap();
            let offered = EventBody::MigrationOffer(std::sync::Arc::new(offer("b")));
            let fault = bench.step(&bound, &mut State::default(), &event(ElementId::Plane, offered)).err();
            assert!(fault.is_none(), "{line}: {}", fault.unwrap().error);
        }
    }
}
