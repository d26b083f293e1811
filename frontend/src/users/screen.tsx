import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { call } from "../api/client";
import type { Role } from "../api/types";
import { type Key, t } from "../i18n";
import { href } from "../router";
import { usePoll } from "../state/poll";
import { may, me } from "../state/session";
import { Dialog, Empty, Panel, Problem, Scroll } from "../ui/parts";

interface UserRow { name: string; role: Role; language: string }
interface Handed { user: string; link?: string; token?: string }

const ROLES: Role[] = ["viewer", "operator", "planner", "admin", "pusher"];
const explain = (problem: unknown): string => (problem instanceof Error ? problem.message : String(problem));
const roleText = (role: Role): string => t(`role.${role}` as Key);
const address = ({ link, user }: Handed): string =>
  `${location.origin}${location.pathname}${href(`link/${link}`, { user })}`;

/** The one-time link of a user or the token of a program, to be handed over; shown only now. */
function LinkDialog({ handed, onClose }: { handed: Handed; onClose: () => void }): JSX.Element {
  const [copied, setCopied] = useState(false);
  const url = handed.token ?? address(handed);
  const [title, text, name]: [Key, Key, Key] = handed.token
    ? ["users.tokenFor", "users.tokenText", "users.token"] : ["users.linkFor", "users.linkText", "users.link"];
  const copy = (): void => {
    navigator.clipboard?.writeText(url).then(() => setCopied(true), () => undefined);
  };
  return (
    <Dialog title={t(title, { user: handed.user })} onClose={onClose}>
      <p>{t(text, { user: handed.user })}</p>
      <input class="link" readOnly value={url} aria-label={t(name)} onFocus={(event) => event.currentTarget.select()} />
      <div class="buttons">
        {navigator.clipboard && <button type="button" class="primary" onClick={copy}>{t(copied ? "users.copied" : "users.copy")}</button>}
        <button type="button" onClick={onClose}>{t("common.close")}</button>
      </div>
    </Dialog>
  );
}

function Row({ user, act, onLink, onRemove }: {
  user: UserRow; act: (work: () => Promise<unknown>) => void; onLink: () => void; onRemove: () => void;
}): JSX.Element {
  const self = me.value?.user === user.name;
  const change = (body: Record<string, string>): void => act(() => call("PUT", `users/${encodeURIComponent(user.name)}`, body));
  return (
    <tr>
      <th scope="row">{user.name} {self && <small>({t("users.you")})</small>}</th>
      <td>
        <select value={user.role} aria-label={t("users.roleOf", { user: user.name })} disabled={self}
          onChange={(event) => change({ role: event.currentTarget.value })}>
          {ROLES.map((role) => <option key={role} value={role}>{roleText(role)}</option>)}
        </select>
      </td>
      <td>{t(user.language === "zh" ? "users.chinese" : "users.english")}</td>
      <td class="buttons">
        <button type="button" aria-label={t("users.linkOf", { user: user.name })} onClick={onLink}>{t("users.link")}</button>
        <button type="button" aria-label={t("users.removeOf", { user: user.name })} disabled={self} onClick={onRemove}>{t("users.remove")}</button>
      </td>
    </tr>
  );
}

function AddUser({ onAdded, onError }: { onAdded: (handed: Handed) => void; onError: (text: string) => void }): JSX.Element {
  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const data = new FormData(form);
    const name = String(data.get("name") ?? "").trim();
    try {
      const answer = await call<{ link?: string; token?: string }>("POST", "users", { name, role: String(data.get("role")) });
      form.reset();
      onAdded({ user: name, ...(answer.token ? { token: answer.token } : { link: answer.link ?? "" }) });
    } catch (problem) {
      onError(explain(problem));
    }
  };
  return (
    <Panel title={t("users.add")}>
      <form class="fields" onSubmit={(event) => void submit(event)}>
        <label>{t("users.name")}<input name="name" required maxLength={64} pattern="[A-Za-z0-9_.@+\-\u4e00-\u9fff]+" autoComplete="off" /></label>
        <label>{t("users.role")}
          <select name="role">{ROLES.map((role) => <option key={role} value={role}>{roleText(role)}</option>)}</select>
        </label>
        <button class="primary">{t("users.add")}</button>
        <p class="muted">{t("users.addText")}</p>
      </form>
      <dl class="facts duties">
        {ROLES.map((role) => <div key={role}><dt>{roleText(role)}</dt><dd>{t(`users.duty.${role}` as Key)}</dd></div>)}
      </dl>
    </Panel>
  );
}

/** Who may sign in and as what; administrators only. */
export function UsersScreen(): JSX.Element {
  const allowed = may("admin");
  const { data, error, reload } = usePoll<UserRow[]>(allowed ? "users" : null, 10_000);
  const [problem, setProblem] = useState("");
  const [handed, setHanded] = useState<Handed | null>(null);
  const [going, setGoing] = useState("");
  const act = (work: () => Promise<unknown>): void => {
    work().then(() => setProblem(""), (wrong: unknown) => setProblem(explain(wrong))).finally(reload);
  };
  const link = (name: string): void =>
    act(async () => setHanded({ user: name, link: (await call<{ link: string }>("POST", `users/${encodeURIComponent(name)}/link`)).link }));
  const remove = (name: string): void => {
    setGoing("");
    act(() => call("DELETE", `users/${encodeURIComponent(name)}`));
  };
  const added = (fresh: Handed): void => {
    setProblem("");
    setHanded(fresh);
    reload();
  };
  return (
    <div class="users screen">
      <div class="title"><h1>{t("users.title")}</h1></div>
      {!allowed ? <Empty text={t("users.notAllowed")} /> : (
        <>
          <Problem text={problem || error} />
          <div class="columns">
            <div class="column">
              <section class="panel grow">
                <Scroll label={t("users.title")} class="fill">
                  <table>
                    <thead><tr><th>{t("users.name")}</th><th>{t("users.role")}</th><th>{t("users.language")}</th><th><span class="sr">{t("users.link")}</span></th></tr></thead>
                    <tbody>
                      {(data ?? []).map((user) => (
                        <Row key={user.name} user={user} act={act} onLink={() => link(user.name)} onRemove={() => setGoing(user.name)} />
                      ))}
                    </tbody>
                  </table>
                </Scroll>
              </section>
            </div>
            <div class="column narrow"><AddUser onAdded={added} onError={setProblem} /></div>
          </div>
        </>
      )}
      {handed && <LinkDialog handed={handed} onClose={() => setHanded(null)} />}
      {going && (
        <Dialog title={t("users.removeOf", { user: going })} onClose={() => setGoing("")}>
          <p>{t("users.removeText", { user: going })}</p>
          <div class="buttons">
            <button type="button" class="danger" onClick={() => remove(going)}>{t("users.remove")}</button>
            <button type="button" onClick={() => setGoing("")}>{t("common.cancel")}</button>
          </div>
        </Dialog>
      )}
    </div>
  );
}
