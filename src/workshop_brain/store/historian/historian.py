"""The embedded historian: one writer, many readers, nothing acknowledged is ever lost."""

import difflib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from workshop_brain.errors import DamageError, DiskError, StoreError
from workshop_brain.model.curve import Curve
from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.store.historian import curves as curve_files
from workshop_brain.store.historian import log as wal
from workshop_brain.store.historian import query as reading
from workshop_brain.store.historian import restated as restating
from workshop_brain.store.historian.catalog import (
    Catalog,
    CurveKey,
    CurveWish,
    Segment,
    catalog_exists,
)
from workshop_brain.store.historian.last import LastValues
from workshop_brain.store.historian.memtable import (
    ColumnPool,
    Memtable,
    concat,
    curve_size,
    slice_of,
)
from workshop_brain.store.historian.partition import ODD
from workshop_brain.store.historian.rollup import Buckets
from workshop_brain.store.historian.sealer import Believed, Sealer
from workshop_brain.store.historian.tail import LogTail, pack_samples, unpack_samples
from workshop_brain.store.historian.upkeep import Upkeep
from workshop_brain.store.lock import DataLock
from workshop_brain.store.settings import HistorianSettings
from workshop_brain.units import NS_PER_DAY, NS_PER_H

T = TypeVar("T")
_log = logging.getLogger(__name__)
_LOOKS = 20


@dataclass(frozen=True, slots=True)
class _Frozen:
    """A memory table on its way to a file, with the sequence numbers committed beside it."""

    table: Memtable
    sessions: dict[tuple[str, int], int]


class _Stopped(Exception):
    """The historian is closing while files are being merged."""


