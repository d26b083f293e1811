import type { JSX } from "preact";
import { useMemo } from "preact/hooks";
import { plantMs } from "../api/live";
import type { Curve, LiveValue, Station } from "../api/types";
import { clock, duration, number, whole, withUnit } from "../format";
import { named, t } from "../i18n";
import { adjust, href } from "../router";
import { condition, reasonText, stateText } from "../state/condition";
import { holdsPiece } from "./flow";
import { tags, tail, unitOf } from "../state/plant";
import { usePoll } from "../state/poll";
import { Chip, Empty, Scroll } from "../ui/parts";

const W = 320;
const H = 120;

/** One channel of a curve over its x values as SVG points on a W x H field. */
function points(xs: readonly number[], values: readonly number[], low: number, high: number): string {
  const span = high - low || 1;
  const first = Math.min(...xs);
  const wide = Math.max(...xs) - first || 1;
  return values.map((v, i) => `${((((xs[i] ?? first) - first) / wide) * W).toFixed(1)},${(H - ((v - low) / span) * H).toFixed(1)}`).join(" ");
}

/** Name and unit of a channel: `pressure_bar` is the pressure in bar. */
function channel(id: string): { name: string; unit: string } {
  const known = named("channel", id, "");
  const [name = id, unit = ""] = known.split("|");
  return known ? { name, unit } : { name: id.replaceAll("_", " "), unit: "" };
}

const range = (values: readonly number[], unit: string): string =>
  withUnit(`${number(Math.min(...values))} … ${number(Math.max(...values))}`, unit);

function CurveView({ curve }: { curve: Curve }): JSX.Element {
  const all = Object.entries(curve.channels);
  const time = all.find(([id]) => id === "time_s");
  const drawn = all.filter(([id]) => id !== "time_s").slice(0, 4);
  const xs = time?.[1] ?? (drawn[0]?.[1] ?? []).map((_, i) => i);
  return (
    <figure class="curve">
      <svg viewBox={`-2 -4 ${W + 4} ${H + 8}`} role="img"
        aria-label={t("line.curveOf", { serial: curve.serial, channels: drawn.map(([id]) => channel(id).name).join(", ") })}>
        <path class="axis" d={`M0 0V${H}H${W}`} />
        {drawn.map(([id, values], i) => (
          <polyline key={id} class={`s${i}`} points={points(xs, values, Math.min(...values), Math.max(...values))} />
        ))}
      </svg>
      <figcaption>
        {drawn.map(([id, values], i) => (
          <span key={id}><i class={`s${i}`} />{channel(id).name} {range(values, channel(id).unit)}</span>
        ))}
        {time && <span class="muted">{t("line.overTime", { d: range(time[1], channel("time_s").unit) })}</span>}
        <span class="muted">{curve.serial} · {clock(curve.time_ms)}</span>
      </figcaption>
    </figure>
  );
}

function Signals({ path }: { path: string }): JSX.Element {
  const paths = useMemo(() => (tags.value?.path ?? []).filter((tag) => unitOf(tag) === path), [path, tags.value]);
  const wanted = paths.length ? `live/values?paths=${encodeURIComponent(paths.join(","))}` : null;
  const { data } = usePoll<LiveValue[]>(wanted, 1000);
  const units = useMemo(() => new Map((tags.value?.path ?? []).map((p, i) => [p, tags.value?.unit[i] ?? ""])), [tags.value]);
  return (
    <Scroll label={t("line.signals")} class="signals">
      <table>
        <thead><tr><th>{t("line.signal")}</th><th class="num">{t("line.value")}</th></tr></thead>
        <tbody>
          {(data ?? []).map((row) => (
            <tr key={row.path} class={row.stale ? "hatched" : ""}>
              <th scope="row"><a href={href("trend", { s: row.path })}>{tail(row.path)}</a></th>
              <td class="num">{row.text ?? withUnit(number(row.value, 5), units.get(row.path))}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Scroll>
  );
}

/** Everything of one station: state, work, last curve, signals. */
export function Drawer({ station }: { station: Station }): JSX.Element {
  const path = station.path;
  const { data: curves } = usePoll<Curve[]>(`curves?station=${encodeURIComponent(path)}&limit=1`, 5000);
  const since = station.since_ms ? Math.max(0, (plantMs.value - station.since_ms) / 1000) : null;
  const curve = curves?.[0];
  return (
    <aside class="drawer panel" aria-label={named("device", station.id)}>
      <header>
        <h2>{named("device", station.id)}</h2>
        <Chip of={station.stale ? "unknown" : condition(station.state, station.reason)} />
        <button type="button" class="quiet" onClick={() => adjust({ sel: undefined })} aria-label={t("common.close")}>✕</button>
      </header>
      <dl class="facts">
        <div><dt>{t("line.state")}</dt><dd>{stateText(station.state)}</dd></div>
        <div><dt>{t("line.reason")}</dt><dd>{reasonText(station.reason)}</dd></div>
        <div><dt>{t("line.since")}</dt><dd>{duration(since)}</dd></div>
        <div><dt>{t("line.cycle")}</dt><dd>{withUnit(number(station.cycle_s), "s")}</dd></div>
        <div><dt>{t("line.serial")}</dt><dd>{(holdsPiece(station) && station.serial) || "–"}</dd></div>
        <div><dt>{t("line.job")}</dt><dd>{station.job ? <a href={href("schedule", { op: station.job })}>{station.job}</a> : "–"}</dd></div>
        <div><dt>{t("line.processed")}</dt><dd>{whole(station.processed)}</dd></div>
        <div><dt>{t("line.defective")}</dt><dd>{whole(station.defective)}</dd></div>
      </dl>
      <h3>{t("line.lastCurve")}</h3>
      {curve ? <CurveView curve={curve} /> : <Empty text={t("line.noCurve")} />}
      <h3>{t("line.signals")}</h3>
      <Signals path={path} />
    </aside>
  );
}
