import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { call } from "../api/client";
import { plantMs } from "../api/live";
import type { Candidate, Decision } from "../api/types";
import { clock, dayTime, duration, number, percent } from "../format";
import { named, t } from "../i18n";
import { may } from "../state/session";
import { isFree } from "../ui/keys";
import { Problem, Scroll } from "../ui/parts";
import { better, candidateText, isNotable, decisionClass, decisionStateText, levelText, messageText, move, opText, reasonsOf, triggerText } from "./words";

const SHOWN = 40;
const COMPARED = ["weighted_tardiness_s", "late_orders", "throughput_per_h", "setups"];

export const kpiText = (name: string, value: number): string =>
  name.endsWith("_s") ? duration(value) : number(value);
const signed = (name: string, value: number): string => (value > 0 ? "+" : "") + kpiText(name, value).replace(/^-/, "−");

/** A change of a KPI: arrow, number and word, so that colour only repeats it. */
export function Delta({ name, value }: { name: string; value: number }): JSX.Element {
  const good = better(name, value);
  const mark = good === null ? "=" : value > 0 ? "▲" : "▼";
  const word = good === null ? t("card.same") : t(good ? "card.better" : "card.worse");
  return <span class={`delta ${good === null ? "" : good ? "good" : "bad"}`}>{mark} {signed(name, value)} <small>{word}</small></span>;
}

function Effect({ effect }: { effect: Record<string, number> }): JSX.Element {
  const rows = Object.entries(effect).filter(([name, value]) => name !== "objective" && better(name, value) !== null);
  return (
    <dl class="effect">
      {rows.map(([name, value]) => (
        <div key={name}><dt>{named("kpiname", name)}</dt><dd><Delta name={name} value={value} /></dd></div>
      ))}
      {rows.length === 0 && <div><dt>{t("card.same")}</dt></div>}
    </dl>
  );
}

function Alternatives({ decision }: { decision: Decision }): JSX.Element | null {
  const chosen = decision.candidates[decision.chosen];
  if (!chosen || decision.candidates.length < 2) return null;
  const names = COMPARED.filter((name) => name in chosen.kpis);
  // The name stands above its numbers: beside them it would push the last ones out of sight.
  const line = (candidate: Candidate, i: number): JSX.Element[] => [
    <tr key={`${i}name`} class={i === decision.chosen ? "chosen name" : "name"}>
      <th colSpan={names.length + 1} scope="rowgroup">{i === decision.chosen ? "✓ " : ""}{candidateText(candidate.name)}</th>
    </tr>,
    <tr key={`${i}numbers`} class={i === decision.chosen ? "chosen" : ""}>
      {names.map((name) => <td key={name} class="num">{kpiText(name, candidate.kpis[name] ?? Number.NaN)}</td>)}
      <td class="num">{number(candidate.objective, 4)}</td>
    </tr>,
  ];
  return (
    <>
      <h3>{t("card.alternatives")}</h3>
      <Scroll label={t("card.alternatives")} class="short">
        <table class="tight plans">
          <thead><tr>{names.map((name) => <th key={name} class="num">{named("kpiname", name)}</th>)}<th class="num">{t("card.objective")}</th></tr></thead>
          <tbody>{decision.candidates.map(line)}</tbody>
        </table>
      </Scroll>
    </>
  );
}

