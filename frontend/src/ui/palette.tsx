import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { get } from "../api/client";
import type { Order } from "../api/types";
import { type Key, t } from "../i18n";
import { href } from "../router";
import { centerName, plant, shortPath, tags, units } from "../state/plant";
import { may } from "../state/session";
import { find, type Entry } from "./search";
import { Dialog } from "./parts";

export const paletteOpen = signal(false);

const SCREENS: [string, Key][] = [
  ["wall", "nav.wall"], ["line", "nav.line"], ["schedule", "nav.schedule"], ["trend", "nav.trend"],
  ["orders", "nav.orders"], ["work", "nav.work"], ["brain", "nav.brain"], ["users", "nav.users"],
];

function entries(orders: Order[]): Entry[] {
  const rows: Entry[] = SCREENS.filter(([id]) => id !== "users" || may("admin")).map(([id, key]) => ({ text: t(key), kind: t("palette.screen"), href: href(id) }));
  for (const unit of units.value)
    rows.push({
      text: unit.path, kind: unit.counted ? t("palette.station") : centerName(unit.cell),
      href: unit.counted ? href(`line/${unit.line}`, { sel: unit.path }) : href("schedule", { row: unit.path }),
    });
  for (const order of orders)
    rows.push({ text: `${order.id} ${order.product}`, kind: t("palette.order"), href: href("orders", { sel: order.id }) });
  for (const path of tags.value?.path ?? []) rows.push({ text: path, kind: t("palette.signal"), href: href("trend", { s: path }) });
  return rows;
}

/** Find any screen, station, order or signal by a few letters (Ctrl-K). */
export function Palette(): JSX.Element {
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const [orders, setOrders] = useState<Order[]>([]);
  useEffect(() => {
    get<Order[]>("orders").then(setOrders, () => undefined);
  }, []);
  const all = useMemo(() => entries(orders), [orders, tags.value, plant.value]);
  const hits = useMemo(() => find(all, text, 40), [all, text]);
  const close = (): void => {
    paletteOpen.value = false;
  };
  const key = (event: KeyboardEvent): void => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      setAt(Math.max(0, Math.min(hits.length - 1, at + step)));
    } else if (event.key === "Enter" && hits[at]) {
      location.hash = hits[at].href;
      close();
    }
  };
  return (
    <Dialog title={t("palette.title")} class="palette" onClose={close}>
      <input type="text" value={text} placeholder={t("palette.hint")} aria-label={t("palette.hint")} autoFocus
        role="combobox" aria-expanded="true" aria-controls="palette-hits" aria-activedescendant={`hit-${at}`}
        onKeyDown={key} onInput={(event) => { setText(event.currentTarget.value); setAt(0); }} />
      <ul id="palette-hits" role="listbox" aria-label={t("palette.title")}>
        {hits.map((hit, i) => (
          <li key={hit.href} id={`hit-${i}`} role="option" aria-selected={i === at}
            onClick={() => { location.hash = hit.href; close(); }}>
            <span>{hit.text.includes("/") ? shortPath(hit.text) : hit.text}</span>
            <small>{hit.text.includes("/") ? hit.text : ""}</small>
            <em>{hit.kind}</em>
          </li>
        ))}
      </ul>
      {hits.length === 0 && <p class="empty">{t("palette.none")}</p>}
    </Dialog>
  );
}
