import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { download, get, query } from "../api/client";
import { STALE_QUALITY } from "../api/frames";
import { live, type LiveEvent, plantMs, stale } from "../api/live";
import type { Decision, PastEvent, Series } from "../api/types";
import { clock, dayTime, number, zone } from "../format";
import { language, named, t } from "../i18n";
import { adjust, route } from "../router";
import { reasonText, stateText } from "../state/condition";
import { kindName, shortPath, tagIndex, tags, tail, unitOf } from "../state/plant";
import { ink } from "../state/theme";
import { decisionClass, triggerText } from "../schedule/words";
import { Empty, Panel, Problem, Scroll, useSize } from "../ui/parts";
import { find } from "../ui/search";
import { isRibbon, ribbon, type Ribbon, Ribbons } from "./ribbon";
import { align, append, forget, type Late, restatedIn, statistics, trace, type Trace } from "./data";

const MOST = 8;
const SPANS: [string, number][] = [["5m", 300], ["15m", 900], ["1h", 3600], ["8h", 28_800], ["1d", 86_400], ["7d", 604_800], ["30d", 2_592_000]];
const MANY_POINTS = 1600;
const REFRESH_MS = 250;
const WORDS_MS = 3000;
const NO_INSET: [number, number] = [0, 0];

interface Mark { time: number; text: string; kind: string }
interface Range { from: number; to: number }

const colour = (i: number): string => getComputedStyle(document.documentElement).getPropertyValue(`--trace-${i % MOST}`).trim();

/** Vertical marks of decisions and events, and bands where late rows restated the trend, drawn into the chart. */
function overlay(marks: { current: Mark[] }, late: { current: Late[] }): uPlot.Plugin {
  return {
    hooks: {
      drawClear: (plot) => {
        const pen = plot.ctx;
        pen.save();
        pen.fillStyle = ink.peek().held;
        for (const span of late.current) {
          const left = Math.max(plot.valToPos(span.from, "x", true), plot.bbox.left);
          const right = Math.min(plot.valToPos(span.to, "x", true), plot.bbox.left + plot.bbox.width);
          if (right < left) continue;
          const width = Math.max(right - left, 2 * devicePixelRatio);
          pen.globalAlpha = 0.12;
          pen.fillRect(left, plot.bbox.top, width, plot.bbox.height);
          pen.globalAlpha = 1;
          pen.fillRect(left, plot.bbox.top + plot.bbox.height - 4 * devicePixelRatio, width, 4 * devicePixelRatio);
        }
        pen.restore();
      },
      draw: (plot) => {
        const pen = plot.ctx;
        pen.save();
        pen.strokeStyle = ink.peek().held;
        pen.fillStyle = ink.peek().held;
        pen.lineWidth = Math.max(1, devicePixelRatio);
        pen.setLineDash([4, 3]);
        for (const mark of marks.current) {
          const x = plot.valToPos(mark.time, "x", true);
          if (x < plot.bbox.left || x > plot.bbox.left + plot.bbox.width) continue;
          pen.beginPath();
          pen.moveTo(x, plot.bbox.top);
          pen.lineTo(x, plot.bbox.top + plot.bbox.height);
          pen.stroke();
          pen.fillRect(x - 3, plot.bbox.top, 6, 6);
        }
        pen.restore();
      },
    },
  };
}

