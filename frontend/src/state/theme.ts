import { computed, effect, signal } from "@preact/signals";

export type Theme = "light" | "dark" | "auto";

function kept(): Theme {
  const value = typeof localStorage === "undefined" ? null : localStorage.getItem("theme");
  return value === "light" || value === "dark" ? value : "auto";
}

export const theme = signal<Theme>(kept());
const prefersDark = signal(false);

if (typeof window !== "undefined") {
  const query = window.matchMedia("(prefers-color-scheme: dark)");
  prefersDark.value = query.matches;
  query.addEventListener("change", () => (prefersDark.value = query.matches));
}

export const dark = computed(() => theme.value === "dark" || (theme.value === "auto" && prefersDark.value));

effect(() => {
  if (typeof document === "undefined") return;
  document.documentElement.dataset["theme"] = dark.value ? "dark" : "light";
  localStorage.setItem("theme", theme.value);
});

/** The colours that canvases draw with, read from the style sheet so that there is one source. */
export interface Ink {
  bg: string; panel: string; raised: string; line: string; text: string; muted: string; accent: string;
  ok: string; down: string; held: string; starved: string; blocked: string; setup: string;
  high: string; low: string; cells: string[]; bar: string; barEdge: string; font: string;
}

export const ink = computed<Ink>(() => {
  void dark.value; // the variables change with the theme
  const style = getComputedStyle(document.documentElement);
  const get = (name: string): string => style.getPropertyValue(`--${name}`).trim();
  return {
    bg: get("bg"), panel: get("panel"), raised: get("raised"), line: get("line"), text: get("text"),
    muted: get("muted"), accent: get("accent"), ok: get("ok"), down: get("down"), held: get("held"),
    starved: get("starved"), blocked: get("blocked"), setup: get("setup"), high: get("high"), low: get("low"),
    cells: [0, 1, 2, 3, 4].map((i) => get(`cell-${i}`)), bar: get("bar"), barEdge: get("bar-edge"),
    font: get("font"),
  };
});
