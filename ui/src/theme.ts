// Dark or light: the system's choice, unless a button of a page has said otherwise.

import { signal } from "@preact/signals";
import { recall, remember } from "./lib/remembered";

const system = matchMedia("(prefers-color-scheme: dark)");

export const dark = signal(system.matches);

function paint(): void {
  const chosen = recall("theme");
  dark.value = chosen ? chosen === "dark" : system.matches;
  document.documentElement.dataset["theme"] = dark.value ? "dark" : "light";
}

export function startTheme(): void {
  system.addEventListener("change", paint);
  paint();
}

export function switchTheme(): void {
  remember("theme", dark.value ? "light" : "dark");
  paint();
}
