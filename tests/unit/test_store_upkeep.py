"""What becomes of rows with time: levels, classes, wrong clocks, late rows, memory."""

from pathlib import Path

import numpy as np
import pytest

from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.store.historian import Historian, HistorianSettings
from workshop_brain.store.historian.memtable import ColumnPool
from workshop_brain.units import NS_PER_DAY, NS_PER_MIN, NS_PER_S

START = 1_767_225_600_000_000_000  # 2026-01-01
NOW = START + 300 * NS_PER_DAY
EVER = -(2**63), 2**63 - 1


def signal(k: int, kind: SignalKind = SignalKind.GAUGE) -> SignalDef:
    return SignalDef(path=f"local/works/asm/asm1/z1/u{k}/x", kind=kind)


def rows(signals: list[int], times: list[int], values: list[float]) -> Samples:
    return Samples(
        np.array(signals, np.uint32),
        np.array(times, np.int64),
        np.array(values, np.float64),
        np.zeros(len(signals), np.uint8),
    )


def values(history: Historian, k: int) -> list[float]:
    return [float(v) for v in history.query([signal(k).path], *EVER)["value"].to_pylist()]


def partitions(directory: Path) -> set[str]:
    files = (directory / "segments").rglob("*.parquet")
    return {f.parent.parent.relative_to(directory / "segments").as_posix() for f in files}


def open_at(directory: Path, now_ns: int = NOW, **settings: int) -> Historian:
    chosen = HistorianSettings(seal_s=3600, **settings)  # type: ignore[arg-type]
    return Historian(directory, settings=chosen, clock=lambda: now_ns)


def write(history: Historian, seq: int, batch: Samples, *, seals: bool = True) -> None:
    history.append(batch, source="a", session=1, seq=seq)
    if seals:
        history.seal()


def test_a_class_that_is_kept_longer_has_files_of_its_own(tmp_path: Path) -> None:
    kinds = [SignalKind.GAUGE, SignalKind.STATE, SignalKind.TEXT]
    with open_at(tmp_path, retain_days=2, retain_state_days=4, retain_text_days=0) as history:
        history.declare([signal(k, kind) for k, kind in enumerate(kinds)])
        for day in range(8):
            at = START + day * NS_PER_DAY
            write(history, day + 1, rows([0, 1, 2], [at] * 3, [float(day)] * 3))
        history.compact()
        history._tidy()
        assert values(history, 0) == [5, 6, 7]
        assert values(history, 1) == [3, 4, 5, 6, 7]
        assert values(history, 2) == [0, 1, 2, 3, 4, 5, 6, 7]
        assert {
            "date=2026-01-08/kinds=gauge-counter-flag",
            "date=2026-01-08/kinds=state",
            "date=2026-01-08/kinds=text",
        } <= partitions(tmp_path)
    with open_at(tmp_path, retain_days=1) as history:  # one number for all: files are shared again
        write(history, 9, rows([0, 1, 2], [START + 8 * NS_PER_DAY] * 3, [8.0] * 3))
        history.compact()
        history._tidy()
        assert [values(history, k) for k in range(3)] == [[7, 8]] * 3
        assert "date=2026-01-09" in partitions(tmp_path)


def test_files_of_other_settings_are_merged_without_turning_the_log_round(tmp_path: Path) -> None:
    """Of equal times the later in the log wins, whatever files the rows stand in."""
    both: list[dict[str, int]] = [{}, {"retain_days": 9, "retain_state_days": 90}]
    for k in range(6):
        with open_at(tmp_path, **both[k % 2]) as history:
            history.declare([signal(0), signal(1, SignalKind.STATE)])
            write(history, k + 1, rows([0, 1], [START, START], [k, k]))
            assert values(history, 0) == values(history, 1) == [k]
    with open_at(tmp_path) as history:
        write(history, 7, rows([0], [START + NS_PER_DAY], [7.0]))
        history.compact()
        assert values(history, 0) == [5, 7]
        assert values(history, 1) == [5]


