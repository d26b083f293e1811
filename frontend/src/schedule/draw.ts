import type { Bar, ScheduleView } from "../api/types";
import { day, hourMinute } from "../format";
import { type Condition, isAbnormal } from "../state/condition";
import type { Ink } from "../state/theme";
import { hatch } from "../ui/parts";
import { drawGlyph } from "../wall/draw";
import { axisStep, firstAfter, type Row, type Window } from "./model";

export const GUTTER = 96;
export const AXIS = 34;

export interface Picture {
  width: number; height: number; rowHeight: number; window: Window;
  selected: string; moved: ReadonlySet<string>; cursor: number; mode: string; chain: ReadonlySet<string>;
  wish: { op: string; machine: string; start_ms: number | null } | null;
  /** Place of each setup family in its work center, by `center/family`. */
  families: ReadonlyMap<string, number>;
  words: { frozen: string; now: string; stop: string };
}

/** Below this width a bar is drawn without edges and text. */
const THIN = 9;
const HUES = [210, 155, 265, 185, 310, 100];

/** Fill of a work center's n-th family: desaturated, never that of an alarm; told apart by hue and lightness. */
function familyInk(n: number, dark: boolean): string {
  const hue = HUES[n % HUES.length] as number;
  const step = n % 2;
  return dark ? `hsl(${hue} 26% ${34 + step * 9}%)` : `hsl(${hue} 30% ${68 + step * 9}%)`;
}

/** The rows drawn ahead, wider than the screen and over all rows: a pan only copies from it. */
interface Layer {
  canvas: HTMLCanvasElement; ratio: number; from: number; until: number; height: number;
  made: readonly unknown[];
}

/** How far the layer reaches beyond the screen on each side, in screens. */
const BEYOND = 0.6;
/** Taller plans are drawn anew at each step. */
const TALLEST = 4000;

/** Keeps the layer between frames. */
export class LayerHold { layer: Layer | null = null }

/** Draws the Gantt. Bars below two pixels are merged into one block, so 10,000 cost as few. */
export class GanttPainter {
  private pen: CanvasRenderingContext2D;
  private pinned: ReadonlySet<string> | null = null;
  private center = "";

  constructor(private readonly screen: CanvasRenderingContext2D, private readonly ink: Ink, private readonly dark: boolean) {
    this.pen = screen;
  }

  draw(view: ScheduleView, rows: readonly Row[], picture: Picture): void {
    this.pen = this.screen;
    this.body(view, rows, picture);
    this.axis(view, picture);
    this.gutter(rows, picture);
  }

  /** The same picture while it is being dragged: the rows are copied from a layer drawn ahead. */
  pan(view: ScheduleView, rows: readonly Row[], picture: Picture, hold: LayerHold): void {
    const all = rows.length * picture.rowHeight;
    if (all > TALLEST) return this.draw(view, rows, picture);
    const { window } = picture;
    const wide = (picture.width - GUTTER) * window.scale;
    const made = [view, rows, picture.rowHeight, picture.width, picture.height, picture.mode, picture.selected, picture.moved, picture.cursor, picture.chain, picture.wish, window.scale, this.ink];
    const old = hold.layer;
    const fits = old !== null && made.every((part, i) => part === old.made[i]) && window.from >= old.from && window.from + wide <= old.until;
    const layer = fits ? old : (hold.layer = this.ahead(view, rows, picture, made, old?.canvas));
    const pen = (this.pen = this.screen);
    const h = picture.height - AXIS;
    pen.fillStyle = this.ink.panel;
    pen.fillRect(0, 0, picture.width, picture.height);
    const left = ((window.from - layer.from) / window.scale) * layer.ratio;
    const tall = Math.min(h, layer.height - window.top);
    if (tall > 0)
      pen.drawImage(layer.canvas, left, window.top * layer.ratio, (picture.width - GUTTER) * layer.ratio, tall * layer.ratio, GUTTER, AXIS, picture.width - GUTTER, tall);
    this.axis(view, picture);
    this.gutter(rows, picture);
  }

