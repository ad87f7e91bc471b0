// What may be written at a place of an expression: a pure function of the text, the place and the server's words.

import { lex, type Token } from "./lexer";
import { roles, selectors, takesLabels, type Vocabulary } from "./words";

export type Context =
  | { kind: "none" }
  /** An operand: functions, aggregations, metrics; behind an operator also modifiers such as `on`. */
  | { kind: "operand"; from: number; to: number; withKeywords: boolean }
  /** Behind an operand: operators and modifiers that are words. */
  | { kind: "keyword"; from: number; to: number }
  /** Behind `@`. */
  | { kind: "at"; from: number; to: number }
  /** A label's name; the series that it should be one of, as selectors (none: any series). */
  | { kind: "label"; from: number; to: number; selectors: string[] }
  /** Between a label's name and its value. */
  | { kind: "matcher"; from: number; to: number }
  /** A label's value. `quote` is what the text has opened, or "" if it has not yet. */
  | { kind: "value"; from: number; to: number; label: string; quote: string; closed: boolean; selectors: string[] }
  /** A duration: `digits` stand there already and lack a unit. */
  | { kind: "duration"; from: number; to: number; digits: string };

const NONE: Context = { kind: "none" };

export function contextAt(text: string, at: number, words: Vocabulary): Context {
  const tokens = lex(text);
  // The token that the place touches from behind or lies in.
  const index = tokens.findIndex((t) => t.from < at && at <= t.to);
  const here = tokens[index];
  if (here?.kind === "comment") return NONE;
  if (here?.kind === "string" && (here.open || at < here.to)) return inString(text, at, tokens, index);
  if (here?.kind === "number" || here?.kind === "duration") return inNumber(text, at, tokens, index);
  const isWord = here?.kind === "word";
  const count = isWord ? index : tokens.filter((t) => t.to <= at).length;
  const [from, to] = isWord ? [here.from, here.to] : [at, at];
  return behind(text, tokens, count, from, to, words);
}

/** What may stand behind the first `count` tokens. */
function behind(
  text: string,
  tokens: Token[],
  count: number,
  from: number,
  to: number,
  words: Vocabulary,
): Context {
  const before = tokens[count - 1];
  if (!before) return { kind: "operand", from, to, withKeywords: false };
  switch (zoneAt(tokens, count)) {
    case "braces":
      return inBraces(text, tokens, count, from, to);
    case "labels":
      if (before.text !== "(" && before.text !== ",") return NONE;
      return { kind: "label", from, to, selectors: selectors(text, tokens, words) };
    case "brackets":
      return before.text === "[" || before.text === ":" ? { kind: "duration", from, to, digits: "" } : NONE;
    case "plain":
      return inPlain(tokens, count, from, to, words);
  }
}

function inPlain(tokens: Token[], count: number, from: number, to: number, words: Vocabulary): Context {
  const before = tokens[count - 1] as Token;
  if (before.text === "@") return { kind: "at", from, to };
  if (before.kind === "operator") return { kind: "operand", from, to, withKeywords: true };
  if (before.text === "(" || before.text === ",") return { kind: "operand", from, to, withKeywords: false };
  if (before.text === ")" && closesLabels(tokens, count - 1)) return { kind: "operand", from, to, withKeywords: true };
  if (before.kind !== "word") return before.kind === "wrong" ? NONE : { kind: "keyword", from, to };
  if (takesLabels(before)) return NONE;
  if (before.text.toLowerCase() === "offset") return { kind: "duration", from, to, digits: "" };
  // As if the word at the place were not there: it must not make a function of the word before.
  const role = roles(tokens.slice(0, count), words)[count - 1];
  if (role === "keyword") return { kind: "operand", from, to, withKeywords: true };
  return { kind: "keyword", from, to };
}

/** Where the place behind the first `count` tokens lies. */
function zoneAt(tokens: Token[], count: number): "plain" | "braces" | "brackets" | "labels" {
  let zone: "plain" | "braces" | "brackets" | "labels" = "plain";
  for (let i = 0; i < count; i++) {
    const token = tokens[i] as Token;
    if (token.kind !== "punctuation") continue;
    if (token.text === "{") zone = "braces";
    else if (token.text === "[") zone = "brackets";
    else if (token.text === "}" || token.text === "]") zone = "plain";
    else if (zone === "plain" && token.text === "(" && takesLabels(tokens[i - 1])) zone = "labels";
    else if (zone === "labels" && token.text === ")") zone = "plain";
  }
  return zone;
}

