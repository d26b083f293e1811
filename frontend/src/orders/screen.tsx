import type { JSX } from "preact";
import { useRef, useState } from "preact/hooks";
import { call } from "../api/client";
import { plantMs } from "../api/live";
import type { ImportAnswer, Order, RowError } from "../api/types";
import { dayTime, duration, fromField, toField, whole } from "../format";
import { named, t } from "../i18n";
import { adjust, href, route } from "../router";
import { centerName, plant, productName } from "../state/plant";
import { usePoll } from "../state/poll";
import { may } from "../state/session";
import { Empty, Panel, Problem, Scroll } from "../ui/parts";

const HOUR = 3_600_000;
const explain = (problem: unknown): string => (problem instanceof Error ? problem.message : String(problem));

function AddOrder({ onDone }: { onDone: () => void }): JSX.Element {
  const [error, setError] = useState("");
  const [said, setSaid] = useState("");
  const start = plantMs.value || Date.now();
  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const data = new FormData(form);
    const field = (name: string): string => String(data.get(name) ?? "");
    try {
      await call("POST", "orders", {
        id: field("id"), product: field("product"), quantity: Number(field("quantity")),
        due: new Date(fromField(field("due"))).toISOString(), priority: Number(field("priority")),
      });
      setError("");
      setSaid(t("orders.added", { id: field("id") }));
      form.reset();
      onDone();
    } catch (problem) {
      setSaid("");
      setError(explain(problem));
    }
  };
  return (
    <form class="fields" onSubmit={(event) => void submit(event)}>
      <label>{t("orders.id")}<input name="id" required pattern="[A-Za-z0-9_\-]+" maxLength={40} /></label>
      <label>{t("orders.product")}
        <select name="product" required>{plant.value?.products.map((p) => <option key={p.id} value={p.id}>{productName(p.id)}</option>)}</select>
      </label>
      <label>{t("orders.quantity")}<input name="quantity" type="number" min={1} max={100_000} required /></label>
      <label>{t("orders.due")}<input name="due" type="datetime-local" required defaultValue={toField(start + 24 * HOUR)} /></label>
      <label>{t("orders.priority")}
        <select name="priority">{[1, 2, 3, 5, 7, 9].map((n) => <option key={n} value={n}>{n === 1 ? t("orders.normal") : n === 9 ? t("orders.rush") : n}</option>)}</select>
      </label>
      <button class="primary">{t("orders.add")}</button>
      <Problem text={error} />
      <p class="muted" role="status">{said}</p>
    </form>
  );
}

function Import({ onDone }: { onDone: () => void }): JSX.Element {
  const [errors, setErrors] = useState<RowError[]>([]);
  const [said, setSaid] = useState("");
  const [error, setError] = useState("");
  const input = useRef<HTMLInputElement>(null);
  const send = async (file: File | undefined): Promise<void> => {
    if (!file) return;
    const form = new FormData();
    form.append("file", file);
    try {
      const answer = await call<ImportAnswer>("POST", "orders/import", form);
      const accepted = Array.isArray(answer.accepted) ? answer.accepted.length : answer.accepted;
      setErrors(answer.errors);
      setSaid(t("orders.imported", { n: accepted, bad: new Set(answer.errors.map((one) => one.row)).size, file: file.name }));
      setError("");
      onDone();
    } catch (problem) {
      setError(explain(problem));
    }
    if (input.current) input.current.value = "";
  };
  return (
    <>
      <label class="drop" onDragOver={(event) => event.preventDefault()}
        onDrop={(event) => { event.preventDefault(); void send(event.dataTransfer?.files[0]); }}>
        {t("orders.file")}
        <span class="button">{t("orders.choose")}</span>
        <span class="muted">{t("orders.drop")}</span>
        <input ref={input} class="sr" type="file" accept=".csv,.xlsx,.xls,.ods" onChange={(event) => void send(event.currentTarget.files?.[0])} />
      </label>
      <p class="muted">{t("orders.columns")}</p>
      <Problem text={error} />
      <p role="status">{said}</p>
      {errors.length > 0 && (
        <Scroll label={t("orders.errors")} class="tall">
          <table class="tight">
            <thead><tr><th class="num">{t("orders.row")}</th><th>{t("orders.column")}</th><th>{t("orders.value")}</th><th>{t("orders.message")}</th></tr></thead>
            <tbody>
              {errors.map((row, i) => (
                <tr key={i}><td class="num">{row.row}</td><td>{row.column}</td><td>{String(row.value ?? "")}</td><td class="late">{row.message}</td></tr>
              ))}
            </tbody>
          </table>
        </Scroll>
      )}
    </>
  );
}

