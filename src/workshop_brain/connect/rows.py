"""Samples that name their signals, as HTTP, files and tables bring them, before they have ids."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workshop_brain.connect.messages import MESSAGES
from workshop_brain.connect.tags import kind_of, range_of, signal_path
from workshop_brain.model.signal import Quality, SignalDef, SignalKind, path_part

FLOAT, INTEGER, BOOL, TEXT = 0, 1, 2, 3
MOST_NAME = 400
MOST_TEXT = 4096
_MOST_NAMED = 100
_EXACT = 2.0**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why one row is not taken.

    Attributes
    ----------
    row
        Where it stands in its document, counted as that counts.
    column
        Name of the column there; "" when the row as a whole is meant.
    id, params
        The message, see ``connect.messages``.
    """

    row: int
    column: str
    value: str
    id: str
    params: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return (
            f"{self.row}:{self.column}:{self.value!r} {MESSAGES[self.id][0].format(**self.params)}"
        )


@dataclass(slots=True)
class Faults:
    """Counts what is wrong; keeps the first of it by name."""

    count: int = 0
    named: list[Fault] = field(default_factory=list)
    by_cause: dict[tuple[str, str], int] = field(default_factory=dict)
    """How often by (message id, column)."""

    def add(self, row: int, column: str, value: object, id: str, **params: Any) -> None:
        """Note one row; the first of every cause and the first hundred of all are named."""
        self.count += 1
        cause = id, column
        self.by_cause[cause] = self.by_cause.get(cause, 0) + 1
        if len(self.named) < _MOST_NAMED:
            shown = str(value)[:80]
            self.named.append(Fault(row=row, column=column, value=shown, id=id, params=params))

    def once_per_cause(self) -> list[tuple[Fault, int]]:
        """The first fault of every cause that is named, and how often the cause occurred."""
        first: dict[tuple[str, str], Fault] = {}
        for fault in self.named:
            first.setdefault((fault.id, fault.column), fault)
        return [(fault, self.by_cause[cause]) for cause, fault in first.items()]


@dataclass(frozen=True, slots=True)
class Rows:
    """Columns of samples, all of one length.

    Attributes
    ----------
    names
        The distinct names of signals, as they stand in the document.
    name : int32, position in ``names``
    time_ns : int64
    value : float64; position in ``texts`` where ``form`` is TEXT
    quality : uint8, see Quality
    form : uint8, FLOAT, INTEGER, BOOL or TEXT: how the value was written
    row : int64, where the sample stands in its document
    """

    names: list[str]
    name: NDArray[np.int32]
    time_ns: NDArray[np.int64]
    value: NDArray[np.float64]
    quality: NDArray[np.uint8]
    form: NDArray[np.uint8]
    row: NDArray[np.int64]
    texts: list[str]

    def __len__(self) -> int:
        return len(self.name)

    def where(self, keep: NDArray[np.bool_]) -> "Rows":
        """The rows that are kept, with all names."""
        return replace(
            self,
            name=self.name[keep],
            time_ns=self.time_ns[keep],
            value=self.value[keep],
            quality=self.quality[keep],
            form=self.form[keep],
            row=self.row[keep],
        )


def cause_of(fault: Fault) -> str:
    """The word under which a row that was not taken is counted.

    >>> cause_of(Fault(row=3, column="value", value="x", id="samples.no_number"))
    'no_number'
    """
    return fault.id.removeprefix("samples.")


def from_cells(
    names: Sequence[Any],
    time_ns: Sequence[int | None],
    values: Sequence[Any],
    quality: NDArray[np.uint8],
    rows: Iterable[int],
    faults: Faults,
    *,
    name_column: str = "path",
) -> Rows:
    """Rows of cells of any type; those that cannot be a sample are noted and left out.

    ``None`` as a value is "no value": NaN of bad quality. A row whose time is None was noted
    before and is left out.
    """
    known: dict[str, int] = {}
    texts: dict[str, int] = {}
    kept: list[tuple[int, int, float, int, int, int]] = []
    for at, (row, name, stamp, cell) in enumerate(zip(rows, names, time_ns, values, strict=True)):
        if stamp is None:
            continue
        if not isinstance(name, str) or not name.strip("/ ") or len(name) > MOST_NAME:
            faults.add(row, name_column, name, "samples.bad_path", most=MOST_NAME)
            continue
        read = _cell(cell, texts, row, faults)
        if read is not None:
            value, form, worse = read
            code = known.setdefault(name, len(known))
            kept.append((code, stamp, value, int(quality[at]) | worse, form, row))
    columns = list(zip(*kept, strict=True)) or [(), (), (), (), (), ()]
    return Rows(
        list(known),
        np.array(columns[0], np.int32),
        np.array(columns[1], np.int64),
        np.array(columns[2], np.float64),
        np.array(columns[3], np.uint8),
        np.array(columns[4], np.uint8),
        np.array(columns[5], np.int64),
        list(texts),
    )


