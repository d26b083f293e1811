import type { WallFrame } from "../api/frames";
import { route } from "../router";

declare global {
  interface Window { painted?: { seq: number; plantMs: number; paintedMs: number }[] }
}

/**
 * With `measure=1` in the address, keep for each frame when its picture was on the screen: after
 * the animation frame that painted it, seen by a message that the browser handles behind it.
 */
export function report(frame: WallFrame): void {
  if (route.peek().params.get("measure") !== "1") return;
  const list = (window.painted ??= []);
  requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => {
      list.push({ seq: frame.seq, plantMs: frame.timeMs, paintedMs: Date.now() });
      if (list.length > 10_000) list.splice(0, 5_000);
      channel.port1.close();
    };
    channel.port2.postMessage(0);
  });
}
