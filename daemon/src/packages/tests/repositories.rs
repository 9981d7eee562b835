//! Repositories over HTTP and as folders: what works, and what a broken or hostile one can do.

use piston_client::api::{Code, InstallState, RepositorySettings};

use super::super::*;
use super::server::{self, Reply, Request, Server};
use super::support::*;

/// A folder with base 12.0.0 and 12.1.0, python 3.11.2 and 3.12.0, and its index.
pub(super) fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (made, name) in [
        (base("12.0.0"), "base-12.0.0"),
        (base("12.1.0"), "base-12.1.0"),
        (python("3.11.2"), "python-3.11.2"),
        (python("3.12.0"), "python-3.12.0"),
    ] {
        std::fs::copy(made.file, dir.path().join(format!("{name}.pkg.tar.gz"))).unwrap();
    }
    let written = index::write_index(dir.path(), None).unwrap();
    assert_eq!((written.packages.len(), written.left_out.len()), (4, 0));
    dir
}

pub(super) async fn add(world: &World, name: &str, url: &str) {
    let url = url.to_owned();
    world
        .packages
        .set_repository(name, &RepositorySettings::unsigned(url))
        .await
        .unwrap();
}

pub(super) async fn install(
    world: &World,
    range: &str,
) -> Result<api::InstallReply, PackagesError> {
    let python = "python".parse().unwrap();
    world
        .packages
        .install("all", &python, &range.parse().unwrap())
        .await
}

/// Serves a folder; `change` may answer instead.
pub(super) fn serve(
    folder: &std::path::Path,
    change: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
) -> Server {
    let root = folder.to_owned();
    Server::start(move |request| {
        change(request).unwrap_or_else(|| {
            match std::fs::read(root.join(request.path.trim_start_matches('/'))) {
                Ok(bytes) => server::ok(&bytes),
                Err(_) => server::status("404 Not Found"),
            }
        })
    })
}

fn last_error(world: &World) -> Option<String> {
    world.packages.repositories()[0].state.last_error.clone()
}

#[tokio::test]
async fn a_folder_is_a_repository_and_dependencies_come_along() {
    let (world, folder) = (World::new().await, folder());
    add(&world, "local", folder.path().to_str().unwrap()).await;
    let listed = world.packages.available("local", false).await.unwrap();
    assert_eq!(listed.len(), 4);
    let reply = install(&world, "3.11").await.unwrap();
    assert_eq!(reply.package, package("python-3.11.2"));
    assert_eq!(reply.state, InstallState::Installed);
    assert_eq!(
        reply.dependencies,
        [package("base-12.1.0")],
        "the newest that matches"
    );
    let installed = world.packages.list();
    assert!(!installed[0].requested && installed[1].requested);
    assert_eq!(installed[0].repository.as_deref(), Some("local"));
    let listed = world.packages.available("all", false).await.unwrap();
    let there: Vec<bool> = listed.iter().map(|package| package.installed).collect();
    assert_eq!(there, [false, true, true, false]);
    let again = install(&world, "3.11").await.unwrap();
    assert_eq!(again.state, InstallState::AlreadyInstalled);
    // Asked for by name, a dependency stays.
    let base = "base".parse().unwrap();
    world
        .packages
        .install("local", &base, &any())
        .await
        .unwrap();
    assert!(world.packages.list()[0].requested);
    assert_eq!(world.files(), 4);
}

#[tokio::test]
async fn a_web_server_is_a_repository_with_conditional_requests() {
    let (world, folder) = (World::new().await, folder());
    let index = std::fs::read(folder.path().join("index.yaml")).unwrap();
    let server = serve(folder.path(), move |request| {
        let fresh = request
            .headers
            .iter()
            .any(|line| line == "if-none-match: \"v1\"");
        match request.path.as_str() {
            "/index.yaml" if fresh => Some(server::status("304 Not Modified")),
            "/index.yaml" => Some(server::with_headers("ETag: \"v1\"\r\n", &index)),
            _ => None,
        }
    });
    add(&world, "web", &format!("{}/", server.url)).await;
    install(&world, "*").await.unwrap();
    assert_eq!(world.installed(), ["base-12.1.0", "python-3.12.0"]);
    assert_eq!(server.requests("/index.yaml"), 1, "on first use");
    assert_eq!(
        world.packages.available("web", true).await.unwrap().len(),
        4
    );
    assert_eq!(server.requests("/index.yaml"), 2);
    assert_eq!(last_error(&world), None);
    // The stored copy and its validators survive a restart.
    let world = world.restarted().await;
    assert_eq!(
        world.packages.available("web", false).await.unwrap().len(),
        4
    );
    assert_eq!(
        world.packages.available("web", true).await.unwrap().len(),
        4
    );
    assert_eq!(server.requests("/index.yaml"), 3);
}

