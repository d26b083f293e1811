import type { Series } from "../api/types";

/** One trace as columns in seconds, the way the chart wants them. */
export interface Trace {
  path: string; unit: string; step: boolean; banded: boolean;
  time: number[]; low: (number | null)[]; middle: (number | null)[]; high: (number | null)[];
  restated: Late[];
}

/** A span in seconds that rows which came late changed, and when that was. */
export interface Late { from: number; to: number; at: number; rows: number }

const STEPPED = new Set(["state", "flag", "text", "2", "3", "4"]);

/** What the server says was restated, in seconds. */
export function late(series: Series): Late[] {
  return (series.restated ?? []).map((one) => ({ from: one.from_ms / 1000, to: one.to_ms / 1000, at: one.at_ms / 1000, rows: one.rows }));
}

/** Restated spans of several traces that touch a range, as one list: spans of the same minutes become one. */
export function restatedIn(all: readonly { restated: Late[] }[], from: number, to: number): Late[] {
  const spans = all.flatMap((one) => one.restated).filter((one) => one.from < to && one.to > from).sort((a, b) => a.from - b.from);
  const merged: Late[] = [];
  for (const span of spans) {
    const last = merged[merged.length - 1];
    if (last && span.from < last.to) Object.assign(last, { to: Math.max(last.to, span.to), at: Math.max(last.at, span.at), rows: last.rows + span.rows });
    else merged.push({ ...span });
  }
  return merged;
}

/** A series of the server as a trace: buckets keep their min/max band, raw samples are a band of none. */
export function trace(series: Series): Trace {
  const time = series.time_ms.map((ms) => ms / 1000);
  const middle = (series.avg ?? series.value ?? []).slice();
  return {
    path: series.path, unit: series.unit, step: STEPPED.has(String(series.kind)),
    banded: series.min !== undefined, time, middle,
    low: (series.min ?? middle).slice(), high: (series.max ?? middle).slice(), restated: late(series),
  };
}

/** Add one live sample at the end; older ones than the last are ignored. */
export function append(to: Trace, timeMs: number, value: number): void {
  const seconds = timeMs / 1000;
  if (!Number.isFinite(value) || seconds <= (to.time[to.time.length - 1] ?? -Infinity)) return;
  to.time.push(seconds);
  to.low.push(value);
  to.middle.push(value);
  to.high.push(value);
}

/** Drop what is older than `from` seconds. */
export function forget(from: Trace, before: number): void {
  const keep = from.time.findIndex((time) => time >= before);
  const cut = keep < 0 ? from.time.length : Math.max(0, keep - 1);
  if (cut === 0) return;
  for (const column of [from.time, from.low, from.middle, from.high]) column.splice(0, cut);
}

export type Aligned = [number[], ...(number | null | undefined)[][]];

/** All traces on one time axis: `time, then low, high, middle of each`; holes are undefined. */
export function align(traces: readonly Trace[]): Aligned {
  const times = [...new Set(traces.flatMap((one) => one.time))].sort((a, b) => a - b);
  const columns: (number | null | undefined)[][] = [];
  for (const one of traces) {
    const low = new Array<number | null | undefined>(times.length);
    const high = new Array<number | null | undefined>(times.length);
    const middle = new Array<number | null | undefined>(times.length);
    let k = 0;
    for (let i = 0; i < times.length; i++) {
      if (one.time[k] !== times[i]) continue;
      low[i] = one.low[k];
      high[i] = one.high[k];
      middle[i] = one.middle[k];
      k++;
    }
    columns.push(low, high, middle);
  }
  return [times, ...columns];
}

/** Least, greatest, mean and number of the values between two instants, for the text twin. */
export function statistics(one: Trace, from: number, to: number): { low: number; high: number; mean: number; last: number; n: number } {
  let low = Infinity;
  let high = -Infinity;
  let sum = 0;
  let n = 0;
  let last = Number.NaN;
  for (let i = 0; i < one.time.length; i++) {
    const time = one.time[i] as number;
    const value = one.middle[i];
    if (time < from || time > to || value === null || value === undefined) continue;
    low = Math.min(low, one.low[i] ?? value);
    high = Math.max(high, one.high[i] ?? value);
    sum += value;
    last = value;
    n++;
  }
  return n ? { low, high, mean: sum / n, last, n } : { low: Number.NaN, high: Number.NaN, mean: Number.NaN, last, n };
}
