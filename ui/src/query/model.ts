// What the page holds and does. Components read its signals and call its functions; nothing else talks to the server.

import { batch, signal } from "@preact/signals";
import { get, isAbort, post, Refused, Unreachable, type Answer } from "../api/client";
import type { Language, MatrixSeries, QueryResult, Stats, VectorSeries } from "../api/types";
import type { Problem } from "../editor/setup";
import { NO_WORDS, vocabulary } from "../promql/words";
import { loadHistory, saveHistory, withQuery } from "./history";
import { courses, type Courses } from "./series";
import { readState, writeState, type QueryState } from "./state";
import { pointsFor, stepFor } from "./steps";

/** Rows of a table; more are neither fetched nor drawn. */
export const ROWS_MAX = 1000;
/** Lines of a graph. */
export const LINES_MAX = 200;

export interface Notes {
  warnings: string[];
  infos: string[];
  stats: Stats | null;
  tookSeconds: number;
  series: number;
}

export type Shown =
  | { kind: "nothing" }
  | { kind: "table"; result: QueryResult; truncated: boolean; notes: Notes }
  | { kind: "graph"; courses: Courses; stepMs: number; truncated: boolean; notes: Notes }
  | { kind: "explain"; expr: string; notes: Notes };

/** What is edited; what was run last stands in the address. */
export const text = signal("");
export const state = signal<QueryState>(readState(""));
export const words = signal(NO_WORDS);
export const running = signal(false);
export const shown = signal<Shown>({ kind: "nothing" });
export const failure = signal<{ message: string; unreachable: boolean } | null>(null);
/** What is wrong with the text in the editor. */
export const problem = signal<Problem | null>(null);
export const queries = signal<string[]>(loadHistory());
/** How wide the graph is, which decides how many steps it has. */
export const graphWidth = signal(900);

let current: AbortController | null = null;

export function problemOf(error: Refused): Problem {
  const word = /did you mean "([^"]+)"/.exec(error.hint ?? "")?.[1] ?? null;
  // The place is marked, and the parameter's name says nothing to somebody who sees an editor.
  const message = error.message.replace(/^invalid parameter "query": /, "");
  return { message, range: error.range, replacement: error.range ? word : null };
}

export async function loadWords(): Promise<void> {
  try {
    words.value = vocabulary((await get<Language>("api/v1/dashboard/promql", {})).data);
  } catch {
    // Colours and completion of words wait for the next run.
  }
}

/** Reads the address: at the start, and when the browser goes back or forth. */
export function readAddress(): void {
  batch(() => {
    state.value = readState(location.search);
    text.value = state.value.expr;
  });
  if (state.value.expr) void run({ keepAddress: true });
  else shown.value = { kind: "nothing" };
}

/** Changes how the result is looked at, and runs again what was run. */
export function change(part: Partial<QueryState>): void {
  state.value = { ...state.value, ...part };
  if (state.value.expr) void run({ expr: state.value.expr });
}

export function cancel(): void {
  current?.abort();
}

export async function run(options: { keepAddress?: boolean; expr?: string } = {}): Promise<void> {
  const expr = (options.expr ?? text.value).trim();
  if (!expr) return;
  current?.abort();
  const mine = new AbortController();
  current = mine;
  batch(() => {
    state.value = { ...state.value, expr, others: options.keepAddress ? state.value.others : 0 };
    running.value = true;
    failure.value = null;
    queries.value = withQuery(queries.value, expr);
  });
  saveHistory(queries.value);
  if (!options.keepAddress && writeState(state.value) !== location.search) {
    window.history.pushState(null, "", writeState(state.value));
  }
  if (!words.value.functions.size) void loadWords();
  try {
    const found = await ask(state.value, mine.signal);
    batch(() => {
      shown.value = found;
      problem.value = null;
    });
  } catch (error) {
    if (isAbort(error)) return;
    batch(() => {
      shown.value = { kind: "nothing" };
      if (error instanceof Refused && error.range) problem.value = problemOf(error);
      failure.value = {
        message: error instanceof Refused ? problemOf(error).message : error instanceof Error ? error.message : String(error),
        unreachable: error instanceof Unreachable,
      };
    });
  } finally {
    if (current === mine) running.value = false;
  }
}

async function ask(wanted: QueryState, signal: AbortSignal): Promise<Shown> {
  const endMs = wanted.endMs ?? Date.now();
  const begun = performance.now();
  const notes = (answer: Answer<QueryResult>, series: number): Notes => ({
    warnings: answer.warnings.filter((w) => w !== "results truncated due to limit"),
    infos: answer.infos,
    stats: answer.data.stats ?? null,
    tookSeconds: (performance.now() - begun) / 1000,
    series,
  });
  const count = (data: QueryResult) => (data.resultType === "vector" || data.resultType === "matrix" ? data.result.length : 1);
  const call = (path: string, params: Record<string, string>) =>
    post<QueryResult>(path, { query: wanted.expr, stats: "true", ...params }, signal);
  if (wanted.tab === "graph") {
    const stepMs = wanted.stepMs ?? stepFor(wanted.rangeMs, pointsFor(graphWidth.value));
    const startMs = endMs - wanted.rangeMs;
    // One more than is drawn tells whether there are more.
    const answer = await call("api/v1/query_range", {
      start: String(startMs / 1000), end: String(endMs / 1000), step: String(stepMs / 1000), limit: String(LINES_MAX + 1),
    });
    const matrix = answer.data.result as MatrixSeries[];
    return {
      kind: "graph",
      courses: courses(matrix.slice(0, LINES_MAX), startMs, endMs, stepMs),
      stepMs,
      truncated: matrix.length > LINES_MAX,
      notes: notes(answer, Math.min(matrix.length, LINES_MAX)),
    };
  }
  const time = { time: String(endMs / 1000) };
  if (wanted.tab === "explain") {
    const answer = await call("api/v1/query", { ...time, explain: "true", limit: "1" });
    return { kind: "explain", expr: wanted.expr, notes: notes(answer, answer.data.stats?.plan?.[0]?.series ?? count(answer.data)) };
  }
  const answer = await call("api/v1/query", { ...time, limit: String(ROWS_MAX + 1) });
  const total = count(answer.data);
  if (total > ROWS_MAX) answer.data.result = (answer.data.result as VectorSeries[]).slice(0, ROWS_MAX) as never;
  return { kind: "table", result: answer.data, truncated: total > ROWS_MAX, notes: notes(answer, Math.min(total, ROWS_MAX)) };
}

/** Lays the expression out as `streamgate promql format` does. */
export async function format(): Promise<void> {
  if (!text.value.trim()) return;
  try {
    text.value = (await post<string>("api/v1/format_query", { query: text.value })).data;
    failure.value = null;
  } catch (error) {
    if (error instanceof Refused) problem.value = problemOf(error);
    else failure.value = { message: error instanceof Error ? error.message : String(error), unreachable: error instanceof Unreachable };
  }
}
