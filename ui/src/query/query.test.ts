import { describe, expect, it } from "vitest";
import { ENTRIES_MAX, LENGTH_MAX, parseHistory, withQuery } from "./history";
import { colour, courses, parseValue } from "./series";
import { nextRange, pointsFor, RANGES_MS, stepFor } from "./steps";

describe("steps", () => {
  it("keep a graph within its points", () => {
    for (const range of [1000, 60_000, ...RANGES_MS, 20 * 365 * 86_400_000]) {
      for (const points of [100, 250, 400]) {
        const step = stepFor(range, points);
        expect(range / step).toBeLessThanOrEqual(points);
        expect(Number.isInteger(step)).toBe(true);
      }
    }
    expect(stepFor(3_600_000, 250)).toBe(15_000);
    expect([pointsFor(0), pointsFor(900), pointsFor(5000)]).toEqual([100, 300, 400]);
  });

  it("walk through the ranges", () => {
    expect(nextRange(3_600_000, true)).toBe(7_200_000);
    expect(nextRange(3_600_001, false)).toBe(3_600_000);
    expect(nextRange(1000, false)).toBe(1000);
  });
});

describe("courses", () => {
  it("stand on the steps, with gaps", () => {
    const found = courses(
      [
        { metric: { a: "1" }, values: [[1, "5"], [3.0004, "NaN"], [4, "-1e3"]] },
        { metric: { a: "2" }, histograms: [[1, { count: "1", sum: "2" }]] },
        { metric: { a: "3" }, values: [[0, "1"], [99, "2"]] },
      ],
      1000, 4000, 1000,
    );
    expect(found.times).toEqual([1, 2, 3, 4]);
    expect(found.courses.map((c) => c.values)).toEqual([[5, null, null, -1000], [null, null, null, null]]);
    expect(found.histograms).toBe(1);
    expect(["+Inf", "-Inf", "1e-3"].map(parseValue)).toEqual([Infinity, -Infinity, 0.001]);
  });

  it("have colours of their own", () => {
    expect(new Set(Array.from({ length: 50 }, (_, i) => colour(i, false))).size).toBe(50);
  });
});

describe("history", () => {
  it("is bounded, newest first, each once", () => {
    let entries: string[] = [];
    for (let i = 0; i < ENTRIES_MAX + 10; i++) entries = withQuery(entries, `x${i}`);
    entries = withQuery(entries, ` x${ENTRIES_MAX} `);
    expect(entries.slice(0, 2)).toEqual([`x${ENTRIES_MAX}`, `x${ENTRIES_MAX + 9}`]);
    expect(entries.length).toBe(ENTRIES_MAX);
    expect(withQuery(entries, "x".repeat(LENGTH_MAX + 1))).toBe(entries);
    expect(withQuery(entries, "  ")).toBe(entries);
  });

  it("survives whatever stands in the storage", () => {
    expect(parseHistory(JSON.stringify(["a", 1, null, "b"]))).toEqual(["a", "b"]);
    for (const wrong of ["", "{", "{}", "null", "1"]) expect(parseHistory(wrong)).toEqual([]);
  });
});
