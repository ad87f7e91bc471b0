// The editor, loaded when the page stands. It lives in a shadow root: there its styles are adopted sheets, so that the
// page's policy needs no exception for inline styles.

import { acceptCompletion, autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap, startCompletion } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { bracketMatching } from "@codemirror/language";
import { linter, lintKeymap, setDiagnostics, type Diagnostic } from "@codemirror/lint";
import { EditorState, Prec, type Range } from "@codemirror/state";
import {
  Decoration, drawSelection, EditorView, keymap, placeholder, tooltips, ViewPlugin, type DecorationSet, type ViewUpdate,
} from "@codemirror/view";
import { unitsOf } from "../lib/bytes";
import { lex } from "../promql/lexer";
import { roles, type Vocabulary } from "../promql/words";
import { completionSource } from "./completion";
import { theme } from "./theme";

/** What is wrong with the text, and the word that the server would put in its place. */
export interface Problem {
  message: string;
  range: { start: number; end: number } | null;
  replacement: string | null;
}

export interface EditorOptions {
  parent: HTMLElement;
  doc: string;
  words: () => Vocabulary;
  /** What is wrong with the expression; asked when somebody stops typing. */
  check: (text: string) => Promise<Problem | null>;
  onChange: (text: string) => void;
  onRun: () => void;
}

export interface Editor {
  setText(text: string): void;
  mark(problem: Problem | null): void;
  focus(): void;
  destroy(): void;
}

const CHECK_DELAY_MS = 500;

function colours(view: EditorView, words: Vocabulary): DecorationSet {
  const tokens = lex(view.state.doc.toString());
  const role = roles(tokens, words);
  const marks = tokens.flatMap((token, i): Range<Decoration>[] => {
    const name = token.kind === "word" ? role[i] : token.kind;
    if (name === "punctuation" || name === "other") return [];
    return [Decoration.mark({ class: `pq-${name}` }).range(token.from, token.to)];
  });
  return Decoration.set(marks);
}

function colouring(words: () => Vocabulary) {
  return ViewPlugin.fromClass(
    class {
      decorations: DecorationSet;
      seen: Vocabulary;
      constructor(view: EditorView) {
        this.seen = words();
        this.decorations = colours(view, this.seen);
      }
      update(update: ViewUpdate) {
        if (!update.docChanged && this.seen === words()) return;
        this.seen = words();
        this.decorations = colours(update.view, this.seen);
      }
    },
    { decorations: (plugin) => plugin.decorations },
  );
}

function diagnostics(text: string, problem: Problem | null): Diagnostic[] {
  if (!problem?.range) return [];
  const { replacement } = problem;
  const action = replacement && {
    name: `Use ${replacement}`,
    apply: (view: EditorView, from: number, to: number) => view.dispatch({ changes: { from, to, insert: replacement } }),
  };
  return [{ ...unitsOf(text, problem.range), severity: "error", message: problem.message, ...(action ? { actions: [action] } : {}) }];
}

export function createEditor(options: EditorOptions): Editor {
  const root = options.parent.shadowRoot ?? options.parent.attachShadow({ mode: "open" });
  const run = () => {
    options.onRun();
    return true;
  };
  const view = new EditorView({
    root,
    parent: root as unknown as HTMLElement,
    state: EditorState.create({
      doc: options.doc,
      extensions: [
        Prec.highest(keymap.of([{ key: "Mod-Enter", run }, { key: "Shift-Enter", run }])),
        keymap.of([
          { key: "Tab", run: acceptCompletion },
          ...closeBracketsKeymap, ...completionKeymap, ...historyKeymap, ...lintKeymap, ...defaultKeymap,
        ]),
        history(),
        drawSelection(),
        EditorView.lineWrapping,
        bracketMatching(),
        closeBrackets(),
        tooltips({ position: "absolute" }),
        autocompletion({ override: [completionSource(options.words)], maxRenderedOptions: 100 }),
        linter(async (view) => {
          const text = view.state.doc.toString();
          return diagnostics(text, text.trim() ? await options.check(text) : null);
        }, { delay: CHECK_DELAY_MS }),
        colouring(options.words),
        placeholder("An expression: Ctrl+Space completes, Ctrl+Enter runs"),
        EditorView.contentAttributes.of({ "aria-label": "Expression", spellcheck: "false" }),
        // Behind a name in braces the next choice is a value, and behind `{` a name: both without being asked.
        EditorView.updateListener.of((update) => {
          if (!update.docChanged) return;
          options.onChange(update.state.doc.toString());
          const at = update.state.selection.main.head;
          const typed = update.transactions.some((t) => t.isUserEvent("input.type"));
          if (typed && /[{[("',=~]/.test(update.state.sliceDoc(at - 1, at))) startCompletion(update.view);
        }),
        theme,
      ],
    }),
  });
  return {
    setText: (text) => {
      if (text === view.state.doc.toString()) return;
      view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text }, selection: { anchor: text.length } });
    },
    mark: (problem) => {
      view.dispatch(setDiagnostics(view.state, diagnostics(view.state.doc.toString(), problem)));
    },
    focus: () => view.focus(),
    destroy: () => view.destroy(),
  };
}
