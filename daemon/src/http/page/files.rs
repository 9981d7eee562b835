//! The page's files, as they lie in `daemon/page`.
//!
//! A test proves that every file of the folder is here, and that nothing refers to one that is not.

/// The start page; `assets/` in it stands for the folder of all others.
pub(super) const START: &str = include_str!("../../../page/index.html");

/// Names and contents.
macro_rules! files {
    ($($name:literal,)*) => {
        &[$(($name, include_bytes!(concat!("../../../page/", $name)).as_slice()),)*]
    };
}

/// All others.
pub(super) const FILES: &[(&str, &[u8])] = files![
    "api.js",
    "app.js",
    "args.js",
    "charts.js",
    "dom.js",
    "editor.js",
    "editor/LICENSES",
    "editor/VERSIONS",
    "editor/codemirror.js",
    "editor/lang/assembly.js",
    "editor/lang/bash.js",
    "editor/lang/clojure.js",
    "editor/lang/commonlisp.js",
    "editor/lang/cpp.js",
    "editor/lang/csharp.js",
    "editor/lang/d.js",
    "editor/lang/dart.js",
    "editor/lang/erlang.js",
    "editor/lang/fortran.js",
    "editor/lang/fsharp.js",
    "editor/lang/go.js",
    "editor/lang/haskell.js",
    "editor/lang/java.js",
    "editor/lang/javascript.js",
    "editor/lang/julia.js",
    "editor/lang/kotlin.js",
    "editor/lang/lua.js",
    "editor/lang/ocaml.js",
    "editor/lang/octave.js",
    "editor/lang/pascal.js",
    "editor/lang/perl.js",
    "editor/lang/php.js",
    "editor/lang/powershell.js",
    "editor/lang/python.js",
    "editor/lang/r.js",
    "editor/lang/ruby.js",
    "editor/lang/rust.js",
    "editor/lang/scala.js",
    "editor/lang/scheme.js",
    "editor/lang/sql.js",
    "editor/lang/swift.js",
    "editor/lang/tcl.js",
    "editor/lang/typescript.js",
    "editor/part-45VXAKZ5.js",
    "editor/part-DYUJ6ZUA.js",
    "editor/part-ENMESB4W.js",
    "editor/part-HKINVIUS.js",
    "editor/part-PRTZKLIB.js",
    "editor/part-ZOJIP2QO.js",
    "figures.js",
    "icon.svg",
    "job.js",
    "languages.js",
    "metrics.js",
    "output.js",
    "packages.js",
    "samples.js",
    "share.js",
    "status.js",
    "style/layout.css",
    "style/parts.css",
    "style/theme.css",
    "style/views.css",
    "tabs.js",
    "talk.js",
    "token.js",
    "views.js",
];
