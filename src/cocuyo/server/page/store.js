// What the page knows of the result: ROIs, choice, filter, order. It asks the server what changed,
// so that several windows show the same.

import { get, newName, post } from "./api.js";

/** Figures of an ROI: key, title, short title. */
export const FIGURES = [
  ["score", "Score", "score"], ["snr", "Signal to noise", "SNR"], ["events", "Events", "events"], ["area", "Area / px", "area"],
  ["rate", "Events per minute", "/min"], ["peak", "Largest ΔF/F₀", "peak"], ["noise", "Noise of ΔF/F₀", "noise"],
  ["diameter", "Diameter", "diam"], ["probability", "Probability", "prob"], ["contrast", "Contrast", "contr"],
  ["mean", "Mean counts", "mean"], ["neuropil", "Surround subtracted", "surr"],
];
/** Decimals of figures that have always as many. */
export const DECIMALS = { events: 0, area: 0, score: 2, probability: 2, neuropil: 2 };
const POLL_MS = 1000;
const POLL_PENDING_MS = 250;
const COMPARE = {
  "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b, "=": (a, b) => a === b,
};

/** Turn "0012 score<0.6 events>=2" into a test of an ROI; words must be in its name. */
export function parseFilter(text) {
  const tests = [];
  const unknown = [];
  for (const word of text.trim().split(/\s+/).filter(Boolean)) {
    const found = /^([a-z]+)(<=|>=|<|>|=)(-?[\d.]+)$/i.exec(word);
    if (!found) {
      if (/[<>=]/.test(word)) unknown.push(word);
      else tests.push((roi) => roi.id.toLowerCase().includes(word.toLowerCase()));
      continue;
    }
    const [, name, sign, number] = found;
    const figure = FIGURES.find(([key, , label]) => key === name.toLowerCase() || label === name);
    if (!figure) unknown.push(word);
    else tests.push((roi) => roi.figures[figure[0]] !== null && COMPARE[sign](roi.figures[figure[0]], Number(number)));
  }
  return { test: (roi) => tests.every((test) => test(roi)), unknown };
}

export class Store extends EventTarget {
  constructor(key, facts) {
    super();
    this.path = `api/results/${key}`;
    this.facts = facts;
    this.version = 0;
    this.rois = new Map();
    this.history = { undo: "", redo: "", n_edits: 0, min_score: null };
    this.listed = [];
    this.chosen = null;
    this.marked = new Set();
    this.filter = { state: "all", text: "" };
    this.sort = { figure: "id", descending: false };
    this.session = newName();
    this.reached = true;
    this.updating = null;
    this.times = null; // of each frame, in seconds, when they have come
  }

  emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  on(names, work) {
    for (const name of names.split(" ")) this.addEventListener(name, (event) => work(event.detail));
  }

  get roi() {
    return this.chosen === null ? null : this.rois.get(this.chosen) ?? null;
  }

  /** Least score of an accepted ROI: a person's, else the run's. */
  get minScore() {
    return this.history.min_score ?? this.facts.min_score;
  }

  /** Ask the server what changed, now and then again. */
  async follow() {
    await this.update().catch(() => {});
    const pending = [...this.rois.values()].some((roi) => roi.pending);
    setTimeout(() => this.follow(), pending ? POLL_PENDING_MS : document.hidden ? 5 * POLL_MS : POLL_MS);
  }

  /** One question at a time: answers are taken in the order of their versions. */
  update() {
    this.updating ??= this.takeChanges().finally(() => { this.updating = null; });
    return this.updating;
  }

