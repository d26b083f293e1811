import type { ComponentChildren, JSX } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { t } from "../i18n";
import { type Condition, conditionText, GLYPHS } from "../state/condition";

/** The glyph of a condition; the word stands beside it, so it is hidden from screen readers. */
export function Glyph({ of }: { of: Condition }): JSX.Element {
  const [path, filled] = GLYPHS[of];
  return (
    <svg class={`glyph c-${of}`} viewBox="0 0 12 12" width="12" height="12" aria-hidden="true">
      <path d={path} fill={filled ? "currentColor" : "none"} stroke="currentColor" stroke-width={filled ? 0 : 1.6} />
    </svg>
  );
}

export function Chip({ of, text }: { of: Condition; text?: string }): JSX.Element {
  return (
    <span class={`chip k-${of}`}>
      <Glyph of={of} />
      {text ?? conditionText(of)}
    </span>
  );
}

const ICONS = {
  wall: "M2 2h4v4H2zM8 2h4v4H8zM14 2h4v4h-4zM2 8h4v4H2zM8 8h4v4H8zM14 8h4v4h-4zM2 14h4v4H2zM8 14h4v4H8zM14 14h4v4h-4z",
  line: "M1 8h5v5H1zM8 8h5v5H8zM15 8h4v5h-4zM6 10h2v1H6zM13 10h2v1h-2zM1 15h18v1.5H1z",
  schedule: "M2 3h9v3H2zM6 8.5h10v3H6zM10 14h8v3h-8z",
  trend: "M2 2h1.6v14.4H18V18H2zM5 13l4-5 3 3 5-7 1.2.9-6 8.6-3.1-3.1-2.9 3.6z",
  orders: "M4 2h12v16H4zM6.5 6h7v1.4h-7zM6.5 9.3h7v1.4h-7zM6.5 12.6h4.5V14H6.5z",
  work: "M3 4h3v3H3zM8 4.8h10v1.5H8zM3 9h3v3H3zM8 9.8h10v1.5H8zM3 14h3v3H3zM8 14.8h10v1.5H8z",
  brain: "M10 2a4 4 0 0 1 4 3 4 4 0 0 1 2 6.5A3.6 3.6 0 0 1 12.5 17 3 3 0 0 1 10 18a3 3 0 0 1-2.5-1A3.6 3.6 0 0 1 4 11.500 4 4 0 0 1 6 5a4 4 0 0 1 4-3zm-.7 3v11h1.4V5z",
  users: "M7 3a3 3 0 1 1 0 6 3 3 0 0 1 0-6zM1.500 16c0-3.300 2.400-5.500 5.500-5.500s5.500 2.200 5.500 5.500zM13.500 4.500a2.500 2.500 0 1 1 0 5 2.500 2.500 0 0 1 0-5zM14 16c0-1.900-.6-3.500-1.600-4.700 3.300-.6 6.100 1.300 6.100 4.700z",
} as const;
export type IconName = keyof typeof ICONS;

export function Icon({ name }: { name: IconName }): JSX.Element {
  return (
    <svg class="icon" viewBox="0 0 20 20" width="20" height="20" aria-hidden="true">
      <path d={ICONS[name]} fill="currentColor" fill-rule="evenodd" />
    </svg>
  );
}

/** A part of a screen with its heading. */
export function Panel(props: { title: string; extra?: ComponentChildren; class?: string; children: ComponentChildren }): JSX.Element {
  return (
    <section class={`panel ${props.class ?? ""}`}>
      <header>
        <h2>{props.title}</h2>
        {props.extra}
      </header>
      {props.children}
    </section>
  );
}

export function Problem({ text }: { text: string }): JSX.Element | null {
  return text ? <p class="problem" role="alert">{text}</p> : null;
}

export function Empty({ text }: { text: string }): JSX.Element {
  return <p class="empty">{text}</p>;
}

/** A share of 0..1 as a bar with its number. */
export function Meter({ value, label }: { value: number; label: string }): JSX.Element {
  const share = Math.max(0, Math.min(1, value));
  return (
    <span class="meter">
      <meter min={0} max={1} value={share} aria-label={label} />
      <span>{Math.round(100 * share)} %</span>
    </span>
  );
}

/** A scrolling box that the keyboard can reach. */
export function Scroll(props: { label: string; class?: string; children: ComponentChildren }): JSX.Element {
  return (
    <div class={`scroll ${props.class ?? ""}`} tabIndex={0} role="region" aria-label={props.label}>
      {props.children}
    </div>
  );
}

/** A modal dialog: focus inside, Escape closes. */
export function Dialog(props: { title: string; onClose: () => void; children: ComponentChildren; class?: string }): JSX.Element {
  const ref = useRef<HTMLDialogElement>(null);
  // Before the next key: letters typed right after the shortcut belong to the dialog.
  useLayoutEffect(() => {
    const dialog = ref.current;
    if (dialog && !dialog.open) dialog.showModal();
    return () => dialog?.close();
  }, []);
  return (
    <dialog ref={ref} class={props.class ?? ""} aria-label={props.title} onClose={props.onClose}
      onClick={(event) => event.target === ref.current && props.onClose()}>
      <header>
        <h2>{props.title}</h2>
        <button type="button" class="quiet" onClick={props.onClose} aria-label={t("common.close")}>✕</button>
      </header>
      {props.children}
    </dialog>
  );
}

/** Size of an element, kept up to date. */
export function useSize<T extends HTMLElement>(): [(element: T | null) => void, { width: number; height: number }] {
  const [size, setSize] = useState({ width: 0, height: 0 });
  const watch = useRef<ResizeObserver | null>(null);
  const hold = useRef((element: T | null) => {
    watch.current?.disconnect();
    if (!element) return;
    watch.current = new ResizeObserver(() => {
      const next = { width: element.clientWidth, height: element.clientHeight };
      setSize((old) => (old.width === next.width && old.height === next.height ? old : next));
    });
    watch.current.observe(element);
  });
  return [hold.current, size];
}

/** Set a canvas to a size in CSS pixels at the screen's resolution; answers its context. */
export function fit(canvas: HTMLCanvasElement, width: number, height: number): CanvasRenderingContext2D {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const w = Math.round(width * ratio);
  const h = Math.round(height * ratio);
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d", { alpha: false });
  if (!context) throw new Error("this browser gives no 2D canvas");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

let hatching: CanvasPattern | null = null;
let hatchKey = "";

/** Diagonal hatching for what is stale. */
export function hatch(context: CanvasRenderingContext2D, colour: string): CanvasPattern | string {
  if (hatching && hatchKey === colour) return hatching;
  const tile = document.createElement("canvas");
  tile.width = tile.height = 8;
  const pen = tile.getContext("2d");
  if (!pen) return colour;
  pen.strokeStyle = colour;
  pen.lineWidth = 1.4;
  pen.beginPath();
  for (let x = -8; x <= 8; x += 8) {
    pen.moveTo(x, 8);
    pen.lineTo(x + 8, 0);
  }
  pen.stroke();
  hatching = context.createPattern(tile, "repeat");
  hatchKey = colour;
  return hatching ?? colour;
}
