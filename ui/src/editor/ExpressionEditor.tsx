// The field for the expression: at once a plain one, and the editor once it has come.

import { effect, type Signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { isAbort, Refused } from "../api/client";
import { parse } from "../promql/source";
import type { Vocabulary } from "../promql/words";
import type { Editor, Problem } from "./setup";

export interface Props {
  text: Signal<string>;
  problem: Signal<Problem | null>;
  words: Signal<Vocabulary>;
  problemOf: (error: Refused) => Problem;
  onRun: () => void;
}

export function ExpressionEditor({ text, problem, words, problemOf, onRun }: Props) {
  const host = useRef<HTMLDivElement>(null);
  const [ready, setReady] = useState(false);
  useEffect(() => {
    let editor: Editor | null = null;
    let gone = false;
    const stops: (() => void)[] = [];
    let checking = new AbortController();
    const check = async (expr: string): Promise<Problem | null> => {
      checking.abort();
      checking = new AbortController();
      try {
        await parse(expr, checking.signal);
        problem.value = null;
      } catch (error) {
        if (error instanceof Refused && error.range) problem.value = problemOf(error);
        else if (!isAbort(error)) problem.value = null;
      }
      return problem.value;
    };
    import("./setup").then(({ createEditor }) => {
      if (gone || !host.current) return;
      const created = createEditor({
        parent: host.current,
        doc: text.peek(),
        words: () => words.peek(),
        check,
        onChange: (value) => (text.value = value),
        onRun,
      });
      editor = created;
      stops.push(effect(() => created.setText(text.value)));
      stops.push(effect(() => void (problem.value && created.mark(problem.value))));
      stops.push(effect(() => void (words.value.functions.size && created.mark(problem.peek()))));
      setReady(true);
      created.focus();
    }, () => {
      // The plain field stays, which does all but colours and completion.
    });
    return () => {
      gone = true;
      checking.abort();
      for (const stop of stops) stop();
      editor?.destroy();
    };
  }, []);
  return (
    <div class="editor">
      <div ref={host} />
      {!ready && (
        <textarea
          aria-label="Expression"
          rows={2}
          spellcheck={false}
          value={text.value}
          onInput={(e) => (text.value = e.currentTarget.value)}
          onKeyDown={(e) => {
            if (e.key !== "Enter" || !(e.ctrlKey || e.metaKey || e.shiftKey)) return;
            e.preventDefault();
            onRun();
          }}
        />
      )}
    </div>
  );
}
