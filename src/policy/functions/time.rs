//! The present instant, spans, and chance.

use crate::policy::context::{Context, Outcome, complaint};
use rhai::Engine;
use std::rc::Rc;

/// Lengths of time.
pub(super) fn register_spans(engine: &mut Engine) {
    for (name, ms) in [("seconds", 1_000), ("minutes", 60_000), ("hours", 3_600_000), ("days", 86_400_000)] {
        engine.register_fn(name, move |count: i64| count.saturating_mul(ms));
        engine.register_fn(name, move |count: f64| (count * ms as f64).round() as i64);
    }
}

pub(super) fn register(engine: &mut Engine, context: &Rc<Context>) {
    let here = context.clone();
    engine.register_fn("now", move || here.now("now").map(|now| now.0));
    register_spans(engine);
    let here = context.clone();
    engine.register_fn("random", move || -> Outcome<f64> {
        let chance = here.sheet.borrow_mut().chance();
        chance.map_or_else(|| complaint("`random` has no meaning in `fn settings()`"), Ok)
    });
}
