"""Triangles, as-of joins and windows against plain references, over any data."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workshop_brain.errors import StoreError
from workshop_brain.model.signal import Quality, Samples, SignalDef, SignalKind
from workshop_brain.store.historian import Historian
from workshop_brain.store.historian.asof import as_of
from workshop_brain.store.historian.lttb import largest_triangles
from workshop_brain.store.historian.windows import hold

S = 1_000_000_000
UNIT = "e/s/a/l/c"
FEW = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def plain_lttb(x: list[float], y: list[float], points: int) -> list[int]:
    """Steinarsson 2013, section 4.2, word for word: buckets, areas, the largest one."""
    n = len(x)
    if n <= points:
        return list(range(n))
    edge = [int(k * (n - 2) / max(points - 2, 1)) + 1 for k in range(points - 1)]
    buckets = [range(edge[k], edge[k + 1]) for k in range(points - 2)] + [range(n - 1, n)]
    kept = [0]
    for bucket, following in itertools.pairwise(buckets):
        cx = sum(x[i] for i in following) / len(following)
        cy = sum(y[i] for i in following) / len(following)
        ax, ay = x[kept[-1]], y[kept[-1]]
        areas = [abs((ax - cx) * (y[i] - ay) - (ax - x[i]) * (cy - ay)) for i in bucket]
        kept.append(bucket[areas.index(max(areas))])
    return [*kept, n - 1]


@FEW
@given(
    y=st.lists(st.integers(-1000, 1000), min_size=1, max_size=300),
    points=st.integers(2, 60),
    seed=st.integers(0, 99),
)
def test_triangles_are_those_of_the_published_algorithm(
    y: list[int], points: int, seed: int
) -> None:
    x = np.cumsum(np.random.default_rng(seed).integers(1, 5, len(y))).astype(float)
    value = np.array(y, float)
    kept = largest_triangles(x, value, points)
    assert len(kept) == min(len(y), points)
    assert np.all(np.diff(kept) > 0)
    assert kept[0] == 0
    assert kept[-1] == len(y) - 1
    assert kept.tolist() == plain_lttb(x.tolist(), value.tolist(), points)


rows_strategy = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(0, 120),
        st.integers(-50, 50),
        st.sampled_from([0, 0, 0, int(Quality.BAD)]),
    ),
    max_size=60,
)


def as_samples(rows: list[tuple[int, int, int, int]]) -> Samples:
    """Sorted by (signal, time), the last of equal ones kept."""
    unique = {(s, t): (v, q) for s, t, v, q in rows}
    keys = sorted(unique)
    return Samples(
        np.array([s for s, _ in keys], np.uint32),
        np.array([t * S for _, t in keys], np.int64),
        np.array([unique[k][0] for k in keys], np.float64),
        np.array([unique[k][1] for k in keys], np.uint8),
    )


@FEW
@given(
    rows=rows_strategy,
    moments=st.lists(st.integers(-10, 140), max_size=20),
    within=st.integers(0, 200),
)
def test_as_of_is_the_newest_row_before(
    rows: list[tuple[int, int, int, int]], moments: list[int], within: int
) -> None:
    samples = as_samples(rows)
    found = as_of(samples, [0, 1, 2], np.array(moments, np.int64) * S, within * S)
    for signal, (value, known) in enumerate(found):
        for k, moment in enumerate(moments):
            mine = np.flatnonzero((samples.signal == signal) & (samples.time_ns <= moment * S))
            good = (
                len(mine) > 0
                and moment * S - samples.time_ns[mine[-1]] <= within * S
                and not samples.quality[mine[-1]] & Quality.BAD
            )
            assert bool(known[k]) == bool(good)
            if good:
                assert value[k] == samples.value[mine[-1]]


@FEW
@given(rows=rows_strategy, start=st.integers(0, 60), width=st.sampled_from([1, 7, 20]))
def test_held_values_are_their_integral(
    rows: list[tuple[int, int, int, int]], start: int, width: int
) -> None:
    samples = as_samples(rows)
    start, end = start // width * width, start // width * width + 3 * width
    held = hold(samples, start * S, end * S, width * S)
    newest = int(samples.time_ns.max()) + 1 if len(samples) else 0
    expected: dict[tuple[int, int], list[float]] = {}
    for i in range(len(samples)):
        same = i + 1 < len(samples) and samples.signal[i + 1] == samples.signal[i]
        until = int(samples.time_ns[i + 1]) if same else newest
        if samples.quality[i] & Quality.BAD:
            continue
        for window in range(start, end, width):
            low = max(int(samples.time_ns[i]), window * S)
            high = min(until, (window + width) * S, end * S)
            if high > low:
                sums = expected.setdefault((int(samples.signal[i]), window * S), [0.0, 0.0])
                sums[0] += float(samples.value[i]) * (high - low) / S
                sums[1] += (high - low) / S
    got = dict(
        zip(
            zip(held.key.tolist(), held.time_ns.tolist(), strict=True),
            zip(held.area.tolist(), held.seconds.tolist(), strict=True),
            strict=True,
        )
    )
    assert got.keys() == expected.keys()
    for key, (area, seconds) in expected.items():
        assert math.isclose(got[key][0], area, abs_tol=1e-6)
        assert math.isclose(got[key][1], seconds, abs_tol=1e-9)


def _history(path: Path) -> Historian:
    history = Historian(path)
    names = ("u1/a", "u1/b", "u2/a", "u1/serial")
    history.declare(
        [
            SignalDef(
                path=f"{UNIT}/{n}",
                kind=SignalKind.TEXT if n.endswith("serial") else SignalKind.GAUGE,
            )
            for n in names
        ]
    )
    return history


@FEW
@given(
    values=st.lists(st.integers(0, 1000), min_size=40, max_size=400),
    width=st.sampled_from([500_000_000, S, 60 * S]),
    merged=st.booleans(),
)
def test_windows_are_the_same_from_rows_and_rollups(
    tmp_path_factory: pytest.TempPathFactory, values: list[int], width: int, merged: bool
) -> None:
    n = len(values)
    with _history(tmp_path_factory.mktemp("windows")) as history:
        time = np.arange(n, dtype=np.int64) * 20_000_000
        for k, part in enumerate(np.array_split(np.arange(n), 3), start=1):
            m = len(part)
            batch = Samples(
                np.tile(np.arange(3, dtype=np.uint32), m),
                np.repeat(time[part], 3),
                np.repeat(np.array(values, float)[part], 3) + np.tile([0.0, 1.0, 2.0], m),
                np.zeros(3 * m, np.uint8),
            )
            history.append(batch, source="x", session=1, seq=k)
            if merged:
                history.seal()
        if merged:
            history.compact()
        paths = [f"{UNIT}/{name}" for name in ("u1/a", "u1/b", "u2/a")]
        table = history.aggregate(paths, 0, int(time[-1]) + 1, width_ns=width)
    for row in table.to_pylist():
        inside = (time >= row["time_ns"]) & (time < row["time_ns"] + width)
        mine = np.array(values, float)[inside]
        mine = np.concatenate([mine, mine + 1]) if row["device"] == f"{UNIT}/u1" else mine + 2
        assert row["count"] == len(mine)
        assert (row["min"], row["max"]) == (mine.min(), mine.max())
        assert math.isclose(row["sum"], mine.sum(), rel_tol=1e-12)
        assert math.isclose(row["avg"], mine.mean(), rel_tol=1e-12)
        alone = row["device"] == f"{UNIT}/u2"
        assert (row["first"], row["last"]) == ((mine[0], mine[-1]) if alone else (None, None))


def test_parts_meet_the_values_of_their_time(tmp_path: Path) -> None:
    with _history(tmp_path) as history:
        one, two = history.intern(["SN1", "SN2"])
        serials = [(3, 10, one), (3, 11, one), (3, 20, two), (3, 30, history.intern([""])[0])]
        rows = serials + [(0, t, float(t)) for t in range(0, 40, 4)]
        history.append(
            Samples(
                np.array([r[0] for r in rows], np.uint32),
                np.array([r[1] * S for r in rows], np.int64),
                np.array([r[2] for r in rows], np.float64),
                np.zeros(len(rows), np.uint8),
            ),
            source="x",
            session=1,
            seq=1,
        )
        events = history.part_events([f"{UNIT}/u1"], 0, 100 * S)
        assert events.to_pylist() == [
            {"station": f"{UNIT}/u1", "serial": "SN1", "time_ns": 10 * S},
            {"station": f"{UNIT}/u1", "serial": "SN2", "time_ns": 20 * S},
        ]
        paths = [f"{UNIT}/u1/a", f"{UNIT}/u2/a", f"{UNIT}/u1/serial"]
        joined = history.asof(paths, events.column("time_ns").to_numpy())
        assert joined.column(paths[0]).to_pylist() == [8.0, 20.0]
        assert joined.column(paths[1]).to_pylist() == [None, None]
        assert joined.column(paths[2]).to_pylist() == ["SN1", "SN2"]
        with pytest.raises(StoreError, match="is a text"):
            history.query([paths[2]], 0, 100 * S, points=10, method="lttb")
        with pytest.raises(ValueError, match="minmax, or lttb"):
            history.query([paths[0]], 0, 100 * S, points=10, method="mean")
        few = history.query([paths[0]], 0, 100 * S, points=3, method="lttb")
        assert few.column("value").to_pylist()[0] == 0.0
        assert few.column("value").to_pylist()[-1] == 36.0
        assert few.num_rows == 3


@pytest.mark.parametrize(
    "statement",
    [
        "COPY (SELECT 1) TO '{dir}/x.csv'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{dir}/x.csv'",
        "SELECT * FROM read_blob('{dir}/catalog.sqlite')",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM glob('/*')",
        "ATTACH '{dir}/y.db'",
        "SET memory_limit='8GB'",
        "SELECT 1; SELECT 2",
        "CREATE TABLE t AS SELECT 1",
        "INSTALL httpfs",
        "SELECT * FROM snapshot",
        "",
    ],
)
def test_sql_reaches_nothing_but_the_history(tmp_path: Path, statement: str) -> None:
    with _history(tmp_path) as history:
        before = sorted(p.name for p in tmp_path.rglob("*.csv"))
        with pytest.raises(StoreError, match="SQL"):
            history.sql(statement.format(dir=tmp_path), from_ns=0, to_ns=S)
        assert sorted(p.name for p in tmp_path.rglob("*.csv")) == before == []


def test_sql_ends_in_time_and_in_size(tmp_path: Path) -> None:
    from workshop_brain.store.historian.query import Snapshot
    from workshop_brain.store.historian.sql import answer

    def ask(statement: str, **limits: float) -> None:
        nothing = Snapshot([], [])
        answer(tmp_path, nothing, [], lambda codes: [], 0, S, statement, [], **limits)  # type: ignore[arg-type]

    with pytest.raises(StoreError, match=r"within 0\.2 s"):
        ask("SELECT sum(a.range * b.range) FROM range(1000000) a, range(1000000) b", timeout_s=0.2)
    with pytest.raises(StoreError, match="more than 10 rows"):
        ask("SELECT * FROM range(11)", most_rows=10)
    with pytest.raises(StoreError, match="more than 512MB"):
        ask("SELECT list(a.range) FROM range(200000000) a")