  async takeChanges() {
    let changes;
    try {
      changes = await get(`${this.path}/changes?since=${this.version}`);
    } catch (error) {
      const before = this.reached;
      this.reached = false;
      if (before) this.emit("lost", error);
      throw error;
    }
    const before = this.reached;
    this.reached = true;
    if (!before) this.emit("found");
    if (changes.version === this.version) return;
    this.version = changes.version;
    this.history = changes.history;
    for (const id of changes.gone) {
      this.rois.delete(id);
      this.marked.delete(id);
    }
    for (const roi of changes.rois) this.rois.set(roi.id, roi);
    const left = this.chosen !== null && !this.rois.has(this.chosen);
    // What was made of the chosen ROI takes its place, in the other windows too.
    if (left) this.chosen = changes.rois.find((roi) => roi.parents.includes(this.chosen))?.id ?? null;
    this.arrange();
    this.emit("rois", changes.rois.map((roi) => roi.id));
    if (left) this.emit("chosen", { reveal: false });
  }

  /** Sort and filter; the chosen ROI stays chosen even where it is not listed. */
  arrange() {
    const { test } = parseFilter(this.filter.text);
    const wanted = {
      all: () => true, accepted: (roi) => roi.accepted, rejected: (roi) => !roi.accepted, suspect: (roi) => roi.suspicion !== null,
      judged: (roi) => roi.judged, edited: (roi) => roi.shape !== "",
    }[this.filter.state];
    const { figure, descending } = this.sort;
    const value = { id: () => null, state: (roi) => Number(roi.accepted), suspect: (roi) => roi.suspicion }[figure] ?? ((roi) => roi.figures[figure]);
    const sign = descending ? -1 : 1;
    const rows = [...this.rois.values()].filter((roi) => wanted(roi) && test(roi)).map((roi) => [value(roi), roi]);
    rows.sort(([a, one], [b, other]) => {
      if (a === b) return one.id < other.id ? (figure === "id" ? -sign : -1) : figure === "id" ? sign : 1;
      if (a === null) return 1; // what is not known stands last
      if (b === null) return -1;
      return a < b ? -sign : sign;
    });
    this.listed = rows.map(([, roi]) => roi.id);
    this.emit("listed");
  }

  setFilter(change) {
    Object.assign(this.filter, change);
    this.arrange();
  }

  setSort(figure, descending) {
    this.sort = { figure, descending };
    this.arrange();
  }

  choose(id, { reveal = true } = {}) {
    if (id !== null && !this.rois.has(id)) return;
    this.chosen = id;
    this.emit("chosen", { reveal });
  }

  /** Go up or down in the list. */
  step(by) {
    if (!this.listed.length) return;
    const at = this.listed.indexOf(this.chosen);
    const next = at < 0 ? (by > 0 ? 0 : this.listed.length - 1) : Math.min(Math.max(at + by, 0), this.listed.length - 1);
    this.choose(this.listed[next]);
  }

  mark(id) {
    if (id === null) return;
    if (!this.marked.delete(id)) this.marked.add(id);
    this.emit("marked");
  }

  unmark() {
    if (!this.marked.size) return;
    this.marked.clear();
    this.emit("marked");
  }

  /** Choose the most doubtful ROI that nobody judged; after it the next one. */
  nextSuspect() {
    const order = [...this.rois.values()].filter((roi) => roi.suspicion !== null).map((roi) => [roi.suspicion, roi.id]);
    order.sort(([a, one], [b, other]) => b - a || (one < other ? -1 : 1));
    if (!order.length) return false;
    const at = order.findIndex(([, id]) => id === this.chosen);
    this.choose(order[(at + 1) % order.length][1]);
    return true;
  }

  /** Do something; what is shown follows when the server has kept it. */
  async act(action) {
    const content = { ...action, id: newName(), session: this.session };
    let kept;
    for (let attempt = 0; ; attempt += 1) {
      try {
        kept = await post(`${this.path}/edits`, content);
        break;
      } catch (error) {
        if (error.status !== 0 || attempt >= 2) throw error; // sent again, the edit is made once
        await new Promise((done) => { setTimeout(done, 300); });
      }
    }
    if (this.updating) await this.updating.catch(() => {});
    await this.update();
    this.emit("acted", kept);
    return kept;
  }

  counts() {
    let accepted = 0;
    let judged = 0;
    for (const roi of this.rois.values()) {
      accepted += roi.accepted;
      judged += roi.judged;
    }
    return { accepted, judged, rejected: this.rois.size - accepted };
  }
}
