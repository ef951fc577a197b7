// The trace of the chosen ROI: ΔF/F₀ (or counts) above, the signal that finds its events below.

import { arrays } from "./api.js";
import { $, atFrame, colour, complain, fitCanvas, say, short } from "./dom.js";

const LEFT = 52;
const RIGHT = 8;
const KEPT = 40; // traces that need not be asked for again

export class Trace {
  constructor(store, go) {
    this.store = store;
    this.go = go;
    this.canvas = $("plot");
    this.kept = new Map();
    this.data = null;
    this.frame = 0;
    this.span = [0, store.facts.n_frames - 1];
    this.times = null;
    this.dragged = null; // threshold while it is moved
    this.redraw = atFrame(() => this.draw());
    fitCanvas(this.canvas, () => this.redraw());
    store.on("chosen", () => this.load());
    store.on("rois", (ids) => {
      for (const key of [...this.kept.keys()]) if (ids.includes(key)) this.kept.delete(key);
      if (ids.includes(store.chosen)) this.load();
    });
    $("trace-kind").addEventListener("change", () => this.redraw());
    $("time-in").addEventListener("click", () => this.zoom(0.5));
    $("time-out").addEventListener("click", () => this.zoom(2));
    $("time-all").addEventListener("click", () => this.setSpan(0, store.facts.n_frames - 1));
    $("threshold").addEventListener("change", (event) => this.setThreshold(Number(event.target.value)));
    $("threshold-reset").addEventListener("click", () => this.setThreshold(null));
    this.listen();
    arrays(`${store.path}/times`).then(({ times }) => {
      this.times = times;
      store.times = times;
      this.redraw();
    }, complain);
  }

  load() {
    this.loaded = this.readChosen();
    return this.loaded;
  }

  async readChosen() {
    const { store } = this;
    const id = store.chosen;
    if (id === null) {
      this.data = null;
      this.describe();
      return;
    }
    const asked = performance.now();
    let data;
    try {
      data = await this.fetch(id);
    } catch (error) {
      complain(error);
      return;
    }
    if (store.chosen !== id) return;
    this.data = data;
    this.describe();
    this.draw();
    this.clickToTraceMs = performance.now() - asked;
    this.canvas.dataset.shows = data.dff ? id : "";
    if (data.head.pending) setTimeout(() => { if (store.chosen === id) this.load(); }, 250);
    else this.prefetch(id);
  }

  async fetch(id) {
    const known = this.kept.get(id);
    if (known) return known;
    const { version } = this.store;
    const data = await arrays(`${this.store.path}/trace/${encodeURIComponent(id)}`);
    if (data.dff && version === this.store.version) { // else it may be of the shape before an edit
      this.kept.set(id, data);
      if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
    }
    return data;
  }

  /** Going on through the list finds the next trace there. */
  prefetch(id) {
    const { listed } = this.store;
    const next = listed[listed.indexOf(id) + 1];
    if (next) setTimeout(() => { if (this.store.chosen === id) this.fetch(next).catch(() => {}); }, 60);
  }

  describe() {
    const { data, store } = this;
    const has = Boolean(data?.dff);
    $("trace-name").textContent = store.chosen ?? "No ROI chosen";
    const head = data?.head;
    let note = store.chosen ? "" : "Choose one in the picture or in the list.";
    if (head?.pending) note = `Reading its trace from the recording: ${Math.round(100 * head.share)} %`;
    else if (head?.reason) note = head.reason;
    else if (has) {
      const n = data.events.shape[1];
      note = `${n} ${n === 1 ? "event" : "events"}${head.judged ? "" : ", by a person's threshold"}`;
    }
    $("trace-note").textContent = note;
    $("threshold").disabled = !has;
    $("threshold").value = has ? Number(head.threshold.toFixed(3)) : "";
    $("threshold-reset").disabled = !has || head.judged;
    this.canvas.setAttribute("aria-label", has ? `Trace of ${head.id}, ${note}` : "Trace of the chosen ROI");
    this.redraw();
  }

  // --- Time ---

  setSpan(first, last) {
    const end = this.store.facts.n_frames - 1;
    const length = Math.max(Math.min(10, end), Math.min(last - first, end));
    const start = Math.max(0, Math.min(first, end - length));
    this.span = [start, start + length];
    this.redraw();
  }

  zoom(factor, around = this.frame) {
    const [first, last] = this.span;
    this.setSpan(around - (around - first) * factor, around + (last - around) * factor);
  }

  showFrame(frame) {
    this.frame = frame;
    const [first, last] = this.span;
    if (frame < first || frame > last) this.setSpan(frame - 0.1 * (last - first), frame + 0.9 * (last - first));
    this.redraw();
  }

