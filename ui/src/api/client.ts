// The one way to the server. Addresses are relative to the page, so that a route prefix needs no configuration.

/** Bytes of the UTF-8 text of an expression, from `start` to before `end`. */
export interface ByteRange {
  start: number;
  end: number;
}

export interface Answer<T> {
  data: T;
  warnings: string[];
  infos: string[];
}

/** The server answered, and what it says is no. */
export class Refused extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly errorType: string,
    readonly range: ByteRange | null,
    readonly hint: string | null,
  ) {
    super(message);
  }
}

/** Nobody answered. */
export class Unreachable extends Error {}

interface Envelope<T> {
  status?: string;
  data?: T;
  error?: string;
  errorType?: string;
  range?: ByteRange;
  hint?: string;
  warnings?: string[];
  infos?: string[];
}

export type Params = Record<string, string | string[] | null | undefined>;

function encode(params: Params): URLSearchParams {
  const form = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value === null || value === undefined) continue;
    for (const one of typeof value === "string" ? [value] : value) form.append(name, one);
  }
  return form;
}

/** Calls that only read, with parameters in the address. */
export function get<T>(path: string, params: Params, signal?: AbortSignal): Promise<Answer<T>> {
  const query = encode(params).toString();
  return ask<T>(query ? `${path}?${query}` : path, { signal: signal ?? null });
}

/** Calls that only read and whose parameters may be longer than an address can be. */
export function post<T>(path: string, params: Params, signal?: AbortSignal): Promise<Answer<T>> {
  return ask<T>(path, { method: "POST", body: encode(params), signal: signal ?? null });
}

/**
 * @throws Refused, Unreachable, and the DOMException "AbortError" if the signal says so
 */
async function ask<T>(address: string, init: RequestInit): Promise<Answer<T>> {
  let status = 0;
  let text: string;
  try {
    const response = await fetch(address, { cache: "no-store", ...init });
    status = response.status;
    text = await response.text();
  } catch (error) {
    if (init.signal?.aborted) throw new DOMException("superseded", "AbortError");
    throw new Unreachable(status ? "The connection broke while the answer was read." : "The server does not answer.", {
      cause: error,
    });
  }
  return open<T>(status, text);
}

/** The content of an answer. Something between us and the server may answer in its place, and in another form. */
export function open<T>(status: number, text: string): Answer<T> {
  let envelope: Envelope<T>;
  try {
    envelope = JSON.parse(text) as Envelope<T>;
  } catch {
    throw new Refused(`Status ${status}, and no JSON: is there a proxy in front of the server?`, status, "", null, null);
  }
  if (envelope?.status !== "success" || envelope.data === undefined) {
    const message = envelope?.error || `Status ${status} without a reason.`;
    throw new Refused(message, status, envelope?.errorType ?? "", envelope?.range ?? null, envelope?.hint ?? null);
  }
  return { data: envelope.data, warnings: envelope.warnings ?? [], infos: envelope.infos ?? [] };
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}
