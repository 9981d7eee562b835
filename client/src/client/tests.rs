//! Tests of which request each operation sends.

use super::*;
use crate::api::{ExecuteRequest, MakeRequest, RepositorySettings};
use crate::http::tests::{client, python, server};
use crate::ids::{JobId, PackageRef};

#[test]
fn names_and_ranges_survive_in_a_path() {
    let path = path(&["packages", "c++", ">=1.2 <2 || 3.x", "execute"]);
    assert_eq!(
        path,
        "/api/v3/packages/c%2B%2B/%3E%3D1.2%20%3C2%20%7C%7C%203.x/execute"
    );
}

#[test]
fn a_segment_can_not_leave_its_place() {
    assert_eq!(
        path(&["repos", "a/../b?c#d"]),
        "/api/v3/repos/a%2F..%2Fb%3Fc%23d"
    );
}

#[test]
fn a_query_is_encoded() {
    assert_eq!(with_query("/p".into(), &[]), "/p");
    let pairs = [("sync", "true"), ("q", "c&d=e")];
    assert_eq!(with_query("/p".into(), &pairs), "/p?sync=true&q=c%26d%3De");
}

fn python_3() -> PackageRef {
    PackageRef::new(python(), "3.11.2".parse().expect("a version"))
}

/// Calls an operation and compares what the peer saw of it; the reply fits none of them.
macro_rules! sends {
    ($seen:expr, $call:expr, $line:literal) => {
        drop($call.await);
        assert_eq!($seen.lock().expect("not poisoned").line, $line);
    };
}

#[tokio::test]
async fn each_operation_on_repositories_has_its_method_and_path() {
    let (socket, seen) = server(200, "null");
    let client = client(&socket);
    let query = AvailableQuery {
        sync: true,
        search: Some("py th".into()),
        language: Some("c++".parse().expect("a name")),
    };
    let settings = RepositorySettings::unsigned("file:///r");
    sends!(seen, client.version(), "GET /api/v3/version");
    sends!(seen, client.info(), "GET /api/v3/info");
    sends!(seen, client.repositories(), "GET /api/v3/repos");
    sends!(seen, client.repository("r"), "GET /api/v3/repos/r");
    sends!(
        seen,
        client.set_repository("r", &settings),
        "PUT /api/v3/repos/r"
    );
    sends!(
        seen,
        client.remove_repository("r"),
        "DELETE /api/v3/repos/r"
    );
    sends!(
        seen,
        client.available("all", &AvailableQuery::default()),
        "GET /api/v3/repos/all/packages"
    );
    sends!(
        seen,
        client.available("all", &query),
        "GET /api/v3/repos/all/packages?sync=true&q=py%20th&language=c%2B%2B"
    );
    sends!(
        seen,
        client.available_versions("r", &python()),
        "GET /api/v3/repos/r/packages/python"
    );
    sends!(
        seen,
        client.available_package("r", &python_3()),
        "GET /api/v3/repos/r/packages/python/3.11.2"
    );
    sends!(
        seen,
        client.install("r", &python(), "^3.9"),
        "POST /api/v3/repos/r/packages/python/%5E3.9/install"
    );
    sends!(
        seen,
        client.install_events("r", &python(), "*"),
        "POST /api/v3/repos/r/packages/python/%2A/install"
    );
}

#[tokio::test]
async fn each_operation_on_packages_and_jobs_has_its_method_and_path() {
    let (socket, seen) = server(200, "null");
    let client = client(&socket);
    let id = JobId::from_random(1);
    let request = ExecuteRequest::default();
    sends!(seen, client.packages(), "GET /api/v3/packages");
    sends!(
        seen,
        client.package_versions(&python()),
        "GET /api/v3/packages/python"
    );
    sends!(
        seen,
        client.package(&python_3()),
        "GET /api/v3/packages/python/3.11.2"
    );
    sends!(
        seen,
        client.verify(&python_3()),
        "POST /api/v3/packages/python/3.11.2/verify"
    );
    sends!(
        seen,
        client.uninstall(&python_3()),
        "DELETE /api/v3/packages/python/3.11.2"
    );
    sends!(
        seen,
        client.uninstall_cascade(&python_3()),
        "DELETE /api/v3/packages/python/3.11.2?cascade=true"
    );
    sends!(seen, client.gc(), "POST /api/v3/packages/gc");
    sends!(seen, client.runtimes(), "GET /api/v3/runtimes");
    sends!(
        seen,
        client.execute(&python(), "*", &request),
        "POST /api/v3/packages/python/%2A/execute"
    );
    sends!(seen, client.jobs(), "GET /api/v3/jobs");
    sends!(
        seen,
        client.job(&id),
        "GET /api/v3/jobs/00000000000000000000000000000001"
    );
    sends!(
        seen,
        client.kill(&id),
        "DELETE /api/v3/jobs/00000000000000000000000000000001"
    );
    sends!(
        seen,
        client.make(&MakeRequest::host(python())),
        "POST /api/v3/make"
    );
}

proptest::proptest! {
    #[test]
    fn any_segment_comes_out_as_it_went_in(segment in "\\PC{0,40}") {
        let path = path(&["repos", &segment]);
        let encoded = path.strip_prefix("/api/v3/repos/").expect("the path's beginning");
        proptest::prop_assert!(!encoded.contains(['/', '?', '#', ' ']));
        let decoded = percent_encoding::percent_decode_str(encoded).decode_utf8();
        proptest::prop_assert_eq!(decoded.expect("UTF-8"), segment);
    }
}
