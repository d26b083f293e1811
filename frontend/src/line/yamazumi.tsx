import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { query } from "../api/client";
import { number, percent } from "../format";
import { t } from "../i18n";
import { usePoll } from "../state/poll";
import { Empty, Problem, Scroll } from "../ui/parts";

interface Task { task: string; s: number; moved: boolean; from: number }
interface Pile { station: number; total_s: number; tasks: Task[] }
interface BalanceView {
  line: string; missing: string; cycle_s: number; before_cycle_s: number | null; moved: number; optimal: boolean; lower_bound: number;
  now: Pile[]; then: Pile[];
  /** Other balances that were found: more stations, fewer moved tasks. */
  front?: { stations: number; moved: number }[];
}

const H = 190;
const PAD = 48;
const RIGHT = 44;
/** Width of a pile: as many as usual lines have stand side by side on a screen. */
const widthOf = (piles: number): number => Math.max(17, Math.min(30, Math.floor(1150 / Math.max(1, piles))));
/** Steps of the time axis, so that five or so stand on it. */
const stepOf = (top: number): number => [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((step) => top / step <= 6) ?? 2000;

/** Piles of task times against takt lines; moved tasks are hatched and marked with a dot. */
function Chart({ piles, cycles, title, moved }: { piles: readonly Pile[]; cycles: readonly number[]; title: string; moved: boolean }): JSX.Element {
  const top = 1.08 * Math.max(...cycles, ...piles.map((pile) => pile.total_s));
  const y = (s: number): number => H - (s / top) * H;
  const width = widthOf(piles.length);
  const wide = PAD + piles.length * width + RIGHT;
  const step = stepOf(top);
  // Labels of lines that lie close together stand one below the other.
  const apart = cycles.length === 2 && Math.abs(y(cycles[0] ?? 0) - y(cycles[1] ?? 0)) < 12 ? 6 : 0;
  const labels = cycles.map((cycle) => y(cycle) + 4 + (cycle === Math.min(...cycles) ? apart : -apart));
  const ticks = Array.from({ length: Math.floor(top / step) + 1 }, (_, i) => i * step);
  return (
    <figure class="yamazumi">
      <figcaption>{title}</figcaption>
      <Scroll label={title}>
        <svg viewBox={`0 -8 ${wide} ${H + 46}`} width={wide} height={H + 46} role="img" aria-label={title}>
          <defs>
            <pattern id="yz-moved" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="6" height="6" class="ground" /><path d="M0 0V6" class="stripe" /></pattern>
          </defs>
          {ticks.map((tick) => (
            <g key={tick}>
              <path d={`M${PAD} ${y(tick)}H${wide - RIGHT}`} class="tick" />
              <text x={PAD - 5} y={y(tick) + 4} text-anchor="end">{number(tick)}</text>
            </g>
          ))}
          <text transform={`translate(11 ${H / 2}) rotate(-90)`} text-anchor="middle">{t("balance.axis")}</text>
          <text x={PAD + (piles.length * width) / 2} y={H + 32} text-anchor="middle">{t("balance.station")}</text>
          {piles.map((pile, i) => {
            let below = 0;
            return (
              <g key={pile.station}>
                {pile.tasks.map((row, k) => {
                  const from = below;
                  below += row.s;
                  const shown = moved && row.moved;
                  return (
                    <g key={row.task}>
                      <rect x={PAD + i * width + 2.5} width={width - 5} y={y(below)} height={Math.max(0.5, y(from) - y(below))} class={shown ? "moved" : `shade${k % 3}`}>
                        <title>{`${row.task}: ${number(row.s)} s${row.moved ? ` · ${t("balance.from", { n: row.from })}` : ""}`}</title>
                      </rect>
                      {shown && y(from) - y(below) > 9 && <circle cx={PAD + (i + 0.5) * width} cy={(y(from) + y(below)) / 2} r={2.6} class="dot" />}
                    </g>
                  );
                })}
                <text x={PAD + (i + 0.5) * width} y={H + 14} text-anchor="middle">{pile.station}</text>
              </g>
            );
          })}
          {cycles.map((cycle, i) => (
            <g key={cycle}>
              <path d={`M${PAD} ${y(cycle)}H${wide - RIGHT}`} class={i === 0 ? "takt" : "takt old"} />
              <text x={wide - RIGHT + 4} y={labels[i]}>{number(cycle)} s</text>
            </g>
          ))}
          <path d={`M${PAD} 0V${H}H${wide - RIGHT}`} class="axis" />
        </svg>
      </Scroll>
    </figure>
  );
}

/** The line's task times by station, today and as rebalancing proposes. */
export function Yamazumi({ line, goal }: { line: string; goal: number | null }): JSX.Element {
  // Nothing typed: for the line's planned takt in whole seconds, else for the longest station of today.
  const [typed, setTyped] = useState<{ before?: string; cycle?: string }>({});
  const [asked, setAsked] = useState(goal ? `?${query({ cycle: Math.ceil(goal) })}` : "");
  const { data, error, reload } = usePoll<BalanceView>(`line/${encodeURIComponent(line)}/balance${asked}`, 0);
  const before = typed.before ?? (data?.before_cycle_s ? String(data.before_cycle_s) : "");
  const cycle = typed.cycle ?? (data?.cycle_s ? String(data.cycle_s) : "");
  const ask = (): void => {
    const next = query({ ...(before && { before }), ...(cycle && { cycle }) });
    if (asked === (next && `?${next}`)) reload();
    else setAsked(next && `?${next}`);
  };
  const load = (piles: readonly Pile[], s: number): number => piles.reduce((sum, pile) => sum + pile.total_s, 0) / Math.max(1, piles.length * s);
  const rows = data ? data.then.flatMap((pile) => pile.tasks.filter((row) => row.moved).map((row) => ({ ...row, to: pile.station }))) : [];
  return (
    <section class="panel balance" aria-label={t("balance.title")}>
      <header><h2>{t("balance.title")}</h2></header>
      <form class="row-form" onSubmit={(event) => { event.preventDefault(); ask(); }}>
        <label>{t("balance.before")} <input type="number" min={1} max={9999} step="any" value={before} onInput={(event) => setTyped({ ...typed, before: event.currentTarget.value })} /></label>
        <label>{t("balance.cycle")} <input type="number" min={1} max={9999} step="any" value={cycle} onInput={(event) => setTyped({ ...typed, cycle: event.currentTarget.value })} /></label>
        <button>{t("balance.ask")}</button>
      </form>
      <Problem text={error} />
      {!data && !error && <Empty text={t("whatif.busy")} />}
      {data?.missing && <p class="note">{t("balance.missing", { file: data.missing })}</p>}
      {data && !data.missing && (
        <>
          <p>{t("balance.sum", { now: data.now.length, then: data.then.length, moved: data.moved, word: t(data.optimal ? "balance.proved" : "balance.bound", { n: data.lower_bound }) })}</p>
          {!!data.front?.length && (
            <p class="muted">{t("balance.front")} {data.front.map((row) => t("balance.frontOne", { n: row.stations, moved: row.moved })).join("; ")}</p>
          )}
          <Chart moved={false} piles={data.now} cycles={[...new Set([data.cycle_s, data.before_cycle_s ?? data.cycle_s])]} title={t("balance.now", { n: data.now.length, p: percent(load(data.now, data.before_cycle_s ?? data.cycle_s)) })} />
          <Chart moved piles={data.then} cycles={[data.cycle_s]} title={t("balance.then", { n: data.then.length, p: percent(load(data.then, data.cycle_s)) })} />
          {rows.length === 0 ? <p class="note">{t("balance.nothing")}</p> : <Scroll label={t("balance.moves", { n: rows.length })} class="short">
            <table class="tight">
              <caption>{t("balance.moves", { n: rows.length })}</caption>
              <thead><tr><th>{t("balance.task")}</th><th class="num">{t("balance.time")}</th><th class="num">{t("balance.old")}</th><th class="num">{t("balance.new")}</th></tr></thead>
              <tbody>{rows.map((row) => <tr key={row.task}><th scope="row">{row.task}</th><td class="num">{number(row.s)} s</td><td class="num">{row.from}</td><td class="num">{row.to}</td></tr>)}</tbody>
            </table>
          </Scroll>}
        </>
      )}
    </section>
  );
}
