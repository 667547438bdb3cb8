//! A policy's state: Rhai values while it lives here, [`Value`]s wherever it is stored or sent.
//!
//! The two convert exactly, bit for bit. What has no meaning elsewhere (closures, views of guests and hosts, ranges) is
//! refused at the end of the step that put it there, with the path of the offending key, so that [`State::to_value`] cannot
//! fail.

use crate::model::Value;
use crate::model::value::MAX_DEPTH;
use rhai::{Array, Blob, Dynamic, FnPtr, ImmutableString, Map};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The state of one policy of one embot: always a map. A handler works on the live form; the kept one is what a failed step
/// goes back to, and what is stored.
#[derive(Debug, Clone)]
pub struct State {
    pub(super) live: Dynamic,
    kept: Arc<Value>,
}

impl Default for State {
    fn default() -> State {
        State::from_value(Arc::new(Value::Map(BTreeMap::new())))
    }
}

impl State {
    /// The state as it was stored. What is no map (there is none such but by damage) begins anew.
    pub fn from_value(kept: Arc<Value>) -> State {
        match *kept {
            Value::Map(_) => State { live: to_dynamic(&kept), kept },
            _ => State::default(),
        }
    }

    /// The state as it is stored.
    pub fn to_value(&self) -> Arc<Value> {
        self.kept.clone()
    }

    /// Has a handler changed the live form?
    pub(super) fn is_changed(&self) -> bool {
        !same(&self.live, &self.kept)
    }

    /// Puts the live form back to what is kept.
    pub(super) fn restore(&mut self) {
        self.live = to_dynamic(&self.kept);
    }

    /// Keeps what the live form is now, of which [`stored_bytes`] says that it can be stored.
    pub(super) fn keep(&mut self) -> Result<(), Unstorable> {
        match Arc::get_mut(&mut self.kept).zip(self.live.read_lock::<Map>()) {
            // Most steps change the values of keys that are there; those are written in place.
            Some((Value::Map(kept), live)) if kept.keys().eq(live.keys()) => {
                for (kept, live) in kept.values_mut().zip(live.values()).filter(|(kept, live)| !same(live, kept)) {
                    *kept = to_value(live)?;
                }
            }
            _ => self.kept = Arc::new(to_value(&self.live)?),
        }
        if holds_shared(&self.live) {
            // A closure that still holds a part of the state could change it later.
            self.restore();
        }
        Ok(())
    }
}

/// Why a Rhai value cannot leave the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unstorable {
    /// Where in the value: `.targets[3].view`.
    pub(super) path: String,
    /// What is there.
    pub(super) what: &'static str,
}

impl fmt::Display for Unstorable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is {}", self.path, self.what)
    }
}

/// The Rhai form of a value.
pub(super) fn to_dynamic(value: &Value) -> Dynamic {
    match value {
        Value::Unit => Dynamic::UNIT,
        Value::Bool(b) => Dynamic::from_bool(*b),
        Value::Int(i) => Dynamic::from_int(*i),
        Value::Float(x) => Dynamic::from_float(*x),
        Value::Char(c) => Dynamic::from_char(*c),
        Value::Text(text) => Dynamic::from(ImmutableString::from(text.as_str())),
        Value::Blob(bytes) => Dynamic::from_blob(bytes.clone()),
        Value::Array(items) => Dynamic::from_array(items.iter().map(to_dynamic).collect()),
        Value::Map(map) => Dynamic::from_map(map.iter().map(|(key, value)| (key.as_str().into(), to_dynamic(value))).collect()),
    }
}

/// The storable form of a Rhai value.
pub(super) fn to_value(value: &Dynamic) -> Result<Value, Unstorable> {
    convert(value, 0)
}

