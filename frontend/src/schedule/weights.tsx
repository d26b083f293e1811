import type { JSX } from "preact";
import { number } from "../format";
import { named, t } from "../i18n";
import { usePoll } from "../state/poll";
import { Panel } from "../ui/parts";

interface WeightsView { present: Record<string, number>; fitted: Record<string, number>; pairs: number; agrees_before: number; agrees: number }

/** The weights of the objective, beside those that agree best with the pins that people took. */
export function WeightsPanel(): JSX.Element | null {
  const { data } = usePoll<WeightsView>("schedule/weights", 30_000);
  if (!data) return null;
  return (
    <Panel title={t("weights.title")} class="weights">
      <table class="tight">
        <thead><tr><th>{t("weights.part")}</th><th class="num">{t("weights.present")}</th><th class="num">{t("weights.fitted")}</th></tr></thead>
        <tbody>
          {Object.entries(data.present).map(([name, value]) => (
            <tr key={name}><th scope="row">{named("weights", name)}</th><td class="num">{number(value)}</td><td class="num">{data.pairs ? number(data.fitted[name]) : "–"}</td></tr>
          ))}
        </tbody>
      </table>
      <p class="muted">{data.pairs ? t("weights.pairs", { n: data.pairs, before: data.agrees_before, after: data.agrees }) : t("weights.none")}</p>
    </Panel>
  );
}
