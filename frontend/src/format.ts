import { signal } from "@preact/signals";
import { language, t } from "./i18n";

/** The plant's own time zone: people on the floor read plant time, wherever the browser stands. */
export const zone = signal<string | undefined>(undefined);

const formats = new Map<string, Intl.DateTimeFormat>();

function time(ms: number, key: string, options: Intl.DateTimeFormatOptions): string {
  if (!Number.isFinite(ms)) return "–";
  const locale = language.value === "zh" ? "zh-CN" : "en-GB";
  const id = `${locale}|${zone.value}|${key}`;
  let format = formats.get(id);
  if (!format) {
    format = new Intl.DateTimeFormat(locale, zone.value ? { ...options, timeZone: zone.value } : options);
    formats.set(id, format);
  }
  return format.format(ms);
}

export const clock = (ms: number): string =>
  time(ms, "c", { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
export const hourMinute = (ms: number): string =>
  time(ms, "h", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
/** Day and time of day, `2 Mar 10:47`; the month is a word, since 02/03 is another day elsewhere. */
export const dayTime = (ms: number): string =>
  time(ms, "d", { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" }).replace(",", "");
export const day = (ms: number): string => time(ms, "D", { weekday: "short", month: "short", day: "numeric" });

/** A number with as many digits as its size deserves; an en dash for none. */
export function number(value: number | null | undefined, digits = 3): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const decimals = size === 0 || Number.isInteger(value) ? 0 : Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
  return value.toLocaleString(language.value === "zh" ? "zh-CN" : "en-GB", {
    maximumFractionDigits: Math.min(decimals, 6),
  });
}

/** A number with its unit; "1" is the unit of plain numbers and is not shown. */
export const withUnit = (text: string, unit: string | undefined): string =>
  unit && unit !== "1" && text !== "–" ? `${text} ${unit}` : text;

export const whole = (value: number | null | undefined): string =>
  value === null || value === undefined || !Number.isFinite(value) ? "–" : number(Math.round(value));
export const percent = (value: number | null | undefined, digits = 0): string =>
  value === null || value === undefined || !Number.isFinite(value) ? "–" : `${(100 * value).toFixed(digits)} %`;

/** Seconds as people say them: `48 s`, `12 min`, `3 h 05`, `2 d 4 h`; the sign is kept. */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const s = Math.abs(seconds);
  const sign = seconds < 0 && s >= 0.5 ? "−" : "";
  if (s < 99.5) return sign + t("duration.s", { n: Math.round(s) });
  const minutes = Math.round(s / 60);
  if (minutes < 100) return sign + t("duration.min", { n: minutes });
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return sign + t("duration.h", { n: hours, min: String(minutes % 60).padStart(2, "0") });
  return sign + t("duration.d", { n: Math.floor(hours / 24), h: hours % 24 });
}

/** Minutes by which the plant's zone is ahead of UTC at an instant. */
function ahead(ms: number): number {
  if (!zone.value) return -new Date(ms).getTimezoneOffset();
  const parts = new Intl.DateTimeFormat("en-GB", {
    timeZone: zone.value, hourCycle: "h23", year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric",
  }).formatToParts(ms);
  const at = (type: string): number => Number(parts.find((part) => part.type === type)?.value);
  const local = Date.UTC(at("year"), at("month") - 1, at("day"), at("hour"), at("minute"));
  return Math.round((local - Math.floor(ms / 60_000) * 60_000) / 60_000);
}

/** Text of a `datetime-local` field for an instant, in plant time like everything on the screen. */
export const toField = (ms: number): string => new Date(ms + ahead(ms) * 60_000).toISOString().slice(0, 16);

/** The instant that a `datetime-local` field in plant time means. */
export function fromField(text: string): number {
  const naive = Date.parse(`${text}Z`);
  const first = naive - ahead(naive) * 60_000;
  return naive - ahead(first) * 60_000;
}

/** The last midnight of the plant before an instant. */
export function midnight(ms: number): number {
  const shift = ahead(ms) * 60_000;
  return Math.floor((ms + shift) / 86_400_000) * 86_400_000 - shift;
}

/** A time of day, with its day when that is another than the day of `beside`. */
export const timeBeside = (ms: number, beside: number): string =>
  Number.isFinite(ms) && Number.isFinite(beside) && midnight(ms) !== midnight(beside) ? dayTime(ms) : hourMinute(ms);
