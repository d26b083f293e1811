import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { call } from "../api/client";
import type { Decision, Message, Pin, ScheduleView } from "../api/types";
import { dayTime, duration } from "../format";
import { named, t } from "../i18n";
import { tail } from "../state/plant";
import { may } from "../state/session";
import { Panel, Problem } from "../ui/parts";
import { Delta } from "./card";
import { messageText, opText } from "./words";

/** Where somebody wants an operation; it holds only once its price was seen and taken. */
export interface Wish { op: string; machine: string; start_ms: number | null }

interface Price {
  id: string; possible: boolean; start_ms: number; end_ms: number; total: number; parts: Record<string, number>;
  kpis_before: Record<string, number>; kpis_after: Record<string, number>; moved: number;
  later: { order: string; later_s: number }[]; messages: Message[]; conflict?: Pin[];
}

const COMPARED = ["late_orders", "setups", "makespan_s", "throughput_per_h"];

/** State of a wish: moved by keys or pointer, priced, taken. */
export function useWish(onDone: () => void): {
  wish: Wish | null; price: Price | null; busy: boolean; error: string;
  set: (wish: Wish | null) => void; ask: (wish: Wish) => void; enter: () => void;
} {
  const [wish, setWish] = useState<Wish | null>(null);
  const [price, setPrice] = useState<Price | null>(null);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const turn = useRef(0);
  const set = (next: Wish | null): void => {
    turn.current++;
    setWish(next);
    setPrice(null);
    setError("");
    setBusy(false);
  };
  const run = async <T,>(work: Promise<T>, then: (answer: T) => void): Promise<void> => {
    const mine = ++turn.current;
    setBusy(true);
    setError("");
    try {
      const answer = await work;
      if (mine === turn.current) then(answer);
    } catch (problem) {
      if (mine === turn.current) setError(problem instanceof Error ? problem.message : String(problem));
    } finally {
      if (mine === turn.current) setBusy(false);
    }
  };
  const ask = (next: Wish): void => {
    set(next);
    void run(call<Price>("POST", "schedule/pins/price", next), setPrice);
  };
  const take = (id: string): void => {
    void run(call<Decision>("POST", "schedule/pins", { id }), () => {
      setWish(null);
      setPrice(null);
      onDone();
    });
  };
  const enter = (): void => {
    if (!wish || busy) return;
    if (!price) ask(wish);
    else if (price.possible && may("planner")) take(price.id);
  };
  return { wish, price, busy, error, set, ask, enter };
}

function Parts({ price }: { price: Price }): JSX.Element {
  const names = COMPARED.filter((name) => name in price.kpis_after);
  return (
    <>
      <dl class="effect">
        <div><dt><b>{t("wish.total")}</b></dt><dd><Delta name="objective_s" value={Math.round(price.total)} /></dd></div>
        {Object.entries(price.parts).map(([name, value]) => (
          <div key={name}><dt>{named("wishpart", name)}</dt><dd><Delta name={`${name}_s`} value={Math.round(value)} /></dd></div>
        ))}
        {names.map((name) => (
          <div key={name}><dt>{named("kpiname", name)}</dt><dd><Delta name={name} value={(price.kpis_after[name] ?? 0) - (price.kpis_before[name] ?? 0)} /></dd></div>
        ))}
        <div><dt>{t("wish.moved")}</dt><dd>{price.moved}</dd></div>
      </dl>
      <p>{price.later.length ? t("wish.later") : t("wish.noneLater")}</p>
      <ul class="reasons">{price.later.map((row) => <li key={row.order}>{row.order}: +{duration(row.later_s)}</li>)}</ul>
    </>
  );
}

/** The wish with its price, and the step that makes it hold. */
export function WishPanel({ of }: { of: ReturnType<typeof useWish> }): JSX.Element | null {
  const { wish, price, busy, error } = of;
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => box.current?.scrollIntoView({ block: "nearest" }), [price]);
  if (!wish) return null;
  return (
    <Panel title={t("wish.title", { op: opText(wish.op) })} class="why wish">
      <p>{t("wish.there", { machine: tail(wish.machine), time: wish.start_ms === null ? t("wish.anyTime") : dayTime(wish.start_ms) })}</p>
      <div aria-live="polite" ref={box}>
        <Problem text={error} />
        {busy && <p class="muted">{t("wish.busy")}</p>}
        {price && !price.possible && (
          <>
            <p class="late">{t("wish.impossible")}</p>
            <ul class="reasons">{price.messages.map((m, i) => <li key={i}>{messageText(m)}</li>)}</ul>
            {!!price.conflict?.length && (
              <ul class="reasons">{price.conflict.map((pin) => <li key={pin.op}>{opText(pin.op)} → {tail(pin.machine)} {pin.start_ms ? dayTime(pin.start_ms) : ""}</li>)}</ul>
            )}
          </>
        )}
        {price?.possible && (
          <>
            <p>{t("wish.starts", { time: dayTime(price.start_ms) })}</p>
            <Parts price={price} />
          </>
        )}
      </div>
      <div class="buttons">
        {!price && <button type="button" class="primary" disabled={busy} onClick={of.enter}>{t("wish.ask")} <kbd>↵</kbd></button>}
        {price?.possible && <button type="button" class="primary" disabled={busy || !may("planner")} onClick={of.enter}>{t("wish.apply")} <kbd>↵</kbd></button>}
        <button type="button" onClick={() => of.set(null)}>{t("common.cancel")} <kbd>{"Esc"}</kbd></button>
      </div>
      {price?.possible && !may("planner") && <p class="muted">{t("card.notAllowed")}</p>}
    </Panel>
  );
}

/** Pins that hold, each with a way to let it go. */
export function Pins({ view, onDone }: { view: ScheduleView; onDone: () => void }): JSX.Element | null {
  const [error, setError] = useState("");
  const pins = view.pins ?? [];
  if (pins.length === 0) return null;
  const free = async (op: string): Promise<void> => {
    try {
      await call("DELETE", `schedule/pins/${encodeURIComponent(op)}`);
      setError("");
      onDone();
    } catch (problem) {
      setError(problem instanceof Error ? problem.message : String(problem));
    }
  };
  return (
    <Panel title={t("wish.pins", { n: pins.length })} class="pins">
      <Problem text={error} />
      <ul class="commands">
        {pins.map((pin) => (
          <li key={pin.op}>
            <b>{opText(pin.op)}</b> → {tail(pin.machine)} {pin.start_ms ? dayTime(pin.start_ms) : ""} <small>{pin.by}</small>
            {!pin.met && <em class="status s-blocked">{t("wish.unmet")}</em>}
            {may("planner") && <button type="button" class="quiet" onClick={() => void free(pin.op)} aria-label={t("wish.free", { op: opText(pin.op) })}>✕</button>}
          </li>
        ))}
      </ul>
    </Panel>
  );
}
