// The result of a range query as lines.

import { useSignal, type Signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { formatClock, formatDuration, formatLocal, formatReadout, formatSeries, formatShort, plural } from "../lib/format";
import { dark } from "../theme";
import { change, graphWidth } from "./model";
import { colour, type Courses } from "./series";
import { Series } from "./Table";

const HEIGHT = 340;
/** How near a line the pointer must be for it to speak, in pixels. */
const NEAR = 30;

interface Tip {
  left: number;
  top: number;
  series: number;
  at: number;
}

export function Graph({ data, stepMs }: { data: Courses; stepMs: number }) {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const hidden = useSignal(new Set<number>());
  const tip = useSignal<Tip | null>(null);
  const isDark = dark.value;
  useEffect(() => {
    const parent = host.current;
    if (!parent || !data.courses.length) return;
    hidden.value = new Set();
    const made = draw(parent, data, isDark, tip);
    plot.current = made;
    const resize = new ResizeObserver(() => {
      const width = parent.clientWidth;
      if (width && width !== made.width) made.setSize({ width, height: HEIGHT });
      graphWidth.value = width || graphWidth.peek();
    });
    resize.observe(parent);
    return () => {
      resize.disconnect();
      made.destroy();
      plot.current = null;
      tip.value = null;
    };
  }, [data, isDark]);

  const show = (visible: (i: number) => boolean) => {
    const next = new Set<number>();
    plot.current?.batch(() => {
      data.courses.forEach((_, i) => {
        if (!visible(i)) next.add(i);
        plot.current?.setSeries(i + 1, { show: visible(i) });
      });
    });
    hidden.value = next;
  };
  const press = (event: MouseEvent, index: number) => {
    const alone = hidden.value.size === data.courses.length - 1 && !hidden.value.has(index);
    if (event.ctrlKey || event.metaKey || event.shiftKey) show((i) => alone || i === index);
    else show((i) => (i === index ? hidden.value.has(i) : !hidden.value.has(i)));
  };

  return (
    <div class="card">
      {data.histograms > 0 && (
        <p class="note warn card">
          {plural(data.histograms, "series has", "series have")} native histograms, which lines cannot show: take
          histogram_quantile(), histogram_avg() or histogram_count() of them.
        </p>
      )}
      {data.courses.length === 0 ? <p>The query is right and its result is empty: no {data.histograms ? "number" : "series"} in this range.</p> : (
        <>
          <div class="plot" ref={host} role="img" aria-label={`${plural(data.courses.length, "series", "series")}; the table has their values`}>
            {tip.value && <Readout tip={tip.value} data={data} />}
          </div>
          <p class="dim small">
            A point each {formatDuration(stepMs)}. Drag to zoom. Below, a click hides a series; with Ctrl or Shift it hides all others.
          </p>
          <ul class="legend" aria-label="Series">
            {data.courses.map((course, i) => (
              <li key={i}>
                <button type="button" aria-pressed={!hidden.value.has(i)} onClick={(e) => press(e, i)}>
                  <i style={{ background: colour(i, isDark) }} /><span><Series labels={course.labels} /></span>
                </button>
              </li>
            ))}
          </ul>
        </>
      )}
    </div>
  );
}

function Readout({ tip, data }: { tip: Tip; data: Courses }) {
  const course = data.courses[tip.series];
  const value = course?.values[tip.at];
  const time = data.times[tip.at];
  if (!course || value === null || value === undefined || time === undefined) return null;
  return (
    <div class="tip" style={{ left: `${tip.left}px`, top: `${tip.top}px` }}>
      <div class="dim">{formatLocal(time * 1000)}</div>
      <strong>{formatReadout(value)}</strong>
      <div>{formatSeries(course.labels)}</div>
    </div>
  );
}

function draw(parent: HTMLElement, data: Courses, isDark: boolean, tip: Signal<Tip | null>): uPlot {
  const style = getComputedStyle(document.documentElement);
  const axis: uPlot.Axis = {
    stroke: style.getPropertyValue("--dim"),
    grid: { stroke: style.getPropertyValue("--line"), width: 1 },
    ticks: { stroke: style.getPropertyValue("--line"), width: 1 },
    font: "12px system-ui, sans-serif",
  };
  const span = (data.times.at(-1) ?? 0) - (data.times[0] ?? 0);
  let nearest: number | null = null;
  const single = data.times.length < 2 || data.courses.every((c) => c.values.filter((v) => v !== null).length < 2);
  return new uPlot(
    {
      width: parent.clientWidth || 600,
      height: HEIGHT,
      legend: { show: false },
      scales: { y: { range: (_, low, high) => rangeOf(low, high) } },
      focus: { alpha: 0.35 },
      cursor: { focus: { prox: NEAR }, drag: { x: true, y: false, setScale: false } },
      axes: [
        { ...axis, space: 80, values: (_, times) => times.map((time) => tick(time, span)) },
        { ...axis, size: 64, values: (_, values) => values.map(formatShort) },
      ],
      series: [
        {},
        ...data.courses.map((course, i): uPlot.Series => ({
          label: formatSeries(course.labels),
          stroke: colour(i, isDark),
          width: 1.5,
          points: { show: single, size: 5 },
        })),
      ],
      hooks: {
        setSeries: [(_, index) => (nearest = index)],
        setCursor: [
          (u) => {
            const at = u.cursor.idx;
            const left = u.cursor.left ?? -1;
            if (nearest === null || nearest < 1 || at === null || at === undefined || left < 0) {
              tip.value = null;
              return;
            }
            const offset = u.bbox.left / devicePixelRatio;
            const right = left > u.over.clientWidth / 2;
            tip.value = { left: right ? Math.max(0, offset + left - 300) : offset + left + 14, top: (u.cursor.top ?? 0) + 20, series: nearest - 1, at };
          },
        ],
        setSelect: [
          (u) => {
            if (u.select.width < 5) return;
            const from = u.posToVal(u.select.left, "x");
            const to = u.posToVal(u.select.left + u.select.width, "x");
            change({ rangeMs: Math.max(1000, Math.round(to - from) * 1000), endMs: Math.round(to) * 1000 });
          },
        ],
      },
    },
    [data.times, ...data.courses.map((course) => course.values)],
    parent,
  );
}

/** Room above and below, also for a line that stands still. */
function rangeOf(low: number | null, high: number | null): [number, number] {
  if (low === null || high === null) return [0, 1];
  const pad = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  // Counts and rates do not go below zero, nor should their axis.
  return [low >= 0 && low - pad < 0 ? 0 : low - pad, high + pad];
}

function tick(time: number, span: number): string {
  const at = new Date(time * 1000);
  const clock = formatClock(at);
  const date = formatLocal(at.getTime()).slice(5, 10);
  if (span > 2 * 86_400) return clock === "00:00:00" ? date : `${date} ${clock.slice(0, 5)}`;
  if (clock === "00:00:00") return date;
  return span < 600 ? clock : clock.slice(0, 5);
}
