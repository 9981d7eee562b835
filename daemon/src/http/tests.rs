//! The router without an engine: everything that is decided before a job or a package is touched.

use axum::Router;
use axum::http::{Method, Request as HttpRequest, StatusCode};
use piston_client::api::Role;
use serde_json::Value;

use super::access::{Arrival, Door, Gate};
use super::*;
use crate::config::exposure::{Page, Quota, TokenPolicy};
use crate::config::{self, Home, paths::Host};
use crate::job::queue::Requester;
use crate::job::runners::Runners;

fn app() -> Arc<App> {
    let host = Host {
        home: Home::User,
        uid: 1000,
        cpus: 2,
        variables: std::collections::BTreeMap::new(),
    };
    let mut config = config::load(&config::Flags::default(), &host)
        .expect("defaults")
        .config;
    config.server.max_body = piston_client::units::Bytes(1000);
    let (trigger, shutdown) = crate::shutdown::channel();
    // Without its trigger an app shuts down.
    Box::leak(Box::new(trigger));
    let data = tempfile::tempdir().expect("a directory");
    let runners = Runners::open(data.path(), config.limits.clone()).expect("no file");
    Arc::new(App::without_engine(config, Arc::new(runners), shutdown))
}

/// Through which door a request comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entrance {
    Operator,
    Network,
}

use Entrance::{Network, Operator};

impl Entrance {
    fn arrival(self) -> Arrival {
        let (door, from) = match self {
            Operator => (Door::operators(Page::Absent), Requester::User(0)),
            Network => {
                let door = Door {
                    role: Role::Execute,
                    tokens: TokenPolicy::Ignored,
                    quota: Quota::default(),
                    gate: Gate::Network,
                    page: Page::Absent,
                };
                (door, Requester::Unknown)
            }
        };
        Arrival {
            door: Arc::new(door),
            from,
        }
    }
}

struct Ask {
    through: Entrance,
    method: Method,
    path: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
}

fn ask(method: Method, path: &'static str) -> Ask {
    Ask {
        through: Operator,
        method,
        path,
        headers: Vec::new(),
        body: String::new(),
    }
}

fn post(path: &'static str, body: &str) -> Ask {
    let headers = vec![("content-type", "application/json")];
    Ask {
        headers,
        body: body.to_owned(),
        ..ask(Method::POST, path)
    }
}

impl Ask {
    async fn send(self) -> (StatusCode, axum::http::HeaderMap, Value) {
        let mut request = HttpRequest::builder().method(self.method).uri(self.path);
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Body::from(self.body)).expect("a request");
        let client = Connection::abandoned(self.through.arrival());
        let reply = Edge::new(app()).call(&client, request).await;
        let (parts, body) = reply.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        (parts.status, parts.headers, body)
    }

    /// Status and code of a problem, whose form is checked on the way.
    async fn problem(self) -> (u16, String, String) {
        let (status, headers, body) = self.send().await;
        assert_eq!(
            headers[header::CONTENT_TYPE],
            "application/problem+json",
            "{body}"
        );
        assert_eq!(body["status"], status.as_u16());
        assert_eq!(
            body["request_id"],
            headers["x-request-id"].to_str().expect("text")
        );
        let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
        (status.as_u16(), text("code"), text("detail"))
    }
}

const EXECUTE: &str = "/api/v3/packages/bash/5/execute";

#[tokio::test]
async fn every_refusal_is_a_problem_that_names_what_is_wrong() {
    let plain = Ask {
        headers: Vec::new(),
        ..post(EXECUTE, "{}")
    };
    let too_long = post(EXECUTE, &"x".repeat(1001));
    for (ask, status, code, word) in [
        (
            ask(Method::GET, "/api/v3/nowhere"),
            404,
            "not_found",
            "/api/v3/nowhere",
        ),
        (ask(Method::GET, "/nowhere"), 404, "not_found", "/nowhere"),
        (
            ask(Method::PATCH, "/api/v3/version"),
            405,
            "method_not_allowed",
            "PATCH",
        ),
        (plain, 415, "unsupported_media_type", "application/json"),
        (too_long, 413, "body_too_large", "1000 bytes"),
        (
            post(EXECUTE, "{\"code\": "),
            400,
            "malformed_request",
            "line 1 column 9",
        ),
        (
            post(EXECUTE, "{\"cod\": 1}"),
            400,
            "malformed_request",
            "unknown field `cod`",
        ),
        (
            post(EXECUTE, "{\"code\": 1}"),
            400,
            "malformed_request",
            "line 1 column 10",
        ),
        (
            post("/api/v3/packages/bash/five/execute", "{}"),
            422,
            "invalid_field",
            "`five`",
        ),
        (
            post("/api/v3/packages/Bash/5/execute", "{}"),
            422,
            "invalid_field",
            "`Bash`",
        ),
        (
            ask(Method::GET, "/api/v3/jobs/1"),
            422,
            "invalid_field",
            "job id",
        ),
        (
            ask(Method::GET, "/api/v3/packages/x/1"),
            422,
            "invalid_field",
            "version",
        ),
        (
            ask(Method::DELETE, "/api/v3/packages/x/1.0.0?cascad=true"),
            400,
            "malformed_request",
            "cascad",
        ),
        (post(EXECUTE, "{}"), 503, "starting", "starting"),
    ] {
        let path = ask.path;
        let (got_status, got_code, detail) = ask.problem().await;
        assert_eq!(
            (got_status, got_code.as_str()),
            (status, code),
            "{path}: {detail}"
        );
        assert!(detail.contains(word), "{path}: {detail}");
    }
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let (_, headers, _) = ask(Method::PATCH, "/api/v3/packages/gc").send().await;
    assert_eq!(headers[header::ALLOW], "POST");
}

