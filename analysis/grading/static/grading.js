// The page: signing in, one case at a time, grades by number keys.

import { Outbox, Refusal, Server, keep, kept, raterOf } from "/static/store.js";
import { LINES, Viewer, WINDOWS } from "/static/viewer.js";

const $ = (id) => document.getElementById(id);
const GRADES = [1, 2, 3, 4, 5];
const COMMENT_PAUSE_MS = 800;
const RETRY_MS = 2000;
const REPEATED = new Set(["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "PageUp", "PageDown", "+", "=", "-"]);
const TOKEN = "grading-token";
const EMPTY = "Nothing was contoured: 5 if there is nothing to contour, 1 if it was missed.";

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

async function signIn(token) {
  const asked = /^\/grade\/([^/]+)$/.exec(location.pathname);
  const rater = asked ? decodeURIComponent(asked[1]) : await raterOf(token);
  const server = new Server(rater, token);
  const state = await server.signIn();
  // For this tab alone, so that a reload goes on; closing it signs out.
  keep("sessionStorage", TOKEN, token);
  if (!asked) history.replaceState(null, "", `/grade/${encodeURIComponent(rater)}`);
  $("door").hidden = true;
  $("desk").hidden = false;
  await new Desk(server, state).open();
}

class Desk {
  constructor(server, state) {
    this.server = server;
    this.state = state;
    this.grades = Object.fromEntries(
      Object.entries(state.grades).map(([code, of]) => [code, Object.fromEntries(Object.entries(of).map(([s, g]) => [s, g.grade]))]),
    );
    this.comments = { ...state.comments };
    this.codes = state.items.map((item) => item.code);
    this.viewer = new Viewer($("views"), state.modalities, state.structures);
    const name = `grading-outbox ${state.kit} ${state.rater}`;
    this.outbox = new Outbox(server, name, (...news) => this.#report(...news), (...news) => this.#reportRefused(...news));
    this.volumes = new Map();
    this.place = 0;
    this.active = state.structures[0];
    this.clock = new Clock();
    this.alarms = {};
  }

  async open() {
    this.#takeUp();
    this.#build();
    this.#listen();
    await this.viewer.attach();
    await this.go(this.#nextUngraded(-1) ?? 0);
    this.outbox.send();
  }

  // What this browser could not send before: still to be sent, unless something newer was stored meanwhile.
  #takeUp() {
    const storedAt = ({ path, body }) =>
      path === "grades" ? this.state.grades[body.item]?.[body.structure]?.given_at : this.state.commented_at[body.item];
    this.outbox.forget((entry) => Date.parse(storedAt(entry) ?? 0) > Date.parse(entry.madeAt));
    for (const { path, body } of this.outbox.waiting) {
      if (path === "grades") (this.grades[body.item] ??= {})[body.structure] = body.grade;
      else this.comments[body.item] = body.comment;
    }
  }

  #build() {
    const { state } = this;
    const phantom = state.synthetic ? " (phantom)" : "";
    $("who").textContent = `${state.rater}, ${state.title}${phantom}`;
    $("wording").replaceChildren(...state.scale.map((words) => element("li", { textContent: words })));
    $("structures").replaceChildren(...state.structures.map((structure, number) => this.#fieldset(structure, number)));
    $("items").replaceChildren(...this.codes.map((code, place) => element("option", { value: place })));
    $("bar").max = this.codes.length;
    $("keys").replaceChildren(...this.#keys().flatMap(([keys, words]) => [
      element("dt", {}, ...keys.map((key) => element("kbd", { textContent: key }))),
      element("dd", { textContent: words }),
    ]));
  }

  #fieldset(structure, number) {
    const swatch = element("span", { className: "swatch" });
    const line = LINES[number % LINES.length];
    swatch.style.border = `3px ${line.border} ${line.colour}`;
    const grades = GRADES.map((grade) => {
      const button = element("button", { type: "button", value: grade, textContent: grade });
      button.setAttribute("aria-label", `${structure}: ${grade}, ${this.state.scale[grade - 1]}`);
      button.addEventListener("click", (event) => {
        this.grade(structure, grade);
        // After a click of the mouse, keys are meant for the case again.
        if (event.detail) button.blur();
      });
      return button;
    });
    const made = element(
      "fieldset",
      {},
      element("legend", {}, swatch, structure),
      element("div", { className: "grades" }, ...grades),
      element("p", { className: "remark", textContent: EMPTY, hidden: true }),
    );
    made.addEventListener("focusin", () => this.activate(structure));
    return made;
  }

  #keys() {
    const kinds = new Set(this.state.modalities.map((modality) => modality.kind));
    const presets = [...kinds].flatMap((kind) => WINDOWS[kind].map((window) => [[window.key], `${kind.toUpperCase()} window: ${window.name}`]));
    return [
      [["1", "…", "5"], "grade the framed structure; the frame moves to the next ungraded one"],
      [["⌫"], "back to the structure graded last"],
      [["s"], "frame the other structure"],
      [["l"], "look at the framed structure"],
      [["c"], "contours on or off"],
      ...presets,
      [["↑", "↓"], "scroll towards head or feet"],
      [["←", "→"], "scroll left and right"],
      [["PgUp", "PgDn"], "scroll front and back"],
      [["+", "-", "0"], "zoom in, out, whole"],
      [["f"], "one view alone, then all"],
      [["x"], "cross-hair on or off"],
      [["n", "p"], "next, previous case"],
      [["Enter"], "next ungraded case"],
      [["m"], "comment (Esc leaves it)"],
    ];
  }

  #listen() {
    document.addEventListener("keydown", (event) => this.#press(event));
    $("items").addEventListener("change", () => this.go(Number($("items").value)));
    $("next").addEventListener("click", () => this.go(this.place + 1));
    $("previous").addEventListener("click", () => this.go(this.place - 1));
    $("open").addEventListener("click", () => this.goOpen());
    $("comment").addEventListener("input", () => {
      clearTimeout(this.commentTimer);
      this.commentTimer = setTimeout(() => this.storeComment(), COMMENT_PAUSE_MS);
    });
    $("comment").addEventListener("blur", () => this.storeComment());
    $("go-on").addEventListener("click", () => location.reload());
    window.addEventListener("pagehide", () => this.storeComment());
    window.addEventListener("beforeunload", (event) => {
      if (this.outbox.waiting.length) event.preventDefault();
    });
  }

  #press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    // A key that is held grades once, however long; scrolling and zooming go on.
    if (event.repeat && !REPEATED.has(event.key)) return;
    const { target } = event;
    if (target === $("comment")) {
      if (event.key === "Escape") target.blur();
      return;
    }
    // What has the focus keeps the keys that work it.
    if (target.tagName === "SELECT" || (["BUTTON", "SUMMARY"].includes(target.tagName) && event.key === "Enter")) return;
    const action = this.#actions()[event.key];
    if (action) {
      event.preventDefault();
      action();
    }
  }

  #actions() {
    const { viewer } = this;
    const actions = {
      s: () => this.#frame(this.#otherStructure()),
      Backspace: () => this.#frame(this.last?.item === this.code ? this.last.structure : this.active),
      l: () => this.look(),
      c: () => viewer.toggleContours(),
      ArrowUp: () => viewer.scroll(0, 0, 1),
      ArrowDown: () => viewer.scroll(0, 0, -1),
      ArrowLeft: () => viewer.scroll(1, 0, 0),
      ArrowRight: () => viewer.scroll(-1, 0, 0),
      PageUp: () => viewer.scroll(0, 1, 0),
      PageDown: () => viewer.scroll(0, -1, 0),
      "+": () => viewer.zoom(1.25),
      "=": () => viewer.zoom(1.25),
      "-": () => viewer.zoom(0.8),
      0: () => viewer.zoom(null),
      f: () => viewer.focusNext(),
      x: () => viewer.toggleCrosshair(),
      n: () => this.go(this.place + 1),
      p: () => this.go(this.place - 1),
      Enter: () => this.goOpen(),
      m: () => $("comment").focus(),
      "?": () => ($("help").open = !$("help").open),
    };
    for (const grade of GRADES) actions[grade] = () => this.grade(this.active, grade);
    for (const [kind, windows] of Object.entries(WINDOWS)) {
      for (const window of windows) actions[window.key] = () => viewer.setWindow(kind, window);
    }
    return actions;
  }

  get code() {
    return this.codes[this.place];
  }

  async go(place) {
    if (place < 0 || place >= this.codes.length) return;
    this.storeComment();
    this.place = place;
    this.shown = null;
    // Nobody must take the case before for this one.
    this.viewer.clear();
    delete $("desk").dataset.shown;
    const { code } = this;
    this.#say("loading the images");
    this.#alarm("images", "");
    this.activate(this.state.structures.find((structure) => !this.grades[code]?.[structure]) ?? this.state.structures[0]);
    $("comment").value = this.comments[code] ?? "";
    this.#refresh();
    try {
      const volumes = await this.#fetch(place);
      if (this.code !== code) return;
      await this.#queue(() => this.#show(code, volumes));
    } catch (error) {
      if (this.code === code) this.#explain(place, error);
    }
  }

  #explain(place, error) {
    if (error.status === 0) {
      this.#alarm("images", `The server does not answer; ${this.code} is shown when it does.`);
      setTimeout(() => {
        if (this.place === place && this.shown !== this.code) this.go(place);
      }, RETRY_MS);
    } else {
      this.#alarm("images", `The images of ${this.code} cannot be shown: ${error.message}`);
    }
  }

  async #show(code, volumes) {
    if (this.code !== code) return;
    const { modalities, contours } = this.state;
    const files = Object.fromEntries(modalities.map((modality) => [modality.name, volumes[modality.file]]));
    await this.viewer.show(files, volumes[contours]);
    if (this.code !== code) return;
    this.shown = code;
    this.clock.restart();
    this.look();
    $("desk").dataset.shown = code;
    this.#say(this.#isDone(code) ? "graded before; a new grade replaces the old one" : "");
    if (this.place + 1 < this.codes.length) this.#fetch(this.place + 1).catch(() => {});
  }

  // One case is put on screen at a time, whatever keys are pressed meanwhile.
  #queue(work) {
    this.busy = (this.busy ?? Promise.resolve()).catch(() => {}).then(work);
    return this.busy;
  }

  // The case before, this one and the next are held.
  #fetch(place) {
    for (const held of this.volumes.keys()) {
      if (Math.abs(held - this.place) > 1) this.volumes.delete(held);
    }
    if (!this.volumes.has(place)) {
      const names = [...this.state.modalities.map((modality) => modality.file), this.state.contours];
      const loading = Promise.all(names.map((name) => this.server.volume(this.codes[place], name)));
      this.volumes.set(place, loading.then((all) => Object.fromEntries(names.map((name, index) => [name, all[index]]))));
      loading.catch(() => this.volumes.delete(place));
    }
    return this.volumes.get(place);
  }

  goOpen() {
    const place = this.#nextUngraded(this.place);
    if (place === null) this.#say("all cases are graded");
    else this.go(place);
  }

  #nextUngraded(after) {
    const places = this.codes.map((_, index) => (after + 1 + index) % this.codes.length);
    return places.find((place) => !this.#isDone(this.codes[place])) ?? null;
  }

  #isDone(code) {
    return this.state.structures.every((structure) => this.grades[code]?.[structure]);
  }

  #otherStructure() {
    const { structures } = this.state;
    return structures[(structures.indexOf(this.active) + 1) % structures.length];
  }

  activate(structure) {
    this.active = structure;
    [...$("structures").children].forEach((fieldset, number) => {
      fieldset.classList.toggle("active", this.state.structures[number] === structure);
    });
  }

  #frame(structure) {
    this.activate(structure);
    this.look();
  }

  // Where nothing was contoured, what was contoured of another structure says more than the middle of the image.
  look() {
    const { look } = this.state.items[this.place];
    if (this.shown === this.code) this.viewer.look(look[this.active] ?? Object.values(look)[0]);
  }

  grade(structure, grade) {
    if (this.shown !== this.code) {
      this.#say("the images are not there yet: not graded");
      this.#refresh();
      return;
    }
    const item = this.code;
    this.last = { item, structure, grade };
    (this.grades[item] ??= {})[structure] = grade;
    this.outbox.add("grades", { item, structure, grade, seconds: this.clock.seconds() });
    this.#say(`${structure}: ${grade}, being stored …`);
    const open = this.state.structures.find((name) => !this.grades[item][name]);
    if (open) this.#frame(open);
    this.#refresh();
  }

  storeComment() {
    clearTimeout(this.commentTimer);
    const comment = $("comment").value;
    if (comment === (this.comments[this.code] ?? "")) return;
    this.comments[this.code] = comment;
    this.outbox.add("comments", { item: this.code, comment });
  }

  #refresh() {
    const { code, state } = this;
    [...$("structures").children].forEach((fieldset, number) => {
      const structure = state.structures[number];
      for (const button of fieldset.querySelectorAll("button")) {
        button.setAttribute("aria-pressed", Number(button.value) === this.grades[code]?.[structure]);
      }
      fieldset.querySelector(".remark").hidden = structure in state.items[this.place].look;
    });
    [...$("items").options].forEach((option, place) => {
      const grades = Object.keys(this.grades[this.codes[place]] ?? {}).length;
      const mark = this.#isDone(this.codes[place]) ? "  ✓" : grades ? "  (not all structures)" : "";
      option.textContent = `${place + 1}  ${this.codes[place]}${mark}`;
    });
    $("items").value = String(this.place);
    const done = this.codes.filter((each) => this.#isDone(each)).length;
    $("bar").value = done;
    $("progress").textContent = done === this.codes.length
      ? `All ${done} cases are graded. Thank you; you can close this page.`
      : `${done} of ${this.codes.length} cases graded`;
    $("previous").disabled = this.place === 0;
    $("next").disabled = this.place === this.codes.length - 1;
    document.title = `${this.place + 1} of ${this.codes.length}, ${code}`;
  }

  #say(words) {
    $("state").textContent = words;
  }

  // about: images, store or refused; each ends by itself, but for the last.
  #alarm(about, words, canGoOn = false) {
    this.alarms[about] = words;
    const all = Object.values(this.alarms).filter(Boolean);
    $("alarm").hidden = !all.length;
    $("alarm-text").textContent = all.join(" ");
    if (about === "store") $("go-on").hidden = !canGoOn;
  }

  #reportRefused({ path, body: { item, structure, grade } }, refusal) {
    // What is not stored must not pass for graded, unless it was graded anew since.
    if (path === "grades" && this.grades[item][structure] === grade) {
      delete this.grades[item][structure];
      this.#refresh();
      if (this.last?.item === item && this.last.structure === structure) {
        this.last = null;
        this.#say("not stored");
      }
    }
    this.#alarm("refused", `${item}: not stored, and never will be: ${refusal.message} Reload the page.`);
  }

  #report(waiting, refusal) {
    if (!refusal) {
      this.#alarm("store", "");
      if (this.last) this.#say(`${this.last.item}, ${this.last.structure}: ${this.last.grade} stored`);
      return;
    }
    if (refusal.status === 401 || refusal.status === 403) keep("sessionStorage", TOKEN, null);
    const isTaken = [401, 403, 409].includes(refusal.status);
    const next = isTaken ? "“Continue here” stores it, unless you graded the same there later." : "It is kept in this browser and sent again.";
    const unsent = waiting ? ` Not stored yet: ${waiting}. ${next}` : "";
    this.#say("not stored");
    this.#alarm("store", `${refusal.message}${unsent}`, isTaken);
  }
}

// Seconds that a case has been in view.
class Clock {
  constructor() {
    this.restart();
    document.addEventListener("visibilitychange", () => this.#pauseOrGoOn());
  }

  restart() {
    this.before = 0;
    this.since = document.hidden ? null : performance.now();
  }

  seconds() {
    return Math.round(this.before + (this.since === null ? 0 : performance.now() - this.since)) / 1000;
  }

  #pauseOrGoOn() {
    this.before = this.seconds() * 1000;
    this.since = document.hidden ? null : performance.now();
  }
}

async function tryToSignIn(token) {
  $("refused").textContent = "";
  try {
    await signIn(token);
  } catch (error) {
    keep("sessionStorage", TOKEN, null);
    $("desk").hidden = true;
    $("door").hidden = false;
    $("refused").textContent = error instanceof Refusal ? error.message : `The page cannot start: ${error.message}`;
    $("token").focus();
  }
}

$("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  tryToSignIn($("token").value.trim());
});
$("token").focus();
const token = kept("sessionStorage", TOKEN);
if (token) tryToSignIn(token);
