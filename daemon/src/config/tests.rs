//! The annotated default file, the order of the sources, and what errors name.

use std::io::Write as _;

use super::exposure::TokenPolicy;
use super::paths::Host;
use super::*;
use piston_client::api::Role;

fn host(home: Home, variables: &[(&str, &str)]) -> Host {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Host {
        home,
        uid: 1000,
        cpus: 2,
        variables: variables.collect(),
    }
}

fn resolved(text: &str) -> Result<Config, BadValue> {
    let host = host(Home::System, &[]);
    let raw = toml::from_str(text).expect("TOML with known keys");
    resolve::resolve(raw, &host, &Paths::of(&host))
}

fn load_text(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("written");
    let flags = Flags {
        config: Some(file.path().to_owned()),
        ..Flags::default()
    };
    load(&flags, &host(Home::System, variables))
}

/// The default file with the keys that depend on the host brought to life.
fn everything() -> String {
    let alive = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => rest.to_owned(),
        _ => line.to_owned(),
    };
    DEFAULT_FILE
        .lines()
        .map(alive)
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_default_file_says_what_the_built_in_defaults_are() {
    let built_in = resolved("").expect("defaults are within bounds");
    assert_eq!(resolved(DEFAULT_FILE).as_ref(), Ok(&built_in));
    // With the host's keys as well all is the same, save that these were then asked for.
    let mut all = resolved(&everything()).expect("within bounds");
    assert_eq!(
        all.server.socket.group,
        SocketGroup::Required("piston".to_owned())
    );
    all.server.socket.group = built_in.server.socket.group.clone();
    all.limits.v2.memory = built_in.limits.v2.memory;
    all.python_index.clone_from(&built_in.python_index);
    all.registry_auth.clone_from(&built_in.registry_auth);
    all.javascript_registry
        .clone_from(&built_in.javascript_registry);
    assert_eq!(all, built_in);
}

#[test]
fn the_default_file_names_every_key() {
    fn absent(value: &serde_json::Value, at: &str, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Null => found.push(at.to_owned()),
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    absent(value, &format!("{at}.{name}"), found);
                }
            }
            _ => {}
        }
    }
    let raw: Raw = toml::from_str(&everything()).expect("parses");
    let mut missing = Vec::new();
    absent(
        &serde_json::to_value(raw).expect("plain data"),
        "",
        &mut missing,
    );
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn the_default_file_takes_a_listener_as_it_explains_one() {
    let (head, block) = DEFAULT_FILE
        .split_once("# [[http.listeners]]\n")
        .expect("it explains one");
    let alive = |line: &str| line.strip_prefix("# ").unwrap_or(line).to_owned();
    let of_tcp = block.lines().filter(|line| !line.contains("socket_"));
    let block: Vec<String> = of_tcp.map(alive).collect();
    let config = resolved(&format!("{head}[[http.listeners]]\n{}\n", block.join("\n")));
    assert_eq!(config.expect("within bounds").server.listeners.len(), 1);
}

#[test]
fn a_later_source_wins() {
    let text =
        "[http]\nsocket = \"/file\"\n[data]\ndirectory = \"/file\"\n[jobs]\nmax_concurrent = 1\n";
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("written");
    let flags = Flags {
        config: Some(file.path().to_owned()),
        socket: Some("/flag".into()),
        ..Flags::default()
    };
    let variables = [("PISTON_SOCKET", "/env"), ("PISTON_DATA_DIRECTORY", "/env")];
    let config = load(&flags, &host(Home::System, &variables))
        .expect("loads")
        .config;
    assert_eq!(config.server.socket.path, Path::new("/flag"));
    assert_eq!(config.data, Path::new("/env"));
    assert_eq!(config.jobs.max_concurrent, 1);
}

#[test]
fn an_error_of_the_file_names_its_line() {
    let check = |text: &str, line: usize, word: &str| {
        let error = load_text(text, &[]).expect_err(text).to_string();
        assert!(
            error.contains(&format!(": line {line}: ")),
            "{text:?} gives {error}"
        );
        assert!(error.contains(word), "{text:?} gives {error}");
    };
    check("log_level = \"info\"\n\nlog_levle = 1", 3, "log_levle");
    check("[http]\nmax_body = \"1X\"", 2, "1X");
    check("[http]\nsocket_mode = \"999\"", 2, "999");
    check("[http\n", 1, "");
    check(
        "[http]\nsocket = \"relative\"",
        2,
        "http.socket: `relative` is not an absolute path",
    );
    check("\n[jobs]\nmax_concurrent = 0", 3, "not between 1 and");
    let listener = |line: &str| format!("\n[[http.listeners]]\naddress = \"[::]:1\"\n{line}\n");
    check(&listener("role = \"admin\""), 4, "tokens = true");
    check(&listener("role = \"root\""), 4, "root");
    check(&listener("rate = \"10/d\""), 4, "10/d");
    check(&listener("concurrency = 0"), 4, "concurrency");
    check(&listener("socket_mode = \"0666\""), 3, "no mode");
    check("[[http.listeners]]\naddress = \"nowhere\"", 2, "nowhere");
    check("[http]\ntrusted_proxies = [\"x\"]", 2, "unix");
    check("[http]\ncors_origins = [\"x\"]", 2, "no origin");
    check("[http]\nprefix = \"x\"", 2, "/code");
    check("[limits.run]\nmemory = 0", 2, "limits.run.memory");
    check(
        "[limits.max]\nwall_time = \"1s\"\n[limits.run]\nwall_time = \"2s\"",
        4,
        "limits.max.wall_time",
    );
    check("[limits.override.python]\nrun_time = 1", 1, "`run_time`");
    check("[limits.override.Python]\nrun_timeout = 1", 1, "Python");
    check("[cache.override.Bash]\nttl = \"1s\"", 1, "Bash");
    check("[cache.override.bash]\nttl = 0", 2, "ttl");
    check("[cache.override.bash]\nlevel = \"all\"", 2, "all");
    check(
        "[repositories.all]\nurl = \"file:///x\"",
        1,
        "every repository",
    );
}

