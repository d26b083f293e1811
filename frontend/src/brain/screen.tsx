import type { JSX } from "preact";
import type { Decision, Health } from "../api/types";
import { dayTime, duration, number, whole, withUnit } from "../format";
import { named, t } from "../i18n";
import { href } from "../router";
import { usePoll } from "../state/poll";
import { Delta, kpiText } from "../schedule/card";
import { decisionClass, decisionStateText, levelText, triggerText } from "../schedule/words";
import { Empty, Panel, Problem, Scroll } from "../ui/parts";
import { type AutonomyView, LineControls } from "./autonomy";

const SHOWN = ["weighted_tardiness_s", "late_orders", "throughput_per_h"];

/** What a decision promised for one KPI, and by how much that was better or worse than before. */
function Forecast({ decision, name }: { decision: Decision; name: string }): JSX.Element {
  const value = decision.candidates[decision.chosen]?.kpis[name];
  const change = decision.effect[name];
  return (
    <td class="num">
      {value === undefined ? "–" : kpiText(name, value)}
      {change !== undefined && Math.abs(change) > 1e-9 && <> <Delta name={name} value={change} /></>}
    </td>
  );
}

/** What became of a decision's jobs: ended so far, and how late against the forecast. */
function Outcome({ of }: { of: Decision["outcome"] }): JSX.Element {
  if (!of) return <td class="muted">{t("brain.pending")}</td>;
  const late = of.mean_late_s;
  return (
    <td>
      {t("brain.ended", { n: whole(of.ended), all: whole(of.jobs) })}
      {late !== null && <> · <span class={late > 60 ? "late" : ""}>{t(late > 0 ? "brain.later" : "brain.sooner", { d: duration(Math.abs(late)) })}</span></>}
      {of.scrap > 0 && <> · {t("brain.scrap", { n: whole(of.scrap) })}</>}
    </td>
  );
}

function Ledger({ list }: { list: Decision[] }): JSX.Element {
  return (
    <Panel title={t("brain.decisions")} class="grow">
      <Scroll label={t("brain.decisions")} class="fill">
        <table>
          <thead>
            <tr><th>{t("brain.time")}</th><th>{t("brain.class")}</th><th>{t("brain.trigger")}</th><th>{t("card.level")}</th><th>{t("brain.state")}</th>
              {SHOWN.map((name) => <th key={name} class="num">{named("kpiname", name)}</th>)}<th>{t("brain.outcome")}</th></tr>
          </thead>
          <tbody>
            {list.map((row) => (
              <tr key={row.id}>
                <td><a href={href("schedule", { d: row.id })}>{dayTime(row.time_ms)}</a></td>
                <th scope="row">{decisionClass(row)}</th><td>{triggerText(row)}</td><td>{levelText(row.level)}</td>
                <td><span class={`status s-${row.state}`}>{decisionStateText(row)}</span></td>
                {SHOWN.map((name) => <Forecast key={name} decision={row} name={name} />)}
                <Outcome of={row.outcome} />
              </tr>
            ))}
          </tbody>
        </table>
        {list.length === 0 && <Empty text={t("wall.noDecision")} />}
      </Scroll>
    </Panel>
  );
}

