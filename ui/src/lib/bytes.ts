// The server counts bytes of UTF-8; editors count UTF-16 units.

/** The UTF-16 offset of a byte offset; the end of the text if it lies behind it. */
export function unitOf(text: string, byte: number): number {
  let seen = 0;
  for (let i = 0; i < text.length; i++) {
    if (seen >= byte) return i;
    const code = text.codePointAt(i) ?? 0;
    seen += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    if (code >= 0x10000) i++;
  }
  return text.length;
}

/** A range of bytes as a range of at least one unit, if the text has any. */
export function unitsOf(text: string, range: { start: number; end: number }): { from: number; to: number } {
  let from = unitOf(text, range.start);
  let to = Math.max(from, unitOf(text, range.end));
  if (from === to && to < text.length) to++;
  else if (from === to && from > 0) from--;
  return { from, to };
}