  private ahead(view: ScheduleView, rows: readonly Row[], picture: Picture, made: readonly unknown[], canvas = document.createElement("canvas")): Layer {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const inner = picture.width - GUTTER;
    const margin = Math.round(BEYOND * inner);
    const { scale } = picture.window;
    const from = picture.window.from - margin * scale;
    const height = Math.max(rows.length * picture.rowHeight, picture.height - AXIS);
    canvas.width = Math.round((inner + 2 * margin) * ratio);
    canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext("2d", { alpha: false });
    if (!pen) throw new Error("this browser gives no 2D canvas");
    pen.setTransform(ratio, 0, 0, ratio, -GUTTER * ratio, -AXIS * ratio);
    this.pen = pen;
    this.body(view, rows, { ...picture, width: GUTTER + inner + 2 * margin, height: height + AXIS, window: { from, scale, top: 0 } });
    return { canvas, ratio, from, until: from + (inner + 2 * margin) * scale, height, made };
  }

  /** Everything right of the names and below the axis. */
  private body(view: ScheduleView, rows: readonly Row[], picture: Picture): void {
    const { pen, ink } = this;
    this.pinned = new Set((view.pins ?? []).map((pin) => pin.op));
    pen.fillStyle = ink.panel;
    pen.fillRect(0, 0, picture.width, picture.height);
    pen.save();
    pen.beginPath();
    pen.rect(GUTTER, AXIS, picture.width - GUTTER, picture.height - AXIS);
    pen.clip();
    this.bands(view, rows, picture);
    rows.forEach((row, i) => this.row(view, row, i, picture));
    this.nowLine(view, picture);
    this.wish(view, rows, picture);
    pen.restore();
  }

  /** Where the selected bar is being moved to: a thick dashed outline. */
  private wish(view: ScheduleView, rows: readonly Row[], picture: Picture): void {
    const { wish } = picture;
    const bar = wish && view.bars.find((b) => b.op === wish.op);
    const i = wish ? rows.findIndex((row) => row.path === wish.machine) : -1;
    if (!wish || !bar || i < 0) return;
    const { pen, ink } = this;
    const start = wish.start_ms ?? bar.start_ms;
    const x = this.x(start, picture);
    const h = Math.max(7, Math.round(picture.rowHeight * 0.56));
    pen.strokeStyle = ink.accent;
    pen.lineWidth = 2.4;
    pen.setLineDash([5, 3]);
    pen.strokeRect(x, this.top(i, picture) + 1, Math.max(4, (bar.end_ms - bar.start_ms) / picture.window.scale), h + 2);
    pen.setLineDash([]);
  }

  /** A pinned bar: a pin's head and needle at its beginning. */
  private pin(x: number, y: number): void {
    const { pen, ink } = this;
    pen.fillStyle = ink.text;
    pen.beginPath();
    pen.arc(x + 5, y + 3.5, 2.8, 0, 7);
    pen.fill();
    pen.fillRect(x + 4.4, y + 4, 1.2, 7);
  }

  private x(time: number, { window }: Picture): number {
    return GUTTER + (time - window.from) / window.scale;
  }

  private top(i: number, picture: Picture): number {
    return AXIS + i * picture.rowHeight - picture.window.top;
  }

  /** Ground: row lines, closed time, frozen zone. */
  private bands(view: ScheduleView, rows: readonly Row[], picture: Picture): void {
    const { pen, ink } = this;
    rows.forEach((row, i) => {
      const y = this.top(i, picture);
      if (y > picture.height || y + picture.rowHeight < AXIS) return;
      if (picture.cursor === i) {
        pen.fillStyle = ink.raised;
        pen.fillRect(GUTTER, y, picture.width, picture.rowHeight);
      }
      this.closed(row, y, picture);
      pen.fillStyle = ink.line;
      pen.fillRect(GUTTER, y, picture.width, row.first ? 1.5 : 0.5);
    });
    const from = this.x(view.now_ms, picture);
    const to = this.x(view.frozen_until_ms, picture);
    if (to > from) {
      pen.globalAlpha = 0.16;
      pen.fillStyle = ink.accent;
      pen.fillRect(from, AXIS, to - from, picture.height);
      pen.globalAlpha = 1;
    }
  }

  private closed(row: Row, y: number, picture: Picture): void {
    const { pen, ink } = this;
    const until = picture.window.from + (picture.width - GUTTER) * picture.window.scale;
    pen.fillStyle = ink.bg;
    for (let k = firstAfter(row.closed, picture.window.from); k < row.closed.length; k++) {
      const gap = row.closed[k];
      if (!gap || gap.start_ms > until) continue; // a stop may begin before what ends earlier
      const x = this.x(gap.start_ms, picture);
      const w = Math.max(1, this.x(gap.end_ms, picture) - x);
      if (gap.kind !== "stop") pen.fillRect(x, y, w, picture.rowHeight);
    }
  }

