"""The catalog: which signals, texts, segments and curves there are. Its commit is visibility.

Rows carry a checksum of their own: a database finds a broken page, not a changed number.
"""

import os
import secrets
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import orjson

from workshop_brain.errors import DamageError, StoreError
from workshop_brain.model.signal import SignalDef, SignalKind
from workshop_brain.store.historian.catalog_database import Database, Row, Sqlite
from workshop_brain.store.historian.log import sync_directory

_TABLES = (
    """CREATE TABLE IF NOT EXISTS meta (
      key {text} PRIMARY KEY, value {any}, row_crc {int}) {packed}""",
    """CREATE TABLE IF NOT EXISTS signals (
      id {int} PRIMARY KEY, path {text} NOT NULL UNIQUE, kind {int} NOT NULL, unit {text} NOT NULL,
      low {real} NOT NULL, high {real} NOT NULL, source {text} NOT NULL, address {text} NOT NULL,
      row_crc {int})""",
    """CREATE TABLE IF NOT EXISTS texts (
      code {int} PRIMARY KEY, text {text} NOT NULL UNIQUE, row_crc {int})""",
    """CREATE TABLE IF NOT EXISTS sessions (
      source {text} NOT NULL, session {int} NOT NULL, seq {int} NOT NULL, row_crc {int},
      PRIMARY KEY (source, session)) {packed}""",
    """CREATE TABLE IF NOT EXISTS segments (
      id {int} PRIMARY KEY, unit {int} NOT NULL, bucket_ns {int} NOT NULL, date {text} NOT NULL,
      level {int} NOT NULL, file {text} NOT NULL, rows {int} NOT NULL, bytes {int} NOT NULL,
      min_time {int} NOT NULL, max_time {int} NOT NULL, min_signal {int} NOT NULL,
      max_signal {int} NOT NULL, epoch {int} NOT NULL, first_position {int} NOT NULL,
      last_position {int} NOT NULL, duplicates {int} NOT NULL, conflicts {int} NOT NULL,
      runs {blob} NOT NULL, file_crc {int}, row_crc {int})""",
    "CREATE INDEX IF NOT EXISTS segments_by_time ON segments (bucket_ns, max_time)",
    """CREATE TABLE IF NOT EXISTS curve_files (
      id {int} PRIMARY KEY, date {text} NOT NULL, file {text} NOT NULL, rows {int} NOT NULL,
      bytes {int} NOT NULL, max_time {int} NOT NULL, file_crc {int}, row_crc {int})""",
    """CREATE TABLE IF NOT EXISTS curves (
      serial {text} NOT NULL, time_ns {int} NOT NULL, station {text} NOT NULL, step {int} NOT NULL,
      file {int} NOT NULL, row {int} NOT NULL, program {text} NOT NULL DEFAULT '',
      PRIMARY KEY (serial, time_ns, station, step)) {packed}""",
    "CREATE INDEX IF NOT EXISTS curves_by_station ON curves (station, time_ns)",
    "CREATE INDEX IF NOT EXISTS curves_by_time ON curves (time_ns)",
    "CREATE INDEX IF NOT EXISTS curves_by_file ON curves (file)",
)
_CURVES_BY_PROGRAM = "CREATE INDEX IF NOT EXISTS curves_by_program ON curves (program, time_ns)"
_LATER = (
    ("curves", "program", "{text} NOT NULL DEFAULT ''"),
    *((t, "row_crc", "{int}") for t in ("meta", "signals", "texts", "sessions")),
    *((t, name, "{int}") for t in ("segments", "curve_files") for name in ("file_crc", "row_crc")),
)
"""Columns that catalogs of the first days did not have."""
FORMAT = 1
_ELSEWHERE = "catalog.json"
_SEGMENT = (
    "id, unit, bucket_ns, date, level, file, rows, bytes, min_time, max_time, min_signal, "
    "max_signal, epoch, first_position, last_position, duplicates, conflicts"
)
_KEPT = {
    "meta": ("key, value", "key"),
    "signals": ("id, path, kind, unit, low, high, source, address", "id"),
    "texts": ("code, text", "code"),
    "sessions": ("source, session, seq", "source, session"),
    "segments": (f"{_SEGMENT}, file_crc, runs", "id"),
    "curve_files": ("id, date, file, rows, bytes, max_time, file_crc", "id"),
}
"""Tables whose rows carry a checksum: columns under it, and key."""
_CURVE = "serial, time_ns, station, step, file, row, program"
_CURVE_KEY = "serial, time_ns, station, step"


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of rows. ``bucket_ns`` 0: raw rows; otherwise the rollup of the raw file ``unit``.

    ``epoch`` is the length of the signal registry when the file was written, ``file_crc`` the CRC32
    of the file (None: written before there was one).
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
    file_crc: int | None = None


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
    """What is in a history, in a database; every write is one transaction, fully synced.

    Parameters
    ----------
    path
        ``DATA/historian/catalog.sqlite``; where the catalog is elsewhere, ``catalog.json`` beside
        it says where.
    url, password_env
        Where to keep it: ``postgresql://user@host/database``, and the environment variable with
        the password. Without one it stays where it is, in the file at first.

    Raises
    ------
    DamageError
        The catalog is new but files of a history are there: whoever began anew would lose them.
    """

    def __init__(
        self, path: Path, *, read_only: bool, url: str = "", password_env: str = ""
    ) -> None:
        self._directory = path.parent
        place = _Place.of(path) or (_Place.new(url) if url else None)
        if place is None:
            self._db: Database = Sqlite(path, read_only=read_only)
        else:
            place = place.at(url, password_env)
            self._db = _open_elsewhere(place, read_only=read_only)
        try:
            if not read_only:
                if place is not None:
                    place.write(path)
                self._make(path, place)
            self._check(place)
            # a reader may come before the first writer of this version
            has_crcs = "file_crc" in self._db.columns("segments")
        except BaseException:
            self._db.close()
            raise
        self._file_crc, self._row_crc = ("file_crc", "row_crc") if has_crcs else ("NULL", "NULL")

    def _check(self, place: "_Place | None") -> None:
        found = self.meta("format", FORMAT)
        if found != FORMAT:
            raise StoreError(
                f"{self._db.name}: written in format {found}, this version reads format {FORMAT}; "
                "use a newer version"
            )
        if place is not None and self.blob("identity").decode() != place.identity:
            raise StoreError(
                f"{self._db.name}: holds the catalog of another history than {self._directory}; "
                "give another database or ?schema="
            )

    def _make(self, path: Path, place: "_Place | None") -> None:
        """Begin the catalog, or bring it to where this version needs it."""
        _make_tables(self._db)
        if not self._db.rows("SELECT key FROM meta WHERE key = 'format'"):
            with self._db.transaction():
                if place is not None:
                    self.set_meta("identity", place.identity.encode())
                if place is not None and path.exists():
                    with closing(Sqlite(path, read_only=False)) as before:
                        _make_tables(before)
                        _copy_tables(before, self._db)
                else:
                    self._refuse_orphans()
                    self.set_meta("format", FORMAT)
        if place is not None and path.exists():
            self._check(place)
            path.replace(path.with_name(path.name + ".moved"))

    def _refuse_orphans(self) -> None:
        tops = ("segments", "rollups", "curves")
        if any(p for top in tops for p in (self._directory / top).rglob("*.parquet")):
            raise DamageError(
                f"{self._db.name}: the catalog is missing or empty, but {self._directory} holds "
                "files of a history, which nobody can read without it; restore a backup ('brain "
                "restore')"
            )

    def copy_to(self, path: Path) -> Path:
        """Copy the catalog as of one moment into a new SQLite file, while others write."""
        path.unlink(missing_ok=True)
        if not isinstance(self._db, Sqlite):
            with closing(Sqlite(path, read_only=False)) as made:
                _make_tables(made)
                with self._db.snapshot(), made.transaction():
                    _copy_tables(self._db, made)
                made.run("DELETE FROM meta WHERE key = 'identity'")
                made.run("PRAGMA journal_mode=DELETE")
            return path
        with closing(sqlite3.connect(path)) as there:
            self._db.backup(there)
            there.execute("PRAGMA journal_mode=DELETE")  # one file, which a reader can open
        return path

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable at the end."""
        with self._db.transaction():
            yield

    def _put(self, table: str, rows: Iterable[Row]) -> None:
        columns, key = _KEPT[table]
        sealed = [(*row, row_crc(row)) for row in rows]
        self._db.put(table, f"{columns}, row_crc", key, sealed)

    def meta(self, key: str, default: int) -> int:
        """A number kept under a key."""
        rows = self._db.rows("SELECT value FROM meta WHERE key = ?", (key,))
        return int(rows[0][0]) if rows else default

    def set_meta(self, key: str, value: int | bytes) -> None:
        """Keep a number or bytes under a key."""
        self._put("meta", [(key, self._db.any(value))])

    def blob(self, key: str) -> bytes:
        """Bytes kept under a key; empty when there are none."""
        rows = self._db.rows("SELECT value FROM meta WHERE key = ?", (key,))
        return bytes(rows[0][0]) if rows else b""

    def signals(self, start: int = 0) -> list[SignalDef]:
        """Registered signals from an id on; position = id - start."""
        rows = self._db.rows(
            "SELECT path, kind, unit, low, high, source, address FROM signals "
            "WHERE id >= ? ORDER BY id",
            (start,),
        )
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
            self._put(
                "signals",
                [
                    (id, s.path, int(s.kind), s.unit, float(s.low), float(s.high), s.source,
                     s.address)
                    for id, s in rows
                ],
            )  # fmt: skip

    def texts(self, start: int = 0) -> list[str]:
        """Texts from a code on, in order of the codes."""
        rows = self._db.rows("SELECT text FROM texts WHERE code >= ? ORDER BY code", (start,))
        return [row[0] for row in rows]

    def put_texts(self, first: int, texts: Sequence[str]) -> None:
        """Add texts with the codes ``first``.. ."""
        with self.transaction():
            self._put("texts", enumerate(texts, start=first))

    def sessions(self) -> dict[tuple[str, int], int]:
        """Highest sealed sequence number of each source's session."""
        rows = self._db.rows("SELECT source, session, seq FROM sessions")
        return {(source, session): seq for source, session, seq in rows}

    def forget_sessions(self, sources: Iterable[str]) -> None:
        """Forget all sequence numbers of some sources."""
        with self.transaction():
            self._db.run_many("DELETE FROM sessions WHERE source = ?", [(s,) for s in sources])

    def put_sessions(self, sessions: dict[tuple[str, int], int]) -> None:
        """Keep sequence numbers."""
        rows = [(source, session, seq) for (source, session), seq in sessions.items()]
        self._put("sessions", rows)

    def next_id(self) -> int:
        """An id no segment or curve file has had."""
        with self._db.transaction():
            value = self.meta("next_id", 1)
            self.set_meta("next_id", value + 1)
        return value

    def add_segment(self, segment: Segment, runs: bytes) -> None:
        """Add one file's row."""
        values = [getattr(segment, name) for name in _SEGMENT.split(", ")]
        self._put("segments", [[*values, segment.file_crc, runs]])

    def drop_segments(self, ids: Sequence[int]) -> None:
        """Remove files' rows."""
        self._db.run_many("DELETE FROM segments WHERE id = ?", [(i,) for i in ids])

    def segments(
        self, from_ns: int | None = None, to_ns: int | None = None, *, bucket_ns: int | None = 0
    ) -> list[Segment]:
        """Files that touch ``from_ns <= t < to_ns``, in the order of the log.

        ``bucket_ns`` 0: raw files; None: every kind.
        """
        sql, values = f"SELECT {_SEGMENT}, {self._file_crc} FROM segments WHERE 1 = 1", []
        if bucket_ns is not None:
            sql, values = sql + " AND bucket_ns = ?", [bucket_ns]
        if from_ns is not None:
            sql, values = sql + " AND max_time >= ?", [*values, from_ns]
        if to_ns is not None:
            sql, values = sql + " AND min_time < ?", [*values, to_ns]
        rows = self._db.rows(sql + " ORDER BY last_position, id", values)
        return [Segment(*row) for row in rows]

    def look(self, from_ns: int, to_ns: int) -> tuple[int, list[Segment]]:
        """Sealed log position and raw files of the same moment, for a reader beside the writer."""
        with self._db.snapshot():
            return self.meta("sealed", 0), self.segments(from_ns, to_ns)

    def runs(self, id: int) -> bytes | None:
        """Packed run index of a file; None when the file is gone."""
        rows = self._db.rows("SELECT runs FROM segments WHERE id = ?", (id,))
        return bytes(rows[0][0]) if rows else None

    def add_curves(
        self,
        file: tuple[int, str, str, int, int, int],
        keys: Sequence[tuple[str, int, str, int, str]],
    ) -> None:
        """Add a file ``(id, date, name, rows, bytes, max_time)`` and its curves' keys
        ``(serial, time_ns, station, step, program)``, in the order of the rows."""
        self._put("curve_files", [(*file, file_crc(self._directory / file[2]))])
        rows = [(*key[:4], file[0], row, key[4]) for row, key in enumerate(keys)]
        self._db.put("curves", _CURVE, _CURVE_KEY, rows)

    def find_curves(self, wish: CurveWish, limit: int) -> list[CurveKey]:
        """The newest curves that are wished for, by (time, serial, station, step) falling."""
        where, values = ["1 = 1"], []
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
        rows = self._db.rows(
            f"SELECT {_CURVE} FROM curves WHERE {' AND '.join(where)} "
            "ORDER BY time_ns DESC, serial DESC, station DESC, step DESC LIMIT ?",
            [*values, limit],
        )
        return [CurveKey(*row) for row in rows]

    def curves_of(self, file: int) -> list[CurveKey]:
        """Keys of the curves that stand in a file, by (serial, time)."""
        rows = self._db.rows(
            f"SELECT {_CURVE} FROM curves WHERE file = ? ORDER BY {_CURVE_KEY}", (file,)
        )
        return [CurveKey(*row) for row in rows]

    def move_curves(
        self, file: tuple[int, str, str, int, int, int], keys: Sequence[CurveKey]
    ) -> None:
        """Add a file that holds these curves in this order; they are found there from now on,
        but for those that were written anew meanwhile."""
        self._put("curve_files", [(*file, file_crc(self._directory / file[2]))])
        self._db.run_many(
            "UPDATE curves SET file = ?, row = ?, program = ? WHERE serial = ? AND time_ns = ? "
            "AND station = ? AND step = ? AND file = ?",
            [
                (file[0], row, k.program, k.serial, k.time_ns, k.station, k.step, k.file)
                for row, k in enumerate(keys)
            ],
        )

    def curve_dates(self) -> dict[int, str]:
        """UTC date of each curve file, by id."""
        return dict(tuple(row) for row in self._db.rows("SELECT id, date FROM curve_files"))

    def curve_files(self) -> list[tuple[int, str, int, int, int]]:
        """``(id, name, rows, bytes, max_time)`` of the curve files."""
        rows = self._db.rows("SELECT id, file, rows, bytes, max_time FROM curve_files ORDER BY id")
        return [(id, name, n, size, newest) for id, name, n, size, newest in rows]

    def drop_curve_file(self, id: int) -> None:
        """Remove a curve file's row and keys."""
        self._db.run("DELETE FROM curves WHERE file = ?", (id,))
        self._db.run("DELETE FROM curve_files WHERE id = ?", (id,))

    def file_crcs(self) -> dict[str, int | None]:
        """CRC32 of each file by its name; None: written before there was one."""
        tables = ("segments", "curve_files")
        found = [self._db.rows(f"SELECT file, {self._file_crc} FROM {table}") for table in tables]
        return {name: crc for rows in found for name, crc in rows}

    def faults(self) -> list[str]:
        """What is wrong inside of the catalog: pages, tables, rows, and numbers without gaps."""
        if found := self._db.damage():
            return found
        out = self._changed_tables()
        if out:
            return out
        for table, (columns, key) in _KEPT.items():
            keys, n = columns.split(", "), key.count(",") + 1
            where = [keys.index(k) for k in key.split(", ")]
            names = columns.replace("file_crc", self._file_crc)
            for *row, crc in self._db.rows(f"SELECT {names}, {self._row_crc} FROM {table}"):
                if crc is not None and crc != row_crc(row):
                    name = ", ".join(repr(row[k]) for k in where[:n])
                    out.append(f"table {table}: the row {name} has changed")
        for table, key in (("signals", "id"), ("texts", "code")):
            ((count, last),) = self._db.rows(f"SELECT count(*), max({key}) FROM {table}")
            if count and last != count - 1:
                out.append(f"table {table}: {last + 1 - count} rows are missing")
        return out

    def _changed_tables(self) -> list[str]:
        """SQLite keeps its columns' types as text, which no page check covers."""
        if not isinstance(self._db, Sqlite):
            return []
        out = []
        with closing(Sqlite(None, read_only=False)) as fresh:
            _make_tables(fresh)
            later = {name for _, name, _ in _LATER}
            for table in (*_KEPT, "curves"):
                found, right = self._db.columns(table), fresh.columns(table)
                if found != {n: k for n, k in right.items() if n in found or n not in later}:
                    out.append(f"table {table}: its columns have changed")
        return out


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a catalog is that is not beside its files, and of which history it must be."""

    url: str
    password_env: str
    identity: str

    @classmethod
    def new(cls, url: str) -> "_Place":
        return cls(url, "", secrets.token_hex(16))

    @classmethod
    def of(cls, path: Path) -> "_Place | None":
        place = path.with_name(_ELSEWHERE)
        try:
            return cls(**orjson.loads(place.read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise DamageError(f"{place}: is damaged ({error}); take it from a backup") from error

    def at(self, url: str, password_env: str) -> "_Place":
        """The same at another address."""
        return replace(self, url=url, password_env=password_env) if url else self

    def write(self, path: Path) -> None:
        if self == self.of(path):
            return
        place = path.with_name(_ELSEWHERE)
        part = place.with_suffix(".part")
        with part.open("wb") as file:
            file.write(orjson.dumps(asdict(self)))
            file.flush()
            os.fsync(file.fileno())
        part.replace(place)
        sync_directory(path.parent)


def _open_elsewhere(place: _Place, *, read_only: bool) -> Database:
    from workshop_brain.store.historian.catalog_postgres import Postgres

    return Postgres(place.url, password_env=place.password_env, read_only=read_only)


def catalog_exists(directory: Path) -> bool:
    """Whether a history has begun below a directory."""
    return any((directory / name).exists() for name in ("catalog.sqlite", _ELSEWHERE))


def _make_tables(db: Database) -> None:
    """Bring tables to where this version needs them."""
    for statement in _TABLES:
        db.run(statement.format_map(db.kinds))
    for table, name, kind in _LATER:
        if name not in db.columns(table):
            db.run(f"ALTER TABLE {table} ADD COLUMN {name} {kind.format_map(db.kinds)}")
    db.run(_CURVES_BY_PROGRAM)


def _copy_tables(source: Database, target: Database) -> None:
    """Copy every row; DamageError when one has changed."""
    for table, (columns, key) in _KEPT.items():
        rows = []
        for *row, crc in source.rows(f"SELECT {columns}, row_crc FROM {table}"):
            if crc is not None and crc != row_crc(row):
                raise DamageError(
                    f"{source.name}: table {table}: the row {row[0]!r} has changed; restore a "
                    "backup ('brain restore')"
                )
            values = [row[0], target.any(row[1])] if table == "meta" else row
            rows.append((*values, row_crc(values)))
        target.put(table, f"{columns}, row_crc", key, rows)
    target.put("curves", _CURVE, _CURVE_KEY, source.rows(f"SELECT {_CURVE} FROM curves"))


def row_crc(row: Row) -> int:
    """CRC32 of a row's values, whatever the database."""
    crc = 0
    for value in row:
        part = value if isinstance(value, bytes) else repr(value).encode("utf-8", "replace")
        crc = zlib.crc32(part, zlib.crc32(b"|", crc))
    return crc


def file_crc(path: Path) -> int:
    """CRC32 of a whole file."""
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            crc = zlib.crc32(chunk, crc)
    return crc
