"use strict";
{
  const table = document.getElementById("index");
  const heads = [...table.tHead.rows[0].cells];
  // Each result is a body: a recording, or an experiment with its recordings below.
  const results = [...table.tBodies];
  const valueOf = (result, column) => {
    const cell = result.rows[0].cells[column];
    return cell.dataset.v === undefined ? cell.textContent : cell.dataset.v;
  };
  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const numeric = head.classList.contains("n") || column === heads.length - 1;
      const before = head.getAttribute("aria-sort");
      // Numbers are looked for at their largest first, names at their beginning.
      const up = before ? before !== "ascending" : !numeric;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      results.sort((a, b) => {
        const [u, v] = [valueOf(a, column), valueOf(b, column)];
        if (u === "" || v === "") return (u === "") - (v === ""); // what is unknown stays last
        const order = numeric ? Number(u) - Number(v) : collator.compare(u, v);
        return up ? order : -order;
      });
      table.append(...results);
    });
  });

  const find = document.getElementById("find");
  const group = document.getElementById("group");
  const state = document.getElementById("state");
  const count = document.getElementById("count");
  const show = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let [n, all] = [0, 0];
    for (const result of results) {
      const text = result.textContent.toLowerCase();
      const states = result.rows[0].dataset.state;
      const recordings = Math.max(1, result.rows.length - 1);
      const fits = words.every((word) => text.includes(word))
        && (!group || !group.value || [...result.rows].some((row) => row.dataset.group === group.value))
        && (!state.value || states === state.value || states.startsWith(state.value + " ")
          || (state.value === "warned" && states.endsWith(" warned")));
      result.hidden = !fits;
      all += recordings;
      n += fits ? recordings : 0;
    }
    count.textContent = n === all ? `${n} recordings` : `${n} of ${all} recordings`;
  };
  for (const field of [find, group, state]) if (field) field.addEventListener("input", show);
  show();
}