def test_clocks_that_cannot_be_right_spoil_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    past = [-(2**62), -1, 0, 6 * 10**17]  # 1823, 1969, 1970, 1989
    future = [NOW + 2 * NS_PER_DAY, 4_102_444_800 * 10**9, 2**63 - 2]  # 2100, 2262
    with open_at(tmp_path, retain_days=30, merge=3) as history:
        history.declare([signal(k) for k in range(3)])
        write(history, 1, rows([0, 2], [START, START], [1.0, 1.0]))
        for k, odd in enumerate([*past, *future]):
            batch = rows([0, 1], [START + (k + 1) * NS_PER_S, odd], [k + 2.0, k])
            write(history, k + 2, batch)
        write(history, 20, rows([0], [future[1]], [-1.0]), seals=False)
        assert history.last_values()[1].tolist() == [8.0, 6.0, 1.0]
        history.compact()
        history._tidy()
        assert partitions(tmp_path) == {"date=past", "date=future", "date=2026-01-01"}
        stats = history.stats()
        assert (stats["odd_time_rows"], stats["rows"]) == (8, 17)
        assert (stats["first_ns"], stats["last_ns"]) == (START, START + 7 * NS_PER_S)
        assert history.last_values()[1].tolist() == [8.0, 6.0, 1.0]
        # found by their stamps, and no one else's rollups are missed for them
        found = history.query([signal(1).path], *EVER)
        assert found["time_ns"].to_pylist() == sorted([*past, *future])
        assert values(history, 0) == [1, 2, 3, 4, 5, 6, 7, 8, -1]
        named = [r.message for r in caplog.records if "time stamps" in r.message]
        assert len(named) == 2  # once for each of the two signals
        assert signal(1).path in named[0]
        # the next day a right stamp stands against a wrong one
        write(history, 21, rows([1], [START + NS_PER_DAY], [9.0]))
        assert history.last_values()[1].tolist() == [8.0, 9.0, 1.0]
        assert history.drop_before(START - 1) == 0
    with open_at(tmp_path) as history, Historian(tmp_path, read_only=True) as reader:
        assert history.last_values()[1].tolist() == [8.0, 9.0, 1.0]
        assert reader.query([signal(1).path], *EVER).num_rows == 8


def test_a_plant_that_is_simulated_fast_or_was_silent_for_long_is_not_in_the_future(
    tmp_path: Path,
) -> None:
    now = [START]
    with Historian(tmp_path, clock=lambda: now[0]) as history:
        history.declare([signal(0)])
        for hours in range(0, 96, 12):  # ahead of the brain's clock, half a day a file
            write(history, hours + 1, rows([0], [START + hours * 60 * NS_PER_MIN], [hours]))
        now[0] += 30 * NS_PER_DAY
        history.append(rows([0], [now[0]], [99.0]), source="a", session=1, seq=100)
        assert history.last_values()[1].tolist() == [99.0]
        history.seal()
        assert history.stats()["odd_time_rows"] == 0
        assert "date=2026-01-31" in partitions(tmp_path)


def test_rows_with_wrong_clocks_go_with_those_that_came_with_them(tmp_path: Path) -> None:
    with open_at(tmp_path, retain_days=2) as history:
        history.declare([signal(0), signal(1)])
        for day in range(6):
            at = START + day * NS_PER_DAY
            write(history, day + 1, rows([0, 1], [at, day], [day, day]))
        history._tidy()
        assert values(history, 0) == [3, 4, 5]
        assert values(history, 1) == [3, 4, 5]


