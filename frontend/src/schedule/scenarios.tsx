import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { call } from "../api/client";
import { plantMs } from "../api/live";
import type { Change, Order, ScheduleView } from "../api/types";
import { dayTime, duration, fromField, toField } from "../format";
import { named, t } from "../i18n";
import { centerName, plant, productName, tail } from "../state/plant";
import { usePoll } from "../state/poll";
import { may } from "../state/session";
import { Dialog, Problem, Scroll } from "../ui/parts";
import { Delta, kpiText } from "./card";

const KINDS = ["down", "shift", "add", "cancel", "due"] as const;
type Kind = (typeof KINDS)[number];
/** One supposed change, as the server takes it; instants in ms. */
interface Supposed {
  kind: Kind; machine?: string; work_center?: string; order?: string; id?: string; product?: string; quantity?: number;
  from?: number; until?: number; due?: number;
}
interface Column {
  error?: string; kpis?: Record<string, number>; effect?: Record<string, number>; moved?: number; changes?: Change[];
  late?: { order: string; late_s: number }[];
}
interface Answer { now: { kpis: Record<string, number> }; scenarios: Column[] }

const MOST = 3;
const NAMES = ["A", "B", "C"];
const COMPARED = ["weighted_tardiness_s", "late_orders", "throughput_per_h", "setups", "setup_s", "makespan_s"];
const HOUR = 3_600_000;
const NEGLIGIBLE = 0.001;
/** Kept while the dialog is closed. */
const drafts = signal<Supposed[][]>([[]]);

function text(change: Supposed): string {
  const span = `${dayTime(change.from ?? 0)} – ${dayTime(change.until ?? 0)}`;
  if (change.kind === "down") return `${tail(change.machine ?? "")}: ${named("scenario", "down")}, ${span}`;
  if (change.kind === "shift") return `${centerName(change.work_center ?? "")}: ${named("scenario", "shift")}, ${span}`;
  if (change.kind === "add") return `${named("scenario", "add")} ${change.id}: ${change.quantity} × ${productName(change.product ?? "")}, ${dayTime(change.due ?? 0)}`;
  if (change.kind === "cancel") return `${named("scenario", "cancel")} ${change.order}`;
  return `${change.order}: ${named("scenario", "due")} ${dayTime(change.due ?? 0)}`;
}

/** A form for one more change of a scenario. */
function Add({ view, orders, onAdd }: { view: ScheduleView; orders: readonly string[]; onAdd: (change: Supposed) => void }): JSX.Element {
  const now = plantMs.peek() || view.now_ms;
  const [change, setChange] = useState<Supposed>({
    kind: "down", machine: view.machines[0]?.path ?? "", work_center: view.machines[0]?.work_center ?? "", order: orders[0] ?? "",
    id: "NEW-1", product: plant.value?.products[0]?.id ?? "", quantity: 50, from: now + HOUR, until: now + 5 * HOUR, due: now + 48 * HOUR,
  });
  const put = (more: Partial<Supposed>): void => setChange({ ...change, ...more });
  const order = change.order || orders[0] || "";
  const { kind } = change;
  const submit = (event: Event): void => {
    event.preventDefault();
    const span = { from: change.from, until: change.until };
    const of: Record<Kind, Supposed> = {
      down: { kind, machine: change.machine, ...span }, shift: { kind, work_center: change.work_center, ...span },
      add: { kind, id: change.id, product: change.product, quantity: change.quantity, due: change.due },
      cancel: { kind, order }, due: { kind, order, due: change.due },
    } as Record<Kind, Supposed>;
    onAdd(of[kind]);
  };
  const when = (name: "from" | "until" | "due"): JSX.Element => (
    <label>{named("scenario", name)}
      <input type="datetime-local" required value={toField(change[name] ?? now)} onInput={(event) => event.currentTarget.value && put({ [name]: fromField(event.currentTarget.value) })} />
    </label>
  );
  const centers = [...new Set(view.machines.map((row) => row.work_center))];
  return (
    <form class="fields" onSubmit={submit}>
      <label>{t("whatif.kind")}
        <select value={kind} onChange={(event) => put({ kind: event.currentTarget.value as Kind })}>
          {KINDS.map((name) => <option key={name} value={name}>{named("scenario", name)}</option>)}
        </select>
      </label>
      {kind === "down" && (
        <label>{t("whatif.machine")}
          <select value={change.machine} onChange={(event) => put({ machine: event.currentTarget.value })}>
            {view.machines.map((row) => <option key={row.path} value={row.path}>{centerName(row.work_center)} · {row.id}</option>)}
          </select>
        </label>
      )}
      {kind === "shift" && (
        <label>{t("scenario.center")}
          <select value={change.work_center} onChange={(event) => put({ work_center: event.currentTarget.value })}>
            {centers.map((id) => <option key={id} value={id}>{centerName(id)}</option>)}
          </select>
        </label>
      )}
      {(kind === "cancel" || kind === "due") && (
        <label>{t("whatif.order")}
          <select value={order} onChange={(event) => put({ order: event.currentTarget.value })}>
            {orders.map((id) => <option key={id} value={id}>{id}</option>)}
          </select>
        </label>
      )}
      {kind === "add" && (
        <>
          <label>{t("scenario.id")}<input required maxLength={64} value={change.id} onInput={(event) => put({ id: event.currentTarget.value })} /></label>
          <label>{t("why.product")}
            <select value={change.product} onChange={(event) => put({ product: event.currentTarget.value })}>
              {(plant.value?.products ?? []).map((row) => <option key={row.id} value={row.id}>{productName(row.id)}</option>)}
            </select>
          </label>
          <label>{t("scenario.quantity")}<input type="number" required min={1} value={change.quantity} onInput={(event) => put({ quantity: Number(event.currentTarget.value) })} /></label>
        </>
      )}
      {(kind === "down" || kind === "shift") && <>{when("from")}{when("until")}</>}
      {(kind === "add" || kind === "due") && when("due")}
      <button>{t("scenario.plus")}</button>
    </form>
  );
}

