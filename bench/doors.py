"""The doors to the history: last values, reads over HTTP, SQL and curves, beside peers.

    python -m bench.doors [--signals 12000] [--seconds 120] [--curves 4000]

The history has 150 devices at 4 Hz and torque-angle curves of 2 x 1,000 values. HTTP is asked over
loopback from another process than the one that serves, sign-in left out. Peers in the same run: a
DuckDB file with the same rows in the order of (signal, time) and the same curves, and
VictoriaMetrics for all last values over HTTP. Answers are compared by value first; medians of 21.
"""

import argparse
import json
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import duckdb
import httpx
import numpy as np
import pyarrow as pa

from bench.read import median_ms
from bench.store_peers import VictoriaMetrics, why_not
from workshop_brain.model.curve import Curve, features
from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.store.historian import Historian
from workshop_brain.store.historian.catalog import CurveWish
from workshop_brain.store.historian.sort import warm_up

HZ, DEVICES = 4, 150
S = 1_000_000_000
START_NS = time.time_ns() // S * S - 3600 * S
ARROW = {"Accept": "application/vnd.apache.arrow.stream"}
_POINTS = 1_000
_SYNC = 50


def definitions(n: int) -> list[SignalDef]:
    """Gauges of 150 devices."""
    per = n // DEVICES
    return [
        SignalDef(path=f"e/s/a/l/c/d{k // per:03d}/g{k % per:03d}", kind=SignalKind.GAUGE)
        for k in range(per * DEVICES)
    ]


