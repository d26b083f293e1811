import type { Change, Decision, Message } from "../api/types";
import { hourMinute } from "../format";
import { fill, named } from "../i18n";
import { tail } from "../state/plant";

export const LEVELS = ["observe", "advise", "approve", "veto", "report"] as const;

export const className = (decision: Decision): string => decision.decision_class ?? decision.class ?? "plan";
export const decisionClass = (decision: Decision): string => named("class", className(decision));
export const decisionStateText = (decision: Decision): string => named("dstate", decision.state);
export const levelName = (level: number | string | undefined): string =>
  typeof level === "number" ? (LEVELS[level] ?? "observe") : (level ?? "observe").toLowerCase();
export const levelText = (level: number | string | undefined): string => named("level", levelName(level));

/** The text of a message: as the server rendered it, else from our own catalogue, else its id. */
export function messageText(message: Message): string {
  return message.text || fill(named("message", message.id), (message.params ?? {}) as Record<string, string>);
}

/** What set a decision off: the event and its place. */
export function triggerText(decision: Decision): string {
  const trigger = decision.trigger;
  if (typeof trigger.text === "string" && trigger.text) return trigger.text;
  const kind = String(trigger.kind ?? "");
  const path = typeof trigger.path === "string" && trigger.path ? ` · ${tail(trigger.path)}` : "";
  return `${named("event", kind, kind)}${path}`;
}

/** One change of the plan: operation, machine and start, before and after. */
export interface Move { op: string; from: string; to: string; before: string; after: string; shift: number }

const text = (...values: unknown[]): string => {
  for (const value of values) if (typeof value === "string" && value) return value;
  return "";
};
const ms = (...values: unknown[]): number => {
  for (const value of values) if (typeof value === "number") return value;
  return Number.NaN;
};

export function move(change: Change): Move {
  const before = ms(change.old_start_ms, change["start_from_ms"]);
  const after = ms(change.new_start_ms, change["start_to_ms"]);
  const from = text(change.old_machine, change.from_machine, change["machine_from"]);
  const to = text(change.new_machine, change.to_machine, change["machine_to"], change.machine);
  const shift = typeof change.shift_s === "number" ? change.shift_s : (after - before) / 1000;
  return {
    op: text(change.op, change["job"], change["id"]), from: from && tail(from), to: to && tail(to),
    before: hourMinute(before), after: hourMinute(after), shift,
  };
}

/** Whether people should look at a move: another machine, or a minute or more. */
export const isNotable = (row: Move): boolean =>
  (row.from !== "" && row.from !== row.to) || !Number.isFinite(row.shift) || Math.abs(row.shift) >= 60;

/** Name of a candidate plan; numbered ones (`redispatch_2`) share one name. */
export function candidateText(name: string): string {
  const numbered = /^(.*)_(\d+)$/.exec(name);
  return numbered ? `${named("candidate", numbered[1] ?? name)} ${numbered[2]}` : named("candidate", name);
}

/** KPIs where a smaller value is better. */
const LESS = new Set([
  "weighted_tardiness_s", "late_orders", "makespan_s", "setup_s", "setups", "moves", "shift_s", "wip", "objective",
  "tardiness_s", "max_tardiness_s", "near_moves",
]);

/** Whether a change of a KPI is an improvement; null when it changes nothing. */
export function better(name: string, delta: number): boolean | null {
  if (!Number.isFinite(delta) || Math.abs(delta) < 1e-9) return null;
  return LESS.has(name) || name.endsWith("_s") ? delta < 0 : delta > 0;
}
