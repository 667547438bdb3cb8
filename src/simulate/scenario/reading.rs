//! Reads scenarios. Each part is read as the file that it is taken from would be, so that its complaints are the same, and
//! name the line in the scenario.

use super::traced::Traced;
use super::{Deployment, Scenario, Step};
use crate::error::{Diagnostic, nearest};
use crate::hypervisor::simulated::FleetPlan;
use crate::model::{Span, Value};
use crate::policy::scene::Scene;
use crate::simulate::world::{DELAY, Described, START, written};
use crate::yaml::{Document, Key, Shape, Source};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What the file may contain. `fleet` and the planes are read by their own readers.
pub const SHAPE: Shape = Shape::Keys(&[
    Key::optional("scenario", Shape::Name),
    Key::optional("description", Shape::Text),
    Key::required("lasts", Shape::Span).like("30m"),
    Key::optional("seed", Shape::Whole),
    Key::optional("link", Shape::Keys(&[Key::optional("delay", Shape::Span)])),
    Key::optional(
        "traces",
        Shape::Keys(&[
            Key::optional("path", Shape::Text),
            Key::required("guests", Shape::List(&Shape::Text)).like("[\"vm-{n}\"]"),
        ]),
    ),
    Key::optional("modules", Shape::List(&Shape::Any)),
    Key::optional(
        "steps",
        Shape::List(&Shape::Keys(&[
            Key::required("at", Shape::Span),
            Key::optional("every", Shape::Span),
            Key::required("do", Shape::Text).like("'w.maintenance(\"host-1\", true)'"),
        ])),
    ),
    Key::optional("expect", Shape::List(&Shape::Text)),
]);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    scenario: Option<Arc<str>>,
    #[serde(default)]
    description: Arc<str>,
    lasts: Span,
    #[serde(default)]
    seed: Option<u64>,
    #[serde(default)]
    link: Link,
    #[serde(default)]
    traces: Option<Traced>,
    #[serde(default)]
    modules: Vec<serde_json::Value>,
    #[serde(default)]
    steps: Vec<WrittenStep>,
    #[serde(default)]
    expect: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Link {
    #[serde(default)]
    delay: Option<Span>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenStep {
    at: Span,
    #[serde(default)]
    every: Option<Span>,
    #[serde(rename = "do")]
    act: String,
}

impl Scenario {
    /// Reads a scenario's text; no step or expectation may take longer than `patience`.
    pub fn read(file: &str, text: &str, patience: Duration) -> Result<Scenario, Vec<Diagnostic>> {
        let mut source = Source::parse(file, text)?;
        let (fleet, one, several) = (source.take("fleet"), source.take("plane"), source.take("planes"));
        let (written, document) = source.read::<Written>(&SHAPE)?;
        let complaint = |path: &[&str], message: &str, hint: &str| vec![document.key_error(path, message).with_hint(hint)];
        let Some(fleet) = fleet else {
            let hint = "add `fleet:` with `hosts` and `guests`, as in a fleet file";
            return Err(complaint(&[], "a scenario needs a fleet", hint));
        };
        let mut fleet = FleetPlan::read_source(fleet)?;
        fleet.seed = written.seed.unwrap_or(fleet.seed);
        let planes = match (one, several) {
            (Some(_), Some(several)) => {
                let message = "a scenario has one `plane`, or several `planes`";
                return Err(vec![several.error(message).with_hint("put what is said under `plane` under one of the `planes`")]);
            }
            (None, None) => BTreeMap::new(),
            (Some(one), None) => BTreeMap::from([("plane".to_owned(), one)]),
            (None, Some(mut several)) => {
                let names = several.keys();
                names.into_iter().filter_map(|name| several.take(&name).map(|plane| (name, plane))).collect()
            }
        };
        if written.lasts == Span::ZERO {
            return Err(complaint(&["lasts"], "a scenario must last longer than 0", "for example `lasts: 30m`"));
        }
        // Whether a world can be made of it shows when one is made.
        Described::new(&fleet, planes.clone(), START, DELAY).map_err(|found| placed(found, &document))?;
        let scene = Scene::new(patience);
        let mut wrong = Vec::new();
        let mut traced = written.traces;
        if let Some(traced) = &mut traced {
            // Where it stands is said from the scenario's file.
            traced.path = traced.path.take().map(|path| Path::new(file).parent().unwrap_or(Path::new("")).join(path));
            for (index, name) in traced.guests.iter().enumerate() {
                if !fleet.guests.iter().any(|entry| entry.name == *name) {
                    let near = nearest(name, fleet.guests.iter().map(|entry| entry.name.as_str()));
                    let hint =
                        near.map_or("name an entry of the fleet's guests".to_owned(), |near| format!("did you mean `{near}`?"));
                    let message = format!("the fleet has no entry of guests `{name}`");
                    wrong.push(document.error(&["traces", "guests", &index.to_string()], message).with_hint(hint));
                }
            }
        }
        let mut steps = Vec::new();
        for (index, step) in written.steps.into_iter().enumerate() {
            let place = document.value_place(&["steps", &index.to_string(), "do"]);
            match scene.read(file, place, &step.act) {
                Ok(act) => steps.push(Step { at: step.at, every: step.every, act }),
                Err(found) => wrong.push(found),
            }
            let key = |key| [["steps", &index.to_string(), key].map(str::to_owned)].concat();
            let told = |key: Vec<String>, message: &str, hint: &str| {
                let path: Vec<&str> = key.iter().map(String::as_str).collect();
                document.error(&path, message).with_hint(hint)
            };
            if step.at > written.lasts {
                wrong.push(told(
                    key("at"),
                    "this step comes after the end",
                    "let the scenario last longer, or the step come sooner",
                ));
            }
            if step.every == Some(Span::ZERO) {
                wrong.push(told(key("every"), "`every` must be longer than 0", "for example `every: 5m`"));
            }
        }
        let mut expectations = Vec::new();
        for (index, text) in written.expect.iter().enumerate() {
            match scene.read(file, document.value_place(&["expect", &index.to_string()]), text) {
                Ok(snippet) => expectations.push(snippet),
                Err(found) => wrong.push(found),
            }
        }
        let mut modules = Vec::new();
        for (index, module) in written.modules.into_iter().enumerate() {
            match deployment(module, &planes) {
                Ok(module) => modules.push(module),
                Err((message, hint)) => wrong.push(document.error(&["modules", &index.to_string()], message).with_hint(hint)),
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let stem = || std::path::Path::new(file).file_stem().map_or_else(|| file.into(), |stem| stem.to_string_lossy());
        Ok(Scenario {
            name: written.scenario.unwrap_or_else(|| stem().as_ref().into()),
            description: written.description,
            lasts: written.lasts,
            seed: fleet.seed,
            fleet,
            planes,
            delay: written.link.delay.unwrap_or(DELAY),
            traced,
            modules,
            steps,
            expectations,
            scene,
        })
    }
}

/// What is wrong with the world as a whole stands at the fleet.
fn placed(found: Vec<Diagnostic>, document: &Document) -> Vec<Diagnostic> {
    let place = |one: Diagnostic| match one.line {
        0 => Diagnostic { hint: one.hint, ..document.key_error(&[], one.message) },
        _ => one,
    };
    found.into_iter().map(place).collect()
}

/// `name`, or `{ module: name, plane: ..., mode: ..., settings: ..., ... }`; else what is wrong, and what to write.
fn deployment(given: serde_json::Value, planes: &BTreeMap<String, Source>) -> Result<Deployment, (String, String)> {
    let form = || "write its name, or `{ module: NAME, settings: { ... } }`".to_owned();
    let mut changes = match given {
        serde_json::Value::String(name) => return Ok(Deployment { module: name.into(), plane: None, changes: acts() }),
        serde_json::Value::Object(changes) => changes,
        other => return Err((format!("`{other}` is no module"), form())),
    };
    let Some(serde_json::Value::String(module)) = changes.remove("module") else {
        return Err(("here is no `module`".to_owned(), form()));
    };
    let plane: Option<Arc<str>> = match changes.remove("plane") {
        None => None,
        Some(serde_json::Value::String(plane)) if planes.contains_key(&plane) => Some(plane.into()),
        Some(other) => {
            let names: Vec<&str> = planes.keys().map(String::as_str).collect();
            return Err((format!("there is no plane {other}"), format!("the planes are: {}", names.join(", "))));
        }
    };
    let mut given = acts();
    if let (Value::Map(given), Value::Map(changes)) = (&mut given, written(serde_json::Value::Object(changes))) {
        given.extend(changes);
    }
    Ok(Deployment { module: module.into(), plane, changes: given })
}

fn acts() -> Value {
    Value::Map([("mode".to_owned(), Value::Text("act".to_owned()))].into())
}