fn convert(value: &Dynamic, depth: usize) -> Result<Value, Unstorable> {
    if depth > MAX_DEPTH {
        return Err(Unstorable { path: String::new(), what: "nested too deeply" });
    }
    if value.is_shared() {
        // A variable that a closure captured; its value counts.
        return convert(&value.flatten_clone(), depth);
    }
    if value.tag() != 0 {
        return Err(Unstorable { path: String::new(), what: "a value with a tag" });
    }
    if value.is_unit() {
        Ok(Value::Unit)
    } else if let Ok(b) = value.as_bool() {
        Ok(Value::Bool(b))
    } else if let Ok(i) = value.as_int() {
        Ok(Value::Int(i))
    } else if let Ok(x) = value.as_float() {
        Ok(Value::Float(x))
    } else if let Ok(c) = value.as_char() {
        Ok(Value::Char(c))
    } else if let Some(text) = value.read_lock::<ImmutableString>() {
        Ok(Value::Text(text.to_string()))
    } else if let Some(map) = value.read_lock::<Map>() {
        let entry = |(key, value): (&_, &_)| {
            let key: &rhai::Identifier = key;
            let value = convert(value, depth + 1).map_err(|bad| bad.within(&format!(".{key}")))?;
            Ok((key.to_string(), value))
        };
        map.iter().map(entry).collect::<Result<_, _>>().map(Value::Map)
    } else if let Some(items) = value.read_lock::<Array>() {
        let item = |(index, value)| convert(value, depth + 1).map_err(|bad| bad.within(&format!("[{index}]")));
        items.iter().enumerate().map(item).collect::<Result<_, _>>().map(Value::Array)
    } else if let Some(bytes) = value.read_lock::<Blob>() {
        Ok(Value::Blob(bytes.clone()))
    } else {
        let what = match value.type_name() {
            _ if value.is::<FnPtr>() => "a function",
            name if name.contains("Range") => "a range",
            name if name.contains("View") => "a view, which has no meaning later",
            _ => "not plain data",
        };
        Err(Unstorable { path: String::new(), what })
    }
}

impl Unstorable {
    fn within(mut self, step: &str) -> Unstorable {
        // The deepest part of a path too long to print says nothing.
        if self.path.len() < 200 {
            self.path.insert_str(0, step);
        }
        self
    }
}

/// Is the live value the same in every bit as the stored one?
fn same(live: &Dynamic, kept: &Value) -> bool {
    if live.is_shared() || live.tag() != 0 {
        return false;
    }
    match kept {
        Value::Unit => live.is_unit(),
        Value::Bool(kept) => live.as_bool() == Ok(*kept),
        Value::Int(kept) => live.as_int() == Ok(*kept),
        Value::Float(kept) => live.as_float().is_ok_and(|live| live.to_bits() == kept.to_bits()),
        Value::Char(kept) => live.as_char() == Ok(*kept),
        Value::Text(kept) => live.read_lock::<ImmutableString>().is_some_and(|live| *live == *kept),
        Value::Blob(kept) => live.read_lock::<Blob>().is_some_and(|live| *live == *kept),
        Value::Array(kept) => live
            .read_lock::<Array>()
            .is_some_and(|live| live.len() == kept.len() && live.iter().zip(kept).all(|(live, kept)| same(live, kept))),
        Value::Map(kept) => live.read_lock::<Map>().is_some_and(|live| {
            let both = || live.iter().zip(kept);
            live.len() == kept.len() && both().all(|((left, live), (right, kept))| left == right && same(live, kept))
        }),
    }
}

/// What a value takes up when stored, in bytes, near enough for a limit; or why it cannot be stored.
pub(super) fn stored_bytes(value: &Dynamic) -> Result<usize, Unstorable> {
    measure(value, 0)
}