class Historian:
    """Keeps every sample and curve below one directory (``DATA/historian``).

    ``append`` and ``sync`` may be called from different threads; reads from any. A second process
    opens the same directory with ``read_only=True`` and sees everything appended so far.

    Raises
    ------
    StoreLockedError
        A second writer on the same directory.
    DamageError
        Acknowledged frames of the log are damaged; ``repair=True`` keeps every valid one.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        read_only: bool = False,
        repair: bool = False,
        settings: HistorianSettings | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._directory = Path(path)
        self._clock = clock
        self._settings = settings or HistorianSettings()
        self._read_only = read_only
        self._changed = threading.Condition(threading.RLock())
        self._stop = threading.Event()
        self._frozen: list[_Frozen] = []
        self._pool = ColumnPool(self._settings.tables + 2)
        self._fault = ""
        self._appended = 0
        self._lock_file: DataLock | None = None
        if read_only:
            self._open_reader()
        else:
            self._open_writer(repair)

    # -- opening and closing

    def _open_reader(self) -> None:
        if not catalog_exists(self._directory):
            raise StoreError(
                f"{self._directory}: no history here; give the data directory of a brain that has "
                "run, with --data"
            )
        self._catalog = Catalog(self._directory / "catalog.sqlite", read_only=True)
        self._tail = LogTail(self._directory / "wal")
        self._load()

    def _open_writer(self, repair: bool) -> None:
        self._lock_file = DataLock(self._directory)
        try:
            (self._directory / "wal").mkdir(parents=True, exist_ok=True)
            wal.sync_directory(self._directory)
            self._catalog = Catalog(
                self._directory / "catalog.sqlite", read_only=False, url=self._settings.catalog,
                password_env=self._settings.catalog_password_env,
            )  # fmt: skip
            self._upkeep = Upkeep(self._directory, self._catalog, self._settings)
            self._load()
            self._recover(repair)
        except BaseException:
            self._lock_file.release()
            raise
        self._sealer = Sealer(
            self._directory, self._catalog, self._settings, self._believed, self._sealed_last,
            self._pool,
        )  # fmt: skip
        self._thread = threading.Thread(target=self._work, name="historian", daemon=True)
        self._thread.start()
        if self._table.rows >= self._settings.seal_rows:
            with self._changed:
                self._freeze()  # so that a brain that keeps crashing does not pile up its log
        if repair:
            self.seal()  # what is sealed needs no log: the damage is not met again

    def _load(self) -> None:
        self._signals = self._catalog.signals()
        self._ids = {s.path: i for i, s in enumerate(self._signals)}
        self._texts = self._catalog.texts()
        self._codes = {t: i for i, t in enumerate(self._texts)}
        self._files = reading.Files(self._directory, self._catalog)
        self._sealed_last = LastValues.unpack(self._catalog.blob("last_values"))
        self._last = LastValues.unpack(self._catalog.blob("last_values"))
        self._folded: tuple[int, int] = (0, 0)
        newest = [s.max_time for s in self._catalog.segments() if s.date not in ODD]
        self._believed = Believed(self._clock, self._sealed_last, max(newest, default=0))

    def _recover(self, repair: bool) -> None:
        from workshop_brain.store.historian.seal import remove_orphans

        sealed = self._catalog.meta("sealed", 0)
        recovery = wal.recover(self._directory / "wal", sealed=sealed, repair=repair)
        for path in remove_orphans(self._directory, self._catalog):
            _log.info("removed %s, which was never committed", path)
        frames = recovery.frames
        position = frames[-1].position if frames else sealed
        self._seqs = self._catalog.sessions()
        rows = sum(f.length // 21 for f in frames)
        self._table = self._new_table(sealed + 1, rows + self._settings.seal_rows)
        for frame in frames:
            self._replay(frame)
        self._durable_seqs = dict(self._seqs)
        self._unsynced: dict[tuple[str, int], int] = {}
        self._wal = wal.LogWriter(self._directory / "wal", position=position, last=recovery.last)

    def _replay(self, frame: wal.Frame) -> None:
        body = wal.read_body(frame)
        if frame.kind == wal.CURVE:
            curve, source, session, seq = curve_files.unpack(body)
            self._table.add_curve(curve, frame.position)
        else:
            samples, source, session, seq = unpack_samples(body)
            self._table.stage(samples)
            self._table.show(len(samples), frame.position)
        if seq > self._seqs.get((source, session), 0):
            self._seqs[source, session] = seq

    def _new_table(self, position: int, capacity: int) -> Memtable:
        return Memtable(capacity, position, started_s=time.monotonic(), pool=self._pool)

    def close(self) -> None:
        """Make everything durable and stop; what is not sealed yet stays in the log."""
        if self._read_only:
            self._catalog.close()
            return
        if self._stop.is_set():
            return
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join()
        self._sealer.close()
        try:
            self._wal.close()
        finally:
            self._files.clear()
            self._catalog.close()
            if self._lock_file is not None:
                self._lock_file.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- registry

    def declare(self, signals: Sequence[SignalDef]) -> list[int]:
        """Registry ids of the signals; unknown paths are added durably, known ones updated."""
        with self._changed:
            rows: dict[int, SignalDef] = {}
            added: dict[str, int] = {}
            ids = []
            for signal in signals:
                id = self._ids.get(signal.path, added.get(signal.path))
                if id is None:
                    id = added[signal.path] = len(self._signals) + len(added)
                    rows[id] = signal
                elif id not in rows and self._signals[id] != signal:
                    self._check_kind(self._signals[id], signal)
                    rows[id] = signal
                ids.append(id)
            if rows:
                self._writable()
                self._catalog.put_signals(rows.items())
            for id, signal in sorted(rows.items()):
                if id == len(self._signals):
                    self._signals.append(signal)
                    self._ids[signal.path] = id
                else:
                    self._signals[id] = signal
            return ids

    @staticmethod
    def _check_kind(old: SignalDef, new: SignalDef) -> None:
        if (old.kind is SignalKind.TEXT) != (new.kind is SignalKind.TEXT):
            raise StoreError(
                f"signal {new.path!r} is stored as {old.kind.name} and cannot become "
                f"{new.kind.name}: give the new signal another path"
            )

    def intern(self, texts: Sequence[str]) -> list[int]:
        """Dictionary codes of texts; unknown ones are added durably."""
        with self._changed:
            new = [t for t in dict.fromkeys(texts) if t not in self._codes]
            if new:
                self._writable()
                self._catalog.put_texts(len(self._texts), new)
                self._codes.update({t: len(self._texts) + k for k, t in enumerate(new)})
                self._texts += new
            return [self._codes[t] for t in texts]

    def signals(self) -> list[SignalDef]:
        """Registered signals; position = id."""
        with self._changed:
            self._refresh()
            return list(self._signals)

    def texts(self, codes: Sequence[int]) -> list[str]:
        """Texts of dictionary codes; "" for a code that does not exist."""
        with self._changed:
            if any(code >= len(self._texts) for code in codes):
                self._refresh()
            n = len(self._texts)
            return [self._texts[code] if 0 <= code < n else "" for code in codes]

    def _refresh(self) -> None:
        if not self._read_only:
            return
        for signal in self._catalog.signals(len(self._signals)):
            self._ids[signal.path] = len(self._signals)
            self._signals.append(signal)
        self._texts += self._catalog.texts(len(self._texts))

    def _writable(self) -> None:
        if self._read_only:
            raise StoreError(f"{self._directory}: opened for reading only")
        if self._stop.is_set():
            raise StoreError(f"{self._directory}: this historian has been closed")

    # -- writing

    def append(self, samples: Samples, *, source: str, session: int, seq: int) -> int:
        """Copy one batch into the log and return its log position; durable after ``sync``.

        seq
            From 1 on, rising. At or below the last one of its source's session: ignored.

        Raises
        ------
        StoreError
            Disk full or unwritable: the batch is not in the log and may be appended again.
        ValueError
            Columns of different lengths or types, or an id that is not registered.
        """
        self._writable()
        _check(samples, len(self._signals))
        with self._changed:
            if seq <= self._seqs.get((source, session), 0):
                return self._wal.position
            table = self._room(len(samples))
            parts = pack_samples(table.stage(samples), source=source, session=session, seq=seq)
            position = self._wal.append(wal.SAMPLES, parts)
            table.show(len(samples), position)
            self._appended += len(samples)
            self._seqs[source, session] = self._unsynced[source, session] = seq
            return position

    def append_curve(
        self, curve: Curve, *, source: str = "", session: int = 0, seq: int = 0
    ) -> int:
        """Put one curve into the log and return its log position; durable after ``sync``.

        Curves share the sequence numbers of their source's batches; 0 means not numbered.
        """
        self._writable()
        curve_files.check(curve)
        body = curve_files.pack(curve, source=source, session=session, seq=seq)
        with self._changed:
            if seq and seq <= self._seqs.get((source, session), 0):
                return self._wal.position
            table = self._room(0, curve_size(curve))
            position = self._wal.append(wal.CURVE, [body])
            table.add_curve(curve, position)
            if seq:
                self._seqs[source, session] = self._unsynced[source, session] = seq
            return position

    def sync(self) -> None:
        """Make everything appended so far durable; StoreError when it is not (call again)."""
        with self._changed:
            moved, self._unsynced = self._unsynced, {}
        try:
            self._wal.sync()
        except StoreError:
            with self._changed:
                self._unsynced = {**moved, **self._unsynced}
            raise
        with self._changed:
            self._durable_seqs.update(moved)

    def last_seq(self, source: str, session: int) -> int:
        """Highest durable sequence number of a source's session; 0 when there is none."""
        return self._durable_seqs.get((source, session), 0)

    def forget_sessions(self, keep: Callable[[str], bool]) -> int:
        """Forget the sequence numbers of sources whose name ``keep`` refuses; how many sessions.

        What comes again under such a name is appended anew. Samples are not touched.
        """
        self._writable()
        with self._changed:
            gone = [key for key in self._seqs if not keep(key[0]) and key not in self._unsynced]
            for key in gone:
                del self._seqs[key]
                self._durable_seqs.pop(key, None)
        self._catalog.forget_sessions({source for source, _ in gone})
        return len(gone)

    def _room(self, rows: int, curve_bytes: int = 0) -> Memtable:
        """A memory table with room for the rows; waits when sealing is far behind."""
        if self._table.is_empty:
            self._table.started_s = time.monotonic()
        too_much = self._table.curve_bytes + curve_bytes > self._settings.seal_curve_bytes
        if not self._table.room(rows) or (curve_bytes and too_much and self._table.curves):
            self._freeze(rows)
            limit = self._settings.tables
            self._changed.wait_for(lambda: len(self._frozen) <= limit or bool(self._fault))
            if len(self._frozen) > limit:
                raise StoreError(f"history cannot be sealed and memory is used up: {self._fault}")
        return self._table

    def _freeze(self, rows: int = 0) -> None:
        if not self._table.is_empty:
            self._frozen.append(_Frozen(self._table, dict(self._seqs)))
            self._wal.rotate()
        capacity = max(self._settings.seal_rows, rows)
        self._table = self._new_table(self._wal.position + 1, capacity)
        self._changed.notify_all()

    # -- the sealing thread

    def _work(self) -> None:
        from workshop_brain.store.historian import sort

        sort.warm_up()
        pa.array(np.zeros(1))  # the first one looks for pandas, which takes 0.15 s to load
        pause = 1.0
        while not self._stop.is_set():
            with self._changed:
                self._changed.wait_for(self._is_due, timeout=0.5)
                if not self._is_due() or self._stop.is_set():
                    continue
                if not self._frozen:
                    self._freeze()
                job = self._frozen[0]
            try:
                self._seal(job)
                self._tidy()
                pause = 1.0
            except _Stopped:
                return
            except Exception as error:  # noqa: BLE001 - the edge of this task
                _log.exception("sealing failed; tried again in %.0f s", pause)
                with self._changed:
                    self._fault = f"{type(error).__name__}: {error}"
                    self._changed.notify_all()
                self._stop.wait(pause)
                pause = min(2 * pause, 30.0)

    def _is_due(self) -> bool:
        if self._frozen or self._stop.is_set():
            return True
        age = time.monotonic() - self._table.started_s
        return age >= self._settings.seal_s and not self._table.is_empty

    def _seal(self, job: _Frozen) -> None:
        with self._changed:
            signals, tables = list(self._signals), [f.table for f in self._frozen]
        self._sealer.seal(tables, job.sessions, signals)
        with self._changed:
            if self._folded[0] <= job.table.first_position:
                self._last.extend(len(signals))
                self._last.merge(self._sealed_last, self._believed.latest_ns)
                self._folded = (job.table.last_position + 1, 0)
            self._frozen.remove(job)
            self._fault = ""
            self._changed.notify_all()
        self._wal.drop(job.table.last_position)

    def _tidy(self) -> None:
        """Merge what has accumulated and drop what is past its time."""
        while self._upkeep.merge_once(self._pace):
            pass
        if (
            median := self._believed.median_ns()
        ) is not None:  # one wrong clock must not empty the store
            self._upkeep.retain(min(median, self._clock() + NS_PER_DAY))

    def _check_stop(self, busy_s: float) -> None:
        if self._stop.is_set():
            raise _Stopped

    def _pace(self, busy_s: float) -> None:
        """Merging takes at most half of a core, unless sealing waits for it."""
        if self._stop.wait(0.0 if self._frozen else busy_s):
            raise _Stopped

    def drop_before(self, time_ns: int, *, rollups: bool = False, keep_curves: bool = False) -> int:
        """Drop raw files and curves (or rollups) whose newest sample is older; how many.

        Rows with times that cannot be right stay.
        """
        self._writable()
        dropped = 0 if rollups or keep_curves else self._upkeep.drop_curves_before(time_ns)
        return dropped + self._upkeep.drop_before(time_ns, rollups=rollups)

    def drop_curves_before(self, time_ns: int) -> int:
        """Drop files of curves whose newest curve is older; how many."""
        self._writable()
        return self._upkeep.drop_curves_before(time_ns)

    def seal(self) -> None:
        """Turn everything appended so far into files and wait for it; StoreError when it fails."""
        self._writable()
        with self._changed:
            if not self._table.is_empty:
                self._freeze()
            self._fault = ""
            self._changed.wait_for(lambda: not self._frozen or bool(self._fault))
            if self._frozen:
                raise StoreError(f"history cannot be sealed: {self._fault}")

    def compact(self) -> None:
        """Seal, then merge the files of every date now, few or many."""
        self.seal()
        while self._upkeep.merge_once(self._check_stop, at_least=2):
            pass

    # -- reading

    def query(
        self,
        signals: Sequence[str],
        from_ns: int,
        to_ns: int,
        *,
        points: int | None = None,
        method: str = "minmax",
        restated: bool = False,
    ) -> pa.Table:
        """History of signals, ``from_ns <= t < to_ns``, signals in the order asked for.

        Without ``points``: path, time_ns, value, quality, text; one row per (signal, time).
        With ``points``: path, time_ns, min, max, avg, count, first, last per bucket; buckets are
        aligned to 1 s from 1 s width on, to 1 min from 1 min on and to 1 h from half an hour on.
        With ``restated`` too: ``restated_ns``, when late rows changed a minute of the bucket that
        had been rolled up (null: never), by the brain's clock.
        With ``points`` and ``method="lttb"``: the columns without points, at most ``points`` rows
        of each signal, chosen so that the drawn line keeps its shape; text signals are refused.

        Raises
        ------
        StoreError
            An unknown signal; the message names similar ones.
        DamageError
            A stored file has changed.
        """
        if to_ns <= from_ns:
            raise ValueError(f"query: from {from_ns} must be before to {to_ns}")
        if points is not None and points < 1:
            raise ValueError(f"query: points must be >= 1, got {points}")
        ids = self._find(list(dict.fromkeys(signals)))
        if not ids:
            schema = reading.RAW_SCHEMA if points is None else reading.BUCKET_SCHEMA
            return schema.empty_table()
        chosen = np.unique(np.asarray(ids, np.uint32))
        if points is None:
            rows = self._rows(chosen, from_ns, to_ns)
            return reading.raw_table(rows, ids, self._signals, self.texts)
        if method != "minmax":
            return self._triangles(ids, chosen, from_ns, to_ns, points, method)
        width = reading.bucket_width(from_ns, to_ns, points)
        buckets = self._buckets(chosen, from_ns, to_ns, width)
        table = reading.bucket_table(buckets, ids, self._signals)
        return self._with_marks(table, ids, width) if restated else table

    def restated(self, signals: Sequence[str], from_ns: int, to_ns: int) -> pa.Table:
        """``path, from_ns, to_ns, rows, at_ns``: minutes ``from_ns <= t < to_ns`` that had been
        rolled up when late rows changed them at ``at_ns`` (the brain's clock); oldest mark first.
        """
        marks = self._marks(np.array(self._find(signals), np.uint32), from_ns, to_ns)
        paths = [self._signals[id].path for id in marks.signal]
        return pa.table(
            {
                "path": pa.array(paths, pa.string()),
                "from_ns": marks.from_ns,
                "to_ns": marks.to_ns,
                "rows": marks.rows,
                "at_ns": marks.at_ns,
            }
        )

    def _marks(self, chosen: NDArray[np.uint32], from_ns: int, to_ns: int) -> restating.Marks:
        marks = restating.Marks.unpack(self._catalog.blob(restating.RESTATED))
        return marks.of(chosen, from_ns, to_ns)

    def _with_marks(self, table: pa.Table, ids: Sequence[int], width: int) -> pa.Table:
        at = np.zeros(len(table), np.int64)
        if len(table):
            slot = table["path"].combine_chunks().indices.to_numpy()
            time_ns = table["time_ns"].to_numpy()
            marks = self._marks(
                np.array(ids, np.uint32), int(time_ns.min()), int(time_ns.max()) + width
            )
            for k, id in enumerate(ids):
                found = marks.take(marks.signal == id)
                if len(found):
                    rows = np.flatnonzero(slot == k)
                    at[rows] = restating.newest_mark(found, time_ns[rows], width)
        return table.append_column("restated_ns", pa.array(at, mask=at == 0))

    def _rows(self, chosen: NDArray[np.uint32], from_ns: int, to_ns: int) -> Samples:
        return self._steady(
            lambda: reading.read_rows(
                self._files, self._snapshot(from_ns, to_ns), chosen, from_ns, to_ns
            )
        )

    def _triangles(
        self,
        ids: Sequence[int],
        chosen: NDArray[np.uint32],
        from_ns: int,
        to_ns: int,
        points: int,
        method: str,
    ) -> pa.Table:
        if method != "lttb" or points < 2:
            raise ValueError(
                f"query: method must be minmax, or lttb with 2 points or more; got {method!r} "
                f"with {points}"
            )
        self._refuse_texts(ids, "lttb")
        parts = [
            reading.decimate(self._rows(chosen[k : k + 1], from_ns, to_ns), points)
            for k in range(len(chosen))  # one at a time: raw rows of many signals fill the memory
        ]
        return reading.raw_table(concat(parts), ids, self._signals, self.texts)

    def _refuse_texts(self, ids: Sequence[int], what: str) -> None:
        for id in ids:
            if self._signals[id].kind is SignalKind.TEXT:
                raise StoreError(
                    f"{what}: signal {self._signals[id].path!r} is a text; ask for numbers only"
                )

    def asof(
        self, signals: Sequence[str], moments: NDArray[np.int64], *, within_ns: int = NS_PER_H
    ) -> pa.Table:
        """``time_ns`` and one column per signal (by path): its value at each moment.

        The newest value at or before the moment, null when it is older than ``within_ns`` or BAD;
        words for text signals. Moments in any order; the rows keep it.
        """
        from workshop_brain.store.historian import asof as joining

        moments = np.asarray(moments, np.int64)
        ids = self._find(list(dict.fromkeys(signals)))
        if len(ids) * len(moments) > joining.MOST_CELLS:
            raise StoreError(
                f"as-of: {len(ids)} signals at {len(moments)} moments are more than "
                f"{joining.MOST_CELLS} values; ask for fewer"
            )
        found = joining.read_as_of(self._rows, ids, moments, within_ns)
        columns = joining.asof_columns(found, ids, self._signals, self.texts)
        return pa.table({"time_ns": pa.array(moments), **columns})

    def part_events(self, stations: Sequence[str], from_ns: int, to_ns: int) -> pa.Table:
        """``station, serial, time_ns``: when a part came to a station, by its ``serial`` signal."""
        from workshop_brain.store.historian import asof as joining

        ids = self._find([f"{station}/serial" for station in dict.fromkeys(stations)])
        rows = self._rows(np.unique(np.asarray(ids, np.uint32)), from_ns, to_ns)
        found = joining.part_events(rows, self.texts)
        names = [self._signals[id].unit_path for id in found.column("signal").to_pylist()]
        return found.set_column(0, "station", pa.array(names, pa.string()))

    def aggregate(
        self,
        signals: Sequence[str],
        from_ns: int,
        to_ns: int,
        *,
        width_ns: int,
        depth: int = 6,
        time_weighted: bool = False,
        restated: bool = False,
    ) -> pa.Table:
        """Windows of devices: device, time_ns, avg, min, max, sum, count, first, last,
        time_weighted; sorted by (device, time).

        Windows begin at multiples of ``width_ns`` and are whole: ``from_ns`` is moved down and
        ``to_ns`` up. A device is the first ``depth`` parts of the path (6: unit, 7: signal).
        Windows of whole seconds are read from rollups; ``time_weighted`` (the mean weighted by how
        long each value held) always needs the rows. BAD and NaN rows do not count. With
        ``restated`` also that column, see ``query``.
        """
        from workshop_brain.store.historian import windows

        if width_ns < 1 or not 1 <= depth <= 7:
            raise ValueError(f"aggregate: width {width_ns} must be > 0 and depth {depth} in 1..7")
        from_ns, to_ns = from_ns // width_ns * width_ns, -(-to_ns // width_ns) * width_ns
        ids = self._find(list(dict.fromkeys(signals)))
        names, group = windows.groups_of([self._signals[id].path for id in ids], depth)
        if to_ns <= from_ns or (to_ns - from_ns) // width_ns * len(names) > windows.MOST_WINDOWS:
            raise StoreError(
                f"aggregate: {(to_ns - from_ns) // width_ns} windows of {len(names)} devices; 1 to "
                f"{windows.MOST_WINDOWS} in all can be answered: take wider windows"
            )
        self._refuse_texts(ids, "aggregate")
        by_id = np.zeros(max(ids, default=0) + 1, np.int64)
        by_id[ids] = group
        chosen = np.unique(np.asarray(ids, np.uint32))
        found = self._buckets(chosen, from_ns, to_ns, width_ns)
        buckets, alone = windows.group_buckets(found, by_id)
        held = None
        if time_weighted:
            rows = self._rows(chosen, from_ns - NS_PER_H, to_ns)
            held = windows.group_held(windows.hold(rows, from_ns, to_ns, width_ns), by_id)
        table = windows.window_table(buckets, alone, held, names)
        if not restated:
            return table
        marks = self._marks(chosen, from_ns, to_ns)
        key = pc.index_in(table["device"], pa.array(names, pa.string())).to_numpy()
        at = restating.window_marks(marks, by_id, key, table["time_ns"].to_numpy(), width_ns)
        return table.append_column("restated_ns", pa.array(at, mask=at == 0))

    def _buckets(self, chosen: NDArray[np.uint32], from_ns: int, to_ns: int, width: int) -> Buckets:
        return self._steady(
            lambda: reading.read_decimated(
                self._files,
                lambda b: self._catalog.segments(from_ns - width, to_ns, bucket_ns=b),
                self._snapshot(from_ns - width, to_ns),
                chosen,
                from_ns,
                to_ns,
                width,
            )
        )

    def sql(
        self, statement: str, *, from_ns: int, to_ns: int, params: Sequence[Any] = ()
    ) -> pa.Table:
        """Answer of one SQL statement (DuckDB) over the history ``from_ns <= t < to_ns``.

        The view ``samples`` has path, signal, time_ns, value, quality and text, one row per
        (signal, time); ``signals`` has id, path, kind, unit, low, high. The statement can read
        nothing else and write nothing. StoreError says what is wrong with it.
        """
        from workshop_brain.store.historian.sql import answer

        with self._changed:
            self._refresh()
            signals = list(self._signals)

        def ask() -> pa.Table:
            snapshot = self._snapshot(from_ns, to_ns)
            return answer(
                self._directory, snapshot, signals, self.texts, from_ns, to_ns, statement, params
            )

        return self._steady(ask)

    def _find(self, paths: Sequence[str]) -> list[int]:
        with self._changed:
            if any(path not in self._ids for path in paths):
                self._refresh()
            for path in paths:
                if path not in self._ids:
                    near = difflib.get_close_matches(path, self._ids, n=3)
                    hint = f"; similar: {', '.join(near)}" if near else ""
                    raise StoreError(f"no signal {path!r} in this history{hint}")
            return [self._ids[path] for path in paths]

    def _snapshot(self, from_ns: int, to_ns: int) -> reading.Snapshot:
        if self._read_only:
            self._tail.follow()
            sealed, segments = self._catalog.look(from_ns, to_ns)
            return reading.Snapshot(segments, [self._tail.behind(sealed)[0]])
        with self._changed:
            tables = [*(f.table for f in self._frozen), self._table]
            views = [(t.last_position, t.view()) for t in tables if t.rows]
        # the catalog is read after the tables, so that a table sealed in between is not lost
        sealed, segments = self._catalog.look(from_ns, to_ns)
        return reading.Snapshot(segments, [rows for last, rows in views if last > sealed])

    def _steady(self, read: Callable[[], T]) -> T:
        """Read again when files were merged or sealed while reading; DiskError when it fails."""
        try:
            for _ in range(_LOOKS):
                try:
                    return read()
                except FileNotFoundError:
                    time.sleep(0.01)
            return read()
        except FileNotFoundError as error:
            raise DamageError(
                f"{error.filename or self._directory}: is missing ({error}); 'brain doctor' names "
                "what is lost, a backup may hold it"
            ) from error
        except OSError as error:
            raise DiskError(
                f"{error.filename or self._directory}: cannot be read ({error.strerror or error}); "
                "see to the disk, or to the rights of this user"
            ) from error

    def last_values(
        self,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.uint8]]:
        """``time_ns[n], value[n], quality[n]`` of every signal, the newest source time of each.

        A signal without any sample has time -2**63, NaN and BAD.
        """
        with self._changed:
            self._refresh()
            if self._read_only:
                return self._steady(self._read_last)
            self._last.extend(len(self._signals))
            for frozen in self._frozen:
                self._fold(frozen.table)
            self._fold(self._table)
            return self._last.copy()

    def _read_last(self) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.uint8]]:
        self._tail.follow()
        sealed = self._catalog.meta("sealed", 0)
        last = LastValues.unpack(self._catalog.blob("last_values"))
        last.extend(len(self._signals))
        last.fold(self._tail.behind(sealed)[0], self._believed.look())
        return last.copy()

    def _fold(self, table: Memtable) -> None:
        """Fold the rows of a table that have not been folded, tables in the order of the log."""
        position, done = self._folded
        if table.first_position < position:
            return
        start = done if table.first_position == position else 0
        latest_ns = max(self._believed.latest_ns, self._clock() + NS_PER_DAY)
        self._last.fold(slice_of(table.columns, start, table.rows), latest_ns)
        self._folded = (table.first_position, table.rows)

    def curves(
        self,
        *,
        serial: str | None = None,
        station: str | None = None,
        program: str | None = None,
        from_ns: int | None = None,
        to_ns: int | None = None,
        before: tuple[int, str, str, int] | None = None,
        limit: int = 100,
    ) -> list[Curve]:
        """Curves with their values, newest first; one per (serial, station, step, time).

        ``before``: the (time_ns, serial, station, step) of the last one of the page before.
        """
        wish = CurveWish(
            serial=serial, station=station, program=program, from_ns=from_ns, to_ns=to_ns,
            before=before,
        )  # fmt: skip
        return self._steady(lambda: self._read_curves(wish, limit))

    def list_curves(self, wish: CurveWish, limit: int = 100) -> list[CurveKey]:
        """What curves there are, newest first, without their values."""
        found = {(c.time_ns, c.serial, c.station, c.step): c for c in self._recent_curves(wish)}
        keys = {
            key: CurveKey(c.serial, c.time_ns, c.station, c.step, 0, 0, c.program)
            for key, c in found.items()
        }
        for k in self._catalog.find_curves(wish, limit):
            keys.setdefault((k.time_ns, k.serial, k.station, k.step), k)
        return [keys[key] for key in sorted(keys, reverse=True)[:limit]]

    def _recent_curves(self, wish: CurveWish) -> list[Curve]:
        if self._read_only:
            self._tail.follow()
            recent = self._tail.behind(self._catalog.meta("sealed", 0))[1]
        else:
            with self._changed:
                tables = [f.table for f in self._frozen] + [self._table]
                recent = [c for table in tables for c in table.curves]
        return [c for c in recent if wish.fits(c.time_ns, c.serial, c.station, c.step, c.program)]

    def _read_curves(self, wish: CurveWish, limit: int) -> list[Curve]:
        found = {(c.time_ns, c.serial, c.station, c.step): c for c in self._recent_curves(wish)}
        for curve in self._stored_curves(self._catalog.find_curves(wish, limit)):
            found.setdefault((curve.time_ns, curve.serial, curve.station, curve.step), curve)
        return [found[key] for key in sorted(found, reverse=True)[:limit]]

    def _stored_curves(self, keys: Sequence[CurveKey]) -> list[Curve]:
        names = {id: name for id, name, *_ in self._catalog.curve_files()} if keys else {}
        files: dict[int, list[int]] = {}
        for key in keys:
            files.setdefault(key.file, []).append(key.row)
        out: list[Curve] = []
        for id, rows in files.items():
            if id not in names:
                raise FileNotFoundError(id)
            out += curve_files.read_curves(self._directory / names[id], rows)
        return out

    def stats(self) -> dict[str, Any]:
        """Figures for the health page; ``fault`` is empty while all is well."""
        segments = self._catalog.segments(bucket_ns=None)
        raw = [s for s in segments if s.bucket_ns == 0]
        with self._changed:
            out: dict[str, Any] = {
                "signals": len(self._signals),
                "texts": len(self._texts),
                "fault": self._fault,
                "appended_rows": self._appended,
            }
            if not self._read_only:
                tables = [f.table for f in self._frozen] + [self._table]
                out |= {
                    "memory_rows": sum(t.rows for t in tables),
                    "waiting_tables": len(self._frozen),
                    "position": self._wal.position,
                    "durable": self._wal.durable,
                    "log_bytes": self._wal.size(),
                }
        return out | _figures(raw, segments, self._catalog.curve_files())


