import type { Change, Decision, Message } from "../api/types";
import { timeBeside } from "../format";
import { fill, named, t } from "../i18n";
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
  const text = message.text || fill(named("message", message.id), (message.params ?? {}) as Record<string, string>);
  return text.replace(/\bLOAD-[\w-]+/g, (op) => opText(op));
}

/** The station of a flow line that stopped; the trigger's path then names the whole line. */
function stopped(trigger: Decision["trigger"]): string {
  const payload = trigger["payload"] as Record<string, unknown> | undefined;
  const station = trigger["station"] ?? payload?.["station"];
  return typeof station === "string" ? station : "";
}

/** What set a decision off: the event and its place. */
export function triggerText(decision: Decision): string {
  const trigger = decision.trigger;
  if (typeof trigger.text === "string" && trigger.text) return trigger.text;
  const kind = String(trigger.kind ?? "");
  const place = stopped(trigger) || (typeof trigger.path === "string" ? trigger.path : "");
  const path = place ? ` · ${tail(place)}` : "";
  return `${named("event", kind, kind)}${path}`;
}

/** One change of the plan: operation, machine and start, before and after. */
export interface Move { op: string; from: string; to: string; start: string; shift: number }

const text = (...values: unknown[]): string => {
  for (const value of values) if (typeof value === "string" && value) return value;
  return "";
};
const ms = (...values: unknown[]): number => {
  for (const value of values) if (typeof value === "number") return value;
  return Number.NaN;
};

const sameMinute = (before: number, after: number): boolean =>
  !Number.isFinite(before) || Math.floor(before / 60_000) === Math.floor(after / 60_000);

/** `beside`: an instant of the reader's day; times of other days carry their day. */
export function move(change: Change, beside = Number.NaN): Move {
  const before = ms(change.old_start_ms, change["start_from_ms"]);
  const after = ms(change.new_start_ms, change["start_to_ms"]);
  const from = text(change.old_machine, change.from_machine, change["machine_from"]);
  const to = text(change.new_machine, change.to_machine, change["machine_to"], change.machine);
  const shift = typeof change.shift_s === "number" ? change.shift_s : (after - before) / 1000;
  return {
    op: text(change.op, change["job"], change["id"]), from: from && tail(from), to: to && tail(to),
    start: sameMinute(before, after) ? timeBeside(after, beside) : `${timeBeside(before, beside)} → ${timeBeside(after, before)}`, shift,
  };
}

/** Whether people should look at a move: another machine, or a minute or more. */
export const isNotable = (row: Move): boolean =>
  (row.from !== "" && row.from !== row.to) || !Number.isFinite(row.shift) || Math.abs(row.shift) >= 60;

/** Name of a candidate plan: its parts joined (`right_shift+search`); numbered ones (`redispatch_2`) share one. */
export function candidateText(name: string): string {
  return name.split("+").map((part) => {
    const numbered = /^(.*)_(\d+)$/.exec(part);
    return numbered ? `${named("candidate", numbered[1] ?? part)} ${numbered[2]}` : named("candidate", part);
  }).join(" + ");
}

/** Name of an operation; a furnace load has a long made-up id, of which the end is enough. */
export function opText(op: string): string {
  const load = /^LOAD-.+-(?:[0-9a-f]*([0-9a-f]{4})|(\w+))$/.exec(op);
  return load ? t("card.load", { id: load[1] ?? load[2] ?? "" }) : op;
}

/** Reasons to show: what the judge said of the waiting is over once somebody has answered. */
export const reasonsOf = (decision: Decision): Message[] =>
  decision.state.startsWith("waiting") ? decision.reasons : decision.reasons.filter((reason) => !/^judge\.(approve|veto)$/.test(reason.id));

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
