import { condition, GLYPHS, inkOf, STATES, type Condition } from "../state/condition";
import { named } from "../i18n";
import type { Ink } from "../state/theme";
import { hatch } from "../ui/parts";
import { BAD_CELL, FAINT_HIGH, FAINT_LOW, FLAG_ON, HIGH, LOW, STALE_CELL, type Bands } from "./bands";
import { HEAD, type Layout, type WallDevice } from "./layout";

const PATHS = new Map<Condition, Path2D>();

/** Draw a condition's glyph, `size` pixels wide, with its top left at (x, y). */
export function drawGlyph(pen: CanvasRenderingContext2D, of: Condition, x: number, y: number, size: number, colour: string): void {
  let path = PATHS.get(of);
  if (!path) PATHS.set(of, (path = new Path2D(GLYPHS[of][0])));
  pen.save();
  pen.translate(x, y);
  pen.scale(size / 12, size / 12);
  if (GLYPHS[of][1]) {
    pen.fillStyle = colour;
    pen.fill(path);
  } else {
    pen.strokeStyle = colour;
    pen.lineWidth = 1.7;
    pen.stroke(path);
  }
  pen.restore();
}

/** Draws the wall: everything once, then only the cells whose look has changed. */
export class Painter {
  private readonly drawn: Uint8Array;
  private readonly states: Uint8Array;

  constructor(
    private readonly pen: CanvasRenderingContext2D,
    private readonly layout: Layout,
    private readonly devices: readonly WallDevice[],
    private readonly ink: Ink,
    private readonly words: (of: Condition) => string,
    private readonly zoneName: (zone: string) => string,
    signals: number,
  ) {
    this.drawn = new Uint8Array(signals).fill(255);
    this.states = new Uint8Array(devices.length).fill(255);
  }

  /** Draw the ground and the zone names; all cells follow with the next `cells`. */
  ground(width: number): void {
    const { pen, ink } = this;
    pen.fillStyle = ink.bg;
    pen.fillRect(0, 0, width, this.layout.height);
    pen.textBaseline = "top";
    for (const mark of this.layout.zones) {
      pen.font = `600 11px ${ink.font}`;
      pen.fillStyle = ink.muted;
      const name = this.zoneName(mark.zone);
      pen.fillText(name, mark.x, mark.y + 2, Math.max(mark.width, 70));
      const text = Math.min(pen.measureText(name).width, mark.width);
      pen.fillStyle = ink.line;
      if (mark.width > text + 8) pen.fillRect(mark.x + text + 6, mark.y + 8, mark.width - text - 6, 1);
    }
    this.drawn.fill(255);
    this.states.fill(255);
  }

  /** Draw what has changed; answers how many cells were drawn. */
  cells(bands: Bands): number {
    const { layout, drawn } = this;
    const size = layout.cell - 1;
    let count = 0;
    for (let i = 0; i < bands.size; i++) {
      const look = bands.look[i] as number;
      if (look === drawn[i] || (layout.x[i] as number) < 0) continue;
      this.cell(layout.x[i] as number, layout.y[i] as number, size, look);
      drawn[i] = look;
      count++;
    }
    return count;
  }

  private cell(x: number, y: number, size: number, look: number): void {
    const { pen, ink } = this;
    pen.fillStyle = look < 5 ? (ink.cells[look] as string) : this.ground_of(look);
    pen.fillRect(x, y, size, size);
    if (look === STALE_CELL || look === BAD_CELL) this.cross(x, y, size, look);
    else if (look === HIGH || look === FAINT_HIGH) this.edge(x, y, size, look === HIGH);
    else if (look === LOW || look === FAINT_LOW) this.edge(x, y + size - 2, size, look === LOW);
    else if (look === FLAG_ON) {
      pen.fillStyle = ink.muted;
      pen.fillRect(x + size / 4, y + size / 4, size / 2, size / 2);
    }
  }

  private ground_of(look: number): string {
    const { ink } = this;
    if (look === HIGH || look === FAINT_HIGH) return look === HIGH ? ink.high : (ink.cells[4] as string);
    if (look === LOW || look === FAINT_LOW) return look === LOW ? ink.low : (ink.cells[0] as string);
    return look === FLAG_ON ? (ink.cells[3] as string) : ink.bg;
  }

  /** Above its band: a dark upper edge; below: a dark lower edge. Shape beside colour. */
  private edge(x: number, y: number, size: number, strong: boolean): void {
    this.pen.fillStyle = strong ? this.ink.text : this.ink.muted;
    this.pen.fillRect(x, y, size, strong ? 2 : 1);
  }

  private cross(x: number, y: number, size: number, look: number): void {
    const { pen, ink } = this;
    pen.strokeStyle = ink.muted;
    pen.lineWidth = 0.8;
    pen.beginPath();
    pen.moveTo(x + 0.5, y + size - 0.5);
    pen.lineTo(x + size - 0.5, y + 0.5);
    if (look === BAD_CELL) {
      pen.strokeStyle = ink.line;
      pen.moveTo(x + 0.5, y + 0.5);
      pen.lineTo(x + size - 0.5, y + size - 0.5);
    }
    pen.stroke();
  }

  /** Draw the heads of devices whose state has changed. */
  heads(states: Uint8Array): void {
    for (const block of this.layout.blocks) {
      const device = this.devices[block.device] as WallDevice;
      const state = states[device.unit] ?? 0;
      if (this.states[block.device] === state) continue;
      this.states[block.device] = state;
      this.head(block.x, block.y, block.width, named("device", device.label), condition(STATES[state]));
    }
  }

  private head(x: number, y: number, width: number, label: string, of: Condition): void {
    const { pen, ink } = this;
    const loud = of === "down" || of === "held";
    const ground = loud ? inkOf(of, ink) : ink.raised;
    const text = loud ? ink.panel : ink.text;
    pen.fillStyle = ground;
    pen.fillRect(x, y, width, HEAD - 2);
    drawGlyph(pen, of, x + 2, y + 2, 9, loud ? ink.panel : inkOf(of, ink));
    pen.textBaseline = "middle";
    pen.font = `600 10px ${ink.font}`;
    pen.fillStyle = text;
    const room = width - 15;
    const w = Math.min(pen.measureText(label).width, room);
    pen.fillText(label, x + 13, y + 7, room);
    const word = this.words(of);
    pen.font = `10px ${ink.font}`;
    if (pen.measureText(word).width < room - w - 6) {
      pen.fillStyle = loud ? text : ink.muted;
      pen.fillText(word, x + 13 + w + 5, y + 7);
    }
  }

  /** Hatch everything: what stands there is old. */
  veil(width: number): void {
    const { pen, ink } = this;
    pen.save();
    pen.globalAlpha = 0.5;
    pen.fillStyle = ink.bg;
    pen.fillRect(0, 0, width, this.layout.height);
    pen.globalAlpha = 0.8;
    pen.fillStyle = hatch(pen, ink.muted);
    pen.fillRect(0, 0, width, this.layout.height);
    pen.restore();
  }
}
