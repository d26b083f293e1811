import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { get } from "../api/client";
import { dequantise, STALE } from "../api/frames";
import { live, stale } from "../api/live";
import type { Decision, Health, LineView, LiveValue } from "../api/types";
import { number, percent, whole, withUnit } from "../format";
import { language, named, t } from "../i18n";
import { adjust, go, href, route } from "../router";
import { condition, conditionText, isAbnormal } from "../state/condition";
import { centerName, firstLine, plant, shortPath, tags, tail, unitOf, units } from "../state/plant";
import { usePoll } from "../state/poll";
import { ink } from "../state/theme";
import { Chip, Empty, fit, Panel, Scroll, useSize } from "../ui/parts";
import { decisionClass, decisionStateText, triggerText } from "../schedule/words";
import { Output } from "../line/output";
import { Alarms } from "./alarms";
import { HIGH, LOW } from "./bands";
import { Painter } from "./draw";
import { feed, type Feed, unitStates } from "./feed";
import { best, blockAt, signalAt } from "./layout";
import { report } from "./measure";

const LIST = 60;

const zoneName = (zone: string): string => {
  const [line = "", cell = ""] = zone.split("/");
  if (line === cell) return centerName(line);
  const many = (plant.value?.lines.length ?? 0) > 1;
  return many ? `${centerName(line)} · ${named("cell", cell)}` : named("cell", cell);
};

interface Spot { signal: number; x: number; y: number }

/** What a signal says now, from the last frame: display precision only. */
function reading(now: Feed, signal: number): { text: string; state: string } {
  const table = tags.value;
  const code = now.bands.codes[signal] ?? STALE;
  if (!table || code >= STALE) return { text: "–", state: t(code === STALE ? "wall.stale" : "wall.never") };
  const value = dequantise(code, table.low[signal] ?? 0, table.high[signal] ?? 1);
  const z = now.bands.z(signal);
  const state = Number.isNaN(z)
    ? t("wall.learning")
    : Math.abs(z) < 3 ? t("wall.normal") : t(z > 0 ? "wall.above" : "wall.below", { z: Math.abs(z) > 10 ? "> 10" : Math.abs(z).toFixed(1) });
  return { text: withUnit(number(value), table.unit[signal]), state };
}

function Tip({ now, spot, width }: { now: Feed; spot: Spot; width: number }): JSX.Element {
  const path = tags.value?.path[spot.signal] ?? "";
  const [exact, setExact] = useState<LiveValue | null>(null);
  useEffect(() => {
    setExact(null);
    const abort = new AbortController();
    const load = (): void => {
      get<LiveValue[]>(`live/values?paths=${encodeURIComponent(path)}`, abort.signal)
        .then((rows) => setExact(rows[0] ?? null), () => undefined);
    };
    const first = window.setTimeout(load, 150);
    const timer = window.setInterval(load, 1000);
    return () => {
      abort.abort();
      window.clearTimeout(first);
      window.clearInterval(timer);
    };
  }, [path]);
  const { text, state } = reading(now, spot.signal);
  const unit = tags.value?.unit[spot.signal] ?? "";
  const value = exact?.text ?? (exact && exact.value !== null ? `${withUnit(number(exact.value, 5), unit)}` : text);
  const style = { left: `${Math.min(spot.x + 14, width - 250)}px`, top: `${spot.y + 16}px` };
  return (
    <div class="tip" style={style}>
      <strong>{tail(path)}</strong>
      <span>{named("device", tail(unitOf(path)))}</span>
      <b>{value}</b>
      <span>{state}</span>
    </div>
  );
}

