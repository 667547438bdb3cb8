//! Values that policies keep and exchange, in a form that survives storing and travelling exactly.
//!
//! Rhai's own values do not: closures, timestamps and host objects have no meaning elsewhere, and every serde format loses
//! some of them silently. So state crosses the policy engine's border as this closed enum, or is refused with the path of
//! the offending key.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A value of a policy's state, of a message's content or of a setting.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