#[tokio::test]
async fn the_stored_index_serves_while_the_repository_is_down() {
    let (world, folder) = (World::new().await, folder());
    let server = serve(folder.path(), |_| None);
    add(&world, "web", &format!("{}/index.yaml", server.url)).await;
    assert_eq!(
        world.packages.available("web", true).await.unwrap().len(),
        4
    );
    drop(server);
    assert_eq!(
        world.packages.available("web", true).await.unwrap().len(),
        4
    );
    let error = last_error(&world).unwrap();
    assert!(error.contains("cannot download"), "{error}");
    let reply = install(&world, "*").await.unwrap_err();
    assert_eq!(reply.code(), Code::RepositoryUnavailable);
    assert_eq!(world.files(), 0);
}

#[tokio::test]
async fn an_index_that_is_broken_does_not_replace_a_good_one() {
    let (world, folder) = (World::new().await, folder());
    add(
        &world,
        "local",
        &format!("file://{}/index.yaml", folder.path().display()),
    )
    .await;
    assert_eq!(
        world.packages.available("local", true).await.unwrap().len(),
        4
    );
    std::fs::write(folder.path().join("index.yaml"), "<html>").unwrap();
    assert_eq!(
        world.packages.available("local", true).await.unwrap().len(),
        4
    );
    assert!(last_error(&world).unwrap().contains("index is refused"));
}

/// Installs from a server that answers for package files as told; says what came of it.
async fn hostile(
    change: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
) -> PackagesError {
    let (world, folder) = (World::new().await, folder());
    let server = serve(folder.path(), change);
    add(&world, "web", &format!("{}/", server.url)).await;
    let error = install(&world, "*").await.unwrap_err();
    assert!(world.installed().is_empty());
    let text = error.to_string();
    assert!(
        text.contains("python-3.12.0") && text.contains("`web`"),
        "{text}"
    );
    for name in ["images", "staging"] {
        let files = std::fs::read_dir(world.dir.path().join("data").join(name)).unwrap();
        assert_eq!(files.count(), 0, "no garbage after {error}");
    }
    error
}

pub(super) fn is_python(request: &Request) -> bool {
    request.path.contains("python-3.12")
}

#[tokio::test]
async fn another_file_than_the_index_names_is_refused_by_its_checksum() {
    let error = hostile(|request| is_python(request).then(|| server::ok(b"another file"))).await;
    assert_eq!(error.code(), Code::ChecksumMismatch);
    assert!(error.to_string().contains("the index says"), "{error}");
}

