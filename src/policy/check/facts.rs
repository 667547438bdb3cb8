//! What the check of a whole module wants to know of a policy.

use super::guess::Guess;
use crate::error::Spot;
use crate::model::{Span, Value, Verb};
use std::collections::BTreeMap;

/// A setting as `fn settings()` declares it.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    guess: Guess,
    /// Where.
    pub spot: Spot,
}

/// What a policy does, as far as its text tells.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// The kinds of events it handles, and where.
    pub handlers: BTreeMap<&'static str, Spot>,
    /// What it may propose, and where.
    pub verbs: Vec<(Verb, Spot)>,
    /// What it may propose where that depends on values that only show when it runs.
    pub verbs_perhaps: Vec<Verb>,
    /// The channels it sends on, where they are written out.
    pub sends: Vec<(String, Spot)>,
    /// Is there a `send` whose channel is computed?
    pub sends_computed: bool,
    /// The channels it compares `event.channel` with.
    pub hears: Vec<(String, Spot)>,
    /// Is there a `fn settings()` at all?
    pub computes_settings: bool,
    /// Its settings; `None` where there is no `fn settings()`, or where it is not simple enough to tell.
    pub settings: Option<BTreeMap<String, Setting>>,
}

impl Setting {
    pub(super) fn new(guess: Guess, spot: Spot) -> Setting {
        Setting { guess, spot }
    }

    pub(super) fn guess(&self) -> &Guess {
        &self.guess
    }

    /// May this value stand in for the default? If not, what is wanted. In doubt it may.
    pub fn accepts(&self, value: &Value) -> Result<(), &'static str> {
        let fits = match (&self.guess, value) {
            (Guess::Bool, value) => matches!(value, Value::Bool(_)),
            (Guess::Int, Value::Text(text)) => text.parse::<Span>().is_ok(),
            (Guess::Int, value) => matches!(value, Value::Int(_)),
            (Guess::Float, value) => matches!(value, Value::Int(_) | Value::Float(_)),
            (Guess::Text, value) => matches!(value, Value::Text(_)),
            (Guess::List(_), value) => matches!(value, Value::Array(_)),
            (Guess::Map, value) => matches!(value, Value::Map(_)),
            _ => true,
        };
        if fits {
            return Ok(());
        }
        Err(match &self.guess {
            Guess::Bool => "true or false",
            Guess::Int => "a whole number, or a length of time such as `5m`",
            Guess::Float => "a number",
            Guess::Text => "a text",
            Guess::List(_) => "a list",
            _ => "keys with values",
        })
    }
}