def batches(n: int, seconds: int) -> Iterator[Samples]:
    """A batch a second: random walks rounded to three decimals."""
    draw, value = np.random.default_rng(5), np.full(n, 50.0)
    for second in range(seconds):
        steps = np.cumsum(draw.normal(0, 0.05, (HZ, n)), axis=0) + value
        value = steps[-1]
        ticks = START_NS + second * S + np.arange(HZ) * (S // HZ)
        yield Samples(
            np.tile(np.arange(n, dtype=np.uint32), HZ),
            np.repeat(ticks, n),
            np.round(steps, 3).ravel(),
            np.zeros(HZ * n, np.uint8),
        )


def bolt(k: int) -> Curve:
    """A tightening: angle, and torque that rises and bends."""
    draw = np.random.default_rng(k)
    angle = np.round(np.linspace(0, 90 + draw.normal(0, 2), _POINTS), 2)
    torque = 0.5 * angle + 20 * (angle > 60) * (angle - 60) / 30 + draw.normal(0, 0.1, _POINTS)
    return Curve(
        serial=f"SN{k // 2:06d}", station=f"e/s/a/l/c/d{k % DEVICES:03d}", program=f"P{k % 4}",
        step=10, time_ns=START_NS + k * S // 4,
        channels={
            "torque_nm": np.round(torque, 2).astype(np.float32),
            "angle_deg": angle.astype(np.float32),
        },
    )  # fmt: skip


def write_curves(history: Historian, peer: duckdb.DuckDBPyConnection, n: int) -> dict[str, Any]:
    """Curves a second with their features, durable every 50, in both stores."""
    made = [bolt(k) for k in range(n)]
    started = time.perf_counter()
    for k, curve in enumerate(made, start=1):
        history.append_curve(curve)
        features(curve)
        if k % _SYNC == 0:
            history.sync()
    history.sync()
    ours = n / (time.perf_counter() - started)
    peer.execute(
        "CREATE TABLE curves (serial VARCHAR, station VARCHAR, program VARCHAR, step INTEGER, "
        "time_ns BIGINT, torque_nm FLOAT[], angle_deg FLOAT[])"
    )
    names = ("serial", "station", "program", "step", "time_ns")
    started = time.perf_counter()
    for k in range(0, n, _SYNC):
        part = made[k : k + _SYNC]
        for curve in part:
            features(curve)
        columns: dict[str, Any] = {name: [getattr(c, name) for c in part] for name in names}
        for name in ("torque_nm", "angle_deg"):
            columns[name] = pa.array([c.channels[name] for c in part], pa.list_(pa.float32()))
        peer.from_arrow(pa.table(columns)).insert_into("curves")
    theirs = n / (time.perf_counter() - started)
    return {"ours": round(ours), "duckdb_file": round(theirs)}


def fill(directory: Path, n: int, seconds: int, n_curves: int) -> dict[str, Any]:
    """Both stores with the same rows and curves."""
    peer = duckdb.connect(str(directory / "peer.duckdb"))
    peer.execute("CREATE TABLE arrivals (signal UINTEGER, time_ns BIGINT, value DOUBLE)")
    with Historian(directory / "historian") as history:
        history.declare(definitions(n))
        for k, batch in enumerate(batches(n, seconds), start=1):
            history.append(batch, source="bench", session=1, seq=k)
            rows = {"signal": batch.signal, "time_ns": batch.time_ns, "value": batch.value}
            peer.from_arrow(pa.table(rows)).insert_into("arrivals")
        history.seal()
        written = write_curves(history, peer, n_curves)
        history.seal()
    peer.execute("CREATE TABLE samples AS SELECT * FROM arrivals ORDER BY signal, time_ns")
    peer.execute("DROP TABLE arrivals")
    peer.execute("CHECKPOINT")
    peer.close()
    return written


def serve(directory: Path, answer: Connection) -> None:
    """The API in a process of its own, and the writer's own last values there."""
    import asyncio

    from workshop_brain.app.watch import Watch
    from workshop_brain.config import built_in
    from workshop_brain.store.records import Records
    from workshop_brain.web.api import create_app
    from workshop_brain.web.server import Server, listen
    from workshop_brain.web.services import Services

    class WallClock:
        def plant_ns(self) -> int:
            return time.time_ns()

        wall_ns = plant_ns

    none = cast(Any, None)
    with Historian(directory / "historian") as history:
        watch = Watch(built_in().plant)
        signals = history.signals()
        watch.on_declared(list(range(len(signals))), signals)
        in_process = median_ms(lambda k: history.last_values())
        services = Services(
            plant=built_in().plant, clock=WallClock(), watch=watch, historian=history,
            decider=none, users=Records(directory / "records.sqlite"), orders=none, work_list=none,
            data_dir=directory, sources=list, sign_in=False,
        )  # fmt: skip
        door = listen("127.0.0.1", 0)
        answer.send((door.getsockname()[1], in_process))
        server = Server(create_app(services, screens=directory), door)

        async def work() -> None:
            serving = asyncio.create_task(server.run_until_stopped())
            await asyncio.to_thread(answer.recv)
            server.should_exit = True
            await serving

        asyncio.run(work())


@contextmanager
def served(directory: Path) -> Iterator[tuple[httpx.Client, float]]:
    """A client of the API, and the milliseconds of all last values within its process."""
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=serve, args=(directory, there))
    process.start()
    port, in_process = here.recv()
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}/api/v1", trust_env=False, timeout=60
        ) as client:
            yield client, in_process
    finally:
        here.send("stop")
        process.join()


def arrow(client: httpx.Client, path: str, **query: Any) -> pa.Table:
    """One answer as an Arrow table."""
    found = client.get(path, params=query, headers=ARROW).raise_for_status()
    return pa.ipc.open_stream(found.content).read_all()


