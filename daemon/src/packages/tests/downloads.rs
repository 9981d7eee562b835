//! Package files from servers that break off, stall, lie and change: what comes of each is the file
//! that the index names, or a clear error; and where it may help what came is kept.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use piston_client::api::{Code, RepositorySettings};
use proptest::prelude::{Just, ProptestConfig, Strategy, prop_oneof, proptest};

use super::super::fetch::Wanted;
use super::super::index::Checksum;
use super::super::*;
use super::repositories::{add, folder, install, is_python, serve};
use super::server::{self, Reply, Request, Server};
use super::support::*;

/// What a server does with one request for the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// As it should.
    Good,
    /// So many bytes of what it should, then the end of the connection.
    Cut(usize),
    /// The same, then silence.
    Stall(usize),
    /// Another status.
    Status(&'static str),
    /// The whole file, whatever was asked for.
    NoRanges,
    /// The beginning of another file, under another version, cut off.
    Changed(usize),
    /// Bytes that are not the file's, as if they were.
    Lie,
    /// Another range than was asked for.
    WrongRange,
}

/// The first byte of a `Range` header.
fn start_of(request: &Request) -> Option<usize> {
    let range = |line: &String| {
        line.strip_prefix("range: bytes=")?
            .strip_suffix('-')?
            .parse()
            .ok()
    };
    request.headers.iter().find_map(range)
}

fn if_range(request: &Request) -> Option<&str> {
    let version = |line: &'_ String| line.starts_with("if-range: ");
    let line = request.headers.iter().find(|line| version(line))?;
    line.strip_prefix("if-range: ")
}

