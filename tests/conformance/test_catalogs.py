"""What every catalog must do, run over a file of SQLite and over a real PostgreSQL server."""

import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from workshop_brain.errors import DamageError, StoreError, StoreLockedError
from workshop_brain.model.curve import Curve
from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.store.backup import back_up, restore
from workshop_brain.store.historian import Historian, HistorianSettings
from workshop_brain.store.historian.catalog import Catalog, CurveKey, CurveWish, Segment
from workshop_brain.store.historian.check import Part, examine

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
START_NS = 1_767_225_600_000_000_000
Open = Callable[..., Catalog]


@dataclass
class Server:
    """A private PostgreSQL on a free loopback port."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def user(self) -> str | None:
        return "postgres" if os.getuid() == 0 else None  # it refuses to run as root

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                PROGRAMS[-1] / "postgres", "-D", self.directory / "data", "-p", str(self.port),
                "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off",
                "-c", f"unix_socket_directories={self.directory}",
            ],
            stderr=subprocess.DEVNULL, user=self.user, cwd="/",
        )  # fmt: skip
        for _ in range(200):
            ready = [PROGRAMS[-1] / "pg_isready", "-h", "127.0.0.1", "-p", str(self.port)]
            if subprocess.run(ready, stdout=subprocess.DEVNULL, check=False).returncode == 0:
                return
            time.sleep(0.05)
        raise AssertionError("PostgreSQL did not start")

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(2)  # SIGINT: end at once, whoever is connected
            self.process.wait()

    def url(self, schema: str) -> str:
        return f"postgresql://brain@127.0.0.1:{self.port}/postgres?schema={schema}"


def lasting_port() -> int:
    """A free loopback port that no outgoing connection takes while the server is down."""
    for port in random.sample(range(20_000, 30_000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    if not PROGRAMS:
        pytest.skip("PostgreSQL is not installed: tools/test_servers.sh")
    # not below pytest's own directory, which every run closes to other users again
    with tempfile.TemporaryDirectory(prefix="catalogs-", ignore_cleanup_errors=True) as name:
        made = Server(Path(name), lasting_port())
        if made.user:
            shutil.chown(name, made.user)
        subprocess.run(
            [PROGRAMS[-1] / "initdb", "-D", f"{name}/data", "-A", "trust", "-U", "brain", "-N"],
            stdout=subprocess.DEVNULL, check=True, user=made.user, cwd="/",
        )  # fmt: skip
        made.start()
        yield made
        made.stop()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of an empty catalog; "" is a file."""
    if request.param == "sqlite":
        return ""
    server: Server = request.getfixturevalue("server")
    return server.url(tmp_path.name)


@pytest.fixture
def opened(url: str, tmp_path: Path) -> Iterator[Open]:
    """Opens the catalog of one directory; all are closed at the end."""
    made: list[Catalog] = []

    def open_(*, read_only: bool = False) -> Catalog:
        address = {} if read_only else {"url": url}
        made.append(Catalog(tmp_path / "catalog.sqlite", read_only=read_only, **address))
        return made[-1]

    yield open_
    for catalog in made:
        catalog.close()


NAMES = [
    'quo"te',
    "back\\slash",
    "brace{,}",
    "NULL",
    "拧紧站",
    "with ' and %s and ?",
    " a b ",
    "nul \x00 \ue000\ue002",
]


def segment(id: int, first_ns: int, last_ns: int, *, bucket_ns: int = 0) -> Segment:
    return Segment(
        id=id, unit=id, bucket_ns=bucket_ns, date="2026-01-01", level=0,
        file=f"segments/date=2026-01-01/L0/{id}.parquet", rows=3, bytes=99, min_time=first_ns,
        max_time=last_ns, min_signal=0, max_signal=2**32 - 1, epoch=7, first_position=10 * id,
        last_position=10 * id + 9, duplicates=0, conflicts=0, file_crc=2**32 - 1,
    )  # fmt: skip


