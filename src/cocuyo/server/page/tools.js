// Tools on the field: choose, draw, add, erase, part. With the mouse, or with a crosshair that
// the arrow keys move.

import { $, complain, el, say } from "./dom.js";

const TOOLS = [
  { name: "select", key: "v", title: "Select" },
  { name: "new", key: "d", title: "New", needs: false, shape: "polygon" },
  { name: "add", key: "b", title: "Add", needs: true, shape: "brush" },
  { name: "erase", key: "e", title: "Erase", needs: true, shape: "brush" },
  { name: "split", key: "S", title: "Split", needs: true, shape: "line" },
];
const HINTS = {
  polygon: "Corners: click or Space · close: Enter or double click · or draw round it in one go · leave: Esc",
  brush: "Paint with the mouse, or with arrow keys: Space starts, Enter ends · size: [ ] · leave: Esc",
  line: "Draw a line through the ROI · by keyboard: Space sets a point, Enter parts · leave: Esc",
};
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const FREEHAND_PX = 6; // further than this with the button down, it is drawn in one go

const reserve = (element, shown) => {
  element.style.visibility = shown ? "visible" : "hidden";
};

export class Tools {
  constructor(store, field) {
    this.store = store;
    this.field = field;
    this.name = "select";
    this.shape = "polygon";
    this.radius = Math.max(1, Math.round(0.25 * store.facts.diameter_px));
    this.points = [];
    this.cross = null;
    this.build();
    this.listen();
    store.on("chosen", () => this.update());
    store.on("rois", () => this.update());
    this.pick("select");
  }

  get tool() {
    return TOOLS.find((tool) => tool.name === this.name);
  }

  build() {
    this.buttons = TOOLS.map((tool) => el("button", {
      type: "button", "data-key": tool.key, "data-tool": tool.name, onclick: () => this.pick(tool.name),
    }, tool.title));
    this.shapes = el("span", { class: "group", role: "group", "aria-label": "Shape of the tool" },
      ...["polygon", "brush"].map((shape) => el("button", { type: "button", "data-shape": shape, onclick: () => this.pickShape(shape) }, shape)));
    this.size = el("input", { type: "range", min: 0.5, max: Math.ceil(2 * this.store.facts.diameter_px), step: 0.5, value: this.radius, "aria-label": "Radius of the brush" });
    this.size.addEventListener("input", () => this.setRadius(Number(this.size.value)));
    this.sizeLabel = el("label", {}, "Radius ", this.size, el("output"));
    this.finish = el("button", { type: "button", class: "main", "data-key": "Enter", onclick: () => this.done() }, "Done");
    $("tools").append(el("span", { class: "group" }, ...this.buttons), this.shapes, this.sizeLabel, this.finish);
  }

  pick(name) {
    const tool = TOOLS.find((each) => each.name === name);
    if (tool.needs && !this.store.roi) {
      say("Choose an ROI first; New draws one where there is none.");
      return;
    }
    this.name = name;
    this.points = [];
    if (tool.shape) this.shape = tool.shape;
    if (name === "select") this.cross = null;
    else this.cross ??= this.startOfCross();
    this.update();
    if (name !== "select") $("stage").focus({ preventScroll: true });
  }

  pickShape(shape) {
    if (this.name === "select" || this.shape === "line") return;
    this.shape = shape;
    this.points = [];
    this.update();
    $("stage").focus({ preventScroll: true });
  }

  startOfCross() {
    const roi = this.store.roi;
    if (roi && roi.x !== null) return { x: Math.round(roi.x), y: Math.round(roi.y) };
    return { x: Math.round(this.field.columns / 2), y: Math.round(this.field.rows / 2) };
  }

  setRadius(radius) {
    this.radius = Math.max(0.5, Math.min(Number(this.size.max), radius));
    this.size.value = this.radius;
    this.update();
  }