function Sources({ health }: { health: Health }): JSX.Element {
  const anyRejected = health.sources.some((row) => row.rejected > 0);
  return (
    <Panel title={t("brain.sources")}>
      <Scroll label={t("brain.sources")}>
        <table>
          <thead><tr><th>{t("brain.source")}</th><th>{t("brain.protocol")}</th><th>{t("brain.state")}</th><th>{t("brain.since")}</th><th class="num">{t("brain.rate")}</th><th class="num">{t("brain.age")}</th><th class="num">{t("brain.gaps")}</th>{anyRejected && <th class="num">{t("brain.rejected")}</th>}</tr></thead>
          <tbody>
            {health.sources.map((row) => (
              <tr key={row.id} class={row.state === "lost" ? "hatched" : ""}>
                <th scope="row">{row.id}</th><td>{row.protocol}</td>
                <td><span class={`status s-${row.state}`}>{row.state === "up" ? "●" : "▲"} {named("source", row.state)}</span></td>
                <td>{row.since_ns ? duration((health.wall_ns - row.since_ns) / 1e9) : "–"}</td>
                <td class="num">{whole(row.rate)}</td><td class="num">{row.age_s === null ? "–" : number(Math.round(row.age_s * 10) / 10)}</td><td class="num">{whole(row.gaps)}</td>{anyRejected && <td class="num">{whole(row.rejected)}</td>}
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
    </Panel>
  );
}

/** What cannot be written now, with the reason. */
function Faults({ faults }: { faults: Record<string, string> }): JSX.Element {
  return (
    <Panel title={t("brain.faults")}>
      <dl class="facts">
        {Object.entries(faults).map(([name, why]) => (
          <div key={name}><dt>▲ {named("fault", name, name)}</dt><dd>{why}</dd></div>
        ))}
      </dl>
      <p class="muted">{t("brain.faultsHint")}</p>
    </Panel>
  );
}

const shown = (name: string, value: unknown): string =>
  typeof value === "number" && name.endsWith("_ms") ? (value > 0 ? dayTime(value) : "–")
  : typeof value === "number" && name.endsWith("bytes") ? withUnit(number(value / 1e6), "MB")
  : typeof value === "number" ? number(value, 6) : Array.isArray(value) ? value.join(", ") : String(value ?? "") || "–";

function Facts({ title, facts }: { title: string; facts: Record<string, unknown> }): JSX.Element {
  return (
    <Panel title={title}>
      <dl class="facts">
        {Object.entries(facts).filter(([, value]) => typeof value !== "object" || (Array.isArray(value) && value.length > 0)).map(([name, value]) => (
          <div key={name}><dt>{named("fact", name, name.replaceAll("_", " "))}</dt><dd>{shown(name, value)}</dd></div>
        ))}
      </dl>
    </Panel>
  );
}

export function BrainScreen(): JSX.Element {
  const health = usePoll<Health>("health", 1000);
  const decisions = usePoll<Decision[]>("decisions?limit=50", 3000);
  const autonomy = usePoll<AutonomyView>("autonomy", 5000);
  const now = health.data;
  return (
    <div class="brain screen">
      <h1>{t("nav.brain")}</h1>
      <Problem text={health.error || decisions.error} />
      {now && (
        <dl class="strip">
          <div><dt>{t("kpi.signals")}</dt><dd>{whole(now.signals)}</dd></div>
          <div><dt>{t("brain.rate")}</dt><dd>{t("kpi.rate", { n: whole(now.rate) })}</dd></div>
          <div class={now.stale ? "attention" : ""}><dt>{t("kpi.stale")}</dt><dd>{whole(now.stale)}</dd></div>
          {now.latency?.stored_p99_ms != null && <div><dt>{t("brain.stored")}</dt><dd>{whole(now.latency.stored_p99_ms)} ms</dd></div>}
          <div><dt>{t("brain.plantRate")}</dt><dd>{number(now.plant_rate, 2)} ×</dd></div>
          <div><dt>{t("brain.version")}</dt><dd>{now.version}</dd></div>
        </dl>
      )}
      <div class="columns">
        <div class="column">
          <Ledger list={decisions.data ?? []} />
        </div>
        <div class="column narrow">
          <LineControls />
          {autonomy.data?.envelope && <Facts title={t("brain.envelope")} facts={autonomy.data.envelope} />}
          {now?.faults && Object.keys(now.faults).length > 0 && <Faults faults={now.faults} />}
          {now && <Sources health={now} />}
          {now?.historian && <Facts title={t("brain.historian")} facts={now.historian} />}
        </div>
      </div>
    </div>
  );
}