function Canvas({ now, onSpeak }: { now: Feed; onSpeak: (text: string) => void }): JSX.Element {
  const [hold, size] = useSize<HTMLDivElement>();
  const canvas = useRef<HTMLCanvasElement>(null);
  const [spot, setSpot] = useState<Spot | null>(null);
  const zoom = Number(route.value.params.get("zoom") ?? 0);
  const signals = now.bands.size;
  const layout = useMemo(() => {
    return best(now.devices, signals, size.width, size.height, zoom);
  }, [now, size.width, size.height, zoom]);
  const palette = ink.value;
  useEffect(() => {
    if (!canvas.current || size.width === 0) return;
    const pen = fit(canvas.current, size.width, layout.height);
    const painter = new Painter(pen, layout, now.devices, palette, conditionText, zoneName, signals);
    let veiled = false;
    let queued = false;
    const paint = (): void => {
      queued = false;
      if (veiled) painter.ground(size.width);
      veiled = false;
      painter.cells(now.bands);
      painter.heads(unitStates.peek());
    };
    painter.ground(size.width);
    paint();
    const stopFrames = live.onWall((frame) => {
      if (!queued) requestAnimationFrame(paint);
      queued = true;
      report(frame);
    });
    const stopStale = stale.subscribe((old) => {
      if (old && !veiled) {
        painter.veil(size.width);
        veiled = true;
      }
    });
    return () => {
      stopFrames();
      stopStale();
    };
  }, [now, layout, palette, size.width, language.value]);
  const point = (event: MouseEvent): Spot | null => {
    const signal = signalAt(layout, now.devices, event.offsetX, event.offsetY);
    return signal < 0 ? null : { signal, x: event.offsetX, y: event.offsetY };
  };
  const open = (signal: number): void => {
    const path = tags.value?.path[signal];
    if (path) go("trend", { s: path });
  };
  const click = (event: MouseEvent): void => {
    const hit = point(event);
    if (hit) return open(hit.signal);
    const block = blockAt(layout, event.offsetX, event.offsetY);
    const unit = block && units.value[now.devices[block.device]?.unit ?? -1];
    if (unit?.counted) go(`line/${unit.line}`, { sel: unit.path });
  };
  const speak = (signal: number): void => {
    const { text, state } = reading(now, signal);
    onSpeak(`${shortPath(tags.value?.path[signal] ?? "")}: ${text}, ${state}`);
  };
  const key = (event: KeyboardEvent): void => {
    if (event.key === "+" || event.key === "=") return adjust({ zoom: String(zoom + 1) });
    if (event.key === "-") return adjust({ zoom: String(zoom - 1) });
    if (event.key === "Enter" && spot) return open(spot.signal);
    if (event.key === "Escape") return setSpot(null);
    const next = walk(event.key);
    if (next < 0) return;
    event.preventDefault();
    setSpot({ signal: next, x: layout.x[next] ?? 0, y: layout.y[next] ?? 0 });
    speak(next);
  };
  const walk = (name: string): number => {
    const from = spot?.signal ?? now.devices[0]?.signals[0] ?? -1;
    if (!spot && name.startsWith("Arrow")) return from;
    const owner = layout.owner[from] ?? 0;
    const list = now.devices[owner]?.signals ?? [];
    const at = list.indexOf(from);
    const columns = layout.blocks[owner]?.columns ?? 1;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[name];
    if (step === undefined) return -1;
    const inside = list[at + step];
    if (inside !== undefined) return inside;
    const neighbour = now.devices[owner + Math.sign(step)]?.signals;
    return (step > 0 ? neighbour?.[0] : neighbour?.[neighbour.length - 1]) ?? from;
  };
  const mark = spot && { left: `${layout.x[spot.signal]}px`, top: `${layout.y[spot.signal]}px`,
    width: `${layout.cell - 1}px`, height: `${layout.cell - 1}px` };
  return (
    <div class="wall-hold" ref={hold}>
      <canvas ref={canvas} tabIndex={0} role="application" aria-label={t("wall.canvas", { n: signals })}
        aria-describedby="wall-keys" onMouseMove={(event) => setSpot(point(event))} onMouseLeave={() => setSpot(null)}
        onClick={click} onKeyDown={key} onBlur={() => setSpot(null)} />
      {mark && <div class="mark" style={mark} />}
      {spot && <Tip now={now} spot={spot} width={size.width} />}
    </div>
  );
}