/// Serves a range of `bytes` as a server of files does.
fn ranged(bytes: &[u8], request: &Request, version: &str) -> Vec<u8> {
    let total = bytes.len();
    let start = start_of(request).filter(|_| if_range(request).is_none_or(|v| v == version));
    let head = match start {
        Some(start) if start >= total => {
            return format!(
                "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{total}\r\n\
                 Connection: close\r\nContent-Length: 0\r\n\r\n"
            )
            .into_bytes();
        }
        Some(start) => format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{}/{total}\r\n",
            total - 1
        ),
        None => "HTTP/1.1 200 OK\r\n".to_owned(),
    };
    let body = &bytes[start.unwrap_or(0)..];
    let length = body.len();
    let head =
        format!("{head}ETag: {version}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// So many bytes of the body.
fn cut(mut reply: Vec<u8>, body: usize) -> Vec<u8> {
    let head = reply
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap()
        + 4;
    reply.truncate(head + body);
    reply
}

fn answer(deed: Deed, bytes: &[u8], request: &Request) -> Reply {
    let good = || ranged(bytes, request, "\"one\"");
    let other = || vec![b'?'; bytes.len()];
    match deed {
        Deed::Good => server::raw(good()),
        Deed::Cut(length) => server::raw(cut(good(), length)),
        Deed::Stall(length) => Reply {
            bytes: cut(good(), length),
            pause: Duration::from_secs(2),
        },
        Deed::Status(line) => server::status(line),
        Deed::NoRanges => server::ok(bytes),
        Deed::Changed(length) => server::raw(cut(ranged(&other(), request, "\"two\""), length)),
        Deed::Lie => {
            let claimed = if_range(request).unwrap_or("\"one\"").to_owned();
            server::raw(ranged(&other(), request, &claimed))
        }
        Deed::WrongRange => {
            let moved = Request {
                path: request.path.clone(),
                headers: vec!["range: bytes=1-".to_owned()],
            };
            server::raw(ranged(bytes, &moved, "\"one\""))
        }
    }
}

/// A server that does each deed once, in order, and is good from then on.
fn scripted(deeds: &[Deed], bytes: &[u8]) -> Server {
    let (deeds, bytes) = (Mutex::new(deeds.to_vec()), bytes.to_vec());
    Server::start(move |request| {
        let mut deeds = deeds.lock().unwrap();
        let deed = if deeds.is_empty() {
            Deed::Good
        } else {
            deeds.remove(0)
        };
        drop(deeds);
        answer(deed, &bytes, request)
    })
}

/// Downloads `bytes` from a server with that script; the file is what it should be, or gone, or a part.
async fn download(deeds: &[Deed], bytes: &[u8], to: &Path) -> (Result<(), FetchError>, Server) {
    let server = scripted(deeds, bytes);
    let outcome = once(&server, bytes, to).await;
    if outcome.is_ok() {
        assert!(std::fs::read(to).unwrap() == bytes, "{deeds:?}");
    }
    (outcome, server)
}

async fn once(server: &Server, bytes: &[u8], to: &Path) -> Result<(), FetchError> {
    use sha2::Digest as _;
    let digest = piston_client::ids::Digest::from_bytes(sha2::Sha256::digest(bytes).into());
    let fetcher = Fetcher::new(Patience {
        silence: Duration::from_millis(300),
        ..patience()
    });
    let wanted = Wanted {
        from: &Location::of_index(&format!("{}/file", server.url)).unwrap(),
        limit: u64::try_from(bytes.len()).unwrap(),
        checksum: &Checksum::Sha256(digest),
        told: &|_| (),
    };
    fetcher.package(&wanted, to).await
}

fn file_of(length: usize) -> Vec<u8> {
    (0..length)
        .map(|n| u8::try_from(n * n % 251).unwrap())
        .collect()
}

#[tokio::test]
async fn a_download_goes_on_where_it_was_cut_off() {
    let (dir, bytes) = (tempfile::tempdir().unwrap(), file_of(300_000));
    let to = dir.path().join("file");
    let deeds = [
        Deed::Cut(100_000),
        Deed::Stall(50_000),
        Deed::Status("503 Service Unavailable"),
        Deed::Cut(1),
    ];
    let (outcome, server) = download(&deeds, &bytes, &to).await;
    outcome.unwrap();
    let seen = server.seen.lock().unwrap();
    let starts: Vec<Option<usize>> = seen.iter().map(start_of).collect();
    let expected = [
        None,
        Some(100_000),
        Some(150_000),
        Some(150_000),
        Some(150_001),
    ];
    assert_eq!(starts, expected);
    assert!(
        seen[1..]
            .iter()
            .all(|request| if_range(request) == Some("\"one\""))
    );
    assert!(
        !fetch::note_of(&to).exists(),
        "nothing but the file is left"
    );
}

#[tokio::test]
async fn a_file_that_changes_or_is_lied_about_amid_a_download_is_begun_anew() {
    let bytes = file_of(100_000);
    for deeds in [
        &[Deed::Cut(40_000), Deed::NoRanges][..],
        &[Deed::Cut(40_000), Deed::Status("416 Range Not Satisfiable")],
        &[Deed::Cut(40_000), Deed::WrongRange],
        &[Deed::Cut(40_000), Deed::Lie],
        &[Deed::Changed(40_000)],
        &[Deed::Cut(10), Deed::Changed(40_000), Deed::Cut(20)],
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (outcome, _server) = download(deeds, &bytes, &dir.path().join("file")).await;
        assert!(outcome.is_ok(), "{deeds:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn faults_that_do_not_pass_are_told_and_only_what_is_of_use_is_kept() {
    let bytes = file_of(100_000);
    let forever = |deed: Deed| vec![deed; 40];
    for (deeds, words, kept) in [
        (
            forever(Deed::Status("503 Service Unavailable")),
            "503",
            false,
        ),
        (forever(Deed::Status("404 Not Found")), "404", false),
        (forever(Deed::Lie), "the index says", false),
        (forever(Deed::Stall(0)), "does not answer", false),
        (
            [vec![Deed::Cut(500)], forever(Deed::Status("500 Oops"))].concat(),
            "500",
            true,
        ),
        (
            [vec![Deed::Cut(500)], forever(Deed::Cut(0))].concat(),
            "",
            true,
        ),
        (
            [vec![Deed::Cut(500)], forever(Deed::Status("403 Forbidden"))].concat(),
            "403",
            false,
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("file");
        let (outcome, server) = download(&deeds, &bytes, &to).await;
        let text = outcome.unwrap_err().to_string();
        assert!(text.contains(words) && text.contains("/file"), "{text}");
        assert_eq!(to.exists(), kept, "{text}");
        assert_eq!(fetch::note_of(&to).exists(), kept, "{text}");
        assert!(server.requests("/file") < 12, "{text}");
    }
}

#[tokio::test]
async fn a_file_without_end_is_cut_at_its_bound_and_nothing_of_it_stays() {
    let (dir, bytes) = (tempfile::tempdir().unwrap(), file_of(1000));
    let to = dir.path().join("file");
    let endless = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; 2_000_000]].concat();
    let server = Server::start(move |_| server::raw(endless.clone()));
    let error = once(&server, &bytes, &to).await.unwrap_err().to_string();
    assert!(error.contains("longer than the 1000 bytes"), "{error}");
    assert!(!to.exists());
    // Nor does a part grow beyond it.
    std::fs::write(&to, vec![b'x'; 5000]).unwrap();
    let good = scripted(&[], &bytes);
    once(&good, &bytes, &to).await.unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), bytes);
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        Just(Deed::Good),
        (0_usize..3000).prop_map(Deed::Cut),
        Just(Deed::Status("500 Oops")),
        Just(Deed::Status("416 Range Not Satisfiable")),
        Just(Deed::Status("404 Not Found")),
        Just(Deed::NoRanges),
        (0_usize..3000).prop_map(Deed::Changed),
        Just(Deed::Lie),
        Just(Deed::WrongRange),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Whatever a server does, and however often one asks again: the file is right or not there as
    /// one; and once the server is good, it is had.
    #[test]
    fn no_sequence_of_faults_gives_another_file_or_stands_in_the_way(
        deeds in proptest::collection::vec(deed(), 0..12), length in 1_usize..2500,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (dir, bytes) = (tempfile::tempdir().unwrap(), file_of(length));
        let to = dir.path().join("file");
        runtime.block_on(async {
            let (outcome, server) = download(&deeds, &bytes, &to).await;
            if outcome.is_err() {
                // The rest of the script, and then a good server.
                for _ in 0..deeds.len() {
                    if once(&server, &bytes, &to).await.is_ok() {
                        break;
                    }
                }
                once(&server, &bytes, &to).await.unwrap();
                assert!(std::fs::read(&to).unwrap() == bytes);
            }
        });
    }
}

