import assert from "node:assert/strict";
import { test } from "node:test";
import { duration, fromField, number, toField, zone } from "../src/format";
import { fill } from "../src/i18n";
import en from "../src/i18n/en.json";
import zh from "../src/i18n/zh.json";
import { condition, REASONS, STATES } from "../src/state/condition";

test("parameters and plurals are filled in", () => {
  assert.equal(fill("{n} {n|job|jobs} of {who}", { n: 1, who: "x" }), "1 job of x");
  assert.equal(fill("{n} {n|job|jobs}", { n: 3 }), "3 jobs");
  assert.equal(fill("{missing}"), "{missing}");
});

test("every state and reason has a word in both languages", () => {
  for (const catalogue of [en, zh] as Record<string, string>[]) {
    for (const state of STATES) assert.ok(catalogue[`state.${state}`]);
    for (const reason of REASONS) assert.ok(catalogue[`reason.${reason}`]);
    for (const state of STATES) for (const reason of REASONS) assert.ok(catalogue[`condition.${condition(state, reason)}`]);
  }
});

test("held is inside, starved and blocked are outside", () => {
  assert.equal(condition("suspended", "starved"), "starved");
  assert.equal(condition("suspended", "blocked"), "blocked");
  assert.equal(condition("held", "micro_stop"), "held");
  assert.equal(condition("aborted", "starved"), "down");
  assert.equal(condition(6, 0), "running");
});

test("durations and numbers are short", () => {
  assert.deepEqual([duration(48), duration(-720), duration(11_100), duration(187_200), duration(null)], ["48 s", "−12 min", "3 h 05", "2 d 4 h", "–"]);
  assert.deepEqual([number(0.01234), number(41.23), number(12_480), number(Number.NaN)], ["0.0123", "41.2", "12,480", "–"]);
});

test("a time typed in is plant time, wherever the browser stands", () => {
  zone.value = "Asia/Shanghai";
  const noon = Date.UTC(2026, 10, 22, 4, 30);
  assert.equal(toField(noon), "2026-11-22T12:30");
  assert.equal(fromField("2026-11-22T12:30"), noon);
  zone.value = "Europe/Berlin";
  assert.equal(fromField("2026-03-29T03:30"), Date.UTC(2026, 2, 29, 1, 30));
  zone.value = undefined;
});
