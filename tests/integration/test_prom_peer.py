"""The Prometheus door against Prometheus's own client, and against Prometheus itself."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from bench.house import free_port
from tests.integration.test_web import LOCAL, NOW
from tests.integration.test_web_history import rows, served

from workshop_brain.model.signal import SignalDef, SignalKind
from workshop_brain.store.historian import Historian

S = 1_000_000_000
END = NOW // S
HINT = "not installed; Debian: apt-get install prometheus"
PROMTOOL, PROMETHEUS = shutil.which("promtool"), shutil.which("prometheus")
SIGNALS = [
    SignalDef(path=f"e/s/a/l/c{u}/u{u}/{name}", kind=kind)
    for u in (1, 2)
    for name, kind in (("count", SignalKind.COUNTER), ("force", SignalKind.GAUGE))
]
pytestmark = pytest.mark.skipif(PROMTOOL is None, reason=f"promtool is {HINT}")


def samples() -> list[tuple[Any, Any]]:
    """Seconds and values of each signal: counters that fall once, gauges with holes."""
    draw = np.random.default_rng(4)
    out = []
    for k in range(len(SIGNALS)):
        # between the seconds: whether the border of a range counts differs by Prometheus's version
        at = END - 3600.5 + np.sort(draw.choice(3600, 700 + 100 * k, replace=False))
        if SIGNALS[k].kind is SignalKind.COUNTER:
            value = np.cumsum(draw.integers(0, 4, len(at))).astype(float)
            value[len(at) // 2 :] -= value[len(at) // 2] - 2
        else:
            value = np.round(draw.normal(50, 5, len(at)), 3)
        out.append((at, value))
    return out


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    data = tmp_path_factory.mktemp("prom")
    with Historian(data / "historian") as historian:
        historian.declare(SIGNALS)
        for k, (at, value) in enumerate(samples()):
            historian.append(
                rows(k, (at * 1000).astype(np.int64) * (S // 1000), value),
                source="s",
                session=1,
                seq=k + 1,
            )
        historian.seal()
        with served(data, historian, SIGNALS) as client:
            yield f"{client.base_url}prom"


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Prometheus with the same samples."""
    if PROMETHEUS is None:
        pytest.skip(f"prometheus is {HINT}")
    assert PROMTOOL is not None
    data = tmp_path_factory.mktemp("peer")
    lines = []
    for name, kind in (("count", "counter"), ("force", "gauge")):
        lines.append(f"# TYPE {name} {'unknown' if kind == 'counter' else kind}")
        for signal, (at, value) in zip(SIGNALS, samples(), strict=True):
            if signal.name == name:
                unit = signal.path.split("/")[5]
                lines += [
                    f'{name}{{unit="{unit}"}} {v} {t}' for t, v in zip(at, value, strict=True)
                ]
    (data / "samples.txt").write_text("\n".join([*lines, "# EOF", ""]))
    made = [PROMTOOL, "tsdb", "create-blocks-from", "openmetrics", "samples.txt", "tsdb"]
    subprocess.run(made, cwd=data, check=True, capture_output=True)
    (data / "empty.yml").write_text("{}\n")
    port = free_port()
    command = [
        PROMETHEUS, "--config.file=empty.yml", "--storage.tsdb.path=tsdb",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
        "--storage.tsdb.retention.time=100y",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=data)
    try:
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 20
        while not is_ready(url):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", **LOCAL).status_code == 200
    except httpx.TransportError:
        return False


def promtool(*arguments: str) -> str:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, "query", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_its_own_client_reads_the_door(door: str) -> None:
    told = promtool("instant", f"--time={END}", door, 'count{unit="u1"}')
    assert f"=> {samples()[0][1][-1]:g} @" in told
    steps = promtool(
        "range", f"--start={END - 600}", f"--end={END}", "--step=60s", door, "sum(rate(count[5m]))"
    )
    assert steps.count("@[") == 11
    assert 'unit="u2"' in promtool("series", "--match=force", door)
    assert promtool("labels", door, "unit").split() == ["u1", "u2"]


@pytest.mark.parametrize(
    "expression",
    [
        "count", 'force{unit!="u1"}', "force offset 7m", "rate(count[5m])", "increase(count[20m])",
        "delta(force[10m])", "avg_over_time(force[90s])", "min_over_time(force[2m])",
        "max_over_time(force[2m])", "sum_over_time(force[2m])", "count_over_time(count[2m])",
        "last_over_time(force[2m])", "sum by (unit) (rate(count[3m]))", "max(force)", "avg(force)",
        "count(force)", "min without (unit, cell, path) (force)", "force > 50", "abs(50 - force)",
        "ceil(force / 7)", "round(force) % 5", "-force ^ 2", "vector(1) + 2", "time() - 5",
    ],
)  # fmt: skip
def test_answers_are_those_of_prometheus(door: str, peer: str, expression: str) -> None:
    query = {"query": expression, "start": END - 1800, "end": END, "step": "37s"}
    ours, theirs = (
        httpx.get(f"{url}/api/v1/query_range", params=query, **LOCAL).json()
        for url in (door, peer)
    )  # fmt: skip
    assert theirs["status"] == "success", theirs
    assert ours["status"] == "success", ours
    found, expected = by_unit(ours), by_unit(theirs)
    assert found.keys() == expected.keys()
    for unit, (times, values) in expected.items():
        assert found[unit][0] == times
        assert found[unit][1] == pytest.approx(values, rel=1e-9, nan_ok=True)


def by_unit(answer: dict[str, Any]) -> dict[str, tuple[list[float], list[float]]]:
    """Times and values of each series; they differ by at most their unit."""
    return {
        series["metric"].get("unit", ""): (
            [t for t, _ in series["values"]],
            [float(v) for _, v in series["values"]],
        )
        for series in answer["data"]["result"]
    }
