import { computed, effect, signal } from "@preact/signals";
import { get } from "../api/client";
import { epoch } from "../api/live";
import type { Plant, PlantDevice, Tags } from "../api/types";
import { zone } from "../format";
import { nameOf } from "../i18n";

export const plant = signal<Plant | null>(null);
export const tags = signal<Tags | null>(null);

/** One unit in the order of the states of a wall frame. */
export interface Unit { path: string; id: string; klass: string; cell: string; line: string; counted: boolean }

export const units = computed<Unit[]>(() => {
  const now = plant.value;
  if (!now) return [];
  const rows: Unit[] = [];
  for (const line of now.lines)
    for (const device of line.devices)
      rows.push({ path: device.path, id: device.id, klass: device.klass, cell: device.cell, line: line.id, counted: true });
  for (const center of now.work_centers)
    for (const unit of center.units)
      rows.push({ path: unit.path, id: unit.id, klass: center.kind, cell: center.id, line: center.id, counted: false });
  return rows;
});

export const unitIndex = computed(() => new Map(units.value.map((unit, i) => [unit.path, i])));
export const tagIndex = computed(() => new Map((tags.value?.path ?? []).map((path, i) => [path, i])));
export const devices = computed(() => {
  const all = new Map<string, PlantDevice>();
  for (const line of plant.value?.lines ?? []) for (const device of line.devices) all.set(device.path, device);
  return all;
});

const KINDS = ["gauge", "counter", "state", "flag", "text"];
export const kindName = (kind: string | number | undefined): string =>
  typeof kind === "number" ? (KINDS[kind] ?? "gauge") : (kind ?? "gauge").toLowerCase();

export const unitOf = (path: string): string => path.slice(0, path.lastIndexOf("/"));
export const tail = (path: string): string => path.slice(path.lastIndexOf("/") + 1);
/** `unit · signal`: what is left of a path when the reader knows the plant. */
export const shortPath = (path: string): string => path.split("/").slice(-2).join(" · ");

export const productName = (id: string): string =>
  nameOf(plant.value?.products.find((product) => product.id === id)?.names, id);
export const centerName = (id: string): string =>
  nameOf(plant.value?.work_centers.find((center) => center.id === id)?.names, id);
export const unitName = (path: string): string => tail(path).toUpperCase();
export const firstLine = computed(() => plant.value?.lines[0]?.id ?? "");

let tagsWanted = 0;

async function loadTags(): Promise<void> {
  const mine = ++tagsWanted;
  const answer = await get<Tags>("plant/tags");
  if (mine === tagsWanted) tags.value = answer;
}

/** Load the plant; tags follow by themselves whenever the frames speak of another epoch. */
export async function loadPlant(): Promise<void> {
  const [answer] = await Promise.all([get<Plant>("plant"), loadTags()]);
  zone.value = answer.timezone;
  plant.value = answer;
}

effect(() => {
  const now = epoch.value;
  if (tags.peek() && now && tags.peek()?.epoch !== now) {
    loadTags().catch(() => (tagsWanted = 0));
    get<Plant>("plant").then((answer) => (plant.value = answer), () => undefined);
  }
});