  /** Go to the next event of the chosen ROI, or to the previous one. */
  async stepEvent(by) {
    await this.loaded; // else the events may be those of the ROI before
    if (!this.data?.dff || this.data.head.id !== this.store.chosen) return;
    const n = this.data.events.shape[1];
    const peaks = Array.from(this.data.events.subarray(n, 2 * n)).sort((a, b) => a - b);
    const next = by > 0 ? peaks.find((peak) => peak > this.frame) : peaks.findLast((peak) => peak < this.frame);
    if (next === undefined) say(by > 0 ? "No later event." : "No earlier event.");
    else this.go(next);
  }

  async setThreshold(value) {
    const { store } = this;
    if (!this.data?.dff || (value !== null && !(value > 0))) {
      this.describe();
      return;
    }
    try {
      await store.act({ do: "threshold", roi: store.chosen, threshold_sd: value === null ? null : Number(value.toFixed(3)) });
    } catch (error) {
      complain(error);
      this.describe();
    }
  }

  stepThreshold(by) {
    if (this.data?.dff) this.setThreshold(Math.max(0.25, this.data.head.threshold + by));
  }

  // --- Drawing ---

  layout() {
    const ratio = window.devicePixelRatio || 1;
    const width = this.canvas.width / ratio;
    const height = this.canvas.height / ratio;
    const bottom = height - 17;
    const middle = Math.round(6 + (bottom - 6) * 0.58);
    return { ratio, width, upper: [4, middle - 4], lower: [middle + 4, bottom], right: width - RIGHT, height };
  }

  x(frame, { right }) {
    const [first, last] = this.span;
    return LEFT + (frame - first) / Math.max(last - first, 1) * (right - LEFT);
  }

  /** Lowest and highest value of a trace in the shown span. */
  range(values) {
    const [first, last] = this.span;
    let low = Infinity;
    let high = -Infinity;
    for (let i = Math.max(0, Math.floor(first)); i <= Math.min(values.length - 1, Math.ceil(last)); i += 1) {
      if (values[i] < low) low = values[i];
      if (values[i] > high) high = values[i];
    }
    return low <= high ? [low, high] : [0, 1];
  }

  draw() {
    const context = this.canvas.getContext("2d");
    const place = this.layout();
    context.setTransform(place.ratio, 0, 0, place.ratio, 0, 0);
    context.clearRect(0, 0, place.width, place.height);
    context.font = "11.5px system-ui, sans-serif";
    this.colours ??= {};
    for (const name of ["ink", "soft", "line", "dff", "dog", "surround", "event", "cursor"]) this.colours[name] = colour(name);
    this.axis(context, place);
    if (this.data?.dff) {
      this.drawEvents(context, place);
      const counts = $("trace-kind").value === "raw";
      const above = counts ? [[this.data.neuropil, "surround"], [this.data.raw, "dff"]] : [[this.data.dff, "dff"]];
      this.panel(context, place, place.upper, above, counts ? "counts" : "ΔF/F₀");
      this.panel(context, place, place.lower, [[this.data.dog, "dog"]], "DoG / sd", true);
      this.drawThreshold(context, place);
    }
    context.setLineDash([4, 3]);
    for (const { start } of this.store.facts.recordings.slice(1)) this.upright(context, place, start, "ink");
    context.setLineDash([]);
    this.upright(context, place, this.frame, "cursor");
  }

