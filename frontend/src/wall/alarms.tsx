import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { call } from "../api/client";
import type { Alarm } from "../api/types";
import { clock, dayTime } from "../format";
import { named, t } from "../i18n";
import { href } from "../router";
import { firstLine, tail, unitIndex, units } from "../state/plant";
import { usePoll } from "../state/poll";
import { may } from "../state/session";
import { Empty, Panel, Problem, Scroll } from "../ui/parts";
import { messageText } from "../schedule/words";

const MARKS: Record<Alarm["state"], string> = { unacknowledged: "▲", acknowledged: "✓", returned_unacknowledged: "△" };

/** Where the place of an alarm is shown. */
function place(alarm: Alarm): string {
  if (alarm.kind === "source_lost") return href("brain");
  const unit = units.value[unitIndex.value.get(alarm.path) ?? -1];
  return unit && !unit.counted ? href("schedule", { row: alarm.path }) : href(`line/${unit?.line ?? firstLine.value}`, { sel: alarm.path });
}

function Row({ alarm, onAck }: { alarm: Alarm; onAck: () => void }): JSX.Element {
  const text = messageText(alarm.message);
  const open = alarm.state !== "acknowledged";
  return (
    <li class={`alarm a-${alarm.state}`}>
      <span class={`p${alarm.priority}`} title={t("alarm.priority", { n: alarm.priority })}>{MARKS[alarm.state]}</span>
      <div>
        <a href={place(alarm)}>{text || tail(alarm.path)}</a>
        <small>
          <time title={dayTime(alarm.since_ms)}>{clock(alarm.since_ms)}</time> · {named("alarmstate", alarm.state)}
          {alarm.acked_by && ` · ${t("alarm.ackedBy", { user: alarm.acked_by, time: clock(alarm.acked_ms ?? 0) })}`}
        </small>
      </div>
      {open && may("operator") && <button type="button" aria-label={t("alarm.ackOne", { text })} title={t("alarm.ack")} onClick={onAck}>✓</button>}
    </li>
  );
}

/** Alarms after ISA-18.2: what stands, who has seen it, and what went away unseen. */
export function Alarms(): JSX.Element {
  const { data, error, reload } = usePoll<Alarm[]>("alarms", 2000);
  const [problem, setProblem] = useState("");
  const rows = data ?? [];
  const open = rows.filter((row) => row.state !== "acknowledged");
  const acknowledge = async (some: Alarm[]): Promise<void> => {
    try {
      await call("POST", "alarms/acknowledge", { alarms: some.map((row) => [row.path, row.kind]) });
      setProblem("");
    } catch (wrong) {
      setProblem(wrong instanceof Error ? wrong.message : String(wrong));
    }
    reload();
  };
  const extra = (
    <>
      <span class="count">{t("alarm.count", { n: open.length })}</span>
      {open.length > 1 && may("operator") && <button type="button" onClick={() => void acknowledge(open)}>{t("alarm.ackAll")}</button>}
    </>
  );
  return (
    <Panel title={t("alarm.title")} class="alarms" extra={extra}>
      <Problem text={problem || (data ? "" : error)} />
      {rows.length > 0 ? (
        <Scroll label={t("alarm.title")}>
          <ul>{rows.map((row) => <Row key={`${row.kind} ${row.path}`} alarm={row} onAck={() => void acknowledge([row])} />)}</ul>
        </Scroll>
      ) : data && <Empty text={t("alarm.none")} />}
    </Panel>
  );
}
