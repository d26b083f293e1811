import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { call } from "../api/client";
import { whole } from "../format";
import { named, t } from "../i18n";
import { centerName } from "../state/plant";
import { usePoll } from "../state/poll";
import { may } from "../state/session";
import type { Message } from "../api/types";
import { LEVELS, levelName, messageText } from "../schedule/words";
import { Dialog, Empty, Panel, Problem } from "../ui/parts";

/** What the brain may do at one line, and what keeps it from doing so now. */
export interface LineAutonomy {
  line: string; on: boolean; levels: Record<string, number | string>; moves_left: number;
  blocked?: Message | null; way?: string; receiver?: string | null; receiver_error?: string | null;
}
export interface AutonomyView {
  lines: LineAutonomy[]; envelope: Record<string, unknown>; veto_s: number; levels: string[]; classes: string[];
}

/** The switch of one line. Off asks first: it stops dispatch at once. */
function Switch({ line, on, onDone }: { line: string; on: boolean; onDone: () => void }): JSX.Element {
  const [asking, setAsking] = useState(false);
  const [error, setError] = useState("");
  const set = async (next: boolean): Promise<void> => {
    setAsking(false);
    try {
      await call("POST", `autonomy/${encodeURIComponent(line)}/switch`, { on: next });
      setError("");
    } catch (problem) {
      setError(problem instanceof Error ? problem.message : String(problem));
    }
    onDone();
  };
  const name = centerName(line);
  return (
    <>
      <button type="button" role="switch" aria-checked={on} class={`switch ${on ? "on" : "off"}`} disabled={!may(on ? "operator" : "planner")}
        aria-label={t("auto.switchOf", { line: name })} onClick={() => (on ? setAsking(true) : void set(true))}>
        <i />{t(on ? "auto.on" : "auto.off")}
      </button>
      {error && <Problem text={error} />}
      {asking && (
        <Dialog title={t("auto.offTitle", { line: name })} onClose={() => setAsking(false)}>
          <p>{t("auto.offText")}</p>
          <div class="buttons">
            <button type="button" class="danger" onClick={() => void set(false)}>{t("auto.offNow")}</button>
            <button type="button" onClick={() => setAsking(false)}>{t("common.cancel")}</button>
          </div>
        </Dialog>
      )}
    </>
  );
}

interface LevelProps { line: string; kind: string; level: number | string; onDone: (error: string) => void }

function LevelChoice({ line, kind, level, onDone }: LevelProps): JSX.Element {
  const set = async (next: string): Promise<void> => {
    try {
      await call("PUT", `autonomy/${encodeURIComponent(line)}/${kind}`, { level: next });
      onDone("");
    } catch (problem) {
      onDone(problem instanceof Error ? problem.message : String(problem));
    }
  };
  return (
    <label>
      <span><span class="sr">{centerName(line)}: </span>{named("class", kind)}</span>
      <select value={levelName(level)} disabled={!may("planner")} onChange={(event) => void set(event.currentTarget.value)}>
        {LEVELS.map((name) => <option key={name} value={name}>{named("level", name)}</option>)}
      </select>
    </label>
  );
}

/** Levels per line and decision class, and the switch of each line. */
export function LineControls(): JSX.Element {
  const { data, error, reload } = usePoll<AutonomyView>("autonomy", 3000);
  const [problem, setProblem] = useState("");
  const done = (text: string): void => {
    setProblem(text);
    reload();
  };
  return (
    <Panel title={t("auto.title")}>
      <Problem text={problem || (data ? "" : error)} />
      {data ? (
        <ul class="auto">
          {data.lines.map((row) => (
            <li key={row.line}>
              <span><b>{centerName(row.line)}</b> <small>{t("auto.movesLeft", { n: whole(row.moves_left) })}{row.way ? ` · ${named("way", row.way)}` : ""}</small></span>
              <Switch line={row.line} on={row.on} onDone={reload} />
              {(row.blocked || row.receiver_error) && (
                <p class="late">▲ {row.blocked ? messageText(row.blocked) : ""} {row.receiver_error ?? ""}</p>
              )}
              <div>
                {data.classes.map((kind) => (
                  <LevelChoice key={kind} line={row.line} kind={kind} level={row.levels[kind] ?? 0} onDone={done} />
                ))}
              </div>
            </li>
          ))}
        </ul>
      ) : <Empty text={t("common.loading")} />}
    </Panel>
  );
}
