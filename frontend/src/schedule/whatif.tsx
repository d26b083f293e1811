import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { call } from "../api/client";
import { plantMs } from "../api/live";
import type { Change, ScheduleView } from "../api/types";
import { duration } from "../format";
import { named, t } from "../i18n";
import { centerName } from "../state/plant";
import { Dialog, Problem, Scroll } from "../ui/parts";
import { Delta, kpiText } from "./card";
import { isNotable, move, opText } from "./words";

interface Answer { kpis_before: Record<string, number>; kpis_after: Record<string, number>; changes: Change[] }
type Supposed = { kind: string; path: string; payload: Record<string, unknown> };

const KINDS = ["down", "absent", "rush", "cancel"] as const;
type Kind = (typeof KINDS)[number];
const COMPARED = ["weighted_tardiness_s", "late_orders", "throughput_per_h", "setups", "makespan_s"];
const SHOWN = 30;
/** A smaller share of the KPI is no change that people act on. */
const NEGLIGIBLE = 0.001;

/** The event that the chosen case stands for, as the planner reacts to it. */
function suppose(kind: Kind, machine: string, hours: number, order: string): Supposed {
  const until_ns = Math.round((plantMs.peek() || Date.now()) + hours * 3_600_000) * 1e6;
  if (kind === "down") return { kind: "breakdown", path: machine, payload: { until_ns } };
  if (kind === "absent") return { kind: "operator_absent", path: machine, payload: { until_ns } };
  if (kind === "rush") return { kind: "orders_changed", path: order, payload: { priority: { [order]: 9 } } };
  return { kind: "orders_changed", path: order, payload: { cancelled: [order] } };
}

function Outcome({ answer }: { answer: Answer }): JSX.Element {
  const names = COMPARED.filter((name) => name in answer.kpis_after && name in answer.kpis_before);
  const moves = answer.changes.map((change) => move(change, plantMs.peek())).filter(isNotable);
  return (
    <>
      <table class="tight">
        <thead><tr><th>{t("whatif.kpi")}</th><th class="num">{t("whatif.now")}</th><th class="num">{t("whatif.then")}</th><th class="num">{t("whatif.change")}</th></tr></thead>
        <tbody>
          {names.map((name) => {
            const before = answer.kpis_before[name] ?? Number.NaN;
            const after = answer.kpis_after[name] ?? Number.NaN;
            return (
              <tr key={name}><th scope="row">{named("kpiname", name)}</th><td class="num">{kpiText(name, before)}</td><td class="num">{kpiText(name, after)}</td>
                <td class="num"><Delta name={name} value={Math.abs(after - before) < NEGLIGIBLE * Math.abs(before) ? 0 : after - before} /></td></tr>
            );
          })}
        </tbody>
      </table>
      <h3>{t("whatif.changes", { n: moves.length })}</h3>
      {moves.length > 0 && (
        <Scroll label={t("whatif.changes", { n: moves.length })} class="short">
          <table class="tight">
            <tbody>
              {moves.slice(0, SHOWN).map((row) => (
                <tr key={row.op}>
                  <th scope="row" title={row.op}>{opText(row.op)}</th>
                  <td>{row.from && row.from !== row.to ? `${row.from} → ${row.to}` : row.to || row.from}</td>
                  <td>{row.start}</td>
                  <td class="num">{Number.isFinite(row.shift) ? `${row.shift > 0 ? "+" : ""}${duration(row.shift)}` : ""}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </Scroll>
      )}
    </>
  );
}

/** Suppose something happens: the plan that the brain would make, beside the one in force. */
export function WhatIf({ view, machine: first, onClose }: { view: ScheduleView; machine: string; onClose: () => void }): JSX.Element {
  const orders = [...new Set(view.bars.map((bar) => bar.request))].filter(Boolean).sort();
  const [kind, setKind] = useState<Kind>("down");
  const [machine, setMachine] = useState(first || (view.machines[0]?.path ?? ""));
  const [order, setOrder] = useState(orders[0] ?? "");
  const [hours, setHours] = useState(2);
  const [answer, setAnswer] = useState<Answer | null>(null);
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const ask = async (event: Event): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setAnswer(null);
    try {
      setAnswer(await call<Answer>("POST", "schedule/what-if", { events: [suppose(kind, machine, hours, order)] }));
      setError("");
    } catch (problem) {
      setError(problem instanceof Error ? problem.message : String(problem));
    } finally {
      setBusy(false);
    }
  };
  const stop = kind === "down" || kind === "absent";
  return (
    <Dialog title={t("whatif.title")} class="whatif" onClose={onClose}>
      <p class="muted">{t("whatif.text")}</p>
      <form class="fields" onSubmit={(event) => void ask(event)}>
        <label>{t("whatif.kind")}
          <select value={kind} onChange={(event) => setKind(event.currentTarget.value as Kind)}>
            {KINDS.map((name) => <option key={name} value={name}>{named("whatif", name)}</option>)}
          </select>
        </label>
        {stop && (
          <>
            <label>{t("whatif.machine")}
              <select value={machine} onChange={(event) => setMachine(event.currentTarget.value)}>
                {view.machines.map((row) => <option key={row.path} value={row.path}>{centerName(row.work_center)} · {row.id}</option>)}
              </select>
            </label>
            <label>{t("whatif.hours")}
              <input type="number" min={0.25} max={72} step={0.25} required value={hours} onInput={(event) => setHours(Number(event.currentTarget.value))} />
            </label>
          </>
        )}
        {!stop && (
          <label>{t("whatif.order")}
            <select value={order} onChange={(event) => setOrder(event.currentTarget.value)}>
              {orders.map((id) => <option key={id} value={id}>{id}</option>)}
            </select>
          </label>
        )}
        <button class="primary" disabled={busy || (stop ? !machine : !order)}>{t(busy ? "whatif.busy" : "whatif.ask")}</button>
      </form>
      <div aria-live="polite">
        <Problem text={error} />
        {answer && <Outcome answer={answer} />}
      </div>
    </Dialog>
  );
}
