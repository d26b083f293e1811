import assert from "node:assert/strict";
import { test } from "node:test";
import { zones } from "../src/line/flow";
import { find } from "../src/ui/search";
import { arrange, best, signalAt, type WallDevice } from "../src/wall/layout";

function plant(): [WallDevice[], number] {
  let next = 0;
  const devices = Array.from({ length: 153 }, (_, unit) => {
    const n = [90, 95, 72, 160, 30][unit % 5] as number;
    return { unit, path: `p${unit}`, label: `d${unit}`, zone: `z${Math.floor(unit / 20)}`, signals: Array.from({ length: n }, () => next++) };
  });
  return [devices, next];
}

test("every signal has a cell of its own and is found again at its place", () => {
  const [devices, n] = plant();
  const layout = arrange(devices, n, 1100, 5);
  const seen = new Set<string>();
  for (let i = 0; i < n; i++) {
    seen.add(`${layout.x[i]},${layout.y[i]}`);
    assert.equal(signalAt(layout, devices, (layout.x[i] as number) + 1, (layout.y[i] as number) + 1), i);
  }
  assert.equal(seen.size, n);
});

test("no block leaves the canvas or covers another", () => {
  const [devices, n] = plant();
  const { blocks, height } = best(devices, n, 1100, 800, 0);
  for (const a of blocks) {
    assert.ok(a.x >= 0 && a.x + a.width <= 1100 && a.y + a.height <= height);
    for (const b of blocks)
      if (a !== b) assert.ok(a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y);
  }
});

test("the palette finds by words in any order, best first, among 12,000 in a few milliseconds", () => {
  const entries = Array.from({ length: 12_000 }, (_, i) => ({ text: `local/works/assembly/asm1/z1/st${i % 150}/torque_${i}`, kind: "", href: `${i}` }));
  assert.equal(find(entries, "torque_77 st77", 5)[0]?.href, "77");
  assert.deepEqual(find(entries, "nothing here", 5), []);
  const before = performance.now();
  find(entries, "st12 torque", 40);
  assert.ok(performance.now() - before < 50);
});

test("zones keep the order of the line and those without links come last", () => {
  const station = (path: string, cell: string) => ({ path, cell }) as never;
  const result = zones([station("u", "utilities"), station("a", "z1"), station("b", "z1"), station("c", "z2")],
    [{ from: ["a"], to: ["b"], joins: false, level: 0, capacity: 1, state: "ok" }, { from: ["b"], to: ["c"], joins: false, level: 0, capacity: 1, state: "ok" }]);
  assert.deepEqual(result.map((zone) => zone.cell), ["z1", "z2", "utilities"]);
});
