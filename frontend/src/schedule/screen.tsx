import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { get, query } from "../api/client";
import { live, stale } from "../api/live";
import type { Bar, Decision, Explanation, ScheduleView } from "../api/types";
import { clock, dayTime, duration, fromField, percent, timeBeside, toField } from "../format";
import { named, t } from "../i18n";
import { adjust, href, route } from "../router";
import { centerName, productName, tail } from "../state/plant";
import { usePoll } from "../state/poll";
import { may } from "../state/session";
import { LineControls } from "../brain/autonomy";
import { Empty, Panel, Problem, Scroll } from "../ui/parts";
import { DecisionCard, kpiText } from "./card";
import { DeclaredTimes } from "./declared";
import { Gantt } from "./gantt";
import { chainOf, Pegging } from "./pegging";
import { Scenarios } from "./scenarios";
import { WeightsPanel } from "./weights";
import { WhatIf } from "./whatif";
import { Pins, useWish, type Wish, WishPanel } from "./wish";
import { decisionClass, decisionStateText, isNotable, messageText, move, opText, triggerText } from "./words";

const MODES = ["plain", "family", "late"] as const;
const TABLE = 300;
const HOUR = 3_600_000;
const KPIS = ["weighted_tardiness_s", "late_orders", "throughput_per_h", "setups", "setup_s", "makespan_s"];

function Kpis({ view }: { view: ScheduleView }): JSX.Element {
  const rows = KPIS.filter((name) => typeof view.kpis[name] === "number").map((name) => [name, view.kpis[name] ?? 0] as const);
  return (
    <dl class={`strip ${view.proposal ? "wants" : ""}`}>
      {rows.length > 0 && (
        <div class={view.proposal ? "attention" : ""}><dt>{t("schedule.numbers")}</dt>
          <dd class="whose">{t(view.proposal ? "schedule.ofProposal" : view.in_force === false ? "schedule.ofOther" : "schedule.ofForce")}</dd></div>
      )}
      {rows.map(([name, value]) => <div key={name}><dt>{named("kpiname", name)}</dt><dd>{kpiText(name, value)}</dd></div>)}
      <div><dt>{t("card.gap")}</dt><dd>{view.gap === null ? t("card.gapUnknown") : percent(view.gap, 1)}</dd></div>
    </dl>
  );
}

/** The answers to "why this?", "why not there?" and "why not then?" for one bar. */
function Why({ bar, view, onWish }: { bar: Bar; view: ScheduleView; onWish: (wish: Wish) => void }): JSX.Element {
  const [answer, setAnswer] = useState<Explanation | null>(null);
  const [title, setTitle] = useState("");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const [machine, setMachine] = useState("");
  const [start, setStart] = useState(bar.start_ms - HOUR);
  const turn = useRef(0);
  const center = view.machines.find((row) => row.path === bar.machine)?.work_center;
  const others = view.machines.filter((row) => row.work_center === center && row.path !== bar.machine);
  const ask = async (path: string, heading: string): Promise<void> => {
    const mine = ++turn.current;
    setTitle(heading);
    setAnswer(null);
    setError("");
    setBusy(true);
    try {
      const found = await get<Explanation>(path);
      if (mine === turn.current) setAnswer(found);
    } catch (problem) {
      if (mine === turn.current) setError(problem instanceof Error ? problem.message : String(problem));
    } finally {
      if (mine === turn.current) setBusy(false);
    }
  };
  const whyNot = (wish: Record<string, string | number>, heading: string): void =>
    void ask(`schedule/why-not?${query({ op: bar.op, ...wish })}`, heading);
  return (
    <Panel title={opText(bar.op)} class="why">
      <dl class="facts">
        <div><dt>{t("why.product")}</dt><dd>{productName(bar.product)}</dd></div>
        <div><dt>{t("why.machine")}</dt><dd>{tail(bar.machine)}</dd></div>
        <div><dt>{t("why.planned")}</dt><dd>{dayTime(bar.start_ms)} – {timeBeside(bar.end_ms, bar.start_ms)}</dd></div>
        <div><dt>{t("why.order")}</dt><dd><a href={href("orders", { sel: bar.request })}>{bar.request}</a></dd></div>
        {bar.late_s !== null && bar.late_s > 0 && <div><dt>{t("why.late")}</dt><dd class="late">{duration(bar.late_s)}</dd></div>}
      </dl>
      <div class="buttons">
        {bar.request && <button type="button" onClick={() => adjust({ order: bar.request })}>{t("peg.open")}</button>}
        {may("operator") && <button type="button" onClick={() => onWish({ op: bar.op, machine: bar.machine, start_ms: bar.start_ms })}>{t("wish.move")} <kbd>M</kbd></button>}
        <button type="button" onClick={() => void ask(`schedule/explain?${query({ op: bar.op })}`, t("why.this"))}>{t("why.this")}</button>
        <button type="button" onClick={() => whyNot({ start: "earlier" }, t("why.earlier"))}>{t("why.earlier")}</button>
      </div>
      <form class="buttons" onSubmit={(event) => { event.preventDefault(); whyNot({ start }, t("why.atTime", { time: dayTime(start) })); }}>
        <input type="datetime-local" required aria-label={t("why.time")} value={toField(start)}
          onInput={(event) => event.currentTarget.value && setStart(fromField(event.currentTarget.value))} />
        <button>{t("why.then")}</button>
      </form>
      {others.length > 0 && (
        <form class="buttons" onSubmit={(event) => { event.preventDefault(); whyNot({ machine }, t("why.notThere", { machine: tail(machine) })); }}>
          <select aria-label={t("why.otherMachine")} value={machine} onChange={(event) => setMachine(event.currentTarget.value)}>
            <option value="">{t("why.choose")}</option>
            {others.map((row) => <option key={row.path} value={row.path}>{row.id}</option>)}
          </select>
          <button disabled={!machine}>{t("why.not")}</button>
        </form>
      )}
      <div aria-live="polite">
        <Problem text={error} />
        {busy && <p class="muted">{t("why.busy")}</p>}
        {answer && <><h3>{title}</h3><ul class="reasons">{answer.messages.map((m, i) => <li key={i}>{messageText(m)}</li>)}</ul></>}
      </div>
    </Panel>
  );
}

