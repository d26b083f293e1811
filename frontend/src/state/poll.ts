import { useEffect, useRef, useState } from "preact/hooks";
import { get } from "../api/client";

export interface Polled<T> { data: T | null; error: string; reload: () => void }

/** GET an address now and every `ms` while the page is visible; keeps the last answer on errors. */
export function usePoll<T>(path: string | null, ms: number): Polled<T> {
  const [data, setData] = useState<T | null>(null);
  const [error, setError] = useState("");
  const reload = useRef<() => void>(() => undefined);
  useEffect(() => {
    if (path === null) return;
    const abort = new AbortController();
    let timer = 0;
    const load = async (): Promise<void> => {
      window.clearTimeout(timer);
      try {
        if (!document.hidden) setData(await get<T>(path, abort.signal));
        setError("");
      } catch (problem) {
        if (!abort.signal.aborted) setError(problem instanceof Error ? problem.message : String(problem));
      }
      window.clearTimeout(timer);
      if (!abort.signal.aborted && ms > 0) timer = window.setTimeout(() => void load(), ms);
    };
    reload.current = () => void load();
    void load();
    return () => {
      abort.abort();
      window.clearTimeout(timer);
    };
  }, [path, ms]);
  return { data, error, reload: () => reload.current() };
}
