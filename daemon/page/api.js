// Requests to the daemon's API v3: the token, problems, replies that come line by line.
// Knows nothing of what they are about.

const BASE = new URL("../api/v3/", document.baseURI);
const SECRET = "piston.token";

/** What the daemon refused, in its own words; `code` is the machine word. */
export class Problem extends Error {
  constructor({ title, detail, code, status, request_id }) {
    super(detail || title);
    Object.assign(this, { title, code, status, request: request_id });
  }
}

export const secret = {
  get: () => sessionStorage.getItem(SECRET),
  set: (token) => sessionStorage.setItem(SECRET, token),
  forget: () => sessionStorage.removeItem(SECRET),
};

/** What the page is told of the listener that it came from, before any token. */
export async function listener() {
  const reply = await fetch(new URL("listener.json", document.baseURI));
  return reply.json();
}

export const get = async (path) => (await ask(path, {})).json();
export const text = async (path) => (await ask(path, {})).text();
export const remove = (path) => ask(path, { method: "DELETE" });

/** Posts JSON, or nothing, and hands each line of the reply to `each`, as an object. */
export async function stream(path, body, { signal, each }) {
  const reply = await ask(path, {
    method: "POST",
    body: body && JSON.stringify(body),
    headers: { ...(body && { "Content-Type": "application/json" }), Accept: "application/x-ndjson" },
    signal,
  });
  let rest = "";
  for await (const text of texts(reply.body)) {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line) each(JSON.parse(line));
  }
}

/**
 * A job that is talked with, over a WebSocket. `each` hears its events; what is given back says
 * something to it, and tells when it is over.
 */
export function converse(path, request, { signal, each }) {
  const url = new URL(path, BASE);
  url.protocol = url.protocol.replace("http", "ws");
  const token = secret.get();
  const socket = new WebSocket(url, ["piston", ...(token ? [`piston.token.${token}`] : [])]);
  const say = (message) => {
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
  };
  socket.addEventListener("open", () => say({ type: "start", request }));
  const over = new Promise((resolve, reject) => {
    socket.addEventListener("message", ({ data }) => {
      const event = JSON.parse(data);
      if (event.event === "error") reject(new Problem(event.problem));
      else each(event);
    });
    const broken = { title: "The connection broke", detail: "The server went away, or does not let programs be talked with." };
    socket.addEventListener("close", ({ code }) => (code === 1000 ? resolve() : reject(new Problem(broken))));
    signal.addEventListener("abort", () => {
      reject(new DOMException("stopped", "AbortError"));
      socket.close();
    });
  });
  return { over, write: (data) => say({ type: "stdin", data }), end: () => say({ type: "eof" }) };
}

async function* texts(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) yield piece.value;
}

async function ask(path, { headers = {}, ...rest }) {
  const token = secret.get();
  const own = token ? { Authorization: `Bearer ${token}` } : {};
  let reply;
  try {
    reply = await fetch(new URL(path, BASE), { ...rest, headers: { ...headers, ...own } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ title: "No answer", detail: "The server does not answer. Is it still running?" });
  }
  if (reply.ok) return reply;
  throw new Problem(await problem(reply));
}

/** A proxy between us and the daemon may answer with something else than a problem. */
async function problem(reply) {
  try {
    return await reply.json();
  } catch {
    return { title: `${reply.status} ${reply.statusText}`.trim(), status: reply.status };
  }
}
