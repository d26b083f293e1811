import { STALE, type WallFrame } from "../api/frames";
import { route } from "../router";

/** One painted frame: its newest source stamp, when it stood on the screen, and what was seen. */
interface Painted {
  seq: number; plantMs: number; paintedMs: number;
  /** Cells that are known and not stale. */
  alive: number;
  /** Codes of the watched signals, in the order of `window.watched`. */
  codes: number[];
}

declare global {
  interface Window { painted?: Painted[]; watched?: number[] }
}

/**
 * With `measure=1` in the address, keep for each frame when its picture was on the screen: after
 * the animation frame that painted it, seen by a message that the browser handles behind it.
 */
export function report(frame: WallFrame): void {
  if (route.peek().params.get("measure") !== "1") return;
  const list = (window.painted ??= []);
  const codes = (window.watched ?? []).map((id) => frame.values[id] ?? STALE);
  let alive = 0;
  for (const code of frame.values) if (code < STALE) alive++;
  requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => {
      list.push({ seq: frame.seq, plantMs: frame.timeMs, paintedMs: Date.now(), alive, codes });
      if (list.length > 10_000) list.splice(0, 5_000);
      channel.port1.close();
    };
    channel.port2.postMessage(0);
  });
}
