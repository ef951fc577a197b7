// The start page: choose a recording, see what is in it, say what is missing, run, open the result.

import { get, post } from "./api.js";
import { $, bytes, clock, complain, el, short } from "./dom.js";

const counts = (value) => short(value, Number.isInteger(value) ? 0 : null);

const SIGNS = { folder: "▸", recording: "▤", result: "●" };
const POLL_MS = 400;
const NUMBERS = [
  ["frame_rate_hz", "Frame rate / Hz"], ["pixel_size_um", "Pixel size / µm"], ["diameter_um", "Cell diameter / µm"],
];

export async function start(context) {
  const page = $("start");
  page.hidden = false;
  $("undo").hidden = true;
  $("redo").hidden = true;
  $("help").hidden = true;
  document.title = "cocuyo";
  $("title").textContent = "";
  $("counts").textContent = context.root;
  const files = el("div", { class: "card" });
  const detail = el("div", { class: "stack" });
  page.append(
    el("header", {}, el("h1", {}, "Choose a recording to analyse, or a result to look at"),
      el("p", { class: "soft" }, "Only what lies in the folder in which cocuyo view was started is shown. Nothing leaves this computer.")),
    files, detail,
  );
  const panel = new Panel(detail);
  const files_ = new Files(files, panel);
  await files_.show("");
  if (context.jobs.length) panel.follow(context.jobs[0]);
  else panel.welcome();
  panel.refresh = () => files_.show(files_.path);
  document.body.dataset.ready = "yes";
}

class Files {
  constructor(place, panel) {
    this.place = place;
    this.panel = panel;
    this.path = "";
  }

  async show(path) {
    let listed;
    try {
      listed = await get(`api/browse?path=${encodeURIComponent(path)}`);
    } catch (error) {
      complain(error);
      return;
    }
    this.path = listed.path;
    const entries = listed.entries.map((entry) => this.entry(entry));
    if (listed.path) {
      const above = listed.path.split("/").slice(0, -1).join("/");
      entries.unshift(this.line("↰", "One folder up", "", () => this.show(above)));
    }
    const empty = listed.entries.length ? null : el("p", { class: "soft" }, "No recording, result or folder here.");
    const more = listed.left_out ? el("p", { class: "soft" }, `${listed.left_out} more are not listed.`) : null;
    this.place.replaceChildren(el("h2", {}, "Recordings and results"), el("p", { class: "where" }, [listed.root, listed.path].filter(Boolean).join("/")),
      el("ul", { class: "files" }, ...entries), ...[empty, more].filter(Boolean));
  }

  line(sign, name, note, work) {
    const button = el("button", { type: "button", title: name, onclick: () => work(button) }, el("span", { "aria-hidden": true }, sign), el("span", {}, name), el("span", { class: "soft" }, note));
    return el("li", {}, button);
  }

  entry(entry) {
    const note = entry.kind === "recording" ? (entry.bytes === null ? "" : bytes(entry.bytes)) : entry.kind;
    return this.line(SIGNS[entry.kind], entry.name, note, (button) => {
      if (entry.kind === "folder") {
        this.show(entry.path);
        // A folder of frames is a recording itself.
        this.panel.folder(entry.path);
        return;
      }
      for (const other of this.place.querySelectorAll("[aria-current]")) other.removeAttribute("aria-current");
      button.setAttribute("aria-current", "true");
      if (entry.kind === "result") this.panel.result(entry.path);
      else this.panel.recording(entry.path);
    });
  }
}

class Panel {
  constructor(place) {
    this.place = place;
    this.refresh = () => {};
  }

  card(...children) {
    const card = el("div", { class: "card stack" }, ...children.filter(Boolean));
    this.place.replaceChildren(card);
    return card;
  }

  welcome() {
    this.card(el("h2", {}, "How it goes"), el("p", {}, "Choose a recording at the left. cocuyo says what is in the file and what is missing, mostly nothing or the frame rate. Run it, and open the result here to look through the neurons and correct them."),
      el("p", { class: "soft" }, "A folder that holds single frames or the parts of one recording can be taken as a whole."));
  }

  folder(path) {
    this.card(el("h2", {}, path), el("p", { class: "soft" }, "Choose a recording in this folder. If the folder holds the frames or the parts of one recording, take it as a whole."),
      el("div", { class: "buttons" }, el("button", { type: "button", onclick: () => this.recording(path) }, "Take this folder as one recording")));
  }

  async result(path) {
    this.card(el("h2", {}, path), el("p", { class: "soft" }, "A finished result."), el("div", { class: "buttons" },
      el("button", { type: "button", class: "main", id: "open-result", onclick: () => open(path) }, "Look at it and correct it")));
    $("open-result").focus();
  }

  async recording(path, options = {}) {
    this.card(el("h2", {}, path), el("p", { class: "soft" }, "Looking at it …"));
    this.path = path;
    let found;
    try {
      found = await post("api/inspect", { path, ...options });
    } catch (error) {
      if (this.path === path) this.refused(path, options, error);
      return;
    }
    if (this.path !== path) return;
    this.describe(path, options, found);
  }

