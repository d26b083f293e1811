import { BAD, STALE, TOP } from "../api/frames";

/** Frames of a signal before its band is trusted. */
export const WARM = 40;
/** The band forgets with this weight per frame: about two minutes at 4 Hz. */
const FORGET = 1 / 480;
/** A band is never narrower than this share of the display range. */
const FLOOR = 0.004;
const HIGH_SIGMA = 4;
const FAINT_SIGMA = 3;

// What a cell shows. 0..4 are the grey steps inside the band.
export const FAINT_LOW = 5;
export const LOW = 6;
export const FAINT_HIGH = 7;
export const HIGH = 8;
export const STALE_CELL = 9;
export const BAD_CELL = 10;
export const FLAG_ON = 11;

/** Display kinds: only gauges have a normal band. */
export const GAUGE = 0;
export const FLAG = 3;

/**
 * The normal band of every signal, kept in the page: running mean and deviation, one array each.
 *
 * `learn` takes the quantised codes of a frame and writes what each cell shows into `look`;
 * it answers nothing else and allocates nothing.
 */
export class Bands {
  readonly mean: Float32Array;
  readonly variance: Float32Array;
  readonly seen: Uint16Array;
  readonly look: Uint8Array;
  readonly codes: Uint16Array;
  /** Frames in a row that a cell has been out of its band. */
  readonly out: Uint8Array;

  constructor(readonly size: number, private readonly kinds: Uint8Array) {
    this.mean = new Float32Array(size);
    this.variance = new Float32Array(size);
    this.seen = new Uint16Array(size);
    this.look = new Uint8Array(size).fill(BAD_CELL);
    this.codes = new Uint16Array(size).fill(BAD);
    this.out = new Uint8Array(size);
  }

  learn(codes: Uint16Array): void {
    const n = Math.min(this.size, codes.length);
    for (let i = 0; i < n; i++) {
      const code = codes[i] as number;
      const before = this.codes[i] as number;
      this.codes[i] = code;
      if (code >= STALE) {
        this.look[i] = code === BAD ? BAD_CELL : STALE_CELL;
        this.out[i] = 0;
      } else if (this.kinds[i] === GAUGE) this.gauge(i, code / TOP);
      else if (this.kinds[i] === FLAG) this.look[i] = code > TOP / 2 ? FLAG_ON : 1;
      else this.look[i] = code === before ? 2 : 3;
    }
  }

  private gauge(i: number, x: number): void {
    const seen = this.seen[i] as number;
    const mean = this.mean[i] as number;
    const variance = this.variance[i] as number;
    const gap = x - mean;
    const sigma = Math.max(Math.sqrt(variance), FLOOR);
    const z = gap / sigma;
    const weight = Math.max(1 / (seen + 1), FORGET);
    // A value far outside teaches the band slowly, so that a fault does not become the normal.
    const taught = seen >= WARM && Math.abs(z) > HIGH_SIGMA ? weight / 8 : weight;
    this.mean[i] = mean + taught * gap;
    this.variance[i] = (1 - taught) * (variance + taught * gap * gap);
    if (seen < 65535) this.seen[i] = seen + 1;
    const far = seen >= WARM && Math.abs(z) > FAINT_SIGMA;
    this.out[i] = far && Math.abs(z) > HIGH_SIGMA ? Math.min((this.out[i] as number) + 1, 255) : 0;
    this.look[i] = far ? this.outside(i, z) : Math.max(0, Math.min(4, Math.round(2 + z)));
  }

  private outside(i: number, z: number): number {
    const strong = (this.out[i] as number) >= 2;
    return z > 0 ? (strong ? HIGH : FAINT_HIGH) : strong ? LOW : FAINT_LOW;
  }

  /** Deviation of a signal from its own normal, in its own sigmas; NaN while it is not known. */
  z(i: number): number {
    const code = this.codes[i] as number;
    if (code >= STALE || (this.seen[i] as number) < WARM || this.kinds[i] !== GAUGE) return Number.NaN;
    const sigma = Math.max(Math.sqrt(this.variance[i] as number), FLOOR);
    return (code / TOP - (this.mean[i] as number)) / sigma;
  }
}
