// Text to tokens, for colours and for completion. It knows the shape of the language, not its words: those come from
// the server. It reads any text, for what stands in an editor is mostly unfinished; what is wrong with it says the
// server's parser.

export type Kind = "comment" | "string" | "number" | "duration" | "word" | "operator" | "punctuation" | "wrong";

export interface Token {
  kind: Kind;
  from: number;
  to: number;
  text: string;
  /** Where it stands: words within braces are labels, colons within brackets part a step from its range. */
  zone: "plain" | "braces" | "brackets";
  /** A string whose closing quote is missing. */
  open?: boolean;
}

const BLANK = /\s+/y;
const COMMENT = /#[^\n\r]*/y;
const WORD = /[a-zA-Z_:][a-zA-Z0-9_:]*/y;
/** Within brackets and braces a colon belongs to no word. */
const PLAIN_WORD = /[a-zA-Z_][a-zA-Z0-9_]*/y;
const DURATION = /(?:\d+(?:ms|[smhdwy]))+(?![a-zA-Z_])/y;
const NUMBER = /0[xX][0-9a-fA-F_]+|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?/y;
const OPERATOR = /=~|!~|!=|==|<=|>=|<\/|>\/|[=<>+\-*/%^@:]/y;
const STRING: Record<string, RegExp> = {
  '"': /"(?:[^"\\\n]|\\[^])*("?)/y,
  "'": /'(?:[^'\\\n]|\\[^])*('?)/y,
  "`": /`[^`]*(`?)/y,
};

export function lex(text: string): Token[] {
  const tokens: Token[] = [];
  let zone: Token["zone"] = "plain";
  let at = 0;
  const match = (pattern: RegExp) => {
    pattern.lastIndex = at;
    return pattern.exec(text);
  };
  const push = (kind: Kind, length: number, open = false) => {
    const token: Token = { kind, from: at, to: at + length, text: text.slice(at, at + length), zone };
    if (open) token.open = true;
    tokens.push(token);
    at += length;
  };
  while (at < text.length) {
    const c = text.charAt(at);
    let found: RegExpExecArray | null;
    if ((found = match(BLANK))) at += found[0].length;
    else if ((found = match(COMMENT))) push("comment", found[0].length);
    else if (STRING[c] && (found = match(STRING[c]))) push("string", found[0].length, found[1] === "");
    else if (c === "{" || c === "[") {
      push("punctuation", 1);
      zone = c === "{" ? "braces" : "brackets";
    } else if (c === "}" || c === "]") {
      zone = "plain";
      push("punctuation", 1);
    } else if (c === "(" || c === ")" || c === ",") push("punctuation", 1);
    else if ((found = match(zone === "plain" ? WORD : PLAIN_WORD))) push("word", found[0].length);
    else if ((found = match(DURATION))) push("duration", found[0].length);
    else if ((found = match(NUMBER))) push("number", found[0].length);
    else if ((found = match(OPERATOR))) push("operator", found[0].length);
    else push("wrong", String.fromCodePoint(text.codePointAt(at) ?? 0).length);
  }
  return tokens;
}
