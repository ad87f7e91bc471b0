// Answers of range queries as columns for a plot.

import type { LabelSet, MatrixSeries } from "../api/types";

export interface Course {
  labels: LabelSet;
  /** One for each step; null where there is no sample. */
  values: (number | null)[];
}

export interface Courses {
  /** Seconds since the epoch, one for each step. */
  times: number[];
  courses: Course[];
  /** Series that have native histograms, which a line cannot show. */
  histograms: number;
}

export function parseValue(text: string): number {
  if (text === "+Inf" || text === "Inf") return Infinity;
  if (text === "-Inf") return -Infinity;
  return Number(text);
}

/** Lays the series onto the steps from `startMs` to `endMs`. */
export function courses(matrix: MatrixSeries[], startMs: number, endMs: number, stepMs: number): Courses {
  const count = Math.floor((endMs - startMs) / stepMs) + 1;
  const times = Array.from({ length: count }, (_, i) => (startMs + i * stepMs) / 1000);
  const found: Course[] = [];
  let histograms = 0;
  for (const series of matrix) {
    if (series.histograms?.length) histograms++;
    if (!series.values?.length) continue;
    const values = new Array<number | null>(count).fill(null);
    for (const [time, text] of series.values) {
      const at = Math.round((time * 1000 - startMs) / stepMs);
      const value = parseValue(text);
      // A line has no place for NaN and infinities: they are gaps.
      if (at >= 0 && at < count && Number.isFinite(value)) values[at] = value;
    }
    found.push({ labels: series.metric, values });
  }
  return { times, courses: found, histograms };
}

/** The golden angle keeps the hues of neighbours apart, however many there are. */
export function colour(index: number, dark: boolean): string {
  const hue = (210 + index * 137.508) % 360;
  return `hsl(${hue.toFixed(0)} ${dark ? 75 : 70}% ${dark ? 66 : 38}%)`;
}
