// The program that is being written: its language, its files (the first is the one that is run),
// what it reads, whether that is typed while it runs, and its arguments.

import { mainFile, sampleOf } from "./languages.js";

/** One that greets. */
export const fresh = (language) => ({
  language,
  files: [{ name: mainFile(language), content: sampleOf(language) }],
  stdin: "",
  live: false,
  args: "",
});

/** Whether nothing was written yet besides the sample. */
export function isUntouched({ language, files: [file, ...others] }) {
  return others.length === 0 && (file.content === sampleOf(language) || !file.content.trim());
}
