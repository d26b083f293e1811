import assert from "node:assert/strict";
import { test } from "node:test";
import type { Bar } from "../src/api/types";
import { chainOf } from "../src/schedule/pegging";

const bar = (op: string, request: string, start_ms: number, requests?: string[]): Bar & { requests?: string[] } => ({
  op, request, product: "p", family: "f", machine: "m", start_ms, end_ms: start_ms + 1, setup_start_ms: null, status: "planned", late_s: null,
  ...(requests ? { requests } : {}),
});

test("an order's chain is in time order and holds the loads that it shares", () => {
  const bars = [bar("W1.hard", "W1", 30), bar("W1.soft", "W1", 10), bar("LOAD", "W2", 20, ["W2", "W1"]), bar("W3.soft", "W3", 5)];
  assert.deepEqual(chainOf(bars, "W1").map((row) => row.op), ["W1.soft", "LOAD", "W1.hard"]);
  assert.deepEqual(chainOf(bars, "W9"), []);
});
