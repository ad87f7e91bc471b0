// Time, range and step.

import { formatDuration, fromLocalInput, parseDuration, toLocalInput } from "../lib/format";
import { change, state } from "./model";
import { nextRange, RANGES_MS } from "./steps";

export function Controls() {
  const { tab, rangeMs, endMs, stepMs } = state.value;
  const shift = (by: number) => change({ endMs: (endMs ?? Date.now()) + by });
  const graph = tab === "graph";
  const stride = graph ? rangeMs / 2 : 60_000;
  return (
    <div class="row controls">
      {graph && (
        <span class="joined">
          <label>Range <DurationField name="Range" value={rangeMs} onChange={(ms) => ms && change({ rangeMs: ms })} /></label>
          <button type="button" aria-label="Shorter range" onClick={() => change({ rangeMs: nextRange(rangeMs, false) })}>−</button>
          <button type="button" aria-label="Longer range" onClick={() => change({ rangeMs: nextRange(rangeMs, true) })}>+</button>
        </span>
      )}
      <span class="joined">
        <label>
          {graph ? "Until" : "At"}
          <input
            type="datetime-local" step="1" value={endMs === null ? "" : toLocalInput(endMs)}
            title="In this browser's time zone; empty is now"
            onChange={(e) => change({ endMs: fromLocalInput(e.currentTarget.value) })}
          />
        </label>
        <button type="button" aria-label="Earlier" onClick={() => shift(-stride)}>◂</button>
        <button type="button" aria-label="Later" disabled={endMs === null} onClick={() => shift(stride)}>▸</button>
        <button type="button" aria-pressed={endMs === null} onClick={() => change({ endMs: null })}>Now</button>
      </span>
      {graph && (
        <label>Step <DurationField name="Step" value={stepMs} onChange={(ms) => change({ stepMs: ms })} /></label>
      )}
    </div>
  );
}

/** A duration; empty, if it may be, is "auto". */
function DurationField({ name, value, onChange }: { name: string; value: number | null; onChange: (ms: number | null) => void }) {
  return (
    <>
      <input
        class="short" type="text" list={`${name}-choices`} aria-label={name} placeholder="auto"
        value={value === null ? "" : formatDuration(value)}
        onChange={(e) => {
          const field = e.currentTarget;
          const ms = parseDuration(field.value);
          field.setCustomValidity(field.value.trim() && ms === null ? "A duration, such as 1h30m" : "");
          if (field.reportValidity()) onChange(ms);
          else return;
          if (ms === null && value !== null && name === "Range") field.value = formatDuration(value);
        }}
      />
      {name === "Range" && (
        <datalist id="Range-choices">{RANGES_MS.map((ms) => <option key={ms} value={formatDuration(ms)} />)}</datalist>
      )}
    </>
  );
}
