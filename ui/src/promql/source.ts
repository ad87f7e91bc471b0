// What the server knows of metrics and labels, for completion: bounded answers, kept for a while.

import { get, isAbort, post, Refused, type Answer } from "../api/client";
import type { Metadata } from "../api/types";

/** More are not fetched at once; past it, what has been typed so far narrows the question. */
export const NAMES_MAX = 5000;
export const VALUES_MAX = 1000;
const KEPT_MAX = 100;
const KEPT_MS = 30_000;

export interface Listing {
  entries: string[];
  /** Whether the server has more than it gave. */
  truncated: boolean;
}

const kept = new Map<string, { at: number; answer: Promise<unknown> }>();

/** Asks once for what was asked a moment ago. */
function once<T>(key: string, ask: () => Promise<T>): Promise<T> {
  const found = kept.get(key);
  if (found && Date.now() - found.at < KEPT_MS) return found.answer as Promise<T>;
  const answer = ask();
  kept.delete(key);
  kept.set(key, { at: Date.now(), answer });
  for (const oldest of kept.keys()) {
    if (kept.size <= KEPT_MAX) break;
    kept.delete(oldest);
  }
  // A failure, and an answer that nobody waited for, is no answer for the next one.
  answer.catch(() => kept.delete(key));
  return answer;
}

function listing(answer: Answer<string[]>, limit: number): Listing {
  return { entries: answer.data, truncated: answer.data.length >= limit };
}

/** Asks with the selectors; if the server does not take them (all match the empty series, say), without. */
async function list(path: string, selectors: string[], limit: number, signal: AbortSignal): Promise<Listing> {
  return once(JSON.stringify([path, selectors, limit]), async () => {
    const params = { limit: String(limit) };
    try {
      return listing(await get<string[]>(path, { ...params, "match[]": selectors }, signal), limit);
    } catch (error) {
      if (isAbort(error) || !selectors.length || !(error instanceof Refused)) throw error;
      return listing(await get<string[]>(path, params, signal), limit);
    }
  });
}

/** A regular expression that finds the text as it stands. */
function literally(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}

/** A selector with one more matcher. */
export function narrowed(selector: string | undefined, label: string, fragment: string): string {
  const name = /^[a-zA-Z_][a-zA-Z0-9_]*$/.test(label) ? label : JSON.stringify(label);
  const matcher = `${name}=~${JSON.stringify(`(?i).*${literally(fragment)}.*`)}`;
  if (!selector) return `{${matcher}}`;
  return selector.endsWith("}") ? `${selector.slice(0, -1)},${matcher}}` : `${selector}{${matcher}}`;
}

/** The values of a label on the selected series; if they are too many, those that contain the fragment. */
export async function labelValues(
  label: string,
  selectors: string[],
  fragment: string,
  signal: AbortSignal,
): Promise<Listing> {
  const limit = label === "__name__" ? NAMES_MAX : VALUES_MAX;
  // Names that an address cannot hold as they are have an escaped form.
  const escaped = /^[a-zA-Z_][a-zA-Z0-9_]*$/.test(label)
    ? label
    : `U__${label.replace(/_/g, "__").replace(/[^a-zA-Z0-9_]/gu, (c) => `_${c.codePointAt(0)?.toString(16)}_`)}`;
  const path = `api/v1/label/${escaped}/values`;
  const all = await list(path, selectors, limit, signal);
  if (!all.truncated || !fragment) return all;
  const narrow = (selectors.length ? selectors : [undefined]).map((one) => narrowed(one, label, fragment));
  return { ...(await list(path, narrow, limit, signal)), truncated: true };
}

export const labelNames = (selectors: string[], signal: AbortSignal): Promise<Listing> =>
  list("api/v1/labels", selectors, VALUES_MAX, signal);

/** Type and help by the name of the metric's family. */
export const metadata = (): Promise<Map<string, Metadata>> =>
  once("metadata", async () => {
    const answer = await get<Record<string, Metadata[]>>("api/v1/metadata", { limit: String(NAMES_MAX) });
    return new Map(Object.entries(answer.data).flatMap(([name, [first]]) => (first ? [[name, first] as const] : [])));
  });

/** The metadata of a series' name: that of its family for the parts of a histogram or a summary. */
export function metadataOf(all: Map<string, Metadata>, name: string): Metadata | undefined {
  return all.get(name) ?? all.get(name.replace(/_(bucket|count|sum|total)$/, ""));
}

/** Whether the expression can be read; the promise fails with why not. */
export const parse = (query: string, signal: AbortSignal): Promise<Answer<unknown>> =>
  post("api/v1/parse_query", { query }, signal);
