"""Whatever is appended comes back by value, whichever way it was sealed, merged and read."""

import math
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workshop_brain.model.signal import Quality, Samples, SignalDef, SignalKind
from workshop_brain.store.historian import Historian, HistorianSettings
from workshop_brain.store.historian.rollup import SAVING
from workshop_brain.units import NS_PER_DAY, NS_PER_MIN, NS_PER_S

START = 1_767_225_600_000_000_000 - 3 * NS_PER_S  # three seconds before midnight
Row = tuple[int, int, float, int]
PATHS = [f"local/works/a/l/c/u/s{k}" for k in range(5)]
SETTINGS = HistorianSettings(seal_rows=50, seal_s=3600)
FEW = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))

values = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True, width=64),
    st.decimals(-(10**6), 10**6, places=3, allow_nan=False).map(float),
    st.integers(-(2**53), 2**53).map(float),
    st.sampled_from([0.0, -0.0, math.nan, math.inf, 5e-324, 0.1 + 0.2, 2.0**53, 1e300]),
)
times = st.one_of(
    st.integers(0, 40).map(lambda k: START + k * 250_000_000),
    st.integers(0, 6 * NS_PER_S).map(lambda k: START + k),
)
rows = st.tuples(st.integers(0, 4), times, values, st.sampled_from([0, 0, 0, 1, 2, 8, 16]))
batches = st.lists(st.lists(rows, max_size=30), min_size=1, max_size=8)
actions = st.lists(st.sampled_from(["", "", "seal", "compact", "reopen"]), min_size=8, max_size=8)


@contextmanager
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def columns(batch: list[Row]) -> Samples:
    signal, time_ns, value, quality = zip(*batch, strict=True) if batch else ((), (), (), ())
    return Samples(
        np.array(signal, np.uint32),
        np.array(time_ns, np.int64),
        np.array(value, np.float64),
        np.array(quality, np.uint8),
    )


def declare(history: Historian) -> None:
    history.declare([SignalDef(path=p, kind=SignalKind.GAUGE) for p in PATHS])


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


def stored(history: Historian) -> dict[tuple[int, int], tuple[bytes, int]]:
    table = history.query(PATHS, START - NS_PER_S, START + NS_PER_DAY)
    slot = table.column("path").combine_chunks().indices.to_pylist()
    found = list(
        zip(
            zip(slot, table.column("time_ns").to_pylist(), strict=True),
            zip(
                [bits(v) for v in table.column("value").to_numpy()],
                table.column("quality").to_pylist(),
                strict=True,
            ),
            strict=True,
        )
    )
    assert found == sorted(found, key=lambda item: item[0]), "rows are not sorted"
    assert len(dict(found)) == len(found), "an instant is there twice"
    return dict(found)


@FEW
@given(batches, actions)
def test_append_seal_merge_reopen_query_is_the_identity(
    given_batches: list[list[Row]], steps: list[str]
) -> None:
    expected: dict[tuple[int, int], tuple[bytes, int]] = {}
    newest: dict[int, tuple[int, bytes]] = {}
    with directory() as path:
        history = Historian(path, settings=SETTINGS)
        declare(history)
        for seq, (batch, step) in enumerate(zip(given_batches, steps, strict=False), start=1):
            history.append(columns(batch), source="s", session=9, seq=seq)
            for signal, time_ns, value, quality in batch:
                expected[signal, time_ns] = bits(value), quality
                if time_ns >= newest.get(signal, (0, b""))[0]:
                    newest[signal] = time_ns, bits(value)
            if step == "seal":
                history.seal()
            elif step == "compact":
                history.compact()
            elif step == "reopen":
                history.close()
                history = Historian(path, settings=SETTINGS)
        assert stored(history) == expected
        with Historian(path, read_only=True) as reader:
            assert stored(reader) == expected
            seen = reader.last_values()
        history.compact()
        assert stored(history) == expected
        for last in (seen, history.last_values()):
            for signal, (time_ns, value) in newest.items():
                assert (last[0][signal], bits(last[1][signal])) == (time_ns, value)
        history.close()


