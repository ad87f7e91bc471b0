import { describe, expect, it } from "vitest";
import { contextAt } from "./context";
import { lex } from "./lexer";
import { roles, selectors, vocabulary } from "./words";

const word = (name: string) => ({ name, doc: "", enabled: true });
const WORDS = vocabulary({
  functions: ["rate", "time", "start"].map(word),
  aggregations: ["sum", "topk"].map(word),
  keywords: ["and", "bool", "by", "group_left", "offset", "on"].map(word),
});

/** `|` marks the place. */
function at(marked: string) {
  const place = marked.indexOf("|");
  const text = marked.slice(0, place) + marked.slice(place + 1);
  const context = contextAt(text, place, WORDS);
  if (context.kind === "none") return context;
  const { from, to, ...rest } = context;
  return { ...rest, text: text.slice(from, to) };
}

describe("the place in an expression decides what is offered", () => {
  const operand = (text: string, withKeywords = false) => ({ kind: "operand", text, withKeywords });
  const keyword = (text: string) => ({ kind: "keyword", text });
  const label = (text: string, ...selectors: string[]) => ({ kind: "label", text, selectors });
  const value = (label: string, text: string, quote: string, closed: boolean, ...selectors: string[]) => ({
    kind: "value", label, text, quote, closed, selectors,
  });
  const cases: [string, unknown][] = [
    ["|", operand("")],
    ["rat|", operand("rat")],
    ["ra|te", operand("rate")],
    ["sum(ra|", operand("ra")],
    ["topk(5, no|", operand("no")],
    ["a + |", operand("", true)],
    ["a > bo|", operand("bo", true)],
    ["a and b|", operand("b", true)],
    ["a / on(job) gro|", operand("gro", true)],
    ["sum by (job) (no|", operand("no")],
    ["up |", keyword("")],
    ["up an|", keyword("an")],
    ["sum b|", keyword("b")],
    ["sum(up) b|", keyword("b")],
    ["rate(x[5m]) o|", keyword("o")],
    ["x{a=\"b\"} off|", keyword("off")],
    ["up{|", label("", "up")],
    ["up{jo|", label("jo", "up")],
    ["up{job=\"a\", in|}", label("in", 'up{job="a"}')],
    ["up{in|, job=\"a\"}", label("in", 'up{job="a"}')],
    ["{|", label("")],
    ["{\"foo.bar\", |}", label("", '{"foo.bar"}')],
    ["sum by (|) (rate(x{a=\"b\"}[5m]))", label("", 'x{a="b"}')],
    ["sum by (job, i|) (up)", label("i", "up")],
    ["a / on (jo|) b", label("jo", "a", "b")],
    ["up{job|", label("job", "up")],
    ["up{job |", { kind: "matcher", text: "" }],
    ["up{job=|", value("job", "", "", false, "up")],
    ["up{job=\"|", value("job", "", '"', false, "up")],
    ["up{job=\"no|", value("job", "no", '"', false, "up")],
    ["up{job=~'no|de', a=\"b\"}", value("job", "node", "'", true, 'up{a="b"}')],
    ["up{\"a.b\"=`x|`}", value("a.b", "x", "`", true, "up")],
    ["up{job=\"a\"|", { kind: "none" }],
    ["x[5|", { kind: "duration", text: "5", digits: "5" }],
    ["x[1h30|]", { kind: "duration", text: "30", digits: "30" }],
    ["x[|", { kind: "duration", text: "", digits: "" }],
    ["x[1h:|", { kind: "duration", text: "", digits: "" }],
    ["x offset 5|", { kind: "duration", text: "5", digits: "5" }],
    ["x offset -5|", { kind: "duration", text: "5", digits: "5" }],
    ["x offset |", { kind: "duration", text: "", digits: "" }],
    ["x @ st|", { kind: "at", text: "st" }],
    ["x + 5|", { kind: "none" }],
    ["x # up|", { kind: "none" }],
    ["label_replace(x, \"a|", { kind: "none" }],
    ["x[5m|", { kind: "none" }],
    ["sum by |", { kind: "none" }],
  ];
  for (const [text, expected] of cases) it(text, () => expect(at(text)).toEqual(expected));

  it("has an answer at every place of every text", () => {
    const texts = ["sum by (a) (rate(x{b=~\"c\\\"\", d!='e'}[5m:1m] offset -1h30m)) / on() group_left ÿ{\"😀\"=\"", "}](){[\"'`#\n,=!~"];
    for (const text of texts) for (let i = 0; i <= text.length; i++) contextAt(text, i, WORDS);
  });
});

describe("tokens", () => {
  it("cover the text in order", () => {
    const text = "sum by(le)(rate(a:b{x=~\".*\"}[1h30m:5s])) > bool 0x1F + 1_000.5e-3 # end\n😀 'open";
    const tokens = lex(text);
    let at = 0;
    for (const token of tokens) {
      expect(text.slice(at, token.from).trim()).toBe("");
      expect(token.text).toBe(text.slice(token.from, token.to));
      at = token.to;
    }
    expect(at).toBe(text.length);
    expect(tokens.filter((t) => t.kind === "duration").map((t) => t.text)).toEqual(["1h30m", "5s"]);
    expect(tokens.filter((t) => t.kind === "number").map((t) => t.text)).toEqual(["0x1F", "1_000.5e-3"]);
    expect(tokens.find((t) => t.kind === "wrong")?.text).toBe("😀");
    expect(tokens.at(-1)).toMatchObject({ kind: "string", open: true });
  });

  it("have roles by their place", () => {
    const text = "sum by (rate) (rate(sum{on=\"x\"}[5m])) and on (a) time() + on";
    const tokens = lex(text);
    const role = roles(tokens, WORDS);
    const found = tokens.map((t, i) => [t.text, role[i]]).filter(([, r]) => r !== "other").map((p) => p.join(":"));
    expect(found).toEqual([
      "sum:aggregation", "by:keyword", "rate:label", "rate:function", "sum:metric", "on:label", "and:keyword",
      "on:keyword", "a:label", "time:function", "on:keyword",
    ]);
  });

  it("give the selectors of an expression", () => {
    const of = (text: string) => selectors(text, lex(text), WORDS);
    expect(of("sum by (x) (rate(a{b=\"c\"}[5m])) / on(x) a{b=\"c\"} + d + {\"e.f\"}")).toEqual(['a{b="c"}', "d", '{"e.f"}']);
    expect(of("a{b=\"c")).toEqual([]);
  });
});
