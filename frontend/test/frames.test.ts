import assert from "node:assert/strict";
import { test } from "node:test";
import { BAD, decode, dequantise, STALE, TOP } from "../src/api/frames";

/** A frame as the contract writes it. */
function header(kind: number, count: number, body: number, flags = 0): DataView {
  const view = new DataView(new ArrayBuffer(24 + body));
  view.setUint8(0, kind);
  view.setUint8(1, 1);
  view.setUint16(2, flags, true);
  view.setUint32(4, 7, true);
  view.setUint32(8, 99, true);
  view.setUint32(12, count, true);
  view.setFloat64(16, 1.7e12, true);
  return view;
}

test("a wall frame gives codes and unit states", () => {
  const view = header(1, 3, 6 + 4 + 2, 1);
  [0, TOP, STALE].forEach((code, i) => view.setUint16(24 + 2 * i, code, true));
  view.setUint32(30, 2, true);
  view.setUint8(34, 6);
  view.setUint8(35, 9);
  const frame = decode(view.buffer as ArrayBuffer);
  assert.equal(frame.kind, 1);
  assert.deepEqual([frame.epoch, frame.seq, frame.sourceLost, frame.timeMs], [7, 99, true, 1.7e12]);
  if (frame.kind === 1) assert.deepEqual([[...frame.values], [...frame.states]], [[0, TOP, STALE], [6, 9]]);
});

test("a tags frame gives values, quality and times though the times are not aligned", () => {
  const view = header(2, 3, 39);
  [1.5, -2, 8].forEach((value, i) => view.setFloat32(24 + 4 * i, value, true));
  view.setUint8(37, 128);
  view.setFloat64(39 + 16, 1.6e12, true);
  const frame = decode(view.buffer as ArrayBuffer);
  assert.equal(frame.kind, 2);
  if (frame.kind === 2) assert.deepEqual([[...frame.values], frame.quality[1], frame.times[2]], [[1.5, -2, 8], 128, 1.6e12]);
});

test("frames of another version, of an unknown kind or cut short are refused", () => {
  const other = header(1, 0, 4);
  other.setUint8(1, 2);
  assert.throws(() => decode(other.buffer as ArrayBuffer), /version 2/);
  assert.throws(() => decode(header(3, 0, 4).buffer as ArrayBuffer), /kind 3/);
  assert.throws(() => decode(header(1, 1000, 4).buffer as ArrayBuffer), RangeError);
});

test("a display value lies on the range of its signal; bad and stale have none", () => {
  assert.equal(dequantise(0, -5, 15), -5);
  assert.equal(dequantise(TOP, -5, 15), 15);
  assert.ok(Number.isNaN(dequantise(BAD, 0, 1)) && Number.isNaN(dequantise(STALE, 0, 1)));
});
