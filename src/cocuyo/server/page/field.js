// The field of view: one canvas with the picture, one above it with outlines and what is drawn.

import { $, atFrame, fitCanvas } from "./dom.js";
import { greys, scoreColour, STATE_COLOURS } from "./tones.js";

const MOST_ZOOM = 60;

export class Field {
  constructor(store) {
    this.store = store;
    [this.rows, this.columns] = store.facts.frame_shape;
    this.image = $("image");
    this.overlay = $("overlay");
    this.scale = 1; // device pixels per pixel of the frame
    this.left = 0;
    this.top = 0;
    this.fitted = true;
    this.paths = new Map();
    this.hovered = null;
    this.draft = null; // what a tool is drawing: function (context, scale)
    this.preview = null; // least score while its slider moves
    this.outlines = "all";
    this.colouring = "state";
    this.source = document.createElement("canvas");
    this.redrawImage = atFrame(() => this.drawImage());
    this.redraw = atFrame(() => this.drawOverlay());
    fitCanvas(this.image, () => { if (this.fitted) this.fit(); else this.redrawImage(); });
    fitCanvas(this.overlay, () => this.redraw());
    store.on("rois", (ids) => {
      for (const id of ids) this.paths.delete(id);
      this.redraw();
    });
    store.on("listed marked", () => this.redraw());
    store.on("chosen", ({ reveal }) => {
      if (reveal) this.reveal(store.roi);
      this.redraw();
    });
  }

  // --- The picture ---

  /** Show numbers (rows x columns of `shape`) between black and white. */
  show(numbers, shape, black, white) {
    const [rows, columns] = shape;
    if (this.source.width !== columns || this.source.height !== rows || !this.pixels) {
      this.source.width = columns;
      this.source.height = rows;
      this.pixels = this.source.getContext("2d").createImageData(columns, rows);
      this.words = new Uint32Array(this.pixels.data.buffer);
    }
    if (this.black !== black || this.white !== white || !this.table) {
      this.table = greys(black, white);
      this.black = black;
      this.white = white;
    }
    const { words, table } = this;
    for (let i = 0; i < words.length; i += 1) words[i] = table[numbers[i]];
    this.source.getContext("2d").putImageData(this.pixels, 0, 0);
    this.redrawImage();
  }

  drawImage() {
    const context = this.image.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#07080a";
    context.fillRect(0, 0, this.image.width, this.image.height);
    if (!this.pixels) return;
    context.imageSmoothingEnabled = this.scale < 2;
    context.setTransform(this.scale, 0, 0, this.scale, this.left, this.top);
    context.drawImage(this.source, 0, 0, this.columns, this.rows);
    this.shownFrames = (this.shownFrames ?? 0) + 1;
  }

  // --- Where it stands ---

  fit() {
    const { width, height } = this.image;
    this.scale = Math.min(width / this.columns, height / this.rows);
    this.left = (width - this.scale * this.columns) / 2;
    this.top = (height - this.scale * this.rows) / 2;
    this.fitted = true;
    this.redrawImage();
    this.redraw();
  }

  /** Magnify around a point of the canvas, its middle if none is given. */
  zoom(factor, x = this.image.width / 2, y = this.image.height / 2) {
    const least = Math.min(this.image.width / this.columns, this.image.height / this.rows);
    const scale = Math.max(least, Math.min(MOST_ZOOM * (window.devicePixelRatio || 1), this.scale * factor));
    if (scale <= least) return this.fit();
    this.left = x - (x - this.left) * scale / this.scale;
    this.top = y - (y - this.top) * scale / this.scale;
    this.scale = scale;
    this.moved();
  }

  pan(dx, dy) {
    this.left += dx;
    this.top += dy;
    this.moved();
  }

  moved() {
    const { width, height } = this.image;
    const clamp = (value, size, room) => (size < room ? (room - size) / 2 : Math.max(room - size, Math.min(0, value)));
    this.left = clamp(this.left, this.scale * this.columns, width);
    this.top = clamp(this.top, this.scale * this.rows, height);
    this.fitted = false;
    this.redrawImage();
    this.redraw();
  }

  /** Move the picture if an ROI is not in sight. */
  reveal(roi) {
    if (!roi || roi.x === null || this.fitted) return;
    const x = this.left + (roi.x + 0.5) * this.scale;
    const y = this.top + (roi.y + 0.5) * this.scale;
    const margin = 30;
    if (x > margin && y > margin && x < this.image.width - margin && y < this.image.height - margin) return;
    this.pan(this.image.width / 2 - x, this.image.height / 2 - y);
  }

  /** Show an ROI large, in the middle. */
  approach(roi) {
    if (!roi || roi.x === null) return;
    const wanted = Math.min(this.image.width, this.image.height) / (8 * this.store.facts.diameter_px);
    this.scale = Math.max(this.scale, wanted);
    this.left = this.image.width / 2 - (roi.x + 0.5) * this.scale;
    this.top = this.image.height / 2 - (roi.y + 0.5) * this.scale;
    this.moved();
  }

