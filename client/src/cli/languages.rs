//! Which language a file is written in, by its ending.
//!
//! Owns one table. Whether a language is installed is asked elsewhere.

use std::path::Path;

/// Endings with the names under which their language may be installed, the likeliest first.
const ENDINGS: &[(&str, &[&str])] = &[
    ("asm", &["nasm"]),
    ("awk", &["awk", "gawk"]),
    ("bash", &["bash"]),
    ("c", &["c"]),
    ("cc", &["c++"]),
    ("clj", &["clojure"]),
    ("cob", &["cobol"]),
    ("cpp", &["c++"]),
    ("cr", &["crystal"]),
    ("cs", &["csharp", "c#", "mono", "dotnet"]),
    ("cxx", &["c++"]),
    ("d", &["d"]),
    ("dart", &["dart"]),
    ("erl", &["erlang"]),
    ("ex", &["elixir"]),
    ("exs", &["elixir"]),
    ("f90", &["fortran"]),
    ("fs", &["fsharp", "f#"]),
    ("go", &["go"]),
    ("groovy", &["groovy"]),
    ("hs", &["haskell"]),
    ("java", &["java"]),
    ("jl", &["julia"]),
    ("js", &["javascript", "node", "js"]),
    ("kt", &["kotlin"]),
    ("lisp", &["lisp"]),
    ("lua", &["lua"]),
    ("m", &["octave"]),
    ("mjs", &["javascript", "node", "js"]),
    ("ml", &["ocaml"]),
    ("nim", &["nim"]),
    ("pas", &["pascal"]),
    ("php", &["php"]),
    ("pl", &["perl"]),
    ("ps1", &["powershell"]),
    ("py", &["python"]),
    ("r", &["r", "rscript"]),
    ("raku", &["raku"]),
    ("rb", &["ruby"]),
    ("rkt", &["racket"]),
    ("rs", &["rust"]),
    ("scala", &["scala"]),
    ("scm", &["scheme", "guile"]),
    ("sh", &["bash", "sh", "dash"]),
    ("sql", &["sqlite3", "sqlite"]),
    ("swift", &["swift"]),
    ("tcl", &["tcl"]),
    ("ts", &["typescript"]),
    ("vb", &["basic.net", "basic"]),
    ("zig", &["zig"]),
];

/// The names of the language that a file of this ending is written in.
pub(super) fn of_file(path: &Path) -> Option<&'static [&'static str]> {
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    let at = ENDINGS
        .binary_search_by_key(&ending.as_str(), |(known, _)| known)
        .ok()?;
    Some(ENDINGS[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        assert!(ENDINGS.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn a_language_is_known_by_its_ending() {
        let first = |path: &str| of_file(Path::new(path)).map(|names| names[0]);
        assert_eq!(first("a/b/hello.py"), Some("python"));
        assert_eq!(first("HELLO.CPP"), Some("c++"));
        assert_eq!(first("x.tar.js"), Some("javascript"));
        assert_eq!(first("python3.11"), None);
        assert_eq!(first("python"), None);
        assert_eq!(first(".py"), None);
        assert_eq!(first("-"), None);
    }
}