@FEW
@given(st.lists(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), max_size=12), max_size=6))
def test_of_equal_instants_the_highest_log_position_wins_and_conflicts_are_counted(
    given_batches: list[list[tuple[int, int]]],
) -> None:
    expected: dict[int, float] = {}
    duplicates = conflicts = 0
    with directory() as path, Historian(path, settings=SETTINGS) as history:
        declare(history)
        for seq, batch in enumerate(given_batches, start=1):
            made = [(0, START + t, float(v), 0) for t, v in batch]
            history.append(columns(made), source="s", session=1, seq=seq)
            for t, v in batch:
                duplicates += t in expected
                conflicts += expected.get(t, v) != v
                expected[t] = float(v)
            if seq % 2:
                history.seal()
        history.compact()
        table = history.query(PATHS[:1], START, START + 10)
        assert dict(zip(table["time_ns"].to_pylist(), table["value"].to_pylist(), strict=True)) == {
            START + t: v for t, v in expected.items()
        }
        stats = history.stats()
        assert stats["duplicates"] == duplicates
        assert (stats["conflicts"] > 0) == (conflicts > 0)
        assert stats["conflicts"] <= duplicates


@FEW
@given(
    st.integers(0, 2**32),
    st.sampled_from([3 * NS_PER_S, 47 * NS_PER_S, 20 * NS_PER_MIN]),
    st.integers(1, 40),
    st.booleans(),
)
def test_decimated_reads_equal_the_aggregates_of_the_raw_rows(
    seed: int, span: int, points: int, is_merged: bool
) -> None:
    rng = np.random.default_rng(seed)
    n = 4000
    time_ns = np.sort(rng.integers(0, span, n)) + START
    samples = Samples(
        rng.choice([0, 0, 0, 1, 4], n).astype(np.uint32),
        time_ns,
        np.where(rng.random(n) < 0.01, np.nan, np.round(rng.normal(0, 5, n), 2)),
        rng.choice([0, 0, 0, 2, 8], n).astype(np.uint8),
    )
    with directory() as path:
        wide = HistorianSettings(seal_rows=1500, seal_s=3600)
        with Historian(path, settings=wide) as history:
            declare(history)
            for k, start in enumerate(range(0, n, 500), start=1):
                part = Samples(
                    *(getattr(samples, c)[start : start + 500] for c in Samples.__slots__)
                )
                history.append(part, source="s", session=1, seq=k)
            history.sync()
            if is_merged:
                history.compact()
            shown = history.query([PATHS[4], PATHS[0]], START, START + span, points=points)
            raw = history.query([PATHS[4], PATHS[0]], START - NS_PER_MIN, START + span)
    assert shown["path"].unique().to_pylist() in ([PATHS[4], PATHS[0]], [PATHS[0]])
    usable = (raw["quality"].to_numpy() & Quality.BAD == 0) & ~np.isnan(raw["value"].to_numpy())
    slot = raw["path"].combine_chunks().indices.to_numpy()[usable]
    t, v = raw["time_ns"].to_numpy()[usable], raw["value"].to_numpy()[usable]
    found_slot = shown["path"].combine_chunks().indices.to_numpy()
    starts = shown["time_ns"].to_numpy()
    width = max(-(-span // points), 1)
    for unit in (NS_PER_MIN, NS_PER_S):
        if width > unit // 2:
            width = -(-width // unit) * unit
            break
    assert int(shown["count"].to_numpy().sum()) == len(t)
    for k in range(shown.num_rows):
        inside = (slot == found_slot[k]) & (t >= starts[k]) & (t < starts[k] + width)
        part = v[inside]
        assert shown["count"][k].as_py() == len(part)
        assert shown["min"][k].as_py() == part.min()
        assert shown["max"][k].as_py() == part.max()
        assert shown["first"][k].as_py() == part[0]
        assert shown["last"][k].as_py() == part[-1]
        assert shown["avg"][k].as_py() == pytest.approx(part.mean(), abs=1e-9)


def test_rollups_are_written_where_they_save_rows_and_are_used(tmp_path: Path) -> None:
    n = 100 * SAVING
    with Historian(tmp_path, settings=HistorianSettings(seal_rows=n)) as history:
        declare(history)
        samples = Samples(
            np.zeros(n, np.uint32),
            START + 3 * NS_PER_S + np.arange(n, dtype=np.int64) * NS_PER_S // 2,
            np.arange(n) / 8,
            np.zeros(n, np.uint8),
        )
        for seq in (1, 2):
            later = Samples(
                samples.signal, samples.time_ns + (seq - 1) * NS_PER_DAY // 4,
                samples.value, samples.quality,
            )  # fmt: skip
            history.append(later, source="s", session=1, seq=seq)
            history.seal()
        begin, end = START + 3 * NS_PER_S, START + NS_PER_DAY
        before = history.query(PATHS[:1], begin, end, points=100)
        history.compact()
        assert history.stats()["rollup_bytes"] > 0
        assert history.query(PATHS[:1], begin, end, points=100).equals(before)
        # raw files may go while their rollups stay
        history.drop_before(end + NS_PER_DAY)
        assert history.stats()["rows"] == 0
        assert history.query(PATHS[:1], begin, end, points=100).equals(before)
