import { signal } from "@preact/signals";
import { language } from "../i18n";

/** An answer of the server that is not a success, with the text it gave in the reader's language. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly id: string,
    message: string,
  ) {
    super(message);
  }
}

/** Set when the server says that nobody is signed in; the shell then shows the sign-in page. */
export const signedOut = signal(false);

interface Options {
  method?: string;
  body?: unknown;
  accept?: string;
  signal?: AbortSignal;
}

async function send(path: string, options: Options): Promise<Response> {
  const headers: Record<string, string> = { "Accept-Language": language.value };
  headers["Accept"] = options.accept ?? "application/json";
  let body: BodyInit | undefined;
  if (options.body instanceof FormData) body = options.body;
  else if (options.body !== undefined) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(options.body);
  }
  const init: RequestInit = { method: options.method ?? "GET", headers, credentials: "same-origin" };
  if (body !== undefined) init.body = body;
  if (options.signal) init.signal = options.signal;
  const response = await fetch(`api/v1/${path}`, init);
  if (response.ok) return response;
  if (response.status === 401 && path !== "login" && path !== "link") signedOut.value = true;
  throw await problem(response);
}

async function problem(response: Response): Promise<ApiError> {
  try {
    const body = (await response.json()) as { error?: { id?: string; message?: string }; detail?: unknown };
    const text = body.error?.message ?? (typeof body.detail === "string" ? body.detail : "");
    return new ApiError(response.status, body.error?.id ?? "", text || `${response.status}`);
  } catch {
    return new ApiError(response.status, "", `${response.status} ${response.statusText}`);
  }
}

/** GET as JSON; throws ApiError. */
export async function get<T>(path: string, abort?: AbortSignal): Promise<T> {
  const options: Options = abort ? { signal: abort } : {};
  return (await (await send(path, options)).json()) as T;
}

/** POST, PUT or DELETE with a JSON body (or a form); answers the JSON, or null for an empty answer. */
export async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
  const response = await send(path, { method, body });
  const text = await response.text();
  return (text ? JSON.parse(text) : null) as T;
}

/** GET as a file that the browser saves under `name`. */
export async function download(path: string, accept: string, name: string): Promise<void> {
  const blob = await (await send(path, { accept })).blob();
  const url = URL.createObjectURL(blob);
  const anchor = document.createElement("a");
  anchor.href = url;
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Query text of parameters; undefined ones are left out. */
export function query(params: Record<string, string | number | undefined>): string {
  const parts = new URLSearchParams();
  for (const [key, value] of Object.entries(params)) if (value !== undefined) parts.set(key, String(value));
  return parts.toString();
}
