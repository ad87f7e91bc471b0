// What each token is in its place, by the words that the server knows.

import type { Language, Word } from "../api/types";
import type { Token } from "./lexer";

/** The server's words by name; all maps are empty until they have been read, and everything works without them. */
export interface Vocabulary {
  functions: Map<string, Word>;
  aggregations: Map<string, Word>;
  keywords: Map<string, Word>;
}

export const NO_WORDS: Vocabulary = { functions: new Map(), aggregations: new Map(), keywords: new Map() };

export function vocabulary(language: Language): Vocabulary {
  const byName = (words: Word[]) => new Map(words.map((word) => [word.name, word]));
  return {
    functions: byName(language.functions),
    aggregations: byName(language.aggregations),
    keywords: byName(language.keywords),
  };
}

export type Role = "function" | "aggregation" | "keyword" | "label" | "metric" | "number" | "other";

/** The grammar's shape, not its vocabulary: behind these a list of labels stands in parentheses. */
const BEFORE_LABELS = new Set(["by", "without", "on", "ignoring", "group_left", "group_right"]);

export function takesLabels(token: Token | undefined): boolean {
  return token?.kind === "word" && token.zone === "plain" && BEFORE_LABELS.has(token.text.toLowerCase());
}

/** The role of each token, for words; others have the role `other`. */
export function roles(tokens: Token[], words: Vocabulary): Role[] {
  let inLabels = false;
  return tokens.map((token, i): Role => {
    const before = tokens[i - 1];
    if (token.text === "(" && takesLabels(before)) inLabels = true;
    else if (token.text === ")") inLabels = false;
    if (token.kind !== "word") return "other";
    if (token.zone === "braces" || inLabels) return "label";
    const lower = token.text.toLowerCase();
    const after = tokens[i + 1];
    if (words.aggregations.has(lower) && (after?.text === "(" || takesLabels(after))) return "aggregation";
    if (words.functions.has(token.text) && after?.text === "(") return "function";
    const startsOperand = !before || before.text === "(" || before.text === ",";
    if (!startsOperand && words.keywords.has(lower)) return "keyword";
    if (lower === "inf" || lower === "nan") return "number";
    return after?.text === "(" ? "other" : "metric";
  });
}

/** The selectors of an expression as texts, each once: what its label lists can speak of. */
export function selectors(text: string, tokens: Token[], words: Vocabulary): string[] {
  const found = new Set<string>();
  const role = roles(tokens, words);
  for (let i = 0; i < tokens.length; i++) {
    const token = tokens[i] as Token;
    const isBrace = token.text === "{" && token.kind === "punctuation";
    if (role[i] !== "metric" && !isBrace) continue;
    const open = isBrace ? i : tokens[i + 1]?.text === "{" ? i + 1 : -1;
    if (open < 0) {
      if (token.zone === "plain") found.add(token.text);
      continue;
    }
    let close = open;
    while (close < tokens.length && tokens[close]?.text !== "}") close++;
    const end = tokens[close];
    if (end) found.add(text.slice(token.from, end.to));
    i = close;
  }
  return [...found];
}
