import { describe, expect, it } from "vitest";
import { EMPTY, readState, writeState, type QueryState } from "./state";

const HOUR = 3_600_000;

describe("the page's address", () => {
  it("comes back as it was written", () => {
    const states: QueryState[] = [
      { ...EMPTY, expr: "up" },
      { ...EMPTY, expr: "a{b=\"&g0.tab=1\"} + 😀\n# %", tab: "graph", rangeMs: 90 * 60_000, endMs: 1_795_560_181_000 },
      { ...EMPTY, expr: "up", tab: "explain", stepMs: 15_000 },
    ];
    for (const state of states) expect(readState(writeState(state))).toEqual(state);
    expect(writeState(EMPTY)).toBe("");
  });

  it("is understood as Prometheus writes it", () => {
    const alert = readState("?g0.expr=up+%3D%3D+0&g0.tab=1");
    expect(alert).toEqual({ ...EMPTY, expr: "up == 0" });
    const two = readState("?g0.expr=up&g0.tab=0&g0.range_input=6h&g0.end_input=2026-11-24%2022%3A40%3A05&g0.step_input=30");
    expect(two).toEqual({ expr: "up", tab: "graph", rangeMs: 6 * HOUR, endMs: Date.UTC(2026, 10, 24, 22, 40, 5), stepMs: 30_000, others: 0 });
    const three = readState("?g0.expr=up&g0.tab=graph&g0.res_type=auto&g0.res_density=medium&g0.range_input=1w&g1.expr=a&g12.expr=b&g1.tab=0");
    expect(three).toMatchObject({ rangeMs: 7 * 24 * HOUR, stepMs: null, others: 2 });
    expect(readState("?g0.expr=x&g0.moment_input=2026-11-24 22:40")).toMatchObject({ endMs: Date.UTC(2026, 10, 24, 22, 40) });
  });

  it("has defaults for what cannot be read", () => {
    expect(readState("?g0.expr=x&g0.tab=7&g0.range_input=-1h&g0.end_input=tomorrow&g0.res_step=0")).toEqual({ ...EMPTY, expr: "x" });
  });
});
