// The page as a whole: the expression, what is done with it, and what came of it.

import { signal } from "@preact/signals";
import { ExpressionEditor } from "../editor/ExpressionEditor";
import { unitsOf } from "../lib/bytes";
import { formatBytes, formatCount, formatTook, plural } from "../lib/format";
import { switchTheme } from "../theme";
import { Controls } from "./Controls";
import { Explain } from "./Explain";
import { Graph } from "./Graph";
import {
  cancel, change, failure, format, LINES_MAX, problem, problemOf, queries, ROWS_MAX, run, running, shown, state, text, words,
  type Notes,
} from "./model";
import { saveHistory } from "./history";
import { Table } from "./Table";
import type { Tab } from "./state";

const TABS: [tab: Tab, title: string][] = [["table", "Table"], ["graph", "Graph"], ["explain", "Explain"]];
const showsHistory = signal(false);

export function Page() {
  return (
    <>
      <header>
        <h1><a href="./">StreamGate</a></h1>
        <nav class="row" aria-label="Pages">
          <a href="./">Status</a>
          <a href="query" aria-current="page">Query</a>
        </nav>
        <span class="grow" />
        <button type="button" onClick={switchTheme}>Dark or light</button>
      </header>
      <main>
        <ExpressionEditor text={text} problem={problem} words={words} problemOf={problemOf} onRun={() => void run()} />
        <Wrong />
        <Actions />
        {showsHistory.value && <History />}
        <Tabs />
        <div role="tabpanel" id="panel" aria-labelledby={`tab-${state.value.tab}`}>
          <Controls />
          <Outcome />
        </div>
      </main>
    </>
  );
}

function Wrong() {
  const wrong = problem.value;
  if (!wrong || !text.value.trim()) return null;
  const { range, replacement } = wrong;
  const replace = () => {
    if (!range || !replacement) return;
    const { from, to } = unitsOf(text.value, range);
    text.value = text.value.slice(0, from) + replacement + text.value.slice(to);
    problem.value = null;
  };
  return (
    <div class="row">
      <p class="wrong small" role="status">{wrong.message}</p>
      {replacement && <button type="button" onClick={replace}>Use {replacement}</button>}
    </div>
  );
}

function Actions() {
  return (
    <div class="row actions">
      {running.value
        ? <button type="button" class="primary" onClick={() => { cancel(); running.value = false; }}>Cancel</button>
        : <button type="button" class="primary" title="Ctrl+Enter or Shift+Enter" onClick={() => void run()}>Run</button>}
      <button type="button" onClick={() => void format()}>Format</button>
      <button
        type="button" aria-expanded={showsHistory.value} onClick={() => (showsHistory.value = !showsHistory.value)}
      >History</button>
      <span class="dim small" role="status">{running.value ? "running…" : ""}</span>
    </div>
  );
}

function History() {
  const list = queries.value;
  const choose = (entry: string) => {
    text.value = entry;
    showsHistory.value = false;
    void run();
  };
  return (
    <section class="card" aria-label="History">
      {list.length === 0 ? <p class="dim">What you run is kept here, in this browser.</p> : (
        <>
          <ul class="history">
            {list.map((entry) => <li key={entry}><button type="button" onClick={() => choose(entry)}>{entry}</button></li>)}
          </ul>
          <button type="button" onClick={() => { queries.value = []; saveHistory([]); }}>Forget all</button>
        </>
      )}
    </section>
  );
}

function Tabs() {
  const turn = (event: KeyboardEvent) => {
    const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (!by) return;
    const at = TABS.findIndex(([tab]) => tab === state.value.tab);
    const next = TABS[(at + by + TABS.length) % TABS.length]?.[0] ?? "table";
    change({ tab: next });
    document.getElementById(`tab-${next}`)?.focus();
  };
  return (
    <div role="tablist" aria-label="Result as" onKeyDown={turn}>
      {TABS.map(([tab, title]) => {
        const selected = state.value.tab === tab;
        return (
          <button
            key={tab} type="button" role="tab" id={`tab-${tab}`} aria-selected={selected} aria-controls="panel"
            tabIndex={selected ? 0 : -1} onClick={() => change({ tab })}
          >{title}</button>
        );
      })}
    </div>
  );
}

function Outcome() {
  const { others, expr, tab } = state.value;
  const failed = failure.value;
  const now = shown.value;
  return (
    <>
      {others > 0 && (
        <p class="card note warn">The address names {plural(others, "more query", "more queries")}: this page shows the first.</p>
      )}
      {failed && failed.message !== problem.value?.message && (
        <div class="card note bad" role="alert">
          <strong>{failed.unreachable ? "No answer" : "The query failed"}</strong>
          <div>{failed.message}{failed.unreachable && " Check that it runs and can be reached from here."}</div>
          {failed.unreachable && <button type="button" onClick={() => void run()}>Try again</button>}
        </div>
      )}
      {!failed && now.kind === "nothing" && (
        <p class="dim">
          {running.value ? "Waiting for the answer…" : expr ? "No result yet." : "Type an expression and run it. Ctrl+Space shows what may stand at the cursor."}
        </p>
      )}
      {now.kind !== "nothing" && now.kind === tab && (
        <div class={running.value ? "busy" : ""} aria-busy={running.value}>
          <Remarks notes={now.notes} />
          {now.kind === "table" && (
            <>
              {now.truncated && <Cut what={`${formatCount(ROWS_MAX)} series are shown`} />}
              <Table result={now.result} />
            </>
          )}
          {now.kind === "graph" && (
            <>
              {now.truncated && <Cut what={`${formatCount(LINES_MAX)} series are drawn`} />}
              <Graph data={now.courses} stepMs={now.stepMs} />
            </>
          )}
          {now.kind === "explain" && <Explain expr={now.expr} plan={now.notes.stats?.plan ?? []} />}
          <Facts notes={now.notes} />
        </div>
      )}
    </>
  );
}

function Cut({ what }: { what: string }) {
  return <p class="card note warn">Only the first {what}; there are more. Aggregate, or choose with topk() or matchers.</p>;
}

function Remarks({ notes }: { notes: Notes }) {
  return (
    <>
      {notes.warnings.map((warning) => <p key={warning} class="card note warn" role="status">{warning}</p>)}
      {notes.infos.map((info) => <p key={info} class="card note" role="status">{info}</p>)}
    </>
  );
}

function Facts({ notes }: { notes: Notes }) {
  const { stats } = notes;
  const facts = [plural(notes.series, "series", "series")];
  if (stats) {
    facts.push(`${formatTook(stats.timings.execTotalTime)} in the server`);
    facts.push(`${plural(stats.samples.totalQueryableSamples, "sample")} read`);
    if (stats.series) facts.push(`${plural(stats.series.selected, "series", "series")} selected`);
    if (stats.memory) facts.push(`${formatBytes(stats.memory.peakBytes)} held`);
  }
  facts.push(`${formatTook(notes.tookSeconds)} to here`);
  return <p class="dim small stats">{facts.join(" · ")}</p>;
}