  /** Planned stops of a row, over its bars: work that spans one pauses there. */
  private stops(row: Row, y: number, picture: Picture): void {
    for (const gap of row.closed) {
      if (gap.kind !== "stop") continue;
      const x = this.x(gap.start_ms, picture);
      const end = this.x(gap.end_ms, picture);
      if (end > GUTTER && x < picture.width) this.stop(x, y, Math.max(1, end - x), picture);
    }
  }

  /** A planned stop: hatched and framed, with its name where there is room. */
  private stop(x: number, y: number, w: number, picture: Picture): void {
    const { pen, ink } = this;
    const h = picture.rowHeight;
    pen.fillStyle = hatch(pen, ink.held);
    pen.fillRect(x, y + 1, w, h - 2);
    pen.strokeStyle = ink.held;
    pen.lineWidth = 1;
    pen.strokeRect(x + 0.5, y + 1.5, Math.max(1, w - 1), h - 3);
    pen.font = `10px ${ink.font}`;
    const wide = pen.measureText(picture.words.stop).width;
    if (w > wide + 10) {
      pen.fillStyle = ink.panel;
      pen.fillRect(x + 3, y + h / 2 - 6, wide + 4, 12);
      pen.fillStyle = ink.text;
      pen.textBaseline = "middle";
      pen.fillText(picture.words.stop, x + 5, y + h / 2);
    }
  }

  private row(view: ScheduleView, row: Row, i: number, picture: Picture): void {
    const y = this.top(i, picture);
    const h = picture.rowHeight;
    if (y > picture.height || y + h < AXIS) return;
    const plan = Math.max(7, Math.round(h * 0.56));
    this.ghosts(row, y + 2, plan, picture);
    this.plan(row, y + 2, plan, picture);
    this.stops(row, y, picture);
    this.actual(row, y + plan + 3, Math.max(3, h - plan - 6), view.now_ms, picture);
  }

  private plan(row: Row, y: number, h: number, picture: Picture): void {
    const { pen } = this;
    const { from, scale } = picture.window;
    const until = from + (picture.width - GUTTER) * scale;
    this.center = row.center;
    let block = -1;
    let edge = -1;
    const flush = (): void => {
      if (block >= 0) {
        pen.fillStyle = this.ink.bar;
        pen.fillRect(block, y, Math.max(1, edge - block), h);
      }
      block = -1;
    };
    for (let k = firstAfter(row.bars, from); k < row.bars.length; k++) {
      const bar = row.bars[k] as Bar;
      if ((bar.setup_start_ms ?? bar.start_ms) > until) break;
      const x = this.x(bar.start_ms, picture);
      const end = this.x(bar.end_ms, picture);
      if (end - x < 2 && bar.op !== picture.selected) {
        if (block >= 0 && x - edge > 1) flush();
        if (block < 0) block = x;
        edge = Math.max(end, x + 0.7);
        continue;
      }
      flush();
      if (end - x < THIN && bar.op !== picture.selected) this.thin(bar, x, end, y, h, picture);
      else this.bar(bar, x, end, y, h, picture);
    }
    flush();
  }

  /** A bar of a few pixels: its fill, its changeover and its lateness, without edges and text. */
  private thin(bar: Bar, x: number, end: number, y: number, h: number, picture: Picture): void {
    const { pen, ink } = this;
    const late = bar.late_s !== null && bar.late_s > 0;
    pen.fillStyle = this.fillOf(bar, picture, late);
    pen.fillRect(x, y, end - x - 0.5, h);
    if (bar.setup_start_ms !== null && bar.setup_start_ms < bar.start_ms) {
      const s = this.x(bar.setup_start_ms, picture);
      pen.fillStyle = ink.setup;
      pen.fillRect(s, y + h / 2, this.x(bar.setup_end_ms ?? bar.start_ms, picture) - s, 1);
    }
    if (late || picture.moved.has(bar.op)) {
      pen.fillStyle = ink.held;
      pen.fillRect(end - 1.5, y, 1.5, h);
    }
  }

