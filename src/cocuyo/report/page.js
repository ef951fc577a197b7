(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
  const times = new Float32Array(bytes(data.times));
  const codes = new Uint16Array(bytes(data.codes));
  const place = new Map(data.rois.map((entry, i) => [entry.roi, i]));
  const chooser = byId("choose"), canvas = byId("plot");
  let now = 0, view = [0, data.end], drag = null, pointer = null;

  // Choosing an ROI, from anywhere in the page.
  const choose = (index, scroll) => {
    if (!canvas || index < 0 || index >= data.rois.length) return;
    now = index;
    const entry = data.rois[now];
    chooser.value = String(now);
    byId("about").textContent = `${entry.name} · ${entry.about}`;
    mark(entry.roi, scroll);
    draw();
  };
  const mark = (roi, scroll) => {
    document.querySelectorAll(".chosen").forEach((e) => e.classList.remove("chosen"));
    document.querySelectorAll(`[data-roi="${roi}"]`).forEach((e) => {
      e.classList.add("chosen");
      if (e.tagName === "path") e.parentNode.appendChild(e); // to the top
      if (e.tagName === "TR" && scroll !== "table") {
        const box = e.closest(".scroll");
        box.scrollTop = e.offsetTop - box.clientHeight / 2;
      }
    });
  };
  document.addEventListener("click", (event) => {
    const target = event.target.closest && event.target.closest("[data-roi]");
    if (!target) return;
    const roi = Number(target.dataset.roi);
    if (place.has(roi) && canvas) {
      choose(place.get(roi), target.tagName === "TR" ? "table" : "");
      canvas.scrollIntoView({ block: "nearest", behavior: "smooth" });
    }
    else {
      mark(roi, "table");
      if (canvas) byId("about").textContent = "The trace of this candidate is not in the page; see result.h5.";
    }
  });

  // The picture below the outlines, and rejected candidates.
  const baseForm = byId("base-form");
  if (baseForm) {
    const update = () => {
      const chosen = baseForm.querySelector("input[name=base]:checked");
      document.querySelectorAll("use.base").forEach((u) => u.setAttribute("href", "#" + chosen.value));
      document.body.classList.toggle("show-rejected", Boolean(byId("show-rejected")?.checked));
    };
    baseForm.addEventListener("change", update);
    update();
  }

  // The table.
  const table = byId("table");
  if (table) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.firstChild.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[column].textContent;
      const rows = [...table.tBodies[0].rows].map((row) => [key(row), row]);
      rows.sort(([a], [b]) => {
        if (a === "" || b === "") return (a === "") - (b === ""); // unknown ones last
        const x = Number(a), y = Number(b);
        const order = Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
        return up ? order : -order;
      });
      table.tBodies[0].append(...rows.map(([, row]) => row));
    }));
    const tableForm = byId("table-form");
    tableForm.addEventListener("change", () => {
      const which = tableForm.querySelector("input:checked").value;
      table.classList.toggle("only-yes", which === "yes");
      table.classList.toggle("only-no", which === "no");
    });
    tableForm.dispatchEvent(new Event("change"));
  }
  if (!canvas || !data.rois.length) return;

  // The trace of one ROI.
  data.rois.forEach((entry, i) => {
    const option = document.createElement("option");
    option.value = String(i);
    option.textContent = entry.accepted ? entry.name : entry.name + " (rejected)";
    chooser.append(option);
  });
  if (data.framesPerBin > 1) {
    byId("decimated").textContent =
      `Drawn from the smallest and largest value of every ${data.framesPerBin.toFixed(1)} frames, so that no peak is lost.`;
  }
  const signal = (index, which) => {
    const entry = data.rois[index], n = data.nPoints;
    const [low, high] = entry.range.slice(2 * which, 2 * which + 2);
    const start = (2 * index + which) * n, out = new Float64Array(n);
    for (let i = 0; i < n; i++) {
      const code = codes[start + i];
      out[i] = code === 65535 ? NaN : low + (high - low) * code / 65534;
    }
    return out;
  };
  const ticks = (low, high, n) => {
    const raw = (high - low) / n;
    if (!(raw > 0)) return [low];
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= raw * 0.999);
    const out = [];
    for (let i = Math.ceil(low / step - 1e-9); i <= high / step + 1e-9; i++) out.push(i * step);
    return out;
  };
  const short = (value) => String(Number(value.toPrecision(6))).replace("-", "−");
  const LEFT = 62, RIGHT = 10, TOP = 8, GAP = 16;
  const panels = [["ΔF/F₀", 170], ["DoG / noise", 130], ["active", 30]];
  const xOf = (t, width) => LEFT + (t - view[0]) / (view[1] - view[0]) * (width - LEFT - RIGHT);
  const tOf = (x, width) => view[0] + (x - LEFT) / (width - LEFT - RIGHT) * (view[1] - view[0]);

  const draw = () => {
    const entry = data.rois[now];
    const width = canvas.clientWidth, height = 430, ratio = Math.max(window.devicePixelRatio || 1, 2);
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const g = canvas.getContext("2d");
    g.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue("--" + name).trim();
    g.font = "12px system-ui, sans-serif";
    g.clearRect(0, 0, width, height);
    const inner = width - LEFT - RIGHT;
    let top = TOP;
    panels.forEach(([title, panelHeight], k) => {
      g.fillStyle = colour("card");
      g.fillRect(LEFT, top, inner, panelHeight);
      g.save();
      g.beginPath();
      g.rect(LEFT, top, inner, panelHeight);
      g.clip();
      // Where it is active: shaded in all three panels.
      g.fillStyle = k === 2 ? colour("active") : colour("shade");
      for (const [from, to] of entry.runs) {
        const x = xOf(from, width);
        const inset = k === 2 ? 4 : 0;
        g.fillRect(x, top + inset, Math.max(xOf(to, width) - x, 1), panelHeight - 2 * inset);
      }
      for (const border of data.borders) { // where a recording of an experiment begins
        const x = xOf(border, width);
        line(g, x, top, x, top + panelHeight, colour("ink"), [4, 3]);
      }
      let scale = null;
      if (k < 2) {
        const values = signal(now, k);
        let low = Infinity, high = -Infinity;
        for (let i = 0; i < values.length; i++) {
          if (times[i] < view[0] || times[i] > view[1]) continue;
          if (values[i] < low) low = values[i];
          if (values[i] > high) high = values[i];
        }
        if (!(low <= high)) { low = 0; high = 1; }
        if (k === 1 && entry.threshold !== null) high = Math.max(high, entry.threshold * 1.15);
        const pad = (high - low) * 0.06 || 0.5;
        low -= pad; high += pad;
        const yOf = (v) => top + (high - v) / (high - low) * panelHeight;
        scale = [low, high, yOf];
        if (low < 0 && high > 0) line(g, LEFT, yOf(0), width - RIGHT, yOf(0), colour("line"), []);
        g.strokeStyle = colour(k ? "dog" : "dff");
        g.lineWidth = 1.2;
        g.lineJoin = "round";
        g.beginPath();
        let on = false;
        const margin = (view[1] - view[0]) * 0.02;
        for (let i = 0; i < values.length; i++) {
          if (times[i] < view[0] - margin || times[i] > view[1] + margin) continue;
          if (Number.isNaN(values[i])) { on = false; continue; }
          const x = xOf(times[i], width), y = yOf(values[i]);
          if (on) g.lineTo(x, y); else g.moveTo(x, y);
          on = true;
        }
        g.stroke();
        if (k === 1 && entry.threshold !== null) {
          line(g, LEFT, yOf(entry.threshold), width - RIGHT, yOf(entry.threshold), colour("ink"), [5, 4]);
          g.fillStyle = colour("ink");
          g.textAlign = "right";
          g.fillText(`threshold ${short(Number(entry.threshold.toPrecision(3)))}`, width - RIGHT - 6, yOf(entry.threshold) - 5);
        }
      }
      g.restore();
      g.strokeStyle = colour("line");
      g.lineWidth = 1;
      g.strokeRect(LEFT + 0.5, top + 0.5, inner - 1, panelHeight - 1);
      g.fillStyle = colour("soft");
      g.textAlign = "right";
      if (scale) for (const v of ticks(scale[0], scale[1], 4)) g.fillText(short(v), LEFT - 6, scale[2](v) + 4);
      g.save();
      g.fillStyle = colour("ink");
      g.textAlign = "center";
      if (k < 2) { g.translate(13, top + panelHeight / 2); g.rotate(-Math.PI / 2); g.fillText(title, 0, 0); }
      else { g.textAlign = "right"; g.fillText(title, LEFT - 6, top + panelHeight / 2 + 4); }
      g.restore();
      top += panelHeight + GAP;
    });
    top -= GAP;
    // One time axis for all: seconds, or minutes where much time is in view.
    const unit = view[1] - view[0] > 600 ? 60 : 1;
    g.textAlign = "center";
    for (const t of ticks(view[0] / unit, view[1] / unit, Math.max(3, Math.floor(inner / 90)))) {
      const x = xOf(t * unit, width);
      line(g, x, top, x, top + 4, colour("soft"), []);
      g.fillStyle = colour("soft");
      g.fillText(short(t), x, top + 17);
    }
    g.fillStyle = colour("ink");
    g.fillText(unit === 60 ? "time / min" : "time / s", LEFT + inner / 2, top + 35);
    if (drag) {
      g.fillStyle = colour("shade");
      g.fillRect(Math.min(drag[0], drag[1]), TOP, Math.abs(drag[1] - drag[0]), top - TOP);
    } else if (pointer !== null && pointer > LEFT && pointer < width - RIGHT) {
      line(g, pointer, TOP, pointer, top, colour("soft"), [2, 3]);
      g.fillStyle = colour("ink");
      g.textAlign = pointer > width / 2 ? "right" : "left";
      g.fillText(`${tOf(pointer, width).toFixed(2)} s`, pointer + (pointer > width / 2 ? -5 : 5), top + 35);
    }
  };
  const line = (g, x0, y0, x1, y1, colour, dash) => {
    g.strokeStyle = colour;
    g.lineWidth = 1;
    g.setLineDash(dash);
    g.beginPath();
    g.moveTo(x0, y0);
    g.lineTo(x1, y1);
    g.stroke();
    g.setLineDash([]);
  };

  canvas.addEventListener("pointerdown", (e) => { drag = [e.offsetX, e.offsetX]; canvas.setPointerCapture(e.pointerId); });
  canvas.addEventListener("pointermove", (e) => { pointer = e.offsetX; if (drag) drag[1] = e.offsetX; draw(); });
  canvas.addEventListener("pointerleave", () => { pointer = null; draw(); });
  canvas.addEventListener("pointercancel", () => { drag = null; draw(); });
  canvas.addEventListener("pointerup", () => {
    if (drag && Math.abs(drag[1] - drag[0]) > 6) {
      const [a, b] = drag.map((x) => tOf(x, canvas.clientWidth)).sort((p, q) => p - q);
      view = [Math.max(a, 0), Math.min(b, data.end)];
    }
    drag = null;
    draw();
  });
  const whole = () => { view = [0, data.end]; draw(); };
  canvas.addEventListener("dblclick", whole);
  byId("whole").addEventListener("click", whole);
  byId("previous").addEventListener("click", () => choose(now - 1));
  byId("next").addEventListener("click", () => choose(now + 1));
  chooser.addEventListener("change", () => choose(Number(chooser.value)));
  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(e.target.tagName)) return;
    if (e.key === "ArrowLeft") { e.preventDefault(); choose(now - 1); }
    if (e.key === "ArrowRight") { e.preventDefault(); choose(now + 1); }
  });
  window.addEventListener("resize", draw);
  window.addEventListener("beforeprint", draw);
  window.addEventListener("afterprint", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  choose(0);
})();
