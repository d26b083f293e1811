import assert from "node:assert/strict";
import { test } from "node:test";
import { BAD, STALE } from "../src/api/frames";
import { BAD_CELL, Bands, HIGH, LOW, STALE_CELL, WARM } from "../src/wall/bands";

const WORK = Uint8Array.of(6);
const WAIT = Uint8Array.of(5);
const noise = (k: number): number => 300 * Math.sin(k * 1.7);
function learned(): Bands {
  const bands = new Bands(3, Uint8Array.of(0, 0, 1), Int32Array.of(0, 0, 0));
  for (let k = 0; k < WARM + 60; k++) bands.learn(Uint16Array.of(30_000 + noise(k), 20_000 + noise(k + 1), k), WORK);
  return bands;
}

test("a signal inside its own band stays grey, whatever its level", () => {
  const bands = learned();
  assert.ok((bands.look[0] as number) < 5 && (bands.look[1] as number) < 5);
});

test("a value far from its band shows after two frames, above and below", () => {
  const bands = learned();
  for (let k = 0; k < 3; k++) bands.learn(Uint16Array.of(36_000, 14_000, 1), WORK);
  assert.equal(bands.look[0], HIGH);
  assert.equal(bands.look[1], LOW);
  assert.ok(bands.z(0) > 4 && bands.z(1) < -4);
});

test("one outlier alone is not an alarm", () => {
  const bands = learned();
  bands.learn(Uint16Array.of(36_000, 20_000, 1), WORK);
  assert.notEqual(bands.look[0], HIGH);
});

test("a fault does not become the normal within a minute", () => {
  const bands = learned();
  for (let k = 0; k < 240; k++) bands.learn(Uint16Array.of(45_000 + noise(k), 20_000 + noise(k), 1), WORK);
  assert.equal(bands.look[0], HIGH);
});

test("stale and bad values keep the band they had", () => {
  const bands = learned();
  const mean = bands.mean[0];
  bands.learn(Uint16Array.of(STALE, BAD, 1), WORK);
  assert.deepEqual([bands.look[0], bands.look[1], bands.mean[0]], [STALE_CELL, BAD_CELL, mean]);
});

test("counters have no band and 12,164 signals are learned in a few milliseconds", () => {
  const bands = new Bands(12_164, new Uint8Array(12_164), new Int32Array(12_164));
  const codes = new Uint16Array(12_164).fill(31_000);
  for (let k = 0; k < 10; k++) bands.learn(codes, WORK);
  const before = performance.now();
  for (let k = 0; k < 20; k++) bands.learn(codes, WORK);
  const each = (performance.now() - before) / 20;
  assert.ok(each < 8, `${each} ms`);
  assert.ok(Number.isNaN(learned().z(2)));
});

test("a machine that waits has a normal of its own", () => {
  const bands = learned();
  for (let k = 0; k < 10; k++) bands.learn(Uint16Array.of(2_000, 1_000, 1), WAIT);
  assert.ok((bands.look[0] as number) < 5, "not learned yet: no judgement");
  for (let k = 0; k < WARM; k++) bands.learn(Uint16Array.of(2_000 + noise(k), 1_000, 1), WAIT);
  bands.learn(Uint16Array.of(30_000, 20_000, 1), WORK);
  assert.ok((bands.look[0] as number) < 5, "back at work: the old band still holds");
});

test("a burst that belongs to every cycle is normal", () => {
  const bands = new Bands(1, Uint8Array.of(0), Int32Array.of(0));
  for (let k = 0; k < 2 * WARM; k++) bands.learn(Uint16Array.of(k % 40 === 0 ? 50_000 : 1000 + noise(k)), WORK);
  for (let k = 0; k < 3; k++) bands.learn(Uint16Array.of(50_000), WORK);
  assert.ok((bands.look[0] as number) < 5);
});
