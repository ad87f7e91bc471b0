// The result of an instant query.

import type { Histogram, HistogramPoint, LabelSet, MatrixSeries, Point, QueryResult } from "../api/types";
import { formatLocal, formatReadout, plural, quote } from "../lib/format";
import { parseValue } from "./series";

/** Points of one series that are shown; a range selector may have thousands. */
const POINTS_MAX = 200;

export function Table({ result }: { result: QueryResult }) {
  if (result.resultType === "scalar" || result.resultType === "string") {
    return (
      <Rows>
        <tr><td class="series dim">{result.resultType}</td><td class="number">{result.result[1]}</td></tr>
      </Rows>
    );
  }
  if (result.result.length === 0) return <p class="card">The query is right and its result is empty: no series at this time.</p>;
  return (
    <Rows>
      {result.resultType === "vector"
        ? result.result.map((series, i) => (
            <tr key={i}>
              <td class="series"><Series labels={series.metric} /></td>
              <td class="number">{series.histogram ? <HistogramView histogram={series.histogram[1]} /> : series.value?.[1]}</td>
            </tr>
          ))
        : (result.result as MatrixSeries[]).map((series, i) => (
            <tr key={i}>
              <td class="series"><Series labels={series.metric} /></td>
              <td class="number"><Points values={series.values ?? []} histograms={series.histograms ?? []} /></td>
            </tr>
          ))}
    </Rows>
  );
}

function Rows({ children }: { children: preact.ComponentChildren }) {
  return (
    <div class="card scroll">
      <table>
        <thead><tr><th scope="col">Series</th><th scope="col" class="number">Value</th></tr></thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}

/** A label set, as text nodes: nothing that a label holds becomes markup. */
export function Series({ labels }: { labels: LabelSet }) {
  const rest = Object.entries(labels).filter(([name]) => name !== "__name__");
  return (
    <>
      <span class="metric">{labels["__name__"] ?? ""}</span>
      {(rest.length > 0 || !labels["__name__"]) && "{"}
      {rest.map(([name, value], i) => (
        <span key={name}>
          {i > 0 && ", "}<span class="label">{name}</span>=<span class="value">{quote(value)}</span>
        </span>
      ))}
      {(rest.length > 0 || !labels["__name__"]) && "}"}
    </>
  );
}

function Points({ values, histograms }: { values: Point[]; histograms: HistogramPoint[] }) {
  const left = values.length - POINTS_MAX;
  return (
    <div class="points">
      {values.slice(-POINTS_MAX).map(([time, value]) => <div key={time}>{value} <span class="dim small">{formatLocal(time * 1000)}</span></div>)}
      {histograms.slice(-POINTS_MAX).map(([time, h]) => (
        <div key={time}>count {h.count}, sum {h.sum} <span class="dim small">{formatLocal(time * 1000)}</span></div>
      ))}
      {left > 0 && <div class="dim small">and {plural(left, "older sample")}</div>}
    </div>
  );
}

function HistogramView({ histogram }: { histogram: Histogram }) {
  const buckets = histogram.buckets ?? [];
  const most = Math.max(...buckets.map((b) => Math.abs(parseValue(b[3]))), Number.MIN_VALUE);
  const mean = parseValue(histogram.sum) / parseValue(histogram.count);
  return (
    <details>
      <summary>count {histogram.count}, sum {histogram.sum}, mean {formatReadout(mean)}</summary>
      <div class="buckets small">
        {buckets.map(([rule, lower, upper, count]) => {
          // Open or closed at either side, as the rule says.
          const interval = `${rule === 1 || rule === 3 ? "[" : "("}${lower}, ${upper}${rule === 0 || rule === 3 ? "]" : ")"}`;
          return (
            <>
              <span>{interval}</span>
              <meter min={0} max={most} value={Math.abs(parseValue(count))} aria-hidden="true" />
              <span>{count}</span>
            </>
          );
        })}
      </div>
    </details>
  );
}
