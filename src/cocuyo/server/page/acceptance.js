// The slider that accepts from a score on, over the scores that there are.

import { $, atFrame, colour, complain, fitCanvas } from "./dom.js";

const BINS = 50;

export function showAcceptance(store, field) {
  const slider = $("score");
  const canvas = $("histogram");
  let moving = false;
  const scored = () => [...store.rois.values()].filter((roi) => roi.figures.score !== null);

  const draw = atFrame(() => {
    const context = canvas.getContext("2d");
    const { width, height } = canvas;
    context.clearRect(0, 0, width, height);
    const bins = new Array(BINS).fill(0);
    for (const roi of scored()) bins[Math.min(BINS - 1, Math.floor(roi.figures.score * BINS))] += 1;
    const most = Math.max(1, ...bins);
    const limit = Number(slider.value);
    bins.forEach((n, i) => {
      if (!n) return;
      context.fillStyle = colour((i + 0.5) / BINS >= limit ? "good" : "bad");
      const tall = Math.max(2, (height - 2) * Math.sqrt(n / most));
      context.fillRect(i * width / BINS + 1, height - tall, width / BINS - 2, tall);
    });
  });

  const describe = () => {
    const known = scored().length > 0;
    $("acceptance").hidden = !known;
    $("score-value").textContent = Number(slider.value).toFixed(2);
    let n = 0;
    for (const roi of store.rois.values()) n += field.isAccepted(roi);
    $("score-count").textContent = `${n} accepted`;
    draw();
  };

  const follow = () => {
    if (!moving && store.minScore !== null) slider.value = store.minScore;
    describe();
  };

  slider.addEventListener("input", () => {
    moving = true;
    field.preview = Number(slider.value);
    field.redraw();
    describe();
  });
  slider.addEventListener("change", async () => {
    const score = Number(slider.value);
    try {
      await store.act({ do: "min_score", score });
    } catch (error) {
      complain(error);
    }
    moving = false;
    field.preview = null;
    field.redraw();
    follow();
  });
  store.on("rois", follow);
  fitCanvas(canvas, draw);
  follow();
  return { describe };
}
