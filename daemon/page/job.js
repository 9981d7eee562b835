// One run of the program: its events become output, state and figures.
// Owns what is said of an end; knows nothing of files or of where the program came from.

import { Problem, converse, path, stream } from "./api.js";
import { showFigures, size, time } from "./figures.js";

/**
 * Runs `request` in a runtime, and says everything to `view` (output, state, figures). Where the view
 * has a `talk`, what is typed there is the program's input while it runs.
 */
export async function runJob(runtime, request, view, signal) {
  const begun = performance.now();
  const took = () => (performance.now() - begun) * 1000;
  view.output.clear();
  view.figures.hidden = true;
  view.state("Starting", "busy");
  const where = path`packages/${runtime.package}/${runtime.version}/execute`;
  try {
    const each = (event) => hear(event, view, took);
    if (view.talk) await talk(converse(where, request, { signal, each }), view);
    else await stream(where, request, { signal, each });
  } catch (error) {
    if (error.name === "AbortError") return view.state(`Stopped after ${time(took())}`, "warn");
    view.state(error instanceof Problem ? error.title : "The connection broke", "bad");
    view.output.note(error.message, "problem");
    if (error.request) view.output.note(`Request ${error.request} in the server's log.`);
    if (error.code === "unauthorized") view.unauthorized(error.message);
  }
}

async function talk(job, { output, talk }) {
  talk.open({
    write(line) {
      output.add("typed", line);
      job.write(line);
    },
    end: job.end,
  });
  try {
    await job.over;
  } finally {
    talk.close();
  }
}

function hear(event, view, took) {
  switch (event.event) {
    case "stage":
      return view.state(event.stage === "compile" ? "Compiling" : "Running", "busy");
    case "stdout":
    case "stderr":
      return view.output.add(event.stage === "compile" ? "compiler" : event.event, event.data);
    case "result":
      return ended(event.result, view, took());
    default:
      // `exit` says what the result says again.
      return undefined;
  }
}

function ended(result, view, took) {
  const failed = result.compile?.status ? result.compile : undefined;
  const stage = failed ?? result.run;
  // Who hears of the end finds the whole output.
  view.output.flush();
  if (stage?.truncated) view.output.note("Output was cut at its limit.");
  const [text, mood] = verdict(stage, failed !== undefined);
  view.state(text, mood);
  showFigures(view.figures, result, took);
}

const ENDS = {
  TO: ({ wall_time_ms, message }) =>
    message?.includes("idle") ? "Idle for too long" : `Out of time after ${time(wall_time_ms * 1000)}`,
  OL: () => "Printed too much",
  EL: () => "Printed too many errors",
  ML: ({ memory_bytes }) => `Out of memory at ${size(memory_bytes)}`,
  SG: ({ signal }) => `Ended by ${signal}`,
  KL: ({ message }) => `Ended by the server: ${message}`,
  XX: ({ message }) => `The server failed: ${message}`,
};

function verdict(stage, compiling) {
  if (!stage) return ["Nothing was run", "bad"];
  const { status, code } = stage;
  if (!status) return ["Finished, exit code 0", "good"];
  const what = ENDS[status]?.(stage) ?? `Exit code ${code}`;
  return [
    compiling ? `Does not compile: ${what[0].toLowerCase()}${what.slice(1)}` : what,
    status === "RE" || status === "SG" || status === "XX" ? "bad" : "warn",
  ];
}
