// Ranges and steps of graphs.

const S = 1000;
const M = 60 * S;
const H = 60 * M;
const D = 24 * H;

/** The ranges that the buttons walk through. */
export const RANGES_MS = [5 * M, 15 * M, 30 * M, H, 2 * H, 6 * H, 12 * H, D, 2 * D, 7 * D, 14 * D, 28 * D, 56 * D, 365 * D];

/** Steps that people can name, so that graphs of about the same range have the same one. */
const STEPS_MS = [
  S, 2 * S, 5 * S, 10 * S, 15 * S, 20 * S, 30 * S,
  M, 2 * M, 3 * M, 5 * M, 10 * M, 15 * M, 20 * M, 30 * M,
  H, 2 * H, 3 * H, 6 * H, 12 * H, D, 2 * D, 7 * D,
];

/** The smallest step of ours with which a range has at most so many points. */
export function stepFor(rangeMs: number, pointsMax: number): number {
  const least = rangeMs / pointsMax;
  return STEPS_MS.find((step) => step >= least) ?? Math.ceil(least / D) * D;
}

/** How many points a graph of so many pixels can show: one for every third, and not so many that it gets slow. */
export function pointsFor(width: number): number {
  return Math.min(400, Math.max(100, Math.floor(width / 3)));
}

/** The next longer or shorter range. */
export function nextRange(rangeMs: number, longer: boolean): number {
  const found = longer ? RANGES_MS.find((r) => r > rangeMs) : RANGES_MS.findLast((r) => r < rangeMs);
  return found ?? rangeMs;
}