fn measure(value: &Dynamic, depth: usize) -> Result<usize, Unstorable> {
    if depth > MAX_DEPTH || value.tag() != 0 || value.is_shared() {
        return convert(value, depth).map(|value| estimate(&value));
    }
    if value.is_int() || value.is_float() || value.is_bool() || value.is_unit() || value.is_char() {
        return Ok(9);
    }
    if let Some(text) = value.read_lock::<ImmutableString>() {
        return Ok(3 + text.len());
    }
    if let Some(map) = value.read_lock::<Map>() {
        return map.iter().try_fold(3, |sum, (key, value)| {
            let bytes = measure(value, depth + 1).map_err(|bad| bad.within(&format!(".{key}")))?;
            Ok(sum + 3 + key.len() + bytes)
        });
    }
    if let Some(items) = value.read_lock::<Array>() {
        return items.iter().enumerate().try_fold(3, |sum, (index, value)| {
            Ok(sum + measure(value, depth + 1).map_err(|bad| bad.within(&format!("[{index}]")))?)
        });
    }
    convert(value, depth).map(|value| estimate(&value))
}

fn estimate(value: &Value) -> usize {
    match value {
        Value::Text(text) => 3 + text.len(),
        Value::Blob(bytes) => 3 + bytes.len(),
        Value::Array(items) => items.iter().map(estimate).sum::<usize>() + 3,
        Value::Map(map) => map.iter().map(|(key, value)| 3 + key.len() + estimate(value)).sum::<usize>() + 3,
        _ => 9,
    }
}

/// Does it hold what a closure captured?
fn holds_shared(value: &Dynamic) -> bool {
    value.is_shared()
        || value.read_lock::<Map>().is_some_and(|map| map.values().any(holds_shared))
        || value.read_lock::<Array>().is_some_and(|items| items.iter().any(holds_shared))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Unit),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            // Every pattern of bits, so every NaN as well.
            any::<u64>().prop_map(|bits| Value::Float(f64::from_bits(bits))),
            any::<char>().prop_map(Value::Char),
            any::<String>().prop_map(Value::Text),
            proptest::collection::vec(any::<u8>(), 0..20).prop_map(Value::Blob),
        ];
        leaf.prop_recursive(6, 60, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                proptest::collection::btree_map(any::<String>(), inner, 0..6).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn values_survive_the_engine_and_the_store_exactly(value in value()) {
            let live = to_dynamic(&value);
            prop_assert_eq!(to_value(&live), Ok(value.clone()));
            prop_assert!(same(&live, &value));
            let bytes = postcard::to_stdvec(&value).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Value>(&bytes).unwrap(), value.clone());
            // The estimate that limits states is near what is stored.
            let estimate = stored_bytes(&live).unwrap();
            prop_assert!(bytes.len() <= 4 * estimate && estimate <= 9 * bytes.len(), "{} {}", bytes.len(), estimate);
        }

        #[test]
        fn values_are_the_same_only_if_they_are_equal(left in value(), right in value()) {
            prop_assert_eq!(same(&to_dynamic(&left), &right), left == right);
        }
    }

    #[test]
    fn depth_is_refused_and_not_recursed_into() {
        let nested = |levels: usize| (0..levels).fold(Dynamic::UNIT, |inner, _| Dynamic::from_array(vec![inner]));
        assert!(to_value(&nested(MAX_DEPTH)).is_ok() && stored_bytes(&nested(MAX_DEPTH)).is_ok());
        let refused = to_value(&nested(MAX_DEPTH + 1)).unwrap_err();
        assert_eq!(refused.what, "nested too deeply");
        assert!(stored_bytes(&nested(MAX_DEPTH + 1)).is_err());
    }

    #[test]
    fn what_is_refused_is_named_with_its_path() {
        let mut inner = Map::new();
        inner.insert("now".into(), Dynamic::from(0_i64..5));
        let mut outer = Map::new();
        outer.insert("list".into(), Dynamic::from_array(vec![Dynamic::UNIT, Dynamic::from_map(inner)]));
        let refused = stored_bytes(&Dynamic::from_map(outer)).unwrap_err();
        assert_eq!(refused.path, ".list[1].now");
    }
}
