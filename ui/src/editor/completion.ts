// From what may stand at a place to a list of options.

import type { Completion, CompletionContext, CompletionResult } from "@codemirror/autocomplete";
import { DURATION_UNITS } from "../lib/format";
import type { Word } from "../api/types";
import { contextAt, type Context } from "../promql/context";
import { labelNames, labelValues, metadata, metadataOf } from "../promql/source";
import type { Vocabulary } from "../promql/words";

/** How long somebody has stopped typing before the server is asked. */
const PAUSE_MS = 120;

function pause(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, PAUSE_MS);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/** Puts in a call's parentheses, with the cursor where its first argument goes. */
function call(word: Word): NonNullable<Completion["apply"]> {
  return (view, _completion, from, to) => {
    const has = view.state.sliceDoc(to, to + 1) === "(";
    const text = has ? word.name : `${word.name}()`;
    const inside = word.argTypes?.length !== 0;
    view.dispatch({
      changes: { from, to, insert: text },
      selection: { anchor: from + word.name.length + (inside ? 1 : 2) },
      userEvent: "input.complete",
    });
  };
}

function option(word: Word, type: string): Completion {
  const signature = word.signature?.slice(word.name.length) ?? "";
  const needs = word.enabled ? "" : `needs --enable-feature=${word.feature}`;
  return {
    label: word.name,
    type,
    detail: needs || signature,
    info: [word.doc, word.returnType && `gives: ${word.returnType}`, needs].filter(Boolean).join("\n"),
    boost: word.enabled ? 1 : -99,
    ...(word.signature ? { apply: call(word) } : {}),
  };
}

const options = (words: Map<string, Word>, type: string) => [...words.values()].map((word) => option(word, type));

/** The matchers' signs are grammar; what they do is said here alone. */
const MATCHERS: Completion[] = [
  { label: "=", detail: "is" },
  { label: "!=", detail: "is not" },
  { label: "=~", detail: "matches the whole regular expression" },
  { label: "!~", detail: "does not match" },
];

function durations(context: Context & { kind: "duration" }): CompletionResult {
  const options: Completion[] = context.digits
    ? DURATION_UNITS.map(([unit, name], i) => ({ label: context.digits + unit, detail: name, type: "unit", boost: -i }))
    : ["1m", "5m", "15m", "1h", "1d"].map((label, i) => ({ label, type: "unit", boost: -i }));
  return { from: context.from, options, filter: Boolean(context.digits) };
}

async function operands(
  context: Context & { kind: "operand" },
  fragment: string,
  words: Vocabulary,
  signal: AbortSignal,
): Promise<{ options: Completion[]; truncated: boolean }> {
  const known = [
    ...options(words.functions, "function"),
    ...options(words.aggregations, "aggregation"),
    ...(context.withKeywords ? options(words.keywords, "keyword") : []),
  ];
  try {
    const [names, help] = await Promise.all([labelValues("__name__", [], fragment, signal), metadata()]);
    const metrics = names.entries.map((name): Completion => {
      const about = metadataOf(help, name);
      const plain = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/.test(name);
      return {
        label: name,
        type: "metric",
        ...(plain ? {} : { apply: `{${JSON.stringify(name)}}` }),
        ...(about ? { detail: about.type, info: about.help } : {}),
      };
    });
    return { options: [...known, ...metrics], truncated: names.truncated };
  } catch {
    // Without the server there are still the words.
    return { options: known, truncated: false };
  }
}

function valueOption(context: Context & { kind: "value" }, value: string): Completion {
  const quote = context.quote || '"';
  const text = quote === "`" ? value : value.replace(/\\/g, "\\\\").replaceAll(quote, `\\${quote}`).replace(/\n/g, "\\n");
  return {
    label: value,
    type: "value",
    apply: (view, _completion, from, to) => {
      // A quote that stands behind the cursor already is taken over, so that the cursor comes to stand behind it.
      const closing = view.state.sliceDoc(to, to + 1) === quote ? 1 : 0;
      const insert = `${context.quote ? "" : quote}${text}${quote}`;
      view.dispatch({
        changes: { from, to: to + closing, insert },
        selection: { anchor: from + insert.length },
        userEvent: "input.complete",
      });
    },
  };
}

export function completionSource(words: () => Vocabulary) {
  return async (at: CompletionContext): Promise<CompletionResult | null> => {
    const text = at.state.doc.toString();
    const context = contextAt(text, at.pos, words());
    if (context.kind === "none") return null;
    const fragment = text.slice(context.from, at.pos);
    const typed = fragment !== "" || at.explicit;
    const result = (options: Completion[], validFor?: RegExp): CompletionResult => ({
      from: context.from,
      to: Math.max(at.pos, context.to),
      options,
      ...(validFor ? { validFor } : {}),
    });
    if (context.kind === "duration") return typed || text.charAt(at.pos - 1) === "[" ? durations(context) : null;
    if (context.kind === "matcher") return at.explicit ? result(MATCHERS) : null;
    if (context.kind === "keyword") return typed ? result(options(words().keywords, "keyword"), /^\w*$/) : null;
    if (context.kind === "at") {
      const marks = ["start", "end"].flatMap((name) => words().functions.get(name) ?? []);
      return result(marks.map((word) => option({ ...word, enabled: true, argTypes: [] }, "function")), /^\w*$/);
    }
    if (context.kind === "operand" && !typed) return null;
    const stop = new AbortController();
    at.addEventListener("abort", () => stop.abort(), { onDocChange: true });
    await pause(stop.signal);
    if (at.aborted) return null;
    try {
      if (context.kind === "operand") {
        const found = await operands(context, fragment, words(), stop.signal);
        return result(found.options, found.truncated ? undefined : /^[\w:]*$/);
      }
      if (context.kind === "label") {
        const found = await labelNames(context.selectors, stop.signal);
        const names = found.entries.filter((name) => name !== "__name__" || text.charAt(context.from - 1) === "{");
        return result(
          names.map((name) => ({ label: name, type: "label", ...(/^\w+$/.test(name) ? {} : { apply: JSON.stringify(name) }) })),
          /^\w*$/,
        );
      }
      const found = await labelValues(context.label, context.selectors, fragment, stop.signal);
      return result(found.entries.map((value) => valueOption(context, value)), found.truncated ? undefined : /^[^"'`]*$/);
    } catch {
      // Superseded, or the server does not answer: completion is silent, running the query says why.
      return null;
    }
  };
}
