// What the page knows of languages: their names, file endings, highlighting, and a first program.
// A language that is not listed runs as well, under the name that the daemon gives it.

import { samples } from "./samples.js";

/** language -> [name, ending, mode of the editor (a file in editor/lang)] */
const KNOWN = {
  awk: ["AWK", "awk"],
  bash: ["Bash", "sh", "bash"],
  c: ["C", "c", "cpp"],
  "c++": ["C++", "cpp", "cpp"],
  clojure: ["Clojure", "clj", "clojure"],
  csharp: ["C#", "cs", "csharp"],
  d: ["D", "d", "d"],
  dart: ["Dart", "dart", "dart"],
  deno: ["Deno", "ts", "typescript"],
  elixir: ["Elixir", "exs", "ruby"],
  erlang: ["Erlang", "erl", "erlang"],
  fortran: ["Fortran", "f90", "fortran"],
  fsharp: ["F#", "fs", "fsharp"],
  go: ["Go", "go", "go"],
  haskell: ["Haskell", "hs", "haskell"],
  java: ["Java", "java", "java"],
  javascript: ["JavaScript", "js", "javascript"],
  julia: ["Julia", "jl", "julia"],
  kotlin: ["Kotlin", "kt", "kotlin"],
  lisp: ["Lisp", "lisp", "commonlisp"],
  lua: ["Lua", "lua", "lua"],
  nasm: ["Assembly (nasm)", "asm", "assembly"],
  ocaml: ["OCaml", "ml", "ocaml"],
  octave: ["Octave", "m", "octave"],
  pascal: ["Pascal", "pas", "pascal"],
  perl: ["Perl", "pl", "perl"],
  php: ["PHP", "php", "php"],
  powershell: ["PowerShell", "ps1", "powershell"],
  prolog: ["Prolog", "pro"],
  python: ["Python", "py", "python"],
  r: ["R", "r", "r"],
  racket: ["Racket", "rkt", "scheme"],
  ruby: ["Ruby", "rb", "ruby"],
  rust: ["Rust", "rs", "rust"],
  scala: ["Scala", "scala", "scala"],
  scheme: ["Scheme", "scm", "scheme"],
  sqlite: ["SQLite", "sql", "sql"],
  swift: ["Swift", "swift", "swift"],
  tcl: ["Tcl", "tcl", "tcl"],
  typescript: ["TypeScript", "ts", "typescript"],
};

/** Endings of files that are written in no language of their own, or that languages share. */
const ENDINGS = { h: "cpp", hpp: "cpp", cc: "cpp", cxx: "cpp", mjs: "javascript", jsx: "javascript", tsx: "typescript", pyi: "python", hrl: "erlang", ex: "ruby", json: "javascript" };

/** As people write it. */
export const nameOf = (language) => KNOWN[language]?.[0] ?? language;

/** How its main file is called. */
export function mainFile(language) {
  const ending = KNOWN[language]?.[1] ?? "txt";
  // javac wants a file to be called as its class.
  return language === "java" ? "Main.java" : `main.${ending}`;
}

/** What a new program begins with. */
export const sampleOf = (language) => samples[language] ?? "";

/** The editor's support for a file, by its ending, else by the program's language. */
export async function supportFor(file, language) {
  const mode = modeOf(file, language);
  if (!mode) return [];
  try {
    const found = await import(`./editor/lang/${mode}.js`);
    return found.default();
  } catch {
    // Without colours a program can be written all the same.
    return [];
  }
}

function modeOf(file, language) {
  const ending = file.includes(".") ? file.slice(file.lastIndexOf(".") + 1).toLowerCase() : "";
  if (ENDINGS[ending]) return ENDINGS[ending];
  if (KNOWN[language]?.[1] === ending) return KNOWN[language][2];
  const other = Object.values(KNOWN).find(([, known]) => known === ending);
  if (other) return other[2];
  return ["txt", "csv", "md", "in", "out"].includes(ending) ? undefined : KNOWN[language]?.[2];
}
