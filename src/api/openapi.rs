//! `GET /v1/openapi.json`: the API as an OpenAPI 3.1 document, made from the table of routes and the types on the wire.

use super::error::Problem;
use super::routes::{Answer, Asked, Route, all};
use axum::Json;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

/// A type on the wire, as the document knows it.
#[derive(Clone, Copy)]
pub(super) struct Wire {
    name: fn() -> String,
    schema: fn() -> RefOr<Schema>,
    parts: fn(&mut Vec<(String, RefOr<Schema>)>),
}

impl Wire {
    pub(super) const fn of<T: ToSchema>() -> Wire {
        Wire { name: || T::name().into_owned(), schema: T::schema, parts: T::schemas }
    }

    fn reference(&self) -> Value {
        json!({ "$ref": format!("#/components/schemas/{}", (self.name)()) })
    }

    fn json(&self) -> Value {
        serde_json::to_value((self.schema)()).unwrap_or_default()
    }

    /// Its schema and those it is made of.
    fn describe(&self, into: &mut Map<String, Value>) {
        into.insert((self.name)(), self.json());
        self.describe_parts(into);
    }

    /// The schemas it is made of.
    fn describe_parts(&self, into: &mut Map<String, Value>) {
        let mut parts = Vec::new();
        (self.parts)(&mut parts);
        into.extend(parts.into_iter().map(|(name, schema)| (name, serde_json::to_value(schema).unwrap_or_default())));
    }
}

/// What a request is refused with, on any way.
const REFUSALS: [(u16, &str); 10] = [
    (400, "The request cannot be read: a field that is not known, a type that does not fit, or no JSON."),
    (401, "No token, or one that is not accepted."),
    (403, "The token's role is too small."),
    (404, "What is named is not known."),
    (408, "The request did not come, or was not answered, in time."),
    (409, "It is understood, and the answer is no."),
    (413, "The request is too large."),
    (422, "It can be read, and makes no sense: a name that fits several, or values that contradict each other."),
    (429, "Too many tokens of this address were not accepted."),
    (503, "The plane is stopping, is asked too much at once, or did not answer in time."),
];

/// The document.
pub fn document() -> Value {
    let mut document = written();
    widen(&mut document);
    document
}

/// Unsigned numbers that do not fit the signed format that they are said to have get a wider one, or none.
fn widen(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let maximum = map.get("maximum").and_then(Value::as_u64).unwrap_or(0);
            if maximum > i64::MAX as u64 {
                map.remove("format");
            } else if maximum > i32::MAX as u64 {
                map.insert("format".to_owned(), "int64".into());
            }
            map.values_mut().for_each(widen);
        }
        Value::Array(list) => list.iter_mut().for_each(widen),
        _ => {}
    }
}

fn written() -> Value {
    let mut schemas = Map::new();
    let problem = Wire::of::<Problem>();
    problem.describe(&mut schemas);
    let refusal = |(status, what): (u16, &str)| {
        let content = json!({ "application/json": { "schema": problem.reference() } });
        (status.to_string(), json!({ "description": what, "content": content }))
    };
    let refusals: Map<String, Value> = REFUSALS.into_iter().map(refusal).collect();
    let mut paths = Map::new();
    for route in all() {
        route.wires().for_each(|wire| wire.describe(&mut schemas));
        if let Asked::Query(wire) = &route.asked {
            wire.describe_parts(&mut schemas);
        }
        let path = format!("/v1{}", route.path.replace("{*", "{"));
        let ways = paths.entry(path).or_insert_with(|| json!({}));
        ways[route.method.as_str().to_ascii_lowercase()] = operation(&route, &refusals);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "embot",
            "description": "A plane of the policy-driven autonomic manager for virtual machines: everything that its command line shows and does.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "https://localhost:7400" }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token that `embot token create` made. On the unix socket none is needed.",
                },
            },
        },
    })
}

fn operation(route: &Route, refusals: &Map<String, Value>) -> Value {
    let mut parameters: Vec<Value> = named_in(&route.path).collect();
    let mut operation = json!({
        "operationId": route.path.trim_start_matches('/').replace("{*", "{").replace(['{', '}'], "").replace(['/', '-'], "_"),
        "summary": route.about,
        "description": format!("Takes the role `{}`.", route.role),
        "x-role": route.role,
        "tags": [route.path.split('/').nth(1).unwrap_or_default()],
    });
    match &route.asked {
        Asked::Nothing => {}
        Asked::Query(wire) => parameters.extend(queried(&wire.json())),
        Asked::Body(wire) => {
            let needed = wire.json()["required"].as_array().is_some_and(|required| !required.is_empty());
            let content = json!({ "application/json": { "schema": wire.reference() } });
            operation["requestBody"] = json!({ "required": needed, "content": content });
        }
    }
    operation["parameters"] = parameters.into();
    let (kind, schema) = match &route.answer {
        Answer::One(wire) => ("application/json", wire.reference()),
        Answer::List(wire) => ("application/json", json!({ "type": "array", "items": wire.reference() })),
        Answer::Any => ("application/json", json!({ "type": "object" })),
        Answer::Text(kind) => (*kind, json!({ "type": "string" })),
    };
    let mut responses = refusals.clone();
    responses
        .insert("200".to_owned(), json!({ "description": "What was asked for.", "content": { kind: { "schema": schema } } }));
    operation["responses"] = responses.into();
    operation
}

