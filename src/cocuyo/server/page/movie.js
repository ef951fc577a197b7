// Frames as they are needed: fetched one by one or in chunks, kept up to a limit, played by the clock.

import { arrays } from "./api.js";

const CHUNK_BYTES = 4e6;
const KEPT_BYTES = 200e6;
const AHEAD = 3; // chunks fetched before they are due while it plays
const DRAWN_PER_S = 30;
const NEAR = 6; // a wish this near to the last one goes on in the same direction: a chunk is fetched
const AT_ONCE = 2; // requests under way while scrubbing; the latest wish comes after them

export class Movie extends EventTarget {
  constructor(path, facts) {
    super();
    this.path = path;
    this.nFrames = facts.n_frames;
    this.rate = facts.frame_rate_hz;
    this.shape = facts.movie.shape;
    const bytes = 2 * this.shape[0] * this.shape[1];
    this.chunk = Math.max(1, Math.min(16, Math.floor(CHUNK_BYTES / bytes)));
    this.most = Math.max(24, Math.floor(KEPT_BYTES / bytes));
    this.kept = new Map(); // "kind frame" -> numbers, the oldest first
    this.scales = {};
    this.asked = new Set();
    this.requests = 0;
    this.wish = 0;
    this.frame = 0;
    this.kind = null;
    this.playing = false;
    this.speed = 1;
    this.drawn = 0;
  }

  /** Number of frames from one drawn frame to the next, so that no more are drawn than a screen shows. */
  get step() {
    return this.playing ? Math.max(1, Math.round(this.rate * this.speed / DRAWN_PER_S)) : 1;
  }

  /** The frame if it is there; else it is asked for, and an event tells when something came. */
  look(frame) {
    const numbers = this.take(frame);
    if (!numbers) this.want(frame);
    return numbers && { numbers, frame, ...this.scales[this.kind] };
  }

  /** The frame that is there and nearest to the wanted one: while scrubbing faster than frames come. */
  nearest() {
    let best = null;
    for (const name of this.kept.keys()) {
      const [kind, number] = name.split(" ");
      const frame = Number(number);
      if (kind === this.kind && (best === null || Math.abs(frame - this.frame) < Math.abs(best - this.frame))) best = frame;
    }
    if (best === null) return null;
    return { numbers: this.kept.get(`${this.kind} ${best}`), frame: best, ...this.scales[this.kind] };
  }

  take(frame) {
    const name = `${this.kind} ${frame}`;
    const numbers = this.kept.get(name);
    if (numbers) { // used last: kept longest
      this.kept.delete(name);
      this.kept.set(name, numbers);
    }
    return numbers ?? null;
  }

  /** Ask for a frame while nothing plays: with those after or before it where it goes on step by step. */
  want(frame) {
    if (this.playing || this.requests >= AT_ONCE || this.asked.has(`${this.kind} ${frame}`)) return;
    const by = frame - this.wish;
    this.wish = frame;
    const near = Math.abs(by) <= NEAR;
    const count = near ? this.chunk : 1;
    this.fetch(by < 0 ? Math.max(0, frame - count + 1) : frame, by < 0 ? Math.min(count, frame + 1) : count, 1);
  }

  async fetch(start, count, step) {
    const { kind } = this;
    const frames = [];
    for (let i = start; i < Math.min(start + count * step, this.nFrames); i += step) frames.push(i);
    const names = frames.map((frame) => `${kind} ${frame}`);
    if (!names.length || names.every((name) => this.kept.has(name) || this.asked.has(name))) return;
    for (const name of names) this.asked.add(name);
    this.requests += 1;
    try {
      const found = await arrays(`${this.path}/frames/${kind}?start=${start}&count=${count}&step=${step}`);
      const { offset, step: unitStep, low, high, unit } = found.head;
      this.scales[kind] = { offset, step: unitStep, low, high, unit };
      const size = this.shape[0] * this.shape[1];
      // Copies: a part of a chunk would keep all of it in memory.
      names.forEach((name, i) => this.kept.set(name, found.frames.slice(i * size, (i + 1) * size)));
      while (this.kept.size > this.most) this.kept.delete(this.kept.keys().next().value);
    } catch (error) {
      this.pause();
      this.dispatchEvent(new CustomEvent("failed", { detail: error }));
    } finally {
      for (const name of names) this.asked.delete(name);
      this.requests -= 1;
      this.dispatchEvent(new Event("came"));
    }
  }

  go(frame) {
    const to = Math.max(0, Math.min(this.nFrames - 1, Math.round(frame)));
    if (this.playing) this.anchor = { frame: to, at: performance.now() };
    if (to === this.frame) return;
    this.frame = to;
    this.dispatchEvent(new Event("frame"));
  }

  play() {
    if (this.playing || this.kind === null) return;
    if (this.frame >= this.nFrames - 1) this.go(0);
    this.playing = true;
    this.anchor = { frame: this.frame, at: performance.now() };
    this.dispatchEvent(new Event("state"));
    requestAnimationFrame(() => this.tick());
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    this.dispatchEvent(new Event("state"));
  }

  setSpeed(speed) {
    this.speed = speed;
    this.anchor = { frame: this.frame, at: performance.now() };
  }

  tick() {
    if (!this.playing) return;
    const step = this.step;
    const due = this.anchor.frame + ((performance.now() - this.anchor.at) / 1000) * this.rate * this.speed;
    const frame = Math.min(Math.floor(due / step) * step, this.nFrames - 1);
    const span = this.chunk * step;
    for (let i = 0; i <= AHEAD; i += 1) this.fetch((Math.floor(frame / span) + i) * span, this.chunk, step);
    if (this.take(frame)) {
      if (frame !== this.frame) {
        this.frame = frame;
        this.dispatchEvent(new Event("frame"));
      }
    } else {
      this.anchor = { frame: this.frame, at: performance.now() }; // wait rather than skip
    }
    if (this.frame >= this.nFrames - 1) this.pause();
    else requestAnimationFrame(() => this.tick());
  }
}