  /** A line through both panels, where its frame is in view. */
  upright(context, place, frame, name) {
    const x = this.x(frame, place);
    if (x < LEFT || x > place.right) return;
    context.strokeStyle = this.colours[name];
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x, place.upper[0]);
    context.lineTo(x, place.lower[1]);
    context.stroke();
  }

  axis(context, place) {
    context.strokeStyle = this.colours.line;
    context.fillStyle = this.colours.soft;
    context.lineWidth = 1;
    for (const [top, bottom] of [place.upper, place.lower]) context.strokeRect(LEFT + 0.5, top + 0.5, place.right - LEFT, bottom - top);
    if (!this.times?.length) return;
    const at = (frame) => this.times[Math.max(0, Math.min(this.times.length - 1, Math.round(frame)))];
    const [first, last] = this.span.map(at);
    const rough = (last - first) / Math.max(2, (place.right - LEFT) / 90);
    const power = 10 ** Math.floor(Math.log10(Math.max(rough, 1e-3)));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough) ?? 10 * power;
    context.textAlign = "center";
    context.textBaseline = "top";
    for (let t = Math.ceil(first / step) * step; t <= last; t += step) {
      const x = LEFT + (t - first) / Math.max(last - first, 1e-9) * (place.right - LEFT);
      context.fillText(`${Number(t.toFixed(3))} s`, Math.min(x, place.right - 14), place.lower[1] + 3);
    }
  }

  drawEvents(context, place) {
    const { events } = this.data;
    const n = events.shape[1];
    context.fillStyle = this.colours.event;
    for (let i = 0; i < n; i += 1) {
      const left = Math.max(LEFT, this.x(events[i] - 0.5, place));
      const right = Math.min(place.right, this.x(events[2 * n + i] + 0.5, place));
      if (right > left) context.fillRect(left, place.upper[0], Math.max(1, right - left), place.lower[1] - place.upper[0]);
    }
  }

  panel(context, place, [top, bottom], lines, label, isLower = false) {
    let low = Infinity;
    let high = -Infinity;
    for (const [values] of lines) {
      const [least, most] = this.range(values);
      low = Math.min(low, least);
      high = Math.max(high, most);
    }
    if (isLower) high = Math.max(high, this.data.head.threshold * 1.15, (this.dragged ?? 0) * 1.1);
    const pad = 0.06 * (high - low || 1);
    const scale = { low: low - pad, high: high + pad, top, bottom };
    if (isLower) this.dogScale = scale;
    const y = (value) => bottom - (value - scale.low) / (scale.high - scale.low) * (bottom - top);
    context.fillStyle = this.colours.soft;
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.fillText(short(high), LEFT - 5, Math.max(top + 6, y(high)));
    context.fillText(short(low), LEFT - 5, Math.min(bottom - 6, y(low)));
    context.textAlign = "left";
    context.textBaseline = "top";
    context.lineWidth = 1.1;
    context.save();
    context.beginPath();
    context.rect(LEFT, top, place.right - LEFT, bottom - top);
    context.clip();
    for (const [values, name] of lines) {
      context.strokeStyle = this.colours[name];
      this.line(context, values, place, y);
    }
    context.restore();
    context.fillStyle = this.colours.ink;
    context.fillText(label, LEFT + 6, top + 4);
  }

  /** One stroke; where several frames share a column, from their lowest to their highest value. */
  line(context, values, place, y) {
    const [first, last] = this.span;
    const from = Math.max(0, Math.floor(first));
    const to = Math.min(values.length - 1, Math.ceil(last));
    const perColumn = (last - first) / Math.max(place.right - LEFT, 1);
    context.beginPath();
    if (perColumn <= 1.5) {
      for (let i = from; i <= to; i += 1) context.lineTo(this.x(i, place), y(values[i]));
    } else {
      for (let start = from; start <= to; start += perColumn) {
        let low = Infinity;
        let high = -Infinity;
        const end = Math.min(to + 1, Math.ceil(start + perColumn));
        for (let i = Math.floor(start); i < end; i += 1) {
          if (values[i] < low) low = values[i];
          if (values[i] > high) high = values[i];
        }
        const x = this.x(start, place);
        context.lineTo(x, y(high));
        context.lineTo(x, y(low));
      }
    }
    context.stroke();
  }

  drawThreshold(context, place) {
    const { top, bottom, low, high } = this.dogScale;
    const value = this.dragged ?? this.data.head.threshold;
    const y = bottom - (value - low) / (high - low) * (bottom - top);
    context.strokeStyle = this.colours.ink;
    context.setLineDash([5, 4]);
    context.beginPath();
    context.moveTo(LEFT, y);
    context.lineTo(place.right, y);
    context.stroke();
    context.setLineDash([]);
    context.fillStyle = this.colours.ink;
    context.textAlign = "right";
    context.textBaseline = "bottom";
    context.fillText(`threshold ${short(value)}`, place.right - 4, y - 1);
  }

  // --- Mouse ---

  listen() {
    const { canvas } = this;
    let mode = null;
    const local = (event) => {
      const box = canvas.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    const frameAt = ({ x }) => {
      const { right } = this.layout();
      const [first, last] = this.span;
      return first + (x - LEFT) / (right - LEFT) * (last - first);
    };
    const valueAt = ({ y }) => {
      const { top, bottom, low, high } = this.dogScale;
      return Math.max(0.1, low + (bottom - y) / (bottom - top) * (high - low));
    };
    const nearLine = ({ y }) => {
      if (!this.data?.dff || !this.dogScale) return false;
      const { top, bottom, low, high } = this.dogScale;
      return Math.abs(y - (bottom - (this.data.head.threshold - low) / (high - low) * (bottom - top))) < 7;
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      canvas.setPointerCapture(event.pointerId);
      mode = nearLine(local(event)) ? "threshold" : "time";
      if (mode === "time") this.go(frameAt(local(event)));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (mode === "threshold") {
        this.dragged = valueAt(local(event));
        this.redraw();
      } else if (mode === "time") this.go(frameAt(local(event)));
      else canvas.style.cursor = nearLine(local(event)) ? "ns-resize" : "";
    });
    const up = (event) => {
      const value = this.dragged;
      this.dragged = null;
      if (mode === "threshold" && value !== null && event.type === "pointerup") this.setThreshold(value);
      mode = null;
      this.redraw();
    };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", up);
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), frameAt(local(event)));
    }, { passive: false });
    canvas.addEventListener("dblclick", () => this.setSpan(0, this.store.facts.n_frames - 1));
  }
}
