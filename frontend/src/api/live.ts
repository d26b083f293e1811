import { signal } from "@preact/signals";
import { decode, type Frame, type TagsFrame, type WallFrame } from "./frames";

export type View = { view: "wall"; hz: number } | { view: "tags"; ids: number[]; hz: number };

/** One event as the server sends it in a text frame. */
export interface LiveEvent {
  kind: string; path: string; time_ms?: number; time_ns?: number; text?: string;
  payload?: Record<string, unknown>;
}

const FIRST_RETRY_MS = 250;
const LAST_RETRY_MS = 4000;
/** A frame comes at least every second; without one for this long the data counts as stale. */
export const SILENT_MS = 1800;

export const connected = signal(false);
/** Seconds since the newest plant value grew; NaN before the first frame. */
export const ageSeconds = signal(Number.NaN);
/** True when what is on the screen may be old: hatch it. */
export const stale = signal(true);
export const sourceLost = signal(false);
export const epoch = signal(0);
export const plantMs = signal(0);

type Listener<T> = (value: T) => void;

/** The one WebSocket of this page: reconnects by itself, keeps the wanted view, counts its age. */
class Live {
  private socket: WebSocket | null = null;
  private view: View = { view: "wall", hz: 2 };
  private retry = FIRST_RETRY_MS;
  private timer = 0;
  private clock = 0;
  private wanted = false;
  private lastFrame = 0;
  private lastGrowth = 0;
  private newest = 0;
  private readonly wallListeners = new Set<Listener<WallFrame>>();
  private readonly tagListeners = new Set<Listener<TagsFrame>>();
  private readonly eventListeners = new Set<Listener<LiveEvent>>();

  stop(): void {
    this.wanted = false;
    window.clearTimeout(this.timer);
    this.socket?.close();
  }

  start(): void {
    if (this.wanted) return;
    this.wanted = true;
    this.retry = FIRST_RETRY_MS;
    this.open();
    this.clock ||= window.setInterval(() => this.tick(), 200);
  }

  show(view: View): void {
    this.view = view;
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(view));
  }

  onWall(listener: Listener<WallFrame>): () => void {
    this.wallListeners.add(listener);
    return () => this.wallListeners.delete(listener);
  }

  onTags(listener: Listener<TagsFrame>): () => void {
    this.tagListeners.add(listener);
    return () => this.tagListeners.delete(listener);
  }

  onEvent(listener: Listener<LiveEvent>): () => void {
    this.eventListeners.add(listener);
    return () => this.eventListeners.delete(listener);
  }

  private open(): void {
    window.clearTimeout(this.timer);
    const url = new URL("api/v1/live", document.baseURI);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    url.hash = "";
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onopen = () => {
      connected.value = true;
      this.retry = FIRST_RETRY_MS;
      socket.send(JSON.stringify(this.view));
    };
    socket.onmessage = (message) => this.receive(message.data as string | ArrayBuffer);
    socket.onclose = () => {
      if (this.socket !== socket) return;
      connected.value = false;
      this.socket = null;
      if (!this.wanted) return;
      this.timer = window.setTimeout(() => this.open(), this.retry);
      this.retry = Math.min(this.retry * 2, LAST_RETRY_MS);
    };
  }

  private receive(data: string | ArrayBuffer): void {
    if (typeof data === "string") return this.text(data);
    const frame = decode(data);
    this.lastFrame = performance.now();
    this.count(frame);
    if (frame.kind === 1) for (const listener of this.wallListeners) listener(frame);
    else for (const listener of this.tagListeners) listener(frame);
  }

  private count(frame: Frame): void {
    epoch.value = frame.epoch;
    sourceLost.value = frame.sourceLost;
    if (frame.timeMs > this.newest || frame.timeMs < this.newest - 60_000) {
      this.newest = frame.timeMs;
      this.lastGrowth = this.lastFrame;
    }
    if (Math.abs(frame.timeMs - plantMs.value) >= 500) plantMs.value = frame.timeMs;
    if (stale.value) this.tick();
  }

  private text(data: string): void {
    const message = JSON.parse(data) as { event?: LiveEvent; epoch?: number };
    if (typeof message.epoch === "number") epoch.value = message.epoch;
    if (message.event) for (const listener of this.eventListeners) listener(message.event);
  }

  private tick(): void {
    const now = performance.now();
    const age = this.lastGrowth ? (now - this.lastGrowth) / 1000 : Number.NaN;
    ageSeconds.value = Number.isNaN(age) ? age : Math.round(age * 10) / 10;
    stale.value = !this.lastFrame || now - this.lastFrame > SILENT_MS;
  }
}

export const live = new Live();
