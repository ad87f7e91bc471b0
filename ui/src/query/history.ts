// The expressions that were run in this browser, newest first.

import { recall, remember } from "../lib/remembered";

const KEY = "queries";
export const ENTRIES_MAX = 50;
/** Longer ones are not kept: a browser's storage is small, and shared with the rest of the pages. */
export const LENGTH_MAX = 10_000;

export function withQuery(entries: string[], expr: string): string[] {
  const text = expr.trim();
  if (!text || text.length > LENGTH_MAX) return entries;
  return [text, ...entries.filter((entry) => entry !== text)].slice(0, ENTRIES_MAX);
}

/** What was kept; anything else that stands in its place counts as nothing. */
export function parseHistory(text: string): string[] {
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) ? value.filter((v) => typeof v === "string").slice(0, ENTRIES_MAX) : [];
  } catch {
    return [];
  }
}

export const loadHistory = (): string[] => parseHistory(recall(KEY));
export const saveHistory = (entries: string[]): void => remember(KEY, JSON.stringify(entries));
