//! Values that policies keep and exchange, in a form that survives storing and travelling exactly.
//!
//! Rhai's own values do not: closures, timestamps and host objects have no meaning elsewhere, and every serde format loses
//! some of them silently. So state crosses the policy engine's border as this closed enum, or is refused with the path of
//! the offending key.

use serde::{Deserialize, Deserializer, Serialize};
use std::cell::Cell;
use std::collections::BTreeMap;

/// Lists and maps within each other may go so deep. Deeper ones are refused wherever values come in, so that no bytes,
/// however made, can exhaust the stack of whoever walks the value.
pub const MAX_DEPTH: usize = 64;

/// A value of a policy's state, of a message's content or of a setting.
#[derive(Debug, Clone, Default, Serialize)]
pub enum Value {
    /// Rhai's `()`.
    #[default]
    Unit,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A floating-point number; all bits are kept, those of a NaN as well.
    Float(f64),
    /// One character.
    Char(char),
    /// A text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
    /// A list.
    Array(Vec<Value>),
    /// Named values.
    Map(BTreeMap<String, Value>),
}

/// [`Value`] as it is read: the same, but that each level below goes through [`Value`]'s own reader, which counts them.
#[derive(Deserialize)]
#[serde(rename = "Value")]
enum Raw {
    Unit,
    Bool(bool),
    Int(i64),
    Float(f64),
    Char(char),
    Text(String),
    Blob(Vec<u8>),
    Array(Vec<Value>),
    Map(BTreeMap<String, Value>),
}

thread_local! {
    /// How many values the reader of this thread is within. Readers recurse, and serde has no place to hand a depth down.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    /// How many more values may be read; see [`Value::at_most`].
    static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The bound that was in force before; is so again when dropped.
struct Bound(usize);

impl Drop for Bound {
    fn drop(&mut self) {
        LEFT.set(self.0);
    }
}

/// One level of reading; ends when dropped, errors included.
struct Level;

impl Level {
    fn enter() -> Level {
        DEPTH.set(DEPTH.get() + 1);
        Level
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        let _level = Level::enter();
        if DEPTH.get() > MAX_DEPTH + 1 {
            return Err(serde::de::Error::custom(format!("a value nested more than {MAX_DEPTH} levels deep")));
        }
        let left = LEFT.get().checked_sub(1).ok_or_else(|| serde::de::Error::custom("too many values"))?;
        LEFT.set(left);
        Ok(match Raw::deserialize(deserializer)? {
            Raw::Unit => Value::Unit,
            Raw::Bool(b) => Value::Bool(b),
            Raw::Int(i) => Value::Int(i),
            Raw::Float(x) => Value::Float(x),
            Raw::Char(c) => Value::Char(c),
            Raw::Text(text) => Value::Text(text),
            Raw::Blob(bytes) => Value::Blob(bytes),
            Raw::Array(items) => Value::Array(items),
            Raw::Map(map) => Value::Map(map),
        })
    }
}

/// Equal in every bit: a NaN equals itself, `0.0` and `-0.0` differ.
impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Unit, Value::Unit) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
            (Value::Char(a), Value::Char(b)) => a == b,
            (Value::Text(a), Value::Text(b)) => a == b,
            (Value::Blob(a), Value::Blob(b)) => a == b,
            (Value::Array(a), Value::Array(b)) => a == b,
            (Value::Map(a), Value::Map(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

impl Value {
    /// Reads with a bound on the number of values. A value takes one byte where it comes from and many in memory, so a bound on
    /// bytes is none on memory.
    pub fn at_most<T>(values: usize, read: impl FnOnce() -> T) -> T {
        let _before = Bound(LEFT.replace(values));
        read()
    }

    /// The value as people and JSON see it. Not exact: bytes become numbers, a NaN becomes `null`.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Value::Unit => Json::Null,
            Value::Bool(b) => Json::from(*b),
            Value::Int(i) => Json::from(*i),
            Value::Float(x) => Json::from(*x),
            Value::Char(c) => Json::from(c.to_string()),
            Value::Text(text) => Json::from(text.as_str()),
            Value::Blob(bytes) => Json::from(bytes.as_slice()),
            Value::Array(items) => items.iter().map(Value::to_json).collect(),
            Value::Map(map) => map.iter().map(|(key, value)| (key.clone(), value.to_json())).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of lists within lists: each level is the variant's number and a length of one.
    fn nested(levels: usize) -> Vec<u8> {
        let mut bytes = [7, 1].repeat(levels);
        bytes.push(0);
        bytes
    }

    #[test]
    fn depth_is_bounded_when_reading() {
        assert!(postcard::from_bytes::<Value>(&nested(MAX_DEPTH)).is_ok());
        for levels in [MAX_DEPTH + 1, 1_000_000] {
            assert!(postcard::from_bytes::<Value>(&nested(levels)).is_err(), "{levels}");
        }
        assert!(postcard::from_bytes::<Value>(&nested(MAX_DEPTH)).is_ok(), "an error leaves no trace");
    }

    #[test]
    fn the_number_of_values_is_bounded_where_that_is_asked_for() {
        let list = postcard::to_stdvec(&Value::Array(vec![Value::Unit; 9])).unwrap();
        let read = || postcard::from_bytes::<Value>(&list).is_ok();
        assert!(Value::at_most(10, read));
        assert!(!Value::at_most(9, read));
        assert!(!Value::at_most(10, || read() && read()), "together");
        assert!(read(), "and nowhere else");
    }
}
