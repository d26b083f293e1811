import type { JSX } from "preact";
import type { Series } from "../api/types";
import { clock, dayTime, duration } from "../format";
import { t } from "../i18n";
import { condition, reasonText, REASONS, stateText } from "../state/condition";
import { shortPath, tail } from "../state/plant";
import { Empty, Scroll } from "../ui/parts";
import { late, type Late } from "./data";

/** A stretch of one value, seconds. */
export interface Stretch { from: number; to: number; text: string; tone: string }
export interface Ribbon { path: string; stretches: Stretch[]; restated: Late[] }

const CHANGES = 60;
const TONES = 4;
/** Narrower stretches of a span are drawn together with their neighbour. */
const NARROWEST = 1 / 1500;
const LABELLED = 0.05;

/** Signals that are read as words: texts, machine states and stop reasons. */
export const isRibbon = (path: string, kind: string): boolean =>
  kind === "text" || (kind === "state" && /^(state_current|stop_reason)$/.test(tail(path)));

function words(path: string, value: number | null | undefined, text: string | null | undefined): string {
  if (typeof text === "string") return text;
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  return tail(path) === "stop_reason" ? reasonText(value) : stateText(value);
}

function tone(path: string, value: number | null | undefined, text: string): string {
  if (tail(path) === "state_current") return `k-${condition(value ?? 0)}`;
  if (tail(path) === "stop_reason") return value ? `k-${condition("held", REASONS[value])}` : "k-idle";
  let hash = 0;
  for (const letter of text) hash = (hash * 31 + letter.charCodeAt(0)) % 9973;
  return `r${hash % TONES}`;
}

/** The samples of one signal as stretches, the last one open; equal neighbours are one. */
export function ribbon(series: Series): Ribbon {
  const stretches: Stretch[] = [];
  series.time_ms.forEach((ms, i) => {
    const value = series.value?.[i];
    const text = words(series.path, value, series.text?.[i]);
    const last = stretches[stretches.length - 1];
    if (last) last.to = ms / 1000;
    if (last?.text !== text) stretches.push({ from: ms / 1000, to: Infinity, text, tone: tone(series.path, value, text) });
    else last.to = Infinity;
  });
  return { path: series.path, stretches, restated: late(series) };
}

/** What a strip of a span shows: clipped, and very short stretches joined to the one before. */
export function visible(of: Ribbon, from: number, to: number): Stretch[] {
  const out: Stretch[] = [];
  for (const one of of.stretches) {
    if (one.to <= from || one.from >= to) continue;
    const last = out[out.length - 1];
    const clipped = { ...one, from: Math.max(from, one.from), to: Math.min(to, one.to) };
    if (last && clipped.to - clipped.from < (to - from) * NARROWEST) last.to = clipped.to;
    else out.push(clipped);
  }
  return out;
}

interface RibbonsProps { ribbons: Ribbon[]; from: number; to: number; inset: [number, number]; remove: (path: string) => void }

/** Texts and states over time as strips of words, with their changes as a table. */
export function Ribbons({ ribbons, from, to, inset, remove }: RibbonsProps): JSX.Element {
  const changes = ribbons
    .flatMap((one) => one.stretches.filter((s) => s.to > from && s.from < to).map((s) => ({ path: one.path, ...s })))
    .sort((a, b) => b.from - a.from);
  return (
    <section class="ribbons" aria-label={t("trend.ribbons")}>
      {ribbons.map((one) => (
        <div key={one.path} class="ribbon">
          <header>
            <b>{shortPath(one.path)}</b> <span>{one.stretches[one.stretches.length - 1]?.text ?? "–"}</span>
            <button type="button" class="quiet" aria-label={t("trend.removeOne", { signal: shortPath(one.path) })} onClick={() => remove(one.path)}>✕</button>
          </header>
          <div class="strip-of" style={{ marginLeft: `${inset[0]}px`, marginRight: `${inset[1]}px` }} aria-hidden="true">
            {visible(one, from, to).map((s) => (
              <i key={s.from} class={s.tone} title={`${s.text} · ${clock(s.from * 1000)} – ${clock(s.to * 1000)}`}
                style={{ left: `${(100 * (s.from - from)) / (to - from)}%`, width: `${(100 * (s.to - s.from)) / (to - from)}%` }}>
                {s.to - s.from > LABELLED * (to - from) ? s.text : ""}
              </i>
            ))}
          </div>
        </div>
      ))}
      <Scroll label={t("trend.ribbons")} class="short">
        <table class="tight">
          <thead><tr><th>{t("trend.since")}</th><th>{t("palette.signal")}</th><th>{t("trend.value")}</th><th class="num">{t("line.since")}</th></tr></thead>
          <tbody>
            {changes.slice(0, CHANGES).map((row) => (
              <tr key={`${row.path} ${row.from}`}><td><time title={dayTime(row.from * 1000)}>{clock(row.from * 1000)}</time></td><td>{shortPath(row.path)}</td><td>{row.text}</td><td class="num">{duration(Math.min(row.to, to) - row.from)}</td></tr>
            ))}
          </tbody>
        </table>
        {changes.length === 0 && <Empty text={t("trend.noSamples")} />}
      </Scroll>
    </section>
  );
}
