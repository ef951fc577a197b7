// The list of ROIs: only the rows in sight exist, so that thousands scroll as ten do.

import { $, atFrame, el, short } from "./dom.js";
import { DECIMALS, FIGURES, parseFilter } from "./store.js";

const ROW = 25;
const COLUMNS = 4;

export class List {
  constructor(store) {
    this.store = store;
    this.rows = $("rows");
    this.columns = FIGURES.slice(0, COLUMNS);
    this.head = el("div", { class: "head", role: "row" });
    this.body = el("div", { role: "rowgroup" });
    this.rows.append(this.head, this.body);
    this.redraw = atFrame(() => this.draw());
    this.rows.addEventListener("scroll", this.redraw);
    new ResizeObserver(this.redraw).observe(this.rows);
    this.rows.addEventListener("click", (event) => this.click(event));
    this.buildControls();
    store.on("listed rois marked", () => this.redraw());
    store.on("chosen", () => {
      this.reveal();
      this.redraw();
    });
  }

  buildControls() {
    const { store } = this;
    const sort = $("sort");
    const titles = [["id", "Name"], ["suspect", "Doubt"], ["state", "State"], ...FIGURES.map(([key, title]) => [key, title])];
    sort.append(...titles.map(([key, title]) => el("option", { value: key }, title)));
    sort.addEventListener("change", () => this.sortBy(sort.value, sort.value !== "id"));
    $("direction").addEventListener("click", () => this.sortBy(store.sort.figure, !store.sort.descending));
    $("state-filter").addEventListener("change", (event) => store.setFilter({ state: event.target.value }));
    const text = $("filter");
    text.addEventListener("input", () => {
      store.setFilter({ text: text.value });
      const { unknown } = parseFilter(text.value);
      text.setCustomValidity(unknown.length ? `Not understood: ${unknown.join(", ")}` : "");
      text.title = text.validationMessage || "Words must be in the name; figures are compared: score<0.6 events>=2";
      text.setAttribute("aria-invalid", unknown.length > 0);
    });
    text.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === "ArrowDown") this.rows.focus();
      if (event.key === "Escape") {
        text.value = "";
        text.dispatchEvent(new Event("input"));
        this.rows.focus();
      }
    });
    const add = $("add-condition");
    add.append(el("option", { value: "" }, "+ filter"), ...FIGURES.map(([key, title]) => el("option", { value: key }, title)));
    add.addEventListener("change", () => {
      text.value = `${text.value.trim()} ${add.value}>`.trim();
      add.value = "";
      text.focus();
      text.dispatchEvent(new Event("input"));
    });
  }

  sortBy(figure, descending) {
    $("sort").value = figure;
    this.store.setSort(figure, descending);
    // What is sorted by is shown: in place of the last column if it is none of the first.
    const known = FIGURES.find(([key]) => key === figure);
    this.columns = FIGURES.slice(0, COLUMNS);
    if (known && !this.columns.includes(known)) this.columns[COLUMNS - 1] = known;
    this.redraw();
  }

  click(event) {
    const row = event.target.closest(".row");
    if (!row) return;
    if (event.shiftKey || event.ctrlKey || event.metaKey) {
      if (!this.store.marked.size && this.store.chosen && this.store.chosen !== row.dataset.id) this.store.mark(this.store.chosen);
      this.store.mark(row.dataset.id);
    } else this.store.choose(row.dataset.id);
  }

  reveal() {
    const at = this.store.listed.indexOf(this.store.chosen);
    if (at < 0) return;
    const top = at * ROW;
    const room = this.rows.clientHeight - 2 * ROW;
    if (top < this.rows.scrollTop) this.rows.scrollTop = top;
    else if (top > this.rows.scrollTop + room) this.rows.scrollTop = top - room;
  }

  drawHead() {
    const { figure, descending } = this.store.sort;
    const column = (key, title, full) => el("button", {
      type: "button", title: `Sort by ${full}`, tabindex: -1, "aria-sort": key === figure ? (descending ? "descending" : "ascending") : undefined,
      onclick: () => this.sortBy(key, key === figure ? !descending : !["id"].includes(key)),
    }, title + (key === figure ? (descending ? " ▾" : " ▴") : ""));
    this.head.replaceChildren(el("span"), column("id", "name", "name"), ...this.columns.map(([key, title, label]) => column(key, label, title)));
    $("direction").textContent = descending ? "▼" : "▲";
  }

  draw() {
    const { store, rows } = this;
    this.drawHead();
    const n = store.listed.length;
    this.body.style.height = `${n * ROW}px`;
    this.body.style.position = "relative";
    rows.setAttribute("aria-rowcount", n);
    const first = Math.max(0, Math.floor(rows.scrollTop / ROW) - 4);
    const last = Math.min(n, Math.ceil((rows.scrollTop + rows.clientHeight) / ROW) + 4);
    const shown = [];
    for (let i = first; i < last; i += 1) shown.push(this.row(store.rois.get(store.listed[i]), i));
    if (!n) shown.push(el("p", { class: "empty" }, store.rois.size ? "No ROI fits the filter." : "There is no ROI."));
    this.body.replaceChildren(...shown);
    $("listed").textContent = n === store.rois.size ? `${n}` : `${n} of ${store.rois.size}`;
    if (store.chosen !== null) rows.setAttribute("aria-activedescendant", `row-${store.chosen}`);
    else rows.removeAttribute("aria-activedescendant");
  }

  row(roi, at) {
    const { store } = this;
    const classes = ["row", roi.accepted ? "accepted" : "rejected", roi.id === store.chosen && "chosen", store.marked.has(roi.id) && "marked"];
    const row = el("div", {
      class: classes.filter(Boolean).join(" "), role: "row", id: `row-${roi.id}`, "data-id": roi.id, "aria-rowindex": at + 1,
      "aria-selected": roi.id === store.chosen,
    }, el("span", { class: "mark", role: "gridcell", "aria-label": roi.accepted ? "accepted" : "rejected" }, roi.accepted ? (roi.judged ? "✔" : "●") : roi.judged ? "✖" : "○"),
    el("span", { role: "gridcell" }, roi.id + (roi.shape ? " *" : "")),
    ...this.columns.map(([key]) => el("span", { role: "gridcell" }, short(roi.figures[key], DECIMALS[key]))));
    row.style.top = `${at * ROW}px`;
    return row;
  }
}
