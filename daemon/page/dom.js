// Elements made by code. Text stays text: nothing here or elsewhere is read as HTML.

/** The element of that id. */
export const byId = (id) => document.getElementById(id);

/** An element with attributes (functions are listeners) and children (strings are text). */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (typeof value === "boolean") element.toggleAttribute(key, value);
    else if (value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

let hiding;

/** Says something in passing. */
export function toast(text) {
  const place = byId("toast");
  place.textContent = text;
  place.classList.add("shown");
  clearTimeout(hiding);
  hiding = setTimeout(() => place.classList.remove("shown"), 4000);
}