function options(traces: readonly Trace[], width: number, height: number, marks: { current: Mark[] }, late: { current: Late[] }, onZoom: (range: Range) => void): uPlot.Options {
  const palette = ink.peek();
  const units = [...new Set(traces.map((one) => one.unit || "-"))];
  const series: uPlot.Series[] = [{}];
  const bands: uPlot.Band[] = [];
  traces.forEach((one, i) => {
    const stroke = colour(i);
    const base = { scale: one.unit || "-", points: { show: false }, spanGaps: true } satisfies uPlot.Series;
    const path = one.step && uPlot.paths.stepped ? { paths: uPlot.paths.stepped({ align: 1 }) } : {};
    series.push({ ...base, width: 0, stroke }, { ...base, width: 0, stroke });
    series.push({ ...base, ...path, width: 1.6, stroke, label: shortPath(one.path) });
    if (one.banded) bands.push({ series: [3 * i + 2, 3 * i + 1], fill: `${stroke}33` });
  });
  const axis = { stroke: palette.muted, grid: { stroke: palette.line, width: 0.6 }, ticks: { stroke: palette.line, width: 0.6 }, font: `11px ${palette.font}` };
  const name = zone.peek();
  return {
    width, height, series, bands, legend: { show: false }, plugins: [overlay(marks, late)],
    ...(name ? { tzDate: (seconds: number) => uPlot.tzDate(new Date(seconds * 1e3), name) } : {}),
    cursor: { drag: { x: true, y: false, setScale: false }, focus: { prox: 24 } },
    scales: Object.fromEntries(units.map((unit) => [unit, {}])),
    axes: [
      { ...axis, values: (_, splits) => splits.map((s, i) => (i === 0 || (splits[i - 1] ?? 0) % 86_400 > s % 86_400 ? dayTime(s * 1000) : clock(s * 1000))), space: 90 },
      ...units.slice(0, 3).map((unit, i) => ({ ...axis, scale: unit, side: i % 2 ? 1 : 3, size: 62, label: unit === "-" ? "" : unit, labelSize: 16, labelFont: `11px ${palette.font}`, ...(i ? { grid: { show: false } } : {}) }) as uPlot.Axis),
    ],
    hooks: {
      setSelect: [(plot) => {
        if (plot.select.width > 8)
          onZoom({ from: plot.posToVal(plot.select.left, "x"), to: plot.posToVal(plot.select.left + plot.select.width, "x") });
        plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
      }],
    },
  };
}

interface ChartProps { traces: Trace[]; version: number; range: Range; marks: Mark[]; late: Late[]; onZoom: (range: Range | null) => void; onCursor: (time: number | null) => void; onInset: (px: [number, number]) => void }

function Chart({ traces, version, range, marks, late, onZoom, onCursor, onInset }: ChartProps): JSX.Element {
  const [hold, size] = useSize<HTMLDivElement>();
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const kept = useRef<Mark[]>(marks);
  kept.current = marks;
  const restated = useRef<Late[]>(late);
  restated.current = late;
  const palette = ink.value;
  const shape = traces.map((one) => `${one.path}|${one.banded}|${one.unit}`).join();
  useEffect(() => {
    if (!host.current || size.width === 0 || traces.length === 0) return;
    const chart = new uPlot(options(traces, size.width, size.height, kept, restated, onZoom), align(traces) as uPlot.AlignedData, host.current);
    chart.setScale("x", { min: range.from, max: range.to });
    chart.over.addEventListener("mousemove", () => onCursor(chart.posToVal(chart.cursor.left ?? 0, "x")));
    chart.over.addEventListener("mouseleave", () => onCursor(null));
    plot.current = chart;
    return () => {
      plot.current = null;
      chart.destroy();
    };
  }, [shape, palette, size.width > 0]);
  useEffect(() => {
    if (plot.current && size.width > 0) plot.current.setSize(size);
  }, [size.width, size.height]);
  useEffect(() => {
    const chart = plot.current;
    if (!chart) return;
    chart.batch(() => {
      chart.setData(align(traces) as uPlot.AlignedData, false);
      chart.setScale("x", { min: range.from, max: range.to });
    });
    const { left, width } = chart.bbox;
    onInset([Math.round(left / devicePixelRatio), Math.round(chart.width - (left + width) / devicePixelRatio)]);
  }, [version, range.from, range.to, marks]);
  const key = (event: KeyboardEvent): void => {
    const span = range.to - range.from;
    const middle = (range.from + range.to) / 2;
    if (event.key === "ArrowLeft") onZoom({ from: range.from - span / 4, to: range.to - span / 4 });
    else if (event.key === "ArrowRight") onZoom({ from: range.from + span / 4, to: range.to + span / 4 });
    else if (event.key === "+") onZoom({ from: middle - span / 4, to: middle + span / 4 });
    else if (event.key === "-") onZoom({ from: middle - span, to: middle + span });
    else if (event.key === "Escape" || event.key.toLowerCase() === "n") onZoom(null);
    else return;
    event.preventDefault();
  };
  return (
    <div class="chart" ref={hold} tabIndex={0} role="application" aria-label={t("trend.chart", { n: traces.length })} aria-describedby="trend-keys" onKeyDown={key}
      onDblClick={() => onZoom(null)}>
      <div ref={host} />
    </div>
  );
}

/** Value of a trace at or before an instant. */
function valueAt(one: Trace, time: number): number | null {
  let low = 0;
  let high = one.time.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((one.time[middle] as number) <= time) low = middle + 1;
    else high = middle;
  }
  return low > 0 ? (one.middle[low - 1] ?? null) : null;
}