  /** What cannot be opened may need a choice: data set, channel, plane. */
  refused(path, options, error) {
    const form = el("form", {}, el("div", { class: "fields" }, this.text("dataset", "Data set (HDF5)", options.dataset),
      this.text("axes", "Order of the axes, such as TXY", options.axes),
      this.whole("channel", "Channel, from 0", options.channel), this.whole("plane", "Plane, from 0", options.plane)),
    el("div", { class: "buttons" }, el("button", { class: "main" }, "Look again")));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.recording(path, this.read(form));
    });
    this.card(el("h2", {}, path), el("p", { class: "box bad", role: "alert" }, error.message), form);
  }

  text(name, title, value) {
    return el("label", {}, title, el("input", { type: "text", name, value: value ?? "", autocomplete: "off" }));
  }

  whole(name, title, value) {
    return el("label", {}, title, el("input", { type: "number", name, min: 0, step: 1, value: value ?? "" }));
  }

  /** What a form says; what is left empty is left out. */
  read(form) {
    const said = {};
    for (const input of form.querySelectorAll("input, select")) {
      if (input.type === "checkbox") said[input.name] = input.checked;
      else if (input.value !== "") said[input.name] = input.type === "number" ? Number(input.value) : input.value;
    }
    return said;
  }

  describe(path, options, found) {
    const { facts } = found;
    const known = (value, unit, origin) => (value === null ? "not known" : `${Number(value.toPrecision(6))} ${unit}${origin ? ` (${origin})` : ""}`);
    const rows = [
      ["Format", facts.format], ["Frames", `${facts.n_frames} of ${facts.n_rows} × ${facts.n_columns} (rows × columns)`],
      ["Values", `${facts.dtype}, ${counts(facts.value_min)} to ${counts(facts.value_max)}${facts.share_at_limit > 0 ? `, ${(100 * facts.share_at_limit).toFixed(2)} % saturated` : ""}`],
      ["On disk", bytes(facts.bytes_on_disk)], ["Frame rate", known(facts.frame_rate_hz, "Hz", facts.frame_rate_origin)],
      ["Pixel size", known(facts.pixel_size_um, "µm", facts.pixel_size_origin)],
      facts.duration_s === null ? null : ["Duration", clock(facts.duration_s)],
      ...facts.notes.map((note) => ["Note", note]),
    ].filter(Boolean);
    const noRate = facts.frame_rate_hz === null;
    const fields = NUMBERS.map(([name, title]) => {
      const needed = name === "frame_rate_hz" && noRate;
      const here = facts[name] === null || facts[name] === undefined ? "" : Number(facts[name].toPrecision(6));
      return el("label", { class: needed ? "needed" : "" }, needed ? `${title}: needed` : title,
        el("input", { type: "number", name, min: 0, step: "any", required: needed, value: options[name] ?? "", placeholder: here === "" ? (needed ? "" : "measured") : here }));
    });
    const form = el("form", { id: "run-form" }, el("h2", {}, noRate ? "Say what is missing" : "Change what the file says, if it is wrong"),
      el("div", { class: "fields" }, ...fields,
        el("label", { class: "wide" }, "Method", el("select", { name: "preset" }, el("option", { value: "default" }, "default: cocuyo's own"),
          el("option", { value: "paper" }, "paper: as published"), el("option", { value: "srname" }, "srname: without networks")))),
      found.exists ? el("label", { class: "line" }, el("input", { type: "checkbox", name: "overwrite" }), `Replace ${found.out}, which is there already (corrections are set aside)`) : null,
      el("div", { class: "buttons" }, el("button", { class: "main run", id: "run" }, "Run"), el("span", { class: "soft" }, `Writes ${found.out} beside the recording.`)));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.run({ path, ...options, ...this.read(form) });
    });
    this.card(el("h2", {}, facts.name), el("table", {}, el("tbody", {}, ...rows.map(([name, text]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, text))))),
      found.exists ? el("div", { class: "buttons" }, el("button", { type: "button", onclick: () => open(found.path.split("/").slice(0, -1).concat(found.out).join("/")) }, "Open the result that is there")) : null, form);
  }

  async run(content) {
    try {
      this.follow(await post("api/run", content));
    } catch (error) {
      complain(error);
    }
  }

  async follow(job) {
    const stage = el("p", { id: "stage-name" });
    const progress = el("progress", { max: 1, value: 0, "aria-label": "Progress of this stage" });
    const note = el("p", { class: "soft" });
    const stop = el("button", { type: "button", onclick: () => post(`api/runs/${job.key}/stop`).catch(complain) }, "Stop");
    this.card(el("h2", {}, `Analysing ${job.recording}`), stage, progress, note, el("div", { class: "buttons" }, stop));
    for (let now = job; ;) {
      stage.textContent = now.stage[0].toUpperCase() + now.stage.slice(1);
      progress.value = now.share;
      note.textContent = `${clock(now.elapsed_s)} so far${now.left_s === null ? "" : `, about ${clock(now.left_s)} left of this stage`}`;
      if (now.state !== "running") {
        this.finished(now);
        return;
      }
      await new Promise((done) => { setTimeout(done, POLL_MS); });
      try {
        now = await get(`api/runs/${job.key}`);
      } catch (error) {
        complain(error);
        return;
      }
    }
  }

  finished(job) {
    const kind = { done: "good", failed: "bad", stopped: "warn" }[job.state];
    const title = { done: "Done", failed: "It could not be analysed", stopped: "Stopped" }[job.state];
    this.card(el("h2", {}, `${title}: ${job.recording}`), el("p", { class: `box ${kind}`, role: "status" }, job.message),
      ...job.warnings.map((text) => el("p", { class: "box warn" }, text)),
      el("div", { class: "buttons" },
        job.state === "done" ? el("button", { type: "button", class: "main", id: "open-result", onclick: () => open(job.result) }, "Look at it and correct it")
          : el("button", { type: "button", onclick: () => this.recording(job.recording) }, "Back to the recording")));
    $("open-result")?.focus();
    this.refresh();
  }
}

async function open(path) {
  try {
    const { result } = await post("api/open", { path });
    location.search = `?result=${result}`;
  } catch (error) {
    complain(error);
  }
}