def test_late_rows_mark_the_rollups_that_they_change(tmp_path: Path) -> None:
    second = START + NS_PER_S * np.arange(600)
    now = [NOW]
    settings = HistorianSettings(seal_s=3600, merge=2)
    with Historian(tmp_path, settings=settings, clock=lambda: now[0]) as history:
        history.declare([signal(0), signal(1)])
        seq = 0

        def put(times: list[int], value: float, k: int = 0) -> None:
            nonlocal seq
            seq += 1
            write(history, seq, rows([k] * len(times), times, [value] * len(times)))

        put(second[:300].tolist(), 1.0)
        put(second[300:].tolist(), 1.0)
        put(second.tolist(), 5.0, k=1)
        history.compact()
        put([int(second[-1]) + NS_PER_S], 1.0)  # goes on: not late
        assert len(history.restated([signal(0).path], *EVER)) == 0
        now[0] += 7
        late = START + 3 * NS_PER_MIN + 5
        put([late, late + NS_PER_MIN], 100.0)
        expected = {
            "path": [signal(0).path],
            "from_ns": [START + 3 * NS_PER_MIN],
            "to_ns": [START + 5 * NS_PER_MIN],
            "rows": [2],
            "at_ns": [NOW + 7],
        }
        paths = [signal(1).path, signal(0).path]
        for _ in range(2):  # before and after the rollups are written anew
            assert history.restated(paths, *EVER).to_pydict() == expected
            table = history.query(
                paths, START, START + 10 * NS_PER_MIN, points=10, restated=True
            ).to_pydict()
            assert table["restated_ns"] == [None] * 13 + [NOW + 7] * 2 + [None] * 5
            assert table["max"][10:] == [1.0] * 3 + [100.0] * 2 + [1.0] * 5
            assert table["count"][10:] == [60] * 3 + [61] * 2 + [60] * 5
            history.compact()
    with Historian(tmp_path, read_only=True) as reader:
        assert reader.restated([signal(0).path], *EVER).to_pydict() == expected


def test_a_finished_day_becomes_one_file_of_level_2_by_value(tmp_path: Path) -> None:
    """By value, with rows that came twice, and with rollups like those of the rows."""
    rng = np.random.default_rng(3)
    kept: dict[tuple[int, int], float] = {}
    settings = HistorianSettings(seal_s=3600, merge=4)
    with Historian(tmp_path, settings=settings) as history:
        history.declare([signal(k) for k in range(5)])
        for seq in range(1, 21):
            ids = np.sort(rng.integers(0, 5, 3000)).astype(np.uint32)
            times = START + rng.integers(0, 3600, 3000) * NS_PER_S  # some stand in several files
            value = np.round(rng.normal(0, 9, 3000), 2)
            write(history, seq, Samples(ids, times, value, np.zeros(3000, np.uint8)))
            kept |= dict(zip(zip(ids.tolist(), times.tolist(), strict=True), value, strict=True))
        write(history, 21, rows([0], [START + NS_PER_DAY], [0.5]))
        for _ in range(200):  # in the background: the day is finished
            if "L2" in history.stats()["files"]:
                break
            history._stop.wait(0.05)
        assert history.stats()["files"] == {"L0": 1, "L2": 1}
    with Historian(tmp_path) as history:
        table = history.query([signal(k).path for k in range(5)], START, START + NS_PER_DAY)
        slot = table["path"].combine_chunks().indices.to_pylist()
        found = zip(slot, table["time_ns"].to_pylist(), strict=True)
        assert dict(zip(found, table["value"].to_pylist(), strict=True)) == kept
        assert table.num_rows == len(kept) == history.stats()["rows"] - 1
        hour = history.query([signal(2).path], START, START + 60 * NS_PER_MIN, points=60)
        mine = sorted((t, v) for (k, t), v in kept.items() if k == 2)
        for minute in range(60):
            low, high = START + minute * NS_PER_MIN, START + (minute + 1) * NS_PER_MIN
            of = [v for t, v in mine if low <= t < high]
            got = [hour[name][minute].as_py() for name in ("min", "max", "count", "first", "last")]
            assert got == [min(of), max(of), len(of), of[0], of[-1]]


def test_memory_comes_back_only_when_no_view_of_it_is_left() -> None:
    pool = ColumnPool(2)
    columns = pool.empty(1000)
    columns.value[:] = 7.0
    view = columns.value[10:20].view(np.int64)[::2]
    at = columns.time_ns.ctypes.data
    del columns
    other = pool.empty(1000)
    other.value[:] = 8.0
    assert (view.view(np.float64) == 7.0).all()
    del view
    again = pool.empty(900)
    assert again.time_ns.ctypes.data == at
    assert [c.dtype.itemsize for c in (again.time_ns, again.value, again.signal)] == [8, 8, 4]
