// What the rater gives, on its way to the server: kept in the browser until the server says that it is on disk.

const RETRY_MS = 2000;

// Put a value into localStorage or sessionStorage; tells whether it could be: storage can be full or switched off.
export function keep(storage, name, value) {
  try {
    window[storage].setItem(name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

// The value, or null.
export function kept(storage, name) {
  try {
    return JSON.parse(window[storage].getItem(name));
  } catch {
    return null;
  }
}

// What the server, or its absence (status 0), says against a request.
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
    const packed = await response.blob().catch(unanswered);
    return new Response(packed.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  }
}

// Whose token it is.
export async function raterOf(token) {
  const headers = { Authorization: `Bearer ${token}` };
  return (await (await answer(fetch("/api/rater", { headers }))).json()).rater;
}

// Every browser has words of its own for a server that is not there, or no longer.
function unanswered() {
  throw new Refusal(0, "The server does not answer.");
}

async function answer(request) {
  const response = await request.catch(unanswered);
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new Refusal(response.status, body.error ?? `The server answers ${response.status}.`);
}

// Sends one after the other, in order; tries again until each is stored or refused for good.
export class Outbox {
  // onChange(waiting, trouble): how many are not stored yet, and what keeps them, a Refusal or null.
  // onRefused(entry, refusal): one will never be stored.
  constructor(server, name, onChange, onRefused) {
    this.server = server;
    this.name = name;
    this.onChange = onChange;
    this.onRefused = onRefused;
    this.waiting = this.#stored() ?? [];
    this.sending = false;
    this.trouble = null;
  }

  // Drop what was made before something newer reached the server from elsewhere.
  forget(isStale) {
    this.#change((waiting) => waiting.filter((entry) => !isStale(entry)));
  }

  add(path, body) {
    const id = crypto.getRandomValues(new Uint32Array(4)).join("-");
    this.#change((waiting) => [...waiting, { path, madeAt: new Date().toISOString(), body: { id, ...body } }]);
    if (this.trouble) this.onChange(this.waiting.length, this.trouble);
    this.send();
  }

  async send() {
    if (this.sending) return;
    this.sending = true;
    clearTimeout(this.timer);
    try {
      while (this.waiting.length) await this.#sendFirst();
      this.trouble = null;
      this.onChange(0, null);
    } catch (error) {
      this.trouble = error instanceof Refusal ? error : new Refusal(500, error.message);
      // Another token or another desk takes the rater; everything else may mend itself.
      if (![401, 403, 409].includes(this.trouble.status)) this.timer = setTimeout(() => this.send(), RETRY_MS);
      this.onChange(this.waiting.length, this.trouble);
    } finally {
      this.sending = false;
    }
  }

  async #sendFirst() {
    const [entry] = this.waiting;
    try {
      await this.server.post(entry.path, entry.body);
    } catch (error) {
      if (![404, 413, 422].includes(error.status)) throw error;
      this.onRefused(entry, error);
    }
    this.#change((waiting) => waiting.filter((other) => other.body.id !== entry.body.id));
  }

  // Other tabs of the rater keep theirs in the same place.
  #change(change) {
    this.waiting = change(this.#stored() ?? this.waiting);
    // Without storage, what is not sent yet lives as long as the page.
    this.isKept = keep("localStorage", this.name, this.waiting);
  }

  #stored() {
    const found = this.isKept === false ? null : kept("localStorage", this.name);
    return Array.isArray(found) ? found : null;
  }
}