def test_registries_come_back_as_they_were_put(opened: Open) -> None:
    catalog = opened()
    signals = [
        SignalDef(path=f"e/s/a/l/c/u/s{k}", kind=kind, unit=n, low=-0.1, high=1e300, source=n)
        for k, (n, kind) in enumerate(zip(NAMES, [*SignalKind, *SignalKind], strict=False))
    ]
    catalog.put_signals(enumerate(signals))
    catalog.put_signals([(1, replace(signals[1], unit="kN"))])
    catalog.put_texts(0, [*NAMES, ""])
    catalog.put_sessions({("a", 2**62): 5, ("b", 1): 6})
    catalog.put_sessions({("a", 2**62): 7})
    catalog.set_meta("sealed", 2**60)
    catalog.set_meta("bytes", bytes(range(256)))
    catalog.put_texts(len(NAMES) + 1, [])
    for found in (catalog, opened(read_only=True)):
        assert found.signals() == [signals[0], replace(signals[1], unit="kN"), *signals[2:]]
        assert found.signals(2) == signals[2:]
        assert found.texts() == [*NAMES, ""]
        assert found.sessions() == {("a", 2**62): 7, ("b", 1): 6}
        assert (found.meta("sealed", 0), found.meta("none", 3)) == (2**60, 3)
        assert (found.blob("bytes"), found.blob("none")) == (bytes(range(256)), b"")
        assert found.faults() == []
    catalog.forget_sessions(["a"])
    assert catalog.sessions() == {("b", 1): 6}
    assert catalog.next_id() + 1 == catalog.next_id()


def test_segments_are_found_by_time_and_go_all_or_nothing(opened: Open) -> None:
    catalog = opened()
    with catalog.transaction():
        catalog.add_segment(segment(2, 100, 199), b"runs \x00 of 2")
        catalog.add_segment(segment(1, 0, 99), b"1")
        catalog.add_segment(segment(3, 0, 199, bucket_ns=10**9), b"")
        catalog.set_meta("sealed", 29)
    reader = opened(read_only=True)
    assert [s.id for s in reader.segments()] == [1, 2]
    assert reader.segments(100, 101) == [segment(2, 100, 199)]
    assert [s.id for s in reader.segments(99, 100)] == [1]
    assert [s.id for s in reader.segments(bucket_ns=None)] == [1, 2, 3]
    assert reader.look(0, 10**9) == (29, reader.segments())
    assert (reader.runs(2), reader.runs(9)) == (b"runs \x00 of 2", None)

    def break_off() -> None:
        with catalog.transaction():
            catalog.drop_segments([1, 2])
            assert len(reader.segments()) == 2, "not visible before the commit"
            raise KeyError

    with pytest.raises(KeyError):
        break_off()
    assert [s.id for s in catalog.segments()] == [1, 2]
    with catalog.transaction():
        catalog.drop_segments([1])
    assert [s.id for s in reader.segments()] == [2]
    with pytest.raises(StoreError):
        reader.set_meta("sealed", 1)


def test_curves_are_found_newest_first_replaced_and_moved(opened: Open, tmp_path: Path) -> None:
    catalog = opened()
    for name in ("one", "two", "three"):
        (tmp_path / name).write_text(name)
    keys = [("b", 5, "st", 1, "p"), ("B", 5, "st", 1, "p"), ("ä", 5, "st", 1, "q")]
    with catalog.transaction():
        catalog.add_curves((1, "2026-01-01", "one", 3, 9, 5), keys)
        catalog.add_curves((2, "2026-01-01", "two", 2, 9, 6), [keys[0], ("b", 6, "st", 1, "p")])
    found = catalog.find_curves(CurveWish(), 10)
    assert [(k.time_ns, k.serial, k.file, k.row) for k in found] == [
        (6, "b", 2, 1), (5, "ä", 1, 2), (5, "b", 2, 0), (5, "B", 1, 1)
    ]  # fmt: skip
    assert [k.serial for k in catalog.find_curves(CurveWish(program="p", to_ns=6), 1)] == ["b"]
    before = CurveWish(station="st", before=(5, "b", "st", 1))
    assert [k.serial for k in catalog.find_curves(before, 10)] == ["B"]
    assert [k.serial for k in catalog.curves_of(1)] == ["B", "ä"]
    with catalog.transaction():
        catalog.move_curves((3, "2026-01-01", "three", 2, 9, 5), catalog.curves_of(1))
        catalog.drop_curve_file(1)
    assert catalog.curves_of(3)[1] == CurveKey("ä", 5, "st", 1, 3, 1, "q")
    assert [row[0] for row in catalog.curve_files()] == [2, 3]
    assert catalog.curve_dates() == {2: "2026-01-01", 3: "2026-01-01"}
    assert len(catalog.find_curves(CurveWish(), 10)) == 4


def test_a_changed_row_is_named(opened: Open) -> None:
    catalog = opened()
    catalog.put_signals([(0, SignalDef(path="e/s/a/l/c/u/x", kind=SignalKind.GAUGE, unit="kN"))])
    catalog.put_texts(0, ["a", "b"])
    catalog._db.run("UPDATE signals SET unit = 'mN'")
    catalog._db.run("DELETE FROM texts WHERE code = 0")
    assert catalog.faults() == [
        "table signals: the row 0 has changed", "table texts: 1 rows are missing"
    ]  # fmt: skip