def reads(directory: Path, n: int, seconds: int, n_curves: int) -> dict[str, Any]:
    """Every door, medians of milliseconds."""
    paths = [d.path for d in definitions(n)]
    end = START_NS + seconds * S
    span = {"from": str(START_NS), "to": str(end)}
    out: dict[str, Any] = {}
    peer = duckdb.connect(str(directory / "peer.duckdb"), read_only=True)
    with served(directory) as (client, in_process):

        def ask(path: str, form: str = "arrow", **query: Any) -> Callable[[int], object]:
            return lambda k: client.get(path, params={"format": form, **query}).raise_for_status()

        out["http_of_an_empty_answer_ms"] = median_ms(lambda k: client.get("me"))
        newest = "SELECT signal, arg_max(value, time_ns) FROM samples GROUP BY signal ORDER BY 1"
        assert (
            arrow(client, "series/last").column("value").to_pylist()
            == peer.sql(newest).to_arrow_table().column(1).to_pylist()
        )
        out["all_last_values_ms"] = {
            "in_process": in_process,
            "http_arrow": median_ms(ask("series/last")),
            "http_json": median_ms(ask("series/last", "json")),
            "duckdb_in_process": median_ms(lambda k: peer.sql(newest).to_arrow_table(), 5),
            "victoria_metrics_http_json": victoria(directory / "vm", n),
        }

        def one(k: int) -> str:
            return paths[(4321 + 577 * k) % len(paths)]

        def theirs(k: int) -> pa.Table:
            return peer.sql(
                "SELECT time_ns, value FROM samples WHERE signal = ? ORDER BY time_ns",
                params=[(4321 + 577 * k) % len(paths)],
            ).to_arrow_table()

        assert arrow(client, "series", paths=one(3), **span).column("value") == theirs(3)["value"]
        out["one_signal_raw_ms"] = {
            "http_arrow": median_ms(lambda k: arrow(client, "series", paths=one(k), **span)),
            "duckdb_in_process": median_ms(theirs),
        }
        out["one_signal_200_points_ms"] = {
            f"http_{method}": median_ms(
                lambda k, m=method: arrow(
                    client, "series", paths=one(k), points=200, method=m, **span
                )
            )
            for method in ("minmax", "lttb")
        }
        device = paths[0].rsplit("/", 1)[0]
        out["average_per_10_s_of_a_device_ms"] = {
            "http_arrow": median_ms(
                ask("series/windows", paths=f"{device}/*", width_s=10, **span)
            ),
            "duckdb_in_process": median_ms(
                lambda k: peer.sql(
                    "SELECT time_ns // 10000000000, avg(value) FROM samples WHERE signal < ? "
                    "GROUP BY 1 ORDER BY 1",
                    params=[n // DEVICES],
                ).to_arrow_table()
            ),
        }  # fmt: skip
        statement = "SELECT signal, avg(value) FROM samples GROUP BY signal"
        body = {"statement": statement, **span}
        out["sql_average_of_all_rows_ms"] = {
            "http_arrow": median_ms(
                lambda k: client.post("sql", json=body, headers=ARROW).raise_for_status(), 5
            ),
            "duckdb_in_process": median_ms(lambda k: peer.sql(statement).to_arrow_table(), 5),
        }
        out |= curve_reads(directory, client, peer, n_curves)
    peer.close()
    return out


def curve_reads(
    directory: Path, client: httpx.Client, peer: duckdb.DuckDBPyConnection, n: int
) -> dict[str, Any]:
    """Any curve by its serial, over HTTP and by a second process, and fifty over each other."""

    def serial(k: int) -> str:
        return f"SN{(977 * k) % (n // 2):06d}"

    def theirs(k: int) -> pa.Table:
        statement = "SELECT * FROM curves WHERE serial = ?"
        return peer.sql(statement, params=[serial(k)]).to_arrow_table()

    with Historian(directory / "historian", read_only=True) as reader:
        found = {
            c.time_ns: c.channels["torque_nm"].tolist() for c in reader.curves(serial="SN000007")
        }
        rows = peer.sql("SELECT * FROM curves WHERE serial = 'SN000007'").to_arrow_table()
        assert found == dict(zip(rows["time_ns"].to_pylist(), rows["torque_nm"].to_pylist(),
                                 strict=True))  # fmt: skip
        second = median_ms(lambda k: reader.curves(serial=serial(k)))
        listed = median_ms(lambda k: reader.list_curves(CurveWish(program="P1"), 100))
    station = f"e/s/a/l/c/d{7:03d}"
    return {
        "curves_of_a_serial_ms": {
            "second_process": second,
            "http_json": median_ms(
                lambda k: client.get("curves", params={"serial": serial(k)}).raise_for_status()
            ),
            "duckdb_in_process": median_ms(theirs),
        },
        "list_100_of_a_program_ms": listed,
        "overlay_20_curves_500_points_ms": median_ms(
            lambda k: client.get(
                "curves/overlay",
                params={"station": station, "channel": "torque_nm", "over": "angle_deg",
                        "limit": 20},
            ).raise_for_status()
        ),
    }  # fmt: skip


def iceberg(directory: Path) -> dict[str, Any]:
    """Publishing the store's files, and pyiceberg writing the same rows itself."""
    from workshop_brain.store.iceberg import NAMESPACE, publish

    try:
        from pyiceberg.catalog.sql import SqlCatalog
    except ImportError:
        return {"not_installed": "pip install workshop-brain[iceberg]"}

    def seconds(work: Callable[[], object]) -> float:
        started = time.perf_counter()
        work()
        return round(time.perf_counter() - started, 3)

    history, to = directory / "historian", directory / "iceberg"
    out: dict[str, Any] = {"publish_s": seconds(lambda: publish(history, to))}
    out["again_s"] = seconds(lambda: publish(history, to))
    linked = set((to / "data").rglob("*.parquet"))
    own = [f for f in to.rglob("*") if f.is_file() and f not in linked]
    out["bytes_written"] = sum(f.stat().st_size for f in own)
    out["copy_s"] = seconds(lambda: publish(history, to, copy=True))
    catalog = SqlCatalog("brain", uri=f"sqlite:///{to}/catalog.sqlite", warehouse=f"file://{to}")
    rows = catalog.load_table(f"{NAMESPACE}.samples").scan().to_arrow()
    peer = catalog.create_table(f"{NAMESPACE}.peer", rows.schema)
    out["pyiceberg_append_s"] = seconds(lambda: peer.append(rows))
    files = {
        name: to / folder
        for name, folder in (
            ("stored", "data/stored"),
            ("samples", "data/samples"),
            ("peer", "plant/peer/data"),
        )
    }
    out["bytes_per_row"] = {
        name: round(sum(f.stat().st_size for f in at.rglob("*.parquet")) / len(rows), 2)
        for name, at in files.items()
    }
    catalog.close()
    return out


def victoria(directory: Path, n: int) -> float | str:
    """Milliseconds of all last values from VictoriaMetrics, JSON over HTTP."""
    if missing := why_not(VictoriaMetrics):
        return missing
    server, per = VictoriaMetrics(directory), n // DEVICES
    try:
        now = time.time_ns()
        fields = ",".join(f"g{k:03d}={k}.5" for k in range(per))
        server.write("\n".join(f"x,d={d} {fields} {now}" for d in range(DEVICES)).encode())
        path, deadline = "/api/v1/query?query=%7Bd%3D~%22.%2B%22%7D", time.monotonic() + 60
        while len(json.loads(server.ask("GET", path))["data"]["result"]) < per * DEVICES:
            if time.monotonic() > deadline:
                return "did not show the values within 60 s"
            time.sleep(1)
        return median_ms(lambda k: server.ask("GET", path))
    finally:
        server.close()


def main() -> None:
    """Fill, ask, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--signals", type=int, default=12_000)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--curves", type=int, default=4_000)
    options = parser.parse_args()
    warm_up()
    root = Path(tempfile.mkdtemp(prefix="doors-"))
    try:
        written = fill(root, options.signals, options.seconds, options.curves)
        result = reads(root, options.signals, options.seconds, options.curves)
        result["iceberg"] = iceberg(root)
    finally:
        shutil.rmtree(root)
    print(json.dumps({"curves_written_with_features_per_s": written, **result}, indent=1))


if __name__ == "__main__":
    main()