/// The parameters in a path.
fn named_in(path: &str) -> impl Iterator<Item = Value> {
    let names = path.split(['{', '}']).skip(1).step_by(2);
    names.map(|name| {
        let (name, several) = (name.trim_start_matches('*'), name.starts_with('*'));
        let (about, schema) = match name {
            "id" => ("The action's number.", json!({ "type": "integer", "minimum": 0, "maximum": u64::MAX })),
            "number" => ("The refusal's number, `r17` or `17`.", json!({ "type": "string", "pattern": "^r?[0-9]{1,18}$" })),
            _ if several => (
                "A name, an identifier, or its beginning where only one begins so; `/` need not be escaped.",
                json!({ "type": "string", "minLength": 1 }),
            ),
            _ => ("Its name.", json!({ "type": "string", "minLength": 1 })),
        };
        json!({ "name": name, "in": "path", "required": true, "description": about, "schema": schema })
    })
}

/// A filter's fields, each of which may be left out.
fn queried(schema: &Value) -> impl Iterator<Item = Value> {
    let fields = schema["properties"].as_object().cloned().unwrap_or_default();
    fields.into_iter().map(|(name, field)| {
        let mut schema = given(field);
        let about = schema.as_object_mut().and_then(|fields| fields.remove("description")).unwrap_or_else(|| "".into());
        json!({ "name": name, "in": "query", "required": false, "description": about, "schema": schema })
    })
}

/// A field's schema where it is there: nothing in a query is `null`.
fn given(mut schema: Value) -> Value {
    if let Some(kinds) = schema.get("type").and_then(Value::as_array).cloned() {
        schema["type"] = kinds.into_iter().find(|kind| kind != "null").unwrap_or_default();
    }
    match schema.get("oneOf").and_then(Value::as_array) {
        Some(ways) => ways.iter().find(|way| way["type"] != "null").cloned().unwrap_or_default(),
        None => schema,
    }
}

pub(super) async fn get() -> Json<Value> {
    Json(document())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// All `$ref`s within a value.
    fn references(value: &Value, into: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                into.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|field| references(field, into));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, into)),
            _ => {}
        }
    }

    #[test]
    fn every_way_and_every_type_is_described() {
        let document = document();
        for route in all() {
            let path = format!("/v1{}", route.path.replace("{*", "{"));
            let way = &document["paths"][&path][route.method.as_str().to_lowercase()];
            assert_eq!(way["x-role"], route.role.to_string(), "{path}");
            for status in ["200", "400", "401", "403", "404", "409", "413", "429", "503"] {
                assert!(way["responses"][status].is_object(), "{path}: {status}");
            }
        }
        let mut named = BTreeSet::new();
        references(&document, &mut named);
        for name in &named {
            let schema = name.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
            assert!(schema.is_some_and(Value::is_object), "{name} is not described");
        }
        assert!(named.len() > 30, "{}", named.len());
    }

    #[test]
    fn types_of_one_name_are_one_type() {
        let mut seen = Map::new();
        for wire in all().iter().flat_map(Route::wires) {
            let mut parts = Map::new();
            wire.describe(&mut parts);
            for (name, schema) in parts {
                let earlier = seen.entry(name.clone()).or_insert_with(|| schema.clone());
                assert_eq!(*earlier, schema, "{name}");
            }
        }
    }

    #[test]
    fn operations_have_names_of_their_own() {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        let names: Vec<&str> = paths
            .values()
            .flat_map(|ways| ways.as_object().unwrap().values())
            .map(|way| way["operationId"].as_str().unwrap())
            .collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
        insta::assert_snapshot!(names.join("\n"));
    }

    #[test]
    fn unsigned_numbers_fit_their_format() {
        let document = document();
        let parameters = document["paths"]["/v1/audit"]["get"]["parameters"].as_array().unwrap();
        let limit = parameters.iter().find(|one| one["name"] == "limit").unwrap();
        assert_eq!((&limit["schema"]["format"], &limit["schema"]["maximum"]), (&json!("int64"), &json!(u32::MAX)));
        assert!(!document.to_string().contains("18446744073709551615,\"format\":\"int64\""));
    }
}
