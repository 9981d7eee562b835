// The playground: puts the parts together and owns the program that is being written.

import { get, listener, secret } from "./api.js";
import { words } from "./args.js";
import { byId, el, toast } from "./dom.js";
import { createEditor } from "./editor.js";
import { runJob } from "./job.js";
import { mainFile, nameOf, supportFor } from "./languages.js";
import { createOutput } from "./output.js";
import { fresh, isUntouched } from "./program.js";
import { keep, kept, ofFragment, toFragment } from "./share.js";
import { createTabs } from "./tabs.js";
import { createTalk } from "./talk.js";
import { askForToken } from "./token.js";
import { createViews } from "./views.js";

/** What is being written, see program.js. */
let program;
/** The file that is shown. */
let current;
let runtimes = [];
/** Ends the run that is going on. */
let running;

const select = byId("runtime");
const output = createOutput(byId("output"));
const editor = createEditor(byId("editor"), { changed: edited, run });
const talk = createTalk();
const tabs = createTabs(byId("tabs"), {
  choose: show,
  changed: () => {
    edited();
    show(program.files.includes(current) ? current : program.files[0]);
  },
});

function state(text, mood) {
  const place = byId("state");
  place.textContent = text;
  place.className = `state ${mood}`;
}

/** Remembers the program. A link's program becomes one's own with the first change. */
function edited() {
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
  keep(program);
}

function show(file) {
  current = file;
  tabs.draw(program.files, file);
  editor.open(file, supportFor(file.name, program.language));
}

function load(next) {
  program = next;
  byId("stdin").value = program.stdin;
  byId("args").value = program.args;
  byId("live").checked = program.live;
  byId("stdin").hidden = program.live;
  choose(program.language);
  show(program.files[0]);
}

/** Selects the runtime of a language: the newest. */
function choose(language) {
  const at = runtimes.findIndex(
    (runtime) => runtime.language === language || runtime.aliases.includes(language),
  );
  if (at >= 0) select.value = String(at);
  else if (runtimes.length > 0) {
    select.value = "";
    toast(`${nameOf(language)} is not installed here: choose another language.`);
  }
  ready();
}

function changeRuntime() {
  const { language } = runtimes[Number(select.value)];
  const before = program.language;
  if (language !== before && isUntouched(program)) {
    const { stdin, live, args } = program;
    program = { ...fresh(language), stdin, live, args };
  } else {
    const main = program.files[0];
    if (main.name === mainFile(before)) main.name = mainFile(language);
    program.language = language;
  }
  edited();
  ready();
  show(program.files.includes(current) ? current : program.files[0]);
}

function ready() {
  byId("run").disabled =
    running !== undefined || runtimes[Number(select.value || -1)] === undefined;
  byId("stop").disabled = running === undefined;
  document.body.classList.toggle("running", running !== undefined);
}

/** Scrolls to how a program fares, below the bar, which stays and is as high as its rows need. */
function showState() {
  const line = byId("state");
  line.style.scrollMarginTop = `${document.querySelector(".bar").offsetHeight + 12}px`;
  line.scrollIntoView({ block: "start" });
}

async function run() {
  const runtime = runtimes[Number(select.value || -1)];
  if (running || !runtime) return;
  running = new AbortController();
  ready();
  // On a phone the output is further down.
  if (matchMedia("(max-width: 860px)").matches) showState();
  const request = {
    language: runtime.language,
    files: program.files.map(({ name, content }) => ({ name, content })),
    args: words(program.args),
    ...(!program.live && { stdin: program.stdin }),
  };
  const view = {
    output,
    state,
    figures: byId("figures"),
    unauthorized,
    talk: program.live && talk,
  };
  try {
    await runJob(runtime, request, view, running.signal);
  } finally {
    running = undefined;
    ready();
  }
}

async function share() {
  const fragment = await toFragment(program);
  history.replaceState(null, "", `#${fragment}`);
  try {
    await navigator.clipboard.writeText(location.href);
    toast("The link is in the clipboard. It holds the program itself.");
  } catch {
    toast("The link is in the address bar. It holds the program itself.");
  }
}

/** The server does not know the token that it was sent. */
async function unauthorized(why) {
  secret.forget();
  await enterToken(why);
}

async function enterToken(why) {
  if (await askForToken(why)) await loadRuntimes();
}

async function loadRuntimes() {
  try {
    runtimes = await get("runtimes");
  } catch (error) {
    state(error.title ?? "No answer", "bad");
    output.clear();
    output.note(error.message, "problem");
    if (error.code === "unauthorized") await unauthorized(error.message);
    return;
  }
  runtimes.sort(
    (a, b) => nameOf(a.language).localeCompare(nameOf(b.language)) || newer(a.version, b.version),
  );
  const twice = (language) => runtimes.filter((other) => other.language === language).length > 1;
  select.replaceChildren(
    ...runtimes.map(({ language, version, package: from }, at) =>
      el(
        "option",
        { value: String(at) },
        `${nameOf(language)} ${version}${twice(language) && from !== language ? ` (${from})` : ""}`,
      ),
    ),
  );
  select.disabled = runtimes.length === 0;
  if (runtimes.length === 0) {
    state("No language is installed", "warn");
    output.note(
      "No language is installed on this server yet. Its operator installs one with: piston package install python",
    );
  } else if (program) choose(program.language);
}

const newer = (a, b) => b.localeCompare(a, undefined, { numeric: true });

/** A link's program, else the last one, else a first one. */
async function first() {
  try {
    const shared = await ofFragment(location.hash);
    if (shared) return shared;
  } catch (error) {
    toast(error.message);
  }
  const usual = runtimes.find((runtime) => runtime.language === "python") ?? runtimes[0];
  return kept() ?? fresh(usual?.language ?? "python");
}

function listen() {
  select.addEventListener("change", changeRuntime);
  byId("run").addEventListener("click", run);
  byId("stop").addEventListener("click", () => running?.abort());
  byId("share").addEventListener("click", share);
  byId("token").addEventListener("click", () => enterToken());
  byId("add").addEventListener("click", add);
  for (const field of ["stdin", "args"]) {
    byId(field).addEventListener("input", () => {
      program[field] = byId(field).value;
      edited();
    });
  }
  byId("live").addEventListener("change", ({ target }) => {
    program.live = target.checked;
    byId("stdin").hidden = program.live;
    edited();
  });
  addEventListener("hashchange", async () => {
    if (location.hash) load(await first());
  });
  addEventListener("keydown", (event) => {
    const wanted = event.key === "Enter" && (event.ctrlKey || event.metaKey);
    const here =
      document.body.dataset.view === "program" && !document.querySelector("dialog[open]");
    if (wanted && here && !event.defaultPrevented) {
      event.preventDefault();
      run();
    }
  });
}

function add() {
  const ending = mainFile(program.language).split(".").pop();
  const names = program.files.map((file) => file.name);
  let number = names.length + 1;
  while (names.includes(`file${number}.${ending}`)) number += 1;
  const file = { name: `file${number}.${ending}`, content: "" };
  program.files.push(file);
  edited();
  show(file);
  tabs.rename(file, "all");
}

async function start() {
  listen();
  const { role, tokens } = await listener();
  createViews({ role, changed: loadRuntimes });
  byId("token").hidden = !tokens;
  if (tokens && !secret.get()) await askForToken();
  if (!tokens || secret.get()) await loadRuntimes();
  load(await first());
  document.body.dataset.ready = "";
}

start();
