import type { JSX } from "preact";
import { useMemo } from "preact/hooks";
import { stale } from "../api/live";
import type { LineLink, LineView, Station } from "../api/types";
import { number, percent, whole, withUnit } from "../format";
import { named, nameOf, t } from "../i18n";
import { adjust, href, route } from "../router";
import { condition, type Condition, conditionText, isAbnormal, reasonText } from "../state/condition";
import { firstLine, plant, tail } from "../state/plant";
import { usePoll } from "../state/poll";
import { Chip, Empty, Glyph, Meter, Problem } from "../ui/parts";
import { Output } from "./output";
import { Drawer } from "./drawer";
import { holdsPiece, outgoing, zones } from "./flow";
import { Yamazumi } from "./yamazumi";

/** One device by its id, several side by side as first and last. */
function places(paths: string[]): string {
  const first = paths[0] ?? "", last = paths[paths.length - 1] ?? "";
  return paths.length > 1 ? `${tail(first)}–${tail(last)}` : tail(first);
}

/** A buffer: its level as a bar, and the word when it starves or blocks. */
function Link({ link, named: withName }: { link: LineLink; named: boolean }): JSX.Element {
  const level = link.level ?? 0;
  const share = link.capacity ? Math.min(1, level / link.capacity) : 0;
  const words = link.state === "ok" ? "" : t(link.state === "starved" ? "condition.starved" : "condition.blocked");
  const ends = { from: places(link.from), to: places(link.to) };
  const label = link.joins ? t("line.joins", ends)
    : t("line.link", { ...ends, level: whole(link.level), capacity: whole(link.capacity) });
  return (
    <span class={`link l-${link.state} ${withName ? "named" : ""}`} role="img" aria-label={`${label} ${words}`} title={`${label} ${words}`}>
      {link.joins ? <span class="joins">→</span> : <span class="tube"><i style={{ height: `${100 * share}%` }} /></span>}
      {link.state !== "ok" ? <Glyph of={link.state} /> : !link.joins && <b>{whole(link.level)}</b>}
      {withName && <small>{places(link.to)}</small>}
    </span>
  );
}

const HELPERS = new Set(["robot", "conveyor", "vision", "agv", "utility"]);
const isHelper = (station: Station): boolean => HELPERS.has(station.klass);

interface TileProps { station: Station; selected: boolean; neck: boolean; confidence: number; goal: number | null }

/** A device that serves stations (robot, conveyor, camera): one short line. */
function Mini({ station, selected }: { station: Station; selected: boolean }): JSX.Element {
  const of: Condition = station.stale ? "unknown" : condition(station.state, station.reason);
  return (
    <button type="button" class={`tile mini k-${of} ${station.stale ? "hatched" : ""}`} aria-pressed={selected}
      onClick={() => adjust({ sel: selected ? undefined : station.path })}>
      <Glyph of={of} /><strong>{named("device", station.id)}</strong>
      <span class={isAbnormal(of) ? "word" : "sr"}>{conditionText(of)}</span>
    </button>
  );
}

/** Cycle time as a mark on a scale around the takt goal: position before number. */
function Pace({ cycle, goal }: { cycle: number; goal: number }): JSX.Element {
  const at = Math.max(0, Math.min(1, cycle / goal / 2));
  return (
    <span class={`pace ${cycle > goal * 1.1 ? "slow" : ""}`} title={t("line.pace", { s: number(cycle), goal: number(goal) })}>
      <i style={{ left: `${100 * at}%` }} />
    </span>
  );
}

function Tile({ station, selected, neck, confidence, goal }: TileProps): JSX.Element {
  const of: Condition = station.stale ? "unknown" : condition(station.state, station.reason);
  const loud = isAbnormal(of) || of === "setup";
  const why = of === "held" || of === "down" ? reasonText(station.reason) : "";
  return (
    <button type="button" class={`tile k-${of} ${station.stale ? "hatched" : ""}`} aria-pressed={selected}
      onClick={() => adjust({ sel: selected ? undefined : station.path })}>
      {neck && <span class="neck" title={t("line.neck", { p: percent(confidence) })}>◆ {t("line.neckShort")} {percent(confidence)}</span>}
      <span class="row"><Glyph of={of} /><strong>{station.id}</strong></span>
      <span class={loud ? "word" : "word calm"}>{why && why !== conditionText(of) ? why : conditionText(of)}</span>
      <span class="serial">{(holdsPiece(station) && station.serial) || " "}</span>
      {station.cycle_s !== null && goal ? <Pace cycle={station.cycle_s} goal={goal} /> : <span class="pace none" />}
    </button>
  );
}

