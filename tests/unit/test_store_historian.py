"""The historian's registry, reads, curves, retention and its behaviour when things go wrong."""

import errno
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from workshop_brain.errors import DamageError, StoreError
from workshop_brain.model.curve import Curve
from workshop_brain.model.signal import Quality, Samples, SignalDef, SignalKind
from workshop_brain.store.historian import Historian, HistorianSettings, seal
from workshop_brain.store.historian import log as wal
from workshop_brain.store.historian.segment import Runs
from workshop_brain.store.lock import is_own
from workshop_brain.units import NS_PER_DAY, NS_PER_S

START = 1_767_225_600_000_000_000


def signal(k: int, kind: SignalKind = SignalKind.GAUGE) -> SignalDef:
    return SignalDef(path=f"local/works/asm/asm1/z1/u{k}/x", kind=kind, unit="Nm")


def batch(signals: list[int], values: list[float], *, at: int = START, step: int = 1) -> Samples:
    n = len(signals)
    return Samples(
        np.array(signals, np.uint32),
        at + np.arange(n, dtype=np.int64) * step,
        np.array(values, np.float64),
        np.zeros(n, np.uint8),
    )


def curve(serial: str, station: str, time_ns: int, n: int = 5) -> Curve:
    torque = np.linspace(0, 40, n, dtype=np.float32)
    return Curve(
        serial=serial, station=station, program="P1", step=2, time_ns=time_ns,
        channels={"torque_nm": torque, "angle_deg": torque * 2},
    )  # fmt: skip


def same(a: Curve, b: Curve) -> bool:
    keys = ("serial", "station", "program", "step", "time_ns")
    return (
        all(getattr(a, k) == getattr(b, k) for k in keys)
        and list(a.channels) == list(b.channels)
        and all(np.array_equal(a.channels[n], b.channels[n]) for n in a.channels)
    )


@pytest.fixture
def history(tmp_path: Path) -> Iterator[Historian]:
    with Historian(tmp_path) as made:
        yield made


def test_ids_are_positions_and_stay_over_restarts(tmp_path: Path) -> None:
    with Historian(tmp_path) as history:
        assert history.declare([signal(0), signal(1), signal(0)]) == [0, 1, 0]
    with Historian(tmp_path) as history:
        assert history.declare([signal(2), signal(1)]) == [2, 1]
        changed = SignalDef(path=signal(1).path, kind=SignalKind.COUNTER, unit="N", high=9.0)
        assert history.declare([changed]) == [1]
    with Historian(tmp_path, read_only=True) as reader:
        assert reader.signals() == [signal(0), changed, signal(2)]


def test_a_signal_cannot_turn_into_text(history: Historian) -> None:
    history.declare([signal(0)])
    with pytest.raises(StoreError, match="cannot become TEXT: give the new signal another path"):
        history.declare([signal(0, SignalKind.TEXT)])


def test_texts_come_back_as_text(tmp_path: Path) -> None:
    with Historian(tmp_path) as history:
        history.declare([signal(0, SignalKind.TEXT), signal(1)])
        codes = history.intern(["AT8-0001", "", "变速器", "AT8-0001"])
        assert codes == [0, 1, 2, 0]
        history.append(
            batch([0, 1, 0, 0], [codes[0], 4.0, codes[2], 99.0]), source="a", session=1, seq=1
        )
        history.seal()
        history.append(batch([0], [codes[1]], at=START + 9), source="a", session=1, seq=2)
        history.sync()
        table = history.query([signal(1).path, signal(0).path], START, START + 10)
        assert table["text"].to_pylist() == [None, "AT8-0001", "变速器", "", ""]
        assert table["path"].to_pylist() == [signal(1).path] + 4 * [signal(0).path]
        shown = history.query([signal(0).path], START, START + 10, points=1)
        assert (shown["count"].to_pylist(), shown["min"].to_pylist()) == ([4], [None])
        with Historian(tmp_path, read_only=True) as reader:
            late = history.intern(["late"])
            assert reader.texts([0, 2, *late, 77]) == ["AT8-0001", "变速器", "late", ""]


def test_a_batch_counts_once_and_its_number_is_durable_after_sync(history: Historian) -> None:
    history.declare([signal(0)])
    first = history.append(batch([0], [1.0]), source="a", session=5, seq=1)
    assert history.last_seq("a", 5) == 0
    history.sync()
    assert history.last_seq("a", 5) == 1
    assert history.append(batch([0], [2.0]), source="a", session=5, seq=1) == first
    assert history.append(batch([0], [2.0], at=START + 1), source="a", session=6, seq=1) > first
    assert history.query([signal(0).path], 0, 2**62)["value"].to_pylist() == [1.0, 2.0]