function Promise_({ order }: { order: Order }): JSX.Element {
  const late = order.late_s ?? (order.predicted_end_ms !== null ? (order.predicted_end_ms - order.due_ms) / 1000 : null);
  if (late === null) return <span class="muted">{t("orders.unplanned")}</span>;
  return late > 0
    ? <span class="late">▲ {t("orders.lateBy", { d: duration(late) })}</span>
    : <span>✓ {t("orders.early", { d: duration(-late) })}</span>;
}

function Steps({ order }: { order: Order }): JSX.Element {
  return (
    <ol class="steps">
      {order.steps.map((step) => (
        <li key={step.job || step.work_center} class={`j-${step.state}`}>
          <b>{centerName(step.work_center)}</b> <span>{named("job", step.state)}</span> <small>{whole(step.good)} / {order.quantity}</small>
          {step.job && <a href={href("schedule", { op: step.job })}>{t("orders.inPlan")}</a>}
        </li>
      ))}
    </ol>
  );
}

function List({ orders, onDone }: { orders: Order[]; onDone: () => void }): JSX.Element {
  const selected = route.value.params.get("sel");
  const words = (route.value.params.get("q") ?? "").toLowerCase();
  const [error, setError] = useState("");
  const rows = orders.filter((o) => !words || `${o.id} ${o.product} ${productName(o.product)}`.toLowerCase().includes(words));
  const cancel = async (id: string): Promise<void> => {
    try {
      await call("DELETE", `orders/${encodeURIComponent(id)}`);
      setError("");
      onDone();
    } catch (problem) {
      setError(explain(problem));
    }
  };
  return (
    <Panel title={t("orders.list", { n: rows.length })} class="grow" extra={
      <input type="search" class="find" placeholder={t("orders.find")} aria-label={t("orders.find")} value={words}
        onInput={(event) => adjust({ q: event.currentTarget.value || undefined })} />}>
      <Problem text={error} />
      <Scroll label={t("nav.orders")} class="fill">
        <table>
          <thead><tr><th>{t("orders.id")}</th><th>{t("orders.product")}</th><th class="num">{t("orders.quantity")}</th><th>{t("orders.state")}</th><th>{t("orders.progress")}</th><th>{t("orders.due")}</th><th>{t("orders.predicted")}</th><th>{t("orders.promise")}</th><th class="num">{t("orders.priority")}</th><th><span class="sr">{t("orders.cancel")}</span></th></tr></thead>
          <tbody>
            {rows.map((order) => (
              <>
                <tr key={order.id} class={order.id === selected ? "chosen" : ""}>
                  <th scope="row">
                    <button type="button" class="linklike" aria-expanded={order.id === selected}
                      onClick={() => adjust({ sel: order.id === selected ? undefined : order.id })}>{order.id}</button>
                  </th>
                  <td>{productName(order.product)}</td><td class="num">{whole(order.quantity)}</td><td>{named("order", order.state)}</td>
                  <td class="done"><progress max={order.quantity} value={order.done} aria-label={t("orders.progress")} /> <small>{whole(order.done)}</small></td>
                  <td class="when">{dayTime(order.due_ms)}</td>
                  <td class="when">{order.predicted_end_ms === null ? "–" : dayTime(order.predicted_end_ms)}</td>
                  <td><Promise_ order={order} /></td><td class="num">{order.priority > 1 ? `▲ ${order.priority}` : order.priority}</td>
                  <td>{may("planner") && order.state === "waiting" && (
                    <button type="button" class="quiet" onClick={() => void cancel(order.id)} aria-label={t("orders.cancelOne", { id: order.id })}>✕</button>
                  )}</td>
                </tr>
                {order.id === selected && <tr key={`${order.id}+`}><td colSpan={10}><Steps order={order} /></td></tr>}
              </>
            ))}
          </tbody>
        </table>
        {rows.length === 0 && <Empty text={t("orders.none")} />}
      </Scroll>
    </Panel>
  );
}

export function OrdersScreen(): JSX.Element {
  const { data, error, reload } = usePoll<Order[]>("orders", 3000);
  return (
    <div class="orders screen">
      <h1>{t("nav.orders")}</h1>
      <Problem text={error} />
      <div class="columns">
        <div class="column">{data ? <List orders={data} onDone={reload} /> : <Empty text={t("common.loading")} />}</div>
        {may("planner") && (
          <div class="column narrow">
            <Panel title={t("orders.new")}><AddOrder onDone={reload} /></Panel>
            <Panel title={t("orders.import")}><Import onDone={reload} /></Panel>
          </div>
        )}
      </div>
    </div>
  );
}
