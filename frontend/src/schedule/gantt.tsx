import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Bar, ScheduleView } from "../api/types";
import { dayTime, duration, hourMinute } from "../format";
import { t } from "../i18n";
import { plant, tail, unitIndex } from "../state/plant";
import { dark, ink } from "../state/theme";
import { unitStates } from "../wall/feed";
import { fit, useSize } from "../ui/parts";
import { AXIS, GanttPainter, GUTTER, LayerHold, type Picture } from "./draw";
import { may } from "../state/session";
import type { Wish } from "./wish";
import { firstAfter, neighbour, pan, rowsOf, whole, type Window, zoom } from "./model";

export interface GanttProps {
  view: ScheduleView; selected: string; row: string | null; moved: ReadonlySet<string>; mode: string;
  onSelect: (bar: Bar | null) => void; onSpeak: (text: string) => void;
  /** Where the selected bar is being moved to; null when nothing is. */
  wish: Wish | null; onWish: (wish: Wish | null) => void; onAsk: (wish: Wish) => void; onEnter: () => void;
  chain: ReadonlySet<string>;
}

interface Grab { x: number; y: number; from: Window; moved: boolean; bar: Bar | null }

/** Steps by which keys move a wish in time. */
const STEP_MS = 15 * 60_000;
const FINE_MS = 60_000;

const DAY_H = 30;
const RESTS_MS = 160;

/** Label of a bar for tips and for screen readers. */
export const barText = (bar: Bar): string =>
  `${bar.op}: ${bar.product}, ${hourMinute(bar.start_ms)}–${hourMinute(bar.end_ms)}` +
  (bar.late_s && bar.late_s > 0 ? `, ${t("schedule.late", { d: duration(bar.late_s) })}` : "");

