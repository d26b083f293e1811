// Shapes of the HTTP answers (docs/reference/contracts.md, section 8). Times are ms since the epoch.

export type Names = Record<string, string>;

export interface Me { user: string; role: Role; language: string }
export type Role = "viewer" | "operator" | "planner" | "admin" | "pusher";

export interface SourceHealth {
  id: string; protocol: string; state: "up" | "lost" | "connecting";
  since_ns: number; rate: number; age_s: number | null; gaps: number; rejected: number;
}
export interface Health {
  status: string; version: string; plant_ns: number; plant_rate: number; wall_ns: number;
  sources: SourceHealth[]; signals: number; rate: number; stale: number;
  historian: Record<string, number | string>;
  /** What cannot be written now (ledger, records, plans, history), each with the reason. */
  faults?: Record<string, string>;
  latency?: { stored_p50_ms?: number | null; stored_p99_ms?: number | null } | null;
}

export interface PlantUnit { id: string; path: string; families: string[] }
export interface PlantCenter {
  id: string; area: string; kind: string; names: Names; units: PlantUnit[]; families: string[];
}
export interface PlantDevice { path: string; id: string; klass: string; cell: string; position: number }
export interface PlantLine {
  id: string; devices: PlantDevice[]; links: { from: string; to: string; capacity: number }[];
}
export interface Plant {
  enterprise: string; site: string; names: Names; timezone: string; simulated: boolean;
  work_centers: PlantCenter[]; products: { id: string; names: Names }[]; lines: PlantLine[];
}
export interface Tags {
  epoch: number; path: string[]; unit: string[]; kind: (string | number)[];
  low: number[]; high: number[]; counted: boolean[];
}
export interface LiveValue {
  path: string; value: number | null; text?: string | null; quality: number;
  time_ns?: number | string; time_ms?: number; stale: boolean;
}

export interface Series {
  path: string; unit: string; kind: string | number; time_ms: number[];
  min?: (number | null)[]; max?: (number | null)[]; avg?: (number | null)[];
  value?: (number | null)[]; text?: (string | null)[];
  /** Minutes that rows which came late changed after they had been rolled up. */
  restated?: { from_ms: number; to_ms: number; at_ms: number; rows: number }[];
}

export interface Station {
  path: string; id: string; klass: string; cell: string; state: string | number;
  reason: string | number; since_ms: number | null; processed: number | null; defective: number | null;
  infeed: number | null; serial: string | null; job: string | null; cycle_s: number | null; stale: boolean;
  /** Planned seconds per piece here: the line's takt times the devices side by side. */
  takt_goal_s?: number | null;
  blocked?: boolean; starved?: boolean;
}
export interface LineLink {
  from: string[]; to: string[]; joins: boolean;
  level: number | null; capacity: number | null; state: "ok" | "starved" | "blocked";
}
export interface LineView {
  line: string; takt_s: number | null; takt_goal_s: number | null;
  output: { today: number | null; hour: number | null; since_ms: number | null };
  bottleneck: {
    path: string; confidence: number; method: string;
    ranking: { path: string; score?: number; confidence?: number }[];
  } | null;
  stations: Station[]; links: LineLink[]; missing: string[];
}

export interface Order {
  id: string; product: string; quantity: number; due_ms: number; release_ms: number; priority: number;
  state: string; predicted_end_ms: number | null; late_s: number | null; done: number;
  steps: { work_center: string; job: string; state: string; good: number }[];
}
export interface RowError { row: number; column: string; value: unknown; message: string }
export interface ImportAnswer { accepted: number | string[]; errors: RowError[] }

export interface Bar {
  op: string; request: string; product: string; family: string; machine: string;
  start_ms: number; end_ms: number; setup_start_ms: number | null; setup_end_ms?: number | null; status: string; late_s: number | null;
  /** Operations whose pieces it needs. */
  after?: string[];
}
export interface Pin { op: string; machine: string; start_ms: number | null; by: string; met: boolean }
export interface Actual { op: string; machine: string; start_ms: number; end_ms: number | null; state: string }
export interface Ghost { op: string; machine: string; start_ms: number; end_ms: number }
/** `kind` is `stop` for a planned stop that somebody declared, else the calendar's. */
export interface Closed { machine: string; start_ms: number; end_ms: number; kind?: "calendar" | "stop" }
/** A planned stop of a unit, or an extra shift of a work center. */
export interface Declared { id: string; kind: "down" | "shift"; place: string; from_ms: number; until_ms: number; by: string }
export interface ScheduleView {
  plan_id: string | null; time_ms: number; now_ms: number; frozen_until_ms: number;
  machines: { path: string; id: string; work_center: string; state: string | number }[];
  bars: Bar[]; actual: Actual[]; ghost: Ghost[]; closed: Closed[];
  kpis: Record<string, number>; gap: number | null;
  /** Id of the decision whose proposed plan is shown; null when it is the plan in force. */
  proposal?: string | null; in_force?: boolean;
  pins?: Pin[]; declared?: Declared[];
}

export interface Message { id: string; params?: Record<string, unknown>; text?: string }
export interface Change {
  op?: string; kind?: string; from_machine?: string; to_machine?: string; machine?: string;
  old_machine?: string; new_machine?: string;
  old_start_ms?: number; new_start_ms?: number; shift_s?: number; text?: string;
  [key: string]: unknown;
}
export interface Candidate { name: string; kpis: Record<string, number>; objective: number; text?: string }
export interface Command {
  job?: string; outcome?: string; message?: string; time_ms?: number; equipment?: string; [key: string]: unknown;
}
/** What became of a decision's jobs against what was planned. */
export interface Outcome {
  jobs: number; ended: number; mean_late_s: number | null; worst_late_s: number | null; good: number; scrap: number;
}
export interface Decision {
  id: string; time_ms: number; decision_class?: string; class?: string; line: string;
  trigger: Record<string, unknown> & { text?: string; kind?: string; path?: string };
  candidates: Candidate[]; chosen: number; reasons: Message[]; changes: Change[];
  effect: Record<string, number>; level: number | string; state: string; bound: number | null;
  gap?: number | null; confidence?: number | null; approved_by?: string | null; commands?: Command[];
  outcome: Outcome | null; moved?: number; superseded_by?: string | null; plan_hash?: string;
  /** Wall time at which a decision that waits for a veto acts, or a proposal is given up. */
  until_ms?: number | null;
  answer?: { by?: string; verdict?: string; reason?: string } | null;
}

export interface Explanation { messages: Message[]; [key: string]: unknown }

export interface WorkItem {
  job: string; work_center: string; equipment: string; product: string; program?: string; quantity: number;
  start_ms?: number | null; end_ms?: number | null; state: string; requests?: unknown;
}

export interface Curve {
  serial: string; station: string; program: string; step: number; time_ms: number;
  channels: Record<string, number[]>;
}

/** An alarm with its state after ISA-18.2; it leaves the list when it is normal again. */
export interface Alarm {
  path: string; kind: string; priority: number; since_ms: number; message: Message;
  state: "unacknowledged" | "acknowledged" | "returned_unacknowledged";
  acked_by: string | null; acked_ms: number | null; returned_ms: number | null;
}

/** Something that happened, from `events/recent`. */
export interface PastEvent { time_ms: number; kind: string; path: string; payload: Record<string, unknown> }