/// A server of a folder that breaks package files off after so many bytes of the body.
fn breaking(folder: &Path, after: usize) -> Server {
    let root = folder.to_owned();
    serve(folder, move |request| {
        let bytes = std::fs::read(root.join(request.path.trim_start_matches('/'))).ok()?;
        is_python(request).then(|| server::raw(cut(ranged(&bytes, request, "\"one\""), after)))
    })
}

fn parts(world: &World) -> Vec<u64> {
    let files = std::fs::read_dir(world.dir.path().join("data/downloads")).unwrap();
    let parts = files.map(Result::unwrap).filter(|file| {
        let name = file.file_name();
        name.to_string_lossy().ends_with(".part")
    });
    parts.map(|part| part.metadata().unwrap().len()).collect()
}

#[tokio::test]
async fn a_download_goes_on_after_a_restart_of_the_daemon_from_another_place() {
    let (world, folder) = (World::new().await, folder());
    let bytes = std::fs::read(folder.path().join("python-3.12.0.pkg.tar.gz")).unwrap();
    let gone = Arc::new(Mutex::new(false));
    let told = Arc::clone(&gone);
    let first = bytes.clone();
    let server = serve(folder.path(), move |request| {
        let mut gone = told.lock().unwrap();
        if !is_python(request) {
            return None;
        }
        if *gone {
            return Some(server::status("503 Service Unavailable"));
        }
        *gone = true;
        Some(server::raw(cut(ranged(&first, request, "\"one\""), 100)))
    });
    add(&world, "web", &format!("{}/", server.url)).await;
    let error = install(&world, "*").await.unwrap_err();
    assert_eq!(error.code(), Code::RepositoryUnavailable, "{error}");
    assert!(world.installed().is_empty());
    assert_eq!(parts(&world), [100], "what came is kept");

    let world = world.restarted().await;
    assert_eq!(parts(&world), [100]);
    let good = serve(folder.path(), move |request| {
        is_python(request).then(|| server::raw(ranged(&bytes, request, "\"one\"")))
    });
    add(&world, "web", &format!("{}/", good.url)).await;
    install(&world, "*").await.unwrap();
    let seen = good.seen.lock().unwrap();
    let asked = seen.iter().find(|request| is_python(request)).unwrap();
    assert_eq!(start_of(asked), Some(100));
    assert_eq!(
        if_range(asked),
        None,
        "another place's version says nothing"
    );
    drop(seen);
    assert_eq!(parts(&world), Vec::<u64>::new());
    assert_eq!(world.files(), 4);
}

