//! What a test sees of its world: the API's views as plain data.

use super::World;
use super::plain;
use crate::api::actions::{ActionView, RefusalView};
use crate::api::elements::{HostView, VmView};
use crate::api::migrations::MigrationView;
use crate::api::names::find_element;
use crate::api::words;
use crate::model::{ActionKind, EmbotId, Level, Record, Value, Verb};

fn text(text: impl Into<String>) -> Value {
    Value::Text(text.into())
}

fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Map(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn list(views: impl Iterator<Item = Result<Value, String>>) -> Result<Value, String> {
    views.collect::<Result<_, _>>().map(Value::Array)
}

impl World {
    pub(super) fn vm(&self, plane: usize, name: &str) -> Result<Value, String> {
        let world = self.manager(plane).world();
        let found = world.vms().find(|vm| *vm.name == *name);
        found.map_or(Ok(Value::Unit), |vm| plain::seen(&VmView::new(vm, &world)))
    }

    pub(super) fn host_view(&self, plane: usize, name: &str) -> Result<Value, String> {
        let world = self.manager(plane).world();
        let found = world.host(&name.into());
        found.map_or(Ok(Value::Unit), |host| plain::seen(&HostView::new(host, &world)))
    }

    pub(super) fn actions(&self, plane: usize, verb: Option<&str>) -> Result<Value, String> {
        let verb = verb.map(str::parse::<Verb>).transpose()?;
        let manager = self.manager(plane);
        let world = manager.world();
        let is_wanted = |kind: &ActionKind| match verb {
            Some(verb) => kind.verb() == verb,
            // Each guest is adopted once, when the world begins.
            None => kind.verb() != Verb::Adopt,
        };
        let mut found: Vec<_> = manager.actions().filter(|action| is_wanted(&action.proposal.kind)).collect();
        found.sort_by_key(|action| action.id);
        list(found.into_iter().map(|action| plain::seen(&ActionView::new(action, &world))))
    }

    pub(super) fn refusals(&self, plane: usize) -> Result<Value, String> {
        let manager = self.manager(plane);
        let world = manager.world();
        list(manager.refusals().map(|one| plain::seen(&RefusalView::numbered(one, &world))))
    }

    pub(super) fn notices(&self, plane: usize) -> Value {
        let notice = |at, level: Level, said: &str, by: String| {
            let level = text(words::level(level));
            map([("at", plain::instant(at)), ("level", level), ("text", text(said)), ("by", text(by))])
        };
        let told = self.records(plane).filter_map(|(at, record)| match record {
            Record::Notice { level, text } => Some(notice(at, *level, text, "the plane".to_owned())),
            Record::Planned { action } => match &action.proposal.kind {
                ActionKind::Notify { level, text } => Some(notice(at, *level, text, words::author(&action.proposal))),
                _ => None,
            },
            _ => None,
        });
        Value::Array(told.collect())
    }

    pub(super) fn faults(&self, plane: usize) -> Value {
        let world = self.manager(plane).world();
        let faults = self.records(plane).filter_map(|(at, record)| match record {
            Record::Fault { embot, error, suspended, .. } => Some(map([
                ("at", plain::instant(at)),
                ("module", text(&*embot.module)),
                ("element", text(world.label(&embot.element))),
                ("error", text(error)),
                ("suspended", Value::Bool(*suspended)),
            ])),
            _ => None,
        });
        Value::Array(faults.collect())
    }

    pub(super) fn embot(&self, plane: usize, module: &str, element: &str) -> Result<Value, String> {
        let manager = self.manager(plane);
        let element = find_element(&manager.world(), element).map_err(|error| error.problem.error)?;
        let id = EmbotId { module: module.into(), element };
        let Some(embot) = manager.embots(Some(module)).into_iter().find(|embot| embot.id == id) else {
            return Ok(Value::Unit);
        };
        // A module of one policy, as most are, has one state.
        let state = match embot.state.iter().next() {
            Some((_, state)) if embot.state.len() == 1 => Value::clone(state),
            _ => Value::Map(embot.state.iter().map(|(policy, state)| (policy.to_string(), Value::clone(state))).collect()),
        };
        let timers = embot.timers.iter().map(|(name, due)| (name.to_string(), plain::instant(*due)));
        Ok(map([
            ("state", state),
            ("timers", Value::Map(timers.collect())),
            ("faults", Value::Int(embot.faults.into())),
            ("suspended", embot.suspended.as_ref().map_or(Value::Unit, |why| text(&**why))),
        ]))
    }

    pub(super) fn migrations(&self, plane: usize) -> Result<Value, String> {
        let manager = self.manager(plane);
        list(manager.migrations().into_iter().map(|one| plain::seen(&MigrationView::new(one, manager))))
    }
}
