import { effect, signal } from "@preact/signals";
import en from "./en.json";
import zh from "./zh.json";

export type Language = "en" | "zh";
export type Key = keyof typeof en;
export type Params = Record<string, string | number>;

const CATALOGUES: Record<Language, Record<string, string>> = { en, zh };

function first(): Language {
  const kept = typeof localStorage === "undefined" ? null : localStorage.getItem("language");
  if (kept === "en" || kept === "zh") return kept;
  return typeof navigator !== "undefined" && navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

export const language = signal<Language>(first());

effect(() => {
  if (typeof document === "undefined") return;
  document.documentElement.lang = language.value === "zh" ? "zh-CN" : "en";
  localStorage.setItem("language", language.value);
});

/** Text of a key in the reader's language, `{name}` filled from params. */
export function t(key: Key, params?: Params): string {
  return fill(CATALOGUES[language.value][key] ?? key, params);
}

/** Text of a key made at run time (a state, a decision class); the fallback when there is none. */
export function named(prefix: string, name: string, fallback = name): string {
  return CATALOGUES[language.value][`${prefix}.${name}`] ?? fallback;
}

/** Put params into the `{name}` places of a text; `{n|one|many}` chooses by number. */
export function fill(text: string, params: Params = {}): string {
  return text.replace(/\{(\w+)(?:\|([^|}]*)\|([^}]*))?\}/g, (_, name: string, one?: string, many?: string) => {
    const value = params[name];
    if (one !== undefined) return String(Number(value) === 1 ? one : many);
    return value === undefined ? `{${name}}` : String(value);
  });
}

/** A `{en, zh}` name of the plant in the reader's language. */
export function nameOf(names: Record<string, string> | undefined, fallback: string): string {
  return names?.[language.value] ?? names?.["en"] ?? fallback;
}
