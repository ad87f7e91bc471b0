import { describe, expect, it } from "vitest";
import { open, Refused } from "../api/client";
import { unitOf, unitsOf } from "./bytes";
import {
  formatBytes, formatDuration, formatReadout, formatSeries, formatShort, formatTook, formatUtc, fromLocalInput, parseDuration,
  parseUtc, toLocalInput,
} from "./format";

describe("durations", () => {
  it("are read and written as in the language", () => {
    for (const text of ["1ms", "5s", "1m30s", "1h", "1d", "1w", "2w", "8d", "1y", "1h30m", "1d1ms"]) {
      expect(formatDuration(parseDuration(text) ?? 0)).toBe(text);
    }
    expect(parseDuration("15")).toBe(15_000);
    expect(parseDuration("0.25")).toBe(250);
    for (const wrong of ["", "0", "0s", "-5m", "5", "m5", "5m1h", "1e3", "5 m"].filter((t) => t !== "5")) {
      expect(parseDuration(wrong)).toBeNull();
    }
    expect([formatTook(0.000_05), formatTook(0.0123), formatTook(2.5)]).toEqual(["50 µs", "12.3 ms", "2.50 s"]);
  });
});

describe("numbers", () => {
  it("are short on an axis", () => {
    const cases: [number, string][] = [
      [0, "0"], [1, "1"], [0.25, "0.25"], [-1500, "-1.5k"], [123_456, "123.46k"], [2e6, "2M"], [3.5e12, "3.5T"], [1e18, "1e18"],
      [0.00001, "1e-5"], [Infinity, "+Inf"], [-Infinity, "-Inf"], [NaN, "NaN"],
    ];
    for (const [value, text] of cases) expect(formatShort(value)).toBe(text);
    expect([formatReadout(1 / 3), formatReadout(123_456_789), formatReadout(NaN)]).toEqual(["0.333333", "123457000", "NaN"]);
    expect([formatBytes(512), formatBytes(1536), formatBytes(5 * 2 ** 30)]).toEqual(["512 B", "1.5 KiB", "5.0 GiB"]);
  });
});

describe("times", () => {
  it("are UTC in addresses and local in fields", () => {
    const at = Date.UTC(2026, 10, 24, 22, 40, 5);
    expect(formatUtc(at)).toBe("2026-11-24 22:40:05");
    expect(parseUtc(formatUtc(at))).toBe(at);
    expect(parseUtc("2026-11-24T23:40:05+01:00")).toBe(at);
    expect(parseUtc(String(at / 1000))).toBe(at);
    for (const wrong of ["", "now", "2026-11-24", "2026-13-24 00:00:00"]) expect(parseUtc(wrong)).toBeNull();
    expect(fromLocalInput(toLocalInput(at))).toBe(at);
    expect(fromLocalInput("")).toBeNull();
  });
});

describe("series", () => {
  it("are written as selectors", () => {
    expect(formatSeries({ __name__: "up", job: "a" })).toBe('up{job="a"}');
    expect(formatSeries({ __name__: "up" })).toBe("up");
    expect(formatSeries({})).toBe("{}");
    expect(formatSeries({ __name__: "a.b", "c.d": "e\"\\\n" })).toBe('{"a.b", "c.d"="e\\"\\\\\\n"}');
  });
});

describe("places of errors", () => {
  it("are bytes of UTF-8", () => {
    const text = "aé😀b";
    expect([0, 1, 3, 7, 8, 99].map((b) => unitOf(text, b))).toEqual([0, 1, 2, 4, 5, 5]);
    expect(unitsOf("abc", { start: 1, end: 2 })).toEqual({ from: 1, to: 2 });
    expect(unitsOf("abc", { start: 3, end: 3 })).toEqual({ from: 2, to: 3 });
    expect(unitsOf("abc", { start: 1, end: 1 })).toEqual({ from: 1, to: 2 });
    expect(unitsOf("", { start: 0, end: 0 })).toEqual({ from: 0, to: 0 });
  });
});

describe("answers", () => {
  const refusal = (status: number, text: string) => {
    try {
      open(status, text);
    } catch (error) {
      if (error instanceof Refused) return error;
    }
    throw new Error("it was taken");
  };
  it("are opened or say why not", () => {
    expect(open(200, '{"status":"success","data":[1],"warnings":["w"]}')).toEqual({ data: [1], warnings: ["w"], infos: [] });
    const wrong = refusal(400, '{"status":"error","errorType":"bad_data","error":"no","range":{"start":0,"end":3},"hint":"h"}');
    expect([wrong.message, wrong.errorType, wrong.range, wrong.hint]).toEqual(["no", "bad_data", { start: 0, end: 3 }, "h"]);
    expect(refusal(502, "<html>").message).toContain("502");
    expect(refusal(200, "null").message).toContain("200");
  });
});
