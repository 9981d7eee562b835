// The line below the output, where somebody types what a running program reads.

import { byId } from "./dom.js";

/** Makes the line work; it is there while a job is open. */
export function createTalk() {
  const form = byId("talk");
  const line = byId("line");
  let job;

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    job?.write(`${line.value}\n`);
    line.value = "";
  });
  byId("end").addEventListener("click", () => {
    job?.end();
    line.disabled = true;
  });

  return {
    open(opened) {
      job = opened;
      form.hidden = false;
      line.disabled = false;
      line.focus();
    },
    close() {
      job = undefined;
      // What has the focus may not vanish: a keyboard would begin at the top again.
      if (form.contains(document.activeElement)) byId("output").focus();
      form.hidden = true;
    },
  };
}
