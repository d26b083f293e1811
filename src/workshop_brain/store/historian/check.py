"""What is damaged in a history, byte by byte, and what can be done about it.

Works beside a running writer: what is merged or sealed while it is looked at is no damage.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from workshop_brain.errors import StoreError
from workshop_brain.store.historian import log as wal
from workshop_brain.store.historian.catalog import Catalog, Segment, file_crc
from workshop_brain.store.historian.segment import Runs, force
from workshop_brain.store.lock import DataLock

DAMAGED = "damaged"
"""Folder below the history where files that were given up are set aside."""


class Part(Enum):
    """What is damaged."""

    CATALOG = "catalog"
    ROWS = "rows"
    ROLLUP = "rollup"
    CURVES = "curves"
    LOG = "log"
    LEFTOVER = "leftover"


_WAY_OUT = {
    Part.CATALOG: "restore a backup into a new directory ('brain restore')",
    Part.ROWS: (
        "stop the brain and run 'brain doctor --repair --backup TARGET', which takes the file out "
        "of a backup; without a backup '--repair' alone sets it aside, so that all else is read"
    ),
    Part.ROLLUP: (
        "stop the brain and run 'brain doctor --repair': the file is dropped, its rows are still "
        "there"
    ),
    Part.LOG: (
        "stop the brain and run 'brain doctor --repair', which keeps every valid frame and sets "
        "the damaged file aside; or restore a backup"
    ),
    Part.LEFTOVER: "nothing is lost; the next start of the brain removes it",
}
_WAY_OUT[Part.CURVES] = _WAY_OUT[Part.ROWS]


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is not as it was written; ``is_harmless``: nothing that counts is lost."""

    part: Part
    path: str
    fault: str

    @property
    def is_harmless(self) -> bool:
        """Whether nothing that anybody was told to be safe is lost."""
        return self.part is Part.LEFTOVER

    def __str__(self) -> str:
        return f"{self.path}: {self.fault}; {_WAY_OUT[self.part]}"


def examine(directory: Path, *, quick: bool = False) -> Iterator[Damage]:
    """Everything that is damaged, missing or left over below ``DATA/historian``.

    quick
        Only look whether files are there and as long as they were; their bytes are not read.
    """
    frames = list(_log_frames(directory / "wal"))  # before the catalog: see LogTail
    path = directory / "catalog.sqlite"
    elsewhere = path.with_name("catalog.json")
    named = elsewhere if elsewhere.exists() and not path.exists() else path
    if not named.exists():
        yield Damage(Part.CATALOG, str(path), "is missing")
        return
    try:
        with closing(Catalog(path, read_only=True)) as catalog:
            for fault in catalog.faults():
                yield Damage(Part.CATALOG, str(named), fault)
            yield from _files(directory, catalog, quick=quick)
            yield from _log(directory / "wal", frames, catalog.meta("sealed", 0))
    except (StoreError, OSError, ValueError, TypeError, OverflowError) as error:
        # values that are none of theirs: what stands in a row has changed
        fault = str(error).removeprefix(f"{path}: ").partition(";")[0]
        yield Damage(Part.CATALOG, str(named), f"cannot be read ({fault})")


def repair(
    directory: Path, damages: Iterable[Damage], saved: Callable[[str], Path | None]
) -> list[str]:
    """Put damaged files back from a backup or set them aside; what was done. The log is repaired
    by opening the historian with ``repair=True``.

    saved
        Where a backup holds a file, by its name below ``directory``; None: it does not.

    Raises
    ------
    StoreLockedError
        The brain is running.
    """
    done = []
    with DataLock(directory), closing(Catalog(directory / "catalog.sqlite", read_only=False)) as c:
        segments = {s.file: s for s in c.segments(bucket_ns=None)}
        curves = {name: (id, rows) for id, name, rows, *_ in c.curve_files()}
        crcs = c.file_crcs()
        for damage in damages:
            if damage.part not in (Part.ROWS, Part.ROLLUP, Part.CURVES):
                continue
            name = Path(damage.path).relative_to(directory).as_posix()
            source = saved(name)
            if source is not None and source.exists() and file_crc(source) == crcs.get(name):
                _put_back(source, directory / name)
                done.append(f"{name}: put back from the backup")
                continue
            if (place := directory / name).exists():
                aside = directory / DAMAGED / name.replace("/", "_")
                aside.parent.mkdir(exist_ok=True)
                place.replace(aside)
            with c.transaction():
                if name in curves:
                    c.drop_curve_file(curves[name][0])
                elif name in segments:
                    c.drop_segments([segments[name].id])
            done.append(f"{name}: {_told(segments.get(name), curves.get(name))}")
    return done