#[tokio::test]
async fn a_listener_that_executes_manages_nothing() {
    for (method, path, role) in route::operations() {
        let path: &'static str = path.replace(['{', '}'], "").leak();
        let method: Method = method.parse().expect("a method");
        let (status, _, _) = Ask {
            through: Network,
            ..ask(method.clone(), path)
        }
        .send()
        .await;
        let refused = status == StatusCode::FORBIDDEN;
        assert_eq!(
            refused,
            role == Role::Admin,
            "{method} {path} gives {status}"
        );
    }
}

#[tokio::test]
async fn a_foreign_host_name_is_refused_on_tcp_alone() {
    for (through, host, status) in [
        (Network, "evil.example", StatusCode::FORBIDDEN),
        (Network, "localhost:2000", StatusCode::OK),
        (Operator, "evil.example", StatusCode::OK),
    ] {
        let headers = vec![("host", host)];
        let ask = Ask {
            through,
            headers,
            ..ask(Method::GET, "/api/v3/version")
        };
        assert_eq!(ask.send().await.0, status, "{host}");
    }
}

#[test]
fn a_prefix_is_taken_off_where_it_stands_and_nowhere_else() {
    for (path, below) in [
        ("/code/api/v3/version", Some("/api/v3/version")),
        ("/code/a?b=/code/c", Some("/a?b=/code/c")),
        ("/code", Some("/")),
        ("/code?x", Some("/?x")),
        ("/codex/a", None),
        ("/api/v3/version", None),
    ] {
        let uri = route::below(&path.parse().expect("a path"), "/code");
        assert_eq!(uri.map(|uri| uri.to_string()).as_deref(), below, "{path}");
    }
    assert_eq!(route::below(&"/a".parse().expect("a path"), ""), None);
}

#[tokio::test]
async fn health_is_told_before_the_engine_runs() {
    assert_eq!(ask(Method::GET, "/healthz").send().await.0, StatusCode::OK);
    assert_eq!(
        ask(Method::GET, "/readyz").send().await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
}

#[tokio::test]
async fn v2_speaks_in_messages_under_both_paths_and_in_any_case() {
    for path in [
        "/api/v2/execute",
        "/API/V2/Execute/",
        "/api/v2/piston/execute",
    ] {
        let (status, _, body) = post(path, "{}").send().await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}");
        assert_eq!(
            body,
            serde_json::json!({"message": "language is required as a string"})
        );
    }
    for (method, path) in [
        (Method::GET, "/api/v2/nowhere"),
        (Method::GET, "/api/v2/execute"),
        (Method::GET, "/api/v2"),
        (Method::GET, "/api/v2/pistonexecute"),
        (Method::POST, "/"),
    ] {
        let (status, _, body) = ask(method, path).send().await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert!(
            path == "/" || body == serde_json::json!({"message": "Not Found"}),
            "{body}"
        );
    }
    let (status, headers, _) = ask(Method::OPTIONS, "/api/v2/execute").send().await;
    assert_eq!(
        (status, &headers[header::ALLOW]),
        (StatusCode::OK, &"POST".parse().expect("text"))
    );
    let (_, headers, _) = ask(Method::OPTIONS, "/api/v2/piston/Packages/")
        .send()
        .await;
    assert_eq!(headers[header::ALLOW], "GET, HEAD, POST, DELETE");
    let (_, _, body) = ask(Method::GET, "/").send().await;
    assert_eq!(
        body["message"],
        concat!("Piston v", env!("CARGO_PKG_VERSION"))
    );
}

#[tokio::test]
async fn v2_packages_are_for_listeners_that_manage() {
    for method in [Method::GET, Method::HEAD, Method::POST, Method::DELETE] {
        let path = "/api/v2/packages";
        let remote = Ask {
            through: Network,
            ..ask(method.clone(), path)
        };
        assert_eq!(remote.send().await.0, StatusCode::FORBIDDEN, "{method}");
        let (status, _, _) = ask(method, path).send().await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    }
}

