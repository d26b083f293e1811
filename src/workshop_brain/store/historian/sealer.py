"""The writer's side of sealing: which table is written when, and by which clock."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from workshop_brain.model.signal import Samples, SignalDef
from workshop_brain.store.historian.catalog import Catalog
from workshop_brain.store.historian.last import LastValues
from workshop_brain.store.historian.memtable import ColumnPool, Memtable
from workshop_brain.store.historian.partition import Splitter, odd_signals
from workshop_brain.store.settings import HistorianSettings
from workshop_brain.units import NS_PER_DAY

if TYPE_CHECKING:
    from workshop_brain.store.historian.seal import Sealed

_log = logging.getLogger(__name__)
AT_ONCE = 2


class Believed:
    """Which times can be right: up to ``latest_ns``, a day ahead of the brain's clock, or of the
    median of the signals' newest times when the whole plant is ahead (one that is simulated fast).
    """

    def __init__(self, clock: Callable[[], int], last: LastValues, newest_ns: int) -> None:
        self.clock = clock
        self._last = last
        self.latest_ns = max(clock(), newest_ns) + NS_PER_DAY
        self.look()

    def look(self) -> int:
        """``latest_ns`` anew: something was sealed, or time has passed."""
        self.latest_ns = max(self.clock(), self.median_ns() or 0) + NS_PER_DAY
        return self.latest_ns

    def median_ns(self) -> int | None:
        """Median of the signals' newest times that can be right; None when there is none."""
        return self._last.median_ns(self.latest_ns)


class Sealer:
    """Turns memory tables into files, in the order of the log; when sealing is behind, two tables
    are written at a time.

    Parameters
    ----------
    last
        Last values of what is sealed; kept up here.
    pool
        Where sorted rows find memory.
    """

    def __init__(
        self,
        directory: Path,
        catalog: Catalog,
        settings: HistorianSettings,
        believed: Believed,
        last: LastValues,
        pool: ColumnPool,
    ) -> None:
        self._directory = directory
        self._catalog = catalog
        self._settings = settings
        self._believed = believed
        self._last = last
        self._pool = pool
        self._threads = ThreadPoolExecutor(AT_ONCE, "seal")
        self._writing: dict[int, Future[Sealed]] = {}  # by the tables' first positions
        self._named: set[int] = set()  # signals whose clocks cannot be right

    def seal(
        self,
        tables: Sequence[Memtable],
        sessions: dict[tuple[str, int], int],
        signals: Sequence[SignalDef],
    ) -> None:
        """Write the first table and commit it; begin with the next one meanwhile.

        sessions
            Sequence numbers as of the first table's last position.
        """
        from workshop_brain.store.historian import seal

        latest_ns = self._believed.look()  # nothing may have come for days
        splitter = Splitter.of(self._settings, signals, latest_ns)
        for table in tables[:AT_ONCE]:
            writing = self._writing.get(table.first_position)
            if writing is None or (writing.done() and writing.exception() is not None):
                self._writing[table.first_position] = self._threads.submit(
                    seal.write_table, self._directory, self._catalog, table, splitter, self._pool
                )
        first = tables[0]
        made = self._writing.pop(first.first_position).result()
        self._last.extend(len(signals))
        seal.commit(
            self._catalog, first, made, sessions=sessions, last=self._last,
            latest_ns=latest_ns, now_ns=self._believed.clock(),
        )  # fmt: skip
        self._name_odd(made.rows, signals)

    def _name_odd(self, rows: Samples, signals: Sequence[SignalDef]) -> None:
        """Say once of each signal that its clock cannot be right."""
        odd = odd_signals(rows, self._believed.latest_ns).tolist()
        new = [at for at in odd if int(rows.signal[at]) not in self._named]
        if not new:
            return
        self._named.update(int(rows.signal[at]) for at in new)
        _log.warning(
            "%d signals have time stamps before 2000 or more than a day ahead, like %s at %s: set "
            "the clocks of their devices. The samples are kept apart and can be read by their "
            "stamps",
            len(new),
            signals[int(rows.signal[new[0]])].path,
            np.datetime64(int(rows.time_ns[new[0]]), "ns"),
        )

    def close(self) -> None:
        """Wait for what is being written. Files that were not committed are removed at the next
        start, when the catalog tells which they are."""
        self._threads.shutdown(cancel_futures=True)
