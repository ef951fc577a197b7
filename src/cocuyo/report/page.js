(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
  for (const group of [data.traces, data.counts]) {
    group.times = new Float32Array(bytes(group.times));
    group.codes = new Uint16Array(bytes(group.codes));
  }
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

  byId("suspects")?.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    event.target.click();
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

  // The pointer over an outline, a number or a row: that cell on the map, near by, and its trace.
  const base = document.querySelector("use.base");
  const svg = (tag, attributes, parent) => {
    const made = document.createElementNS(base.namespaceURI, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return parent ? parent.appendChild(made) : made;
  };
  const peek = document.createElement("aside");
  peek.id = "peek";
  peek.hidden = true;
  peek.setAttribute("aria-hidden", "true"); // what it says is in the plot and the table
  let hovered = null;
  const fillPeek = (roi) => {
    const index = place.get(roi), outline = document.querySelector(`svg.field path[data-roi="${roi}"]`);
    const entry = index === undefined ? null : data.rois[index];
    const heading = document.createElement("p"), name = document.createElement("b");
    name.textContent = entry ? entry.name : outline?.textContent ?? "";
    heading.append(name, entry ? ` · ${entry.about}` : " · its trace is not in the page; see result.h5");
    peek.replaceChildren(heading);
    peek.hidden = false; // an outline has no box before it is drawn
    if (base && outline) {
      const field = base.closest("svg").getAttribute("viewBox"), pictures = document.createElement("div");
      peek.append(pictures);
      const drawn = [0, 1].map(() => {
        const picture = svg("svg", { viewBox: field }, pictures);
        svg("use", { href: base.getAttribute("href") }, picture);
        svg("path", { class: outline.classList.contains("yes") ? "roi yes" : "roi no", d: outline.getAttribute("d") }, picture);
        return picture;
      });
      const box = drawn[0].lastChild.getBBox(), [, , columns, rows] = field.split(" ").map(Number);
      const x = box.x + box.width / 2, y = box.y + box.height / 2, side = 4 * Math.max(box.width, box.height);
      svg("circle", { class: "ring", cx: x, cy: y, r: Math.max(0.8 * Math.hypot(box.width, box.height), Math.max(rows, columns) / 18) }, drawn[0]);
      drawn[1].setAttribute("viewBox", `${x - side / 2} ${y - side / 2} ${side} ${side}`);
    }
    if (entry) {
      const small = document.createElement("canvas");
      peek.append(small);
      drawSmall(small, index);
    }
  };
  const movePeek = (event) => {
    const { width, height } = peek.getBoundingClientRect(), gap = 18;
    const right = event.clientX + gap + width < innerWidth, below = event.clientY + gap + height < innerHeight;
    const x = right ? event.clientX + gap : event.clientX - gap - width;
    const y = below ? event.clientY + gap : event.clientY - gap - height;
    peek.style.transform = `translate(${Math.max(x, 4)}px, ${Math.max(y, 4)}px)`;
  };
  const leave = () => {
    document.querySelectorAll(".hovered").forEach((e) => e.classList.remove("hovered"));
    peek.hidden = true;
    hovered = null;
  };
  const hover = (event) => {
    if (event.pointerType !== "mouse") return; // a finger's tap chooses
    const target = event.target.closest && event.target.closest("[data-roi]");
    if (!target) { if (hovered !== null) leave(); return; }
    const roi = Number(target.dataset.roi);
    if (roi !== hovered) {
      leave();
      hovered = roi;
      document.querySelectorAll(`[data-roi="${roi}"]`).forEach((e) => e.classList.add("hovered"));
      fillPeek(roi);
    }
    movePeek(event);
  };
  const drawSmall = (small, index) => {
    const width = 308, height = 84, ratio = Math.max(window.devicePixelRatio || 1, 2), bottom = 68;
    small.width = width * ratio;
    small.height = height * ratio;
    const g = small.getContext("2d"), entry = data.rois[index], { times } = data.traces;
    g.scale(ratio, ratio);
    const values = signal(data.traces, index, 0);
    let low = Infinity, high = -Infinity;
    for (const value of values) { if (value < low) low = value; if (value > high) high = value; }
    if (!(low < high)) { low = (low || 0) - 0.5; high = low + 1; }
    const x = (t) => t / data.end * width, y = (v) => 4 + (high - v) / (high - low) * (bottom - 8);
    g.fillStyle = colour("shade");
    for (const [from, to] of entry.runs) g.fillRect(x(from), 0, Math.max(x(to) - x(from), 1), bottom);
    g.strokeStyle = colour("dff");
    g.lineWidth = 1;
    g.beginPath();
    let on = false;
    values.forEach((value, i) => {
      if (Number.isNaN(value)) { on = false; return; }
      if (on) g.lineTo(x(times[i]), y(value)); else g.moveTo(x(times[i]), y(value));
      on = true;
    });
    g.stroke();
    g.fillStyle = colour("soft");
    g.font = "11px system-ui, sans-serif";
    g.fillText(`ΔF/F₀ ${short(Number(low.toPrecision(2)))} to ${short(Number(high.toPrecision(2)))}`, 0, height - 3);
    g.textAlign = "right";
    g.fillText(data.end > 600 ? `${short(Number((data.end / 60).toPrecision(3)))} min` : `${short(Number(data.end.toPrecision(3)))} s`, width, height - 3);
  };
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  const signal = (group, index, which) => {
    const n = group.nPoints, out = new Float64Array(n);
    const [low, high] = group.ranges[index].slice(2 * which, 2 * which + 2);
    const start = (2 * index + which) * n;
    for (let i = 0; i < n; i++) {
      const code = group.codes[start + i];
      out[i] = code === 65535 ? NaN : low + (high - low) * code / 65534;
    }
    return out;
  };
  const short = (value) => String(Number(value.toPrecision(6))).replace("-", "−");
  document.body.append(peek);
  document.addEventListener("pointermove", hover);
  document.documentElement.addEventListener("pointerleave", leave);
  window.addEventListener("scroll", leave, { passive: true });
  if (!canvas || !data.rois.length) return;

  // The trace of one ROI.
  data.rois.forEach((entry, i) => {
    const option = document.createElement("option");
    option.value = String(i);
    option.textContent = entry.accepted ? entry.name : entry.name + " (rejected)";
    chooser.append(option);
  });
  const sayDecimated = () => {
    const each = Math.max(data.traces.framesPerBin, countsBox.checked ? data.counts.framesPerBin : 1);
    byId("decimated").textContent = each === 1 ? ""
      : `Drawn from the smallest and largest value of every ${each.toFixed(1)} frames, so that no peak is lost.`;
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
  const LEFT = 62, RIGHT = 10, TOP = 8, GAP = 16;
  // Panels: title, height, group of signals, and of these which, in which colour.
  const trace = { title: "ΔF/F₀", height: 170, group: data.traces, lines: [[0, "dff"]] };
  const dog = { title: "DoG / noise", height: 130, group: data.traces, lines: [[1, "dog"]], threshold: true };
  const active = { title: "active", height: 30, lines: [] };
  const counts = { title: "counts", height: 150, group: data.counts, lines: [[1, "neuropil"], [0, "raw"]] };
  const countsBox = byId("show-counts"), flagsBox = byId("show-flags");
  const xOf = (t, width) => LEFT + (t - view[0]) / (view[1] - view[0]) * (width - LEFT - RIGHT);
  const tOf = (x, width) => view[0] + (x - LEFT) / (width - LEFT - RIGHT) * (view[1] - view[0]);

  const draw = () => {
    const entry = data.rois[now];
    const panels = countsBox.checked ? [trace, dog, active, counts] : [trace, dog, active];
    const width = canvas.clientWidth, ratio = Math.max(window.devicePixelRatio || 1, 2);
    const height = TOP + panels.reduce((sum, panel) => sum + panel.height + GAP, 0) - GAP + 44;
    canvas.style.aspectRatio = `${width} / ${height}`; // also on paper, where it is narrower
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const g = canvas.getContext("2d");
    g.scale(ratio, ratio);
    g.font = "12px system-ui, sans-serif";
    g.clearRect(0, 0, width, height);
    const inner = width - LEFT - RIGHT;
    let top = TOP;
    const stretches = (runs, fill, inset, panelHeight) => {
      g.fillStyle = fill;
      for (const [from, to] of runs) {
        const x = xOf(from, width);
        g.fillRect(x, top + inset, Math.max(xOf(to, width) - x, 1), panelHeight - 2 * inset);
      }
    };
    for (const panel of panels) {
      const panelHeight = panel.height;
      g.fillStyle = colour("card");
      g.fillRect(LEFT, top, inner, panelHeight);
      g.save();
      g.beginPath();
      g.rect(LEFT, top, inner, panelHeight);
      g.clip();
      // Where it is active: shaded in all panels.
      if (panel === active) stretches(entry.runs, colour("active"), 4, panelHeight);
      else stretches(entry.runs, colour("shade"), 0, panelHeight);
      if (flagsBox?.checked) {
        stretches(data.unplaced, colour("unplaced"), 0, panelHeight);
        stretches(data.flash, colour("flash"), 0, panelHeight);
      }
      for (const border of data.borders) { // where a recording of an experiment begins
        const x = xOf(border, width);
        line(g, x, top, x, top + panelHeight, colour("ink"), [4, 3]);
      }
      let scale = null;
      if (panel.lines.length) {
        const { times } = panel.group, drawn = panel.lines.map(([which]) => signal(panel.group, now, which));
        let low = Infinity, high = -Infinity;
        for (const values of drawn) {
          for (let i = 0; i < values.length; i++) {
            if (times[i] < view[0] || times[i] > view[1]) continue;
            if (values[i] < low) low = values[i];
            if (values[i] > high) high = values[i];
          }
        }
        if (!(low <= high)) { low = 0; high = 1; }
        const threshold = panel.threshold ? entry.threshold : null;
        if (threshold !== null) high = Math.max(high, threshold * 1.15);
        const pad = (high - low) * 0.06 || 0.5;
        low -= pad; high += pad;
        const yOf = (v) => top + (high - v) / (high - low) * panelHeight;
        scale = [low, high, yOf];
        if (low < 0 && high > 0) line(g, LEFT, yOf(0), width - RIGHT, yOf(0), colour("line"), []);
        const margin = (view[1] - view[0]) * 0.02;
        panel.lines.forEach(([, name], k) => {
          const values = drawn[k];
          g.strokeStyle = colour(name);
          g.lineWidth = 1.2;
          g.lineJoin = "round";
          g.beginPath();
          let on = false;
          for (let i = 0; i < values.length; i++) {
            if (times[i] < view[0] - margin || times[i] > view[1] + margin) continue;
            if (Number.isNaN(values[i])) { on = false; continue; }
            const x = xOf(times[i], width), y = yOf(values[i]);
            if (on) g.lineTo(x, y); else g.moveTo(x, y);
            on = true;
          }
          g.stroke();
        });
        if (threshold !== null) {
          line(g, LEFT, yOf(threshold), width - RIGHT, yOf(threshold), colour("ink"), [5, 4]);
          g.fillStyle = colour("ink");
          g.textAlign = "right";
          g.fillText(`threshold ${short(Number(threshold.toPrecision(3)))}`, width - RIGHT - 6, yOf(threshold) - 5);
        }
        if (panel === counts) {
          g.textAlign = "left";
          let x = LEFT + 8;
          for (const name of ["raw", "neuropil"]) {
            g.fillStyle = colour(name);
            g.fillRect(x, top + 12, 14, 3);
            g.fillText(name, x + 19, top + 17);
            x += 30 + g.measureText(name).width + 8;
          }
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
      if (scale) { g.translate(13, top + panelHeight / 2); g.rotate(-Math.PI / 2); g.fillText(panel.title, 0, 0); }
      else { g.textAlign = "right"; g.fillText(panel.title, LEFT - 6, top + panelHeight / 2 + 4); }
      g.restore();
      top += panelHeight + GAP;
    }
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
  countsBox.addEventListener("change", () => { sayDecimated(); draw(); });
  flagsBox?.addEventListener("change", () => { byId("flag-keys").hidden = !flagsBox.checked; draw(); });
  window.addEventListener("resize", draw);
  // Paper is light, whatever the screen.
  const print = (printing) => { document.documentElement.classList.toggle("printing", printing); draw(); };
  window.addEventListener("beforeprint", () => print(true));
  window.addEventListener("afterprint", () => print(false));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  sayDecimated();
  choose(0);
})();
