//! What a test needs of the machine. A missing thing fails the test with the remedy, unless
//! `PISTON_TEST_ALLOW_SKIP` (a comma-separated list) names it; then the skip is printed.

use nix::unistd::geteuid;

/// Whether the test may go on: true when `met`, false when a skip of `name` is allowed.
///
/// # Panics
/// When the thing is missing and may not be skipped.
#[must_use]
pub fn that(name: &str, met: bool, remedy: &str) -> bool {
    if met {
        return true;
    }
    let allowed = std::env::var("PISTON_TEST_ALLOW_SKIP").unwrap_or_default();
    assert!(
        allowed.split(',').any(|word| word == name),
        "this test needs {name}: {remedy} (or allow the skip: PISTON_TEST_ALLOW_SKIP={name})"
    );
    #[expect(clippy::print_stdout, reason = "a skip must be seen")]
    let () = println!("skipped: needs {name}");
    false
}

/// Control groups of version 1 with the controllers that limits need, where this process may make
/// groups.
#[must_use]
pub fn legacy_groups() -> bool {
    let met = ["memory", "pids", "cpuacct"]
        .iter()
        .all(|controller| std::fs::metadata(format!("/sys/fs/cgroup/{controller}/tasks")).is_ok());
    that(
        "cgroup1",
        met && geteuid().is_root(),
        "run it as root where version 1 is mounted; contrib/guest/guest.sh tries version 2",
    )
}

/// The test runs as root.
#[must_use]
pub fn root() -> bool {
    that("root", geteuid().is_root(), "run the tests as root")
}

/// Apt's lists of packages are there; the servers that they name have to be reached as well.
#[must_use]
pub fn apt_lists() -> bool {
    let lists = std::fs::read_dir("/var/lib/apt/lists")
        .into_iter()
        .flatten();
    let met = lists
        .filter_map(Result::ok)
        .any(|entry| entry.file_name().to_string_lossy().contains("_Packages"));
    that("apt-lists", met, "run `apt-get update` on a Debian")
}

/// Where Python libraries come from: as pip is told by the environment, else the usual index.
#[must_use]
pub fn python_index_url() -> String {
    std::env::var("PIP_INDEX_URL").unwrap_or_else(|_| "https://pypi.org/simple".to_owned())
}

/// The index of Python libraries answers.
#[must_use]
pub fn python_index() -> bool {
    let remedy = "set PIP_INDEX_URL to an index that can be reached";
    that("python-index", answers(&python_index_url()), remedy)
}

/// Where JavaScript libraries come from: as npm is told by the environment, else the usual registry.
#[must_use]
pub fn javascript_registry_url() -> String {
    let usual = |_| "https://registry.npmjs.org".to_owned();
    std::env::var("npm_config_registry").unwrap_or_else(usual)
}

/// The registry of JavaScript libraries answers.
#[must_use]
pub fn javascript_registry() -> bool {
    let remedy = "set npm_config_registry to a registry that can be reached";
    that(
        "javascript-registry",
        answers(&javascript_registry_url()),
        remedy,
    )
}

/// Whether the server of a URL takes connections.
fn answers(url: &str) -> bool {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let host = rest.split('/').next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    let port = if scheme == "http" { 80 } else { 443 };
    let address = if host.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:{port}")
    };
    std::net::TcpStream::connect(address).is_ok()
}