#[test]
fn the_released_names_are_understood_and_others_are_warned_of() {
    let variables = [
        ("PISTON_LOG_LEVEL", "INFO"),
        ("PISTON_BIND_ADDRESS", "127.0.0.1:2000"),
        ("PISTON_OUTPUT_MAX_SIZE", "2048"),
        ("PISTON_MAX_PROCESS_COUNT", "12"),
        ("PISTON_RUN_TIMEOUT", "1500"),
        ("PISTON_RUN_MEMORY_LIMIT", "-1"),
        ("PISTON_COMPILE_MEMORY_LIMIT", "1000000"),
        (
            "PISTON_LIMIT_OVERRIDES",
            "{\"c++\":{\"max_process_count\":128}}",
        ),
        ("PISTON_REPO_URL", "file:///index"),
        ("PISTON_TYPO", "1"),
        ("OTHER", "1"),
    ];
    let loaded = load_text("", &variables).expect("loads");
    let config = loaded.config;
    assert_eq!(config.log_level, "info");
    let [listener] = &config.server.listeners[..] else {
        panic!("{:?}", config.server.listeners)
    };
    let address = "127.0.0.1:2000".parse().expect("an address");
    assert_eq!(
        (&listener.place, listener.role, listener.tokens),
        (&Place::Tcp(address), Role::Execute, TokenPolicy::Ignored)
    );
    assert_eq!(config.limits.v2.output, Bytes(2048));
    assert_eq!(config.limits.defaults.compile.processes, 12);
    assert_eq!(
        config.limits.defaults.run.wall_time,
        Duration::from_millis(1500)
    );
    assert_eq!(config.limits.defaults.run.memory, Bytes::mib(512));
    assert_eq!(config.limits.v2.memory.run, None);
    assert_eq!(config.limits.v2.memory.compile, Some(Bytes(1_000_000)));
    assert_eq!(config.limits.overrides["c++"].0.run.processes, Some(128));
    assert_eq!(config.repositories["default"].url, "file:///index");
    let [warning] = &loaded.warnings[..] else {
        panic!("{:?}", loaded.warnings)
    };
    assert!(warning.contains("PISTON_TYPO"), "{warning}");
}

#[test]
fn a_bad_variable_is_named() {
    let check = |name: &str, value: &str| {
        let error = load_text("", &[(name, value)])
            .expect_err(value)
            .to_string();
        assert!(error.contains(name), "{error}");
    };
    check("PISTON_BIND_ADDRESS", "localhost");
    check("PISTON_MAX_CONCURRENT_JOBS", "many");
    check("PISTON_LIMIT_OVERRIDES", "{");
    check("PISTON_DISABLE_NETWORKING", "false");
}

#[test]
fn a_user_without_root_gets_xdg_directories() {
    let check = |variables: &[(&str, &str)], config: &str, data: &str, socket: &str| {
        let paths = Paths::of(&host(Home::User, variables));
        assert_eq!(paths.config, Path::new(config));
        assert_eq!(paths.data, Path::new(data));
        assert_eq!(paths.socket, Path::new(socket));
    };
    check(
        &[
            ("HOME", "/h"),
            ("XDG_RUNTIME_DIR", "/r"),
            ("XDG_CONFIG_HOME", "/c"),
            ("XDG_DATA_HOME", "/d"),
        ],
        "/c/piston/piston.toml",
        "/d/piston",
        "/r/piston/piston.sock",
    );
    check(
        &[("HOME", "/h"), ("XDG_DATA_HOME", "relative")],
        "/h/.config/piston/piston.toml",
        "/h/.local/share/piston",
        "/tmp/piston-1000/piston.sock",
    );
}

#[test]
fn the_named_file_must_exist_and_the_default_one_need_not() {
    let flags = Flags {
        config: Some("/nonexistent/piston.toml".into()),
        ..Flags::default()
    };
    let host = host(Home::User, &[("XDG_CONFIG_HOME", "/nonexistent")]);
    let error = load(&flags, &host).expect_err("named").to_string();
    assert!(error.contains("/nonexistent/piston.toml"), "{error}");
    assert_eq!(load(&Flags::default(), &host).expect("defaults").file, None);
}