def _figures(
    raw: Sequence[Segment], segments: Sequence[Segment], curves: Sequence[tuple[Any, ...]]
) -> dict[str, Any]:
    return {
        "files": {f"L{k}": sum(s.level == k for s in raw) for k in sorted({s.level for s in raw})},
        "rows": sum(s.rows for s in raw),
        "odd_time_rows": sum(s.rows for s in raw if s.date in ODD),
        "bytes": sum(s.bytes for s in raw),
        "rollup_bytes": sum(s.bytes for s in segments if s.bucket_ns),
        "duplicates": sum(s.duplicates for s in raw),
        "conflicts": sum(s.conflicts for s in raw),
        "curves": sum(c[2] for c in curves),
        "curve_bytes": sum(c[3] for c in curves),
        "first_ns": min((s.min_time for s in raw if s.date not in ODD), default=0),
        "last_ns": max((s.max_time for s in raw if s.date not in ODD), default=0),
    }


def _check(samples: Samples, n_signals: int) -> None:
    n = len(samples.signal)
    kinds = (
        ("signal", samples.signal, np.uint32),
        ("time_ns", samples.time_ns, np.int64),
        ("value", samples.value, np.float64),
        ("quality", samples.quality, np.uint8),
    )
    for name, column, kind in kinds:
        if column.dtype != kind or column.shape != (n,):
            raise ValueError(
                f"samples.{name} must be {np.dtype(kind)}[{n}], got {column.dtype}{column.shape}"
            )
    if n and int(samples.signal.max()) >= n_signals:
        raise ValueError(
            f"samples.signal has id {int(samples.signal.max())}, but only {n_signals} signals are "
            "registered: declare them first"
        )
