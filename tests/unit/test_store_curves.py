"""Curves of parts: found, paged, merged, dropped, and laid over each other."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workshop_brain.model.curve import Curve, features, overlay
from workshop_brain.store.historian import Historian, HistorianSettings
from workshop_brain.store.historian.catalog import CurveWish
from workshop_brain.store.historian.curves import CurveFile, mergeable, read_curves, write_curves
from workshop_brain.store.historian.steps import step_of, values_of
from workshop_brain.units import NS_PER_DAY, NS_PER_S

START = 1_767_225_600_000_000_000


def curve(k: int, *, time_ns: int | None = None, scale: float = 1.0) -> Curve:
    angle = np.linspace(0, 90, 50 + k % 7, dtype=np.float32)
    return Curve(
        serial=f"SN{k:04d}", station=f"e/s/a/l/c/st{k % 3}", program=f"P{k % 2}", step=1 + k % 2,
        time_ns=START + k * NS_PER_S if time_ns is None else time_ns,
        channels={"torque_nm": np.float32(scale) * angle, "angle_deg": angle},
    )  # fmt: skip


def test_pages_follow_each_other_without_gap_or_repetition(tmp_path: Path) -> None:
    with Historian(tmp_path) as history:
        order = list(range(40))
        random.Random(3).shuffle(order)
        for n, k in enumerate(order):
            # several of one instant, so that the time alone is no cursor
            history.append_curve(curve(k, time_ns=START + k // 8 * NS_PER_S))
            if n in (10, 25):
                history.seal()
        history.sync()
        seen, before = [], None
        while page := history.list_curves(CurveWish(before=before), limit=7):
            seen += [k.serial for k in page]
            last = page[-1]
            before = (last.time_ns, last.serial, last.station, last.step)
        assert seen == sorted(seen, reverse=True) == [f"SN{k:04d}" for k in range(39, -1, -1)]
        some = history.list_curves(
            CurveWish(program="P1", from_ns=START + NS_PER_S, to_ns=START + 2 * NS_PER_S)
        )
        assert [k.serial for k in some] == ["SN0015", "SN0013", "SN0011", "SN0009"]
        assert {k.program for k in some} == {"P1"}
        found = history.curves(station="e/s/a/l/c/st1", program="P0", limit=3)
        assert [c.serial for c in found] == ["SN0034", "SN0028", "SN0022"]


def test_many_small_files_become_one_and_lose_nothing(tmp_path: Path) -> None:
    with Historian(tmp_path) as history:
        for k in range(64):
            history.append_curve(curve(k % 60, scale=1.0 + k // 60))  # four are written twice
            if k % 3 == 2:
                history.seal()
        history.seal()
        before = {f"SN{k % 60:04d}": curve(k % 60, scale=1.0 + k // 60) for k in range(64)}
        history.compact()  # 22 files were made
        assert len(list(tmp_path.rglob("curves/**/*.parquet"))) < 16
        after = {c.serial: c for c in history.curves(limit=100)}
        assert len(after) == 60
        for serial, one in after.items():
            assert one.channels.keys() == before[serial].channels.keys()
            for name in one.channels:
                np.testing.assert_array_equal(one.channels[name], before[serial].channels[name])
        assert after["SN0002"].channels["torque_nm"][-1] == 180.0  # the newer one has won
    with Historian(tmp_path, read_only=True) as again:
        assert again.curves(serial="SN0007")[0].program == "P1"


def vibration(k: int, *, step: float = 10 / 2**23 / 0.1, n: int = 60_000) -> Curve:
    """What a 24-bit converter gives, two channels."""
    codes = np.rint(np.random.default_rng(k).normal(0, 20_000, (2, n))).astype(int)
    x, y = (codes * step).astype(np.float32)
    return Curve(serial=f"SN{k:04d}", station="e/s/a/l/c/eol", program="vibration", step=1,
                 time_ns=START + k * NS_PER_S, channels={"x": x, "y": y})  # fmt: skip


def same(one: Curve, other: Curve) -> bool:
    pairs = zip(one.channels.items(), other.channels.items(), strict=True)
    return all(n == m and v.tobytes() == w.tobytes() for (n, v), (m, w) in pairs)


def test_digitised_curves_are_kept_as_codes_and_come_back_bit_for_bit(tmp_path: Path) -> None:
    draw = np.random.default_rng(9).random(100, np.float32)
    rough = replace(curve(1), channels={"x": draw, "y": np.sqrt(draw)})
    mixed = [vibration(0), rough, vibration(2, step=1 / 3), vibration(3)]
    path = tmp_path / "c.parquet"
    size = write_curves(path, mixed)
    assert size < 2.6 * 3 * 120_000  # raw: 4 bytes a value, compressed floats: 3.2
    file = pq.ParquetFile(path)
    assert file.num_row_groups == 1
    assert file.read(columns=["codes"]).column(0).combine_chunks().value_lengths().to_pylist() == [
        120_000, 0, 120_000, 120_000,
    ]  # fmt: skip
    assert all(map(same, read_curves(path, [3, 1, 0]), [mixed[3], mixed[1], mixed[0]]))


def test_a_row_group_ends_with_a_million_values(tmp_path: Path) -> None:
    long = [vibration(k, n=300_000) for k in range(4)]
    write_curves(tmp_path / "c.parquet", long)
    assert pq.ParquetFile(tmp_path / "c.parquet").num_row_groups == 2


def test_large_curves_are_sealed_before_they_fill_the_memory(tmp_path: Path) -> None:
    settings = HistorianSettings(seal_curve_bytes=1_000_000, seal_s=3600)
    with Historian(tmp_path, settings=settings) as history:
        for k in range(40):
            history.append_curve(vibration(k))
            assert history._table.curve_bytes <= 1_000_000
        history.compact()
        assert all(same(c, vibration(int(c.serial[2:]))) for c in history.curves(limit=50))
        assert len(history.curves(limit=50)) == 40
    files = [CurveFile(k, "2026-01-01", f"{k}", 10 << 20) for k in range(20)]
    assert len(mergeable(files)) == 3


def test_files_from_before_there_were_codes_are_read_and_merged(tmp_path: Path) -> None:
    with Historian(tmp_path) as history:
        for k in range(14):
            history.append_curve(vibration(k, n=50) if k % 2 else curve(k))
            history.seal()
        for file in tmp_path.rglob("curves/**/*.parquet"):
            found = read_curves(file, [0])[0]
            old = pa.table(
                {
                    "serial": [found.serial], "station": [found.station],
                    "program": [found.program], "step": pa.array([found.step], pa.int32()),
                    "time_ns": [found.time_ns], "names": [list(found.channels)],
                    "values": pa.array(
                        [np.concatenate(list(found.channels.values()))], pa.list_(pa.float32())
                    ),
                }
            )  # fmt: skip
            pq.write_table(old, file)
        before = history.curves(limit=50)
        for k in range(14, 17):
            history.append_curve(vibration(k))
            history.seal()
        history.compact()
        assert len(list(tmp_path.rglob("curves/**/*.parquet"))) < 3
        after = history.curves(limit=50)
        assert len(after) == 17
        assert all(map(same, before, after[3:]))
        assert same(after[0], vibration(16))


@given(
    st.floats(1e-6, 10.0),
    st.floats(1.0, 1e5),
    st.integers(1, 400),
    st.integers(0, 1 << 30),
)
def test_steps_give_every_value_back(step: float, size: float, n: int, seed: int) -> None:
    codes = np.rint(np.random.default_rng(seed).normal(0, size, n)).astype(int)
    values = (codes * step).astype(np.float32)
    if (found := step_of(values)) is not None:
        assert values_of(*found).tobytes() == values.tobytes()
    elif size < 200:
        pytest.fail(f"no step found in {values[:5]}")


@given(st.lists(st.floats(width=32), max_size=40))
def test_values_without_a_step_are_left_alone(values: list[float]) -> None:
    array = np.array(values, np.float32)
    if (found := step_of(array)) is not None:
        assert values_of(*found).tobytes() == array.tobytes()


def test_curves_may_be_kept_longer_than_samples(tmp_path: Path) -> None:
    with Historian(tmp_path, settings=HistorianSettings(retain_days=1)) as history:
        for day in range(4):
            history.append_curve(curve(day, time_ns=START + day * NS_PER_DAY))
            history.seal()
        assert history.drop_before(START + 2 * NS_PER_DAY, keep_curves=True) == 0
        assert history.drop_curves_before(START + 2 * NS_PER_DAY) == 2
        assert [c.serial for c in history.curves()] == ["SN0003", "SN0002"]
        assert history.curves(serial="SN0000") == []


def test_older_dates_are_merged_from_two_files_on() -> None:
    files = [CurveFile(k, "2026-01-02", f"{k}", 100) for k in range(15)]
    assert mergeable(files) == []
    old = [CurveFile(90 + k, "2026-01-01", f"o{k}", 100) for k in range(2)]
    assert mergeable([*files, *old]) == old
    large = [CurveFile(80 + k, "2026-01-01", f"l{k}", 20 << 20) for k in range(3)]
    assert mergeable([*files, *large]) == []


def test_overlay_is_on_the_angle_where_one_is_asked_for() -> None:
    one, two = curve(0), curve(3, scale=2.0)
    grid, values = overlay([one, two], "torque_nm", points=10, over="angle_deg")
    assert grid[0] == 0.0
    assert grid[-1] == 90.0
    np.testing.assert_allclose(values[0], grid, rtol=1e-6)
    np.testing.assert_allclose(values[1], 2 * grid, rtol=1e-6)
    grid, values = overlay([one, two], "torque_nm", points=53)
    assert grid.tolist() == list(range(53))
    assert np.isnan(values[0]).sum() == 3
    with pytest.raises(ValueError, match="no channel 'speed'; it has torque_nm, angle_deg"):
        overlay([one], "speed", points=10)
    with pytest.raises(ValueError, match="1 to 200 curves"):
        overlay([], "torque_nm", points=10)


def test_an_angle_that_runs_back_keeps_its_first_pass() -> None:
    back = Curve(
        serial="a", station="s", program="p", step=1, time_ns=1,
        channels={
            "torque_nm": np.array([0, 1, 9, 9, 2, 3], np.float32),
            "angle_deg": np.array([0, 1, 0.5, 1, 2, 3], np.float32),
        },
    )  # fmt: skip
    grid, values = overlay([back], "torque_nm", points=4, over="angle_deg")
    assert values[0].tolist() == grid.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_features_of_a_straight_line() -> None:
    found = features(curve(0))
    torque = found["torque_nm"]
    assert torque["max"] == torque["last"] == 90.0
    assert torque["max_at"] == 1.0
    assert torque["area_over_angle"] == pytest.approx(90 * 90 / 2)
    assert "area_over_angle" not in found["angle_deg"]
    empty = Curve(serial="a", station="s", program="p", step=1, time_ns=1, channels={
        "x": np.full(3, np.nan, np.float32)})  # fmt: skip
    assert features(empty) == {}
