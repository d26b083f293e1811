"""The line's balance now and the proposed one, from the plant's balance documents.

``balance/LINE.csv`` (or ``.toml``, ``.json``, ``.alb``, ``.in2``) holds the tasks with their times,
``LINE.now.csv`` or ``.json`` the station of each task today; both as ``brain balance`` reads them.
They lie in the data directory, or beside the plant file. Nothing is made up: without the documents
there is no chart.
"""

import math
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workshop_brain.errors import OrderError

if TYPE_CHECKING:
    from workshop_brain.schedule.balance.line import Line

SECONDS = 2.0
_ENDINGS = ("csv", "toml", "json", "alb", "in2")


def balance_view(
    folders: Sequence[Path], line: str, cycle: Decimal | None, before_cycle: Decimal | None
) -> dict[str, Any]:
    """Stations with their tasks now and after rebalancing for ``cycle``, in seconds.

    Parameters
    ----------
    folders
        Where ``balance`` may lie; the first that has both documents of the line counts.
    cycle, before_cycle
        None: that of the longest station today.

    Raises
    ------
    OrderError
        A document cannot be read, or holds no station for a task.
    """
    from workshop_brain.schedule.balance.line import decimals_of, finer
    from workshop_brain.schedule.balance.read import old_stations, read_line
    from workshop_brain.schedule.balance.rebalance import rebalance
    from workshop_brain.schedule.balance.verify import verify_balance

    documents, missing = _documents(folders, line)
    if documents is None:
        return {"line": line, "missing": missing, "now": [], "then": []}
    tasks, today = documents
    read = read_line(tasks.read_text("utf-8-sig"), line).line
    before = old_stations(today.read_text("utf-8-sig"), today.name, read.tasks)
    if absent := [task for task in read.tasks if task not in before]:
        raise OrderError(
            f"{today.name}: has no station for task {absent[0]!r}; write the station of each task"
        )
    longest = _longest(before, _seconds(read))
    cycle, before_cycle = cycle or longest, before_cycle or longest
    work = finer(read, decimals_of(cycle))
    found = rebalance(work, before, cycle=work.ticks(cycle), seconds=SECONDS)
    after = {t: int(s) for t, s in zip(work.tasks, found.balance.station, strict=True)}
    if breaches := verify_balance(work, after, cycle=cycle):
        raise OrderError(f"{line}: the balance found does not hold: {breaches[0]}")
    seconds = _seconds(work)
    moved = set(found.moved)
    return {
        "line": line,
        "missing": "",
        "cycle_s": float(cycle),
        "before_cycle_s": float(before_cycle),
        "lower_bound": found.balance.lower_bound,
        "optimal": found.balance.is_optimal,
        "moved": len(moved),
        "front": [
            {"stations": stations, "moved": count}
            for stations, count in found.front
            if stations != found.balance.stations
        ],
        "now": _piles(before, seconds, moved, before),
        "then": _piles(after, seconds, moved, before),
    }


def _seconds(line: "Line") -> dict[str, float]:
    """Seconds of each task, over the mix of models."""
    weighted, total = line.weighted()
    rows = zip(line.tasks, weighted.tolist(), strict=True)
    return {task: line.time(int(w)) / total for task, w in rows}


def _longest(at: dict[str, int], seconds: dict[str, float]) -> Decimal:
    """Seconds of the station with most work, to the tenth."""
    loads: dict[int, float] = {}
    for task, station in at.items():
        loads[station] = loads.get(station, 0.0) + seconds[task]
    return Decimal(str(math.ceil(10 * max(loads.values()) - 1e-6) / 10))


def _documents(folders: Sequence[Path], line: str) -> tuple[tuple[Path, Path] | None, str]:
    """Tasks and stations of today; None with the name of the one that is missing."""
    missing = ""
    for folder in folders:
        tasks, today = (_first(folder / "balance", stem) for stem in (line, f"{line}.now"))
        if tasks is not None and today is not None:
            return (tasks, today), ""
        if tasks is not None:
            missing = f"balance/{line}.now.csv"
    return None, missing or f"balance/{line}.csv"


def _first(folder: Path, stem: str) -> Path | None:
    paths = (folder / f"{stem}.{ending}" for ending in _ENDINGS)
    return next((path for path in paths if path.is_file()), None)


def _piles(
    at: dict[str, int], seconds: dict[str, float], moved: set[str], before: dict[str, int]
) -> list[dict[str, Any]]:
    piles: dict[int, list[dict[str, Any]]] = {k: [] for k in range(1, max(at.values()) + 1)}
    for task, station in at.items():
        piles[station].append(
            {"task": task, "s": seconds[task], "moved": task in moved, "from": before[task]}
        )
    return [
        {"station": k, "total_s": sum(row["s"] for row in rows), "tasks": rows}
        for k, rows in piles.items()
    ]