def test_numbers_of_sealed_batches_are_known_after_a_restart(tmp_path: Path) -> None:
    with Historian(tmp_path) as history:
        history.declare([signal(0)])
        for seq in (1, 2):
            history.append(batch([0], [1.0]), source="a", session=2**62, seq=seq)
        history.seal()
        history.append(batch([0], [1.0]), source="a", session=2**62, seq=3)
    with Historian(tmp_path) as history:
        assert history.last_seq("a", 2**62) == 3
        assert history.last_seq("b", 2**62) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"signal": np.array([7], np.uint32)}, "has id 7, but only 1 signals are registered"),
        ({"value": np.array([1.0, 2.0])}, r"samples.value must be float64\[1\]"),
        ({"time_ns": np.array([1.0])}, r"samples.time_ns must be int64\[1\], got float64"),
    ],
)
def test_wrong_columns_are_refused(
    history: Historian, change: dict[str, np.ndarray], message: str
) -> None:
    history.declare([signal(0)])
    good = batch([0], [1.0])
    columns = {name: change.get(name, getattr(good, name)) for name in Samples.__slots__}
    with pytest.raises(ValueError, match=message):
        history.append(Samples(**columns), source="a", session=1, seq=1)


def test_an_unknown_signal_is_answered_with_similar_ones(history: Historian) -> None:
    history.declare([signal(0)])
    with pytest.raises(StoreError, match=f"no signal .*similar: {signal(0).path}"):
        history.query([signal(0).path + "y"], 0, 1)
    with pytest.raises(ValueError, match="before to"):
        history.query([signal(0).path], 1, 1)
    assert history.query([], 0, 1).num_rows == 0
    assert history.query([signal(0).path], 0, 1).num_rows == 0
    assert history.query([signal(0).path], 0, 1, points=5).num_rows == 0


def test_last_values_follow_source_time_not_arrival(history: Historian) -> None:
    history.declare([signal(0), signal(1)])
    history.append(batch([0], [5.0], at=START + 10), source="a", session=1, seq=1)
    assert history.last_values()[1].tolist()[0] == 5.0
    history.append(batch([0], [4.0], at=START), source="a", session=1, seq=2)
    history.seal()
    history.append(batch([0], [6.0], at=START + 10), source="a", session=1, seq=3)
    time_ns, value, quality = history.last_values()
    assert (time_ns[0], value[0], quality[0]) == (START + 10, 6.0, Quality.GOOD)
    assert (time_ns[1], quality[1]) == (-(2**63), Quality.BAD)
    assert np.isnan(value[1])
    history.append(batch([0], [7.0], at=START + 10), source="a", session=1, seq=4)
    history.seal()
    assert history.last_values()[1].tolist()[0] == 7.0


