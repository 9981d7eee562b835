// The packages view, for admins: what is installed, what repositories have, installing with its
// progress, removing.

import { get, path, remove, stream } from "./api.js";
import { el } from "./dom.js";
import { size } from "./figures.js";
import { nameOf } from "./languages.js";

const PHASES = {
  make: "Making",
  download: "Downloading",
  unpack: "Unpacking",
  verify: "Checking",
  publish: "Publishing",
};

/** The view in `place`; `changed` is called when other languages can be run than before. */
export function create(place, { changed }) {
  const said = el("p", { class: "problem", role: "status" });
  const filter = el("input", {
    type: "search",
    id: "filter",
    placeholder: "Name",
    autocomplete: "off",
    spellcheck: "false",
    input: draw,
  });
  const list = el("ul", { class: "packages" });
  /** `language version` -> the row of a package that is being installed. */
  const installing = new Map();
  let rows = [];
  place.append(
    el("h2", {}, "Packages"),
    el(
      "p",
      { class: "quiet" },
      "What is installed here, and what repositories have. A package brings what it depends on.",
    ),
    said,
    el("div", { class: "field" }, el("label", { for: "filter" }, "Search"), filter),
    list,
  );

  async function load() {
    try {
      const [installed, available] = await Promise.all([
        get("packages"),
        get("repos/all/packages"),
      ]);
      rows = merged(installed, available);
      said.textContent = "";
    } catch (error) {
      said.textContent = error.message;
    }
    draw();
  }

  function draw() {
    const wanted = filter.value.trim().toLowerCase();
    const fits = ({ language, aliases }) =>
      [language, nameOf(language), ...aliases].some((name) => name.toLowerCase().includes(wanted));
    const found = rows.filter(fits);
    const empty = el(
      "li",
      { class: "quiet" },
      wanted ? `No package is called like ${wanted}.` : "No repository lists a package.",
    );
    list.replaceChildren(
      ...(found.length > 0 ? found.map((row) => installing.get(key(row)) ?? item(row)) : [empty]),
    );
  }

  function item(row) {
    const { language, version, installed } = row;
    const facts = installed
      ? [size(installed.image_bytes), installed.repository ?? "made or uploaded here"]
      : [row.origin];
    const action = installed
      ? el(
          "button",
          {
            type: "button",
            "aria-label": `Remove ${language} ${version}`,
            click: () => uninstall(row),
          },
          "Remove",
        )
      : el(
          "button",
          {
            type: "button",
            class: "primary",
            "aria-label": `Install ${language} ${version}`,
            click: () => install(row),
          },
          "Install",
        );
    return el(
      "li",
      { class: installed ? "package installed" : "package" },
      el(
        "div",
        {},
        el("b", {}, nameOf(language)),
        ` ${version}`,
        el("p", { class: "quiet" }, facts.join(" \u00b7 ")),
      ),
      action,
    );
  }

  async function install(row) {
    const bar = el("progress", { "aria-label": `Installing ${row.language}` });
    const phase = el("p", { class: "quiet", role: "status" }, "Asking");
    installing.set(
      key(row),
      el(
        "li",
        { class: "package" },
        el(
          "div",
          { class: "wide" },
          el("b", {}, nameOf(row.language)),
          ` ${row.version}`,
          bar,
          phase,
        ),
      ),
    );
    draw();
    const { repository, language, version } = row;
    const where = path`repos/${repository}/packages/${language}/${version}/install`;
    let outcome = `${nameOf(row.language)} is installed.`;
    said.textContent = "";
    try {
      await stream(where, undefined, { each: (event) => progress(event, bar, phase) });
    } catch (error) {
      outcome = `${nameOf(row.language)} is not installed: ${error.message}`;
    }
    installing.delete(key(row));
    await Promise.all([load(), changed()]);
    said.textContent ||= outcome;
  }

  async function uninstall({ language, version, installed }) {
    const others = installed.dependents.map((other) => `${other.language} ${other.version}`);
    if (others.length > 0) {
      said.textContent = `${language} ${version} is needed by ${others.join(", ")}: remove these first.`;
      return;
    }
    if (!confirm(`Remove ${language} ${version}?`)) return;
    try {
      await remove(path`packages/${language}/${version}`);
      await Promise.all([load(), changed()]);
    } catch (error) {
      said.textContent = error.message;
    }
  }

  return { show: load, hide() {} };
}

const key = ({ language, version }) => `${language} ${version}`;

/** One row for each package: what is installed first, then what can be had, both by name. */
function merged(installed, available) {
  const here = installed.map((one) => ({ ...one, aliases: one.runtimes, installed: one }));
  const known = new Set(here.map(key));
  const others = available
    .filter((one) => !known.has(key(one)))
    .map((one) => ({
      ...one,
      aliases: one.aliases ?? [],
      origin: one.built_from
        ? `made here of Debian's ${one.built_from.join(", ")}`
        : `from ${one.repository}`,
    }));
  const byName = (a, b) => nameOf(a.language).localeCompare(nameOf(b.language));
  return [...here.sort(byName), ...others.sort(byName)];
}

function progress(event, bar, phase) {
  if (event.event === "plan") phase.textContent = `${event.packages.length} to install`;
  if (event.event === "progress") {
    const { total, bytes, package: of } = event;
    if (total) [bar.max, bar.value] = [total, bytes];
    else bar.removeAttribute("value");
    const done = total ? `, ${size(bytes)} of ${size(total)}` : "";
    phase.textContent = `${PHASES[event.phase] ?? event.phase} ${of.language} ${of.version}${done}`;
  }
  if (event.event === "error") throw new Error(event.problem.detail);
}
