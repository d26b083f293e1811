"""The line's balance now and the proposed one, from the balance document beside the data.

``DATA/balance/LINE.csv`` (or ``.toml``, ``.json``, ``.alb``, ``.in2``) holds the tasks with their
times, ``LINE.now.csv`` or ``.json`` the station of each task today; both as ``brain balance``
reads them. Nothing is made up: without the documents there is no chart.
"""

from decimal import Decimal
from pathlib import Path
from typing import Any

from workshop_brain.errors import OrderError

SECONDS = 2.0
_ENDINGS = ("csv", "toml", "json", "alb", "in2")


def balance_view(
    data: Path, line: str, cycle: Decimal, before_cycle: Decimal | None
) -> dict[str, Any]:
    """Stations with their tasks now and after rebalancing for ``cycle``.

    Raises
    ------
    OrderError
        A document cannot be read, or holds no station for a task.
    """
    from workshop_brain.schedule.balance.line import decimals_of, finer
    from workshop_brain.schedule.balance.read import old_stations, read_line
    from workshop_brain.schedule.balance.rebalance import rebalance
    from workshop_brain.schedule.balance.verify import verify_balance

    folder = data / "balance"
    tasks, today = _first(folder, line), _first(folder, f"{line}.now")
    if tasks is None or today is None:
        wanted = f"balance/{line}.csv" if tasks is None else f"balance/{line}.now.csv"
        return {"line": line, "missing": wanted, "now": [], "then": []}
    read = read_line(tasks.read_text("utf-8-sig"), line)
    work = finer(read.line, decimals_of(cycle))
    before = old_stations(today.read_text("utf-8-sig"), today.name, work.tasks)
    if absent := [task for task in work.tasks if task not in before]:
        raise OrderError(
            f"{today.name}: has no station for task {absent[0]!r}; write the station of each task"
        )
    found = rebalance(work, before, cycle=work.ticks(cycle), seconds=SECONDS)
    after = {t: int(s) for t, s in zip(work.tasks, found.balance.station, strict=True)}
    if breaches := verify_balance(work, after, cycle=cycle):
        raise OrderError(f"{line}: the balance found does not hold: {breaches[0]}")
    weighted, total = work.weighted()
    seconds = {
        t: work.time(int(w)) / total for t, w in zip(work.tasks, weighted.tolist(), strict=True)
    }
    moved = set(found.moved)
    return {
        "line": line,
        "missing": "",
        "cycle_s": float(cycle),
        "before_cycle_s": None if before_cycle is None else float(before_cycle),
        "lower_bound": found.balance.lower_bound,
        "optimal": found.balance.is_optimal,
        "moved": len(moved),
        "now": _piles(before, seconds, moved, before),
        "then": _piles(after, seconds, moved, before),
    }


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
