//! What handlers' arguments and results say of their operations.
//!
//! [`Documented`] is there for every function that axum takes as a handler; of what it is made,
//! each argument tells by [`Takes`] and the result by [`Gives`]. An argument or result of a new
//! type has to say what it is before it compiles.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use piston_client::api;
use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::super::app::App;
use super::super::body::{Json, Params, Query, Upload};
use super::super::edge::Peer;
use super::super::metrics::Exposed;
use super::super::progress::Installing;
use super::super::reply::{Created, NoContent, Plain};
use super::super::stream::Told;
use super::super::ws::{Handshake, Upgraded};
use super::super::{make, runners};
use super::{Document, Schemas};
use crate::error::Error;

/// One operation, as it is put together.
pub(in super::super) struct Page<'a> {
    schemas: &'a mut Schemas,
    parameters: Vec<Value>,
    /// Kind -> schema.
    body: Map<String, Value>,
    responses: Map<String, Value>,
    further: Map<String, Value>,
}

impl<'a> Page<'a> {
    pub(super) fn new(schemas: &'a mut Schemas) -> Self {
        Self {
            schemas,
            parameters: Vec::new(),
            body: Map::new(),
            responses: Map::new(),
            further: Map::new(),
        }
    }

    /// The operation at a path, where whatever goes wrong is a problem.
    pub(super) fn finish(mut self, path: &str, problem: &Value) -> Map<String, Value> {
        let names = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let in_path = names.map(|name| {
            let schema = json!({"type": "string", "minLength": 1});
            json!({"name": name, "in": "path", "required": true, "schema": schema})
        });
        let parameters: Vec<Value> = in_path.chain(self.parameters).collect();
        let content = json!({"application/problem+json": {"schema": problem}});
        let fault = json!({"description": "Why it was not done.", "content": content});
        self.responses.insert("default".to_owned(), fault);
        let mut operation = self.further;
        if !parameters.is_empty() {
            operation.insert("parameters".to_owned(), Value::Array(parameters));
        }
        if !self.body.is_empty() {
            let body = json!({"required": true, "content": self.body});
            operation.insert("requestBody".to_owned(), body);
        }
        operation.insert("responses".to_owned(), Value::Object(self.responses));
        operation
    }

    fn body(&mut self, kind: &str, schema: &Value) {
        self.body.insert(kind.to_owned(), json!({"schema": schema}));
    }

    fn reply(&mut self, status: &str, description: &str, content: &Value) {
        let mut response = json!({"description": description});
        if !content.is_null() {
            response["content"] = content.clone();
        }
        self.responses.insert(status.to_owned(), response);
    }

    fn taken<T: JsonSchema>(&mut self) -> Value {
        self.schemas.taken.subschema_for::<T>().to_value()
    }

    fn given<T: JsonSchema>(&mut self) -> Value {
        self.schemas.given.subschema_for::<T>().to_value()
    }

    /// Replies with JSON of a type, or with events of another.
    fn told<T: JsonSchema, E: JsonSchema>(&mut self, description: &str) {
        let (whole, event) = (self.given::<T>(), self.given::<E>());
        let stream = "one object a line; as server-sent events each is the data of one";
        let content = json!({
            "application/json": {"schema": whole},
            "application/x-ndjson": {"schema": {"type": "string", "description": stream}, "x-event": event},
            "text/event-stream": {"schema": {"type": "string", "description": stream}, "x-event": event},
        });
        self.reply("200", description, &content);
    }

    /// Replies with JSON of a type.
    fn json<T: JsonSchema>(&mut self, status: &str, description: &str) {
        let schema = self.given::<T>();
        self.reply(
            status,
            description,
            &json!({"application/json": {"schema": schema}}),
        );
    }
}

