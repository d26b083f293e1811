import type { ComponentType, JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { ageSeconds, connected, live, plantMs, sourceLost, stale } from "./api/live";
import type { Health } from "./api/types";
import { clock, day } from "./format";
import { type Key, language, named, nameOf, t } from "./i18n";
import { href, route } from "./router";
import { firstLine, plant } from "./state/plant";
import { usePoll } from "./state/poll";
import { begin, may, me, session, signOut } from "./state/session";
import { dark, theme } from "./state/theme";
import { SignIn } from "./signin";
import { Dialog, Icon, type IconName, Problem } from "./ui/parts";
import { isFree } from "./ui/keys";
import { Palette, paletteOpen } from "./ui/palette";

type Screen = ComponentType;
const SCREENS: Record<string, [IconName, Key, () => Promise<Screen>]> = {
  wall: ["wall", "nav.wall", async () => (await import("./wall/screen")).WallScreen],
  line: ["line", "nav.line", async () => (await import("./line/screen")).LineScreen],
  schedule: ["schedule", "nav.schedule", async () => (await import("./schedule/screen")).ScheduleScreen],
  trend: ["trend", "nav.trend", async () => (await import("./trend/screen")).TrendScreen],
  orders: ["orders", "nav.orders", async () => (await import("./orders/screen")).OrdersScreen],
  work: ["work", "nav.work", async () => (await import("./orders/work")).WorkScreen],
  brain: ["brain", "nav.brain", async () => (await import("./brain/screen")).BrainScreen],
  users: ["users", "nav.users", async () => (await import("./users/screen")).UsersScreen],
};
const loaded = new Map<string, Screen>();
/** The screens this reader may use, in the order of the rail. */
const offered = (): string[] => Object.keys(SCREENS).filter((id) => id !== "users" || may("admin"));

function Rail(): JSX.Element {
  return (
    <nav class="rail" aria-label={t("nav.label")}>
      {offered().map((id, i) => {
        const [icon, key] = SCREENS[id] as [IconName, Key, unknown];
        return (
          <a key={id} href={href(id)} aria-current={route.value.screen === id ? "page" : undefined} title={`${t(key)} (${i + 1})`}>
            <Icon name={icon} />
            <span>{t(key)}</span>
          </a>
        );
      })}
    </nav>
  );
}

/** enterprise > site > area > line > station: where the present screen stands. */
function Crumbs(): JSX.Element {
  const now = plant.value;
  const { screen, parts, params } = route.value;
  const crumbs: { text: string; href: string }[] = [];
  if (now) {
    if (now.enterprise !== "local") crumbs.push({ text: now.enterprise, href: href("wall") });
    crumbs.push({ text: nameOf(now.names, now.site), href: href("wall") });
  }
  if (screen === "line") {
    const id = parts[0] ?? firstLine.value;
    const center = now?.work_centers.find((row) => row.id === id);
    if (center) crumbs.push({ text: named("area", center.area), href: href("wall") });
    crumbs.push({ text: nameOf(center?.names, id), href: href(`line/${id}`) });
    const unit = params.get("sel");
    if (unit) crumbs.push({ text: unit.slice(unit.lastIndexOf("/") + 1), href: href(`line/${id}`, { sel: unit }) });
  }
  const entry = SCREENS[screen];
  if (entry && screen !== "line") crumbs.push({ text: t(entry[1]), href: href(screen) });
  return (
    <nav class="crumbs" aria-label={t("top.crumbs")}>
      <ol>
        {crumbs.map((crumb, i) => (
          <li key={crumb.text}>
            <a href={crumb.href} aria-current={i === crumbs.length - 1 ? "location" : undefined}>{crumb.text}</a>
          </li>
        ))}
      </ol>
    </nav>
  );
}

function DataAge(): JSX.Element {
  const age = ageSeconds.value;
  const fresh = connected.value && !stale.value && !sourceLost.value && age < 2;
  const text = !connected.value
    ? t("top.offline")
    : sourceLost.value
      ? t("top.sourceLost")
      : Number.isNaN(age) ? t("top.waiting") : t("top.age", { s: age.toFixed(1) });
  return (
    <span class={`age ${fresh ? "fresh" : "old"}`} data-state={fresh ? "fresh" : "old"}>
      <svg viewBox="0 0 12 12" width="12" height="12" aria-hidden="true">
        {fresh ? <circle cx="6" cy="6" r="4" fill="currentColor" /> : <path d="M6 1 11.500 11H.5Z" fill="currentColor" />}
      </svg>
      {text}
      {!connected.value && !Number.isNaN(age) && ` · ${t("top.age", { s: age.toFixed(1) })}`}
    </span>
  );
}

/** Says on every screen that something cannot be written, such as on a full disk. */
function StoreFault(): JSX.Element | null {
  const faults = Object.entries(usePoll<Health>("health", 3000).data?.faults ?? {});
  if (faults.length === 0) return null;
  const what = faults.map(([name]) => named("fault", name, name)).join(" · ");
  return (
    <span role="alert" class="age old" data-state="fault" title={faults.map(([, why]) => why).join("\n")}>
      <svg viewBox="0 0 12 12" width="12" height="12" aria-hidden="true"><path d="M6 1 11.500 11H.5Z" fill="currentColor" /></svg>
      {t("top.storeFault", { what })}
    </span>
  );
}

function Top({ onHelp }: { onHelp: () => void }): JSX.Element {
  const zh = language.value === "zh";
  return (
    <header class="top">
      <a class="brand" href={href("wall")}><img src="./icon.svg" alt="" width="22" height="22" />{t("app.name")}</a>
      <Crumbs />
      <span class="space" />
      {plant.value?.simulated && <span class="tag">{t("top.simulated")}</span>}
      <StoreFault />
      <DataAge />
      <time class="clock" title={t("top.plantTime")}>
        {plantMs.value ? `${day(plantMs.value)} ${clock(plantMs.value)}` : "–"}
      </time>
      <button type="button" onClick={() => (paletteOpen.value = true)} title={t("palette.title")}>
        {t("top.search")} <kbd>Ctrl K</kbd>
      </button>
      <button type="button" lang={zh ? "en" : "zh-CN"} onClick={() => (language.value = zh ? "en" : "zh")}
        aria-label={t("top.language")}>{t("language.short")}</button>
      <button type="button" onClick={() => (theme.value = dark.value ? "light" : "dark")} aria-label={t("top.theme")}
        aria-pressed={dark.value}>{dark.value ? "☾" : "☀"}</button>
      <button type="button" onClick={onHelp} aria-label={t("help.title")}>?</button>
      <details class="user">
        <summary>{me.value?.user}</summary>
        <div>
          <p>{t(`role.${me.value?.role ?? "viewer"}` as Key)}</p>
          <button type="button" onClick={() => void signOut()}>{t("top.signOut")}</button>
        </div>
      </details>
    </header>
  );
}

function Help({ onClose }: { onClose: () => void }): JSX.Element {
  const rows: [string, Key][] = [
    ["Ctrl K · /", "help.palette"], [`1 – ${offered().length}`, "help.screens"], ["?", "help.help"], ["← ↑ → ↓", "help.arrows"],
    ["Enter", "help.enter"], ["+ −", "help.zoom"], ["A", "help.approve"], ["R", "help.reject"],
    ["N", "help.now"], ["Esc", "help.escape"],
  ];
  return (
    <Dialog title={t("help.title")} onClose={onClose}>
      <dl class="keys">
        {rows.map(([key, text]) => (
          <div key={key}><dt><kbd>{key}</kbd></dt><dd>{t(text)}</dd></div>
        ))}
      </dl>
    </Dialog>
  );
}

function useShortcuts(help: () => void): void {
  useEffect(() => {
    const listen = (event: KeyboardEvent): void => {
      const control = event.ctrlKey || event.metaKey;
      if (control && event.key.toLowerCase() === "k") {
        event.preventDefault();
        paletteOpen.value = !paletteOpen.value;
      } else if (isFree(event)) {
        const target = offered()[Number(event.key) - 1];
        if (event.key === "?") help();
        else if (event.key === "/") {
          event.preventDefault();
          paletteOpen.value = true;
        } else if (target) location.hash = href(target);
      }
    };
    window.addEventListener("keydown", listen);
    return () => window.removeEventListener("keydown", listen);
  }, []);
}

/** The screen of the route, loaded when it is first wanted. */
function Stage(): JSX.Element {
  const id = SCREENS[route.value.screen] ? route.value.screen : "wall";
  const [, ready] = useState("");
  const [error, setError] = useState("");
  const entry = SCREENS[id];
  useEffect(() => {
    if (id !== "wall" && id !== "trend") live.show({ view: "wall", hz: 2 });
    document.title = `${entry ? t(entry[1]) : ""} · ${t("app.name")}`;
    if (!entry || loaded.has(id)) return;
    entry[2]().then(
      (screen) => { loaded.set(id, screen); ready(id); setError(""); },
      () => setError(t("app.newer")),
    );
  }, [id, language.value]);
  const Screen = loaded.get(id);
  return (
    <main id="main" tabIndex={-1} class={stale.value ? "is-stale" : ""}>
      <Problem text={error} />
      {Screen ? <Screen /> : <p class="empty">{t("common.loading")}</p>}
    </main>
  );
}

export function App(): JSX.Element {
  const [help, setHelp] = useState(false);
  useShortcuts(() => setHelp(true));
  useEffect(() => void begin(), []);
  if (route.value.screen === "link" || session.value === "out") return <SignIn />;
  if (session.value === "checking") return <main class="center"><p class="empty">{t("app.connecting")}</p></main>;
  return (
    <div class="shell">
      <a class="skip" href="#main" onClick={(event) => {
        event.preventDefault();
        document.getElementById("main")?.focus();
      }}>{t("app.skip")}</a>
      <Top onHelp={() => setHelp(true)} />
      <Rail />
      <Stage />
      {paletteOpen.value && <Palette />}
      {help && <Help onClose={() => setHelp(false)} />}
    </div>
  );
}
