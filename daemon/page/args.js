// Arguments as somebody types them: words, with quotes and backslashes as in a shell.

/** The words of a line. */
export function words(line) {
  const found = [];
  let word;
  let quote;
  for (let at = 0; at < line.length; at += 1) {
    const c = line[at];
    if (c === "\\" && quote !== "'" && at + 1 < line.length) {
      at += 1;
      word = (word ?? "") + line[at];
    } else if (quote) {
      if (c === quote) quote = undefined;
      else word += c;
    } else if (c === '"' || c === "'") {
      quote = c;
      word ??= "";
    } else if (/\s/.test(c)) {
      if (word !== undefined) found.push(word);
      word = undefined;
    } else {
      word = (word ?? "") + c;
    }
  }
  if (word !== undefined) found.push(word);
  return found;
}
