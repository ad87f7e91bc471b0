// Values, durations and times as people read and write them.

const UNITS: [unit: string, ms: number][] = [
  ["y", 365 * 86_400_000],
  ["w", 7 * 86_400_000],
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1000],
  ["ms", 1],
];

/** The units of durations, the smallest first, with what they are called. */
export const DURATION_UNITS: [unit: string, name: string][] = [
  ["ms", "milliseconds"],
  ["s", "seconds"],
  ["m", "minutes"],
  ["h", "hours"],
  ["d", "days"],
  ["w", "weeks"],
  ["y", "years of 365 days"],
];

/** `1h30m` or a number of seconds as milliseconds; null for anything else, zero and negatives among it. */
export function parseDuration(text: string): number | null {
  const trimmed = text.trim();
  if (/^\d+(\.\d+)?$/.test(trimmed)) {
    const ms = Math.round(Number(trimmed) * 1000);
    return ms > 0 ? ms : null;
  }
  const parts = /^(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?$/.exec(trimmed);
  if (!parts) return null;
  const ms = UNITS.reduce((sum, [, unit], i) => sum + unit * Number(parts[i + 1] ?? 0), 0);
  return ms > 0 && Number.isSafeInteger(ms) ? ms : null;
}

/** The shortest text that [parseDuration] reads back; weeks and years only where nothing is left over. */
export function formatDuration(ms: number): string {
  let rest = Math.round(ms);
  let text = "";
  for (const [unit, size] of UNITS) {
    if ((unit === "y" || unit === "w") && rest % size !== 0) continue;
    const count = Math.floor(rest / size);
    if (count > 0) text += `${count}${unit}`;
    rest -= count * size;
  }
  return text || "0s";
}

/** How long something took. */
export function formatTook(seconds: number): string {
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${(seconds * 1000).toPrecision(3)} ms`;
  return `${seconds.toFixed(2)} s`;
}

export function formatCount(count: number): string {
  return count.toLocaleString("en");
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}

export function formatBytes(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  const power = Math.min(4, Math.floor(Math.log2(bytes) / 10));
  return `${(bytes / 1024 ** power).toFixed(1)} ${["", "Ki", "Mi", "Gi", "Ti"][power]}B`;
}

const SCALES: [size: number, suffix: string][] = [
  [1e12, "T"],
  [1e9, "G"],
  [1e6, "M"],
  [1e3, "k"],
];

/** A number for an axis: at most five figures and a suffix. */
export function formatShort(value: number): string {
  if (!Number.isFinite(value)) return value > 0 ? "+Inf" : value < 0 ? "-Inf" : "NaN";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e15 || size < 1e-4) return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
  const [scale, suffix] = SCALES.find(([scale]) => size >= scale) ?? [1, ""];
  return Number((value / scale).toPrecision(5)) + suffix;
}

/** A number for a reader: six figures, which is more than a graph can show. */
export function formatReadout(value: number): string {
  return Number.isFinite(value) ? String(Number(value.toPrecision(6))) : formatShort(value);
}

const two = (n: number) => String(n).padStart(2, "0");

/** `2026-11-24 22:40:05` in the browser's zone, with milliseconds if there are any. */
export function formatLocal(ms: number): string {
  const at = new Date(ms);
  const fraction = at.getMilliseconds() ? `.${String(at.getMilliseconds()).padStart(3, "0")}` : "";
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${formatClock(at)}${fraction}`;
}

export function formatClock(at: Date): string {
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** As an `<input type="datetime-local" step="1">` takes it. */
export function toLocalInput(ms: number): string {
  return formatLocal(Math.floor(ms / 1000) * 1000).replace(" ", "T");
}

/** Milliseconds since the epoch, or null if the field is empty. */
export function fromLocalInput(text: string): number | null {
  const ms = text ? new Date(text).getTime() : NaN;
  return Number.isNaN(ms) ? null : ms;
}

/** `2026-11-24 22:40:05` in UTC, as Prometheus writes it into addresses. */
export function formatUtc(ms: number): string {
  return new Date(ms).toISOString().slice(0, 19).replace("T", " ");
}

/** What [formatUtc] writes, RFC 3339, or seconds since the epoch; null for anything else. */
export function parseUtc(text: string): number | null {
  const trimmed = text.trim();
  if (/^\d+(\.\d+)?$/.test(trimmed)) return Math.round(Number(trimmed) * 1000);
  const parts = /^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d(?::\d\d(?:\.\d+)?)?)(Z|[+-]\d\d:\d\d)?$/.exec(trimmed);
  if (!parts) return null;
  const ms = Date.parse(`${parts[1]}T${parts[2]}${parts[3] ?? "Z"}`);
  return Number.isNaN(ms) ? null : ms;
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const LABEL = /^[a-zA-Z_][a-zA-Z0-9_]*$/;

/** A label set as a selector that finds it: also for names that need quotes. */
export function formatSeries(labels: Record<string, string>): string {
  const name = labels["__name__"] ?? "";
  const plain = NAME.test(name);
  const rest = Object.entries(labels)
    .filter(([label]) => label !== "__name__")
    .map(([label, value]) => `${LABEL.test(label) ? label : quote(label)}=${quote(value)}`);
  if (name && !plain) rest.unshift(quote(name));
  if (!rest.length) return plain ? name : "{}";
  return `${plain ? name : ""}{${rest.join(", ")}}`;
}

export function quote(text: string): string {
  return `"${text.replace(/[\\"]/g, "\\$&").replace(/\n/g, "\\n")}"`;
}
