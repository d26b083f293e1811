import assert from "node:assert/strict";
import { test } from "node:test";
import { duration, fromField, midnight, number, timeBeside, toField, zone } from "../src/format";
import { fill, language } from "../src/i18n";
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

test("durations are Chinese for Chinese readers", () => {
  language.value = "zh";
  const found = [duration(48), duration(-720), duration(11_100), duration(345_600)];
  language.value = "en";
  assert.deepEqual(found, ["48 \u79d2", "\u221212 \u5206\u949f", "3 \u5c0f\u65f6 05 \u5206", "4 \u5929 0 \u5c0f\u65f6"]);
});

test("a day begins at the plant's midnight", () => {
  zone.value = "Asia/Shanghai";
  const noon = Date.UTC(2026, 10, 22, 4, 30);
  assert.equal(midnight(noon), Date.UTC(2026, 10, 21, 16, 0));
  assert.equal(timeBeside(noon, noon + 3_600_000), "12:30");
  assert.match(timeBeside(noon, noon + 86_400_000), /22 Nov 12:30/);
  zone.value = undefined;
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