#[tokio::test]
async fn a_redirect_of_a_package_file_to_another_host_is_followed() {
    let (world, folder) = (World::new().await, folder());
    let mirror = serve(folder.path(), |_| None);
    let to = mirror.url.clone();
    let server = serve(folder.path(), move |request| {
        is_python(request).then(|| server::redirect(&format!("{to}{}", request.path)))
    });
    add(&world, "web", &format!("{}/", server.url)).await;
    install(&world, "*").await.unwrap();
    assert_eq!(mirror.requests("/python-3.12.0.pkg.tar.gz"), 1);
}

#[tokio::test]
async fn an_index_that_is_packed_or_a_bomb_is_refused_in_words() {
    let world = World::new().await;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut packed, &vec![b' '; 64 << 20]).unwrap();
    let packed = packed.finish().unwrap();
    let aliases = "schema: ppman-repo-1\na: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\n\
                   c: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\npackages: []\n";
    let bombs = [
        server::with_headers("Content-Encoding: gzip\r\n", &packed),
        server::ok(&packed),
        server::ok(aliases.as_bytes()),
        server::ok(format!("schema: ppman-repo-1\npackages: {}", "[".repeat(100_000)).as_bytes()),
    ];
    for (number, bomb) in bombs.into_iter().enumerate() {
        let server = Server::start(move |_| bomb.clone());
        add(&world, "web", &format!("{}/{number}", server.url)).await;
        let listed = world.packages.available("web", true).await;
        // The one with aliases holds no package either way.
        match listed {
            Ok(listed) => assert!(number == 2 && listed.is_empty(), "{number}"),
            Err(error) => assert!(error.to_string().contains("web"), "{error}"),
        }
    }
}

/// Kills during one download, which goes on after each.
const KILLS: usize = 40;

/// Not a test by itself: installs python from the repository that is configured below the data
/// directory on the command line.
#[tokio::test]
async fn download_child() {
    let arguments: Vec<String> = std::env::args().collect();
    let Some(at) = arguments.iter().position(|word| word == "--nocapture") else {
        return;
    };
    let [root] = &arguments[at + 1..] else {
        return;
    };
    let packages = open(Path::new(root), &Arc::default()).await;
    let python = "python".parse().unwrap();
    packages.install("all", &python, &any()).await.unwrap();
}

#[tokio::test]
async fn a_daemon_that_is_killed_again_and_again_gets_its_package_piece_by_piece() {
    let (dir, folder) = (tempfile::tempdir().unwrap(), folder());
    // Each connection gives a little, slowly: most kills hit a download.
    let server = breaking(folder.path(), 64);
    let packages = open(dir.path(), &Arc::default()).await;
    let url = format!("{}/", server.url);
    packages
        .set_repository("web", &RepositorySettings::unsigned(url))
        .await
        .unwrap();
    drop(packages);
    let mut most = 0;
    let mut done = false;
    for kill in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "packages::tests::downloads::download_child"])
            .arg("--nocapture")
            .arg(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(60 + 7 * u64::try_from(kill).unwrap()));
        child.kill().unwrap();
        done |= child.wait().unwrap().success();
        std::thread::sleep(Duration::from_millis(5));

        let recorder = Arc::default();
        let packages = open(dir.path(), &recorder).await;
        let names = packages.list().len();
        assert!(names == 0 || names == 2, "kill {kill}: {names} packages");
        let count = |name: &str| std::fs::read_dir(dir.path().join(name)).unwrap().count();
        assert_eq!(count("data/images"), names * 2, "kill {kill}");
        assert_eq!(count("data/staging"), 0, "kill {kill}");
        let parts = std::fs::read_dir(dir.path().join("data/downloads")).unwrap();
        let longest = parts
            .map(|part| part.unwrap().metadata().unwrap().len())
            .max();
        if names == 0 {
            assert!(
                longest.unwrap_or(0) >= most,
                "kill {kill}: what came is kept"
            );
            most = longest.unwrap_or(0);
        } else {
            assert_eq!(
                longest, None,
                "kill {kill}: nothing is left of the download"
            );
            done = true;
            break;
        }
    }
    assert!(most > 0, "no kill hit a download");
    if !done {
        let packages = open(dir.path(), &Arc::default()).await;
        let python = "python".parse().unwrap();
        packages.install("web", &python, &any()).await.unwrap();
    }
    let seen = server.seen.lock().unwrap();
    assert!(
        seen.iter()
            .any(|request| start_of(request).is_some_and(|start| start >= 64))
    );
}
