import { named } from "../i18n";
import type { Ink } from "./theme";

/** UnitState and StopReason by their storage codes (model/state.py). */
export const STATES = [
  "unknown", "clearing", "stopped", "starting", "idle", "suspended", "execute", "stopping", "aborting",
  "aborted", "holding", "held", "unholding", "suspending", "unsuspending", "resetting", "completing", "complete",
] as const;
export const REASONS = [
  "none", "starved", "blocked", "setup", "breakdown", "micro_stop", "tool_change", "quality_stop",
  "no_operator", "planned_stop", "no_job", "maintenance", "waiting_batch",
] as const;

/** What a person at the line calls a state: few words, one glyph each. */
export type Condition =
  | "running" | "starved" | "blocked" | "waiting" | "setup" | "down" | "held" | "idle" | "stopped" | "unknown";

export const stateName = (state: string | number | null | undefined): string =>
  typeof state === "number" ? (STATES[state] ?? "unknown") : (state ?? "unknown").toLowerCase();
export const reasonName = (reason: string | number | null | undefined): string =>
  typeof reason === "number" ? (REASONS[reason] ?? "none") : (reason ?? "none").toLowerCase();

const BY_STATE: Record<string, Condition> = {
  execute: "running", completing: "running", starting: "running", unholding: "running",
  unsuspending: "running", resetting: "idle", idle: "idle", complete: "idle", suspended: "waiting",
  suspending: "waiting", aborted: "down", aborting: "down", clearing: "down", held: "held", holding: "held",
  stopped: "stopped", stopping: "stopped", unknown: "unknown",
};

/** The condition of a unit from its PackML state and the reason its controller gives. */
export function condition(state: string | number | null | undefined, reason?: string | number | null): Condition {
  const base = BY_STATE[stateName(state)] ?? "unknown";
  const why = reasonName(reason);
  if (base === "down" || base === "running" || base === "unknown") return base;
  if (why === "starved" || why === "waiting_batch") return "starved";
  if (why === "blocked") return "blocked";
  if (why === "setup") return "setup";
  if (why === "breakdown") return "down";
  if (why === "planned_stop" || why === "maintenance") return "stopped";
  return base;
}

export const conditionText = (value: Condition): string => named("condition", value);
export const reasonText = (reason: string | number | null | undefined): string => named("reason", reasonName(reason));
export const stateText = (state: string | number | null | undefined): string => named("state", stateName(state));

/** Whether people should look: these carry colour, all others stay grey. */
export const isAbnormal = (value: Condition): boolean =>
  value === "down" || value === "held" || value === "starved" || value === "blocked" ||
  value === "waiting" || value === "unknown";

/** Glyphs on a 12 x 12 grid: [path, filled]. Shape beside colour, everywhere. */
export const GLYPHS: Record<Condition, [string, boolean]> = {
  running: ["M3 2 10 6 3 10Z", true],
  starved: ["M1.8 2.5H10.2L6 10Z", false],
  blocked: ["M1 4.8H5.5V2.5L9 6 5.5 9.5V7.2H1Z M10 1.5H11.5V10.5H10Z", true],
  waiting: ["M2 2H10L6 6ZM6 6 10 10H2Z", false],
  setup: ["M6 1.2 10.8 6 6 10.8 1.2 6Z", false],
  down: ["M2.5 1 6 4.5 9.5 1 11 2.5 7.5 6 11 9.5 9.5 11 6 7.5 2.5 11 1 9.5 4.5 6 1 2.5Z", true],
  held: ["M2.5 2H5V10H2.5Z M7 2H9.5V10H7Z", true],
  idle: ["M6 2.2A3.8 3.8 0 1 1 6 9.8 3.8 3.8 0 1 1 6 2.2Z", false],
  stopped: ["M2.5 2.5H9.5V9.5H2.5Z", false],
  unknown: ["M2 6H4M5 6H7M8 6H10", false],
};

export function inkOf(value: Condition, ink: Ink): string {
  switch (value) {
    case "running": return ink.ok;
    case "down": return ink.down;
    case "held": return ink.held;
    case "starved": case "waiting": return ink.starved;
    case "blocked": return ink.blocked;
    case "setup": return ink.setup;
    default: return ink.muted;
  }
}
