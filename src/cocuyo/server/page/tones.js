// From numbers to colours.

/** A grey for each of 65536 numbers, between black and white. */
export function greys(black, white) {
  const table = new Uint32Array(65536);
  const span = Math.max(white - black, 1e-9);
  for (let i = 0; i < 65536; i += 1) {
    const level = Math.max(0, Math.min(255, Math.round(255 * (i - black) / span)));
    table[i] = (255 << 24) | (level << 16) | (level << 8) | level;
  }
  return table;
}

// Five stops from blue over green to yellow, told apart by people who do not see red and green.
const RAMP = [[78, 92, 190], [43, 140, 190], [53, 178, 146], [158, 208, 74], [253, 231, 37]];

/** Colour of a score from 0 to 1; grey where there is none. */
export function scoreColour(score) {
  if (score === null) return "#b8bcc2";
  const place = Math.max(0, Math.min(1, score)) * (RAMP.length - 1);
  const low = Math.min(Math.floor(place), RAMP.length - 2);
  const part = place - low;
  const mixed = RAMP[low].map((value, i) => Math.round(value + part * (RAMP[low + 1][i] - value)));
  return `rgb(${mixed.join(",")})`;
}

export const STATE_COLOURS = { accepted: "#c3f03a", rejected: "#ff8a84", edited: "#6fd3ff" };

/** Float values as numbers from 0 to 65535, with what turns them back. */
export function quantise(values) {
  let least = Infinity;
  let most = -Infinity;
  for (const value of values) {
    if (value < least) least = value;
    if (value > most) most = value;
  }
  if (!(most > least)) most = least + 1;
  const step = (most - least) / 65535;
  const numbers = new Uint16Array(values.length);
  for (let i = 0; i < values.length; i += 1) numbers[i] = Math.round((values[i] - least) / step);
  return { numbers, offset: least, step };
}