#[tokio::test]
async fn v2_wants_json_from_browsers_and_takes_it_from_others_whatever_they_call_it() {
    let with = |headers: Vec<(&'static str, &'static str)>| Ask {
        headers,
        ..post("/api/v2/execute", "{}")
    };
    let tolerant = with(vec![("content-type", "text/plain")]).send().await;
    assert_eq!(tolerant.0, StatusCode::BAD_REQUEST);
    for browser in [
        ("origin", "http://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let strict = with(vec![("content-type", "text/plain"), browser])
            .send()
            .await;
        assert_eq!(strict.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let message = serde_json::json!({"message": "requests must be of type application/json"});
        assert_eq!(strict.2, message);
    }
}

#[tokio::test]
async fn v2_has_a_message_for_what_is_not_json_and_for_what_is_too_long() {
    let (status, _, body) = post("/api/v2/execute", "{").send().await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        body["message"]
            .as_str()
            .is_some_and(|text| text.contains("not JSON")),
        "{body}"
    );
    let (status, _, body) = post("/api/v2/execute", &"x".repeat(1001)).send().await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(body["message"].is_string(), "{body}");
}

/// Tells when a handler's future is dropped.
/// Serves those routes on a connection.
fn serve_with(routes: Router, stream: tokio::net::UnixStream) -> tokio::task::JoinHandle<()> {
    let service = Service {
        edge: Edge::with_routes(app(), routes),
        cors: None,
        prefix: String::new(),
    };
    let stream = Stream::new(stream);
    let client = Connection::only(&stream, Operator.arrival());
    tokio::spawn(connection(stream, Arc::new(service), client, app()))
}

struct Dropped(Option<tokio::sync::oneshot::Sender<()>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            tell.send(()).expect("somebody waits");
        }
    }
}

#[tokio::test]
async fn a_client_that_goes_away_drops_its_handler_also_after_its_whole_body_was_read() {
    use tokio::io::AsyncWriteExt as _;
    let (started, mut start) = tokio::sync::mpsc::channel(1);
    let (dropped, mut drop_seen) = tokio::sync::oneshot::channel();
    let guard = Arc::new(std::sync::Mutex::new(Some(Dropped(Some(dropped)))));
    let handler = move |body: axum::body::Bytes| async move {
        let _guard = guard.lock().expect("not poisoned").take();
        started.send(body).await.expect("somebody waits");
        std::future::pending::<()>().await;
    };
    let routes = Router::new().route("/", axum::routing::post(handler));
    let (mut client, server) = tokio::net::UnixStream::pair().expect("a pair");
    let serving = serve_with(routes, server);
    let request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi";
    client.write_all(request).await.expect("written");
    assert_eq!(start.recv().await.expect("the handler runs"), "hi");
    // Only its last word: it waits for the reply.
    client.shutdown().await.expect("shut");
    let patience = Duration::from_millis(300);
    let waited = tokio::time::timeout(patience, &mut drop_seen).await;
    waited.expect_err("the handler goes on");
    drop(client);
    drop_seen.await.expect("the handler is dropped");
    serving.await.expect("the connection ends");
}

#[tokio::test]
async fn a_handler_that_panics_is_an_internal_error_that_tells_nothing() {
    async fn panics() -> &'static str {
        panic!("secret")
    }
    let routes = Router::new().route("/api/v3/x", axum::routing::get(panics));
    let request = HttpRequest::get("http://localhost/api/v3/x").body(Body::empty());
    let client = Connection::abandoned(Operator.arrival());
    let edge = Edge::with_routes(app(), routes);
    let reply = edge.call(&client, request.expect("a request")).await;
    assert_eq!(reply.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let body = axum::body::to_bytes(reply.into_body(), 1 << 20)
        .await
        .expect("a body");
    let body = String::from_utf8_lossy(&body).into_owned();
    assert!(
        body.contains("\"internal\"") && !body.contains("secret"),
        "{body}"
    );
}

#[tokio::test]
async fn a_connection_takes_a_second_descriptor_only_while_it_waits_for_long() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let descriptors = || std::fs::read_dir("/proc/self/fd").expect("listed").count();
    let (release, released) = tokio::sync::watch::channel(false);
    let handler = move || async move {
        let mut released = released.clone();
        released.wait_for(|it| *it).await.expect("released");
    };
    let routes = Router::new().route("/", axum::routing::get(handler));
    let (mut client, server) = tokio::net::UnixStream::pair().expect("a pair");
    let serving = serve_with(routes, server);
    let idle = descriptors();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("written");
    while descriptors() == idle {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    release.send(true).expect("somebody waits");
    let mut reply = [0; 12];
    client.read_exact(&mut reply).await.expect("a reply");
    assert_eq!(&reply, b"HTTP/1.1 200");
    while descriptors() > idle {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(client);
    serving.await.expect("the connection ends");
}