def test_rows_of_two_days_go_to_two_partitions(tmp_path: Path) -> None:
    with Historian(tmp_path) as history:
        history.declare([signal(0)])
        history.append(batch([0, 0], [1.0, 2.0], step=NS_PER_DAY), source="a", session=1, seq=1)
        history.seal()
        # a set: the first date is finished, and its file may just be written anew
        dates = {p.parent.parent.name for p in tmp_path.rglob("segments/**/*.parquet")}
        assert dates == {"date=2026-01-01", "date=2026-01-02"}
        assert history.drop_before(START + NS_PER_DAY // 2) == 1
        assert history.query([signal(0).path], 0, 2**62)["value"].to_pylist() == [2.0]


def test_old_files_go_by_themselves(tmp_path: Path) -> None:
    keep = HistorianSettings(retain_days=3, retain_rollup_days=10)
    with Historian(tmp_path, settings=keep) as history:
        history.declare([signal(0)])
        for day in range(6):
            at = START + day * NS_PER_DAY
            history.append(batch([0], [day], at=at), source="a", session=1, seq=day + 1)
            history.append_curve(curve(f"S{day}", "op010", at))
            history.seal()
        history._tidy()
        assert history.query([signal(0).path], 0, 2**62)["value"].to_pylist() == [2, 3, 4, 5]
        assert [c.serial for c in history.curves()] == ["S5", "S4", "S3", "S2"]


def test_curves_come_back_before_and_after_sealing_and_in_another_process(tmp_path: Path) -> None:
    made = [curve(f"S{k % 3}", f"op{k % 2}", START + k * NS_PER_S, n=k) for k in range(40)]
    with Historian(tmp_path) as history, Historian(tmp_path, read_only=True) as reader:
        for k, one in enumerate(made, start=1):
            history.append_curve(one, source="c", session=1, seq=k)
            if k == 25:
                history.seal()
        history.append_curve(made[-1], source="c", session=1, seq=40)  # sent again
        history.append_curve(made[-1], source="d", session=1, seq=1)  # back-filled by another way
        history.sync()
        assert history.last_seq("c", 1) == 40
        for store in (history, reader):
            found = store.curves(limit=1000)
            assert len(found) == 40
            assert all(same(a, b) for a, b in zip(found, reversed(made), strict=True))
            assert [c.time_ns for c in store.curves(serial="S1", station="op1", limit=2)] == [
                START + 37 * NS_PER_S,
                START + 31 * NS_PER_S,
            ]
            assert store.curves(serial="nobody") == []
    with Historian(tmp_path) as history:
        assert len(history.curves(limit=1000)) == 40
        with pytest.raises(ValueError, match="channels must have one length"):
            history.append_curve(
                Curve(
                    serial="S", station="o", program="", step=0, time_ns=0,
                    channels={"a": np.zeros(2, np.float32), "b": np.zeros(3, np.float32)},
                )
            )  # fmt: skip


def test_a_changed_byte_in_a_segment_is_named(tmp_path: Path) -> None:
    with Historian(tmp_path) as history:
        history.declare([signal(0)])
        values = np.random.default_rng(3).normal(size=5000)
        n = len(values)
        samples = Samples(
            np.zeros(n, np.uint32), START + np.arange(n, dtype=np.int64), values,
            np.zeros(n, np.uint8),
        )  # fmt: skip
        history.append(samples, source="a", session=1, seq=1)
        history.seal()
    (file,) = tmp_path.rglob("segments/**/*.parquet")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    with (
        Historian(tmp_path) as history,
        pytest.raises(DamageError, match=f"{file.name}: a checksum does not match"),
    ):
        history.query([signal(0).path], 0, 2**62)


def test_a_damaged_log_stops_the_start_and_repair_keeps_the_rest(tmp_path: Path) -> None:
    with Historian(tmp_path) as history:
        history.declare([signal(0)])
        for seq in (1, 2, 3):
            at = START + seq
            history.append(batch([0], [seq], at=at), source="a", session=1, seq=seq)
            history.sync()
    file = wal.log_files(tmp_path / "wal")[0]
    data = bytearray(file.read_bytes())
    data[60] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(DamageError, match="run 'brain doctor --repair'"):
        Historian(tmp_path)
    with Historian(tmp_path, repair=True) as history:
        assert history.query([signal(0).path], 0, 2**62)["value"].to_pylist() == [2.0, 3.0]
        history.append(batch([0], [4.0], at=START + 4), source="a", session=1, seq=4)
    with Historian(tmp_path) as history:
        assert history.query([signal(0).path], 0, 2**62).num_rows == 3


def test_a_full_disk_while_sealing_loses_nothing_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "workshop_brain.store.historian.historian")
    with Historian(tmp_path, settings=HistorianSettings(seal_rows=10, tables=2)) as history:
        history.declare([signal(0)])

        def full(*args: object, **options: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        kept = []

        def fill() -> None:
            for seq in range(1, 100):
                values = batch([0] * 5, [float(seq)] * 5, at=START + 10 * seq)
                history.append(values, source="a", session=1, seq=seq)
                kept.append(seq)

        with monkeypatch.context() as patch:
            patch.setattr(seal, "write_segment", full)
            with pytest.raises(StoreError, match=r"cannot be sealed.*No space left"):
                fill()
            assert "No space left" in history.stats()["fault"]
            history.sync()
            assert history.last_seq("a", 1) == len(kept) > 3
            assert history.query([signal(0).path], 0, 2**62).num_rows == 5 * len(kept)
        history.seal()
        assert history.stats()["fault"] == ""
        history.append(batch([0], [1.0]), source="a", session=1, seq=len(kept) + 1)
        assert history.query([signal(0).path], 0, 2**62).num_rows == 5 * len(kept) + 1
        assert history.stats()["rows"] == 5 * len(kept)


def test_files_left_by_a_crash_before_the_commit_are_removed(tmp_path: Path) -> None:
    Historian(tmp_path).close()
    orphan = tmp_path / "segments" / "date=2026-01-01" / "L0" / "000000000099.parquet"
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"half a file")
    Historian(tmp_path).close()
    assert not orphan.exists()


