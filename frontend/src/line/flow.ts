import type { LineLink, Station } from "../api/types";
import { condition } from "../state/condition";

/** A zone of a line: its stations in flow order with the link that leaves each. */
export interface Zone { cell: string; stations: Station[]; linked: boolean }

/** Stations by zone in the order in which the line lists them; zones without links come last. */
export function zones(stations: readonly Station[], links: readonly LineLink[]): Zone[] {
  const joined = new Set<string>();
  for (const link of links) for (const path of [...link.from, ...link.to]) joined.add(path);
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

/** Links by the station that each is drawn behind: the last of those that it leaves. */
export function outgoing(links: readonly LineLink[]): Map<string, LineLink[]> {
  const map = new Map<string, LineLink[]>();
  for (const link of links) {
    const last = link.from[link.from.length - 1];
    if (last === undefined) continue;
    const list = map.get(last);
    if (list) list.push(link);
    else map.set(last, [link]);
  }
  return map;
}

/** Whether a piece is in the station now; else the serial number that it tells is of the last one. */
export function holdsPiece(station: Pick<Station, "state" | "reason" | "blocked">): boolean {
  const of = condition(station.state, station.reason);
  return of === "running" || of === "held" || of === "down" || of === "blocked" || (of === "waiting" && station.blocked === true);
}
