// Talking to the server: JSON there and back, and arrays that come as they lie in memory.

const TYPES = { float32: Float32Array, float64: Float64Array, uint16: Uint16Array, int32: Int32Array, uint8: Uint8Array };

/** What the server refused, with its sentence; or that it cannot be reached. */
export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("cocuyo does not answer. Is it still running in its terminal?", 0);
  }
  if (answer.ok) return answer;
  let message = `The server answered ${answer.status}.`;
  try {
    message = (await answer.json()).error ?? message;
  } catch { /* no JSON: the status will do */ }
  throw new ServerError(message, answer.status);
}

/** Get JSON. */
export async function get(path, signal) {
  return (await ask(path, { signal })).json();
}

/** Send JSON, get JSON. */
export async function post(path, content = {}) {
  const answer = await ask(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(content),
  });
  return answer.json();
}

/** Get arrays by name beside what the server says of them: { head, name: TypedArray }. */
export async function arrays(path, signal) {
  const buffer = await (await ask(path, { signal })).arrayBuffer();
  const length = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const found = { head };
  for (const { name, type, shape, start } of head.arrays) {
    const size = shape.reduce((product, n) => product * n, 1);
    found[name] = new TYPES[type](buffer, 4 + length + start, size);
    found[name].shape = shape;
  }
  return found;
}

/** A name that no other edit has. */
export function newName() {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