  /** From a pointer's place to a place in the frame; pixel centres are whole numbers. */
  locate(event) {
    const box = this.overlay.getBoundingClientRect();
    const ratio = this.overlay.width / box.width;
    return {
      x: ((event.clientX - box.left) * ratio - this.left) / this.scale - 0.5,
      y: ((event.clientY - box.top) * ratio - this.top) / this.scale - 0.5,
    };
  }

  // --- Outlines ---

  path(roi) {
    let path = this.paths.get(roi.id);
    if (!path) {
      path = new Path2D();
      const box = [Infinity, Infinity, -Infinity, -Infinity];
      for (const ring of roi.rings) {
        for (let i = 0; i < ring.length; i += 2) {
          if (i === 0) path.moveTo(ring[0], ring[1]);
          else path.lineTo(ring[i], ring[i + 1]);
          box[0] = Math.min(box[0], ring[i]);
          box[1] = Math.min(box[1], ring[i + 1]);
          box[2] = Math.max(box[2], ring[i]);
          box[3] = Math.max(box[3], ring[i + 1]);
        }
        path.closePath();
      }
      path.box = box;
      this.paths.set(roi.id, path);
    }
    return path;
  }

  isAccepted(roi) {
    if (this.preview === null || roi.judged || roi.figures.score === null) return roi.accepted;
    if (!roi.accepted && roi.figures.score >= (this.store.minScore ?? 0)) return false; // for another reason
    return roi.figures.score >= this.preview;
  }

  isShown(roi) {
    if (roi.id === this.store.chosen || this.store.marked.has(roi.id)) return true;
    if (this.outlines === "all") return true;
    if (this.outlines === "accepted") return this.isAccepted(roi);
    return this.outlines === "filtered" && this.listedSet.has(roi.id);
  }

  colourOf(roi) {
    if (this.colouring === "score") return scoreColour(roi.figures.score);
    if (!this.isAccepted(roi)) return STATE_COLOURS.rejected;
    return roi.shape ? STATE_COLOURS.edited : STATE_COLOURS.accepted;
  }

  drawOverlay() {
    const { store, overlay } = this;
    const context = overlay.getContext("2d");
    const ratio = window.devicePixelRatio || 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, overlay.width, overlay.height);
    context.setTransform(this.scale, 0, 0, this.scale, this.left, this.top);
    this.listedSet = this.outlines === "filtered" ? new Set(store.listed) : null;
    // Outlines of one look are one path: a thousand are drawn in a few strokes.
    const looks = new Map();
    for (const roi of store.rois.values()) {
      if (!this.isShown(roi)) continue;
      const look = `${this.isAccepted(roi) ? 1 : 0}${this.colourOf(roi)}`;
      if (!looks.has(look)) looks.set(look, new Path2D());
      looks.get(look).addPath(this.path(roi));
    }
    const width = (1.35 * ratio) / this.scale;
    context.lineJoin = "round";
    for (const [look, path] of [...looks].sort()) {
      context.strokeStyle = look.slice(1);
      context.lineWidth = width;
      context.globalAlpha = look[0] === "1" ? 1 : 0.85;
      context.setLineDash(look[0] === "1" ? [] : [3 * width, 2.2 * width]);
      context.stroke(path);
    }
    context.globalAlpha = 1;
    context.setLineDash([]);
    for (const id of store.marked) this.emphasise(context, id, "#ffb54a", 1.8 * width);
    if (this.hovered && this.hovered !== store.chosen) this.emphasise(context, this.hovered, "#ffffff", 1.3 * width);
    if (store.chosen !== null) this.emphasise(context, store.chosen, "#ffffff", 1.5 * width);
    if (this.draft) this.draft(context, width);
  }

  emphasise(context, id, colour, width) {
    const roi = this.store.rois.get(id);
    if (!roi) return;
    const path = this.path(roi);
    context.strokeStyle = "rgba(0,0,0,.75)";
    context.lineWidth = 2 * width;
    context.stroke(path);
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.stroke(path);
  }

  /** The smallest shown ROI at a place of the frame. */
  hit({ x, y }) {
    const context = this.overlay.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    let found = null;
    for (const roi of this.store.rois.values()) {
      if (!this.isShown(roi)) continue;
      const path = this.path(roi);
      const [left, top, right, bottom] = path.box;
      if (x + 0.5 < left || y + 0.5 < top || x + 0.5 > right || y + 0.5 > bottom) continue;
      if (!context.isPointInPath(path, x + 0.5, y + 0.5, "evenodd")) continue;
      if (!found || roi.figures.area < found.figures.area) found = roi;
    }
    return found ? found.id : null;
  }
}