/// What an argument says.
pub(in super::super) trait Takes {
    fn tell(page: &mut Page<'_>);
}

/// What a result says.
pub(in super::super) trait Gives {
    fn tell(page: &mut Page<'_>);
}

/// A handler, whose arguments `T` names as axum does.
pub(in super::super) trait Documented<T> {
    fn document(page: &mut Page<'_>);
}

impl<F, Fut> Documented<((),)> for F
where
    F: FnOnce() -> Fut,
    Fut: Future<Output: Gives>,
{
    fn document(page: &mut Page<'_>) {
        Fut::Output::tell(page);
    }
}

macro_rules! documented {
    ($($argument:ident)*) => {
        impl<F, Fut, M, $($argument: Takes),*> Documented<(M, $($argument,)*)> for F
        where
            F: FnOnce($($argument),*) -> Fut,
            Fut: Future<Output: Gives>,
        {
            fn document(page: &mut Page<'_>) {
                $($argument::tell(page);)*
                Fut::Output::tell(page);
            }
        }
    };
}

documented!(A);
documented!(A B);
documented!(A B C);
documented!(A B C D);
documented!(A B C D E);

macro_rules! say_nothing {
    ($($argument:ty),*) => {
        $(impl Takes for $argument {
            fn tell(_: &mut Page<'_>) {}
        })*
    };
}

say_nothing!(State<Arc<App>>, Peer, HeaderMap);

/// The path names them.
impl<T> Takes for Params<T> {
    fn tell(_: &mut Page<'_>) {}
}

impl<T: JsonSchema> Takes for Json<T> {
    fn tell(page: &mut Page<'_>) {
        let schema = page.taken::<T>();
        page.body("application/json", &schema);
    }
}

impl<T: JsonSchema> Takes for Query<T> {
    fn tell(page: &mut Page<'_>) {
        let schema = T::json_schema(&mut page.schemas.taken).to_value();
        let fields = schema["properties"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        for (name, mut schema) in fields {
            let description = schema["description"].take();
            if let Some(fields) = schema.as_object_mut() {
                fields.remove("description");
                // A parameter that is absent is absent: it can't be null.
                let one = fields.get("type").and_then(|kinds| kinds.get(0)).cloned();
                if let Some(one) = one {
                    fields.insert("type".to_owned(), one);
                }
                fields.remove("default");
            }
            page.parameters.push(json!({
                "name": name, "in": "query", "description": description, "schema": schema,
            }));
        }
    }
}

impl Takes for Upload {
    fn tell(page: &mut Page<'_>) {
        page.body("application/octet-stream", &json!({}));
        page.body("application/gzip", &json!({}));
    }
}

impl Takes for runners::File {
    fn tell(page: &mut Page<'_>) {
        let schema = page.taken::<api::SetRunners>();
        page.body("application/json", &schema);
        page.body("application/toml", &json!({"type": "string"}));
    }
}

impl Takes for Handshake {
    fn tell(page: &mut Page<'_>) {
        let (says, hears) = (page.taken::<api::Input>(), page.given::<api::Event>());
        page.further.insert("x-websocket-says".to_owned(), says);
        page.further.insert("x-websocket-hears".to_owned(), hears);
    }
}

impl<R: Gives> Gives for Result<R, Error> {
    fn tell(page: &mut Page<'_>) {
        R::tell(page);
    }
}

/// A reply whose type says nothing.
impl Gives for Response {
    fn tell(page: &mut Page<'_>) {
        page.reply("200", "Done.", &Value::Null);
    }
}

impl<T: JsonSchema> Gives for Json<T> {
    fn tell(page: &mut Page<'_>) {
        page.json::<T>("200", "Done.");
    }
}

impl<T: JsonSchema> Gives for Created<T> {
    fn tell(page: &mut Page<'_>) {
        page.json::<T>("201", "It is made.");
    }
}

impl Gives for NoContent {
    fn tell(page: &mut Page<'_>) {
        page.reply("204", "Done.", &Value::Null);
    }
}

impl Gives for Plain {
    fn tell(page: &mut Page<'_>) {
        let text = json!({"text/plain": {"schema": {"type": "string"}}});
        page.reply("200", "It is so.", &text);
        page.reply("503", "It is not.", &text);
    }
}

impl Gives for Exposed {
    fn tell(page: &mut Page<'_>) {
        let text = json!({"application/openmetrics-text": {"schema": {"type": "string"}}});
        page.reply("200", "All families.", &text);
    }
}

impl Gives for Document {
    fn tell(page: &mut Page<'_>) {
        let object = json!({"application/json": {"schema": {"type": "object"}}});
        page.reply("200", "This document.", &object);
    }
}

impl Gives for Installing {
    fn tell(page: &mut Page<'_>) {
        page.told::<api::InstallReply, api::InstallEvent>(
            "It was there; or what comes of it is told.",
        );
        page.json::<api::InstallReply>("201", "It is new.");
    }
}

impl Gives for runners::Tagged {
    fn tell(page: &mut Page<'_>) {
        page.json::<api::Runners>("200", "What is in force, with its `ETag`.");
    }
}

impl Gives for make::Answer {
    fn tell(page: &mut Page<'_>) {
        let schema = page.given::<api::MakeReply>();
        let content = json!({"application/json": {"schema": schema}, "application/gzip": {}});
        page.reply("200", "It is installed, or is this file.", &content);
    }
}

/// A reply that comes whole, or as events.
impl<T: JsonSchema> Gives for Told<T> {
    fn tell(page: &mut Page<'_>) {
        page.told::<T, api::Event>("It ran; how it ended is told.");
    }
}

impl Gives for Upgraded {
    fn tell(page: &mut Page<'_>) {
        page.reply("101", "A WebSocket from here on.", &Value::Null);
    }
}