interface Odd { href: string; place: string; what: string; chip: JSX.Element; rank: number; key: string }

/** Units and signals that deserve a look, worst first, and how many units nothing is known of. */
function odd(now: Feed): { rows: Odd[]; signals: number; units: number; unknown: number } {
  const rows: Odd[] = [];
  let unknown = 0;
  const rank = { down: 0, held: 1, waiting: 3 } as Record<string, number>;
  const states = unitStates.value;
  units.value.forEach((unit, i) => {
    const of = condition(states[i] ?? 0);
    if (of === "unknown") unknown++;
    if (!isAbnormal(of) || of === "unknown") return;
    rows.push({
      key: unit.path, place: named("device", unit.id), what: named("cell", unit.cell, centerName(unit.cell)), chip: <Chip of={of} />, rank: rank[of] ?? 4,
      href: unit.counted ? href(`line/${unit.line}`, { sel: unit.path }) : href("schedule", { row: unit.path }),
    });
  });
  const stopped = rows.length;
  let signals = 0;
  const { bands } = now;
  for (let i = 0; i < bands.size; i++) {
    const look = bands.look[i];
    if (look !== HIGH && look !== LOW) continue;
    signals++;
    const path = tags.value?.path[i] ?? "";
    const { text, state } = reading(now, i);
    rows.push({
      key: path, place: named("device", tail(unitOf(path))), what: `${tail(path)} ${text}`, rank: 2 - Math.min(Math.abs(bands.z(i)), 30) / 40,
      chip: <span class={`chip ${look === HIGH ? "k-high" : "k-low"}`}>{look === HIGH ? "▲" : "▼"} {state}</span>,
      href: href("trend", { s: path }),
    });
  }
  rows.sort((a, b) => a.rank - b.rank || a.key.localeCompare(b.key));
  return { rows, signals, units: stopped, unknown };
}

function useEvery(ms: number): void {
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = window.setInterval(() => tick((n) => n + 1), ms);
    return () => window.clearInterval(timer);
  }, [ms]);
}

function OddOnes({ now }: { now: Feed }): JSX.Element {
  useEvery(1000);
  void unitStates.value;
  const { rows, signals, units: stopped, unknown } = odd(now);
  return (
    <Panel title={t("wall.odd")} class="grow" extra={<span class="count">{t("wall.oddCount", { units: stopped, signals })}</span>}>
      <Scroll label={t("wall.odd")}>
        <table>
          <thead><tr><th>{t("wall.place")}</th><th>{t("wall.what")}</th><th>{t("wall.how")}</th></tr></thead>
          <tbody>
            {rows.slice(0, LIST).map((row) => (
              <tr key={row.key}><th scope="row"><a href={row.href}>{row.place}</a></th><td>{row.what}</td><td>{row.chip}</td></tr>
            ))}
          </tbody>
        </table>
        {rows.length === 0 && <Empty text={unknown > 0 ? t("wall.knownNormal", { units: unknown }) : t("wall.allNormal")} />}
      </Scroll>
    </Panel>
  );
}

function NextDecision(): JSX.Element {
  const { data } = usePoll<Decision[]>("decisions?limit=20", 2000);
  const open = data?.find((row) => row.state.startsWith("waiting"));
  return (
    <Panel title={t("wall.next")} class="nextone" extra={<a href={href("schedule")}>{t("wall.toSchedule")}</a>}>
      {open ? (
        <a class="next wants" href={href("schedule", { d: open.id })}>
          <strong>{decisionClass(open)}</strong>
          <span>{triggerText(open)}</span>
          <em>{decisionStateText(open)}</em>
        </a>
      ) : <Empty text={t(data ? "wall.noneWaiting" : "common.loading")} />}
    </Panel>
  );
}

interface Parts { path: string; oee_index?: number | null; quality_ratio?: number | null; flags?: string[] }
/** Less observed time than this says nothing about takt and OEE. */
const ENOUGH = 600_000;
interface Kpi extends Partial<Parts> { from_ms?: number; to_ms?: number; units?: Parts[]; first_pass_yield?: number | null }

