// A program as text: in the fragment of a link, and in this browser's memory.
//
// A fragment stays in the browser: no server sees the program. What a link holds comes from
// strangers: it is bounded, checked, and never run by itself.

const MARK = "p1=";
const KEPT = "piston.program";
/** Bytes that a link may unfold to. */
const MOST = 1 << 20;

/** The fragment that holds a program. */
export async function toFragment(program) {
  const packed = await through(new CompressionStream("deflate-raw"), encode(program), Infinity);
  return MARK + base64(packed);
}

/** The program of a fragment; undefined where there is none, an error where it is broken. */
export async function ofFragment(fragment) {
  const text = fragment.replace(/^#/, "");
  if (!text.startsWith(MARK)) return undefined;
  try {
    const packed = Uint8Array.from(atob(unsafe(text.slice(MARK.length))), (c) => c.charCodeAt(0));
    return decode(await through(new DecompressionStream("deflate-raw"), packed, MOST));
  } catch {
    throw new Error("This link holds no program: it was cut off or changed on its way.");
  }
}

/** Keeps the program for the next visit. A browser that keeps nothing is no reason to fail. */
export function keep(program) {
  try {
    localStorage.setItem(KEPT, new TextDecoder().decode(encode(program)));
  } catch {
    // Storage is full or forbidden.
  }
}

/** What was kept. */
export function kept() {
  try {
    const text = localStorage.getItem(KEPT);
    return text ? decode(new TextEncoder().encode(text)) : undefined;
  } catch {
    return undefined;
  }
}

function encode({ language, files, stdin, live, args }) {
  const plain = { language, files: files.map(({ name, content }) => [name, content]), stdin, live, args };
  return new TextEncoder().encode(JSON.stringify(plain));
}

function decode(bytes) {
  const { language, files, stdin, live, args } = JSON.parse(new TextDecoder().decode(bytes));
  const pairs = files.map(([name, content]) => ({ name: text(name), content: text(content) }));
  if (pairs.length === 0) throw new Error("no files");
  return { language: text(language), files: pairs, stdin: text(stdin), live: live === true, args: text(args) };
}

function text(value) {
  if (typeof value !== "string") throw new Error("not a text");
  return value;
}

async function through(transform, bytes, most) {
  const pieces = [];
  let length = 0;
  const reader = new Blob([bytes]).stream().pipeThrough(transform).getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    length += piece.value.length;
    if (length > most) throw new Error("too much");
    pieces.push(piece.value);
  }
  return new Uint8Array(await new Blob(pieces).arrayBuffer());
}

function base64(bytes) {
  const letters = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  return btoa(letters).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

const unsafe = (letters) => letters.replaceAll("-", "+").replaceAll("_", "/");
