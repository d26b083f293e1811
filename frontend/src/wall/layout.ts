/** A device of the wall with the positions of its signals in the frame. */
export interface WallDevice { unit: number; path: string; label: string; zone: string; signals: number[] }

/** Where a device stands on the canvas; cells run in rows from left to right. */
export interface Block { device: number; x: number; y: number; width: number; height: number; columns: number }
export interface ZoneMark { zone: string; x: number; y: number; width: number }
export interface Layout {
  blocks: Block[]; zones: ZoneMark[]; height: number; cell: number;
  /** Per signal: left and top of its cell, and the device that owns it; -1 when it is not shown. */
  x: Int16Array; y: Int32Array; owner: Int16Array;
}

export const HEAD = 15;
export const ZONE = 17;
const GAP = 6;
const ZONE_GAP = 14;
const LEFT = 8;
const COLUMNS = 12;

const columnsOf = (n: number): number => (n <= 48 ? 8 : n > 130 ? 18 : COLUMNS);

/**
 * Place devices on shelves from left to right, zone after zone in flow order.
 *
 * @param cell size of one cell with its gap, CSS pixels
 */
export function arrange(devices: readonly WallDevice[], signals: number, width: number, cell: number): Layout {
  const layout: Layout = {
    blocks: [], zones: [], height: 0, cell,
    x: new Int16Array(signals).fill(-1), y: new Int32Array(signals).fill(-1), owner: new Int16Array(signals).fill(-1),
  };
  let x = LEFT;
  let y = 4;
  let shelf = 0;
  let zone: string | null = null;
  devices.forEach((device, index) => {
    const columns = columnsOf(device.signals.length);
    const rows = Math.ceil(device.signals.length / columns);
    const w = Math.max(columns * cell, 58);
    const h = HEAD + rows * cell;
    const fresh = device.zone !== zone;
    if (fresh && x > LEFT) x += ZONE_GAP - GAP;
    if (x + w > width - LEFT && x > LEFT) {
      x = LEFT;
      y += shelf + ZONE + GAP + 4;
      shelf = 0;
    }
    if (fresh || x === LEFT) layout.zones.push({ zone: device.zone, x, y, width: 0 });
    zone = device.zone;
    const block = { device: index, x, y: y + ZONE, width: w, height: h, columns };
    layout.blocks.push(block);
    const mark = layout.zones[layout.zones.length - 1] as ZoneMark;
    mark.width = x + w - mark.x;
    place(layout, device, block);
    shelf = Math.max(shelf, h);
    x += w + GAP;
  });
  layout.height = y + shelf + ZONE + 8;
  return layout;
}

function place(layout: Layout, device: WallDevice, block: Block): void {
  device.signals.forEach((signal, k) => {
    layout.x[signal] = block.x + (k % block.columns) * layout.cell;
    layout.y[signal] = block.y + HEAD + Math.floor(k / block.columns) * layout.cell;
    layout.owner[signal] = block.device;
  });
}

/** The largest cell with which everything fits into the height, between 4 and 9 pixels. */
export function bestCell(devices: readonly WallDevice[], signals: number, width: number, height: number): number {
  for (let cell = 10; cell > 4; cell--) if (arrange(devices, signals, width, cell).height <= height) return cell;
  return 4;
}

/** The block at a place, or null. */
export function blockAt(layout: Layout, x: number, y: number): Block | null {
  for (const block of layout.blocks)
    if (x >= block.x && x < block.x + block.width && y >= block.y && y < block.y + block.height) return block;
  return null;
}

/** The signal at a place, or -1. */
export function signalAt(layout: Layout, devices: readonly WallDevice[], x: number, y: number): number {
  const block = blockAt(layout, x, y);
  if (!block || y < block.y + HEAD) return -1;
  const column = Math.floor((x - block.x) / layout.cell);
  const row = Math.floor((y - block.y - HEAD) / layout.cell);
  if (column >= block.columns) return -1;
  return devices[block.device]?.signals[row * block.columns + column] ?? -1;
}
