"""The catalog's tables in PostgreSQL, for a history whose catalog a database server keeps."""

import os
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from workshop_brain.errors import ConfigError, DamageError, StoreError, StoreLockedError
from workshop_brain.store.historian.catalog_database import Row
from workshop_brain.store.settings import catalog_fault, url_option

_TIMEOUT_S = 30.0
_KEEPALIVES = (
    ("tcp_keepalives_idle", 10), ("tcp_keepalives_interval", 5), ("tcp_keepalives_count", 3)
)  # fmt: skip
"""So the server lets go of the lock of a connection that was cut within 25 s."""
_FULL, _DAMAGED = ("53100", "53200"), ("XX001", "XX002")
_LOCK = "hashtext('workshop-brain ' || current_schema())"


class Postgres:
    """One connection, made anew after it was lost; commits are synchronous, whatever the server's
    default is. A writer holds an advisory lock, so that one history alone uses the tables."""

    kinds: ClassVar[Mapping[str, str]] = {
        "int": "BIGINT", "real": "DOUBLE PRECISION", "blob": "BYTEA", "any": "BYTEA",
        "text": 'TEXT COLLATE "C"', "packed": "",
    }  # fmt: skip

    def __init__(self, url: str, *, password_env: str, read_only: bool) -> None:
        if fault := catalog_fault(url):
            raise ConfigError(f"history.catalog {url!r}: {fault}")
        try:
            from pg8000 import dbapi
        except ImportError as error:
            raise ConfigError(
                f"history.catalog {url!r}: the driver is missing; install workshop-brain[postgres]"
            ) from error
        self._driver: Any = dbapi
        self._url, self._password_env, self._read_only = url, password_env, read_only
        self._lock = threading.RLock()
        self._types: dict[str, dict[str, str]] = {}
        self._db: Any = None
        with self._guard():
            self._connect()

    @property
    def name(self) -> str:
        """The address."""
        return self._url

    def _connect(self) -> None:
        parts = urlsplit(self._url)
        context: ssl.SSLContext | None = None
        if (mode := url_option(self._url, "sslmode")) in ("require", "verify-full"):
            context = ssl.create_default_context()
            if mode == "require":
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._db = self._driver.connect(
            unquote(parts.username or "brain"),
            host=parts.hostname,
            port=parts.port or 5432,
            database=unquote(parts.path.strip("/")),
            password=os.environ.get(self._password_env) if self._password_env else None,
            ssl_context=context,
            timeout=_TIMEOUT_S,
            application_name="workshop-brain",
        )
        self._db.autocommit = True
        if schema := url_option(self._url, "schema"):
            quoted = '"' + schema.replace('"', '""') + '"'
            if not self._read_only:
                self._ask(f"CREATE SCHEMA IF NOT EXISTS {quoted}")
            self._ask(f"SET search_path TO {quoted}")
        self._ask("SET synchronous_commit TO on")
        for name, value in _KEEPALIVES:
            self._ask(f"SET {name} TO {value}")
        if self._read_only:
            self._ask("SET default_transaction_read_only TO on")
        elif not self._ask(f"SELECT pg_try_advisory_lock({_LOCK})")[0][0]:
            self._drop()
            raise StoreLockedError(
                f"{self._url}: another brain writes to these tables; stop it, or give another "
                "database or ?schema="
            )

    def _ask(self, sql: str, values: Row = ()) -> list[Any]:
        if self._db is None:
            self._connect()
        cursor = self._db.cursor()
        cursor.execute(sql.replace("?", "%s") if values else sql, [_escape(v) for v in values])
        return [_unescape(row) for row in cursor.fetchall()] if cursor.description else []

    def _drop(self) -> None:
        db, self._db = self._db, None
        with suppress(Exception):
            db.close()

    @contextmanager
    def _guard(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except self._driver.DatabaseError as error:
                raise self._told(error) from error
            except (self._driver.InterfaceError, OSError) as error:
                self._drop()
                raise StoreError(
                    f"{self._url}: the database cannot be reached ({error}); nothing acknowledged "
                    "is lost. Storing resumes by itself once it answers"
                ) from error

    def _told(self, error: Exception) -> StoreError:
        told = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
        code, text = str(told.get("C", "")), str(told.get("M", error))
        if code.startswith("57P"):  # the server is going down
            self._drop()
        if code in _FULL:
            return StoreError(
                f"{self._url}: the database's disk is full; nothing acknowledged is lost. Free "
                "some space there: storing resumes by itself"
            )
        if code in _DAMAGED:
            return DamageError(f"{self._url}: {text}; restore a backup ('brain restore')")
        return StoreError(f"{self._url}: {text}")

    def rows(self, sql: str, values: Row = ()) -> list[Any]:
        """Rows of one statement."""
        with self._guard():
            return self._ask(sql, values)

    def run(self, sql: str, values: Row = ()) -> None:
        """Run one statement."""
        with self._guard():
            self._ask(sql, values)
            if sql.startswith("ALTER"):
                self._types.clear()

    def run_many(self, sql: str, rows: Sequence[Row]) -> None:
        """Run one statement for each row of values."""
        with self._guard():
            for row in rows:
                self._ask(sql, row)

    def put(self, table: str, columns: str, key: str, rows: Sequence[Row]) -> None:
        """Add rows; one with the same key is replaced."""
        names, keys = columns.split(", "), key.split(", ")
        where = [names.index(k) for k in keys]
        distinct = list({tuple(row[k] for k in where): row for row in rows}.values())
        if not distinct:
            return
        others = [n for n in names if n not in keys]
        update = ", ".join(f"{n} = EXCLUDED.{n}" for n in others)
        kinds = [self.columns(table)[n] for n in names]
        clash = f"ON CONFLICT ({key}) DO UPDATE SET {update}"
        if "bytea" in kinds:
            marks = ", ".join("?" * len(names))
            self.run_many(f"INSERT INTO {table} ({columns}) VALUES ({marks}) {clash}", distinct)
            return
        arrays = ", ".join(f"?::{kind}[]" for kind in kinds)
        self.run(
            f"INSERT INTO {table} ({columns}) SELECT * FROM unnest({arrays}) {clash}",
            [list(column) for column in zip(*distinct, strict=True)],
        )

    def any(self, value: int | bytes) -> bytes:
        """Numbers as their digits: a column has one type here."""
        return value if isinstance(value, bytes) else str(value).encode()

    def columns(self, table: str) -> dict[str, str]:
        """Columns of a table with their types."""
        if table not in self._types:
            found = self.rows(
                "SELECT column_name, data_type FROM information_schema.columns "
                "WHERE table_schema = current_schema() AND table_name = ?",
                (table,),
            )
            self._types[table] = dict(tuple(row) for row in found)
        return self._types[table]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable at the end."""
        with self._between("BEGIN"):
            yield

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All reads see one moment."""
        with self._between("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"):
            yield

    @contextmanager
    def _between(self, begin: str) -> Iterator[None]:
        with self._guard():
            self._ask(begin)
            db = self._db
            try:
                yield
                if self._db is not db:
                    raise self._driver.InterfaceError("the connection was lost")
                self._ask("COMMIT")
            except BaseException:
                if self._db is db:
                    with suppress(self._driver.Error, OSError):
                        self._ask("ROLLBACK")
                raise

    def damage(self) -> list[str]:
        """Nothing: the server checks its pages itself when it is told to (data_checksums)."""
        return []

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._db is not None:
                self._drop()


def _escape(value: Any) -> Any:
    """PostgreSQL keeps no NUL in a text, machines send it."""
    if isinstance(value, list):
        return [_escape(v) for v in value]
    if isinstance(value, str) and ("\0" in value or "\ue000" in value):
        return value.replace("\ue000", "\ue000\ue001").replace("\0", "\ue000\ue002")
    return value


def _unescape(row: Row) -> Row:
    if any(isinstance(value, str) and "\ue000" in value for value in row):
        return [
            value.replace("\ue000\ue002", "\0").replace("\ue000\ue001", "\ue000")
            if isinstance(value, str)
            else value
            for value in row
        ]
    return row
