// One run of the program: its events become output, state and figures.
// Owns what is said of an end; knows nothing of files or of where the program came from.

import { Problem, converse, stream } from "./api.js";
import { showFigures, time } from "./figures.js";

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
  const path = `packages/${encodeURIComponent(runtime.package)}/${encodeURIComponent(runtime.version)}/execute`;
  try {
    const each = (event) => hear(event, view, took);
    if (view.talk) await talk(converse(path, request, { signal, each }), view);
    else await stream(path, request, { signal, each });
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
  if (stage?.truncated) view.output.note("Output was cut at its limit.");
  const [text, mood] = verdict(stage, failed !== undefined);
  view.state(text, mood);
  showFigures(view.figures, result, took);
}

const ENDS = {
  TO: "Out of time",
  OL: "Printed too much",
  EL: "Printed too many errors",
  ML: "Out of memory",
  KL: "Ended by the server",
  XX: "The server failed",
};

function verdict(stage, compiling) {
  if (!stage) return ["Nothing was run", "bad"];
  const { status, code, signal, message } = stage;
  if (!status) return ["Finished, exit code 0", "good"];
  const what = ENDS[status] ?? (status === "SG" ? `Ended by ${signal}` : `Exit code ${code}`);
  const more = message && status in ENDS ? `: ${message}` : "";
  return [`${compiling ? "Does not compile: " : ""}${compiling ? what.toLowerCase() : what}${more}`, status === "RE" || status === "SG" || status === "XX" ? "bad" : "warn"];
}