function Strip(): JSX.Element {
  const line = firstLine.value;
  const view = usePoll<LineView>(line ? `line/${line}` : null, 2000).data;
  const kpi = usePoll<Kpi>(line ? `kpi?line=${line}` : null, 10_000).data;
  const health = usePoll<Health>("health", 2000).data;
  const neck = view?.bottleneck;
  const seen = !kpi || kpi.to_ms === undefined || kpi.from_ms === undefined || kpi.to_ms - kpi.from_ms >= ENOUGH;
  const parts = kpi?.units?.[0] ?? kpi;
  const slow = seen && view?.takt_s && view.takt_goal_s ? view.takt_s > 1.1 * view.takt_goal_s : false;
  return (
    <dl class="strip">
      <Output of={view?.output} />
      <div class={slow ? "attention" : ""}><dt>{t("kpi.takt")}</dt>
        <dd>{seen ? withUnit(number(view?.takt_s), "s") : <small>{t("kpi.notEnough")}</small>} <small>{t("kpi.goal", { s: number(view?.takt_goal_s) })}</small></dd></div>
      <div><dt>{t("kpi.oee")}</dt><dd>{seen ? percent(parts?.oee_index) : <small>{t("kpi.notEnough")}</small>}
        {seen && !!parts?.flags?.length && <span class="over" role="img" title={t("kpi.above")} aria-label={t("kpi.above")}> ▲</span>}</dd></div>
      <div><dt>{t("kpi.fpy")}</dt><dd>{percent(kpi?.first_pass_yield ?? kpi?.units?.[0]?.quality_ratio, 1)}</dd></div>
      <div><dt>{t("kpi.bottleneck")}</dt>
        <dd>{neck?.path ? <a href={href(`line/${line}`, { sel: neck.path })}>{tail(neck.path)}</a> : "–"} <small>{neck ? percent(neck.confidence) : ""}</small></dd></div>
      <div><dt>{t("kpi.signals")}</dt><dd>{whole(health?.signals)} <small>{t("kpi.rate", { n: whole(health?.rate) })}</small></dd></div>
      <div class={health && health.stale > 0 ? "attention" : ""}><dt>{t("kpi.stale")}</dt><dd>{whole(health?.stale)}</dd></div>
    </dl>
  );
}

export function WallScreen(): JSX.Element {
  const now = feed.value;
  const [speech, setSpeech] = useState("");
  const hz = Number(route.value.params.get("hz") ?? 4);
  useEffect(() => live.show({ view: "wall", hz: Math.max(1, Math.min(10, hz)) }), [hz]);
  const zoom = Number(route.value.params.get("zoom") ?? 0);
  return (
    <div class="wall screen">
      <h1 class="sr">{t("nav.wall")}</h1>
      <Strip />
      <section class="wall-main" aria-label={t("nav.wall")}>
        <div class="legend">
          <span><i class="cell n" />{t("wall.legend.normal")}</span>
          <span><i class="cell h" />{t("wall.legend.above")}</span>
          <span><i class="cell l" />{t("wall.legend.below")}</span>
          <span><i class="cell s" />{t("wall.legend.stale")}</span>
          <span class="space" />
          <span id="wall-keys" class="muted">{t("wall.keys")}</span>
          <button type="button" onClick={() => adjust({ zoom: String(zoom - 1) })} aria-label={t("wall.smaller")}>−</button>
          <button type="button" onClick={() => adjust({ zoom: String(zoom + 1) })} aria-label={t("wall.larger")}>+</button>
        </div>
        {now ? <Canvas now={now} onSpeak={setSpeech} /> : <Empty text={t("common.loading")} />}
      </section>
      <aside class="side" aria-label={t("wall.side")}>
        <NextDecision />
        <Alarms />
        {now && <OddOnes now={now} />}
      </aside>
      <div class="sr" aria-live="polite">{speech}</div>
    </div>
  );
}
