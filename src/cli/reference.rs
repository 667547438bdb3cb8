//! `embot reference`: everything a script can see, from the tables that the program itself goes by. Needs no daemon.

use super::context::{Context, Output};
use super::failure::Failure;
use crate::api::metrics::table::METRICS;
use crate::hypervisor::simulated::reading;
use crate::model::EventKind;
use crate::policy::suite::{TEST_FUNCTIONS, WORLD};
use crate::policy::surface::{FUNCTIONS, Function, HANDLER_PARAMETERS, REFUSED, TYPES, TypeTable};
use crate::yaml::{Key, Shape};
use crate::{config, embot};
use serde::Serialize;

/// Print the reference of everything a policy, or a test of one, can see, of the keys of files, and of metrics.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot reference                               as Markdown\n  embot reference --definitions > embot.d.rhai  for editors that know Rhai\n  embot reference --output json\n  embot reference --openapi > embot.json        the API, for programs and their generators"
)]
pub struct Reference {
    /// In the form of a Rhai definition file, which editors complete and check names by.
    #[arg(long)]
    definitions: bool,
    /// The API of a plane instead, as an OpenAPI document.
    #[arg(long, conflicts_with = "definitions")]
    openapi: bool,
}

/// The whole.
#[derive(Debug, Serialize)]
struct ReferenceView {
    handlers: Vec<HandlerView>,
    parameters: Vec<PropertyView>,
    types: Vec<TypeView>,
    functions: Vec<FunctionView>,
    tests: Vec<FunctionView>,
    world: TypeView,
    refused: Vec<RefusedView>,
    /// Keys of a module's manifest.
    manifest: Vec<KeyView>,
    /// Keys of a fleet file, which `world` takes as well.
    fleet: Vec<KeyView>,
    /// Keys of plane.yaml.
    plane: Vec<KeyView>,
    /// What `/metrics` tells.
    metrics: Vec<MetricView>,
}

/// A metric.
#[derive(Debug, Serialize)]
struct MetricView {
    name: String,
    kind: String,
    labels: Vec<String>,
    doc: String,
}

/// A key of a file.
#[derive(Debug, Serialize)]
struct KeyView {
    /// Its path: `limits.rate.actions`; `[]` stands for each entry of a list.
    key: String,
    kind: String,
    required: bool,
}

/// A handler: `on_` and the kind of event.
#[derive(Debug, Serialize)]
struct HandlerView {
    name: String,
    doc: String,
    fields: Vec<FieldView>,
}

/// A field of `event` in one handler.
#[derive(Debug, Serialize)]
struct FieldView {
    name: String,
    doc: String,
}

#[derive(Debug, Serialize)]
struct PropertyView {
    name: String,
    kind: String,
    doc: String,
}

#[derive(Debug, Serialize)]
struct TypeView {
    name: String,
    doc: String,
    properties: Vec<PropertyView>,
    methods: Vec<FunctionView>,
}

#[derive(Debug, Serialize)]
struct FunctionView {
    name: String,
    parameters: Vec<PropertyView>,
    returns: String,
    /// What a module must be permitted to call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    permit: Option<String>,
    doc: String,
}

/// A word of Rhai that policies cannot use.
#[derive(Debug, Serialize)]
struct RefusedView {
    word: String,
    instead: String,
}

impl Reference {
    /// Prints it.
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        if self.openapi {
            return context.print(&format!("{:#}\n", crate::api::openapi::document()));
        }
        let view = view();
        if self.definitions && context.output == Output::Table {
            return context.print(&definitions(&view));
        }
        context.show(&view, |_| markdown(&view))
    }
}

fn function(function: &Function) -> FunctionView {
    let parameter = |one: &crate::policy::surface::Parameter| PropertyView {
        name: one.name.to_owned(),
        kind: one.kind.describe(),
        doc: String::new(),
    };
    FunctionView {
        name: function.name.to_owned(),
        parameters: function.parameters.iter().map(parameter).collect(),
        returns: function.returns.describe(),
        permit: function.verb.map(|verb| verb.to_string()),
        doc: function.doc.to_owned(),
    }
}

fn table(table: &TypeTable) -> TypeView {
    let property = |one: &crate::policy::surface::Property| PropertyView {
        name: one.name.to_owned(),
        kind: one.kind.describe(),
        doc: one.doc.to_owned(),
    };
    TypeView {
        name: table.name.to_owned(),
        doc: table.doc.to_owned(),
        properties: table.properties.iter().map(property).collect(),
        methods: table.methods.iter().map(function).collect(),
    }
}

