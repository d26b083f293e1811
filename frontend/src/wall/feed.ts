import { effect, signal } from "@preact/signals";
import { live } from "../api/live";
import type { WallFrame } from "../api/frames";
import { kindName, tags, unitIndex, unitOf, units } from "../state/plant";
import { Bands } from "./bands";
import type { WallDevice } from "./layout";

const KIND_CODES: Record<string, number> = { gauge: 0, counter: 1, state: 2, flag: 3, text: 4 };

/** What the frames have taught this page; kept while the reader walks through other screens. */
export interface Feed { epoch: number; bands: Bands; devices: WallDevice[] }

export const feed = signal<Feed | null>(null);
/** State code per unit, in the order of `units`; a new array only when one has changed. */
export const unitStates = signal<Uint8Array>(new Uint8Array(0));

function build(): Feed | null {
  const now = tags.value;
  const index = unitIndex.value;
  if (!now || index.size === 0) return null;
  const kinds = Uint8Array.from(now.kind, (kind) => KIND_CODES[kindName(kind)] ?? 0);
  const owner = new Int32Array(now.path.length).fill(-1);
  const signals = units.value.map(() => [] as number[]);
  now.path.forEach((path, i) => {
    const unit = index.get(unitOf(path));
    if (unit === undefined) return;
    owner[i] = unit;
    signals[unit]?.push(i);
  });
  // Zones in flow order, and within a zone its devices as the plant lists them.
  const zones = new Map<string, number>();
  const devices = units.value
    .map((unit, i) => ({ unit: i, path: unit.path, label: unit.id, zone: `${unit.line}/${unit.cell}`, signals: signals[i] ?? [] }))
    .filter((device) => device.signals.length > 0);
  for (const device of devices) if (!zones.has(device.zone)) zones.set(device.zone, zones.size);
  devices.sort((a, b) => (zones.get(a.zone) ?? 0) - (zones.get(b.zone) ?? 0) || a.unit - b.unit);
  return { epoch: now.epoch, bands: new Bands(now.path.length, kinds, owner), devices };
}

effect(() => {
  feed.value = build();
});

function states(frame: WallFrame): void {
  const old = unitStates.peek();
  const next = frame.states;
  if (old.length === next.length && old.every((state, i) => state === next[i])) return;
  unitStates.value = next.slice();
}

live.onWall((frame) => {
  const now = feed.peek();
  if (now && frame.epoch === now.epoch) now.bands.learn(frame.values, frame.states);
  states(frame);
});
