"""The whole plant for some minutes: rate, loss by value, processor and memory, latencies.

    python -m bench.plant_load --seconds 600

The plant records what it sends; afterwards every recorded (signal, time, value) is looked up in the
historian. Processor shares are of one core; plant and broker are reported apart from the brain.
Baseline of the same run: what a plain DuckDB table needs for the same rows.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from bench.house import House, usage
from workshop_brain.store.historian import Historian


def recorded(directory: Path) -> tuple[list[str], list[str], dict[str, np.ndarray]]:
    """What the plant sent: paths, texts and columns."""
    paths = (directory / "signals.txt").read_text().splitlines()
    texts = [json.loads(t) for t in (directory / "texts.txt").read_text().splitlines()]
    parts = [np.load(p) for p in sorted(directory.glob("sent-*.npz"))]
    columns = {
        key: np.concatenate([p[key] for p in parts]) for key in ("signal", "time_ns", "value")
    }
    return paths, texts, columns


def compare(record: Path, data: Path, enterprise: str = "local") -> dict[str, int]:
    """Count recorded samples that the historian holds with the same value, or not.

    What an OPC UA tag showed before anybody subscribed to it was sent to nobody: counted apart. An
    edge node of Sparkplug keeps what nobody has heard yet, so there nothing is excused.
    """
    paths, texts, sent = recorded(record)
    historian = Historian(data / "historian", read_only=True)
    known = {s.path: s for s in historian.signals()}
    missing = wrong = found = before = 0
    order = np.argsort(sent["signal"], kind="stable")
    signal = sent["signal"][order]
    starts = np.searchsorted(signal, np.arange(len(paths) + 1))
    batch = 400
    low, high = int(sent["time_ns"].min()), int(sent["time_ns"].max()) + 1
    for first in range(0, len(paths), batch):
        chosen = [
            i for i in range(first, min(first + batch, len(paths))) if starts[i + 1] > starts[i]
        ]
        names = [f"{enterprise}/{paths[i]}" for i in chosen]
        absent = [n for n in names if n not in known]
        missing += sum(
            int(starts[i + 1] - starts[i])
            for i, n in zip(chosen, names, strict=True)
            if n in absent
        )
        table = historian.query([n for n in names if n in known], low, high)
        by_path = _split(table)
        for i, name in zip(chosen, names, strict=True):
            if name in absent:
                continue
            rows = order[starts[i] : starts[i + 1]]
            want_t, want_v = sent["time_ns"][rows], sent["value"][rows]
            got_t, got_v, got_x = by_path.get(name, (np.empty(0, np.int64), np.empty(0), []))
            if len(got_t) and _is_opcua(known[name].address):
                seen = want_t >= got_t[0]
                want_t, want_v = want_t[seen], want_v[seen]
                before += int((~seen).sum())
            at = np.searchsorted(got_t, want_t)
            inside = at < len(got_t)
            hit = np.zeros(len(want_t), bool)
            hit[inside] = got_t[at[inside]] == want_t[inside]
            missing += int((~hit).sum())
            if any(x is not None for x in got_x):
                same = [
                    got_x[a] == texts[int(v)] for a, v in zip(at[hit], want_v[hit], strict=True)
                ]
                good = int(np.sum(same))
            else:
                good = int(np.isclose(got_v[at[hit]], want_v[hit], rtol=1e-6, atol=1e-9).sum())
            found += good
            wrong += int(hit.sum()) - good
    historian.close()
    return {
        "sent": len(signal),
        "found": found,
        "missing": missing,
        "wrong": wrong,
        "before_subscription": before,
    }


def _is_opcua(address: str) -> bool:
    """Whether a signal's address is a node id with its namespace, not a topic and metric."""
    return address.startswith(("nsu=", "ns="))


def _split(table: pa.Table) -> dict[str, tuple[np.ndarray, np.ndarray, list[str | None]]]:
    if not table.num_rows:
        return {}
    path = table.column("path").combine_chunks()
    codes = path.dictionary_encode() if not pa.types.is_dictionary(path.type) else path
    index = codes.indices.to_numpy(zero_copy_only=False)
    time_ns = table.column("time_ns").cast(pa.int64()).to_numpy()
    value = table.column("value").to_numpy()
    text = table.column("text").to_pylist()
    out = {}
    for k, name in enumerate(codes.dictionary.to_pylist()):
        rows = np.flatnonzero(index == k)
        rows = rows[np.argsort(time_ns[rows], kind="stable")]
        out[name] = (time_ns[rows], value[rows], [text[r] for r in rows])
    return out


def baseline(record: Path, root: Path, seconds: float) -> None:
    """The same rows into a plain DuckDB table in one go: what merely keeping them costs."""
    _, _, sent = recorded(record)
    rows = pa.table(sent)
    began = time.process_time()
    with duckdb.connect(str(root / "baseline.duckdb")) as connection:
        connection.register("rows", rows)
        connection.execute("CREATE TABLE samples AS SELECT * FROM rows")
    cpu = time.process_time() - began
    size = (root / "baseline.duckdb").stat().st_size
    print(
        f"baseline, one plain DuckDB insert of these {rows.num_rows} rows: {cpu:.1f} CPU-s = "
        f"{100 * cpu / seconds:.2f} % of a core over the run; {size / 2**20:.0f} MB"
    )
    ours = sum(p.stat().st_size for p in (root / "data" / "historian").rglob("*") if p.is_file())
    print(f"our history with catalog, log, curves and rollups: {ours / 2**20:.0f} MB")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument(
        "--keep", type=Path, default=None, help="work in this directory and keep it"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        result = run(options.keep or Path(scratch), options.seconds, options.rate)
    if result["missing"] or result["wrong"]:
        sys.exit(f"lost: {result['missing']} missing, {result['wrong']} wrong")


def run(root: Path, seconds: float, rate: float) -> dict[str, int]:
    """One run in a directory; the counts of the comparison by value."""
    record, data = root / "record", root / "data"
    began = time.monotonic()
    house = House.start(data, "--record", str(record), "--rate", str(rate))
    print(f"start to screens: {time.monotonic() - began:.1f} s")
    try:
        client = house.client()
        time.sleep(10)
        pids = house.pids()
        before, t0 = usage(pids), time.monotonic()
        peak: dict[str, int] = {}
        while time.monotonic() - t0 < seconds:
            time.sleep(min(5.0, seconds))
            for name, (_, rss) in usage(pids).items():
                peak[name] = max(peak.get(name, 0), rss)
        after, span = usage(pids), time.monotonic() - t0
        health = client.get("/health").json()
        shares = {n: 100 * (after[n][0] - before[n][0]) / span for n in after if n in before}
        for name in sorted(shares):
            print(f"{name:18} {shares[name]:5.1f} % of a core   {peak[name] / 2**20:6.0f} MB")
        ours = [n for n in shares if n == "brain" or n.startswith("collector")]
        print(
            f"brain + collectors {sum(shares[n] for n in ours):5.1f} % of a core   "
            f"{sum(peak[n] for n in ours) / 2**20:6.0f} MB   (goal < 50 %, < 1024 MB)"
        )
        print(f"rate now {health['rate']:.0f} samples/s; stored latency {health.get('latency')}")
    finally:
        house.stop()
    baseline(record, root, seconds)
    result = compare(record, data)
    print(f"by value: {result}")
    print(f"mean rate {result['sent'] / (seconds + 10):.0f} samples/s (goal >= 12000)")
    return result


if __name__ == "__main__":
    main()
