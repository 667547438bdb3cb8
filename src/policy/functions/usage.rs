//! Usage history: figures over the last minutes or hours.

use super::{HostView, VmView};
use crate::model::{ElementId, Span, Value};
use crate::policy::context::{Context, Outcome, complaint, span};
use crate::policy::step::What;
use crate::usage::{Metric, Window};
use rhai::{Array, Dynamic, Engine};
use std::rc::Rc;

/// One metric of one element.
#[derive(Debug, Clone, PartialEq, Eq)]
struct UsageView {
    element: ElementId,
    metric: Metric,
}

/// Longer than any history.
const ALL: Span = Span::hours(24 * 365);

/// A figure's name and how it is computed.
type Figure = (&'static str, fn(&Window) -> Option<f64>);

pub(super) fn register_view(engine: &mut Engine) {
    engine.register_type_with_name::<UsageView>("usage");
    for name in ["to_string", "to_debug"] {
        engine.register_fn(name, |usage: &mut UsageView| format!("usage({})", usage.metric));
    }
}

pub(super) fn register(engine: &mut Engine, context: &Rc<Context>) {
    engine.register_fn("usage", |vm: &mut VmView, name: &str| -> Outcome<UsageView> {
        Ok(UsageView { element: ElementId::Vm(vm.0), metric: metric(name)? })
    });
    engine.register_fn("usage", |host: &mut HostView, name: &str| -> Outcome<UsageView> {
        Ok(UsageView { element: ElementId::Host(host.0.clone()), metric: metric(name)? })
    });
    let figures: [Figure; 5] = [
        ("mean", Window::mean),
        ("max", Window::max),
        ("min", Window::min),
        ("trend", Window::trend),
        ("deviation", Window::deviation),
    ];
    for (name, figure) in figures {
        let here = context.clone();
        engine
            .register_fn(name, move |usage: &mut UsageView, ms: i64| usage.figure(&here, name, None, Some(span(ms)?), figure));
    }
    let here = context.clone();
    engine.register_fn("last", move |usage: &mut UsageView| usage.figure(&here, "last", None, None, Window::last));
    for (name, figure) in [("percentile", Window::percentile as fn(&Window, f64) -> Option<f64>), ("ewma", Window::ewma)] {
        let here = context.clone();
        engine.register_fn(name, move |usage: &mut UsageView, argument: f64, ms: i64| {
            usage.figure(&here, name, Some(argument), Some(span(ms)?), |window| figure(window, argument))
        });
        let here = context.clone();
        engine.register_fn(name, move |usage: &mut UsageView, argument: i64, ms: i64| {
            let argument = argument as f64;
            usage.figure(&here, name, Some(argument), Some(span(ms)?), |window| figure(window, argument))
        });
    }
    let here = context.clone();
    engine.register_fn("count", move |usage: &mut UsageView, ms: i64| -> Outcome<i64> {
        let span = span(ms)?;
        let count = usage.window(&here, span)?.len() as i64;
        let what = What::Usage(usage.metric, "count", None, Some(span));
        here.note(usage.element.clone(), what, Value::Int(count));
        Ok(count)
    });
    let here = context.clone();
    engine.register_fn("values", move |usage: &mut UsageView, ms: i64| -> Outcome<Array> {
        Ok(usage.window(&here, span(ms)?)?.values().map(Dynamic::from_float).collect())
    });
}

impl UsageView {
    fn window(&self, context: &Context, span: Span) -> Outcome<Window> {
        let now = context.now("usage")?;
        let window = context.usage.borrow().window(&self.element, self.metric, span, now);
        // Paid for after the fact: a window is bounded, and its length is not known before.
        context.charge(window.len() as u64)?;
        Ok(window)
    }

    fn figure(
        &self,
        context: &Context,
        name: &'static str,
        argument: Option<f64>,
        span: Option<Span>,
        figure: impl FnOnce(&Window) -> Option<f64>,
    ) -> Outcome<f64> {
        let number = figure(&self.window(context, span.unwrap_or(ALL))?).unwrap_or(f64::NAN);
        context.note(self.element.clone(), What::Usage(self.metric, name, argument, span), Value::Float(number));
        Ok(number)
    }
}

fn metric(name: &str) -> Outcome<Metric> {
    name.parse().or_else(complaint)
}

#[cfg(test)]
pub(super) fn type_id() -> std::any::TypeId {
    std::any::TypeId::of::<UsageView>()
}
