// The curation page, put together.

import { get, post } from "./api.js";
import { showAcceptance } from "./acceptance.js";
import { makeActions, showChosen } from "./chosen.js";
import { $, complain, el, say } from "./dom.js";
import { Field } from "./field.js";
import { listenToKeys, showHelp } from "./keys.js";
import { List } from "./list.js";
import { Movie } from "./movie.js";
import { Picture } from "./picture.js";
import { Store } from "./store.js";
import { scoreColour, STATE_COLOURS } from "./tones.js";
import { Tools } from "./tools.js";
import { Trace } from "./trace.js";

export async function curate(key) {
  const facts = await get(`api/results/${key}/facts`);
  document.body.classList.add("curating");
  $("curate").hidden = false;
  document.title = `${facts.name} – cocuyo`;
  $("title").textContent = facts.name;
  $("title").title = facts.folder;
  const store = new Store(key, facts);
  const movie = facts.movie ? new Movie(store.path, facts) : null;
  const field = new Field(store);
  const picture = new Picture(store, field, movie);
  const actions = makeActions(store);
  const tools = new Tools(store, field);
  const go = (frame) => {
    if (!movie) {
      trace.showFrame(Math.max(0, Math.min(facts.n_frames - 1, Math.round(frame))));
      return;
    }
    movie.pause();
    picture.needMovie();
    movie.go(frame);
  };
  const trace = new Trace(store, go);
  movie?.addEventListener("frame", () => trace.showFrame(movie.frame));
  showChosen(store, actions);
  new List(store);
  const acceptance = showAcceptance(store, field);
  listenToKeys({ store, field, tools, picture, trace, actions });
  wireBar({ store, field, actions, acceptance, trace });
  showExport(store);
  // For tests and measurements of this page.
  window.cocuyo = { store, field, movie, picture, tools, trace };
  await picture.choose(facts.images.some(({ name }) => name === "mean") ? "mean" : picture.names[0]);
  await store.update();
  document.body.dataset.ready = "yes";
  store.follow();
}

function wireBar({ store, field, actions, acceptance, trace }) {
  $("undo").addEventListener("click", actions.undo);
  $("redo").addEventListener("click", actions.redo);
  $("help").addEventListener("click", showHelp);
  $("zoom-in").addEventListener("click", () => field.zoom(1.4));
  $("zoom-out").addEventListener("click", () => field.zoom(1 / 1.4));
  $("zoom-fit").addEventListener("click", () => field.fit());
  $("shown").addEventListener("change", (event) => {
    field.outlines = event.target.value;
    field.redraw();
  });
  $("colour").addEventListener("change", (event) => {
    field.colouring = event.target.value;
    showLegend(field);
    field.redraw();
  });
  showLegend(field);
  const follow = () => {
    const { accepted, rejected, judged } = store.counts();
    $("counts").textContent = `${accepted} accepted · ${rejected} rejected · ${judged} judged by a person`
      + (store.history.skipped ? ` · ${store.history.skipped} edits without effect` : "");
    for (const what of ["undo", "redo"]) {
      $(what).disabled = !store.history[what];
      $(what).title = store.history[what] ? `${what === "undo" ? "Undo" : "Redo"}: ${store.history[what]}` : "";
    }
  };
  store.on("rois", follow);
  store.on("lost", (error) => say(error.message, { bad: true }));
  store.on("found", () => say("cocuyo answers again."));
  document.addEventListener("themechange", () => {
    trace.redraw();
    acceptance.describe();
  });
}

function showLegend(field) {
  const legend = $("legend");
  if (field.colouring === "score") {
    const ramp = el("i", { class: "ramp" });
    ramp.style.background = `linear-gradient(90deg, ${[0, 0.25, 0.5, 0.75, 1].map(scoreColour).join(", ")})`;
    legend.replaceChildren(el("span", {}, "score 0", ramp, "1"), el("span", {}, "dashed: rejected"));
    return;
  }
  legend.replaceChildren(...Object.entries({ accepted: "accepted", edited: "new or reshaped", rejected: "rejected" }).map(([name, title]) => {
    const line = el("i");
    line.style.borderColor = STATE_COLOURS[name];
    if (name === "rejected") line.style.borderTopStyle = "dashed";
    return el("span", {}, line, title);
  }));
}

/** Write the curated state for other programs. */
function showExport(store) {
  if (!store.facts.formats.length) return;
  const select = el("select", { id: "export", "aria-label": "Export the curated state" }, el("option", { value: "" }, "Export …"),
    ...store.facts.formats.map(([name, title]) => el("option", { value: name }, title)));
  select.addEventListener("change", async () => {
    const format = select.value;
    select.value = "";
    if (!format) return;
    const write = async (overwrite) => say(`Written: ${(await post(`${store.path}/export`, { format, overwrite })).written}`);
    say("Writing …");
    try {
      await write(false);
    } catch (error) {
      // What is in the way may be replaced, if the person says so.
      if (!error.message.includes("--overwrite") || !window.confirm("There is an earlier export. Replace it?")) {
        if (error.message.includes("--overwrite")) say("Nothing was written; the earlier export stays.");
        else complain(error);
        return;
      }
      await write(true).catch(complain);
    }
  });
  $("export-place").append(select);
}
