"""The catalog: which signals, texts, segments and curves there are. Its commit is visibility."""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from workshop_brain.errors import DamageError, StoreError
from workshop_brain.model.signal import SignalDef, SignalKind

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS signals (
  id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, kind INTEGER NOT NULL, unit TEXT NOT NULL,
  low REAL NOT NULL, high REAL NOT NULL, source TEXT NOT NULL, address TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS texts (code INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS sessions (
  source TEXT NOT NULL, session INTEGER NOT NULL, seq INTEGER NOT NULL,
  PRIMARY KEY (source, session)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS segments (
  id INTEGER PRIMARY KEY, unit INTEGER NOT NULL, bucket_ns INTEGER NOT NULL, date TEXT NOT NULL,
  level INTEGER NOT NULL, file TEXT NOT NULL, rows INTEGER NOT NULL, bytes INTEGER NOT NULL,
  min_time INTEGER NOT NULL, max_time INTEGER NOT NULL, min_signal INTEGER NOT NULL,
  max_signal INTEGER NOT NULL, epoch INTEGER NOT NULL, first_position INTEGER NOT NULL,
  last_position INTEGER NOT NULL, duplicates INTEGER NOT NULL, conflicts INTEGER NOT NULL,
  runs BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS segments_by_time ON segments (bucket_ns, max_time);
CREATE TABLE IF NOT EXISTS curve_files (
  id INTEGER PRIMARY KEY, date TEXT NOT NULL, file TEXT NOT NULL, rows INTEGER NOT NULL,
  bytes INTEGER NOT NULL, max_time INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS curves (
  serial TEXT NOT NULL, time_ns INTEGER NOT NULL, station TEXT NOT NULL, step INTEGER NOT NULL,
  file INTEGER NOT NULL, row INTEGER NOT NULL, program TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (serial, time_ns, station, step)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS curves_by_station ON curves (station, time_ns);
CREATE INDEX IF NOT EXISTS curves_by_time ON curves (time_ns);
CREATE INDEX IF NOT EXISTS curves_by_file ON curves (file);
"""
FORMAT = 1
_SEGMENT = (
    "id, unit, bucket_ns, date, level, file, rows, bytes, min_time, max_time, min_signal, "
    "max_signal, epoch, first_position, last_position, duplicates, conflicts"
)


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of rows. ``bucket_ns`` 0: raw rows; otherwise the rollup of the raw file ``unit``.

    ``epoch`` is the length of the signal registry when the file was written.
    """

    id: int
    unit: int
    bucket_ns: int
    date: str
    level: int
    file: str
    rows: int
    bytes: int
    min_time: int
    max_time: int
    min_signal: int
    max_signal: int
    epoch: int
    first_position: int
    last_position: int
    duplicates: int
    conflicts: int


@dataclass(frozen=True, slots=True)
class CurveKey:
    """What one curve is of, and where it stands; ``file`` 0: still in memory."""

    serial: str
    time_ns: int
    station: str
    step: int
    file: int
    row: int
    program: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveWish:
    """Which curves: ``from_ns <= t < to_ns``, older than the key ``before`` (time, serial, station,
    step); None means any."""

    serial: str | None = None
    station: str | None = None
    program: str | None = None
    from_ns: int | None = None
    to_ns: int | None = None
    before: tuple[int, str, str, int] | None = None

    def fits(self, time_ns: int, serial: str, station: str, step: int, program: str) -> bool:
        """Whether a curve is wished for."""
        return (
            (self.serial is None or serial == self.serial)
            and (self.station is None or station == self.station)
            and (self.program is None or program == self.program)
            and (self.from_ns is None or time_ns >= self.from_ns)
            and (self.to_ns is None or time_ns < self.to_ns)
            and (self.before is None or (time_ns, serial, station, step) < self.before)
        )


class Catalog:
    """SQLite behind one connection and a lock; every write is one transaction, fully synced."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self._path = path
        self._lock = threading.RLock()
        mode = "ro" if read_only else "rwc"
        try:
            self._db = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode={mode}",
                uri=True,
                check_same_thread=False,
                isolation_level=None,
                timeout=10.0,
            )
            with self._guard():
                if not read_only:
                    self._db.execute("PRAGMA journal_mode=WAL")
                    self._db.execute("PRAGMA synchronous=FULL")
                    self._db.executescript(_TABLES)
                    self._add_program()
                    self._db.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?)", (FORMAT,))
                found = self.meta("format", FORMAT)
        except sqlite3.OperationalError as error:
            raise StoreError(f"{path}: cannot be opened ({error})") from error
        if found != FORMAT:
            raise StoreError(
                f"{path}: written in format {found}, this version reads format {FORMAT}; "
                "use a newer version"
            )

    def _add_program(self) -> None:
        """Catalogs of the first days had no program beside the curves."""
        columns = self._db.execute("PRAGMA table_info(curves)").fetchall()
        if "program" not in {column[1] for column in columns}:
            self._db.execute("ALTER TABLE curves ADD COLUMN program TEXT NOT NULL DEFAULT ''")
        self._db.execute(
            "CREATE INDEX IF NOT EXISTS curves_by_program ON curves (program, time_ns)"
        )

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _guard(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except sqlite3.OperationalError as error:
                if "full" in str(error):
                    raise StoreError(
                        f"{self._path}: the disk is full; nothing acknowledged is lost. Free some "
                        "space: storing resumes by itself"
                    ) from error
                raise StoreError(f"{self._path}: {error}") from error
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.IntegrityError):
                    raise
                raise DamageError(
                    f"{self._path}: {error}; restore the file from a backup"
                ) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable at the end."""
        with self._guard():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def meta(self, key: str, default: int) -> int:
        """A number kept under a key."""
        with self._guard():
            row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return default if row is None else int(row[0])

    def set_meta(self, key: str, value: int | bytes) -> None:
        """Keep a number or bytes under a key."""
        with self._guard():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def blob(self, key: str) -> bytes:
        """Bytes kept under a key; empty when there are none."""
        with self._guard():
            row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return b"" if row is None else bytes(row[0])

    def signals(self, start: int = 0) -> list[SignalDef]:
        """Registered signals from an id on; position = id - start."""
        with self._guard():
            rows = self._db.execute(
                "SELECT path, kind, unit, low, high, source, address FROM signals "
                "WHERE id >= ? ORDER BY id",
                (start,),
            ).fetchall()
        return [
            SignalDef(
                path=path, kind=SignalKind(kind), unit=unit, low=low, high=high, source=source,
                address=address,
            )
            for path, kind, unit, low, high, source, address in rows
        ]  # fmt: skip

    def put_signals(self, rows: Iterable[tuple[int, SignalDef]]) -> None:
        """Add or update signals."""
        with self.transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO signals VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (id, s.path, int(s.kind), s.unit, s.low, s.high, s.source, s.address)
                    for id, s in rows
                ],
            )

    def texts(self, start: int = 0) -> list[str]:
        """Texts from a code on, in order of the codes."""
        with self._guard():
            rows = self._db.execute(
                "SELECT text FROM texts WHERE code >= ? ORDER BY code", (start,)
            ).fetchall()
        return [row[0] for row in rows]

    def put_texts(self, first: int, texts: Sequence[str]) -> None:
        """Add texts with the codes ``first``.. ."""
        with self.transaction():
            self._db.executemany(
                "INSERT INTO texts VALUES (?, ?)", list(enumerate(texts, start=first))
            )

    def sessions(self) -> dict[tuple[str, int], int]:
        """Highest sealed sequence number of each source's session."""
        with self._guard():
            rows = self._db.execute("SELECT source, session, seq FROM sessions").fetchall()
        return {(source, session): seq for source, session, seq in rows}

    def forget_sessions(self, sources: Iterable[str]) -> None:
        """Forget all sequence numbers of some sources."""
        with self.transaction():
            self._db.executemany("DELETE FROM sessions WHERE source = ?", [(s,) for s in sources])

    def put_sessions(self, sessions: dict[tuple[str, int], int]) -> None:
        """Keep sequence numbers."""
        with self._guard():
            self._db.executemany(
                "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?)",
                [(source, session, seq) for (source, session), seq in sessions.items()],
            )

    def next_id(self) -> int:
        """An id no segment or curve file has had."""
        with self._guard():
            value = self.meta("next_id", 1)
            self.set_meta("next_id", value + 1)
        return value

    def add_segment(self, segment: Segment, runs: bytes) -> None:
        """Add one file's row."""
        values = [getattr(segment, name) for name in _SEGMENT.split(", ")]
        with self._guard():
            marks = ", ".join("?" * (len(values) + 1))
            self._db.execute(f"INSERT INTO segments VALUES ({marks})", [*values, runs])

    def drop_segments(self, ids: Sequence[int]) -> None:
        """Remove files' rows."""
        with self._guard():
            self._db.executemany("DELETE FROM segments WHERE id = ?", [(i,) for i in ids])

    def segments(
        self, from_ns: int | None = None, to_ns: int | None = None, *, bucket_ns: int | None = 0
    ) -> list[Segment]:
        """Files that touch ``from_ns <= t < to_ns``, in the order of the log.

        ``bucket_ns`` 0: raw files; None: every kind.
        """
        sql, values = f"SELECT {_SEGMENT} FROM segments WHERE 1", []
        if bucket_ns is not None:
            sql, values = sql + " AND bucket_ns = ?", [bucket_ns]
        if from_ns is not None:
            sql, values = sql + " AND max_time >= ?", [*values, from_ns]
        if to_ns is not None:
            sql, values = sql + " AND min_time < ?", [*values, to_ns]
        with self._guard():
            rows = self._db.execute(sql + " ORDER BY last_position, id", values).fetchall()
        return [Segment(*row) for row in rows]

    def look(self, from_ns: int, to_ns: int) -> tuple[int, list[Segment]]:
        """Sealed log position and raw files of the same moment, for a reader beside the writer."""
        with self._guard():
            self._db.execute("BEGIN")
            try:
                return self.meta("sealed", 0), self.segments(from_ns, to_ns)
            finally:
                self._db.execute("COMMIT")

    def runs(self, id: int) -> bytes | None:
        """Packed run index of a file; None when the file is gone."""
        with self._guard():
            row = self._db.execute("SELECT runs FROM segments WHERE id = ?", (id,)).fetchone()
        return None if row is None else bytes(row[0])

    def add_curves(
        self,
        file: tuple[int, str, str, int, int, int],
        keys: Sequence[tuple[str, int, str, int, str]],
    ) -> None:
        """Add a file ``(id, date, name, rows, bytes, max_time)`` and its curves' keys
        ``(serial, time_ns, station, step, program)``, in the order of the rows."""
        with self._guard():
            self._db.execute("INSERT INTO curve_files VALUES (?, ?, ?, ?, ?, ?)", file)
            self._db.executemany(
                "INSERT OR REPLACE INTO curves (serial, time_ns, station, step, program, file, row)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(*key, file[0], row) for row, key in enumerate(keys)],
            )

    def find_curves(self, wish: CurveWish, limit: int) -> list[CurveKey]:
        """The newest curves that are wished for, by (time, serial, station, step) falling."""
        where, values = ["1"], []
        for column in ("serial", "station", "program"):
            if (value := getattr(wish, column)) is not None:
                where.append(f"{column} = ?")
                values.append(value)
        if wish.from_ns is not None:
            where, values = [*where, "time_ns >= ?"], [*values, wish.from_ns]
        if wish.to_ns is not None:
            where, values = [*where, "time_ns < ?"], [*values, wish.to_ns]
        if wish.before is not None:
            where.append("(time_ns, serial, station, step) < (?, ?, ?, ?)")
            values += wish.before
        with self._guard():
            rows = self._db.execute(
                "SELECT serial, time_ns, station, step, file, row, program FROM curves WHERE "
                f"{' AND '.join(where)} ORDER BY time_ns DESC, serial DESC, station DESC, step DESC"
                " LIMIT ?",
                [*values, limit],
            ).fetchall()
        return [CurveKey(*row) for row in rows]

    def curves_of(self, file: int) -> list[CurveKey]:
        """Keys of the curves that stand in a file, by (serial, time)."""
        with self._guard():
            rows = self._db.execute(
                "SELECT serial, time_ns, station, step, file, row, program FROM curves "
                "WHERE file = ? ORDER BY serial, time_ns, station, step",
                (file,),
            ).fetchall()
        return [CurveKey(*row) for row in rows]

    def move_curves(
        self, file: tuple[int, str, str, int, int, int], keys: Sequence[CurveKey]
    ) -> None:
        """Add a file that holds these curves in this order; they are found there from now on,
        but for those that were written anew meanwhile."""
        with self._guard():
            self._db.execute("INSERT INTO curve_files VALUES (?, ?, ?, ?, ?, ?)", file)
            self._db.executemany(
                "UPDATE curves SET file = ?, row = ?, program = ? WHERE serial = ? AND time_ns = ? "
                "AND station = ? AND step = ? AND file = ?",
                [
                    (file[0], row, k.program, k.serial, k.time_ns, k.station, k.step, k.file)
                    for row, k in enumerate(keys)
                ],
            )

    def curve_dates(self) -> dict[int, str]:
        """UTC date of each curve file, by id."""
        with self._guard():
            return dict(self._db.execute("SELECT id, date FROM curve_files").fetchall())

    def curve_files(self) -> list[tuple[int, str, int, int, int]]:
        """``(id, name, rows, bytes, max_time)`` of the curve files."""
        with self._guard():
            return self._db.execute(
                "SELECT id, file, rows, bytes, max_time FROM curve_files ORDER BY id"
            ).fetchall()

    def drop_curve_file(self, id: int) -> None:
        """Remove a curve file's row and keys."""
        with self._guard():
            self._db.execute("DELETE FROM curves WHERE file = ?", (id,))
            self._db.execute("DELETE FROM curve_files WHERE id = ?", (id,))
