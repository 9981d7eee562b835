// Bundles editor/ into the folder that is named: modules of what is used, the licences of what is
// in them, and a list of versions and digests that a test compares with the files.
import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { build } from "esbuild";

const out = process.argv[2];
const languages = await readdir("editor/lang");
const built = await build({
  entryPoints: ["editor/codemirror.js", ...languages.map((file) => `editor/lang/${file}`)],
  outdir: out,
  outbase: "editor",
  bundle: true,
  splitting: true,
  format: "esm",
  target: "es2022",
  minify: true,
  legalComments: "none",
  chunkNames: "part-[hash]",
  metafile: true,
  write: false,
});

await mkdir(path.join(out, "lang"), { recursive: true });
const digests = [];
for (const file of built.outputFiles) {
  const name = path.relative(out, file.path);
  await writeFile(path.join(out, name), file.contents);
  digests.push(`${createHash("sha256").update(file.contents).digest("hex")}  ${name}`);
}

const used = new Set();
for (const input of Object.keys(built.metafile.inputs)) {
  const found = input.match(/^node_modules\/((?:@[^/]+\/)?[^/]+)\//);
  if (found) used.add(found[1]);
}
const licences = ["The modules in this folder are made of the packages below, bundled and minified by esbuild."];
const versions = [];
for (const name of [...used].sort()) {
  const folder = path.join("node_modules", name);
  const facts = JSON.parse(await readFile(path.join(folder, "package.json"), "utf8"));
  const text = await readFile(path.join(folder, "LICENSE"), "utf8");
  versions.push(`${name} ${facts.version} ${facts.license}`);
  licences.push(`${name} ${facts.version}\n\n${text.trim()}`);
}
await writeFile(path.join(out, "LICENSES"), `${licences.join("\n\n----\n\n")}\n`);
const lines = ["# What the bundle is made of, and the sha256 of each file; written by contrib/page/bundle."];
await writeFile(path.join(out, "VERSIONS"), `${[...lines, ...versions, "", ...digests.sort()].join("\n")}\n`);
