import type { JSX } from "preact";
import { plantMs } from "../api/live";
import type { LineView } from "../api/types";
import { hourMinute, midnight, whole } from "../format";
import { t } from "../i18n";

const HOUR = 3_600_000;
/** Counts stand on a grid of half a minute; a later beginning than this is worth a word. */
const SLACK = 60_000;

/** "since 10:05" when counting began clearly later than the span that the number is for. */
function Since({ since, from }: { since: number | null; from: number }): JSX.Element | null {
  return since !== null && from > 0 && since - from > SLACK ? <small>{t("kpi.since", { time: hourMinute(since) })}</small> : null;
}

/** Pieces of today and of the last hour; when counting began later, since when. */
export function Output({ of }: { of: LineView["output"] | undefined }): JSX.Element {
  const now = plantMs.value;
  const since = of?.since_ms ?? null;
  return (
    <>
      <div><dt>{t("kpi.today")}</dt><dd>{whole(of?.today)} <Since since={since} from={now && midnight(now)} /></dd></div>
      <div><dt>{t("kpi.hour")}</dt><dd>{whole(of?.hour)} <Since since={since} from={now && now - HOUR} /></dd></div>
    </>
  );
}
