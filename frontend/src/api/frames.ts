// Decoder of the live frames (docs/reference/contracts.md, section 9). Little-endian; 24-byte header.

export const BAD = 65535;
export const STALE = 65534;
export const TOP = 65533;
export const STALE_QUALITY = 128;

export interface Header {
  kind: number;
  sourceLost: boolean;
  epoch: number;
  seq: number;
  count: number;
  /** Plant time of the newest value, ms since the epoch. */
  timeMs: number;
}
export interface WallFrame extends Header { kind: 1; values: Uint16Array; states: Uint8Array }
export interface TagsFrame extends Header {
  kind: 2; values: Float32Array; quality: Uint8Array; times: Float64Array;
}
export type Frame = WallFrame | TagsFrame;

const HEADER = 24;

/** Decode one binary frame; throws RangeError when it is cut short or of an unknown kind or version. */
export function decode(buffer: ArrayBuffer): Frame {
  const view = new DataView(buffer);
  const kind = view.getUint8(0);
  const version = view.getUint8(1);
  if (version !== 1) throw new RangeError(`live frame: version ${version}, this page knows 1`);
  const head = {
    sourceLost: (view.getUint16(2, true) & 1) === 1,
    epoch: view.getUint32(4, true),
    seq: view.getUint32(8, true),
    count: view.getUint32(12, true),
    timeMs: view.getFloat64(16, true),
  };
  if (kind === 1) return wall(buffer, view, head);
  if (kind === 2) return tags(buffer, head);
  throw new RangeError(`live frame: kind ${kind} is unknown`);
}

function wall(buffer: ArrayBuffer, view: DataView, head: Omit<Header, "kind">): WallFrame {
  const at = HEADER + 2 * head.count;
  const units = view.getUint32(at, true);
  return {
    kind: 1,
    ...head,
    values: new Uint16Array(buffer, HEADER, head.count),
    states: new Uint8Array(buffer, at + 4, units),
  };
}

function tags(buffer: ArrayBuffer, head: Omit<Header, "kind">): TagsFrame {
  const n = head.count;
  // The float64 column need not be aligned, so it is copied out.
  const times = new Float64Array(buffer.slice(HEADER + 5 * n, HEADER + 13 * n));
  return {
    kind: 2,
    ...head,
    values: new Float32Array(buffer, HEADER, n),
    quality: new Uint8Array(buffer, HEADER + 4 * n, n),
    times,
  };
}

/** Display value of a quantised one on `low..high`; NaN for bad and stale. */
export function dequantise(code: number, low: number, high: number): number {
  return code > TOP ? Number.NaN : low + (code / TOP) * (high - low);
}