  update() {
    if (this.tool.needs && !this.store.roi) {
      this.name = "select";
      this.points = [];
      this.cross = null;
    }
    const drawing = this.name !== "select";
    for (const button of this.buttons) {
      const tool = TOOLS.find((each) => each.name === button.dataset.tool);
      button.setAttribute("aria-pressed", button.dataset.tool === this.name);
      button.disabled = tool.needs === true && !this.store.roi;
    }
    for (const button of this.shapes.children) button.setAttribute("aria-pressed", button.dataset.shape === this.shape);
    // Their places stay reserved: a toolbar that grows would move the picture under the pointer.
    reserve(this.shapes, drawing && this.shape !== "line");
    reserve(this.sizeLabel, drawing && this.shape === "brush");
    this.sizeLabel.querySelector("output").textContent = `${this.radius} px`;
    reserve(this.finish, drawing && this.points.length > 0);
    $("stage").classList.toggle("tool", drawing);
    $("hint").hidden = !drawing;
    $("hint").textContent = drawing ? HINTS[this.shape] : "";
    this.field.draft = drawing ? (context, width) => this.draw(context, width) : null;
    this.field.redraw();
  }

  draw(context, width) {
    const { points, cross, shape } = this;
    context.strokeStyle = this.name === "erase" ? "#ff8a84" : "#6fd3ff";
    context.fillStyle = this.name === "erase" ? "rgba(255,138,132,.3)" : "rgba(111,211,255,.3)";
    context.lineCap = "round";
    if (points.length) {
      context.beginPath();
      points.forEach(({ x, y }, i) => (i ? context.lineTo(x + 0.5, y + 0.5) : context.moveTo(x + 0.5, y + 0.5)));
      if (shape === "brush") {
        if (points.length === 1) context.lineTo(points[0].x + 0.501, points[0].y + 0.5);
        context.globalAlpha = 0.45;
        context.lineWidth = 2 * this.radius;
        context.stroke();
        context.globalAlpha = 1;
      } else {
        if (shape === "polygon" && points.length > 2) context.fill();
        context.lineWidth = 1.4 * width;
        context.stroke();
        for (const { x, y } of points.length < 60 ? points : []) context.fillRect(x + 0.5 - 2 * width, y + 0.5 - 2 * width, 4 * width, 4 * width);
      }
    }
    if (!cross) return;
    context.lineWidth = width;
    context.beginPath();
    if (shape === "brush") context.arc(cross.x + 0.5, cross.y + 0.5, this.radius, 0, 7);
    const arm = 7 * width;
    context.moveTo(cross.x + 0.5 - arm, cross.y + 0.5);
    context.lineTo(cross.x + 0.5 + arm, cross.y + 0.5);
    context.moveTo(cross.x + 0.5, cross.y + 0.5 - arm);
    context.lineTo(cross.x + 0.5, cross.y + 0.5 + arm);
    context.stroke();
  }

  // --- Mouse, pen, finger ---

