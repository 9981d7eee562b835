// Which of the page's views is shown. Those besides the program are loaded when they are first opened.

import { byId } from "./dom.js";

const MODULES = { packages: () => import("./packages.js"), status: () => import("./status.js") };

/** Makes the buttons of the views work. `context` is what the views are given: role, `changed`. */
export function createViews(context) {
  const opened = new Map();
  let shown = "program";
  byId("views").hidden = false;
  const buttons = [...byId("views").querySelectorAll("button")];
  for (const button of buttons) {
    const { view } = button.dataset;
    button.hidden = view === "packages" && context.role !== "admin";
    button.addEventListener("click", () => show(view));
  }

  async function show(view) {
    if (view === shown) return;
    opened.get(shown)?.hide();
    shown = view;
    document.body.dataset.view = view;
    for (const button of buttons) {
      if (button.dataset.view === view) button.setAttribute("aria-current", "page");
      else button.removeAttribute("aria-current");
      byId(button.dataset.view).hidden = button.dataset.view !== view;
    }
    if (!MODULES[view]) return;
    if (!opened.has(view)) {
      const { create } = await MODULES[view]();
      opened.set(view, create(byId(view), context));
    }
    if (shown === view) opened.get(view).show();
  }
}
