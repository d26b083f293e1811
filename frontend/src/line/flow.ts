import type { LineLink, Station } from "../api/types";

/** A zone of a line: its stations in flow order with the link that leaves each. */
export interface Zone { cell: string; stations: Station[]; linked: boolean }

/** Stations by zone in the order in which the line lists them; zones without links come last. */
export function zones(stations: readonly Station[], links: readonly LineLink[]): Zone[] {
  const joined = new Set<string>();
  for (const link of links) joined.add(link.from).add(link.to);
  const byCell = new Map<string, Zone>();
  for (const station of stations) {
    let zone = byCell.get(station.cell);
    if (!zone) byCell.set(station.cell, (zone = { cell: station.cell, stations: [], linked: false }));
    zone.stations.push(station);
    if (joined.has(station.path)) zone.linked = true;
  }
  const all = [...byCell.values()];
  return [...all.filter((zone) => zone.linked), ...all.filter((zone) => !zone.linked)];
}

/** Links that leave each station. */
export function outgoing(links: readonly LineLink[]): Map<string, LineLink[]> {
  const map = new Map<string, LineLink[]>();
  for (const link of links) {
    const list = map.get(link.from);
    if (list) list.push(link);
    else map.set(link.from, [link]);
  }
  return map;
}
