import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { call } from "../api/client";
import type { Declared, ScheduleView } from "../api/types";
import { dayTime, timeBeside } from "../format";
import { named, t } from "../i18n";
import { centerName, tail } from "../state/plant";
import { may } from "../state/session";
import { Panel, Problem } from "../ui/parts";

const placeOf = (row: Declared): string => (row.kind === "down" ? tail(row.place) : centerName(row.place));
const spanOf = (row: Declared): string => `${dayTime(row.from_ms)} – ${timeBeside(row.until_ms, row.from_ms)}`;

/** Planned stops and extra shifts that hold beside the calendars, each with a way to take it back. */
export function DeclaredTimes({ view, onDone }: { view: ScheduleView; onDone: () => void }): JSX.Element | null {
  const [error, setError] = useState("");
  const rows = view.declared ?? [];
  if (rows.length === 0) return null;
  const withdraw = async (id: string): Promise<void> => {
    try {
      await call("DELETE", `schedule/declared/${encodeURIComponent(id)}`);
      setError("");
      onDone();
    } catch (problem) {
      setError(problem instanceof Error ? problem.message : String(problem));
    }
  };
  return (
    <Panel title={t("declared.title")} class="declared">
      <Problem text={error} />
      <ul class="commands">
        {rows.map((row) => (
          <li key={row.id}>
            <b>{placeOf(row)}</b> {named("declared", row.kind)}, {spanOf(row)} <small>{t("declared.by", { by: row.by })}</small>
            {may("planner") && (
              <button type="button" class="quiet" onClick={() => void withdraw(row.id)}
                aria-label={t("declared.withdraw", { what: `${placeOf(row)}, ${spanOf(row)}` })}>✕</button>
            )}
          </li>
        ))}
      </ul>
    </Panel>
  );
}
