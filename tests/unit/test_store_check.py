"""Damage anywhere in a history is found by name, or changes nothing that anybody reads."""

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from workshop_brain.app.doctor import examine as doctor
from workshop_brain.app.doctor import repair
from workshop_brain.errors import DamageError
from workshop_brain.model.curve import Curve
from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.store.backup import back_up
from workshop_brain.store.historian import Historian, HistorianSettings
from workshop_brain.store.historian.check import Part, examine

SETTINGS = HistorianSettings(seal_rows=4000, seal_s=3600, merge=3)
START_NS = 1_767_225_600_000_000_000
SIGNALS = 8


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed history with files of every kind, and rows that are only in the log."""
    data = tmp_path_factory.mktemp("check") / "data"
    with Historian(data / "historian", settings=SETTINGS) as history:
        kinds = [SignalKind.GAUGE] * (SIGNALS - 1) + [SignalKind.TEXT]
        paths = [f"e/s/a/l/c/u/s{k}" for k in range(SIGNALS)]
        history.declare([SignalDef(path=p, kind=k) for p, k in zip(paths, kinds, strict=True)])
        history.intern([f"recipe {k}" for k in range(5)])
        for seq in range(1, 10):
            at = np.arange(1000, dtype=np.int64) + 1000 * (seq - 1)
            values = np.where(at % SIGNALS == SIGNALS - 1, at % 5, np.sin(at / 7))
            history.append(
                Samples(
                    (at % SIGNALS).astype(np.uint32), START_NS + at * 2_000_000, values,
                    np.zeros(1000, np.uint8),
                ),
                source="s", session=1, seq=seq,
            )  # fmt: skip
            history.append_curve(
                Curve(
                    serial=f"P{seq}", station="e/s/a/l/c/u", program="p", step=1,
                    time_ns=START_NS + seq, channels={"t": np.sin(np.arange(40, dtype=np.float32))},
                )
            )  # fmt: skip
            history.sync()
            if seq == 7:
                history.compact()
            if seq == 8:
                history.seal()
    return data


def all_of(data: Path) -> list[object]:
    """Everything that can be read."""
    with Historian(data / "historian", read_only=True) as history:
        paths = [s.path for s in history.signals()]
        raw = history.query(paths, START_NS, 2 * START_NS)
        rolled = history.query(paths[:-1], START_NS, START_NS + 20 * 10**9, points=20)
        curves = [
            (c.serial, c.time_ns, c.station, c.step, c.program, c.channels["t"].tolist())
            for c in history.curves(limit=100)
        ]
        seqs = history._catalog.sessions(), history._catalog.meta("next_id", 0)
        return [history.signals(), raw, rolled, curves, seqs]


def test_a_whole_history_has_no_damage_and_one_without_checksums_neither(
    whole: Path, tmp_path: Path
) -> None:
    assert list(examine(whole / "historian")) == []
    data = shutil.copytree(whole, tmp_path / "data")
    truth = all_of(whole)
    with closing(sqlite3.connect(data / "historian" / "catalog.sqlite")) as db:
        for table in ("meta", "signals", "texts", "sessions", "segments", "curve_files"):
            db.execute(f"ALTER TABLE {table} DROP COLUMN row_crc")
        for table in ("segments", "curve_files"):
            db.execute(f"ALTER TABLE {table} DROP COLUMN file_crc")
    for _ in ("readers come first", "then a writer"):
        assert list(examine(data / "historian")) == [], "pages have checksums of their own"
        assert all_of(data) == truth
        Historian(data / "historian", settings=SETTINGS).close()
    file = next((data / "historian" / "segments").rglob("*.parquet"))
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(bytes(content))
    assert [d.path for d in examine(data / "historian")] == [str(file)]


def test_a_flipped_byte_is_found_by_name_or_changes_nothing(whole: Path, tmp_path: Path) -> None:
    rng = random.Random(17)
    data = shutil.copytree(whole, tmp_path / "data")
    directory, truth = data / "historian", all_of(whole)
    files = sorted(p for p in directory.rglob("*") if p.suffix in (".parquet", ".log", ".sqlite"))
    kinds = {p.relative_to(directory).parts[0] for p in files}
    assert kinds == {"segments", "rollups", "curves", "wal", "catalog.sqlite"}
    flips = found = 0
    for file in files:
        content = file.read_bytes()
        for _ in range(60 if file.name == "catalog.sqlite" else 12):
            at, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
            file.write_bytes(content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :])
            flips += 1
            if any(d.path == str(file) and not d.is_harmless for d in examine(directory)):
                found += 1
            else:  # bytes that nothing uses
                assert file.name == "catalog.sqlite", (file, at, bit)
                assert all_of(data) == truth, (file, at, bit)
            file.write_bytes(content)
            for extra in directory.glob("catalog.sqlite-*"):
                extra.unlink()
    assert flips > 150
    assert found > 100


def test_missing_and_unknown_files_are_named_and_repair_takes_them_from_a_backup(
    whole: Path, tmp_path: Path
) -> None:
    data, target = shutil.copytree(whole, tmp_path / "data"), tmp_path / "target"
    directory, truth = data / "historian", all_of(whole)
    back_up(whole, target, now_ns=1)
    raw, rollup, curves = (
        sorted((directory / top).rglob("*.parquet"))[0] for top in ("segments", "rollups", "curves")
    )
    raw.unlink()
    rollup.write_bytes(rollup.read_bytes()[:-1])
    curves.write_bytes(bytes(curves.stat().st_size))
    stranger = raw.with_name("999999999999.parquet")
    stranger.write_bytes(b"PAR1")
    found = {d.path: d.part for d in examine(directory)}
    assert found == {
        str(raw): Part.ROWS, str(rollup): Part.ROLLUP, str(curves): Part.CURVES,
        str(stranger): Part.LEFTOVER,
    }  # fmt: skip
    assert sum(not f.ok for f in doctor(data) if f.text.startswith("history")) == 3
    quickly = {d.path for d in examine(directory, quick=True)}
    assert quickly == set(found) - {str(curves)}, "its size is right"
    done = repair(data, target)
    assert len(done) == 3
    assert all("put back from the backup" in line for line in done)
    assert all_of(data) == truth


def test_repair_without_a_backup_sets_aside_what_is_lost_and_all_else_is_read(
    whole: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(whole, tmp_path / "data")
    directory = data / "historian"
    for top in ("segments", "rollups", "curves", "wal"):
        file = sorted(p for p in (directory / top).rglob("*") if p.is_file())[0]
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(bytes(content))
    with pytest.raises(DamageError):
        all_of(data)
    done = "\n".join(repair(data, None))
    assert "rows of 2026-01-01 are lost" in done
    assert "curves are lost" in done
    assert "every valid frame is kept" in done
    assert [d for d in examine(directory) if not d.is_harmless] == []
    assert len(list((directory / "damaged").iterdir())) == 3
    assert 0 < len(all_of(data)[1]) < 9000


def test_a_lost_catalog_stops_the_start_before_anything_is_removed(
    whole: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(whole, tmp_path / "data")
    directory = data / "historian"
    (directory / "catalog.sqlite").unlink()
    before = sorted(directory.rglob("*.parquet"))
    with pytest.raises(DamageError, match="is missing or empty, but"):
        Historian(directory)
    assert sorted(directory.rglob("*.parquet")) == before