def _cell(
    cell: Any, texts: dict[str, int], row: int, faults: Faults
) -> tuple[float, int, int] | None:
    """Value, form and what is added to the quality; None when it was noted as a fault."""
    if isinstance(cell, bool):
        return float(cell), BOOL, 0
    if isinstance(cell, int):
        if not -(2**1000) < cell < 2**1000:
            faults.add(row, "value", "a number of hundreds of digits", "samples.infinite")
            return None
        return float(cell), INTEGER, 0 if abs(cell) <= _EXACT else int(Quality.UNCERTAIN)
    if cell is None or (isinstance(cell, float) and cell != cell):
        return float("nan"), FLOAT, int(Quality.BAD)
    if isinstance(cell, float):
        if cell in (float("inf"), float("-inf")):
            faults.add(row, "value", cell, "samples.infinite")
            return None
        return cell, FLOAT, 0
    if isinstance(cell, str):
        if len(cell) > MOST_TEXT:
            faults.add(row, "value", cell, "samples.long_text", most=MOST_TEXT)
            return None
        return float(texts.setdefault(cell, len(texts))), TEXT, 0
    faults.add(row, "value", cell, "samples.no_value")
    return None


def kinds(rows: Rows) -> list[SignalKind]:
    """Kind of every name from how its values were written, texts first, and from its last part."""
    out = []
    seen = np.zeros((len(rows.names), 4), np.bool_)
    told = ~np.isnan(rows.value)
    seen[rows.name[told], rows.form[told]] = True
    for name, (is_float, is_integer, is_bool, is_text) in zip(
        rows.names, seen.tolist(), strict=True
    ):
        out.append(
            kind_of(
                full_path("x", name).rsplit("/", 1)[1],
                is_bool=is_bool and not (is_float or is_integer or is_text),
                is_text=is_text,
                is_integer=is_integer and not is_float,
            )
        )
    return out


def full_path(enterprise: str, name: str, root: str = "") -> str:
    """The path of a name that may or may not begin with the enterprise.

    Letters that a path cannot hold are replaced by a piece of the name's digest.

    >>> full_path("local", "local/works/a/l/c/u/force")
    'local/works/a/l/c/u/force'
    >>> full_path("local", "Force", root="works/Press 1")
    'local/works/_/_/_/press_1/force'
    """
    parts = [p for p in name.strip("/ ").split("/") if p.strip()] or ["_"]
    if len(parts) == 7 and parts[0] == enterprise:
        parts = parts[1:]
    above = [p for p in root.strip("/").split("/") if p]
    return signal_path(enterprise, [_ascii(p) for p in (*above, *parts)])


def _ascii(part: str) -> str:
    """A part whose letters are not all ASCII keeps apart from others by a piece of its digest.

    >>> _ascii("Force"), _ascii("力") == _ascii("门")
    ('Force', False)
    """
    if part.isascii() and path_part(part) != "_":
        return part
    return f"{path_part(part).strip('_') or 's'}_{hashlib.sha256(part.encode()).hexdigest()[:6]}"


def definition(
    path: str,
    kind: SignalKind,
    *,
    source: str,
    address: str,
    unit: str = "",
    low: float = 0.0,
    high: float = 0.0,
) -> SignalDef:
    """A new signal with the display range that its source, its name or its kind gives."""
    low, high = range_of(path.rsplit("/", 1)[1], kind, low, high)
    return SignalDef(
        path=path, kind=kind, unit=unit[:40], low=low, high=high, source=source, address=address
    )
