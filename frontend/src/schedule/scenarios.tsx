import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { call } from "../api/client";
import { plantMs } from "../api/live";
import type { Change, Message, Order, ScheduleView } from "../api/types";
import { dayTime, duration, fromField, timeBeside, toField } from "../format";
import { named, t } from "../i18n";
import { centerName, plant, productName, tail } from "../state/plant";
import { usePoll } from "../state/poll";
import { may } from "../state/session";
import { Dialog, Problem, Scroll } from "../ui/parts";
import { Delta, kpiText } from "./card";
import { levelText, messageText } from "./words";

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
/** What carrying a scenario out would do, and how far the brain goes by itself afterwards. */
interface Review { column: Supposed[]; name: string; steps: Message[]; lines: { line: string; on: boolean; level: string }[] }
interface Answer { now: { kpis: Record<string, number> }; scenarios: Column[] }

const MOST = 3;
const NAMES = ["A", "B", "C"];
const COMPARED = ["weighted_tardiness_s", "late_orders", "throughput_per_h", "setups", "setup_s", "makespan_s"];
const HOUR = 3_600_000;
const NEGLIGIBLE = 0.001;
/** Kept while the dialog is closed. */
const drafts = signal<Supposed[][]>([[]]);

function text(change: Supposed): string {
  const span = `${dayTime(change.from ?? 0)} – ${timeBeside(change.until ?? 0, change.from ?? 0)}`;
  if (change.kind === "down") return `${tail(change.machine ?? "")}: ${named("scenario", "down")}, ${span}`;
  if (change.kind === "shift") return `${centerName(change.work_center ?? "")}: ${named("scenario", "shift")}, ${span}`;
  if (change.kind === "add") return `${named("scenario", "add")} ${change.id}: ${change.quantity} × ${productName(change.product ?? "")}, ${dayTime(change.due ?? 0)}`;
  if (change.kind === "cancel") return `${named("scenario", "cancel")} ${change.order}`;
  return `${change.order}: ${named("scenario", "due")} ${dayTime(change.due ?? 0)}`;
}

/** The next time in which a work center's calendar is closed: where an extra shift brings something. */
function nextClosed(view: ScheduleView, center: string): { from: number; until: number } | null {
  const units = new Set(view.machines.filter((row) => row.work_center === center).map((row) => row.path));
  const gaps = view.closed.filter((gap) => units.has(gap.machine) && gap.kind !== "stop" && gap.start_ms > view.now_ms);
  const first = gaps.sort((a, b) => a.start_ms - b.start_ms)[0];
  return first ? { from: first.start_ms, until: first.end_ms } : null;
}

/** The first order number NEW-1, NEW-2 … that nobody has yet. */
function freeId(taken: readonly string[]): string {
  let n = 1;
  while (taken.includes(`NEW-${n}`)) n++;
  return `NEW-${n}`;
}

/** A form for one more change of a scenario. */
function Add({ view, orders, taken, onAdd }: { view: ScheduleView; orders: readonly string[]; taken: readonly string[]; onAdd: (change: Supposed) => void }): JSX.Element {
  const now = plantMs.peek() || view.now_ms;
  const [change, setChange] = useState<Supposed>({
    kind: "down", machine: view.machines[0]?.path ?? "", work_center: view.machines[0]?.work_center ?? "", order: orders[0] ?? "",
    id: "", product: plant.value?.products[0]?.id ?? "", quantity: 50, from: now + HOUR, until: now + 5 * HOUR, due: now + 48 * HOUR,
  });
  const put = (more: Partial<Supposed>): void => setChange({ ...change, ...more });
  const order = orders.includes(change.order ?? "") ? change.order ?? "" : orders[0] ?? "";
  const id = change.id || freeId(taken);
  const choose = (more: Partial<Supposed>): void => {
    const next = { ...change, ...more };
    setChange({ ...next, ...(next.kind === "shift" ? nextClosed(view, next.work_center ?? "") : {}) });
  };
  const { kind } = change;
  const submit = (event: Event): void => {
    event.preventDefault();
    const span = { from: change.from, until: change.until };
    const of: Record<Kind, Supposed> = {
      down: { kind, machine: change.machine, ...span }, shift: { kind, work_center: change.work_center, ...span },
      add: { kind, id, product: change.product, quantity: change.quantity, due: change.due },
      cancel: { kind, order }, due: { kind, order, due: change.due },
    } as Record<Kind, Supposed>;
    onAdd(of[kind]);
    put({ id: "" });
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
        <select value={kind} onChange={(event) => choose({ kind: event.currentTarget.value as Kind })}>
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
          <select value={change.work_center} onChange={(event) => choose({ work_center: event.currentTarget.value })}>
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
          <label>{t("scenario.id")}<input required maxLength={64} value={id} onInput={(event) => put({ id: event.currentTarget.value })} /></label>
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
              <td key={i} class="num">{column.error ? <span class="late">{column.error}</span> : (column.late ?? []).length === 0 ? "–" : (column.late ?? []).slice(0, 6).map((row) => <div key={row.order}>{row.order} +{duration(row.late_s)}</div>)}</td>
            ))}
          </tr>
        </tbody>
      </table>
    </Scroll>
  );
}

