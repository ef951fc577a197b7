// Everything by keyboard, and the help that lists it.

import { $, el } from "./dom.js";

const SETS = [
  ["ROIs", [
    ["j / ↓", "next in the list"], ["k / ↑", "previous"], ["n", "next suspect: unjudged, the most doubtful"], ["a", "accept"],
    ["r", "reject"], ["x", "mark or unmark, for several at once"], ["m", "merge marked ROIs"], ["s", "split across"],
    ["Del", "delete"], ["g", "show large"], ["Esc", "leave the tool, unmark, choose none"],
  ]],
  ["Drawing", [
    ["d", "new ROI"], ["b", "add to the ROI"], ["e", "erase from the ROI"], ["Shift S", "split along a line"], ["q", "polygon or brush"],
    ["[ ]", "smaller, larger brush"], ["← ↑ → ↓", "move the crosshair, with Shift by 5"], ["Space", "set a corner, paint"],
    ["Backspace", "take a corner back"], ["Enter", "done"],
  ]],
  ["History", [["z, Ctrl Z", "undo, without limit"], ["y, Ctrl Shift Z", "redo"]]],
  ["Movie", [
    ["Space", "play, pause"], ["← →", "one frame, with Shift ten"], ["Home, End", "first, last frame"], [". ,", "next, previous event of the ROI"],
  ]],
  ["Picture", [
    ["1 … 9", "raw, corrected, ΔF/F, mean, …"], ["p", "next picture"], ["+ −", "zoom"], ["f", "whole field"], ["Ctrl arrows", "move the picture"],
    ["o", "outlines: all, accepted, as listed, none"], ["c", "colour: state, score"], ["w / Shift W", "brighter, darker"],
  ]],
  ["Trace", [["t / Shift T", "threshold up, down by 0.25"], ["h / Shift H", "less, more time"]]],
  ["Page", [["/", "filter"], ["l", "score to accept from"], ["?", "this list"], ["Tab", "next control"]]],
];

export function showHelp() {
  const dialog = $("keys");
  if (!dialog.children.length) {
    dialog.append(
      el("header", {}, el("h2", { id: "keys-title" }, "Keys"), el("form", { method: "dialog" }, el("button", { autofocus: true }, "Close"))),
      el("div", { class: "sets" }, ...SETS.map(([title, keys]) => el("section", {}, el("h2", {}, title),
        el("dl", {}, ...keys.flatMap(([key, text]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, text)]))))),
      el("p", { class: "soft small" }, "Edits are kept on the disk as they are made, and shown in every window of this result."),
    );
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  }
  dialog.showModal();
}

/** Move a select on by one. */
function cycle(id) {
  const select = $(id);
  select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
  select.dispatchEvent(new Event("change"));
}

export function listenToKeys({ store, field, tools, picture, trace, actions }) {
  const movie = (by) => picture.stepFrame(by);
  const pan = (dx, dy) => field.pan(dx * 0.15 * field.image.width, dy * 0.15 * field.image.height);
  const contrast = (by) => {
    $("white").value = Number($("white").value) + by;
    picture.readSliders("white");
  };
  const plain = {
    j: () => store.step(1), ArrowDown: () => store.step(1), k: () => store.step(-1), ArrowUp: () => store.step(-1),
    PageDown: () => store.step(15), PageUp: () => store.step(-15),
    n: actions.suspect, a: actions.accept, r: actions.reject, m: actions.merge, s: actions.split, Delete: actions.remove,
    x: () => store.mark(store.chosen), g: () => field.approach(store.roi),
    d: () => tools.pick("new"), b: () => tools.pick("add"), e: () => tools.pick("erase"), S: () => tools.pick("split"), v: () => tools.pick("select"),
    "[": () => tools.setRadius(tools.radius - 0.5), "]": () => tools.setRadius(tools.radius + 0.5),
    z: actions.undo, y: actions.redo,
    " ": () => picture.toggle(), ArrowLeft: () => movie(-1), ArrowRight: () => movie(1),
    "Shift ArrowLeft": () => movie(-10), "Shift ArrowRight": () => movie(10), Home: () => movie(-Infinity), End: () => movie(Infinity),
    ".": () => trace.stepEvent(1), ",": () => trace.stepEvent(-1),
    p: () => picture.step(1), "+": () => field.zoom(1.4), "=": () => field.zoom(1.4), "-": () => field.zoom(1 / 1.4), f: () => field.fit(),
    o: () => cycle("shown"), c: () => cycle("colour"), w: () => contrast(-25), W: () => contrast(25),
    t: () => trace.stepThreshold(0.25), T: () => trace.stepThreshold(-0.25), h: () => trace.zoom(0.5), H: () => trace.zoom(2),
    "/": () => $("filter").focus(), l: () => $("score").focus(), "?": showHelp,
    Escape: () => { if (store.marked.size) store.unmark(); else store.choose(null); },
    "Ctrl ArrowLeft": () => pan(1, 0), "Ctrl ArrowRight": () => pan(-1, 0), "Ctrl ArrowUp": () => pan(0, 1), "Ctrl ArrowDown": () => pan(0, -1),
    "Ctrl z": actions.undo, "Ctrl Z": actions.redo, "Ctrl y": actions.redo,
  };
  for (let i = 1; i <= 9; i += 1) plain[i] = () => picture.choose(picture.names[i - 1]);

  document.addEventListener("keydown", (event) => {
    if ($("keys").open || event.altKey || event.defaultPrevented) return;
    const { target } = event;
    const types = target.matches?.("input[type=search], input[type=number], input[type=text], textarea");
    const control = event.ctrlKey || event.metaKey;
    if (types && !(control && "zZyY".includes(event.key) && target.value === "")) return;
    // A slider or a select keeps its own keys; a button its own two.
    if (target.matches?.("input[type=range], select") && /^(Arrow|Home|End|Page| $)/.test(event.key)) return;
    if (target.matches?.("button, a") && (event.key === " " || event.key === "Enter")) return;
    if (!control && tools.key(event)) {
      event.preventDefault();
      return;
    }
    const name = `${control ? "Ctrl " : ""}${event.shiftKey && event.key.startsWith("Arrow") ? "Shift " : ""}${event.key}`;
    const work = plain[name];
    if (!work) return;
    event.preventDefault();
    work();
  });
}
