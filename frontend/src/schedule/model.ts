import type { Actual, Bar, Closed, Ghost, ScheduleView } from "../api/types";
import { condition, type Condition, stateName, STATES } from "../state/condition";

/** One row of the Gantt: a unit with its bars in time order. */
export interface Row {
  path: string; id: string; center: string; condition: Condition; first: boolean;
  bars: Bar[]; actual: Actual[]; ghost: Ghost[]; closed: Closed[];
}

function group<T extends { machine: string }>(items: readonly T[], key: (item: T) => number): Map<string, T[]> {
  const map = new Map<string, T[]>();
  for (const item of items) {
    const list = map.get(item.machine);
    if (list) list.push(item);
    else map.set(item.machine, [item]);
  }
  for (const list of map.values()) list.sort((a, b) => key(a) - key(b));
  return map;
}

/** A shorter shift is not worth a look. */
export const NOTABLE_MS = 60_000;
const HELD = new Set(["quality_stop", "operator_absent"]);

/** Condition of a unit: what the planner holds against it, else its live state. */
function conditionOf(said: string | number, live: number | undefined): Condition {
  const name = stateName(said);
  if (name === "breakdown") return "down";
  if (HELD.has(name)) return "held";
  if (live !== undefined) return condition(STATES[live]);
  return (STATES as readonly string[]).includes(name) ? condition(name) : "unknown";
}

/** Ghosts that stand clearly elsewhere than the bar of the same operation. */
function elsewhere(view: ScheduleView): Ghost[] {
  const now = new Map(view.bars.map((bar) => [bar.op, bar]));
  return view.ghost.filter((ghost) => {
    const bar = now.get(ghost.op);
    return !bar || bar.machine !== ghost.machine || Math.abs(bar.start_ms - ghost.start_ms) >= NOTABLE_MS;
  });
}

/** Rows in the plant's order, each with what belongs to it. */
export function rowsOf(view: ScheduleView, stateOf: (path: string) => number | undefined = () => undefined): Row[] {
  const bars = group(view.bars, (bar) => bar.start_ms);
  const actual = group(view.actual, (bar) => bar.start_ms);
  const ghost = group(elsewhere(view), (bar) => bar.start_ms);
  const closed = group(view.closed, (gap) => gap.end_ms);
  let center = "";
  return view.machines.map((machine) => {
    const first = machine.work_center !== center;
    center = machine.work_center;
    return {
      path: machine.path, id: machine.id, center, condition: conditionOf(machine.state, stateOf(machine.path)), first,
      bars: bars.get(machine.path) ?? [], actual: actual.get(machine.path) ?? [],
      ghost: ghost.get(machine.path) ?? [], closed: closed.get(machine.path) ?? [],
    };
  });
}

/** First index whose end is after `time`; the bars of a row do not overlap, so ends are in order. */
export function firstAfter(bars: readonly { end_ms: number | null }[], time: number): number {
  let low = 0;
  let high = bars.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (((bars[middle] as { end_ms: number | null }).end_ms ?? Infinity) <= time) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** What part of the plan is on the screen: `from` is at x = 0, `scale` is ms per CSS pixel. */
export interface Window { from: number; scale: number; top: number }

const SHORTEST = 15;
const LONGEST = 3_600_000;

/** Zoom by `factor` while the instant under `x` stays where it is. */
export function zoom(window: Window, factor: number, x: number): Window {
  const scale = Math.max(SHORTEST, Math.min(LONGEST, window.scale * factor));
  return { ...window, scale, from: window.from + x * (window.scale - scale) };
}

export function pan(window: Window, dx: number, dy: number, overflow: number): Window {
  return { ...window, from: window.from - dx * window.scale, top: Math.max(0, Math.min(Math.max(0, overflow), window.top - dy)) };
}

/** The window that shows the whole plan, or `hours` around now. */
export function whole(view: ScheduleView, width: number, hours: number | null): Window {
  if (hours !== null) return { from: view.now_ms - 0.12 * hours * 3_600_000, scale: (hours * 3_600_000) / width, top: 0 };
  let low = view.now_ms;
  let high = view.now_ms + 3_600_000;
  for (const bar of view.bars) {
    low = Math.min(low, bar.start_ms);
    high = Math.max(high, bar.end_ms);
  }
  for (const bar of view.actual) low = Math.min(low, bar.start_ms);
  const margin = 0.02 * (high - low);
  return { from: low - margin, scale: (high - low + 2 * margin) / width, top: 0 };
}

const STEPS = [1, 5, 10, 15, 30, 60, 120, 240, 360, 720, 1440, 2880, 10_080].map((minutes) => minutes * 60_000);

/** Step of the time axis in ms, so that labels stand at least `room` pixels apart. */
export function axisStep(scale: number, room = 70): number {
  return STEPS.find((step) => step / scale >= room) ?? (STEPS[STEPS.length - 1] as number);
}

/** Where a bar with index `i` of `row` goes when an arrow key is pressed. */
export function neighbour(rows: readonly Row[], row: number, bar: Bar | null, key: string): { row: number; bar: Bar | null } {
  const now = rows[row];
  if (!now) return { row: 0, bar: rows[0]?.bars[0] ?? null };
  const at = bar ? now.bars.indexOf(bar) : -1;
  if (key === "ArrowRight") return { row, bar: now.bars[Math.min(now.bars.length - 1, at + 1)] ?? null };
  if (key === "ArrowLeft") return { row, bar: now.bars[Math.max(0, at - 1)] ?? null };
  const step = key === "ArrowDown" ? 1 : -1;
  for (let r = row + step; r >= 0 && r < rows.length; r += step) {
    const list = rows[r]?.bars ?? [];
    if (list.length === 0) continue;
    const found = list[Math.min(list.length - 1, firstAfter(list, bar?.start_ms ?? 0))] as Bar;
    return { row: r, bar: found };
  }
  return { row, bar };
}