function closesLabels(tokens: Token[], close: number): boolean {
  for (let i = close - 1; i >= 0; i--) {
    const text = tokens[i]?.text;
    if (text === ")") return false;
    if (text === "(") return takesLabels(tokens[i - 1]);
  }
  return false;
}

function inBraces(text: string, tokens: Token[], count: number, from: number, to: number): Context {
  const before = tokens[count - 1] as Token;
  if (before.text === "{" || before.text === ",") {
    return { kind: "label", from, to, selectors: aroundBraces(text, tokens, count, from) };
  }
  const isName = before.kind === "word" || (before.kind === "string" && tokens[count - 2]?.kind !== "operator");
  if (isName) return { kind: "matcher", from, to };
  if (before.kind !== "operator") return NONE;
  return value(text, tokens, count, { from, to, quote: "", closed: false });
}

function inString(text: string, at: number, tokens: Token[], index: number): Context {
  const here = tokens[index] as Token;
  if (here.zone !== "braces" || tokens[index - 1]?.kind !== "operator") return NONE;
  const closed = !here.open;
  const place = { from: here.from + 1, to: closed ? here.to - 1 : at, quote: here.text.charAt(0), closed };
  return value(text, tokens, index, place);
}

/** The value behind the operator that is the last of the first `count` tokens. */
function value(
  text: string,
  tokens: Token[],
  count: number,
  place: { from: number; to: number; quote: string; closed: boolean },
): Context {
  const name = tokens[count - 2];
  if (name?.kind !== "word" && name?.kind !== "string") return NONE;
  const label = name.kind === "word" ? name.text : name.text.slice(1, -1);
  return { kind: "value", ...place, label, selectors: aroundBraces(text, tokens, count, place.from) };
}

/** The selector around a place in braces, without the matcher at the place and without unfinished ones. */
function aroundBraces(text: string, tokens: Token[], count: number, at: number): string[] {
  let open = count - 1;
  while (open >= 0 && tokens[open]?.text !== "{") open--;
  const metric = tokens[open - 1];
  const matchers: string[] = [];
  let group: Token[] = [];
  let start = tokens[open]?.to ?? 0;
  const close = (end: number) => {
    const [name, operator, value] = group;
    const isHere = start <= at && at <= end;
    const isMatcher =
      group.length === 3 && operator?.kind === "operator" && value?.kind === "string" && !value.open;
    const isMetric = group.length === 1 && name?.kind === "string" && !name.open;
    if (!isHere && (isMatcher || isMetric)) matchers.push(text.slice(name?.from, group.at(-1)?.to));
    group = [];
    start = end + 1;
  };
  let i = open + 1;
  for (; i < tokens.length && tokens[i]?.text !== "}"; i++) {
    const token = tokens[i] as Token;
    if (token.text === "," && token.kind === "punctuation") close(token.from);
    else group.push(token);
  }
  close(tokens[i]?.from ?? text.length);
  const name = metric?.kind === "word" && !takesLabels(metric) ? metric.text : "";
  if (!name && !matchers.length) return [];
  return [matchers.length ? `${name}{${matchers.join(",")}}` : name];
}

function inNumber(text: string, at: number, tokens: Token[], index: number): Context {
  const here = tokens[index] as Token;
  let before = tokens[index - 1];
  // `1h30` is the duration `1h` and the number `30`, which is about to become a part of it.
  if (before?.kind === "duration" && before.to === here.from) before = tokens[index - 2];
  if (before?.text === "-") before = tokens[index - 2];
  const wantsDuration = here.zone === "brackets" || before?.text.toLowerCase() === "offset";
  const digits = /\d+$/.exec(text.slice(here.from, at))?.[0];
  if (!wantsDuration || !digits || at !== here.to) return NONE;
  return { kind: "duration", from: at - digits.length, to: at, digits };
}
