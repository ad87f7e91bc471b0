// What the server's calls answer; docs/api.md is the reference.

export type LabelSet = Record<string, string>;

/** Seconds since the epoch, and the value as text, which also holds NaN and the infinities. */
export type Point = [time: number, value: string];

/** How a bucket's bounds are meant (0: open left, 1: open right, 2: both open, 3: both closed), its bounds, its count. */
export type Bucket = [rule: number, lower: string, upper: string, count: string];

export interface Histogram {
  count: string;
  sum: string;
  buckets?: Bucket[];
}

export type HistogramPoint = [time: number, histogram: Histogram];

export interface VectorSeries {
  metric: LabelSet;
  value?: Point;
  histogram?: HistogramPoint;
}

export interface MatrixSeries {
  metric: LabelSet;
  values?: Point[];
  histograms?: HistogramPoint[];
}

export interface PlanStep {
  depth: number;
  operator: string;
  start: number;
  end: number;
  evaluations: number;
  totalSeconds: number;
  ownSeconds: number;
  series: number;
  samples: number;
  selectedSeries?: number;
  readSamples?: number;
}

export interface Stats {
  timings: { evalTotalTime: number; execTotalTime: number; execQueueTime: number };
  samples: { totalQueryableSamples: number; peakSamples: number };
  series?: { selected: number };
  memory?: { peakBytes: number };
  plan?: PlanStep[];
}

export type QueryResult =
  | { resultType: "vector"; result: VectorSeries[]; stats?: Stats }
  | { resultType: "matrix"; result: MatrixSeries[]; stats?: Stats }
  | { resultType: "scalar" | "string"; result: Point; stats?: Stats };

export interface Metadata {
  type: string;
  help: string;
  unit: string;
}

/** A word of the language, from the tables that the server's parser itself reads. */
export interface Word {
  name: string;
  signature?: string;
  argTypes?: string[];
  variadic?: number;
  returnType?: string;
  doc: string;
  feature?: string;
  enabled: boolean;
}

export interface Language {
  functions: Word[];
  aggregations: Word[];
  keywords: Word[];
}