  private bar(bar: Bar, x: number, end: number, y: number, h: number, picture: Picture): void {
    const { pen, ink } = this;
    const w = end - x;
    if (bar.setup_start_ms !== null && bar.setup_start_ms < bar.start_ms) {
      const s = this.x(bar.setup_start_ms, picture);
      pen.strokeStyle = ink.setup;
      pen.lineWidth = 1;
      pen.fillStyle = hatch(pen, ink.setup);
      const w = this.x(bar.setup_end_ms ?? bar.start_ms, picture) - s;
      pen.fillRect(s, y + 2, w, h - 4);
      pen.strokeRect(s + 0.5, y + 2.5, w - 1, h - 5);
    }
    const late = bar.late_s !== null && bar.late_s > 0;
    pen.fillStyle = this.fillOf(bar, picture, late);
    pen.fillRect(x, y, w, h);
    if (bar.status === "running" || bar.status === "RUNNING") {
      pen.fillStyle = ink.ok;
      pen.fillRect(x, y, Math.min(3, w), h);
    }
    if (late && w > 4) this.lateMark(end, y, h);
    pen.strokeStyle = ink.panel;
    pen.lineWidth = 0.6;
    pen.strokeRect(x, y, w, h);
    if (picture.moved.has(bar.op)) this.outline(x, y, w, h, ink.held, 1.6);
    if (picture.chain.has(bar.op)) this.outline(x, y, w, h, ink.text, 1.6);
    if (this.pinned?.has(bar.op)) this.pin(x, y);
    if (bar.op === picture.selected) this.outline(x, y, w, h, ink.accent, 2.4);
    if (w > 34 && h >= 9) {
      pen.fillStyle = ink.text;
      pen.font = `${Math.min(11, h - 1)}px ${ink.font}`;
      pen.textBaseline = "middle";
      const room = this.pinned?.has(bar.op) ? 14 : 5;
      const text = `${bar.request || bar.op} · ${picture.mode === "family" ? bar.family : bar.product}`;
      const shown = pen.measureText(text).width < w - room - 5 ? text : bar.request || bar.op;
      if (pen.measureText(shown).width < w - room - 3) pen.fillText(shown, Math.max(x, GUTTER) + room, y + h / 2 + 0.5);
    }
  }

  private fillOf(bar: Bar, { mode, families }: Picture, late: boolean): string {
    if (mode === "late") return late ? this.ink.high : this.ink.bar;
    if (mode !== "family") return this.ink.bar;
    const n = families.get(`${this.center}/${bar.family}`);
    return n === undefined ? this.ink.bar : familyInk(n, this.dark);
  }

  /** Late: a flag with a notch at the end of the bar; shape beside colour. */
  private lateMark(end: number, y: number, h: number): void {
    const { pen, ink } = this;
    pen.fillStyle = ink.held;
    pen.beginPath();
    pen.moveTo(end, y);
    pen.lineTo(end - 5, y);
    pen.lineTo(end - 2, y + h / 2);
    pen.lineTo(end - 5, y + h);
    pen.lineTo(end, y + h);
    pen.fill();
  }

  private outline(x: number, y: number, w: number, h: number, colour: string, width: number): void {
    this.pen.strokeStyle = colour;
    this.pen.lineWidth = width;
    this.pen.strokeRect(x + width / 2, y + width / 2, Math.max(1, w - width), h - width);
  }

  /** Where the previous plan had the work: dashed outlines, only where it differs. */
  private ghosts(row: Row, y: number, h: number, picture: Picture): void {
    const { pen, ink } = this;
    const until = picture.window.from + (picture.width - GUTTER) * picture.window.scale;
    pen.strokeStyle = ink.muted;
    pen.lineWidth = 1;
    pen.setLineDash([3, 2]);
    for (let k = firstAfter(row.ghost, picture.window.from); k < row.ghost.length; k++) {
      const ghost = row.ghost[k];
      if (!ghost || ghost.start_ms > until) break;
      const x = this.x(ghost.start_ms, picture);
      const w = this.x(ghost.end_ms, picture) - x;
      if (w >= 3) pen.strokeRect(x + 0.5, y - 1.5, w - 1, h + 3);
    }
    pen.setLineDash([]);
  }

  private actual(row: Row, y: number, h: number, now: number, picture: Picture): void {
    const { pen, ink } = this;
    const until = picture.window.from + (picture.width - GUTTER) * picture.window.scale;
    for (const bar of row.actual) {
      const end = bar.end_ms ?? Math.max(now, bar.start_ms);
      if (end < picture.window.from || bar.start_ms > until) continue;
      const x = this.x(bar.start_ms, picture);
      const running = bar.state === "running" || bar.end_ms === null;
      pen.fillStyle = bar.state === "aborted" || bar.state === "interrupted" ? ink.down : running ? ink.ok : ink.muted;
      pen.fillRect(x, y, Math.max(1.5, this.x(end, picture) - x), h);
    }
  }

