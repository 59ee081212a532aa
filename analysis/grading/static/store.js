// What the rater gives, on its way to the server: kept in the browser until the server says that it is on disk.

const RETRY_MS = 2000;

export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export class Server {
  constructor(rater, token) {
    this.base = `/api/${encodeURIComponent(rater)}`;
    this.token = token;
    this.session = crypto.getRandomValues(new Uint32Array(4)).join("-");
  }

  signIn() {
    return this.post("desk", {});
  }

  async post(path, body) {
    const headers = { Authorization: `Bearer ${this.token}`, "Content-Type": "application/json" };
    const text = JSON.stringify({ ...body, session: this.session });
    return (await answer(fetch(`${this.base}/${path}`, { method: "POST", headers, body: text }))).json();
  }

  // A gzipped volume, unpacked.
  async volume(code, file) {
    const headers = { Authorization: `Bearer ${this.token}` };
    const response = await answer(fetch(`${this.base}/items/${code}/${file}`, { headers }));
    const packed = await response.blob();
    return new Response(packed.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  }
}

// Whose token it is.
export async function raterOf(token) {
  const headers = { Authorization: `Bearer ${token}` };
  return (await (await answer(fetch("/api/rater", { headers }))).json()).rater;
}

async function answer(request) {
  const response = await request;
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new Refusal(response.status, body.error ?? `The server answers ${response.status}.`);
}

// Sends one after the other, in order; tries again until each is stored or refused for good.
export class Outbox {
  // onChange(waiting, trouble): how many are not stored yet, and what keeps them, a Refusal or null.
  constructor(server, name, onChange) {
    this.server = server;
    this.name = name;
    this.onChange = onChange;
    this.waiting = JSON.parse(localStorage.getItem(name) ?? "[]");
    this.sending = false;
    this.trouble = null;
  }

  // Drop what was made before something newer reached the server from elsewhere.
  forget(isStale) {
    this.#keep(this.waiting.filter((entry) => !isStale(entry)));
  }

  add(path, body) {
    const id = crypto.getRandomValues(new Uint32Array(4)).join("-");
    this.#keep([...this.waiting, { path, madeAt: new Date().toISOString(), body: { id, ...body } }]);
    if (this.trouble) this.onChange(this.waiting.length, this.trouble);
    this.send();
  }

  async send() {
    if (this.sending) return;
    this.sending = true;
    clearTimeout(this.timer);
    try {
      while (this.waiting.length) {
        const [{ path, body }] = this.waiting;
        await this.server.post(path, body);
        this.#keep(this.waiting.filter((entry) => entry.body.id !== body.id));
      }
      this.trouble = null;
      this.onChange(0, null);
    } catch (error) {
      this.#handle(error instanceof Refusal ? error : new Refusal(0, "The server does not answer."));
    } finally {
      this.sending = false;
    }
  }

  #handle(refusal) {
    if ([404, 413, 422].includes(refusal.status)) this.#keep(this.waiting.slice(1));
    if ([0, 404, 413, 422, 500, 507].includes(refusal.status)) this.timer = setTimeout(() => this.send(), RETRY_MS);
    this.trouble = refusal;
    this.onChange(this.waiting.length, refusal);
  }

  #keep(waiting) {
    this.waiting = waiting;
    localStorage.setItem(this.name, JSON.stringify(waiting));
  }
}
