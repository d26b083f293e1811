import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { call } from "../api/client";
import { dayTime, number } from "../format";
import { named, t } from "../i18n";
import { usePoll } from "../state/poll";
import { may } from "../state/session";
import { Panel, Problem } from "../ui/parts";

type Weights = Record<string, number>;
interface WeightsView {
  present: Weights; plant: Weights; fitted: Weights; pairs: number; agrees_before: number; agrees: number; by: string; time_ms: number | null;
}

const same = (a: Weights, b: Weights): boolean => Object.entries(a).every(([name, value]) => b[name] === value);

/** What a person typed; a field that was left empty stays as it is. */
function typed(draft: Record<string, string>): Weights {
  return Object.fromEntries(Object.entries(draft).filter(([, text]) => text.trim()).map(([name, text]) => [name, Number(text)]));
}

/** The weights of the objective, beside those that agree best with the pins that people took. */
export function WeightsPanel(): JSX.Element | null {
  const { data, reload } = usePoll<WeightsView>("schedule/weights", 30_000);
  const [draft, setDraft] = useState<Record<string, string> | null>(null);
  const [error, setError] = useState("");
  if (!data) return null;
  const change = async (work: Promise<unknown>): Promise<void> => {
    try {
      await work;
      setDraft(null);
      setError("");
    } catch (problem) {
      setError(problem instanceof Error ? problem.message : String(problem));
    }
    reload();
  };
  const use = (weights: Weights): void => void change(call("PUT", "schedule/weights", { weights }));
  const field = (name: string): JSX.Element => (
    <input type="number" min="0" step="any" aria-label={named("weights", name)} placeholder={number(data.present[name])}
      value={draft?.[name] ?? ""} onInput={(event) => setDraft({ ...draft, [name]: event.currentTarget.value })} />
  );
  const isOwn = same(data.present, data.plant);
  return (
    <Panel title={t("weights.title")} class="weights">
      <form onSubmit={(event) => { event.preventDefault(); if (draft) use(typed(draft)); }}>
        <table class="tight">
          <thead><tr><th>{t("weights.part")}</th><th class="num">{t("weights.present")}</th><th class="num">{t("weights.plant")}</th><th class="num">{t("weights.fitted")}</th></tr></thead>
          <tbody>
            {Object.entries(data.present).map(([name, value]) => (
              <tr key={name}>
                <th scope="row">{named("weights", name)}</th>
                <td class="num">{draft ? field(name) : number(value)}</td>
                <td class="num">{number(data.plant[name])}</td>
                <td class="num">{data.pairs ? number(data.fitted[name]) : "–"}</td>
              </tr>
            ))}
          </tbody>
        </table>
        <Problem text={error} />
        <p class="muted">{data.by && data.time_ms ? t("weights.by", { by: data.by, time: dayTime(data.time_ms) }) : t("weights.own")}</p>
        <p class="muted">{data.pairs ? t("weights.pairs", { n: data.pairs, before: data.agrees_before, after: data.agrees }) : t("weights.none")}</p>
        {may("planner") && (
          <div class="buttons">
            {draft ? (
              <>
                <button type="submit" disabled={!Object.keys(typed(draft)).length}>{t("weights.use")}</button>
                <button type="button" onClick={() => setDraft(null)}>{t("common.cancel")}</button>
              </>
            ) : (
              <>
                {data.pairs > 0 && <button type="button" disabled={same(data.fitted, data.present)} onClick={() => use(data.fitted)}>{t("weights.useFitted")}</button>}
                <button type="button" onClick={() => setDraft({})}>{t("weights.change")}</button>
                <button type="button" disabled={isOwn && !data.by} onClick={() => void change(call("DELETE", "schedule/weights"))}>{t("weights.reset")}</button>
              </>
            )}
          </div>
        )}
      </form>
    </Panel>
  );
}
