// What the field shows: a frame of the movie or a picture of the whole recording, and its contrast.

import { arrays } from "./api.js";
import { $, clock, complain, el, short } from "./dom.js";
import { quantise } from "./tones.js";

const MOVIES = { raw: "Raw", corrected: "Motion corrected", dff: "ΔF/F" };
const SLIDER = 1000;

export class Picture {
  constructor(store, field, movie) {
    this.store = store;
    this.field = field;
    this.movie = movie;
    this.images = new Map();
    this.levels = new Map(); // name -> [black, white] in the picture's unit
    this.current = null; // what is shown: numbers, shape, offset, step, unit, low, high
    this.fill();
    $("picture").addEventListener("change", (event) => this.choose(event.target.value));
    for (const id of ["black", "white"]) $(id).addEventListener("input", () => this.readSliders(id));
    $("auto").addEventListener("click", () => this.auto());
    if (movie) this.wire();
    else $("transport").hidden = true;
  }

  fill() {
    const { facts } = this.store;
    const select = $("picture");
    this.names = [];
    const group = (label, entries) => el("optgroup", { label }, ...entries.map(([value, title]) => {
      this.names.push(value);
      return el("option", { value }, `${title}`);
    }));
    if (facts.movie) select.append(group("Movie", facts.movie.kinds.map((kind) => [`movie ${kind}`, MOVIES[kind]])));
    select.append(group("Whole recording", facts.images.map(({ name, title }) => [name, title])));
    if (!facts.movie) {
      $("no-movie").textContent = `No movie, and no traces of new shapes. ${facts.no_movie}`;
      $("no-movie").hidden = false;
    }
  }

  step(by) {
    const at = this.names.indexOf(this.name);
    this.choose(this.names[(at + by + this.names.length) % this.names.length]);
  }

  async choose(name) {
    if (!this.names.includes(name)) return;
    this.name = name;
    $("picture").value = name;
    if (name.startsWith("movie ")) {
      this.movie.kind = name.slice(6);
      this.showFrame();
      return;
    }
    this.movie?.pause();
    if (!this.images.has(name)) {
      this.busy("Computing this picture from the recording …");
      try {
        const { head, image } = await arrays(`${this.store.path}/image/${name}`);
        this.images.set(name, { ...quantise(image), shape: image.shape, ...head });
      } catch (error) {
        complain(error);
        return;
      } finally {
        this.busy("");
      }
      if (this.name !== name) return;
    }
    this.show(this.images.get(name));
  }

  get isMovie() {
    return this.name?.startsWith("movie ");
  }

  busy(text) {
    clearTimeout(this.busyTimer);
    if (text) this.busyTimer = setTimeout(() => { $("busy").textContent = text; $("busy").hidden = false; }, 200);
    else $("busy").hidden = true;
  }

  showFrame() {
    if (!this.isMovie) return;
    const { movie } = this;
    const found = movie.look(movie.frame);
    if (found) this.busy("");
    else this.busy("Reading frames …");
    const shown = found ?? movie.nearest();
    if (!shown) return;
    this.show({ ...shown, shape: movie.shape, note: "" });
    movie.drawn += 1;
    $("stage").dataset.frame = shown.frame;
  }

  show(picture) {
    this.current = picture;
    if (!this.levels.has(this.name)) this.levels.set(this.name, [picture.low, picture.high]);
    const [black, white] = this.levels.get(this.name).map((value) => (value - picture.offset) / picture.step);
    this.field.show(picture.numbers, picture.shape, black, white);
    $("stage").dataset.picture = this.name;
    this.writeSliders();
  }

  // --- Contrast: sliders run from a little below black to well above white as first chosen ---

  get reach() {
    const { low, high } = this.current;
    const span = high - low;
    return [low - 0.5 * span, high + 1.5 * span];
  }

  writeSliders() {
    const [least, most] = this.reach;
    const [black, white] = this.levels.get(this.name);
    $("black").value = SLIDER * (black - least) / (most - least);
    $("white").value = SLIDER * (white - least) / (most - least);
    const unit = this.current.unit ? ` ${this.current.unit}` : "";
    $("levels").textContent = `${short(black)} to ${short(white)}${unit}${this.current.note ? `, ${this.current.note}` : ""}`;
  }

  readSliders(moved) {
    if (!this.current) return;
    const [least, most] = this.reach;
    const value = (id) => least + Number($(id).value) / SLIDER * (most - least);
    let [black, white] = [value("black"), value("white")];
    const gap = (most - least) / 200;
    if (white - black < gap) {
      if (moved === "black") black = white - gap;
      else white = black + gap;
    }
    this.levels.set(this.name, [black, white]);
    this.show(this.current);
  }

  auto() {
    if (!this.current) return;
    this.levels.delete(this.name);
    this.show(this.current);
  }

  // --- Time ---

  wire() {
    const { movie } = this;
    const scrub = $("scrub");
    scrub.max = movie.nFrames - 1;
    scrub.addEventListener("input", () => {
      movie.pause();
      this.needMovie();
      movie.go(Number(scrub.value));
    });
    $("play").addEventListener("click", () => this.toggle());
    $("speed").addEventListener("change", (event) => movie.setSpeed(Number(event.target.value)));
    movie.addEventListener("frame", () => {
      this.showFrame();
      this.describe();
    });
    movie.addEventListener("came", () => this.showFrame());
    movie.addEventListener("state", () => {
      $("play").textContent = movie.playing ? "Pause" : "Play";
      $("play").setAttribute("aria-pressed", movie.playing);
    });
    movie.addEventListener("failed", ({ detail }) => complain(detail));
    this.describe();
  }

  describe() {
    const { movie } = this;
    $("scrub").value = movie.frame;
    $("scrub").setAttribute("aria-valuetext", `frame ${movie.frame}`);
    const part = this.store.facts.recordings.findLast(({ start }) => start <= movie.frame); // of an experiment
    $("when").textContent = `${clock(this.store.times?.[movie.frame] ?? movie.frame / movie.rate)} · frame ${movie.frame}${part ? ` · ${part.name.slice(0, 24)}` : ""}`;
  }

  /** Frames are shown when time moves: from a picture of the whole, go to the corrected movie. */
  needMovie() {
    if (!this.isMovie) this.choose("movie corrected");
  }

  toggle() {
    if (!this.movie) return;
    this.needMovie();
    if (this.movie.playing) this.movie.pause();
    else this.movie.play();
  }

  stepFrame(by) {
    if (!this.movie) return;
    this.movie.pause();
    this.needMovie();
    this.movie.go(this.movie.frame + by);
  }
}
