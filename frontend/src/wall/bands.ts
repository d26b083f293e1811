import { BAD, STALE, TOP } from "../api/frames";

/** Frames of a signal before its band is trusted: more than a minute, some cycles of the line. */
export const WARM = 300;
/** The band forgets with this weight per frame: about two minutes at 4 Hz. */
const FORGET = 1 / 480;
/** The envelope of least and greatest value comes in with this weight per frame. */
const NARROW = 1 / 4800;
/** How far outside its envelope a value must be, as a share of the envelope. */
const MARGIN = 0.15;
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

const EXECUTE = 6;
const COMPLETING = 16;

/** Display kinds: only gauges have a normal band. */
export const GAUGE = 0;
export const FLAG = 3;

/**
 * The normal band of every signal, kept in the page: running mean, deviation and envelope.
 *
 * A machine at work and one that waits are two different normals, so each signal has two bands and
 * the state of its unit chooses. `learn` takes the quantised codes of a frame and writes what each
 * cell shows into `look`; it allocates nothing.
 */
export class Bands {
  readonly mean: Float32Array;
  readonly variance: Float32Array;
  readonly low: Float32Array;
  readonly high: Float32Array;
  readonly seen: Uint16Array;
  readonly look: Uint8Array;
  readonly codes: Uint16Array;
  /** Frames in a row that a cell has been out of its band. */
  readonly out: Uint16Array;
  private readonly working: Uint8Array;

  /**
   * @param kinds per signal, 0 for gauges
   * @param owner per signal, the position of its unit among the states; -1 for none
   */
  constructor(readonly size: number, private readonly kinds: Uint8Array, private readonly owner: Int32Array) {
    this.mean = new Float32Array(2 * size);
    this.variance = new Float32Array(2 * size);
    this.low = new Float32Array(2 * size);
    this.high = new Float32Array(2 * size);
    this.seen = new Uint16Array(2 * size);
    this.working = new Uint8Array(size);
    this.look = new Uint8Array(size).fill(BAD_CELL);
    this.codes = new Uint16Array(size).fill(BAD);
    this.out = new Uint16Array(size);
  }

  learn(codes: Uint16Array, states: Uint8Array): void {
    const n = Math.min(this.size, codes.length);
    for (let i = 0; i < n; i++) {
      const code = codes[i] as number;
      const before = this.codes[i] as number;
      this.codes[i] = code;
      if (code >= STALE) {
        this.look[i] = code === BAD ? BAD_CELL : STALE_CELL;
        this.out[i] = 0;
      } else if (this.kinds[i] === GAUGE) {
        const state = states[this.owner[i] as number];
        this.working[i] = state === EXECUTE || state === COMPLETING ? 1 : 0;
        this.gauge(i, i + (this.working[i] as number) * this.size, code / TOP);
      } else if (this.kinds[i] === FLAG) this.look[i] = code > TOP / 2 ? FLAG_ON : 1;
      else this.look[i] = code === before ? 2 : 3;
    }
  }

  /** `b` is the place of the band of signal `i` that holds in its unit's present state. */
  private gauge(i: number, b: number, x: number): void {
    const seen = this.seen[b] as number;
    const mean = this.mean[b] as number;
    const variance = this.variance[b] as number;
    const gap = x - mean;
    const sigma = Math.max(Math.sqrt(variance), FLOOR);
    const z = gap / sigma;
    const weight = Math.max(1 / (seen + 1), FORGET);
    const far = seen >= WARM && Math.abs(z) > FAINT_SIGMA;
    const out = far && Math.abs(z) > HIGH_SIGMA && this.beyond(b, x);
    // A value outside does not teach the band, or a fault would become the normal.
    if (!out) {
      this.mean[b] = mean + weight * gap;
      this.variance[b] = (1 - weight) * (variance + weight * gap * gap);
      this.envelope(b, x, seen);
    }
    this.out[i] = out ? (this.out[i] as number) + 1 : 0;
    if ((this.out[i] as number) >= GIVE_UP) this.seen[b] = this.out[i] = 0;
    else if (seen < 65535) this.seen[b] = seen + 1;
    this.look[i] = out || (far && this.beyond(b, x)) ? this.outside(i, z) : Math.max(0, Math.min(4, Math.round(2 + z)));
  }

  private envelope(b: number, x: number, seen: number): void {
    const low = this.low[b] as number;
    const high = this.high[b] as number;
    const mean = this.mean[b] as number;
    this.low[b] = seen === 0 ? x : Math.min(x, low + NARROW * (mean - low));
    this.high[b] = seen === 0 ? x : Math.max(x, high + NARROW * (mean - high));
  }

  /** Whether a value is clearly outside what the signal has ever shown: bursts are normal for some. */
  private beyond(b: number, x: number): boolean {
    const low = this.low[b] as number;
    const high = this.high[b] as number;
    const margin = MARGIN * (high - low) + FLOOR;
    return x > high + margin || x < low - margin;
  }

  private outside(i: number, z: number): number {
    const strong = (this.out[i] as number) >= 2;
    return z > 0 ? (strong ? HIGH : FAINT_HIGH) : strong ? LOW : FAINT_LOW;
  }

  /** Deviation of a signal from its own normal, in its own sigmas; NaN while it is not known. */
  z(i: number): number {
    const code = this.codes[i] as number;
    const b = i + (this.working[i] as number) * this.size;
    if (code >= STALE || (this.seen[b] as number) < WARM || this.kinds[i] !== GAUGE) return Number.NaN;
    const sigma = Math.max(Math.sqrt(this.variance[b] as number), FLOOR);
    return (code / TOP - (this.mean[b] as number)) / sigma;
  }
}
