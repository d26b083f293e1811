"""What is in order and what is not; each finding names the way out."""

import importlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from workshop_brain.app.ledger_view import open_ledger
from workshop_brain.config import built_in
from workshop_brain.errors import BrainError
from workshop_brain.store.historian import Historian
from workshop_brain.units import NS_PER_S

KERNEL_ROOMS = (
    "workshop_brain.schedule.warm",
    "workshop_brain.connect.warm",
    "workshop_brain.store.historian.sort",
)
_LEAST_FREE = 2 << 30
MONDAY_NS = 1_772_409_600 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    ok: bool
    text: str


def compile_kernels() -> Iterator[tuple[str, float]]:
    """Compile every kernel and keep it on disk; yields (room, seconds) as they get ready.

    Each room's module has ``warm_up()``, which calls its kernels once with small inputs.
    """
    for name in KERNEL_ROOMS:
        began = time.perf_counter()
        importlib.import_module(name).warm_up()
        yield name.split(".")[1], time.perf_counter() - began
    began = time.perf_counter()
    _run_plant()
    yield "twin", time.perf_counter() - began


def _run_plant() -> None:
    """Use every kernel of the simulated plant: start it, disturb it, sample it, encode it."""
    from workshop_brain.twin.commands import BreakUnit, OperatorAbsent, QualityStop, RepairUnit
    from workshop_brain.twin.signals import Signals
    from workshop_brain.twin.sim import PlantSim

    sim = PlantSim(built_in().plant, seed=1, start_ns=MONDAY_NS)
    unit = sim.devices[-2].path
    for command in (
        BreakUnit(unit, 60.0), RepairUnit(unit), QualityStop(unit, 60.0), OperatorAbsent(unit, 60.0)
    ):  # fmt: skip
        sim.command(command)
        sim.advance(sim.now_ns + NS_PER_S)
    signals = Signals(sim, seed=1)
    signals.values(sim.now_ns)


def examine(data: Path) -> list[Finding]:
    """Python, disk, history, ledger, screens and processes of a data directory."""
    findings = [
        Finding(sys.version_info >= (3, 11), f"Python {sys.version.split()[0]} (3.11 or newer)"),
        _screens(),
    ]
    if not data.exists():
        return [*findings, Finding(True, f"{data}: nothing here yet; 'brain up' makes it")]
    free = shutil.disk_usage(data).free
    findings.append(Finding(free > _LEAST_FREE, f"{data}: {free / 2**30:.1f} GB free (least 2)"))
    findings += [_history(data), _ledger(data), _processes(data)]
    return findings


def _screens() -> Finding:
    built = Path(__file__).parent.parent / "web" / "static" / "index.html"
    hint = "" if built.exists() else "; build them with 'make setup'"
    return Finding(built.exists(), ("screens are built" if built.exists() else "no screens") + hint)


def _history(data: Path) -> Finding:
    if not (data / "historian").exists():
        return Finding(True, f"{data}: no history yet")
    try:
        historian = Historian(data / "historian", read_only=True)
        try:
            stats = historian.stats()
        finally:
            historian.close()
    except BrainError as error:
        return Finding(False, f"history: {error}")
    return Finding(True, f"history: {json.dumps(stats, default=str)}")


def _ledger(data: Path) -> Finding:
    try:
        problems = open_ledger(data).verify()
    except BrainError as error:
        return Finding(not (data / "ledger").exists(), f"ledger: {error}")
    if problems:
        return Finding(False, f"ledger: {problems[0]} (run 'brain ledger verify')")
    return Finding(True, "ledger: the chain is whole")


def _processes(data: Path) -> Finding:
    try:
        pids = json.loads((data / "run" / "pids.json").read_text())
    except (OSError, ValueError):
        return Finding(True, "processes: none known")
    alive = [name for name, pid in pids.items() if _is_alive(int(pid))]
    return Finding(True, f"processes alive: {', '.join(sorted(alive)) or 'none'}")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