fn view() -> ReferenceView {
    let handler = |kind: &EventKind| HandlerView {
        name: format!("on_{}", kind.name),
        doc: kind.doc.to_owned(),
        fields: kind.fields.iter().map(|(name, doc)| FieldView { name: (*name).to_owned(), doc: (*doc).to_owned() }).collect(),
    };
    let parameter = |one: &crate::policy::surface::HandlerParameter| PropertyView {
        name: one.name.to_owned(),
        kind: one.kind.describe(),
        doc: one.doc.to_owned(),
    };
    let refused = |(word, instead): &(&str, &str)| RefusedView { word: (*word).to_owned(), instead: (*instead).to_owned() };
    ReferenceView {
        handlers: EventKind::ALL.iter().map(handler).collect(),
        parameters: HANDLER_PARAMETERS.iter().map(parameter).collect(),
        types: TYPES.iter().map(table).collect(),
        functions: FUNCTIONS.iter().map(function).collect(),
        tests: TEST_FUNCTIONS.iter().map(function).collect(),
        world: table(&WORLD),
        refused: REFUSED.iter().map(refused).collect(),
        manifest: keys(&embot::SHAPE),
        fleet: keys(&reading::SHAPE),
        plane: keys(&config::SHAPE),
        metrics: METRICS.iter().map(metric).collect(),
    }
}

fn metric(one: &crate::api::metrics::table::Metric) -> MetricView {
    MetricView {
        name: one.name.to_owned(),
        kind: one.kind.word().to_owned(),
        labels: one.labels.iter().map(ToString::to_string).collect(),
        doc: one.help.to_owned(),
    }
}

/// All keys that a shape has, those within others after them.
fn keys(shape: &Shape) -> Vec<KeyView> {
    fn within(shape: &Shape, path: &str, keys: &mut Vec<KeyView>) {
        match shape {
            Shape::Keys(known) => {
                for Key { name, required, shape, .. } in *known {
                    let key = if path.is_empty() { (*name).to_owned() } else { format!("{path}.{name}") };
                    keys.push(KeyView { key: key.clone(), kind: kind(shape), required: *required });
                    within(shape, &key, keys);
                }
            }
            Shape::List(of) => within(of, &format!("{path}[]"), keys),
            Shape::Named(of) => within(of, &format!("{path}.NAME"), keys),
            _ => {}
        }
    }
    let mut keys = Vec::new();
    within(shape, "", &mut keys);
    keys
}

/// What a key's value must look like.
fn kind(shape: &Shape) -> String {
    match shape {
        Shape::Any => "anything".to_owned(),
        Shape::Text => "text".to_owned(),
        Shape::Name => "name".to_owned(),
        Shape::Pattern => "name or pattern such as `web-*`".to_owned(),
        Shape::Bool => "true or false".to_owned(),
        Shape::Whole => "whole number".to_owned(),
        Shape::Number => "number".to_owned(),
        Shape::Span => "length of time such as `5m`".to_owned(),
        Shape::OneOf(words) => format!("one of {}", words.join(", ")),
        Shape::List(of) => format!("list; each: {}", kind(of)),
        Shape::Named(of) => format!("names of your choice, each with: {}", kind(of)),
        Shape::Keys(_) => "keys".to_owned(),
    }
}

fn key_section(title: &str, said: &str, keys: &[KeyView]) -> String {
    let line = |one: &KeyView| format!("- `{}`{}: {}\n", one.key, if one.required { ", required" } else { "" }, one.kind);
    format!("\n## {title}\n\n{said}\n\n{}", keys.iter().map(line).collect::<String>())
}

/// A call as it is written, and what it gives.
fn call(function: &FunctionView) -> String {
    let parameters: Vec<&str> = function.parameters.iter().map(|one| &*one.name).collect();
    format!("{}({})", function.name, parameters.join(", "))
}

fn functions(all: &[FunctionView], before: &str) -> String {
    let line = |function: &FunctionView| {
        let permit = function.permit.as_ref().map_or(String::new(), |verb| format!(" (needs the permit `{verb}`)"));
        let gives = if function.returns == "nothing" { String::new() } else { format!(" -> {}", function.returns) };
        format!("- `{before}{}`{gives}: {}{permit}\n", call(function), function.doc)
    };
    all.iter().map(line).collect()
}

fn type_section(view: &TypeView) -> String {
    let property = |one: &PropertyView| format!("- `{}.{}`, {}: {}\n", view.name, one.name, one.kind, one.doc);
    let properties: String = view.properties.iter().map(property).collect();
    format!("\n### {}\n\n{}\n\n{properties}{}", view.name, view.doc, functions(&view.methods, &format!("{}.", view.name)))
}

