"""The plant's day on disk: its start, its pace and every command, so that a restart goes on.

The simulation is deterministic: the same seed and the same commands at the same plant times give
the same day. So a killed plant process replays its commands and stands where it would be now.
"""

import dataclasses
import hashlib
import json
import logging
import math
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from workshop_brain.errors import StoreError
from workshop_brain.model.order import JobOrder, WorkRequest
from workshop_brain.model.plant import Plant
from workshop_brain.twin.commands import (
    AbortJob,
    BreakUnit,
    ClearJob,
    Command,
    OperatorAbsent,
    QualityStop,
    RepairUnit,
    RevokeJob,
    StartJob,
    StoreJob,
)
from workshop_brain.units import NS_PER_DAY, NS_PER_S

LONGEST_NS = 8 * NS_PER_DAY
"""An older day is not replayed; the plant starts a new one."""
FASTEST = math.inf
"""The speed "max": as fast as what the plant does can be published."""
_KINDS: dict[str, type[Any]] = {
    c.__name__: c
    for c in (
        AbortJob, BreakUnit, ClearJob, OperatorAbsent, QualityStop, RepairUnit, RevokeJob, StartJob,
        StoreJob,
    )
}  # fmt: skip

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Plant time as a straight line over wall time, from one instant on.

    At speed FASTEST there is no such line: the plant stands at ``plant_ns`` until it is told how
    far it has come.
    """

    wall_ns: int
    plant_ns: int
    speed: float

    def plant_at(self, wall_ns: int) -> int:
        """Plant time at a wall time, ns."""
        if self.speed == FASTEST:
            return self.plant_ns
        return self.plant_ns + round((wall_ns - self.wall_ns) * self.speed)


def read_speed(told: object) -> float:
    """Plant seconds per second from a number above 0 or "max"; ValueError says what is wrong.

    >>> read_speed("20"), read_speed("max")
    (20.0, inf)
    """
    if told == "max":
        return FASTEST
    try:
        speed = float(told) if isinstance(told, str | int | float) else math.nan
    except ValueError:
        speed = math.nan
    if isinstance(told, bool) or not 0.0 < speed < math.inf:
        raise ValueError(f"speed must be a number above 0 or 'max', got {told!r}")
    return speed


def told_speed(speed: float) -> float | str:
    """The speed as JSON can hold it."""
    return "max" if speed == FASTEST else speed


def encode_command(command: Command) -> dict[str, Any]:
    """A command as JSON-able fields with its kind."""
    return {"kind": type(command).__name__, **dataclasses.asdict(command)}


def decode_command(body: dict[str, Any]) -> Command:
    """The command of ``encode_command``; KeyError or TypeError on anything else."""
    fields = dict(body)
    kind = _KINDS[fields.pop("kind")]
    if kind is StoreJob:
        job = dict(fields["job"])
        job["requests"] = tuple((str(r), int(n)) for r, n in job["requests"])
        fields["job"] = JobOrder(**job)
    command: Command = kind(**fields)
    return command


def plant_hash(plant: Plant) -> str:
    """A short hash of the plant's master data, the same in every process."""
    body = json.dumps(dataclasses.asdict(plant), default=sorted, sort_keys=True)
    return hashlib.sha256(body.encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What a journal says: where the day began, its pace now, and what was commanded when."""

    start_ns: int
    pace: Pace
    asked_speed: float
    commands: tuple[tuple[int, Command], ...]


class Journal:
    """Appends to ``journal.jsonl`` of a directory; a line each, flushed at once."""

    def __init__(self, directory: Path | None) -> None:
        self._path = None if directory is None else directory / "journal.jsonl"
        self._file: TextIO | None = None
        if directory is not None:
            try:
                directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"journal directory {directory}: {error}") from error

    def load(self, plant: Plant, seed: int, wall_ns: int) -> Day | None:
        """The day to go on with; None when there is none of this plant and seed, or it is old."""
        if self._path is None or not self._path.exists():
            return None
        head: dict[str, Any] | None = None
        pace: Pace | None = None
        asked = 1.0
        commands: list[tuple[int, Command]] = []
        for line in self._path.read_text("utf-8").splitlines():
            try:
                row = json.loads(line)
                if "day" in row:
                    head = row["day"]
                elif "pace" in row:
                    pace = Pace(**(row["pace"] | {"speed": read_speed(row["pace"]["speed"])}))
                elif "run" in row:
                    asked = read_speed(row["run"]["speed"])
                else:
                    commands.append((int(row["t"]), decode_command(row["command"])))
            except (ValueError, KeyError, TypeError) as error:
                log.warning("%s: a line cannot be read and is left out: %r", self._path, error)
        if head is None or pace is None:
            return None
        if (head["plant"], head["seed"]) != (plant_hash(plant), seed):
            return None
        start_ns = int(head["start_ns"])
        if not 0 <= pace.plant_at(wall_ns) - start_ns <= LONGEST_NS:
            return None
        return Day(start_ns=start_ns, pace=pace, asked_speed=asked, commands=tuple(commands))

    def begin(self, plant: Plant, seed: int, start_ns: int) -> None:
        """Start a new day; the file of the last one is kept beside it."""
        if self._path is not None:
            if self._path.exists():
                self._path.replace(self._path.with_suffix(".old.jsonl"))
            self._write({"day": {"plant": plant_hash(plant), "seed": seed, "start_ns": start_ns}})

    def run(self, speed: float) -> None:
        """Note a start of the process with the pace that was asked for."""
        self._write({"run": {"speed": told_speed(speed)}})

    def pace(self, pace: Pace) -> None:
        """Note a change of pace."""
        row = dataclasses.asdict(pace) | {"speed": told_speed(pace.speed)}
        self._write({"pace": row})

    def command(self, time_ns: int, command: Command) -> None:
        """Note a command before it is carried out."""
        self._write({"t": time_ns, "command": encode_command(command)})

    def _write(self, row: dict[str, Any]) -> None:
        if self._path is None:
            return
        if self._file is None:
            self._file = self._path.open("a", encoding="utf-8")
            if self._file.tell():
                self._file.write("\n")  # a line that was cut by a crash ends here
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class BirthNumbers:
    """The last bdSeq of each Sparkplug edge node, kept so that a restart does not use it again.

    A death that the broker still holds after kill -9 then never matches a newer birth.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._last: dict[str, int] = {}
        if path is not None and path.exists():
            try:
                kept = json.loads(path.read_text("utf-8"))
                self._last = {str(node): int(number) for node, number in kept.items()}
            except (ValueError, TypeError, AttributeError) as error:
                log.warning("%s cannot be read; bdSeq starts again: %r", path, error)

    def next(self, node: str) -> int:
        """The bdSeq of the node's next connection, 0 to 255; on disk before it is used."""
        number = self._last[node] = (self._last.get(node, -1) + 1) % 256
        if self._path is not None:
            part = self._path.with_suffix(".part")
            part.write_text(json.dumps(self._last), "utf-8")
            part.replace(self._path)
        return number


def write_orders(path: Path, requests: Iterable[WorkRequest]) -> None:
    """The ERP's order book as CSV, times in ISO 8601 UTC; written to the side and moved in."""
    rows = ["id,product,quantity,due,release,priority"]
    rows += [
        f"{r.id},{r.product},{r.quantity},{_iso(r.due_ns)},{_iso(r.release_ns)},{r.priority}"
        for r in requests
    ]
    part = path.with_suffix(".part")
    part.write_text("\n".join(rows) + "\n", "utf-8")
    part.replace(path)


def _iso(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class WallClock:
    """Wall time that never jumps: read once, then carried on by the monotonic clock."""

    def __init__(self) -> None:
        self._offset = time.time_ns() - time.monotonic_ns()

    def now_ns(self) -> int:
        """Wall time, ns since the epoch, UTC."""
        return time.monotonic_ns() + self._offset
