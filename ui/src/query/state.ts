// What the page shows, as its address: shareable, and with Prometheus's names, so that links of rules, of Grafana and
// of people's runbooks work.

import { formatDuration, formatUtc, parseDuration, parseUtc } from "../lib/format";

export type Tab = "table" | "graph" | "explain";

export interface QueryState {
  expr: string;
  tab: Tab;
  /** How far the graph reaches back. */
  rangeMs: number;
  /** The time of the table and the end of the graph; null is now. */
  endMs: number | null;
  /** The graph's step; null leaves the choice to the page. */
  stepMs: number | null;
  /** How many more queries the address names. */
  others: number;
}

export const DEFAULT_RANGE_MS = 3_600_000;

export const EMPTY: QueryState = {
  expr: "",
  tab: "table",
  rangeMs: DEFAULT_RANGE_MS,
  endMs: null,
  stepMs: null,
  others: 0,
};

/** Numbers are how Prometheus 2 called them. */
const TABS: Record<string, Tab> = { "0": "graph", "1": "table", graph: "graph", table: "table", explain: "explain" };

/** Reads the part of an address from `?` on. What cannot be read has its default. */
export function readState(search: string): QueryState {
  const params = new URLSearchParams(search);
  const get = (name: string) => params.get(`g0.${name}`) ?? "";
  const step = get("res_step") || get("step_input");
  return {
    expr: get("expr"),
    tab: TABS[get("tab")] ?? EMPTY.tab,
    rangeMs: parseDuration(get("range_input")) ?? EMPTY.rangeMs,
    endMs: parseUtc(get("end_input")) ?? parseUtc(get("moment_input")),
    stepMs: get("res_type") === "auto" ? null : parseDuration(step),
    others: new Set([...params.keys()].map((key) => /^g([1-9]\d*)\.expr$/.exec(key)?.[1]).filter(Boolean)).size,
  };
}

/** What [readState] reads, from `?` on; empty for a page without an expression. */
export function writeState(state: QueryState): string {
  if (!state.expr) return "";
  const params = new URLSearchParams();
  const set = (name: string, value: string) => params.set(`g0.${name}`, value);
  set("expr", state.expr);
  set("tab", state.tab);
  set("range_input", formatDuration(state.rangeMs));
  if (state.endMs !== null) set("end_input", formatUtc(state.endMs));
  if (state.stepMs !== null) {
    set("res_type", "fixed");
    set("res_step", formatDuration(state.stepMs));
  }
  return `?${params}`;
}
