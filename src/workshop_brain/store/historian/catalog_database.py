"""What the catalog asks of a database, and SQLite, which answers by default."""

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol

from workshop_brain.errors import DamageError, StoreError

Row = Sequence[Any]


class Database(Protocol):
    """Tables behind one connection and a lock. Statements are SQL that both databases read, with
    ``?`` for values; every method raises StoreError, or DamageError where bytes have changed."""

    @property
    def kinds(self) -> Mapping[str, str]:
        """Column types (int, real, blob, any, text, packed) in the database's words."""
        ...

    @property
    def name(self) -> str:
        """File or address, for messages."""
        ...

    def rows(self, sql: str, values: Row = ()) -> list[Any]:
        """Rows of one statement."""
        ...

    def run(self, sql: str, values: Row = ()) -> None:
        """Run one statement."""
        ...

    def run_many(self, sql: str, rows: Sequence[Row]) -> None:
        """Run one statement for each row of values."""
        ...

    def put(self, table: str, columns: str, key: str, rows: Sequence[Row]) -> None:
        """Add rows; one with the same key is replaced."""
        ...

    def any(self, value: int | bytes) -> Any:
        """A value as a column of the kind ``any`` takes it."""
        ...

    def columns(self, table: str) -> dict[str, str]:
        """Columns of a table with their types."""
        ...

    def transaction(self) -> Any:
        """Context: all or nothing, durable at the end, one at a time."""
        ...

    def snapshot(self) -> Any:
        """Context: all reads see one moment."""
        ...

    def damage(self) -> list[str]:
        """What the database itself finds wrong with its bytes."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class Sqlite:
    """One file, or without a path one in memory; every commit is synced."""

    kinds: ClassVar[Mapping[str, str]] = {
        "int": "INTEGER", "real": "REAL", "blob": "BLOB", "any": "", "text": "TEXT",
        "packed": "WITHOUT ROWID",
    }  # fmt: skip

    def __init__(self, path: Path | None, *, read_only: bool) -> None:
        self._path = path
        self._lock = threading.RLock()
        mode = "ro" if read_only else "rwc"
        try:
            self._db = sqlite3.connect(
                "file::memory:" if path is None else f"{path.resolve().as_uri()}?mode={mode}",
                uri=True,
                check_same_thread=False,
                isolation_level=None,
                timeout=10.0,
            )
        except sqlite3.OperationalError as error:
            raise StoreError(f"{path}: cannot be opened ({error})") from error
        if not read_only:
            self.run("PRAGMA journal_mode=WAL")
            self.run("PRAGMA synchronous=FULL")

    @property
    def name(self) -> str:
        """The file."""
        return str(self._path)

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
                    f"{self._path}: {error}; restore a backup ('brain restore')"
                ) from error

    def rows(self, sql: str, values: Row = ()) -> list[Any]:
        """Rows of one statement."""
        with self._guard():
            return self._db.execute(sql, values).fetchall()

    def run(self, sql: str, values: Row = ()) -> None:
        """Run one statement."""
        with self._guard():
            self._db.execute(sql, values)

    def run_many(self, sql: str, rows: Sequence[Row]) -> None:
        """Run one statement for each row of values."""
        with self._guard():
            self._db.executemany(sql, rows)

    def put(self, table: str, columns: str, key: str, rows: Sequence[Row]) -> None:
        """Add rows; one with the same key is replaced."""
        marks = ", ".join("?" * (columns.count(",") + 1))
        self.run_many(f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({marks})", rows)

    def any(self, value: int | bytes) -> Any:
        """The value itself: a column may hold anything."""
        return value

    def columns(self, table: str) -> dict[str, str]:
        """Columns of a table with their types, and what else is declared of them."""
        found = self.rows(f"PRAGMA table_info({table})")
        return {name: f"{kind} {no_null} {key}" for _, name, kind, no_null, _, key in found}

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable at the end."""
        with self._between("BEGIN IMMEDIATE"):
            yield

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All reads see one moment."""
        with self._between("BEGIN"):
            yield

    @contextmanager
    def _between(self, begin: str) -> Iterator[None]:
        with self._guard():
            self._db.execute(begin)
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def damage(self) -> list[str]:
        """What SQLite finds wrong with the file."""
        try:
            found = [row[0] for row in self.rows("PRAGMA integrity_check(20)")]
        except StoreError as error:
            return [str(error).removeprefix(f"{self._path}: ")]
        return [] if found == ["ok"] else found

    def backup(self, there: sqlite3.Connection) -> None:
        """Copy everything as of one moment into another database."""
        with self._guard():
            self._db.backup(there)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._db.close()
