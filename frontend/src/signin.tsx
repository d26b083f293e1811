import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { language, t } from "./i18n";
import { go, route } from "./router";
import { signIn, useLink } from "./state/session";
import { Problem } from "./ui/parts";

const SHORTEST = 10;

/** Sign-in, and `#/link/<token>`: the one-time link on which the administrator sets a password. */
export function SignIn(): JSX.Element {
  const token = route.value.screen === "link" ? (route.value.parts[0] ?? "") : "";
  const name = token ? (route.value.params.get("user") ?? "") : "";
  const [user, setUser] = useState("");
  const [password, setPassword] = useState("");
  const [again, setAgain] = useState("");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const check = (): string => {
    if (!token) return "";
    if (password.length < SHORTEST) return t("signin.short", { n: SHORTEST });
    return password === again ? "" : t("signin.differ");
  };
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    const wrong = check();
    setError(wrong);
    if (wrong) return;
    setBusy(true);
    try {
      if (token) await useLink(token, password);
      else await signIn(user, password);
      if (token) go("wall");
    } catch (problem) {
      setError(problem instanceof Error ? problem.message : String(problem));
    } finally {
      setBusy(false);
    }
  };
  const zh = language.value === "zh";
  return (
    <main class="center">
      <form class="signin panel" onSubmit={(event) => void submit(event)}>
        <img src="./icon.svg" alt="" width="44" height="44" />
        <h1>{t("app.name")}</h1>
        <p>{!token ? t("signin.please") : name ? t("signin.linkFor", { user: name }) : t("signin.link")}</p>
        {!token && (
          <label>{t("signin.user")}
            <input required autoComplete="username" value={user} onInput={(e) => setUser(e.currentTarget.value)} />
          </label>
        )}
        <label>{token ? t("signin.new") : t("signin.password")}
          <input required type="password" autoComplete={token ? "new-password" : "current-password"} value={password}
            onInput={(e) => setPassword(e.currentTarget.value)} />
        </label>
        {token && name && <input class="sr" type="text" tabIndex={-1} aria-hidden="true" autoComplete="username" readOnly value={name} />}
        {token && (
          <label>{t("signin.again")}
            <input required type="password" autoComplete="new-password" value={again}
              onInput={(e) => setAgain(e.currentTarget.value)} />
          </label>
        )}
        <Problem text={error} />
        <button class="primary" disabled={busy}>{token ? t("signin.set") : t("signin.go")}</button>
        <button type="button" class="quiet" lang={zh ? "en" : "zh-CN"}
          onClick={() => (language.value = zh ? "en" : "zh")}>{t("language.other")}</button>
      </form>
    </main>
  );
}
