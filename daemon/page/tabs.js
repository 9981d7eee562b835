// The strip of files: choose, add, rename, delete, by pointer and by keyboard.
// Owns how it looks and which names are possible; the list itself is the program's.

import { el, toast } from "./dom.js";

/** A strip in `place`. `actions` are `choose(file)` and `changed()`, after which `draw` is called. */
export function createTabs(place, actions) {
  let files = [];
  let chosen;
  let naming;

  function draw(all, current) {
    files = all;
    chosen = current;
    place.replaceChildren(...files.map(tab));
  }

  function tab(file) {
    if (file === naming) return nameField(file);
    const selected = file === chosen;
    const main = file === files[0];
    const button = el(
      "button",
      {
        type: "button",
        role: "tab",
        "aria-selected": String(selected),
        "aria-controls": "editor",
        tabindex: selected ? "0" : "-1",
        title: `${main ? "The main file, which is run" : file.name}${selected ? ": press to rename it" : ""}`,
        click: () => (selected ? rename(file) : actions.choose(file)),
        keydown: (event) => key(event, file),
      },
      file.name,
    );
    const children = [button];
    if (files.length > 1) children.push(remover(file));
    return el(
      "div",
      { class: selected ? "tab selected" : "tab", role: "presentation" },
      ...children,
    );
  }

  function remover(file) {
    const label = `Delete ${file.name}`;
    return el(
      "button",
      {
        type: "button",
        class: "close",
        "aria-label": label,
        title: label,
        click: () => remove(file),
      },
      "\u00d7",
    );
  }

  function nameField(file) {
    const input = el("input", {
      type: "text",
      class: "name",
      value: file.name,
      "aria-label": `New name of ${file.name}`,
      spellcheck: "false",
      autocapitalize: "off",
    });
    input.size = Math.max(8, file.name.length);
    let done = false;
    const end = (name) => {
      if (done) return;
      done = true;
      naming = undefined;
      const error = name === undefined ? undefined : fault(name, file);
      if (error) toast(error);
      else if (name !== undefined && name !== file.name) {
        file.name = name;
        actions.changed();
      }
      draw(files, chosen);
      focus();
    };
    input.addEventListener("blur", () => end(input.value.trim()));
    input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== "Escape") return;
      // Else the key would go on to press the tab that has the focus next.
      event.preventDefault();
      end(event.key === "Enter" ? input.value.trim() : undefined);
    });
    return el("div", { class: "tab selected", role: "presentation" }, input);
  }

  /** Lets the name be written anew: all of it, or what stands before the ending. */
  function rename(file, part = "stem") {
    naming = file;
    draw(files, chosen);
    const input = place.querySelector("input.name");
    input.focus();
    const ending = part === "stem" ? file.name.lastIndexOf(".") : 0;
    input.setSelectionRange(0, ending > 0 ? ending : file.name.length);
  }

  function remove(file) {
    if (files.length === 1) return;
    if (file.content.trim() && !confirm(`Delete ${file.name} and what is written in it?`)) return;
    const at = files.indexOf(file);
    files.splice(at, 1);
    actions.changed();
    actions.choose(file === chosen ? files[Math.min(at, files.length - 1)] : chosen);
    focus();
  }

  function key(event, file) {
    const at = files.indexOf(file);
    const goals = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: files.length - 1 };
    if (event.key in goals) {
      actions.choose(files[(goals[event.key] + files.length) % files.length]);
      focus();
    } else if (event.key === "F2") rename(file);
    else if (event.key === "Delete") remove(file);
    else return;
    event.preventDefault();
  }

  function fault(name, file) {
    if (!/^[^/\0]+(\/[^/\0]+)*$/.test(name) || name.split("/").includes(".."))
      return `${name || "Nothing"} is no name of a file.`;
    if (files.some((other) => other !== file && other.name === name))
      return `There is a ${name} already.`;
    return undefined;
  }

  const focus = () => place.querySelector('[aria-selected="true"]')?.focus();

  return { draw, rename };
}
