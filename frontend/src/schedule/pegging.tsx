import type { JSX } from "preact";
import type { Bar, ScheduleView } from "../api/types";
import { dayTime, duration, timeBeside } from "../format";
import { t } from "../i18n";
import { adjust, href } from "../router";
import { tail } from "../state/plant";
import { Panel, Scroll } from "../ui/parts";
import { opText } from "./words";

/** Operations that serve an order, in time order; a furnace load serves several orders. */
export function chainOf(bars: readonly (Bar & { requests?: string[] })[], order: string): Bar[] {
  const mine = bars.filter((bar) => bar.request === order || bar.requests?.includes(order));
  return mine.sort((a, b) => a.start_ms - b.start_ms || a.op.localeCompare(b.op));
}

/** An order's operations with what each waits for; every row leads to its bar. */
export function Pegging({ view, order, selected }: { view: ScheduleView; order: string; selected: string }): JSX.Element {
  const chain = chainOf(view.bars, order);
  const ends = new Map(view.bars.map((bar) => [bar.op, bar.end_ms]));
  const waits = (bar: Bar): JSX.Element[] =>
    (bar.after ?? []).filter((op) => ends.has(op)).map((op) => (
      <div key={op}>{t("peg.for", { op: opText(op), d: duration((bar.start_ms - (ends.get(op) ?? 0)) / 1000) })}</div>
    ));
  return (
    <Panel title={t("peg.title", { order })} class="pegging" extra={<button type="button" class="quiet" aria-label={t("common.close")} onClick={() => adjust({ order: undefined })}>✕</button>}>
      <p><a href={href("orders", { sel: order })}>{t("peg.toOrder")}</a></p>
      <Scroll label={t("peg.title", { order })} class="short">
        <table class="tight">
          <thead><tr><th>{t("card.op")}</th><th>{t("why.machine")}</th><th>{t("peg.when")}</th><th>{t("peg.waits")}</th></tr></thead>
          <tbody>
            {chain.map((bar) => (
              <tr key={bar.op} class={bar.op === selected ? "chosen" : ""}>
                <th scope="row"><button type="button" class="linklike" onClick={() => adjust({ op: bar.op })}>{opText(bar.op)}</button></th>
                <td>{tail(bar.machine)}</td>
                <td class="when"><span>{dayTime(bar.start_ms)} –</span> <span>{timeBeside(bar.end_ms, bar.start_ms)}</span></td>
                <td>{waits(bar)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
      {chain.length === 0 && <p class="muted">{t("peg.none")}</p>}
    </Panel>
  );
}
