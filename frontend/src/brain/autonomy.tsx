import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { call } from "../api/client";
import { whole } from "../format";
import { named, t } from "../i18n";
import { centerName } from "../state/plant";
import { usePoll } from "../state/poll";
import { may } from "../state/session";
import { LEVELS, levelName } from "../schedule/words";
import { Dialog, Empty, Panel, Problem, Scroll } from "../ui/parts";

export interface AutonomyView {
  levels: Record<string, Record<string, number | string>>;
  switches: Record<string, boolean>;
  envelope?: Record<string, unknown>;
  moves_left?: number | Record<string, number>;
  veto_s?: number;
}

const CLASSES = ["plan", "repair", "improve", "release"];

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
      <button type="button" role="switch" aria-checked={on} class={`switch ${on ? "on" : "off"}`} disabled={!may("operator")}
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
    <select value={levelName(level)} disabled={!may("planner")} aria-label={`${centerName(line)}: ${named("class", kind)}`}
      onChange={(event) => void set(event.currentTarget.value)}>
      {LEVELS.map((name) => <option key={name} value={name}>{named("level", name)}</option>)}
    </select>
  );
}

const movesLeft = (view: AutonomyView): string => {
  const left = view.moves_left;
  if (typeof left === "number") return whole(left);
  return left ? Object.entries(left).map(([line, n]) => `${centerName(line)} ${n}`).join(", ") : "–";
};

/** Levels per line and decision class, and the switch of each line. */
export function LineControls({ lines }: { lines: string[] }): JSX.Element {
  const { data, error, reload } = usePoll<AutonomyView>("autonomy", 3000);
  const [problem, setProblem] = useState("");
  const rows = [...new Set([...Object.keys(data?.switches ?? {}), ...Object.keys(data?.levels ?? {}), ...lines])]
    .filter((line) => line !== "default");
  const done = (text: string): void => {
    setProblem(text);
    reload();
  };
  return (
    <Panel title={t("auto.title")} extra={data && <span class="count">{t("auto.movesLeft", { n: movesLeft(data) })}</span>}>
      <Problem text={problem || (data ? "" : error)} />
      {data ? (
        <Scroll label={t("auto.title")}>
          <table class="auto tight">
            <thead><tr><th>{t("auto.line")}</th>{CLASSES.map((kind) => <th key={kind}>{named("class", kind)}</th>)}<th>{t("auto.brain")}</th></tr></thead>
            <tbody>
              {rows.map((line) => (
                <tr key={line}>
                  <th scope="row">{centerName(line)}</th>
                  {CLASSES.map((kind) => (
                    <td key={kind}><LevelChoice line={line} kind={kind} level={data.levels[line]?.[kind] ?? data.levels["default"]?.[kind] ?? 0} onDone={done} /></td>
                  ))}
                  <td><Switch line={line} on={data.switches[line] !== false} onDone={reload} /></td>
                </tr>
              ))}
            </tbody>
          </table>
        </Scroll>
      ) : <Empty text={t("common.loading")} />}
    </Panel>
  );
}
