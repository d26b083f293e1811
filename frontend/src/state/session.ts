import { signal } from "@preact/signals";
import { ApiError, call, get, signedOut } from "../api/client";
import { live } from "../api/live";
import type { Me, Role } from "../api/types";
import { loadPlant } from "./plant";

export const me = signal<Me | null>(null);
/** "checking" until the server has said who we are. */
export const session = signal<"checking" | "in" | "out">("checking");

const ROLES: Role[] = ["viewer", "operator", "planner", "admin"];
export const may = (role: Role): boolean =>
  me.value !== null && ROLES.indexOf(me.value.role) >= ROLES.indexOf(role);

signedOut.subscribe((out) => {
  if (!out) return;
  signedOut.value = false;
  if (session.value === "in") leave();
});

function leave(): void {
  me.value = null;
  session.value = "out";
  live.stop();
}

async function enter(who: Me): Promise<void> {
  me.value = who;
  await loadPlant();
  session.value = "in";
  live.start();
}

/** Ask the server who we are, again every few seconds while it is away. */
export async function begin(): Promise<void> {
  try {
    await enter(await get<Me>("me"));
  } catch (error) {
    if (error instanceof ApiError && (error.status === 401 || error.status === 403)) session.value = "out";
    else window.setTimeout(() => void begin(), 2000);
  }
}

export async function signIn(user: string, password: string): Promise<void> {
  await enter(await call<Me>("POST", "login", { user, password }));
}

/** Use a one-time link; with a password it also becomes the account's password. */
export async function useLink(token: string, password: string): Promise<void> {
  await enter(await call<Me>("POST", "link", { token, password }));
}

export async function signOut(): Promise<void> {
  try {
    await call("POST", "logout");
  } finally {
    leave();
  }
}