function Changes({ decision }: { decision: Decision }): JSX.Element {
  const notable = decision.changes.map((change) => move(change, decision.time_ms)).filter(isNotable);
  const moves = notable.slice(0, SHOWN);
  const n = notable.length;
  return (
    <>
      <h3>{t("card.changes", { n })}</h3>
      {moves.length > 0 && (
        <Scroll label={t("card.changes", { n })} class="short">
          <table class="tight moves">
            <thead><tr><th>{t("card.op")}</th><th>{t("card.machine")}</th><th>{t("card.start")}</th><th class="num">{t("card.shift")}</th></tr></thead>
            <tbody>
              {moves.map((row) => (
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

/** Approve, reject and veto; keys A and R work wherever no field or dialog has the focus. */
function Answer({ decision, onDone }: { decision: Decision; onDone: () => void }): JSX.Element | null {
  const [reason, setReason] = useState("");
  const [asking, setAsking] = useState("");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  const veto = decision.state === "waiting_veto";
  const open = decision.state === "waiting_approval" || veto || decision.state === "proposed";
  const send = async (verb: string): Promise<void> => {
    setBusy(true);
    try {
      await call("POST", `decisions/${encodeURIComponent(decision.id)}/${verb}`, { reason });
      setAsking("");
      setError("");
      onDone();
    } catch (problem) {
      setError(problem instanceof Error ? problem.message : String(problem));
    } finally {
      setBusy(false);
    }
  };
  const refuse = veto ? "veto" : "reject";
  useEffect(() => {
    const listen = (event: KeyboardEvent): void => {
      if (!open || busy || !isFree(event)) return;
      const name = event.key.toLowerCase();
      if (name === "a" && may("planner")) void send("approve");
      else if (name === "r" && may("operator")) setAsking(refuse);
      else return;
      event.preventDefault();
    };
    window.addEventListener("keydown", listen);
    return () => window.removeEventListener("keydown", listen);
  });
  useEffect(() => input.current?.focus(), [asking]);
  if (!open) return null;
  if (!may("operator")) return <p class="muted">{t("card.notAllowed")}</p>;
  return (
    <div class="answer">
      <Problem text={error} />
      {asking ? (
        <form onSubmit={(event) => { event.preventDefault(); void send(asking); }}>
          <label>{t("card.why")}<input ref={input} required value={reason} onInput={(event) => setReason(event.currentTarget.value)} /></label>
          <button class="danger" disabled={busy}>{t(veto ? "card.veto" : "card.reject")}</button>
          <button type="button" onClick={() => setAsking("")}>{t("common.cancel")}</button>
        </form>
      ) : (
        <>
          <button type="button" class="primary" disabled={busy || !may("planner")} onClick={() => void send("approve")}>✓ {t("card.approve")} <kbd>A</kbd></button>
          <button type="button" disabled={busy} onClick={() => setAsking(refuse)}>✕ {t(veto ? "card.veto" : "card.reject")} <kbd>R</kbd></button>
        </>
      )}
    </div>
  );
}

/** Who answered: a user by name, or the brain's own forecast. */
const whoText = (by: string): string => named("by", by);

function Certainty({ decision }: { decision: Decision }): JSX.Element | null {
  const objective = decision.candidates[decision.chosen]?.objective;
  const gap = decision.gap ?? (decision.bound !== null && objective ? (objective - decision.bound) / Math.max(1e-9, objective) : null);
  void plantMs.value; // counts down with the plant's clock
  const left = decision.until_ms && decision.state === "waiting_veto" ? (decision.until_ms - Date.now()) / 1000 : null;
  return (
    <dl class="facts">
      {decision.confidence != null && <div><dt>{t("card.confidence")}</dt><dd>{percent(decision.confidence)}</dd></div>}
      <div><dt>{t("card.gap")}</dt><dd>{gap === null ? t("card.gapUnknown") : percent(gap, 1)}</dd></div>
      <div><dt>{t("card.level")}</dt><dd>{levelText(decision.level)}</dd></div>
      {(decision.answer?.by || decision.approved_by) && (
        <div><dt>{t("card.by")}</dt><dd>{whoText(decision.answer?.by || decision.approved_by || "")} <small>{decision.answer?.reason}</small></dd></div>
      )}
      {left !== null && left > 0 && <div><dt>{t("card.vetoLeft")}</dt><dd>{duration(left)}</dd></div>}
    </dl>
  );
}

function Commands({ decision }: { decision: Decision }): JSX.Element | null {
  const commands = decision.commands ?? [];
  if (commands.length === 0) return null;
  return (
    <>
      <h3>{t("card.commands", { n: commands.length })}</h3>
      <ul class="commands">
        {commands.slice(0, 12).map((command, i) => (
          <li key={i}><b>{String(command.job ?? command["id"] ?? "")}</b> {named("outcome", String(command.outcome ?? command["state"] ?? ""))} <small>{String(command.message ?? "")}</small></li>
        ))}
      </ul>
    </>
  );
}

/** The decision card: what set it off, why, what it changes and gains, and the answer. */
export function DecisionCard({ decision, onDone }: { decision: Decision; onDone: () => void }): JSX.Element {
  const waiting = decision.state.startsWith("waiting");
  return (
    <article class={`card ${waiting ? "wants" : ""}`} aria-labelledby="card-title">
      <header>
        <h2 id="card-title">{decisionClass(decision)}</h2>
        <span class={`status s-${decision.state}`}>{decisionStateText(decision)}</span>
      </header>
      <p class="trigger"><b>{t("card.trigger")}</b> {triggerText(decision)} <time title={dayTime(decision.time_ms)}>{clock(decision.time_ms)}</time></p>
      <Answer key={decision.id} decision={decision} onDone={onDone} />
      <h3>{t("card.reasons")}</h3>
      <ul class="reasons">{reasonsOf(decision).map((reason, i) => <li key={i}>{messageText(reason)}</li>)}</ul>
      <h3>{t("card.effect")}</h3>
      <Effect effect={decision.effect} />
      <Certainty decision={decision} />
      <Changes decision={decision} />
      <Alternatives decision={decision} />
      <Commands decision={decision} />
      <p class="muted mono">{decision.id}</p>
    </article>
  );
}
