//! Small things about numbers and maps.

use crate::policy::context::{Outcome, complaint};
use rhai::{Dynamic, Engine, Map};

pub(super) fn register(engine: &mut Engine) {
    engine.register_fn("format", |number: f64, digits: i64| format(number, digits));
    engine.register_fn("format", |number: i64, digits: i64| format(number as f64, digits));
    engine.register_fn("percent", percent);
    engine.register_fn("percent", |share: i64| percent(share as f64));
    engine.register_fn("get", |map: &mut Map, key: &str, default: Dynamic| map.get(key).cloned().unwrap_or(default));
}

fn format(number: f64, digits: i64) -> Outcome<String> {
    match usize::try_from(digits) {
        Ok(digits) if digits <= 12 => Ok(format!("{number:.digits$}")),
        _ => complaint(format!("0 to 12 digits can be shown after the point, not {digits}")),
    }
}

fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.0} %", share * 100.0) } else { "unknown".to_owned() }
}