def test_small_files_are_merged_in_the_background(tmp_path: Path) -> None:
    few = HistorianSettings(seal_rows=100, merge=3)
    with Historian(tmp_path, settings=few) as history:
        history.declare([signal(k) for k in range(3)])
        for seq in range(1, 8):
            values = batch([0, 1, 2] * 30, [seq] * 90, at=START + seq * 1000)
            history.append(values, source="a", session=1, seq=seq)
            history.seal()
        history.seal()
        for _ in range(200):
            if history.stats()["files"].get("L1", 0) == 2:
                break
            history._stop.wait(0.05)
        assert history.stats()["files"] == {"L0": 1, "L1": 2}
        assert history.stats()["rows"] == 630
        assert len(list(tmp_path.rglob("segments/**/*.parquet"))) == 3


def test_files_are_rewritten_by_one_at_a_time(tmp_path: Path) -> None:
    """Two who merge the same files would each drop the other's inputs."""
    with Historian(tmp_path) as history:
        history.declare([signal(k) for k in range(3)])
        for seq in range(1, 21):
            values = batch([0, 1, 2] * 30, [seq] * 90, at=START + seq * 1000)
            history.append(values, source="a", session=1, seq=seq)
            history.seal()
        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(history.compact) for _ in range(4)]:
                done.result()
        assert history.stats()["files"] == {"L1": 1}
        assert history.stats()["rows"] == 1800


def test_pages_hold_a_whole_row_group(tmp_path: Path) -> None:
    """pyarrow's default of 20,000 rows per page costs 65 % more bytes."""
    n = 50_000
    with Historian(tmp_path, settings=HistorianSettings(seal_rows=n)) as history:
        history.declare([signal(0)])
        samples = Samples(
            np.zeros(n, np.uint32),
            START + np.arange(n, dtype=np.int64) * 1_000_000,
            np.round(np.cumsum(np.random.default_rng(1).normal(0, 0.05, n)), 3),
            np.zeros(n, np.uint8),
        )
        history.append(samples, source="a", session=1, seq=1)
        history.seal()
        assert history.stats()["bytes"] / n < 1.6
    (file,) = tmp_path.rglob("segments/**/*.parquet")
    with pq.ParquetFile(file) as opened:
        assert opened.metadata.row_group(0).num_rows == n
    # any reader gets the rows from the plain columns
    table = pq.read_table(file, partitioning=None)
    value = table["scaled"].to_numpy() / 10.0 ** table["scale"].to_numpy()
    assert np.array_equal(value, samples.value)
    assert np.array_equal(table["time"].to_numpy() * table["tick_ns"].to_numpy(), samples.time_ns)


def test_a_run_index_survives_packing() -> None:
    rng = np.random.default_rng(4)
    n = 1000
    runs = Runs(
        np.sort(rng.integers(0, 2**32, n)).astype(np.uint32),
        rng.integers(0, 9, n).astype(np.uint32),
        rng.integers(0, 2**20, n).astype(np.uint32),
        rng.integers(1, 2**20, n).astype(np.uint32),
        rng.integers(-(2**62), 2**62, n),
        rng.integers(-(2**62), 2**62, n),
        rng.choice([1, 1000, 1_000_000], n).astype(np.int32),
        rng.integers(-1, 10, n).astype(np.int8),
        rng.integers(0, 4, n).astype(np.uint8),
    )
    again = Runs.unpack(runs.pack())
    for name in Runs.__slots__:
        assert np.array_equal(getattr(again, name), getattr(runs, name)), name


@pytest.mark.parametrize("moment", ["follow", "look"])
def test_a_reader_misses_nothing_that_is_sealed_while_it_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    with Historian(tmp_path) as history, Historian(tmp_path, read_only=True) as reader:
        history.declare([signal(0)])
        written = 0

        def write(seals: bool) -> None:
            nonlocal written
            written += 1
            rows = batch([0], [float(written)], at=START + written)
            history.append(rows, source="a", session=1, seq=written)
            history.sync()
            if seals:
                history.seal()

        def between(look: Callable[..., Any]) -> Callable[..., Any]:
            def meanwhile(*args: Any) -> Any:
                write(seals=False)
                write(seals=True)
                found = look(*args)
                write(seals=True)
                write(seals=False)
                return found

            return meanwhile

        write(seals=False)
        assert len(reader.query([signal(0).path], 0, START + 100)) == 1  # its tail knows one frame
        where = reader._tail if moment == "follow" else reader._catalog
        monkeypatch.setattr(type(where), moment, between(getattr(type(where), moment)))
        for _ in range(3):
            before = written
            seen = reader.query([signal(0).path], 0, START + 100)["value"].to_pylist()
            assert seen == [1.0 + k for k in range(len(seen))]
            assert len(seen) >= before


