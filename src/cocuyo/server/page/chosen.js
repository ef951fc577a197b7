// The chosen ROI: state, reasons, figures, and what can be done with it.

import { $, complain, el, say, short } from "./dom.js";
import { DECIMALS, FIGURES } from "./store.js";

/** What a person can do with ROIs; the list and the keys use it too. */
export function makeActions(store) {
  const targets = () => (store.marked.size ? [...store.marked] : store.chosen === null ? [] : [store.chosen]);
  const act = async (action) => {
    try {
      const kept = await store.act(action);
      say(kept.text ? kept.text[0].toUpperCase() + kept.text.slice(1) : "Done");
      return kept;
    } catch (error) {
      complain(error);
      return null;
    }
  };
  const onTargets = async (what) => {
    const rois = targets();
    if (!rois.length) {
      say("Choose an ROI first.");
      return;
    }
    const at = store.listed.indexOf(store.chosen);
    if (await act({ do: what, rois }) && what === "delete" && store.listed.length) store.choose(store.listed[Math.min(Math.max(at, 0), store.listed.length - 1)]);
    store.unmark();
  };
  return {
    accept: () => onTargets("accept"),
    reject: () => onTargets("reject"),
    remove: () => onTargets("delete"),
    async merge() {
      const rois = [...new Set([...store.marked, ...(store.chosen === null ? [] : [store.chosen])])];
      if (rois.length < 2) {
        say("Mark two or more ROIs to merge: x, or click with Shift.");
        return;
      }
      const kept = await act({ do: "merge", rois });
      store.unmark();
      if (kept) store.choose(kept.made[0], { reveal: false });
    },
    async split() {
      if (store.chosen === null) {
        say("Choose an ROI first.");
        return;
      }
      const kept = await act({ do: "split", roi: store.chosen });
      if (kept) store.choose(kept.made[0], { reveal: false });
    },
    undo: () => step("undo"),
    redo: () => step("redo"),
    suspect() {
      if (!store.nextSuspect()) say("No suspect is left: every doubtful ROI was judged.");
    },
  };

  async function step(what) {
    const text = store.history[what];
    if (!text) {
      say(`Nothing to ${what}.`);
      return;
    }
    if (await act({ do: what })) say(`${what === "undo" ? "Undone" : "Done again"}: ${text}`);
  }
}

export function showChosen(store, actions) {
  const place = $("chosen");
  const draw = () => {
    const roi = store.roi;
    const marked = store.marked.size;
    const header = el("header", {});
    const body = [header];
    const button = (title, key, work, disabled, kind = "") => el("button", { type: "button", "data-key": key, class: kind, disabled, onclick: work }, title);
    if (roi) {
      const state = roi.accepted ? "accepted" : "rejected";
      header.append(el("h2", {}, roi.id), el("span", { class: `chip ${state}` }, roi.judged && !roi.shape ? `${state} by a person` : state));
      if (roi.shape) header.append(el("span", { class: "chip edited" }, roi.shape === "new" ? "new" : "reshaped"));
      const words = [roi.reason, ...roi.doubts, roi.threshold_sd !== null ? `threshold moved to ${short(roi.threshold_sd)}` : "", roi.parents.length ? `made of ${roi.parents.join(", ")}` : "", roi.pending ? "its trace is being read" : ""];
      body.push(el("p", { class: "reason soft" }, words.filter(Boolean).join("; ") || (roi.shape === "new" ? "Drawn by a person." : roi.accepted ? "No reason to reject it was found." : "")));
      body.push(el("dl", {}, ...FIGURES.map(([key, title]) => {
        const unit = key === "diameter" ? (store.facts.pixel_size_um ? " µm" : " px") : "";
        return el("div", {}, el("dt", { title }, title), el("dd", {}, short(roi.figures[key], DECIMALS[key]) + (roi.figures[key] === null ? "" : unit)));
      })));
    } else {
      header.append(el("h2", {}, store.rois.size ? "No ROI chosen" : "No ROI"));
      body.push(el("p", { class: "soft" }, store.rois.size
        ? "Click one in the picture or in the list, press j for the first, or n for the one that most needs a look."
        : !store.reached ? "The ROIs could not be read."
        : `The run found no candidate. Draw one with New (d)${store.facts.movie ? ", and its trace is read at once" : ""}.`));
    }
    if (marked) header.append(el("span", { class: "chip edited" }, `${marked} marked`));
    const none = !roi && !marked;
    body.push(el("div", { class: "actions" },
      button("Accept", "a", actions.accept, none, "good"),
      button("Reject", "r", actions.reject, none, "bad"),
      button("Split", "s", actions.split, !roi),
      button("Merge", "m", actions.merge, marked + (roi && !store.marked.has(roi.id) ? 1 : 0) < 2),
      button("Delete", "Del", actions.remove, none)));
    header.append(el("span", { class: "grow" }), button("Next suspect", "n", actions.suspect, !store.rois.size));
    const focused = place.contains(document.activeElement) ? [...place.querySelectorAll("button")].indexOf(document.activeElement) : -1;
    place.replaceChildren(...body);
    if (focused >= 0) place.querySelectorAll("button")[focused]?.focus();
  };
  store.on("chosen rois marked lost found", draw);
  draw();
}
