//! Plain data of scripts in the forms of files and of the API.

use crate::model::{Timestamp, Value};
use crate::yaml::Shape;
use serde::Serialize;

/// A script's value as it would be written in a file of this shape: there a length of time is a text.
pub(super) fn written(value: &Value, shape: &Shape) -> serde_json::Value {
    match (value, shape) {
        (Value::Int(ms), Shape::Span) => format!("{ms}ms").into(),
        (Value::Map(map), Shape::Keys(keys)) => {
            let shape = |name: &str| keys.iter().find(|key| key.name == name).map_or(&Shape::Any, |key| &key.shape);
            map.iter().map(|(name, value)| (name.clone(), written(value, shape(name)))).collect()
        }
        (Value::Map(map), Shape::Named(of)) => map.iter().map(|(name, value)| (name.clone(), written(value, of))).collect(),
        (Value::Array(list), Shape::List(of)) => list.iter().map(|value| written(value, of)).collect(),
        _ => value.to_json(),
    }
}

/// What the API would answer, as a script's value. Instants, which the API writes as texts, are milliseconds here.
pub fn seen(view: &impl Serialize) -> Result<Value, String> {
    // Through its text: that has numbers as they are meant, 0.1 and not what is nearest to it in fewer bits.
    let text = serde_json::to_string(view).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map(value).map_err(|error| error.to_string())
}

/// JSON as a script's value.
pub fn value(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Unit,
        serde_json::Value::Bool(is) => Value::Bool(is),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => Value::Int(whole),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::Text(text),
        serde_json::Value::Array(list) => Value::Array(list.into_iter().map(value).collect()),
        serde_json::Value::Object(map) => {
            let entry = |(key, one): (String, serde_json::Value)| {
                let at: Option<jiff::Timestamp> = one.as_str().filter(|_| is_instant(&key)).and_then(|text| text.parse().ok());
                let one = at.map_or_else(|| value(one), |at| Value::Int(at.as_millisecond()));
                (key, one)
            };
            Value::Map(map.into_iter().map(entry).collect())
        }
    }
}

/// Is this how the API names instants?
fn is_instant(key: &str) -> bool {
    key == "at" || key == "since" || key.ends_with("_at") || key.ends_with("_since")
}

/// An instant.
pub(super) fn instant(at: Timestamp) -> Value {
    Value::Int(at.0)
}