/** The plan as a canvas: wheel zooms, drag pans, arrows walk the bars. */
export function Gantt(props: GanttProps): JSX.Element {
  const { view, selected, moved, mode } = props;
  const [hold, size] = useSize<HTMLDivElement>();
  const canvas = useRef<HTMLCanvasElement>(null);
  const rows = useMemo(() => {
    const states = unitStates.value;
    return rowsOf(view, (path) => states[unitIndex.value.get(path) ?? -1]);
  }, [view, unitStates.value]);
  const families = useMemo(() => new Map(
    (plant.value?.work_centers ?? []).flatMap((center) => center.families.map((family, n) => [`${center.id}/${family}`, n] as const)),
  ), [plant.value]);
  const window_ = useRef<Window | null>(null);
  const cursor = useRef(-1);
  const grab = useRef<Grab | null>(null);
  const queued = useRef(0);
  const panning = useRef(0);
  const layer = useRef(new LayerHold());
  const [tip, setTip] = useState<{ bar: Bar; x: number; y: number } | null>(null);
  const rowHeight = Math.max(18, Math.min(40, Math.floor((size.height - AXIS) / Math.max(1, rows.length))));
  const overflow = rows.length * rowHeight + AXIS - size.height;
  const palette = ink.value;

  const paint = useRef<() => void>(() => undefined);
  paint.current = () => {
    queued.current = 0;
    if (!canvas.current || size.width === 0) return;
    window_.current ??= whole(view, size.width - GUTTER, DAY_H);
    const picture: Picture = {
      width: size.width, height: size.height, rowHeight, window: window_.current, selected, moved,
      cursor: cursor.current, mode, families, wish: props.wish, chain: props.chain, words: { frozen: t("schedule.frozen"), now: t("schedule.now"), stop: t("schedule.legend.stop") },
    };
    const painter = new GanttPainter(fit(canvas.current, size.width, size.height), palette, dark.peek());
    if (panning.current) painter.pan(view, rows, picture, layer.current);
    else painter.draw(view, rows, picture);
  };
  const ask = (): void => {
    if (!queued.current) queued.current = requestAnimationFrame(() => paint.current());
  };
  useEffect(() => {
    paint.current();
  });

  const set = (next: Window): void => {
    const now = window_.current;
    window_.current = next;
    if (now && now.scale === next.scale) settle();
    ask();
  };
  // Copy from the layer while the plan moves; draw it in full once it rests.
  const settle = (): void => {
    clearTimeout(panning.current);
    panning.current = setTimeout(() => {
      panning.current = 0;
      ask();
    }, RESTS_MS) as unknown as number;
  };
  useEffect(() => () => clearTimeout(panning.current), []);
  const hit = (x: number, y: number): { row: number; bar: Bar | null } => {
    const now = window_.current;
    if (!now || y < AXIS) return { row: -1, bar: null };
    const row = Math.floor((y - AXIS + now.top) / rowHeight);
    const list = rows[row]?.bars ?? [];
    const time = now.from + (x - GUTTER) * now.scale;
    const bar = x < GUTTER ? undefined : list[firstAfter(list, time - 2 * now.scale)];
    return { row, bar: bar && (bar.setup_start_ms ?? bar.start_ms) <= time + 2 * now.scale ? bar : null };
  };
  const reveal = (row: number, bar: Bar | null): void => {
    const now = window_.current;
    if (!now) return;
    const span = (size.width - GUTTER) * now.scale;
    let { from, top } = now;
    if (bar && (bar.start_ms < from || bar.start_ms > from + 0.9 * span)) from = bar.start_ms - 0.3 * span;
    const y = row * rowHeight;
    if (y < top) top = y;
    else if (y + rowHeight > top + size.height - AXIS) top = y + rowHeight - size.height + AXIS;
    set({ ...now, from, top });
  };
  useEffect(() => {
    const at = rows.findIndex((row) => row.path === props.row);
    if (at >= 0) {
      cursor.current = at;
      reveal(at, null);
    }
  }, [props.row, rows.length > 0, size.height > 0]);
  useEffect(() => {
    if (!selected) return;
    const row = rows.findIndex((r) => r.bars.some((bar) => bar.op === selected));
    const bar = rows[row]?.bars.find((b) => b.op === selected) ?? null;
    if (row >= 0 && cursor.current !== row) {
      cursor.current = row;
      reveal(row, bar);
    }
  }, [selected, size.height > 0]);

  useEffect(() => {
    const element = canvas.current;
    if (!element) return;
    const wheel = (event: WheelEvent): void => {
      event.preventDefault();
      const now = window_.current;
      if (!now) return;
      const x = event.offsetX - GUTTER;
      if (x < 0) set(pan(now, 0, -event.deltaY, overflow));
      else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY))
        set(pan(now, -(event.deltaX || event.deltaY), 0, overflow));
      else set(zoom(now, Math.exp(event.deltaY / 400), x));
    };
    element.addEventListener("wheel", wheel, { passive: false });
    return () => element.removeEventListener("wheel", wheel);
  }, [overflow]);

  const down = (event: PointerEvent): void => {
    if (!window_.current) return;
    (event.target as Element).setPointerCapture(event.pointerId);
    // The selected bar is taken along; anywhere else the plan is.
    const { bar } = hit(event.offsetX, event.offsetY);
    const taken = bar && bar.op === selected && movable(bar) ? bar : null;
    grab.current = { x: event.offsetX, y: event.offsetY, from: window_.current, moved: false, bar: taken };
  };
  const drag = (event: PointerEvent): void => {
    const held = grab.current;
    if (held) {
      const dx = event.offsetX - held.x;
      const dy = event.offsetY - held.y;
      if (Math.abs(dx) + Math.abs(dy) > 4) held.moved = true;
      if (held.moved && held.bar) props.onWish(carried(held, event.offsetX, event.offsetY));
      else if (held.moved) set(pan(held.from, dx, dy, overflow));
      return;
    }
    const { bar } = hit(event.offsetX, event.offsetY);
    if (bar?.op !== tip?.bar.op) setTip(bar && { bar, x: event.offsetX, y: event.offsetY });
  };
  const up = (event: PointerEvent): void => {
    const held = grab.current;
    grab.current = null;
    if (held?.moved && held.bar) {
      props.onAsk(carried(held, event.offsetX, event.offsetY));
      return;
    }
    if (!held || held.moved) return;
    const { row, bar } = hit(event.offsetX, event.offsetY);
    cursor.current = row;
    props.onSelect(bar);
    ask();
  };
  const movable = (bar: Bar): boolean => may("operator") && bar.status !== "running" && bar.status !== "ended";
  const centerOf = (path: string): string => rows.find((row) => row.path === path)?.center ?? "";
  /** Where a bar that the pointer carries would stand. */
  const carried = (held: Grab, x: number, y: number): Wish => {
    const bar = held.bar as Bar;
    const under = rows[Math.floor((y - AXIS + (window_.current?.top ?? 0)) / rowHeight)];
    const machine = under && under.center === centerOf(bar.machine) ? under.path : bar.machine;
    const start = bar.start_ms + (x - held.x) * held.from.scale;
    return { op: bar.op, machine, start_ms: Math.round(start / FINE_MS) * FINE_MS };
  };
  /** Keys while a bar is being moved: arrows carry it, Enter asks and then takes, Escape lets it stand. */
  const carry = (event: KeyboardEvent, wish: Wish): boolean => {
    const mine = rows.filter((row) => row.center === centerOf(wish.machine));
    const at = mine.findIndex((row) => row.path === wish.machine);
    const by = (ms: number): Wish => ({ ...wish, start_ms: (wish.start_ms ?? view.now_ms) + ms });
    const unit = (k: number): Wish => ({ ...wish, machine: mine[Math.max(0, Math.min(mine.length - 1, at + k))]?.path ?? wish.machine });
    const size_ = event.shiftKey ? FINE_MS : STEP_MS;
    const next: Record<string, () => Wish> = {
      ArrowLeft: () => by(-size_), ArrowRight: () => by(size_), ArrowUp: () => unit(-1), ArrowDown: () => unit(1),
    };
    if (event.key === "Escape") {
      props.onWish(null);
      props.onSpeak(t("wish.left"));
    } else if (event.key === "Enter") props.onEnter();
    else if (next[event.key]) {
      const moved_ = next[event.key]?.() ?? wish;
      props.onWish(moved_);
      props.onSpeak(t("wish.there", { machine: tail(moved_.machine), time: dayTime(moved_.start_ms ?? view.now_ms) }));
    } else return false;
    return true;
  };
  const step = (event: KeyboardEvent): boolean => {
    const now = window_.current;
    if (!now) return false;
    if (props.wish && carry(event, props.wish)) return true;
    if (event.key.toLowerCase() === "m") {
      const bar = view.bars.find((b) => b.op === selected);
      if (!bar || !movable(bar)) return false;
      props.onWish({ op: bar.op, machine: bar.machine, start_ms: bar.start_ms });
      props.onSpeak(t("wish.begin", { op: bar.op }));
      return true;
    }
    const middle = (size.width - GUTTER) / 2;
    if (event.key === "+" || event.key === "=") set(zoom(now, 0.7, middle));
    else if (event.key === "-") set(zoom(now, 1 / 0.7, middle));
    else if (event.key.toLowerCase() === "n") set(whole(view, size.width - GUTTER, DAY_H));
    else if (event.shiftKey && event.key === "ArrowLeft") set(pan(now, 120, 0, overflow));
    else if (event.shiftKey && event.key === "ArrowRight") set(pan(now, -120, 0, overflow));
    else if (event.key.startsWith("Arrow")) walk(event.key);
    else return false;
    return true;
  };
  const walk = (key: string): void => {
    const bar = rows[cursor.current]?.bars.find((b) => b.op === selected) ?? null;
    const next = neighbour(rows, Math.max(0, cursor.current), bar, key);
    cursor.current = next.row;
    reveal(next.row, next.bar);
    props.onSelect(next.bar);
    if (next.bar) props.onSpeak(`${rows[next.row]?.id}: ${barText(next.bar)}`);
  };
  const key = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (step(event)) event.preventDefault();
  };
  const buttons: [string, () => void, string][] = [
    ["−", () => window_.current && set(zoom(window_.current, 1 / 0.6, (size.width - GUTTER) / 2)), t("schedule.zoomOut")],
    ["+", () => window_.current && set(zoom(window_.current, 0.6, (size.width - GUTTER) / 2)), t("schedule.zoomIn")],
    [t("schedule.now"), () => set(whole(view, size.width - GUTTER, DAY_H)), t("schedule.toNow")],
    [t("schedule.all"), () => set(whole(view, size.width - GUTTER, null)), t("schedule.toAll")],
  ];
  return (
    <>
      <div class="gantt-tools" role="group" aria-label={t("schedule.view")}>
        {buttons.map(([text, act, label]) => (
          <button key={label} type="button" title={label} aria-label={text.length === 1 ? label : undefined} onClick={act}>{text}</button>
        ))}
      </div>
      <div class="gantt-hold" ref={hold}>
        <canvas ref={canvas} tabIndex={0} role="application" aria-label={t("schedule.canvas", { bars: view.bars.length, rows: rows.length })}
          aria-describedby="gantt-keys" onPointerDown={down} onPointerMove={drag} onPointerUp={up}
          onPointerLeave={() => setTip(null)} onKeyDown={key} />
        {tip && (
          <div class="tip" style={{ left: `${Math.min(tip.x + 12, size.width - 260)}px`, top: `${Math.min(tip.y + 14, size.height - 90)}px` }}>
            <strong>{tip.bar.op}</strong>
            <span>{tip.bar.product} · {tip.bar.family}</span>
            <b>{hourMinute(tip.bar.start_ms)} – {hourMinute(tip.bar.end_ms)}</b>
            {tip.bar.late_s !== null && tip.bar.late_s > 0 && <span class="late">{t("schedule.late", { d: duration(tip.bar.late_s) })}</span>}
          </div>
        )}
      </div>
    </>
  );
}

