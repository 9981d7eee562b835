// The figures of a job that ended: what its stages took, and a timeline of the daemon's steps.

import { el } from "./dom.js";

/** Microseconds for people. */
export function time(micros) {
  if (micros < 1000) return `${Math.round(micros)} \u00b5s`;
  if (micros < 100_000) return `${(micros / 1000).toFixed(1)} ms`;
  if (micros < 1_000_000) return `${Math.round(micros / 1000)} ms`;
  return `${(micros / 1_000_000).toFixed(2)} s`;
}

/** Bytes for people. */
export function size(bytes) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  const power = bytes < 1024 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** power;
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[power]}`;
}

/** Shows a result in `place`; `took` is what the page saw, in microseconds. */
export function showFigures(place, result, took) {
  const stages = ["compile", "run"].filter((name) => result[name]);
  place.replaceChildren(
    el(
      "dl",
      { class: "numbers" },
      ...stages.flatMap((name) => numbers(name, result[name], stages.length > 1)),
    ),
    timeline(result, took),
    el("p", { class: "small" }, origin(result)),
  );
  place.hidden = false;
}

function numbers(name, stage, several) {
  const of = several ? (name === "compile" ? "Compiling" : "Running") : "Run";
  const facts = [
    [`${of}: time`, time(stage.wall_time_ms * 1000)],
    [`${of}: CPU`, time(stage.cpu_time_ms * 1000)],
    [`${of}: memory`, size(stage.memory_bytes)],
  ];
  return facts.map(([label, value]) =>
    el(
      "div",
      {},
      el("dt", {}, several ? label : label.slice(5).replace(/^./, (c) => c.toUpperCase())),
      el("dd", {}, value),
    ),
  );
}

function origin({ language, version, cache, id }) {
  const restored = { miss: "", binary: ", compiled before", output: ", answered from the cache" };
  return `${language} ${version}${restored[cache] ?? ""} \u00b7 job ${id}`;
}

function timeline({ compile, run, timings, cache }, took) {
  const ran = (stage) => (stage?.wall_time_ms ?? 0) * 1000;
  const steps = [
    ["queue", "Waiting for a slot", timings.queue_us],
    ["sandbox", "Making the sandbox", timings.sandbox_us],
    ["compile", "Compiling", cache === "miss" ? ran(compile) : 0],
    ["run", "Running", cache === "output" ? 0 : ran(run)],
    ["collect", "Collecting results", timings.collect_us],
  ];
  const known = steps.reduce((sum, step) => sum + step[2], 0);
  // Stages are told in whole milliseconds, so they may add up to a little more than it took.
  steps.push(["way", "Network and the rest", Math.max(0, took - known)]);
  const there = steps.filter(([, , micros]) => micros > 0);
  const total = there.reduce((sum, step) => sum + step[2], 0);
  const bar = el("div", { class: "track", "aria-hidden": "true" });
  for (const [kind, label, micros] of there) {
    const part = el("span", { class: `part ${kind}`, title: `${label}: ${time(micros)}` });
    part.style.flexGrow = String(Math.max(micros / total, 0.004));
    bar.append(part);
  }
  const legend = there.map(([kind, label, micros]) =>
    el(
      "li",
      {},
      el("span", { class: `dot ${kind}`, "aria-hidden": "true" }),
      `${label} `,
      el("b", {}, time(micros)),
    ),
  );
  return el(
    "div",
    { class: "timeline" },
    el("h3", {}, `Steps, ${time(total)} in all`),
    bar,
    el("ol", {}, ...legend),
  );
}
