// Small helpers for the page: elements, numbers for people, messages.

export const $ = (id) => document.getElementById(id);

/** Make an element: el("button", { type: "button", class: "good", onclick }, "Accept"). */
export function el(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A number in three digits, as short as it can be said; with so many decimals if they are said. */
export function short(value, decimals = null) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (decimals !== null) return value.toFixed(decimals);
  const size = Math.abs(value);
  if (size >= 10000) return value.toLocaleString("en", { maximumFractionDigits: 0 }).replaceAll(",", " ");
  if (size >= 100) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  if (size >= 0.01 || size === 0) return value.toFixed(2);
  return value.toPrecision(2);
}

/** Seconds as m:ss or as seconds with a decimal. */
export function clock(seconds) {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(1).padStart(4, "0")} min`;
}

export function bytes(n) {
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (n >= size) return `${(n / size).toFixed(1)} ${unit}`;
  }
  return `${n} bytes`;
}

/** Say something at the lower edge; it goes by itself, errors stay longer. */
export function say(text, { bad = false } = {}) {
  const toast = el("div", { class: bad ? "toast bad" : "toast" }, text);
  const place = $("toasts");
  place.append(toast);
  while (place.children.length > 3) place.firstChild.remove();
  setTimeout(() => toast.remove(), bad ? 9000 : Math.max(2600, 90 * text.length)); // time to read a path
}

export const complain = (error) => {
  if (error.name !== "AbortError") say(error.message, { bad: true });
};

/** A canvas of as many device pixels as it covers; calls back whenever its size changes. */
export function fitCanvas(canvas, changed) {
  const fit = () => {
    const box = canvas.getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    const width = Math.max(1, Math.round(box.width * ratio));
    const height = Math.max(1, Math.round(box.height * ratio));
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
    }
    changed();
  };
  new ResizeObserver(fit).observe(canvas);
  fit();
}

/** A colour of the theme, as it is now. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Call a function at most once a frame. */
export function atFrame(work) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; work(); });
  };
}