  listen() {
    const stage = $("stage");
    let down = null;
    stage.addEventListener("pointerdown", (event) => {
      if (event.button > 1) return;
      stage.setPointerCapture(event.pointerId);
      stage.focus({ preventScroll: true });
      const place = this.field.locate(event);
      down = { x: event.clientX, y: event.clientY, last: event, moved: false, panning: this.name === "select" || event.button === 1 };
      if (down.panning) return;
      event.preventDefault();
      this.cross = place;
      if (this.shape === "brush") this.points = [place];
      else this.points.push(place);
      this.update();
    });
    stage.addEventListener("pointermove", (event) => {
      if (!down) {
        this.hover(event);
        return;
      }
      if (Math.hypot(event.clientX - down.x, event.clientY - down.y) > FREEHAND_PX) down.moved = true;
      if (down.panning) {
        if (down.moved) {
          const ratio = window.devicePixelRatio || 1;
          this.field.pan((event.clientX - down.last.clientX) * ratio, (event.clientY - down.last.clientY) * ratio);
        }
        down.last = event;
        return;
      }
      for (const each of event.getCoalescedEvents?.() ?? [event]) {
        const place = this.field.locate(each);
        const last = this.points.at(-1);
        if (!last || Math.hypot(place.x - last.x, place.y - last.y) >= 0.4) this.points.push(place);
        this.cross = place;
      }
      this.update();
    });
    const up = (event) => {
      if (!down) return;
      const { moved, panning } = down;
      down = null;
      if (panning) {
        if (!moved && event.type === "pointerup") this.click(event);
      } else if (event.type === "pointercancel") this.points = [];
      else if (this.shape === "brush" || (moved && this.points.length > 3)) this.done();
    };
    stage.addEventListener("pointerup", up);
    stage.addEventListener("pointercancel", up);
    stage.addEventListener("pointerleave", () => this.setHovered(null));
    stage.addEventListener("dblclick", () => {
      if (this.name !== "select" && this.points.length > 2) this.done();
    });
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      const box = stage.getBoundingClientRect();
      const ratio = window.devicePixelRatio || 1;
      this.field.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), (event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio);
    }, { passive: false });
  }

  hover(event) {
    if (this.name === "select") this.setHovered(this.field.hit(this.field.locate(event)));
    else {
      this.cross = this.field.locate(event);
      this.field.redraw();
    }
  }

  setHovered(id) {
    if (this.field.hovered === id) return;
    this.field.hovered = id;
    $("stage").style.cursor = id && this.name === "select" ? "pointer" : "";
    this.field.redraw();
  }

  click(event) {
    const id = this.field.hit(this.field.locate(event));
    if (event.shiftKey || event.ctrlKey || event.metaKey) {
      if (id === null) return;
      if (!this.store.marked.size && this.store.chosen && this.store.chosen !== id) this.store.mark(this.store.chosen);
      this.store.mark(id);
    } else this.store.choose(id, { reveal: false });
  }

  // --- Keyboard: true where the key was for a tool ---

  key(event) {
    if (this.name === "select") return false;
    const arrow = ARROWS[event.key];
    if (arrow && !event.ctrlKey && !event.metaKey) {
      const by = event.shiftKey ? 5 : 1;
      this.cross = {
        x: Math.max(0, Math.min(this.field.columns - 1, this.cross.x + by * arrow[0])),
        y: Math.max(0, Math.min(this.field.rows - 1, this.cross.y + by * arrow[1])),
      };
      if (this.shape === "brush" && this.points.length) this.points.push({ ...this.cross });
      this.field.reveal(this.cross);
      this.update();
      return true;
    }
    switch (event.key) {
      case " ":
        this.points.push({ ...this.cross });
        this.update();
        return true;
      case "Enter":
        this.done();
        return true;
      case "Backspace":
        this.points.pop();
        this.update();
        return true;
      case "Escape":
        if (this.points.length) {
          this.points = [];
          this.update();
        } else this.pick("select");
        return true;
      case "q":
        this.pickShape(this.shape === "brush" ? "polygon" : "brush");
        return true;
      default:
        return false;
    }
  }

  /** Send what was drawn. */
  async done() {
    const points = this.points.map(({ x, y }) => [Number(y.toFixed(2)), Number(x.toFixed(2))]);
    const least = { polygon: 3, brush: 1, line: 2 }[this.shape];
    if (points.length < least) {
      say(`That needs ${least} points.`);
      return;
    }
    const { store, name } = this;
    const area = this.shape === "brush" ? { kind: "stroke", points, radius_px: this.radius } : { kind: "polygon", points };
    const action = name === "new" ? { do: "draw", area }
      : name === "split" ? { do: "split", roi: store.chosen, line: points }
        : { do: name, roi: store.chosen, area };
    this.points = [];
    this.update();
    try {
      const kept = await store.act(action);
      if (kept.made.length) store.choose(kept.made[0], { reveal: false });
      if (name === "split" || (name === "new" && this.shape === "polygon")) this.pick("select");
    } catch (error) {
      complain(error);
    }
  }
}
