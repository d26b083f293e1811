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
export const ZONE = 15;
const GAP = 5;
const ZONE_GAP = 14;
const LEFT = 8;
/** Columns of a device with 90 signals; smaller and larger devices follow by their size. */
const SHAPES = [12, 15, 18, 23, 30];

const columnsOf = (n: number, shape: number): number =>
  n <= 12 ? Math.min(n, 10) : Math.max(8, Math.round(shape * Math.min(1.4, Math.max(0.55, n / 90))));

/**
 * Place devices on shelves from left to right, zone after zone in flow order.
 *
 * @param cell size of one cell with its gap, CSS pixels
 * @param shape columns of a device with 90 signals
 */
export function arrange(devices: readonly WallDevice[], signals: number, width: number, cell: number, shape = 12): Layout {
  const layout: Layout = {
    blocks: [], zones: [], height: 0, cell,
    x: new Int16Array(signals).fill(-1), y: new Int32Array(signals).fill(-1), owner: new Int16Array(signals).fill(-1),
  };
  let x = LEFT;
  let y = 4;
  let shelf = 0;
  let zone: string | null = null;
  devices.forEach((device, index) => {
    const columns = columnsOf(device.signals.length, shape);
    const rows = Math.ceil(device.signals.length / columns);
    const w = Math.max(columns * cell, 56);
    const h = HEAD + rows * cell;
    const fresh = device.zone !== zone;
    if (fresh && x > LEFT) x += ZONE_GAP - GAP;
    if (x + w > width - LEFT && x > LEFT) {
      x = LEFT;
      y += shelf + ZONE + GAP;
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

/** The layout with the largest cells that fits into the height; `zoom` pixels are then added. */
export function best(devices: readonly WallDevice[], signals: number, width: number, height: number, zoom: number): Layout {
  for (let cell = 10; cell >= 4; cell--)
    for (const shape of SHAPES) {
      const layout = arrange(devices, signals, width, cell, shape);
      if (layout.height > height && (cell > 4 || shape !== SHAPES[SHAPES.length - 1])) continue;
      const size = Math.max(4, Math.min(24, cell + zoom));
      return size === cell ? layout : arrange(devices, signals, width, size, shape);
    }
  return arrange(devices, signals, width, 4);
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
