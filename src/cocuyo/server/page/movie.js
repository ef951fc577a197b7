// Frames as they are needed: fetched in chunks, kept up to a limit, played by the clock.

import { arrays } from "./api.js";

const CHUNK_BYTES = 4e6;
const KEPT_BYTES = 160e6;
const AHEAD = 3; // chunks fetched before they are due while it plays
const DRAWN_PER_S = 30;

export class Movie extends EventTarget {
  constructor(path, facts) {
    super();
    this.path = path;
    this.nFrames = facts.n_frames;
    this.rate = facts.frame_rate_hz;
    const bytes = 2 * facts.movie.shape[0] * facts.movie.shape[1];
    this.chunk = Math.max(1, Math.min(64, facts.movie.per_block, Math.floor(CHUNK_BYTES / bytes)));
    this.most = Math.max(8, Math.floor(KEPT_BYTES / (bytes * this.chunk)));
    this.shape = facts.movie.shape;
    this.kept = new Map(); // key -> chunk, the oldest first
    this.asked = new Map();
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

  key(frame, step) {
    const span = this.chunk * step;
    return [Math.floor(frame / span) * span, step];
  }

  /** The frame if it is there; else it is asked for and an event tells when it came. */
  look(frame, step = 1) {
    const [start, every] = this.key(frame, step);
    const name = `${this.kind} ${start} ${every}`;
    const chunk = this.kept.get(name);
    if (chunk) {
      this.kept.delete(name); // used last: kept longest
      this.kept.set(name, chunk);
      const at = Math.min(Math.floor((frame - start) / every), chunk.shape[0] - 1);
      const size = chunk.shape[1] * chunk.shape[2];
      return { numbers: chunk.subarray(at * size, (at + 1) * size), ...chunk.scale };
    }
    this.fetch(start, every, name);
    return null;
  }

  async fetch(start, every, name) {
    if (this.asked.has(name) || start >= this.nFrames) return;
    const scrubbing = !this.playing;
    if (scrubbing && this.asked.size >= 2) return; // the latest wish is fetched when one of these is there
    const kind = this.kind;
    this.asked.set(name, true);
    try {
      const found = await arrays(`${this.path}/frames/${kind}?start=${start}&count=${this.chunk}&step=${every}`);
      const { offset, step, low, high, unit } = found.head;
      found.frames.scale = { offset, step, low, high, unit };
      this.kept.set(name, found.frames);
      while (this.kept.size > this.most) this.kept.delete(this.kept.keys().next().value);
    } catch (error) {
      this.pause();
      this.dispatchEvent(new CustomEvent("failed", { detail: error }));
    } finally {
      this.asked.delete(name);
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
    for (let i = 0; i <= AHEAD; i += 1) {
      const [start, every] = this.key(frame + i * this.chunk * step, step);
      const name = `${this.kind} ${start} ${every}`;
      if (start < this.nFrames && !this.kept.has(name)) this.fetch(start, every, name);
    }
    if (this.look(frame, step)) {
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
