// What a program prints, as it comes. Text is put on the page once a frame, however many pieces
// come in between.

import { el } from "./dom.js";

/** Output in `place`. */
export function createOutput(place) {
  let waiting = [];
  let last;

  function clear() {
    waiting = [];
    last = undefined;
    place.replaceChildren();
  }

  function add(kind, text) {
    if (waiting.length === 0) requestAnimationFrame(flush);
    const before = waiting.at(-1);
    if (before?.kind === kind) before.texts.push(text);
    else waiting.push({ kind, texts: [text] });
  }

  function flush() {
    const atEnd = place.scrollHeight - place.scrollTop - place.clientHeight < 40;
    for (const { kind, texts } of waiting) {
      if (last?.className !== kind) {
        last = el("span", { class: kind });
        place.append(last);
      }
      last.append(...texts);
    }
    waiting = [];
    if (atEnd) place.scrollTop = place.scrollHeight;
  }

  return {
    clear,
    /** Puts on the page what has come so far. */
    flush,
    /** `stdout`, `stderr`, or `note` for what the page itself says. */
    add,
    /** A line of the page's own, on a line of its own. */
    note(text, kind = "note") {
      flush();
      const begun = place.textContent && !place.textContent.endsWith("\n");
      add(kind, `${begun ? "\n" : ""}${text}\n`);
      flush();
    },
  };
}
