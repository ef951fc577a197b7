// Which page it is: a result, or the start.

import { get } from "./api.js";
import { curate } from "./curate.js";
import { $, complain } from "./dom.js";
import { start } from "./start.js";

const THEMES = ["", "light", "dark"];

function wireTheme() {
  const root = document.documentElement;
  const apply = (theme) => {
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
    $("theme").title = `Colours: ${theme || "as the system"}`;
    document.dispatchEvent(new Event("themechange"));
  };
  apply(localStorage.getItem("cocuyo-theme") ?? "");
  $("theme").addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(root.dataset.theme ?? "") + 1) % THEMES.length];
    localStorage.setItem("cocuyo-theme", next);
    apply(next);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("themechange")));
}

async function main() {
  wireTheme();
  const context = await get("api/start");
  const key = new URLSearchParams(location.search).get("result") ?? context.result;
  if (context.result) $("home").removeAttribute("href");
  if (key) await curate(key);
  else await start(context);
}

main().catch((error) => {
  complain(error);
  if (!(error.status >= 0)) throw error;
});
