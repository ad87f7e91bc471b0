// What a browser keeps for this server. Storage may be forbidden or full: then nothing is remembered.

export function recall(name: string): string {
  try {
    return localStorage.getItem(`streamgate.${name}`) ?? "";
  } catch {
    return "";
  }
}

export function remember(name: string, value: string): void {
  try {
    localStorage.setItem(`streamgate.${name}`, value);
  } catch {
    // As said above.
  }
}
