// The status view: how busy the daemon is, drawn anew every two seconds while it is looked at.
// Who may only execute sees jobs and packages; the rest comes from /metrics, which is an admin's.

import { get, text } from "./api.js";
import { createChart } from "./charts.js";
import { el } from "./dom.js";
import { size, time } from "./figures.js";
import { parse, rate, sum, within } from "./metrics.js";

const PAUSE = 2000;
/** After a refusal, a rate above all. */
const LONG_PAUSE = 15_000;

/** The view in `place`. */
export function create(place, { role }) {
  const manages = role === "admin";
  const tiles = el("dl", { class: "tiles" });
  const problem = el("p", { class: "problem", role: "status" });
  const charts = manages
    ? [jobs(), ended(), latency(), cache(), cacheBytes(), reads(), requests()]
    : [jobs()];
  place.append(
    el("h2", {}, "Status"),
    problem,
    tiles,
    el("div", { class: "charts" }, ...charts.map((chart) => chart.element)),
  );
  /** Which time the view is shown; a loop of an earlier time ends. */
  let turn = 0;
  let last;

  async function look(mine) {
    if (mine !== turn) return;
    const pause = document.hidden ? PAUSE : await read();
    setTimeout(look, pause, mine);
  }

  async function read() {
    try {
      const [info, metrics] = await Promise.all([
        get("info"),
        manages ? text("../../metrics") : undefined,
      ]);
      tell({ info, metrics: metrics && parse(metrics), at: performance.now() });
      problem.textContent = "";
      return PAUSE;
    } catch (error) {
      problem.textContent = error.message;
      return LONG_PAUSE;
    }
  }

  function tell(now) {
    tiles.replaceChildren(
      ...facts(now).map(([label, value]) =>
        el("div", {}, el("dt", {}, label), el("dd", {}, value)),
      ),
    );
    const seconds = last ? (now.at - last.at) / 1000 : 0;
    for (const chart of charts) chart.add({ ...now, before: last, seconds });
    last = now;
  }

  return {
    show: () => look((turn += 1)),
    hide: () => (turn += 1),
  };
}

function facts({ info, metrics }) {
  const plain = [
    ["Jobs running", `${info.jobs_running} of ${info.max_concurrent_jobs}`],
    ["Jobs waiting", String(info.jobs_queued)],
    ["Packages", `${info.packages}, ${size(info.image_bytes)}`],
    ["Daemon", `${info.version}${info.rootless ? ", rootless" : ""}`],
  ];
  if (!metrics) return plain;
  return [
    ...plain,
    ["Jobs since the start", String(sum(metrics, "job_seconds_count"))],
    ["Kept of jobs", size(sum(metrics, "cache_bytes"))],
    ["Filesystem cache", size(sum(metrics, "filesystem_cached_bytes"))],
  ];
}

const count = (value) =>
  value >= 100 || Number.isInteger(value) ? String(Math.round(value)) : value.toFixed(1);
const perSecond = (value) => `${count(value)}/s`;
const bytesPerSecond = (value) => `${size(value)}/s`;

/** A figure of the time between two readings. */
const between = (figure) => (now) =>
  now.before ? figure(now.before.metrics, now.metrics, now.seconds) : undefined;
const growth = (name) => between((before, after, seconds) => rate(before, after, name, seconds));

function jobs() {
  const lines = [
    { label: "Running", kind: "run", of: ({ info }) => info.jobs_running },
    { label: "Waiting", kind: "queue", of: ({ info }) => info.jobs_queued },
  ];
  return createChart("Jobs", lines, count);
}

function ended() {
  return createChart(
    "Jobs that ended",
    [{ label: "All", kind: "run", of: growth("jobs_ended_total") }],
    perSecond,
  );
}

function latency() {
  const of = (part) => between((before, after) => within(before, after, "job_seconds", part));
  const lines = [
    { label: "Median", kind: "sandbox", of: of(0.5) },
    { label: "95 of 100", kind: "compile", of: of(0.95) },
  ];
  return createChart("Time of a job", lines, time);
}

function cache() {
  const lines = [
    { label: "Hits", kind: "run", of: growth("cache_hits_total") },
    { label: "Misses", kind: "compile", of: growth("cache_misses_total") },
  ];
  return createChart("Cache of jobs", lines, perSecond);
}

function cacheBytes() {
  const of = ({ metrics }) => sum(metrics, "cache_bytes");
  return createChart("Kept of jobs", [{ label: "Now", kind: "collect", of }], size);
}

function reads() {
  const lines = [
    { label: "Read", kind: "sandbox", of: growth("filesystem_read_bytes_total") },
    { label: "Inflated", kind: "compile", of: growth("filesystem_block_bytes_total") },
  ];
  return createChart("Filesystem, bytes", lines, bytesPerSecond);
}

function requests() {
  const lines = [
    { label: "All", kind: "collect", of: growth("filesystem_requests_total") },
    { label: "Refused", kind: "queue", of: growth("filesystem_errors_total") },
  ];
  return createChart("Filesystem, requests", lines, perSecond);
}