function Compared({ answer }: { answer: Answer }): JSX.Element {
  const names = COMPARED.filter((name) => name in answer.now.kpis);
  return (
    <Scroll label={t("scenario.title")}>
      <table class="tight compared">
        <thead><tr><th>{t("whatif.kpi")}</th><th class="num">{t("scenario.base")}</th>{answer.scenarios.map((_, i) => <th key={i} class="num">{NAMES[i]}</th>)}</tr></thead>
        <tbody>
          {names.map((name) => {
            const before = answer.now.kpis[name] ?? 0;
            return (
              <tr key={name}><th scope="row">{named("kpiname", name)}</th><td class="num">{kpiText(name, before)}</td>
                {answer.scenarios.map((column, i) => {
                  const by = column.effect?.[name] ?? 0;
                  return <td key={i} class="num">{column.kpis ? <>{kpiText(name, column.kpis[name] ?? Number.NaN)}<br /><Delta name={name} value={Math.abs(by) < NEGLIGIBLE * Math.abs(before) ? 0 : by} /></> : "–"}</td>;
                })}
              </tr>
            );
          })}
          <tr><th scope="row">{t("scenario.moved")}</th><td class="num">–</td>{answer.scenarios.map((column, i) => <td key={i} class="num">{column.moved ?? "–"}</td>)}</tr>
          <tr><th scope="row">{t("scenario.late")}</th><td />
            {answer.scenarios.map((column, i) => (
              <td key={i}>{column.error ? <span class="late">{column.error}</span> : (column.late ?? []).length === 0 ? "–" : (column.late ?? []).slice(0, 6).map((row) => <div key={row.order}>{row.order} +{duration(row.late_s)}</div>)}</td>
            ))}
          </tr>
        </tbody>
      </table>
    </Scroll>
  );
}

/** Up to three suppositions beside the plan in force. */
export function Scenarios({ view, onClose, onDone }: { view: ScheduleView; onClose: () => void; onDone: () => void }): JSX.Element {
  const { data } = usePoll<Order[]>("orders", 0);
  const orders = (data ?? []).map((row) => row.id).sort();
  const [answer, setAnswer] = useState<Answer | null>(null);
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const [chosen, setChosen] = useState(0);
  const list = drafts.value;
  const at = Math.min(chosen, list.length - 1);
  const put = (next: Supposed[][]): void => {
    drafts.value = next.length ? next : [[]];
    setAnswer(null);
  };
  const run = async (work: () => Promise<void>): Promise<void> => {
    setBusy(true);
    setError("");
    try {
      await work();
    } catch (problem) {
      setError(problem instanceof Error ? problem.message : String(problem));
    } finally {
      setBusy(false);
    }
  };
  const solve = (): Promise<void> => run(async () => setAnswer(await call<Answer>("POST", "schedule/scenarios", { scenarios: list })));
  // Orders are what a planner may change from here; the plan that follows is judged like every other.
  const real = (column: Supposed[]): boolean => column.length > 0 && column.every((c) => c.kind === "add" || c.kind === "cancel");
  const propose = (column: Supposed[]): Promise<void> => run(async () => {
    for (const c of column)
      if (c.kind === "add") await call("POST", "orders", { id: c.id, product: c.product, quantity: c.quantity, due: c.due });
      else await call("DELETE", `orders/${encodeURIComponent(c.order ?? "")}`);
    put(list.filter((row) => row !== column));
    onDone();
  });
  return (
    <Dialog title={t("scenario.title")} class="scenarios" onClose={onClose}>
      <p class="muted">{t("whatif.text")}</p>
      <div class="scenario-columns">
        {list.map((column, i) => (
          <section key={i} class={i === at ? "panel chosen" : "panel"} aria-label={t("scenario.name", { name: NAMES[i] ?? "" })}>
            <header>
              <button type="button" aria-pressed={i === at} onClick={() => setChosen(i)}>{t("scenario.name", { name: NAMES[i] ?? "" })}</button>
              <button type="button" class="quiet" aria-label={t("scenario.discard", { name: NAMES[i] ?? "" })} onClick={() => put(list.filter((_, k) => k !== i))}>✕</button>
            </header>
            <ul class="reasons">
              {column.map((change, k) => (
                <li key={k}>{text(change)} <button type="button" class="quiet" aria-label={t("scenario.without", { what: text(change) })} onClick={() => put(list.map((row, n) => (n === i ? row.filter((_, m) => m !== k) : row)))}>✕</button></li>
              ))}
              {column.length === 0 && <li class="muted">{t("scenario.empty")}</li>}
            </ul>
            {real(column) && may("planner") && answer && <button type="button" disabled={busy} onClick={() => void propose(column)}>{t("scenario.propose")}</button>}
          </section>
        ))}
        {list.length < MOST && <button type="button" onClick={() => { put([...list, []]); setChosen(list.length); }}>+ {t("scenario.more")}</button>}
      </div>
      <Add view={view} orders={orders} onAdd={(change) => put(list.map((row, i) => (i === at ? [...row, change] : row)))} />
      <div class="buttons">
        <button type="button" class="primary" disabled={busy || list.every((row) => row.length === 0)} onClick={() => void solve()}>{t(busy ? "whatif.busy" : "scenario.solve")}</button>
      </div>
      <div aria-live="polite">
        <Problem text={error} />
        {answer && <Compared answer={answer} />}
      </div>
    </Dialog>
  );
}
