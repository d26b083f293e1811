import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { call } from "../api/client";
import type { WorkItem } from "../api/types";
import { dayTime, whole } from "../format";
import { named, t } from "../i18n";
import { adjust, route } from "../router";
import { centerName, plant, productName, tail } from "../state/plant";
import { usePoll } from "../state/poll";
import { may } from "../state/session";
import { Empty, Problem } from "../ui/parts";

/** One job as people at the station get it: large, with one thing to do. */
function Job({ item, onDone }: { item: WorkItem; onDone: () => void }): JSX.Element {
  const [error, setError] = useState("");
  const [good, setGood] = useState(item.quantity);
  const [scrap, setScrap] = useState(0);
  const running = item.state === "running";
  const confirm = async (): Promise<void> => {
    try {
      await call("POST", `work-list/${encodeURIComponent(item.job)}/confirm`, running ? { good, scrap } : {});
      setError("");
      onDone();
    } catch (problem) {
      setError(problem instanceof Error ? problem.message : String(problem));
    }
  };
  return (
    <li class="job panel">
      <div>
        <h2>{item.job}</h2>
        <p>{productName(item.product)} · {t("work.pieces", { n: whole(item.quantity) })}</p>
        <p class="muted">{tail(item.equipment)}{item.program ? ` · ${item.program}` : ""}</p>
      </div>
      <div>
        <p><span class="status">{named("job", item.state)}</span></p>
        {item.start_ms ? <p class="muted">{dayTime(item.start_ms)}{item.end_ms ? ` – ${dayTime(item.end_ms)}` : ""}</p> : null}
      </div>
      <div class="do">
        {running && (
          <>
            <label>{t("work.good")}<input type="number" min={0} value={good} onInput={(e) => setGood(Number(e.currentTarget.value))} /></label>
            <label>{t("work.scrap")}<input type="number" min={0} value={scrap} onInput={(e) => setScrap(Number(e.currentTarget.value))} /></label>
          </>
        )}
        <button type="button" class="primary big" disabled={!may("operator")} onClick={() => void confirm()}>
          {t(running ? "work.report" : "work.confirm")}
        </button>
        <Problem text={error} />
      </div>
    </li>
  );
}

/** The work list at a station: the people's way out of the brain. */
export function WorkScreen(): JSX.Element {
  const center = route.value.params.get("wc") ?? "";
  const path = center ? `work-list?work_center=${encodeURIComponent(center)}` : "work-list";
  const { data, error, reload } = usePoll<WorkItem[]>(path, 2000);
  return (
    <div class="work screen">
      <div class="title">
        <h1>{t("nav.work")}</h1>
        <label>{t("work.center")}
          <select value={center} onChange={(event) => adjust({ wc: event.currentTarget.value || undefined })}>
            <option value="">{t("work.all")}</option>
            {plant.value?.work_centers.map((row) => <option key={row.id} value={row.id}>{centerName(row.id)}</option>)}
          </select>
        </label>
      </div>
      <Problem text={error} />
      {data && data.length > 0
        ? <ul class="jobs">{data.map((item) => <Job key={item.job} item={item} onDone={reload} />)}</ul>
        : !error && <Empty text={data ? t("work.none") : t("common.loading")} />}
    </div>
  );
}