function Decisions({ list, chosen }: { list: Decision[]; chosen: string }): JSX.Element {
  return (
    <Panel title={t("schedule.decisions")} class="grow">
      <Scroll label={t("schedule.decisions")}>
        <ul class="decisions">
          {list.map((row) => (
            <li key={row.id}>
              <button type="button" aria-pressed={row.id === chosen} onClick={() => adjust({ d: row.id, op: undefined })}>
                <time>{clock(row.time_ms)}</time>
                <b>{decisionClass(row)}</b>
                <span>{triggerText(row)}</span>
                <em class={`status s-${row.state}`}>{decisionStateText(row)}</em>
              </button>
            </li>
          ))}
        </ul>
        {list.length === 0 && <Empty text={t("wall.noDecision")} />}
      </Scroll>
    </Panel>
  );
}

/** The plan as a real table: the twin of the canvas for screen readers and for paper. */
function Table({ view, row }: { view: ScheduleView; row: string | null }): JSX.Element {
  const all = view.bars.filter((bar) => !row || bar.machine === row);
  const bars = [...all].sort((a, b) => a.machine.localeCompare(b.machine) || a.start_ms - b.start_ms).slice(0, TABLE);
  return (
    <>
      <label class="filter">{t("schedule.unit")}
        <select value={row ?? ""} onChange={(event) => adjust({ row: event.currentTarget.value || undefined })}>
          <option value="">{t("schedule.allUnits")}</option>
          {view.machines.map((machine) => <option key={machine.path} value={machine.path}>{centerName(machine.work_center)} · {machine.id}</option>)}
        </select>
        <span class="muted">{t("schedule.shown", { n: bars.length, all: all.length })}</span>
      </label>
      <Scroll label={t("schedule.table")} class="fill">
        <table>
          <thead><tr><th>{t("why.machine")}</th><th>{t("card.op")}</th><th>{t("why.product")}</th><th>{t("schedule.from")}</th><th>{t("schedule.to")}</th><th>{t("schedule.setup")}</th><th>{t("why.late")}</th></tr></thead>
          <tbody>
            {bars.map((bar) => (
              <tr key={bar.op}>
                <td>{tail(bar.machine)}</td>
                <th scope="row"><button type="button" class="linklike" onClick={() => adjust({ op: bar.op })}>{bar.op}</button></th>
                <td>{productName(bar.product)}</td><td>{dayTime(bar.start_ms)}</td><td>{dayTime(bar.end_ms)}</td>
                <td>{bar.setup_start_ms !== null && bar.setup_start_ms < bar.start_ms ? duration(((bar.setup_end_ms ?? bar.start_ms) - bar.setup_start_ms) / 1000) : ""}</td>
                <td class={bar.late_s && bar.late_s > 0 ? "late" : ""}>{bar.late_s && bar.late_s > 0 ? duration(bar.late_s) : ""}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
    </>
  );
}

interface ToolsProps { mode: string; table: boolean; stops: boolean; onWhatIf: () => void; onScenarios: () => void }

function Tools({ mode, table, stops, onWhatIf, onScenarios }: ToolsProps): JSX.Element {
  return (
    <div class="title">
      <h1>{t("nav.schedule")}</h1>
      <label>{t("schedule.colour")}
        <select value={mode} onChange={(event) => adjust({ mode: event.currentTarget.value })}>
          {MODES.map((name) => <option key={name} value={name}>{named("mode", name)}</option>)}
        </select>
      </label>
      <button type="button" aria-pressed={table} onClick={() => adjust({ table: table ? undefined : "1" })}>{t("schedule.asTable")}</button>
      {may("operator") && <button type="button" onClick={onScenarios}>{t("scenario.open")}</button>}
      {may("operator") && <button type="button" onClick={onWhatIf}>{t("whatif.open")}</button>}
      <a class="button" href="api/v1/schedule/print" target="_blank" rel="noopener">{t("schedule.print")}</a>
      <span class="space" />
      <span class="legend">
        <span><i class="bar plan" />{t("schedule.legend.plan")}</span>
        <span><i class="bar actual" />{t("schedule.legend.actual")}</span>
        <span><i class="bar ghost" />{t("schedule.legend.ghost")}</span>
        <span><i class="bar setup" />{t("schedule.legend.setup")}</span>
        <span><i class="bar lateness" />{t("schedule.legend.late")}</span>
        <span><i class="bar shut" />{t("schedule.legend.closed")}</span>
        {stops && <span><i class="bar stop" />{t("schedule.legend.stop")}</span>}
      </span>
    </div>
  );
}

export function ScheduleScreen(): JSX.Element {
  const params = route.value.params;
  const { data: view, error, reload } = usePoll<ScheduleView>("schedule", 2000);
  const decisions = usePoll<Decision[]>("decisions?limit=50", 2000);
  const list = decisions.data ?? [];
  const [speech, setSpeech] = useState("");
  const [supposing, setSupposing] = useState(false);
  const [comparing, setComparing] = useState(false);
  const op = params.get("op") ?? "";
  const mode = params.get("mode") ?? "plain";
  const table = params.get("table") === "1";
  const wanted = list.find((row) => row.id === params.get("d")) ?? list.find((row) => row.state.startsWith("waiting")) ?? list[0];
  // The list may be short on details; the card shows the whole decision.
  const full = usePoll<Decision>(wanted ? `decisions/${encodeURIComponent(wanted.id)}` : null, 2000).data;
  const decision = full && full.id === wanted?.id ? full : wanted;
  const bar = view?.bars.find((row) => row.op === op) ?? null;
  const waiting = decision?.state.startsWith("waiting") === true;
  const movedKey = waiting ? decision.id : "";
  const moved = useMemo(() => new Set(movedKey && decision ? decision.changes.map((change) => move(change)).filter(isNotable).map((row) => row.op) : []), [movedKey, decision?.changes.length]);
  const again = (): void => {
    reload();
    decisions.reload();
  };
  const wishing = useWish(again);
  const order = params.get("order") ?? "";
  const chain = useMemo(() => new Set(order && view ? chainOf(view.bars, order).map((row) => row.op) : []), [order, view]);
  const focus = (): void => document.querySelector<HTMLCanvasElement>(".gantt-hold canvas")?.focus();
  useEffect(() => live.onEvent((event) => {
    if (event.kind === "decision") again();
  }), []);
  return (
    <div class="schedule screen">
      <Tools mode={mode} table={table} stops={!!view?.declared?.some((row) => row.kind === "down")} onWhatIf={() => setSupposing(true)} onScenarios={() => setComparing(true)} />
      {supposing && view && <WhatIf view={view} machine={bar?.machine ?? params.get("row") ?? ""} onClose={() => setSupposing(false)} />}
      {comparing && view && <Scenarios view={view} onClose={() => setComparing(false)} onDone={again} />}
      <Problem text={error} />
      {view && <Kpis view={view} />}
      <section class={`plan ${stale.value ? "hatched" : ""}`} aria-label={t("nav.schedule")}>
        {view && view.machines.length > 0
          ? table
            ? <Table view={view} row={params.get("row")} />
            : <Gantt view={view} selected={op} row={params.get("row")} moved={moved} mode={mode} onSpeak={setSpeech} chain={chain}
                wish={wishing.wish} onWish={wishing.set} onAsk={wishing.ask} onEnter={wishing.enter}
                onSelect={(next) => {
                  if (wishing.wish) wishing.set(null);
                  adjust({ op: next?.op });
                }} />
          : <Empty text={view ? t("schedule.noPlan") : t("common.loading")} />}
        <p id="gantt-keys" class="muted hint">{t("schedule.keys")}</p>
      </section>
      <aside class="side" aria-label={t("schedule.side")}>
        <WishPanel of={wishing} />
        {order && view && <Pegging view={view} order={order} selected={op} />}
        {bar && view && <Why key={bar.op} bar={bar} view={view} onWish={(wish) => { wishing.set(wish); focus(); }} />}
        {view && <Pins view={view} onDone={again} />}
        {view && <DeclaredTimes view={view} onDone={again} />}
        {decision ? <DecisionCard decision={decision} onDone={again} /> : <Empty text={t("wall.noDecision")} />}
        <LineControls />
        <WeightsPanel />
        <Decisions list={list} chosen={decision?.id ?? ""} />
      </aside>
      <div class="sr" aria-live="polite">{speech}</div>
    </div>
  );
}