  private nowLine(view: ScheduleView, picture: Picture): void {
    const x = this.x(view.now_ms, picture);
    this.pen.fillStyle = this.ink.text;
    this.pen.fillRect(x - 0.75, AXIS, 1.5, picture.height);
  }

  private axis(view: ScheduleView, picture: Picture): void {
    const { pen, ink } = this;
    pen.fillStyle = ink.raised;
    pen.fillRect(0, 0, picture.width, AXIS);
    pen.fillStyle = ink.line;
    pen.fillRect(0, AXIS - 1, picture.width, 1);
    const step = axisStep(picture.window.scale);
    const offset = new Date(picture.window.from).getTimezoneOffset() * 60_000;
    const first = Math.ceil((picture.window.from - offset) / step) * step + offset;
    pen.textBaseline = "top";
    let lastDay = "";
    const now = this.x(view.now_ms, picture);
    for (let time = first; ; time += step) {
      const x = this.x(time, picture);
      if (x > picture.width - 4) break;
      pen.fillStyle = ink.line;
      pen.fillRect(x, AXIS - 7, 1, 7);
      const today = day(time);
      pen.fillStyle = ink.muted;
      pen.font = `11px ${ink.font}`;
      const hidden = x + 34 > now - 18 && x < now + 18; // under the mark of now
      if (step < 86_400_000 && !hidden) pen.fillText(hourMinute(time), x + 3, 18);
      if (today !== lastDay) {
        pen.fillStyle = ink.text;
        pen.font = `600 11px ${ink.font}`;
        pen.fillText(today, Math.max(x, GUTTER) + 3, 4);
        lastDay = today;
      }
    }
    this.axisMarks(view, picture);
  }

  private axisMarks(view: ScheduleView, picture: Picture): void {
    const { pen, ink } = this;
    const now = this.x(view.now_ms, picture);
    pen.font = `600 10px ${ink.font}`;
    if (now >= GUTTER && now < picture.width) {
      const text = picture.words.now;
      const w = pen.measureText(text).width + 8;
      pen.fillStyle = ink.text;
      pen.fillRect(now - w / 2, AXIS - 15, w, 14);
      pen.fillStyle = ink.panel;
      pen.fillText(text, now - w / 2 + 4, AXIS - 13);
      const frozen = this.x(view.frozen_until_ms, picture);
      const label = picture.words.frozen;
      if (frozen - now > pen.measureText(label).width + w / 2 + 8) {
        pen.fillStyle = ink.accent;
        pen.fillText(label, now + w / 2 + 4, AXIS - 13);
      }
    }
  }

  private gutter(rows: readonly Row[], picture: Picture): void {
    const { pen, ink } = this;
    pen.save();
    pen.beginPath();
    pen.rect(0, AXIS, GUTTER, picture.height);
    pen.clip();
    pen.fillStyle = ink.raised;
    pen.fillRect(0, AXIS, GUTTER, picture.height);
    pen.textBaseline = "middle";
    rows.forEach((row, i) => {
      const y = this.top(i, picture);
      if (y > picture.height || y + picture.rowHeight < AXIS) return;
      const of = row.condition;
      pen.fillStyle = ink.line;
      pen.fillRect(0, y, GUTTER, row.first ? 1.5 : 0.5);
      if (picture.cursor === i) {
        pen.fillStyle = ink.accent;
        pen.fillRect(0, y + 1, 3, picture.rowHeight - 2);
      }
      drawGlyph(pen, of, 8, y + picture.rowHeight / 2 - 5, 10, isAbnormal(of) || of === "running" ? this.inkFor(of) : ink.muted);
      pen.fillStyle = ink.text;
      pen.font = `${Math.min(12, picture.rowHeight - 6)}px ${ink.font}`;
      pen.fillText(row.id, 24, y + picture.rowHeight / 2 + 0.5, GUTTER - 30);
    });
    pen.fillStyle = ink.line;
    pen.fillRect(GUTTER - 1, 0, 1, picture.height);
    pen.restore();
  }

  private inkFor(of: Condition): string {
    const { ink } = this;
    return { running: ink.ok, down: ink.down, held: ink.held, starved: ink.starved, waiting: ink.starved, blocked: ink.blocked }[of as string] ?? ink.muted;
  }
}
