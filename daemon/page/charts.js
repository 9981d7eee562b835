// A small chart of a few figures over the last minutes, drawn as figures come in.

import { el } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
/** How many figures are shown. */
const POINTS = 60;
const [WIDTH, HEIGHT] = [300, 90];

/**
 * A chart of some lines: `{ label, kind, of(figures) }`, where `kind` is its colour, and `of` takes its
 * figure out of all of them (undefined where there is none).
 */
export function createChart(title, lines, format) {
  const values = lines.map(() => []);
  const paths = lines.map(({ kind }) => svg("polyline", { class: `line ${kind}`, "vector-effect": "non-scaling-stroke" }));
  const plot = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  plot.append(...paths);
  const most = el("span", { class: "most" });
  const now = lines.map(() => el("b", {}, "\u2013"));
  const legend = lines.map(({ label, kind }, at) =>
    el("li", {}, el("span", { class: `dot ${kind}`, "aria-hidden": "true" }), `${label} `, now[at]),
  );
  const element = el("section", { class: "chart", "aria-label": title }, el("h3", {}, title), el("div", { class: "plot" }, plot, most), el("ul", { class: "legend" }, ...legend));

  function add(figures) {
    lines.forEach(({ of }, at) => {
      const value = of(figures);
      values[at].push(value);
      if (values[at].length > POINTS) values[at].shift();
      now[at].textContent = value === undefined ? "\u2013" : format(value);
    });
    draw();
  }

  function draw() {
    const known = values.flat().filter((value) => value !== undefined);
    const top = Math.max(...known, 0);
    most.textContent = top > 0 ? format(top) : "";
    paths.forEach((path, line) => {
      const x = (at) => ((POINTS - values[line].length + at) / (POINTS - 1)) * WIDTH;
      const y = (value) => HEIGHT - 2 - (top > 0 ? value / top : 0) * (HEIGHT - 8);
      const points = values[line].map((value, at) => (value === undefined ? "" : `${x(at).toFixed(1)},${y(value).toFixed(1)}`));
      const there = points.filter(Boolean);
      // A line from a point to itself is a dot; a point alone is nothing.
      path.setAttribute("points", [...there, ...there.slice(-1)].join(" "));
    });
  }

  return { element, add };
}

function svg(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
