// Asks for the token that the server wants. It is kept until the tab is closed, and sent to the
// server that the page came from, nowhere else.

import { secret } from "./api.js";
import { byId } from "./dom.js";

/** True when one was given; `why` is what the server said to the last one. */
export function askForToken(why) {
  const dialog = byId("ask-token");
  const field = byId("secret");
  if (why) byId("ask-token-why").textContent = why;
  field.value = "";
  return new Promise((resolve) => {
    const answer = new AbortController();
    const { signal } = answer;
    byId("ask-token-cancel").addEventListener("click", () => dialog.close("cancel"), { signal });
    dialog.addEventListener(
      "close",
      () => {
        answer.abort();
        resolve(isGiven(dialog, field));
      },
      { signal },
    );
    dialog.returnValue = "cancel";
    dialog.showModal();
  });
}

function isGiven(dialog, field) {
  const token = field.value.trim();
  field.value = "";
  if (dialog.returnValue === "cancel" || !token) return false;
  secret.set(token);
  return true;
}
