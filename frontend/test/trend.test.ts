import assert from "node:assert/strict";
import { test } from "node:test";
import { align, append, forget, restatedIn, statistics, trace } from "../src/trend/data";

const raw = () => trace({ path: "a", unit: "s", kind: "gauge", time_ms: [1000, 2000, 4000], value: [1, null, 3] });

test("raw samples are a band of none, buckets keep theirs", () => {
  assert.equal(raw().banded, false);
  const bucket = trace({ path: "b", unit: "", kind: "state", time_ms: [1000], min: [0], max: [9], avg: [4] });
  assert.deepEqual([bucket.banded, bucket.step, bucket.low, bucket.middle, bucket.high], [true, true, [0], [4], [9]]);
});

test("a live sample is added once and never before the last", () => {
  const one = raw();
  append(one, 5000, 7);
  append(one, 5000, 8);
  append(one, 3000, 9);
  append(one, 6000, Number.NaN);
  assert.deepEqual([one.time, one.middle], [[1, 2, 4, 5], [1, null, 3, 7]]);
});

test("traces with different instants share one axis", () => {
  const [times, ...columns] = align([raw(), trace({ path: "b", unit: "", kind: "gauge", time_ms: [2000, 3000], value: [5, 6] })]);
  assert.deepEqual(times, [1, 2, 3, 4]);
  assert.deepEqual([...(columns[5] ?? [])], [undefined, 5, 6, undefined]);
  assert.equal(columns.length, 6);
});

test("what is too old is dropped, but the line still enters from the left", () => {
  const one = raw();
  forget(one, 3);
  assert.deepEqual(one.time, [2, 4]);
});

test("statistics count only what is in view and present", () => {
  assert.deepEqual(statistics(raw(), 0, 10), { low: 1, high: 3, mean: 2, last: 3, n: 2 });
  assert.equal(statistics(raw(), 8, 9).n, 0);
});

test("minutes that late rows changed are shown once, those out of sight not", () => {
  const mark = (from: number, to: number, at: number, rows: number) => ({ from_ms: from * 1000, to_ms: to * 1000, at_ms: at * 1000, rows });
  const one = trace({ path: "a", unit: "", kind: "gauge", time_ms: [], value: [], restated: [mark(60, 180, 900, 2), mark(600, 660, 950, 1)] });
  const two = trace({ path: "b", unit: "", kind: "gauge", time_ms: [], value: [], restated: [mark(120, 240, 990, 3)] });
  assert.deepEqual(restatedIn([one, two, raw()], 0, 600), [{ from: 60, to: 240, at: 990, rows: 5 }]);
  assert.deepEqual(restatedIn([one, two], 240, 1000), [{ from: 600, to: 660, at: 950, rows: 1 }]);
});
