import { computed, signal } from "@preact/signals";

/** A screen and everything it shows, as the address after `#`: `/line/asm1?sel=...`. */
export interface Route { screen: string; parts: string[]; params: URLSearchParams }

function read(): Route {
  const text = typeof location === "undefined" ? "" : location.hash.replace(/^#\/?/, "");
  const cut = text.indexOf("?");
  const path = cut < 0 ? text : text.slice(0, cut);
  const parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  return {
    screen: parts[0] ?? "wall",
    parts: parts.slice(1),
    params: new URLSearchParams(cut < 0 ? "" : text.slice(cut + 1)),
  };
}

export const route = signal<Route>(read());
export const screen = computed(() => route.value.screen);

if (typeof window !== "undefined") window.addEventListener("hashchange", () => (route.value = read()));

/** Address of a screen. */
export function href(path: string, params: Record<string, string | undefined> = {}): string {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(params)) if (value !== undefined && value !== "") query.set(key, value);
  const text = query.toString();
  return `#/${path}${text ? `?${text}` : ""}`;
}

export function go(path: string, params: Record<string, string | undefined> = {}): void {
  location.hash = href(path, params);
}

/** Change parameters of the present screen without a new entry in the history. */
export function adjust(changes: Record<string, string | undefined>): void {
  const now = route.value;
  const params = Object.fromEntries(now.params) as Record<string, string | undefined>;
  const path = [now.screen, ...now.parts.map(encodeURIComponent)].join("/");
  history.replaceState(null, "", href(path, { ...params, ...changes }));
  route.value = read();
}