def _put_back(source: Path, place: Path) -> None:
    part = place.with_suffix(".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, part)
    force(part)
    part.replace(place)
    wal.sync_directory(place.parent)


def _told(segment: Segment | None, curves: tuple[int, int] | None) -> str:
    if segment is None:
        return f"set aside; {curves[1] if curves else 0} curves are lost"
    if segment.bucket_ns:
        return "set aside; its rows are read instead"
    return f"set aside; {segment.rows} rows of {segment.date} are lost, their rollups stay"


def _files(directory: Path, catalog: Catalog, *, quick: bool = False) -> Iterator[Damage]:
    crcs = catalog.file_crcs()
    for segment in catalog.segments(bucket_ns=None):
        part = Part.ROLLUP if segment.bucket_ns else Part.ROWS
        path = directory / segment.file
        fault = _file_fault(path, segment.bytes, crcs.get(segment.file), quick)
        if fault and catalog.runs(segment.id) is not None:  # not merged meanwhile
            yield Damage(part, str(path), fault)
        elif not fault and (packed := catalog.runs(segment.id)) is not None:
            runs = Runs.unpack(packed)
            if int(runs.rows.sum()) != segment.rows:
                text = f"{path}: the index of its rows does not fit"
                yield Damage(Part.CATALOG, str(directory / "catalog.sqlite"), text)
    for id, name, rows, size, _ in catalog.curve_files():
        path = directory / name
        fault = _file_fault(path, size, crcs.get(name), quick)
        if not fault and not quick:
            fault = _keys_fault(catalog, id, path, rows)
        if fault and id in catalog.curve_dates():
            yield Damage(Part.CURVES, str(path), fault)
    known = set(crcs) | set(catalog.file_crcs())  # what was sealed meanwhile is known by now
    for top in ("segments", "rollups", "curves"):
        for path in sorted((directory / top).rglob("*.parquet")):
            name = path.relative_to(directory).as_posix()
            if name not in known and name not in catalog.file_crcs():
                text = (
                    "the catalog does not know this file: it is being written, or a crash left it"
                )
                yield Damage(Part.LEFTOVER, str(path), text)


def _file_fault(path: Path, size: int, crc: int | None, quick: bool) -> str:
    try:
        found = path.stat().st_size
        if found != size:
            return f"has {found} bytes where {size} were written"
        if quick:
            return ""
        if crc is None:  # of the first days: pages have checksums of their own
            pq.ParquetFile(path, page_checksum_verification=True).read(use_threads=False)
        elif file_crc(path) != crc:
            return "a checksum does not match the stored bytes"
    except FileNotFoundError:
        return "is missing"
    except (OSError, pa.ArrowException) as error:
        return f"cannot be read ({error})"
    return ""


def _keys_fault(catalog: Catalog, id: int, path: Path, rows: int) -> str:
    """The file says itself what its curves are of."""
    names = ["serial", "time_ns", "station", "step", "program"]
    with pq.ParquetFile(path) as file:
        table = file.read(columns=names, use_threads=False)
    found = list(zip(*(table.column(name).to_pylist() for name in names), strict=True))
    if len(found) != rows:
        return f"holds {len(found)} curves where the catalog knows {rows}"
    for k in catalog.curves_of(id):
        if not 0 <= k.row < rows or found[k.row] != (
            k.serial,
            k.time_ns,
            k.station,
            k.step,
            k.program,
        ):
            return f"the catalog's key of the curve {k.serial!r} at {k.station!r} is not the file's"
    return ""


def _log_frames(directory: Path) -> Iterator[tuple[Path, int, list[wal.Frame]]]:
    """Each log file with its size and its valid frames."""
    for path in wal.log_files(directory):
        try:
            yield path, path.stat().st_size, [frame for frame, _ in wal.scan(path)]
        except FileNotFoundError:
            continue  # sealed meanwhile


def _log(
    directory: Path, files: list[tuple[Path, int, list[wal.Frame]]], sealed: int
) -> Iterator[Damage]:
    """Bytes that are no frame, with the acknowledged frames that are missing there."""
    frames = [frame for _, _, found in files for frame in found]
    positions = {frame.position for frame in frames}
    acknowledged = wal.acknowledged(directory, frames, sealed)
    missing = sorted(set(range(sealed + 1, acknowledged + 1)) - positions)
    for path, size, found in files:
        for start, stop, first, last in _holes(path, size, found):
            here = [p for p in missing if first <= p <= last]
            missing = [p for p in missing if p not in here]
            where = f"bytes {start} to {stop} are no valid frame"
            if here:
                yield Damage(
                    Part.LOG, str(path),
                    f"{where}: {len(here)} acknowledged frames ({here[0]} to {here[-1]}) are lost",
                )  # fmt: skip
            else:
                text = f"{where}; all that was acknowledged there is safe in other files"
                yield Damage(Part.LEFTOVER, str(path), text)
    if missing:
        text = f"{len(missing)} acknowledged frames ({missing[0]} to {missing[-1]}) are missing"
        yield Damage(Part.LOG, str(directory), text)


def _holes(path: Path, size: int, frames: list[wal.Frame]) -> Iterator[tuple[int, int, int, int]]:
    """Stretches ``(start, stop)`` that no frame covers, and the positions that may be there."""
    at, position = 0, wal.first_position(path) - 1
    for frame in frames:
        if frame.offset > at:
            yield at, frame.offset, position + 1, frame.position - 1
        at, position = frame.end, frame.position
    if at < size:
        yield at, size, position + 1, 2**63
