//! The `OpenAPI` document of v3, made of the table in [`super::route`] and of what the handlers take
//! and give.
//!
//! Invariant: nothing is said twice. Paths, methods and roles are the table's; bodies, parameters
//! and replies are told by the types of the handlers' arguments and results ([`describe`]); fields
//! and their meaning are the wire types' own. A test compares the whole with
//! `contrib/docs/openapi.json`, so that no change of the API goes unseen.

pub(super) mod describe;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use piston_client::api::{Problem, Role};
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::app::App;
use super::route;
use describe::Page;

/// Where schemas of types stand in the document.
const SCHEMAS: &str = "#/components/schemas/";

/// `GET /openapi.json`.
pub(super) async fn show(State(app): State<Arc<App>>) -> Document {
    let made = || Bytes::from(document(&app.config().server.prefix).to_string());
    Document(app.document(made))
}

/// The document as a reply.
#[derive(Debug)]
pub(super) struct Document(Bytes);

impl IntoResponse for Document {
    fn into_response(self) -> Response {
        let kind = [(header::CONTENT_TYPE, "application/json")];
        (StatusCode::OK, kind, self.0).into_response()
    }
}

/// The schemas that operations refer to: what is read and what is written of one type may differ.
#[derive(Debug)]
pub(super) struct Schemas {
    pub(super) taken: SchemaGenerator,
    pub(super) given: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            })
        };
        Self {
            taken: settings().for_deserialize().into_generator(),
            given: settings().for_serialize().into_generator(),
        }
    }
}

/// The whole document; `prefix` is what stands before every path.
fn document(prefix: &str) -> Value {
    let mut schemas = Schemas::new();
    let problem = schemas.given.subschema_for::<Problem>().to_value();
    let mut paths = Map::new();
    for row in route::table() {
        let mut operations = Map::new();
        for operation in &row.operations {
            let mut page = Page::new(&mut schemas);
            (operation.document)(&mut page);
            let told = page.finish(&row.path, &problem);
            let told = head(operation.name, operation.summary, operation.role, told);
            operations.insert(operation.method.to_lowercase(), told);
        }
        paths.insert(row.path, Value::Object(operations));
    }
    let mut paths = Value::Object(paths);
    let components = merge(&mut paths, schemas);
    let server = if prefix.is_empty() { "/" } else { prefix };
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Piston",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Runs code that nobody trusts, in any language. `x-role` says what a \
                            listener or token has to allow for an operation.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": server}],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token, on listeners that ask for one.",
                },
            },
        },
    })
}

/// An operation with what the table says of it.
fn head(name: &str, summary: &str, role: Role, told: Map<String, Value>) -> Value {
    // `pistond::http::repos::list`, which is unique and stays as long as the handler does.
    let mut words = name.rsplit("::").take(2).collect::<Vec<_>>();
    words.reverse();
    let role = match role {
        Role::Execute => "execute",
        Role::Admin => "admin",
    };
    let mut operation = Map::from_iter([
        ("operationId".to_owned(), json!(words.join("_"))),
        ("summary".to_owned(), json!(summary)),
        ("tags".to_owned(), json!([words[0]])),
        ("x-role".to_owned(), json!(role)),
    ]);
    operation.extend(told);
    Value::Object(operation)
}

/// The schemas of both kinds in one list. Where a type is read otherwise than it is written, what
/// is read is named `...Input`.
fn merge(paths: &mut Value, schemas: Schemas) -> Map<String, Value> {
    let Schemas {
        mut taken,
        mut given,
    } = schemas;
    let mut taken = taken.take_definitions(true);
    let mut given = given.take_definitions(true);
    let mut differ: BTreeSet<String> = BTreeSet::new();
    loop {
        let more = taken.iter().filter(|(name, schema)| {
            let other = given.get(*name);
            let other = other.is_some_and(|other| other != *schema || refers(schema, &differ));
            other && !differ.contains(*name)
        });
        let more: Vec<String> = more.map(|(name, _)| name.clone()).collect();
        if more.is_empty() {
            break;
        }
        differ.extend(more);
    }
    let mut requests = Value::Object(std::mem::take(&mut taken));
    rename(&mut requests, &differ);
    if let Value::Object(schemas) = requests {
        for (name, schema) in schemas {
            given.insert(renamed(&name, &differ), schema);
        }
    }
    let operations = paths.as_object_mut().into_iter().flat_map(Map::values_mut);
    let operations = operations.filter_map(Value::as_object_mut);
    for operation in operations.flat_map(Map::values_mut) {
        for part in ["requestBody", "parameters", "x-websocket-says"] {
            if let Some(part) = operation.get_mut(part) {
                rename(part, &differ);
            }
        }
    }
    given
}

fn renamed(name: &str, differ: &BTreeSet<String>) -> String {
    if differ.contains(name) {
        format!("{name}Input")
    } else {
        name.to_owned()
    }
}

/// Whether a schema refers to one of these types.
fn refers(schema: &Value, types: &BTreeSet<String>) -> bool {
    match schema {
        Value::Object(fields) => fields
            .iter()
            .any(|(name, value)| match (name.as_str(), value) {
                ("$ref", Value::String(path)) => path
                    .strip_prefix(SCHEMAS)
                    .is_some_and(|name| types.contains(name)),
                _ => refers(value, types),
            }),
        Value::Array(values) => values.iter().any(|value| refers(value, types)),
        _ => false,
    }
}

fn rename(schema: &mut Value, differ: &BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(path) if name == "$ref" => {
                        if let Some(name) = path.strip_prefix(SCHEMAS) {
                            *path = format!("{SCHEMAS}{}", renamed(name, differ));
                        }
                    }
                    value => rename(value, differ),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| rename(value, differ)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the document is checked in.
    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../contrib/docs/openapi.json");

    #[test]
    fn the_document_is_the_one_that_is_checked_in() {
        let made = serde_json::to_string_pretty(&document("")).expect("JSON") + "\n";
        if std::env::var_os("PISTON_TEST_UPDATE").is_some() {
            std::fs::write(FILE, &made).expect("written");
        }
        let kept = std::fs::read_to_string(FILE).unwrap_or_default();
        let differs = made
            .lines()
            .zip(kept.lines())
            .find(|(made, kept)| made != kept);
        assert!(
            made == kept,
            "the API is not what contrib/docs/openapi.json says (first difference: {differs:?}); \
             if that is meant: PISTON_TEST_UPDATE=1 cargo nextest run -p pistond the_document_is"
        );
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_has_its_name() {
        fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
            match value {
                Value::Object(fields) => {
                    found.extend(fields.get("$ref").and_then(Value::as_str));
                    fields.values().for_each(|value| references(value, found));
                }
                Value::Array(values) => values.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let document = document("/code");
        assert_eq!(document["servers"][0]["url"], "/code");
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for path in found {
            let pointer = path.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{path}");
        }
        let mut names = BTreeSet::new();
        for (method, path, _) in route::operations() {
            let operation = &document["paths"][&path][method.to_lowercase()];
            let name = operation["operationId"]
                .as_str()
                .expect("a name")
                .to_owned();
            assert!(names.insert(name), "{method} {path}: {operation}");
            assert!(
                operation["responses"]["default"].is_object(),
                "{method} {path}"
            );
        }
    }
}