function Legend({ traces, range, cursor, remove }: { traces: Trace[]; range: Range; cursor: number | null; remove: (path: string) => void }): JSX.Element {
  return (
    <Scroll label={t("trend.table")} class="legend-table">
      <table>
        <thead>
          <tr><th>{t("palette.signal")}</th><th class="num">{cursor === null ? t("trend.last") : clock(cursor * 1000)}</th><th class="num">{t("trend.min")}</th><th class="num">{t("trend.mean")}</th><th class="num">{t("trend.max")}</th><th class="num">{t("trend.points")}</th><th>{t("trend.unit")}</th><th><span class="sr">{t("trend.remove")}</span></th></tr>
        </thead>
        <tbody>
          {traces.map((one, i) => {
            const facts = statistics(one, range.from, range.to);
            return (
              <tr key={one.path}>
                <th scope="row"><i class={`trace t${i % MOST}`} />{shortPath(one.path)}<small class="path">{one.path}</small></th>
                <td class="num">{number(cursor === null ? facts.last : valueAt(one, cursor), 5)}</td>
                <td class="num">{number(facts.low, 5)}</td><td class="num">{number(facts.mean, 5)}</td><td class="num">{number(facts.high, 5)}</td>
                <td class="num">{facts.n}</td><td>{one.unit}</td>
                <td><button type="button" class="quiet" aria-label={t("trend.removeOne", { signal: shortPath(one.path) })} onClick={() => remove(one.path)}>✕</button></td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </Scroll>
  );
}

function Picker({ chosen, add }: { chosen: string[]; add: (path: string) => void }): JSX.Element {
  const [text, setText] = useState("");
  const all = useMemo(() => (tags.value?.path ?? []).map((path) => ({ text: path, kind: "", href: path })), [tags.value]);
  const sibling = chosen[0] ? `${unitOf(chosen[0]).split("/").slice(-1)[0]} ` : "";
  const hits = useMemo(() => find(all, text || sibling, 60).filter((hit) => !chosen.includes(hit.text)), [all, text, sibling, chosen.join()]);
  return (
    <Panel title={t("trend.add")} class="grow">
      <input type="search" value={text} placeholder={t("trend.find")} aria-label={t("trend.find")} onInput={(event) => setText(event.currentTarget.value)} />
      <Scroll label={t("trend.add")}>
        <ul class="picks">
          {hits.map((hit) => (
            <li key={hit.text}><button type="button" disabled={chosen.length >= MOST} onClick={() => add(hit.text)}><b>{hit.text.split("/").slice(-1)[0]}</b><small>{hit.text.split("/").slice(-3, -1).join(" · ")}</small></button></li>
          ))}
        </ul>
      </Scroll>
    </Panel>
  );
}

const eventText = (event: PastEvent): string => {
  const { payload } = event;
  if (event.kind === "decision") return `${decisionClass(payload as unknown as Decision)}: ${triggerText(payload as unknown as Decision)}`;
  const what = typeof payload["state"] === "string" ? stateText(payload["state"]) : named("event", event.kind);
  const why = typeof payload["reason"] === "string" && payload["reason"] !== "NONE" ? ` · ${reasonText(payload["reason"])}` : "";
  return `${tail(event.path)}: ${what}${why}`;
};

/** Decisions of the span and the state changes of the shown units, from the records. */
function useMarks(units: readonly string[], range: Range): Mark[] {
  const [marks, setMarks] = useState<Mark[]>([]);
  // A live span moves on by itself: ask again when it has moved by a fifth, or when something happened.
  const step = Math.max(5, (range.to - range.from) / 5);
  const [news, setNews] = useState(0);
  const from = Math.floor(range.from / step) * step;
  const to = Math.ceil(range.to / step) * step;
  useEffect(() => live.onEvent((event: LiveEvent) => {
    if (event.kind === "decision" || units.includes(event.path)) setNews((n) => n + 1);
  }), [units.join()]);
  useEffect(() => {
    const abort = new AbortController();
    const timer = window.setTimeout(() => {
      get<PastEvent[]>(`events/recent?${query({ from: Math.round(from * 1000), to: Math.round(to * 1000), paths: units.join(",") || undefined, limit: 500 })}`, abort.signal)
        .then((rows) => setMarks(rows.map((row) => ({ time: row.time_ms / 1000, kind: row.kind, text: eventText(row) }))), () => undefined);
    }, 200);
    return () => {
      window.clearTimeout(timer);
      abort.abort();
    };
  }, [units.join(), from, to, news, language.value]);
  return marks;
}

const readTime = (text: string | null): number | null => (text && Number.isFinite(Number(text)) ? Number(text) / 1000 : null);

export function TrendScreen(): JSX.Element {
  const params = route.value.params;
  const paths = useMemo(() => (params.get("s") ?? "").split(",").filter(Boolean).slice(0, MOST), [params.get("s")]);
  const span = Number(params.get("span")) || 900;
  const fixed = { from: readTime(params.get("from")), to: readTime(params.get("to")) };
  const isLive = fixed.from === null || fixed.to === null;
  const [traces, setTraces] = useState<Trace[]>([]);
  const [version, setVersion] = useState(0);
  const [error, setError] = useState("");
  const [cursor, setCursor] = useState<number | null>(null);
  const [end, setEnd] = useState(plantMs.peek() / 1000 || Date.now() / 1000);
  const range: Range = isLive ? { from: end - span, to: end } : { from: fixed.from as number, to: fixed.to as number };
  const units = useMemo(() => [...new Set(paths.map(unitOf))], [paths]);
  const marks = useMarks(units, range);
  const kindOf = (path: string): string => kindName(tags.value?.kind[tagIndex.value.get(path) ?? -1]);
  const known = tags.value !== null;
  const lines = useMemo(() => paths.filter((path) => !isRibbon(path, kindOf(path))), [paths, known]);
  const strips = useMemo(() => paths.filter((path) => isRibbon(path, kindOf(path))), [paths, known]);
  const [ribbons, setRibbons] = useState<Ribbon[]>([]);
  const [inset, setInset] = useState<[number, number]>(NO_INSET);
  const from = isLive ? span : `${fixed.from}-${fixed.to}`;
  const ready = plantMs.value > 0;

  useEffect(() => {
    const abort = new AbortController();
    if (lines.length === 0) return setTraces([]);
    if (!known || (isLive && !ready)) return;
    const now = plantMs.peek() / 1000;
    const wanted = isLive ? { from: now - span, to: now } : range;
    get<{ series: Series[] }>(`series?${query({ paths: lines.join(","), from: Math.round(wanted.from * 1000), to: Math.round(wanted.to * 1000), points: MANY_POINTS })}`, abort.signal)
      .then((answer) => {
        setTraces(answer.series.map(trace));
        setVersion((n) => n + 1);
        setError("");
        if (isLive) setEnd(now);
      }, (problem: unknown) => !abort.signal.aborted && setError(problem instanceof Error ? problem.message : String(problem)));
    return () => abort.abort();
  }, [lines, from, ready, known]);

  // Words are asked for raw, and from before the span, so that it begins with a known value.
  useEffect(() => {
    if (strips.length === 0) return setRibbons([]);
    if (isLive && !ready) return;
    const abort = new AbortController();
    let timer = 0;
    const load = (): void => {
      const now = plantMs.peek() / 1000;
      const wanted = isLive ? { from: now - span, to: now } : range;
      const before = Math.max(wanted.to - wanted.from, 3600);
      get<{ series: Series[] }>(`series?${query({ paths: strips.join(","), from: Math.round((wanted.from - before) * 1000), to: Math.round(wanted.to * 1000) })}`, abort.signal)
        .then((answer) => {
          setRibbons(answer.series.map(ribbon));
          setError("");
          if (isLive && lines.length === 0) setEnd(now);
        }, (problem: unknown) => !abort.signal.aborted && setError(problem instanceof Error ? problem.message : String(problem)))
        .finally(() => {
          if (isLive && !abort.signal.aborted) timer = window.setTimeout(load, WORDS_MS);
        });
    };
    load();
    return () => {
      abort.abort();
      window.clearTimeout(timer);
    };
  }, [strips, from, ready, language.value]);

  useEffect(() => {
    const ids = lines.map((path) => tagIndex.value.get(path)).filter((id): id is number => id !== undefined);
    if (!isLive || ids.length === 0 || ids.length !== lines.length) return live.show({ view: "wall", hz: 2 });
    live.show({ view: "tags", ids, hz: 5 });
    let last = 0;
    return live.onTags((frame) => {
      if (frame.count !== traces.length) return;
      traces.forEach((one, i) => {
        if (((frame.quality[i] ?? 0) & STALE_QUALITY) === 0) append(one, frame.times[i] ?? 0, frame.values[i] ?? Number.NaN);
        forget(one, frame.timeMs / 1000 - span);
      });
      const now = performance.now();
      if (now - last < REFRESH_MS) return;
      last = now;
      setEnd(frame.timeMs / 1000);
      setVersion((n) => n + 1);
    });
  }, [lines, isLive, traces, tagIndex.value, span]);

  const set = (next: string[]): void => adjust({ s: next.join(",") || undefined });
  const zoom = (next: Range | null): void =>
    adjust(next ? { from: String(Math.round(next.from * 1000)), to: String(Math.round(next.to * 1000)) } : { from: undefined, to: undefined });
  const save = (): void => {
    download(`series?${query({ paths: paths.join(","), from: Math.round(range.from * 1000), to: Math.round(range.to * 1000) })}`, "text/csv", "trend.csv")
      .catch((problem: unknown) => setError(problem instanceof Error ? problem.message : String(problem)));
  };
  const inside = marks.filter((mark) => mark.time >= range.from && mark.time <= range.to).slice(-30).reverse();
  const late = restatedIn(lines.length > 0 ? [...traces, ...ribbons] : ribbons, range.from, range.to);
  const lateText = (span: Late): string => t("trend.restatedOne", { n: span.rows, from: dayTime(span.from * 1000), to: clock(span.to * 1000), at: dayTime(span.at * 1000) });
  const kinds = [...new Set(paths.map(kindOf))];
  return (
    <div class="trend screen">
      <div class="title">
        <h1>{t("nav.trend")}</h1>
        <div class="segments" role="group" aria-label={t("trend.span")}>
          {SPANS.map(([name, seconds]) => (
            <button key={name} type="button" aria-pressed={isLive && span === seconds}
              onClick={() => adjust({ span: String(seconds), from: undefined, to: undefined })}>{named("span", name)}</button>
          ))}
        </div>
        <button type="button" aria-pressed={isLive} onClick={() => zoom(isLive ? range : null)}>{t(isLive ? "trend.live" : "trend.toLive")}</button>
        <button type="button" disabled={paths.length === 0} onClick={save}>{t("trend.csv")}</button>
        <span class="space" />
        <span class="muted">{dayTime(range.from * 1000)} – {dayTime(range.to * 1000)} {kinds.length === 1 && kinds[0] ? `· ${named("kind", kinds[0])}` : ""}</span>
      </div>
      <Problem text={error} />
      <div class="trend-main">
        <section class={`panel plot ${isLive && stale.value ? "hatched" : ""}`} aria-label={t("nav.trend")}>
          {lines.length > 0 && <Chart traces={traces} version={version} range={range} marks={inside} late={late} onZoom={zoom} onCursor={setCursor} onInset={(next) => setInset((old) => (old[0] === next[0] && old[1] === next[1] ? old : next))} />}
          {paths.length === 0 && <Empty text={t("trend.none")} />}
          {strips.length > 0 && <Ribbons ribbons={ribbons} from={range.from} to={range.to} inset={lines.length > 0 ? inset : NO_INSET} remove={(path) => set(paths.filter((one) => one !== path))} />}
          {late.length > 0 && (
            <details class="restated">
              <summary class="late">▂ {t("trend.restated", { n: late.length })}</summary>
              <ul>{late.slice(-20).reverse().map((span) => <li key={span.from}>{lateText(span)}</li>)}</ul>
            </details>
          )}
          <p id="trend-keys" class="muted hint">{t("trend.keys")}</p>
          {traces.length > 0 && <Legend traces={traces} range={range} cursor={cursor} remove={(path) => set(paths.filter((one) => one !== path))} />}
        </section>
        <aside class="side" aria-label={t("trend.side")}>
          <Picker chosen={paths} add={(path) => set([...paths, path])} />
          <Panel title={t("trend.events")}>
            <Scroll label={t("trend.events")} class="short">
              <ul class="events">{inside.map((mark, i) => <li key={i}><time>{clock(mark.time * 1000)}</time> {mark.text}</li>)}</ul>
              {inside.length === 0 && <Empty text={t("trend.noEvents")} />}
            </Scroll>
          </Panel>
        </aside>
      </div>
    </div>
  );
}
