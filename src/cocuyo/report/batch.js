"use strict";
{
  const table = document.getElementById("index");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...body.rows];
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.v === undefined ? cell.textContent : cell.dataset.v;
  };
  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const numeric = rows[0] && (rows[0].cells[column].classList.contains("n") || column === heads.length - 1);
      const before = head.getAttribute("aria-sort");
      // Numbers are looked for at their largest first, names at their beginning.
      const up = before ? before !== "ascending" : !numeric;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      rows.sort((a, b) => {
        const [u, v] = [valueOf(a, column), valueOf(b, column)];
        if (u === "" || v === "") return (u === "") - (v === ""); // what is unknown stays last
        const order = numeric ? Number(u) - Number(v) : collator.compare(u, v);
        return up ? order : -order;
      });
      body.append(...rows);
    });
  });

  const find = document.getElementById("find");
  const group = document.getElementById("group");
  const state = document.getElementById("state");
  const count = document.getElementById("count");
  const show = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let n = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const states = row.dataset.state;
      const fits = words.every((word) => text.includes(word))
        && (!group || !group.value || row.dataset.group === group.value)
        && (!state.value || states === state.value || states.startsWith(state.value + " ")
          || (state.value === "warned" && states.endsWith(" warned")));
      row.hidden = !fits;
      n += fits;
    }
    count.textContent = n === rows.length ? `${n} recordings` : `${n} of ${rows.length} recordings`;
  };
  for (const field of [find, group, state]) if (field) field.addEventListener("input", show);
  show();
}
