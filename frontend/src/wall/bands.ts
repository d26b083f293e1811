import { BAD, STALE, TOP } from "../api/frames";

/** Frames of a signal before its band is trusted. */
export const WARM = 40;
/** The band forgets with this weight per frame: about two minutes at 4 Hz. */
const FORGET = 1 / 480;
/** A band is never narrower than this share of the display range. */
const FLOOR = 0.004;
/** After so many frames outside (ten minutes at 4 Hz) the signal works differently: learn anew. */
const GIVE_UP = 2400;
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
  readonly out: Uint16Array;

  constructor(readonly size: number, private readonly kinds: Uint8Array) {
    this.mean = new Float32Array(size);
    this.variance = new Float32Array(size);
    this.seen = new Uint16Array(size);
    this.look = new Uint8Array(size).fill(BAD_CELL);
    this.codes = new Uint16Array(size).fill(BAD);
    this.out = new Uint16Array(size);
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
    const far = seen >= WARM && Math.abs(z) > FAINT_SIGMA;
    const out = far && Math.abs(z) > HIGH_SIGMA;
    // A value outside does not teach the band, or a fault would become the normal.
    if (!out) {
      this.mean[i] = mean + weight * gap;
      this.variance[i] = (1 - weight) * (variance + weight * gap * gap);
    }
    this.out[i] = out ? (this.out[i] as number) + 1 : 0;
    if ((this.out[i] as number) >= GIVE_UP) this.seen[i] = this.out[i] = 0;
    else if (seen < 65535) this.seen[i] = seen + 1;
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