# -- a whole history on each


def append(history: Historian, seq: int) -> None:
    at = np.arange(300, dtype=np.int64) + 300 * seq
    batch = Samples(
        (at % 3).astype(np.uint32), START_NS + at * 50_000_000, at / 8, np.zeros(300, np.uint8)
    )
    history.append(batch, source="s", session=1, seq=seq)
    history.append_curve(
        Curve(
            serial=f"P{seq}", station="e/s/a/l/c/u", program="p", step=1, time_ns=START_NS + seq,
            channels={"t": np.arange(4, dtype=np.float32)},
        )
    )  # fmt: skip
    history.sync()


def contents(history: Historian) -> list[object]:
    paths = [s.path for s in history.signals()]
    return [
        history.query(paths, START_NS, START_NS + 10**14),
        history.query(paths, START_NS, START_NS + 10**12, points=50),
        [(c.serial, c.channels["t"].tolist()) for c in history.curves()],
        [column.tolist() for column in history.last_values()],
    ]


def fill(directory: Path, url: str) -> list[object]:
    settings = HistorianSettings(seal_rows=500, seal_s=3600, merge=2, catalog=url)
    with Historian(directory, settings=settings) as history:
        signals = [SignalDef(path=f"e/s/a/l/c/u/s{k}", kind=SignalKind.GAUGE) for k in range(3)]
        history.declare(signals)
        for seq in range(1, 9):
            append(history, seq)
        history.compact()
        append(history, 9)
        return contents(history)


def test_a_history_is_written_read_beside_and_opened_again(url: str, tmp_path: Path) -> None:
    truth = fill(tmp_path / "h", url)
    with Historian(tmp_path / "h", read_only=True) as reader:
        assert contents(reader) == truth
    assert [d for d in examine(tmp_path / "h") if not d.is_harmless] == []
    with Historian(tmp_path / "h") as history:  # it stays where it is
        assert contents(history) == truth
        assert history.last_seq("s", 1) == 9


def test_a_file_moves_to_postgres_and_a_backup_brings_it_back(
    server: Server, tmp_path: Path
) -> None:
    data, url = tmp_path / "data", server.url("moved")
    truth = fill(data / "historian", "")
    with Historian(data / "historian", settings=HistorianSettings(catalog=url)) as history:
        assert contents(history) == truth
        append(history, 10)
        truth = contents(history)
        back_up(data, tmp_path / "target", now_ns=1)
        with pytest.raises(StoreLockedError, match="another brain writes to these tables"):
            Catalog(data / "historian" / "catalog.sqlite", read_only=False)
    restore(tmp_path / "target", tmp_path / "again")
    assert [d for d in examine(tmp_path / "again" / "historian") if not d.is_harmless] == []
    with Historian(tmp_path / "again" / "historian") as history:
        assert contents(history) == truth
    with pytest.raises(StoreError, match="holds the catalog of another history"):
        Historian(tmp_path / "again" / "historian", settings=HistorianSettings(catalog=url))
    with pytest.raises(StoreError, match="holds the catalog of another history"):
        Historian(tmp_path / "new", settings=HistorianSettings(catalog=url))


def test_a_lost_schema_stops_the_start_before_anything_is_removed(
    server: Server, tmp_path: Path
) -> None:
    fill(tmp_path / "h", server.url("lost"))
    files = sorted((tmp_path / "h").rglob("*.parquet"))
    with pytest.raises(DamageError, match="catalog is missing or empty"):
        Historian(tmp_path / "h", settings=HistorianSettings(catalog=server.url("elsewhere")))
    assert sorted((tmp_path / "h").rglob("*.parquet")) == files


def test_nothing_is_lost_while_the_database_is_away(server: Server, tmp_path: Path) -> None:
    settings = HistorianSettings(seal_rows=300, seal_s=3600, catalog=server.url("away"))
    with Historian(tmp_path / "h", settings=settings) as history:
        history.declare(
            [SignalDef(path=f"e/s/a/l/c/u/s{k}", kind=SignalKind.GAUGE) for k in range(3)]
        )
        append(history, 1)
        history.seal()
        server.stop()
        append(history, 2)
        append(history, 3)
        with pytest.raises(StoreError, match="cannot be reached"):
            history._catalog.meta("sealed", 0)
        with pytest.raises(StoreError, match="cannot be sealed"):
            history.seal()
        server.start()
        while history.stats()["rows"] < 900:  # an attempt from before may still fail
            with suppress(StoreError):
                history.seal()
    assert [d for d in examine(tmp_path / "h") if d.part is not Part.LEFTOVER] == []