#[tokio::test]
async fn a_truncated_download_is_refused() {
    let error = hostile(|request| {
        let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this".to_vec();
        is_python(request).then(|| server::raw(cut))
    })
    .await;
    assert_eq!(error.code(), Code::RepositoryUnavailable, "{error}");
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up() {
    let error = hostile(|request| {
        is_python(request).then(|| Reply {
            bytes: b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this".to_vec(),
            pause: Duration::from_secs(4),
        })
    })
    .await;
    assert_eq!(error.code(), Code::RepositoryUnavailable);
    assert!(error.to_string().contains("does not answer"), "{error}");
}

#[tokio::test]
async fn a_download_that_does_not_end_is_cut_at_its_bound() {
    for head in [
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n",
    ] {
        let error = hostile(move |request| {
            let bytes = [head.as_bytes(), &vec![0; 9_000_000]].concat();
            is_python(request).then(|| server::raw(bytes))
        })
        .await;
        assert!(error.to_string().contains("is longer than"), "{error}");
    }
}

#[tokio::test]
async fn redirects_in_circles_or_to_files_are_refused() {
    for (to, expected) in [
        ("/python-3.12.0.pkg.tar.gz", "too often"),
        ("file:///etc/passwd", ""),
        ("unix:///run/x.sock", ""),
    ] {
        let error = hostile(move |request| is_python(request).then(|| server::redirect(to))).await;
        assert_eq!(error.code(), Code::RepositoryUnavailable, "{to}: {error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_redirect_is_followed_and_downloads_start_where_it_leads() {
    let (world, folder) = (World::new().await, folder());
    let real = serve(folder.path(), |_| None);
    let to = format!("{}/index.yaml", real.url);
    let front = Server::start(move |_| server::redirect(&to));
    add(&world, "web", &format!("{}/latest", front.url)).await;
    install(&world, "*").await.unwrap();
    assert_eq!(real.requests("/python-3.12.0.pkg.tar.gz"), 1);
}

#[tokio::test]
async fn a_package_that_is_not_what_the_index_says_is_refused() {
    let (world, folder) = (World::new().await, folder());
    let index = folder.path().join("index.yaml");
    let text = std::fs::read_to_string(&index).unwrap();
    let lied = text.replace("version: \"3.12.0\"", "version: 3.13.0");
    assert_ne!(lied, text, "{text}");
    std::fs::write(&index, lied).unwrap();
    add(&world, "local", folder.path().to_str().unwrap()).await;
    let error = install(&world, "*").await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidPackage);
    assert!(
        error
            .to_string()
            .contains("the index says that this file is python-3.13.0"),
        "{error}"
    );
    assert_eq!(world.files(), 0, "nothing of the closure is installed");
}

#[tokio::test]
async fn equal_installs_at_once_download_once() {
    let (world, folder) = (World::new().await, folder());
    let server = serve(folder.path(), |_| None);
    add(&world, "web", &format!("{}/", server.url)).await;
    let replies = futures_util::future::join_all((0..5).map(|_| install(&world, "*"))).await;
    let new = |reply: &&Result<api::InstallReply, PackagesError>| {
        reply.as_ref().unwrap().state == InstallState::Installed
    };
    assert_eq!(replies.iter().filter(new).count(), 1);
    for path in [
        "/index.yaml",
        "/python-3.12.0.pkg.tar.gz",
        "/base-12.1.0.pkg.tar.gz",
    ] {
        assert_eq!(server.requests(path), 1, "{path}");
    }
}

#[tokio::test]
async fn an_installed_package_of_other_contents_is_a_conflict_before_any_download() {
    let (world, folder) = (World::new().await, folder());
    let other = make(
        r#"{"language":"base","version":"12.1.0"}"#,
        &[("/x", "y")],
        &[],
    );
    world.install(&other).await.unwrap();
    let server = serve(folder.path(), |_| None);
    add(&world, "web", &format!("{}/", server.url)).await;
    let error = install(&world, "*").await.unwrap_err();
    assert_eq!(error.code(), Code::VersionConflict);
    assert!(error.to_string().contains("uninstall"), "{error}");
    assert_eq!(server.requests("/python-3.12.0.pkg.tar.gz"), 0);
}

#[tokio::test]
async fn what_is_not_listed_or_configured_is_named_with_what_there_is() {
    let (world, folder) = (World::new().await, folder());
    let error = install(&world, "*").await.unwrap_err();
    assert_eq!(error.code(), Code::PackageNotAvailable);
    assert!(
        error.to_string().contains("repositories asked: none"),
        "{error}"
    );
    add(&world, "local", folder.path().to_str().unwrap()).await;
    let error = install(&world, "^4").await.unwrap_err();
    assert!(
        error.to_string().contains("there is python 3.12.0, 3.11.2"),
        "{error}"
    );
    let typo = "pyhton".parse().unwrap();
    let error = world
        .packages
        .install("local", &typo, &any())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("did you mean python?"),
        "{error}"
    );
    let error = world.packages.available("other", false).await.unwrap_err();
    assert_eq!(error.code(), Code::RepositoryNotFound);
    assert!(error.to_string().contains("there is local"), "{error}");
}

#[tokio::test]
async fn repositories_are_added_changed_in_place_and_removed() {
    let world = World::new().await;
    for (name, url) in [
        ("b", "/srv/b"),
        ("a", "https://example.org/"),
        ("b", "/srv/c"),
    ] {
        add(&world, name, url).await;
    }
    let urls: Vec<String> = world
        .packages
        .repositories()
        .into_iter()
        .map(|r| r.url)
        .collect();
    assert_eq!(urls, ["/srv/c", "https://example.org/"]);
    for (name, url, field) in [
        ("all", "/srv/x", "name"),
        ("builtin", "/srv/x", "name"),
        ("A B", "/srv/x", "name"),
        ("x", "ftp://example.org/", "url"),
        ("x", "srv/x", "url"),
        ("x", "unix:///run/x", "url"),
    ] {
        let url = url.to_owned();
        let error = world
            .packages
            .set_repository(name, &RepositorySettings::unsigned(url))
            .await;
        let error = error.unwrap_err();
        assert_eq!(error.code(), Code::InvalidField);
        assert!(error.to_string().starts_with(field), "{error}");
    }
    world.packages.remove_repository("b").await.unwrap();
    assert!(world.packages.remove_repository("b").await.is_err());
    assert_eq!(world.restarted().await.packages.repositories().len(), 1);
}

#[tokio::test]
async fn a_repository_that_fails_does_not_hide_the_others() {
    let (world, folder) = (World::new().await, folder());
    add(&world, "gone", "/nonexistent/index.yaml").await;
    add(&world, "local", folder.path().to_str().unwrap()).await;
    assert_eq!(
        world.packages.available("all", false).await.unwrap().len(),
        4
    );
    install(&world, "*").await.unwrap();
    let error = world.packages.available("gone", false).await.unwrap_err();
    assert!(
        error.to_string().contains("/nonexistent/index.yaml"),
        "{error}"
    );
}

#[test]
fn locations_lead_where_they_may() {
    let web = Location::of_index("https://example.org/repo/index.yaml").unwrap();
    let file = Location::of_index("file:///srv/repo/index.yaml").unwrap();
    for (from, reference, expected) in [
        (&web, "x.tar.gz", Some("https://example.org/repo/x.tar.gz")),
        (&web, "https://other.org/x", Some("https://other.org/x")),
        (&web, "http://other.org/x", None),
        (&web, "file:///etc/passwd", None),
        (&web, "//other.org/x", Some("https://other.org/x")),
        (&file, "c%2B%2B.tar.gz", Some("file:///srv/repo/c++.tar.gz")),
        (&file, "https://other.org/x", Some("https://other.org/x")),
        (&file, "ftp://other.org/x", None),
    ] {
        let led = from
            .join(reference)
            .ok()
            .map(|location| location.to_string());
        assert_eq!(led.as_deref(), expected, "{reference}");
    }
}

#[tokio::test]
async fn what_does_not_fit_the_disk_is_refused_before_it_is_downloaded() {
    let (world, folder) = (World::new().await, folder());
    let index = folder.path().join("index.yaml");
    let text = std::fs::read_to_string(&index).unwrap();
    std::fs::write(&index, text.replace("size: ", "size: 99999999999")).unwrap();
    let server = serve(folder.path(), |_| None);
    add(&world, "web", &format!("{}/", server.url)).await;
    let error = install(&world, "*").await.unwrap_err();
    assert_eq!(error.code(), Code::NoSpace, "{error}");
    assert!(error.to_string().contains("are needed in"), "{error}");
    assert_eq!(server.requests("/python-3.12.0.pkg.tar.gz"), 0);
}

#[tokio::test]
async fn an_index_older_than_one_that_was_seen_is_refused_also_after_a_restart() {
    let (world, folder) = (World::new().await, folder());
    let file = folder.path().join("index.yaml");
    let old = std::fs::read(&file).unwrap();
    add(&world, "local", folder.path().to_str().unwrap()).await;
    std::fs::remove_file(folder.path().join("python-3.11.2.pkg.tar.gz")).unwrap();
    index::write_index(folder.path(), None).unwrap();
    let listed = world.packages.available("local", true).await.unwrap();
    assert_eq!(listed.len(), 3);
    let world = world.restarted().await;
    std::fs::write(&file, &old).unwrap();
    let listed = world.packages.available("local", true).await.unwrap();
    assert_eq!(listed.len(), 3, "the stored copy serves");
    let error = last_error(&world).unwrap();
    assert!(
        error.contains("serial 1") && error.contains("2 was seen"),
        "{error}"
    );
    // One that was begun anew is taken when it is added anew.
    world.packages.remove_repository("local").await.unwrap();
    add(&world, "local", folder.path().to_str().unwrap()).await;
    let listed = world.packages.available("local", true).await.unwrap();
    assert_eq!(listed.len(), 4);
}

#[tokio::test]
async fn an_endless_index_is_cut() {
    let world = World::new().await;
    let server = Server::start(|_| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n".to_vec();
        server::raw(head)
    });
    add(&world, "web", &format!("{}/", server.url)).await;
    let error = world.packages.available("web", true).await.unwrap_err();
    assert!(error.to_string().contains("is longer than"), "{error}");
}
