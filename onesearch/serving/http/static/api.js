// Requests to the server. A newer search cancels the one before it; a busy server is asked once more after the time that it names.
const running = new Map();

export class Fault extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export async function get(path) {
  return answer(await fetch(path));
}

export async function post(path, body, slot) {
  running.get(slot)?.abort();
  const control = new AbortController();
  if (slot) running.set(slot, control);
  const send = () => fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal: control.signal });
  let response = await send();
  if (response.status === 503) {
    const seconds = Math.min(Number(response.headers.get("Retry-After")) || 1, 5);
    await new Promise((done) => setTimeout(done, 1000 * seconds));
    response = await send();
  }
  return answer(response);
}

async function answer(response) {
  if (response.ok) return response.json();
  const body = await response.json().catch(() => null);
  const fields = (body?.error?.fields ?? []).map((field) => `${field.where}: ${field.message}`).join("; ");
  throw new Fault(fields || body?.error?.message || response.statusText, response.status);
}