def test_reading_where_nothing_was_stored_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no history here"):
        Historian(tmp_path, read_only=True)
    Historian(tmp_path).close()
    with (
        Historian(tmp_path, read_only=True) as reader,
        pytest.raises(StoreError, match="for reading only"),
    ):
        reader.declare([signal(0)])


def test_sql_sees_files_and_memory_as_one_and_nothing_else(tmp_path: Path) -> None:
    with Historian(tmp_path / "it's here") as history:
        history.declare([signal(0), signal(1), signal(2, SignalKind.TEXT)])
        (code,) = history.intern(["running"])
        values = [0.125, -0.1, 1e300, float("nan")]
        history.append(batch([0, 1, 0, 1], values), source="a", session=1, seq=1)
        history.seal()
        history.append(batch([0, 1, 0], [7.0, 8.0, 9.0]), source="a", session=1, seq=2)
        history.append(batch([2], [code], at=START + 50), source="a", session=1, seq=3)
        table = history.sql(
            "SELECT path, time_ns, value, quality, text FROM samples ORDER BY path, time_ns",
            from_ns=START, to_ns=START + 100,
        )  # fmt: skip
        paths = [signal(k).path for k in range(3)]
        raw = history.query(paths, START, START + 100)
        assert table["path"].to_pylist() == raw["path"].to_pylist()
        for name in ("time_ns", "quality", "text"):
            assert table[name].to_pylist() == raw[name].to_pylist(), name
        assert np.array_equal(table["value"].to_numpy(), raw["value"].to_numpy(), equal_nan=True)
        rows = history.sql(
            "SELECT count(*) n FROM samples WHERE path = ?", from_ns=START, to_ns=START + 2,
            params=[paths[0]],
        )  # fmt: skip
        assert rows["n"].to_pylist() == [1]
        (tmp_path / "secret.csv").write_text("a,b\n1,2\n")
        for statement in (
            f"SELECT * FROM read_csv('{tmp_path}/secret.csv')",
            f"COPY samples TO '{tmp_path}/out.csv'",
            "SET enable_external_access=true",
            "SELEC",
        ):
            with pytest.raises(StoreError, match="SQL: "):
                history.sql(statement, from_ns=START, to_ns=START + 2)


def test_a_single_file_of_a_finished_date_gets_its_rollups(tmp_path: Path) -> None:
    with Historian(tmp_path, settings=HistorianSettings(seal_rows=100, merge=8)) as history:
        history.declare([signal(0)])
        for day in (0, 1):
            values = batch([0] * 90, [day] * 90, at=START + day * NS_PER_DAY, step=NS_PER_S)
            history.append(values, source="a", session=1, seq=day + 1)
            history.seal()
        for _ in range(200):
            if history.stats()["files"].get("L1", 0) == 1:
                break
            history._stop.wait(0.05)
        assert history.stats()["files"] == {"L0": 1, "L1": 1}
        found = history.query([signal(0).path], START, START + 2 * NS_PER_DAY, points=10)
        assert sum(found.column("count").to_pylist()) == 180


def test_sql_refuses_a_file_that_has_changed(tmp_path: Path) -> None:
    with Historian(tmp_path) as history:
        history.declare([signal(0)])
        rows = batch([0] * 500, [float(k) for k in range(500)])
        history.append(rows, source="a", session=1, seq=1)
        history.seal()
        ask = "SELECT sum(value) AS total FROM samples"
        whole = history.sql(ask, from_ns=START, to_ns=START + 1000)
        assert whole["total"].to_pylist() == [499 * 250.0]
        file = next((tmp_path / "segments").rglob("*.parquet"))
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
        with pytest.raises(DamageError, match=f"{file.name}: its checksum is wrong"):
            history.sql(ask, from_ns=START, to_ns=START + 1000)


def test_what_the_brain_keeps_is_not_written_over(tmp_path: Path) -> None:
    for name in ("historian", "historian/catalog.sqlite", "records.sqlite", "plans/../ledger/x"):
        assert is_own(tmp_path, tmp_path / name)
    for name in ("iceberg", "out.csv", "../historian", "."):
        assert not is_own(tmp_path, tmp_path / name)
