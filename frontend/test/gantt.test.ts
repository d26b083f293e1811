import assert from "node:assert/strict";
import { test } from "node:test";
import type { Bar, Decision, ScheduleView } from "../src/api/types";
import { zone } from "../src/format";
import { holdsPiece } from "../src/line/flow";
import { axisStep, firstAfter, neighbour, pan, rowsOf, whole, type Window, zoom } from "../src/schedule/model";
import { better, candidateText, move, opText, reasonsOf, triggerText } from "../src/schedule/words";

const bar = (op: string, machine: string, start: number): Bar => ({
  op, request: op, product: "p", family: "f", machine, start_ms: start, end_ms: start + 10, setup_start_ms: null, status: "planned", late_s: null,
});
const view = (bars: Bar[]): ScheduleView => ({
  plan_id: "p", time_ms: 0, now_ms: 0, frozen_until_ms: 5, actual: [], ghost: [], closed: [], kpis: {}, gap: null, bars,
  machines: [{ path: "a", id: "a", work_center: "w", state: "up" }, { path: "b", id: "b", work_center: "w", state: "breakdown" }, { path: "c", id: "c", work_center: "x", state: "up" }],
});

test("rows follow the plant, bars follow time, and the live state fills in", () => {
  const rows = rowsOf(view([bar("2", "a", 30), bar("1", "a", 5), bar("3", "c", 0)]), (path) => (path === "a" ? 6 : undefined));
  assert.deepEqual(rows.map((row) => row.bars.map((b) => b.op)), [["1", "2"], [], ["3"]]);
  assert.deepEqual(rows.map((row) => row.condition), ["running", "down", "unknown"]);
  assert.deepEqual(rows.map((row) => row.first), [true, false, true]);
});

test("the first bar after an instant is found by bisection", () => {
  const bars = Array.from({ length: 1000 }, (_, k) => bar(String(k), "a", 10 * k));
  for (const time of [-5, 0, 9, 10, 4321, 9999, 20_000])
    assert.equal(firstAfter(bars, time), bars.findIndex((b) => b.end_ms > time) < 0 ? 1000 : bars.findIndex((b) => b.end_ms > time));
});

test("zoom keeps the instant under the pointer and stays within its limits", () => {
  const start: Window = { from: 1000, scale: 100, top: 0 };
  const near = zoom(start, 0.5, 40);
  assert.equal(near.from + 40 * near.scale, start.from + 40 * start.scale);
  assert.ok(zoom(start, 1e-9, 0).scale >= 15 && zoom(start, 1e9, 0).scale <= 3_600_000);
});

test("pan does not leave the rows", () => {
  const start: Window = { from: 0, scale: 1, top: 0 };
  assert.equal(pan(start, 0, -500, 120).top, 120);
  assert.equal(pan(start, 0, 500, 120).top, 0);
  assert.equal(pan(start, 0, -50, -10).top, 0);
});

test("the whole plan fits the width", () => {
  const window = whole(view([bar("1", "a", -100), bar("2", "b", 9_000_000)]), 1000, null);
  assert.ok(window.from <= -100 && window.from + 1000 * window.scale >= 9_000_010);
});

test("arrow keys walk bars in time and rows in the plant's order", () => {
  const rows = rowsOf(view([bar("1", "a", 0), bar("2", "a", 20), bar("3", "c", 12)]));
  const first = rows[0]?.bars[0] ?? null;
  assert.equal(neighbour(rows, 0, first, "ArrowRight").bar?.op, "2");
  assert.equal(neighbour(rows, 0, first, "ArrowLeft").bar?.op, "1");
  assert.deepEqual([neighbour(rows, 0, first, "ArrowDown").row, neighbour(rows, 0, first, "ArrowDown").bar?.op], [2, "3"]);
});

test("labels of the time axis never stand closer than their room", () => {
  for (const scale of [15, 1000, 60_000, 900_000]) assert.ok(axisStep(scale) / scale >= 70);
});

test("a KPI's change is better or worse by its own direction", () => {
  assert.equal(better("weighted_tardiness_s", -5), true);
  assert.equal(better("throughput_per_h", -5), false);
  assert.equal(better("setups", 0), null);
});

test("a move reads the record's machines and instants", () => {
  const row = move({ op: "o", machine_from: "x/y/m1", machine_to: "x/y/m2", start_from_ms: 1000, start_to_ms: 61_000 });
  assert.deepEqual([row.op, row.from, row.to, row.shift], ["o", "m1", "m2", 60]);
});

test("a move to another day says which", () => {
  const day = 86_400_000;
  zone.value = "UTC";
  const later = move({ op: "o", start_from_ms: 10 * day + 3_600_000, start_to_ms: 11 * day + 7_200_000 }, 10 * day);
  assert.match(later.start, /^01:00 → 12 Jan 02:00$/);
  const tomorrow = move({ op: "o", start_from_ms: 11 * day + 3_600_000, start_to_ms: 11 * day + 7_200_000 }, 10 * day);
  assert.match(tomorrow.start, /^12 Jan 01:00 → 02:00$/);
  zone.value = undefined;
});

test("candidates are named by their parts, loads by the end of their id", () => {
  assert.equal(candidateText("right_shift+search"), "right shift + search");
  assert.equal(candidateText("redispatch_2"), "re-dispatch 2");
  assert.equal(opText("LOAD-heat-e5f7898604"), "Load 8604");
  assert.equal(opText("W1.soft"), "W1.soft");
});

test("a stop of a flow line names the station that stopped", () => {
  const trigger = { kind: "breakdown", path: "p/w/a/asm1/main/asm1", payload: { station: "p/w/a/asm1/z2/st15" } };
  assert.match(triggerText({ trigger } as unknown as Decision), /· st15$/);
});

test("the judge's waiting is not told once it is over", () => {
  const reasons = [{ id: "reason.verified" }, { id: "judge.approve" }];
  assert.equal(reasonsOf({ state: "waiting_approval", reasons } as Decision).length, 2);
  assert.deepEqual(reasonsOf({ state: "in_force", reasons } as Decision).map((r) => r.id), ["reason.verified"]);
});

test("only a station with a piece in it shows a serial number", () => {
  const at = (state: string, reason: string, blocked = false): boolean => holdsPiece({ state, reason, blocked });
  assert.deepEqual([at("EXECUTE", "NONE"), at("HELD", "MICRO_STOP"), at("SUSPENDED", "BLOCKED")], [true, true, true]);
  assert.deepEqual([at("SUSPENDED", "STARVED"), at("IDLE", "NO_JOB"), at("SUSPENDED", "NONE", true)], [false, false, true]);
});
