"""Backups: taken while the brain writes, restored by value, damage named, nothing overwritten."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from workshop_brain.cli import app
from workshop_brain.errors import DamageError, StoreError
from workshop_brain.model.curve import Curve
from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.store.backup import back_up, backups, read_backup, restore, verify
from workshop_brain.store.historian import Historian, HistorianSettings
from workshop_brain.store.ledger import Ledger
from workshop_brain.store.records import Records

ROWS, SIGNALS = 500, 20
SETTINGS = HistorianSettings(seal_rows=2000, seal_s=3600, merge=3)
START_NS = 1_767_225_600_000_000_000


def append(history: Historian, seq: int) -> None:
    """Batch ``seq``: row k has time and value k."""
    at = np.arange(ROWS, dtype=np.int64) + ROWS * (seq - 1)
    batch = Samples(
        (at % SIGNALS).astype(np.uint32),
        START_NS + at * 1_000_000,
        at / 8,
        np.zeros(ROWS, np.uint8),
    )
    history.append(batch, source="s", session=1, seq=seq)
    history.sync()


def declare(history: Historian) -> None:
    history.declare(
        [SignalDef(path=f"e/s/a/l/c/u/s{k}", kind=SignalKind.GAUGE) for k in range(SIGNALS)]
    )


def batches(directory: Path) -> int:
    """Batches in a data directory, each whole, once and by value."""
    with Historian(directory / "historian", settings=SETTINGS) as history:
        table = history.query([s.path for s in history.signals()], START_NS, 2 * START_NS)
        row = np.sort((table["time_ns"].to_numpy() - START_NS) // 1_000_000)
        assert np.array_equal(row, np.arange(len(row)))
        assert np.array_equal(np.sort(table["value"].to_numpy()), row / 8)
        assert history.last_seq("s", 1) * ROWS == len(row)
        return len(row) // ROWS


def fill(data: Path) -> None:
    """A data directory with something of everything."""
    with Historian(data / "historian", settings=SETTINGS) as history:
        declare(history)
        for seq in range(1, 9):
            append(history, seq)
        channels = {"torque": np.linspace(0, 3, 50, dtype=np.float32)}
        history.append_curve(
            Curve(serial="P1", station="e/s/a/l/c/u", program="p", step=1, time_ns=START_NS,
                  channels=channels)
        )  # fmt: skip
        history.seal()
        append(history, 9)
    ledger = Ledger(data / "ledger", anchor=Records(data / "records.sqlite").anchor())
    sha = ledger.put_input(b"what was known")
    ledger.append("decision", {"id": "d1", "input_hash": sha})
    key = data / "pki" / "own" / "key.pem"
    key.parent.mkdir(parents=True)
    key.write_text("secret")
    key.chmod(0o600)
    (data / "run").mkdir()
    (data / "run" / "pids.json").write_text("{}")


def test_a_restored_directory_holds_everything_and_the_second_backup_little(tmp_path: Path) -> None:
    data, target, again = tmp_path / "data", tmp_path / "target", tmp_path / "again"
    fill(data)
    first = back_up(data, target, now_ns=1)
    second = back_up(data, target, now_ns=2)
    assert second.new_files == 0, "nothing has changed"
    restored = restore(target, again, name=first.backup.name)
    assert restored == first.backup
    assert batches(again) == 9
    with Historian(again / "historian", settings=SETTINGS) as history:
        assert history.curves(serial="P1")[0].channels["torque"][-1] == 3
        append(history, 10)
    ledger = Ledger(again / "ledger", anchor=Records(again / "records.sqlite").anchor())
    assert ledger.verify() == []
    assert (again / "pki" / "own" / "key.pem").stat().st_mode & 0o777 == 0o600
    assert not (again / "run").exists()
    third = back_up(again, target, now_ns=3)
    changed = {i.path for i in third.backup.items} - {i.path for i in first.backup.items}
    assert all(path.startswith("historian/wal/") for path in changed), "files are known by name"
    with pytest.raises(StoreError, match="not empty, and nothing is ever overwritten"):
        restore(target, again)


def test_a_backup_of_a_busy_history_is_one_moment_of_it(tmp_path: Path) -> None:
    data, target = tmp_path / "data", tmp_path / "target"
    stop, acknowledged = threading.Event(), [0]

    def write() -> None:
        with Historian(data / "historian", settings=SETTINGS) as history:
            declare(history)
            while not stop.is_set():
                append(history, acknowledged[0] + 1)
                acknowledged[0] += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while acknowledged[0] < 10:
            writer.join(0.01)
            assert writer.is_alive()
        for n in range(4):
            before = acknowledged[0]
            back_up(data, target, now_ns=n, keep=2)
            restore(target, tmp_path / f"again{n}")
            assert batches(tmp_path / f"again{n}") >= before, "acknowledged rows are not in it"
    finally:
        stop.set()
        writer.join()
    assert len(backups(target)) == 2
    for name in backups(target):
        assert verify(target, read_backup(target, name)) == []
    named = {i.sha256 for n in backups(target) for i in read_backup(target, n).items}
    assert {p.name for p in (target / "objects").glob("*/*")} == named, "the forgotten ones go"


def test_every_damaged_file_of_a_backup_is_named_and_nothing_is_restored(tmp_path: Path) -> None:
    data, target, again = tmp_path / "data", tmp_path / "target", tmp_path / "again"
    fill(data)
    items = back_up(data, target, now_ns=1).backup.items
    rng = np.random.default_rng(3)
    for item in [i for i in items if i.size]:
        place = target / "objects" / item.sha256[:2] / item.sha256
        whole = place.read_bytes()
        place.unlink()  # it may be the same file as the one in the data directory
        at = int(rng.integers(len(whole)))
        place.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(DamageError, match=f"{item.path}: its bytes have changed"):
            restore(target, again)
        place.write_bytes(whole)
    place.unlink()
    with pytest.raises(DamageError, match=f"{item.path}: missing"):
        restore(target, again)
    assert not again.exists()
    healed = back_up(data, target, now_ns=2)
    assert healed.new_files == 1, "what is missing is stored anew"
    manifest = target / "backups" / f"{healed.backup.name}.json"
    manifest.write_text(manifest.read_text().replace('"size": ', '"size": 1', 1))
    with pytest.raises(DamageError, match="list of the backup's files is damaged"):
        restore(target, again)
    restore(target, again, name=backups(target)[0])
    assert batches(again) == 9


def test_the_commands_say_what_they_did_and_what_is_wrong(tmp_path: Path) -> None:
    data, target = tmp_path / "data", tmp_path / "target"
    run = CliRunner().invoke
    fill(data)
    made = json.loads(run(app, ["backup", str(target), "--data", str(data), "--json"]).stdout)
    assert made["new_files"] == len(list((target / "objects").glob("*/*")))
    assert run(app, ["restore", str(target), "--check"]).exit_code == 0
    done = run(app, ["restore", str(target), "--data", str(tmp_path / "again"), "--json"])
    assert json.loads(done.stdout)["backup"] == made["backup"]
    inside = run(app, ["backup", str(data / "in"), "--data", str(data)])
    assert "lies inside" in str(inside.exception)
    unknown = run(app, ["restore", str(target), "--backup", "x", "--data", str(tmp_path / "n")])
    assert f"there are {made['backup']}" in str(unknown.exception)


def test_damage_that_was_there_before_is_named_and_a_whole_copy_stands_for_it(
    tmp_path: Path,
) -> None:
    data, fresh, target = tmp_path / "data", tmp_path / "fresh", tmp_path / "backup"
    fill(data)
    back_up(data, target, now_ns=START_NS)
    segment = max((data / "historian").rglob("*.parquet"), key=lambda path: path.stat().st_size)
    bytes_ = bytearray(segment.read_bytes())
    bytes_[len(bytes_) // 2] ^= 1
    segment.unlink()  # the backup may hold the same file by a hard link
    segment.write_bytes(bytes_)
    again = CliRunner().invoke(app, ["backup", str(target), "--data", str(data)])
    assert isinstance(again.exception, DamageError)
    assert segment.name in again.stdout
    assert "the one before" in again.stdout
    restore(target, fresh)
    assert batches(fresh) == 9
    first = CliRunner().invoke(app, ["backup", str(tmp_path / "other"), "--data", str(data)])
    assert isinstance(first.exception, DamageError)
    assert "no backup holds it whole" in first.stdout


@pytest.mark.parametrize("place", [".", "inside"])
def test_nothing_is_restored_into_the_backup(tmp_path: Path, place: str) -> None:
    data, target = tmp_path / "data", tmp_path / "backup"
    fill(data)
    back_up(data, target, now_ns=START_NS)
    with pytest.raises(StoreError, match="give a new directory beside it"):
        restore(target, target / place)