function Synoptic({ view }: { view: LineView }): JSX.Element {
  const rows = useMemo(() => zones(view.stations, view.links), [view]);
  const links = useMemo(() => outgoing(view.links), [view]);
  const selected = route.value.params.get("sel");
  const neck = view.bottleneck;
  return (
    <div class="synoptic">
      {rows.map((zone) => (
        <section key={zone.cell} class={zone.linked ? "zone" : "zone loose"} aria-label={named("cell", zone.cell)}>
          <h2>{named("cell", zone.cell)} <small>{zone.stations.length}</small></h2>
          <ol>
            {zone.stations.filter((station) => !isHelper(station)).map((station, i, flow) => {
              const next = flow[i + 1]?.path;
              const out = links.get(station.path) ?? [];
              return (
                <li key={station.path}>
                  <Tile station={station} selected={selected === station.path} neck={neck?.path === station.path}
                    confidence={neck?.confidence ?? 0} goal={station.takt_goal_s ?? null} />
                  {out.map((link) => <Link key={link.to.join()} link={link} named={link.to.length > 1 || link.to[0] !== next} />)}
                </li>
              );
            })}
          </ol>
          <ol class="helpers">
            {zone.stations.filter(isHelper).map((station) => (
              <li key={station.path}><Mini station={station} selected={selected === station.path} /></li>
            ))}
          </ol>
        </section>
      ))}
    </div>
  );
}

function Head({ view }: { view: LineView }): JSX.Element {
  const neck = view.bottleneck;
  const slow = view.takt_s !== null && view.takt_goal_s !== null && view.takt_s > 1.1 * view.takt_goal_s;
  const count = (of: Condition): number => view.stations.filter((s) => condition(s.state, s.reason) === of).length;
  return (
    <dl class="strip">
      <div class={slow ? "attention" : ""}><dt>{t("kpi.takt")}</dt>
        <dd>{withUnit(number(view.takt_s), "s")} <small>{t("kpi.goal", { s: number(view.takt_goal_s) })}</small></dd></div>
      <Output of={view.output} />
      <div class="wide"><dt>{t("kpi.bottleneck")}</dt>
        <dd>{neck?.path
          ? <><a href={href(`line/${view.line}`, { sel: neck.path })}>◆ {tail(neck.path)}</a> <Meter value={neck.confidence} label={t("line.confidence")} /></>
          : "–"}</dd></div>
      {(["down", "held", "starved", "blocked"] as const).map((of) => (
        <div key={of} class={count(of) && (of === "down" || of === "held") ? "attention" : ""}>
          <dt><Glyph of={of} /> {conditionText(of)}</dt><dd>{count(of)}</dd>
        </div>
      ))}
    </dl>
  );
}

export function LineScreen(): JSX.Element {
  const id = route.value.parts[0] ?? firstLine.value;
  const { data, error } = usePoll<LineView>(id ? `line/${encodeURIComponent(id)}` : null, 1000);
  const selected = route.value.params.get("sel");
  const balance = route.value.params.get("balance") === "1";
  const station = data?.stations.find((row) => row.path === selected);
  const center = plant.value?.work_centers.find((row) => row.id === id);
  return (
    <div class={`line screen ${station ? "with-drawer" : ""}`}>
      <div class="title">
        <h1>{nameOf(center?.names, id)}</h1>
        {(plant.value?.lines.length ?? 0) > 1 && plant.value?.lines.map((line) => (
          <a key={line.id} class="tab" href={href(`line/${line.id}`)} aria-current={line.id === id ? "page" : undefined}>{line.id}</a>
        ))}
        {id && <button type="button" aria-pressed={balance} onClick={() => adjust({ balance: balance ? undefined : "1" })}>{t("balance.open")}</button>}
        <span class="space" />
        {(["running", "starved", "blocked", "setup", "down", "held", "idle"] as const).map((of) => <Chip key={of} of={of} />)}
      </div>
      <Problem text={error} />
      {!!data?.missing.length && <p class="note">{t("line.missing", { ids: data.missing.join(", ") })}</p>}
      {data ? (
        <>
          <Head view={data} />
          <div class="line-main">
            {balance ? <div class="board"><Yamazumi key={id} line={id} goal={data.takt_goal_s} /></div>
              : <div class={`board ${stale.value ? "hatched" : ""}`}><Synoptic view={data} /></div>}
            {station && <Drawer key={station.path} station={station} />}
          </div>
        </>
      ) : <Empty text={t("common.loading")} />}
    </div>
  );
}