/** What will be done, step by step, before it is; nothing has happened yet. */
function ReviewBox({ review, busy, onConfirm, onBack }: { review: Review; busy: boolean; onConfirm: () => void; onBack: () => void }): JSX.Element {
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => button.current?.focus(), [review, busy]);
  const words = [...new Set(review.lines.map((row) => (row.on ? levelText(row.level) : t("scenario.lineOff"))))];
  const linesOf = (word: string): string =>
    review.lines.filter((row) => (row.on ? levelText(row.level) : t("scenario.lineOff")) === word).map((row) => centerName(row.line)).join(", ");
  const title = t("scenario.review", { name: review.name });
  return (
    <section class="panel review" aria-label={title}>
      <header><h2>{title}</h2></header>
      <ol class="steps-to-do">{review.steps.map((step, i) => <li key={i}>{messageText(step)}</li>)}</ol>
      <p>{t("scenario.then")}</p>
      <ul class="reasons">{words.map((word) => <li key={word}><b>{word}</b>: {linesOf(word)}</li>)}</ul>
      <div class="buttons">
        <button type="button" ref={button} class="primary" disabled={busy} onClick={onConfirm}>{t(busy ? "whatif.busy" : "scenario.confirm")}</button>
        <button type="button" disabled={busy} onClick={onBack}>{t("scenario.back")}</button>
      </div>
    </section>
  );
}

/** Up to three suppositions beside the plan in force. */
export function Scenarios({ view, onClose, onDone }: { view: ScheduleView; onClose: () => void; onDone: () => void }): JSX.Element {
  const { data, reload } = usePoll<Order[]>("orders", 0);
  const taken = (data ?? []).map((row) => row.id);
  const orders = (data ?? []).filter((row) => row.state === "waiting" || row.state === "running").map((row) => row.id).sort();
  const [review, setReview] = useState<Review | null>(null);
  const [done, setDone] = useState("");
  const [answer, setAnswer] = useState<Answer | null>(null);
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const [chosen, setChosen] = useState(0);
  const list = drafts.value;
  const at = Math.min(chosen, list.length - 1);
  const put = (next: Supposed[][]): void => {
    drafts.value = next.length ? next : [[]];
    setAnswer(null);
    setReview(null);
    setDone("");
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
  const look = (column: Supposed[], name: string): Promise<void> => run(async () => {
    const found = await call<Omit<Review, "column" | "name">>("POST", "schedule/scenarios/steps", { changes: column });
    setReview({ ...found, column, name });
  });
  const carryOut = ({ column, name }: Review): Promise<void> => run(async () => {
    await call("POST", "schedule/scenarios/carry-out", { changes: column });
    put(list.filter((row) => row !== column));
    setDone(t("scenario.done", { name }));
    reload();
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
            {column.length > 0 && answer && !answer.scenarios[i]?.error && may("planner") && (
              <button type="button" disabled={busy} aria-label={`${t("scenario.name", { name: NAMES[i] ?? "" })}: ${t("scenario.propose")}`}
                onClick={() => void look(column, NAMES[i] ?? "")}>{t("scenario.propose")}</button>
            )}
          </section>
        ))}
        {list.length < MOST && <button type="button" onClick={() => { put([...list, []]); setChosen(list.length); }}>+ {t("scenario.more")}</button>}
      </div>
      {review && <ReviewBox review={review} busy={busy} onConfirm={() => void carryOut(review)} onBack={() => setReview(null)} />}
      {review && <Problem text={error} />}
      <Add view={view} orders={orders} taken={[...taken, ...list.flat().map((change) => change.id ?? "")]} onAdd={(change) => put(list.map((row, i) => (i === at ? [...row, change] : row)))} />
      <div class="buttons">
        <button type="button" class="primary" disabled={busy || list.every((row) => row.length === 0)} onClick={() => void solve()}>{t(busy ? "whatif.busy" : "scenario.solve")}</button>
      </div>
      <div aria-live="polite">
        {!review && <Problem text={error} />}
        {done && <p class="note">{done}</p>}
        {answer && <Compared answer={answer} />}
        {answer && !may("planner") && <p class="muted">{t("scenario.notAllowed")}</p>}
      </div>
    </Dialog>
  );
}