fn markdown(view: &ReferenceView) -> String {
    let mut text = "# What scripts see\n\n## Handlers\n\nA policy handles an event in a function of this name.\n\n".to_owned();
    for handler in &view.handlers {
        text += &format!("- `{}`: {}\n", handler.name, handler.doc);
        for field in &handler.fields {
            text += &format!("  - `event.{}`: {}\n", field.name, field.doc);
        }
    }
    text += "\n## Parameters of handlers\n\nBy name, in any order.\n\n";
    text += &view.parameters.iter().map(|one| format!("- `{}`, {}: {}\n", one.name, one.kind, one.doc)).collect::<String>();
    text += "\n## State\n\n`this` in a handler is the state of its embot: a map that is kept between steps, across restarts of the daemon and on \
             moves of the guest. It holds plain data: numbers, texts, lists and maps; of a guest its `id`. A function that uses it is \
             called as `this.name()`. Read what may be absent with `this.get(\"key\", default)`.\n";
    text += "\n## Types\n";
    text += &view.types.iter().map(type_section).collect::<String>();
    text += "\n## Functions\n\n";
    text += &functions(&view.functions, "");
    text += "\n## Words of Rhai that policies cannot use\n\n";
    text += &view.refused.iter().map(|one| format!("- `{}`: {}\n", one.word, one.instead)).collect::<String>();
    text += "\n## Tests\n\nIn files `*_test.rhai`; each function `fn test_...()` is a test.\n\n";
    text += &functions(&view.tests, "");
    text += &type_section(&view.world);
    text += "\nWhat a test prints is shown where it fails.\n";
    text += &key_section("Manifests of modules", "`embots/*.yaml`.", &view.manifest);
    text += &key_section(
        "Fleet files",
        "For `embot hypervisor` and `fleet:`; `world`, `add`, `fault` and `heat` of tests take the same.",
        &view.fleet,
    );
    text += &key_section("plane.yaml", "`world` takes those that do not say where something is.", &view.plane);
    text += "\n## Metrics\n\n`GET /metrics` on the API's socket, and on `metrics.listen` of plane.yaml. Counters count from the daemon's start.\n\n";
    for one in &view.metrics {
        let labels = if one.labels.is_empty() { String::new() } else { format!(" by {}", one.labels.join(", ")) };
        text += &format!("- `{}`, {}{labels}: {}\n", one.name, one.kind, one.doc);
    }
    text
}

/// A type in the terms of Rhai.
fn in_rhai(kind: &str) -> &str {
    match kind {
        "true or false" => "bool",
        "whole number" | "instant (ms)" | "span (ms)" => "int",
        "number" => "float",
        "text" => "String",
        "map" => "Map",
        "nothing" => "()",
        "vm" | "host" | "plane" | "usage" | "event" | "settings" | "peer" | "offer" | "world" => kind,
        kind if kind.starts_with("list of") => "Array",
        _ => "?",
    }
}

fn definitions(view: &ReferenceView) -> String {
    let mut text = "module static;\n".to_owned();
    let mut define = |function: &FunctionView, object: Option<&str>| {
        let object = object.map(|name| format!("this: {name}"));
        // A number may be given as a whole one or not.
        let taken = |kind| if kind == "number" { "?" } else { in_rhai(kind) };
        let parameters = function.parameters.iter().map(|one| format!("{}: {}", one.name, taken(&*one.kind)));
        let parameters: Vec<String> = object.into_iter().chain(parameters).collect();
        let returns = in_rhai(&function.returns);
        text += &format!("\n/// {}\nfn {}({}) -> {returns};\n", function.doc, function.name, parameters.join(", "));
    };
    view.functions.iter().chain(&view.tests).for_each(|function| define(function, None));
    for table in view.types.iter().chain([&view.world]) {
        table.methods.iter().for_each(|method| define(method, Some(&table.name)));
    }
    for table in &view.types {
        for property in &table.properties {
            let kind = in_rhai(&property.kind);
            text += &format!("\n/// {}\nfn get {}(this: {}) -> {kind};\n", property.doc, property.name, table.name);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_scripts_see_is_in_the_reference_with_a_word_on_it() {
        let view = view();
        let text = markdown(&view);
        for said in [
            "- `on_crashed`: ",
            "- `vm.migrate_to(host, reason)`",
            "(needs the permit `migrate`)",
            "- `usage.percentile(",
            "- `world.wait_for(span, condition)` -> true or false",
            "- `assert_eq(actual, expected)`",
            "- `covers.each`: one of host, vm",
            "- `guests[].load.cpu`: anything",
            "- `faults[].fault`, required: one of host_dies",
            "- `guardrails.plane_rate.per`, required: length of time",
            "- `embot_actions_total`, counter by verb, result: ",
        ] {
            assert!(text.contains(said), "`{said}` is not in\n{text}");
        }
        for line in text.lines().filter(|line| line.trim_start().starts_with("- ")) {
            assert!(line.split_once(": ").is_some_and(|(_, doc)| doc.len() > 2), "{line}");
        }
        let text = definitions(&view);
        assert!(text.contains("fn minutes(n: ?) -> int;"), "{text}");
        assert!(text.contains("fn get cpu(this: vm) -> float;"), "{text}");
    }
}
