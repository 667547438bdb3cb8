//! A policy's state: Rhai values while it lives here, [`Value`]s wherever it is stored or sent.
//!
//! The two convert exactly, bit for bit. What has no meaning elsewhere (closures, views of guests and hosts, ranges) is
//! refused at the end of the step that put it there, with the path of the offending key, so that [`State::to_value`] cannot
//! fail.

use crate::model::Value;
use crate::model::value::MAX_DEPTH;
use rhai::{Array, Blob, Dynamic, FnPtr, ImmutableString, Map};
use std::fmt;

/// The live state of one policy of one embot: always a map.
#[derive(Debug, Clone)]
pub struct State(pub(super) Dynamic);

impl Default for State {
    fn default() -> State {
        State(Dynamic::from_map(Map::new()))
    }
}

impl State {
    /// The state as it was stored. What is no map (there is none such but by damage) begins anew.
    pub fn from_value(value: &Value) -> State {
        match value {
            Value::Map(_) => State(to_dynamic(value)),
            _ => State::default(),
        }
    }

    /// The state as it is stored.
    pub fn to_value(&self) -> Value {
        // Every way into a `State` checks, so nothing is lost by the default.
        to_value(&self.0).unwrap_or_else(|_| Value::Map(Default::default()))
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

/// The same in every bit?
pub(super) fn same(left: &Dynamic, right: &Dynamic) -> bool {
    if let (Ok(left), Ok(right)) = (left.as_int(), right.as_int()) {
        return left == right;
    }
    if let (Ok(left), Ok(right)) = (left.as_float(), right.as_float()) {
        return left.to_bits() == right.to_bits();
    }
    if left.type_id() != right.type_id() || left.is_shared() || right.is_shared() || left.tag() != right.tag() {
        return false;
    }
    if let (Some(left), Some(right)) = (left.read_lock::<ImmutableString>(), right.read_lock::<ImmutableString>()) {
        return *left == *right;
    }
    if let (Some(left), Some(right)) = (left.read_lock::<Map>(), right.read_lock::<Map>()) {
        return left.len() == right.len() && left.iter().zip(right.iter()).all(|((k, a), (l, b))| k == l && same(a, b));
    }
    if let (Some(left), Some(right)) = (left.read_lock::<Array>(), right.read_lock::<Array>()) {
        return left.len() == right.len() && left.iter().zip(right.iter()).all(|(a, b)| same(a, b));
    }
    if let (Some(left), Some(right)) = (left.read_lock::<Blob>(), right.read_lock::<Blob>()) {
        return *left == *right;
    }
    match (left.as_bool(), right.as_bool(), left.as_char(), right.as_char()) {
        (Ok(left), Ok(right), ..) => left == right,
        (_, _, Ok(left), Ok(right)) => left == right,
        // Host objects and functions count as changed: whoever looks closer refuses them.
        _ => left.is_unit() && right.is_unit(),
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

/// Does it hold what a closure captured? Such a value must be rebuilt before it is kept: the closure could still change it.
pub(super) fn holds_shared(value: &Dynamic) -> bool {
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
            prop_assert!(same(&live, &to_dynamic(&value)));
            let bytes = postcard::to_stdvec(&value).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Value>(&bytes).unwrap(), value.clone());
            // The estimate that limits states is near what is stored.
            let estimate = stored_bytes(&live).unwrap();
            prop_assert!(bytes.len() <= 4 * estimate && estimate <= 9 * bytes.len(), "{} {}", bytes.len(), estimate);
        }

        #[test]
        fn values_are_the_same_only_if_they_are_equal(left in value(), right in value()) {
            prop_assert_eq!(same(&to_dynamic(&left), &to_dynamic(&right)), left == right);
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
