"""What is in order and what is not; each finding names the way out."""

import importlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from workshop_brain.app.ledger_view import open_ledger
from workshop_brain.config import built_in
from workshop_brain.connect import rejected
from workshop_brain.errors import BrainError, DamageError
from workshop_brain.store import backup
from workshop_brain.store.historian import Historian, check
from workshop_brain.units import NS_PER_S

KERNEL_ROOMS = (
    "workshop_brain.schedule.warm",
    "workshop_brain.schedule.balance.warm",
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


def examine(data: Path, *, quick: bool = False) -> list[Finding]:
    """Python, disk, history, ledger, screens and processes of a data directory."""
    findings = [
        Finding(sys.version_info >= (3, 11), f"Python {sys.version.split()[0]} (3.11 or newer)"),
        _screens(),
    ]
    if not data.exists():
        return [*findings, Finding(True, f"{data}: nothing here yet; 'brain up' makes it")]
    free = shutil.disk_usage(data).free
    findings.append(Finding(free > _LEAST_FREE, f"{data}: {free / 2**30:.1f} GB free (least 2)"))
    findings += [*_history(data, quick), _ledger(data), _processes(data), _rejected(data)]
    return findings


def _screens() -> Finding:
    built = Path(__file__).parent.parent / "web" / "static" / "index.html"
    hint = "" if built.exists() else "; build them with 'make setup'"
    return Finding(built.exists(), ("screens are built" if built.exists() else "no screens") + hint)


def _history(data: Path, quick: bool) -> list[Finding]:
    directory = data / "historian"
    if not directory.exists():
        return [Finding(True, f"{data}: no history yet")]
    damages = list(check.examine(directory, quick=quick))
    findings = [Finding(damage.is_harmless, f"history: {damage}") for damage in damages]
    if any(damage.part is check.Part.CATALOG for damage in damages):
        return findings
    try:
        historian = Historian(directory, read_only=True)
        try:
            stats = historian.stats()
        finally:
            historian.close()
    except BrainError as error:
        return [*findings, Finding(False, f"history: {error}")]
    return [*findings, Finding(True, f"history: {json.dumps(stats, default=str)}")]


def repair(data: Path, target: Path | None) -> list[str]:
    """Make a damaged history readable again, the brain being down; what was done.

    target
        Where backups are; their newest copies of the damaged files are put back.
    """
    directory = data / "historian"
    damages = list(check.examine(directory))
    if any(damage.part is check.Part.CATALOG for damage in damages):
        raise DamageError(
            f"{directory / 'catalog.sqlite'}: the catalog is damaged, which nothing can stand in "
            "for; restore a backup into a new directory ('brain restore')"
        )
    log = [damage for damage in damages if damage.part is check.Part.LOG]
    done = check.repair(directory, damages, _saved_in(target))
    if log:
        with Historian(directory, repair=True):
            done += [f"{damage.path}: {damage.fault}; every valid frame is kept" for damage in log]
    return done


def _saved_in(target: Path | None) -> Callable[[str], Path | None]:
    if target is None:
        return lambda name: None
    found: dict[str, Path] = {}
    for name in backup.backups(target):
        for item in backup.read_backup(target, name).items:
            found[item.path] = backup.object_path(target, item.sha256)
    return lambda name: found.get(f"historian/{name}")


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


def _rejected(data: Path) -> Finding:
    """Malformed payloads are the senders' matter: told, not wrong."""
    told = [
        f"{kept.source} ({', '.join(f'{cause} {n}' for cause, n in kept.causes.items())})"
        for kept in rejected.kept(data)
    ]
    hint = "; look at them with 'brain rejected'" if told else ""
    return Finding(True, f"malformed payloads: {', '.join(told) or 'none kept'}{hint}")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
