"""A line in motion from a file: stations, times of the models, buffers, stops, units to build."""

import csv
import io
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import OrderError
from workshop_brain.schedule.balance.flow import Flow
from workshop_brain.schedule.balance.read import document_of, number_of, whole_of

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
WORDS: dict[str, tuple[str, ...]] = {
    "id": ("station", "id", "工位", "工位号", "工位编号"),
    "time": ("time", "cycle", "cycle time", "seconds", "工时", "节拍", "作业时间"),
    "places": ("places", "buffer", "buffer places", "缓存", "缓冲", "缓冲位", "缓存位"),
    "servers": ("servers", "machines", "parallel", "并行", "并行数", "设备数", "台数"),
    "mtbf": ("mtbf", "mtbf s", "平均无故障时间", "平均故障间隔"),
    "mttr": ("mttr", "mttr s", "平均修复时间", "平均维修时间"),
    "stop_share": ("stop share", "micro stop share", "小停机率", "短停概率"),
    "stop": ("stop", "micro stop", "stop s", "小停机时间", "短停时间"),
}
_UNITS = ("quantity", "units", "demand", "数量", "产量", "需求")
MOST_UNITS = 5_000
MOST_STATIONS = 400
MOST_SECONDS = 1e7


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """A line, its names, and the units that it is to build.

    Attributes
    ----------
    quantity
        Shape (n_models): units of each model; all 1 when the file says nothing.
    """

    name: str
    stations: tuple[str, ...]
    models: tuple[str, ...]
    flow: Flow
    quantity: Ints

    @property
    def units(self) -> Ints:
        """Model of each unit, model after model."""
        return np.repeat(np.arange(len(self.models)), self.quantity)


def read_motion(text: str, name: str) -> Motion:
    """The line of a CSV, JSON or TOML text; one row, or one entry of ``stations``, a station.

    Raises
    ------
    OrderError
        Something is missing, unknown or out of range: named, with the way out.
    """
    start = text.lstrip("\ufeff \t\r\n")
    if not start:
        raise OrderError(f"{name}: is empty; write one row for each station")
    document = document_of(start, name)
    if document is not None:
        return _of_document(document, name)
    lines = start.splitlines()
    mark = max(",;\t", key=lambda c: lines[0].count(c))
    rows = [r for r in csv.reader(io.StringIO(start), delimiter=mark) if any(map(str.strip, r))]
    header, quantity = rows[0], {}
    entries: list[tuple[str, dict[str, Any]]] = []
    for at, row in enumerate(rows[1:], 2):
        cells = {h: c.strip() for h, c in zip(header, row, strict=False) if c.strip()}
        if cells and _plain(next(iter(cells.values()))) in _UNITS:
            known = {_model_of(h): c for h, c in cells.items() if _model_of(h) is not None}
            quantity = {str(m): c for m, c in known.items()}
            continue
        if mark != ",":
            cells = {h: re.sub(r"^(\d+),(\d+)$", r"\1.\2", c) for h, c in cells.items()}
        entries.append((f"{name}: row {at}", cells))
    return _motion(name, entries, quantity)


def _of_document(document: Mapping[str, Any], name: str) -> Motion:
    title = str(document.get("name", name))
    stations = document.get("stations")
    if not isinstance(stations, list):
        raise OrderError(f"{name}: has no list 'stations'; write one entry for each station")
    entries: list[tuple[str, dict[str, Any]]] = []
    for k, entry in enumerate(stations, 1):
        where = f"{name}: station {k}"
        if not isinstance(entry, dict):
            raise OrderError(f"{where}: must be a table of keys and values, got {entry!r}")
        row = dict(entry)
        times = row.pop("times", {})
        if not isinstance(times, dict):
            raise OrderError(f"{where}: times must be a table of model = time, got {times!r}")
        entries.append((where, row | {f"time {m}": t for m, t in times.items()}))
    units = document.get("units", {})
    if not isinstance(units, dict):
        raise OrderError(f"{name}: units must be a table of model = quantity, got {units!r}")
    return _motion(title, entries, units)


def _motion(
    name: str, entries: Sequence[tuple[str, Mapping[str, Any]]], quantity: Mapping[str, Any]
) -> Motion:
    if not 2 <= len(entries) <= MOST_STATIONS:
        raise OrderError(f"{name}: needs 2 to {MOST_STATIONS} stations, got {len(entries)}")
    ids: list[str] = []
    times: list[dict[str, float]] = []
    columns: dict[str, list[float]] = {f: [] for f in WORDS if f not in ("id", "time")}
    for where, row in entries:
        given = _fields(row, where)
        if "id" not in given:
            raise OrderError(f"{where}: has no station; name it in 'station / 工位'")
        ids.append(str(given["id"]))
        times.append(_times(given["time"], where))
        for field, column in columns.items():
            column.append(_value(field, given, where))
    if len(set(ids)) < len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise OrderError(f"{name}: station {twice!r} stands there twice; give each its own name")
    models = list(dict.fromkeys(m for row in times for m in row if m)) or [""]
    for (where, _), row in zip(entries, times, strict=True):
        for model in models:
            if model not in row and "" not in row:
                raise OrderError(f"{where}: has no time of model {model!r}; write 0 if it has none")
    for model in quantity:
        if model not in models:
            raise OrderError(
                f"{name}: model {model!r} has units and no times; known are {', '.join(models)}"
            )
    counts = [whole_of(quantity.get(m, 0 if quantity else 1), name, "units") for m in models]
    if min(counts) < 0 or not 0 < sum(counts) <= MOST_UNITS:
        raise OrderError(f"{name}: the units must be >= 0 and 1 to {MOST_UNITS} together")
    flow = Flow(
        cycle_s=np.array([[row.get(m, row.get("", 0.0)) for row in times] for m in models]),
        places=np.array(columns["places"][:-1], np.int64),
        servers=np.array(columns["servers"], np.int64),
        mtbf_s=np.array(columns["mtbf"]),
        mttr_s=np.array(columns["mttr"]),
        stop_p=np.array(columns["stop_share"]),
        stop_s=np.array(columns["stop"]),
    )
    if flow.cycle_s.max() <= 0.0:
        raise OrderError(f"{name}: no station takes any time; write the times in seconds")
    return Motion(
        name=name, stations=tuple(ids), models=tuple(models), flow=flow,
        quantity=np.array(counts, np.int64),
    )  # fmt: skip


def _fields(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Values by field; ``time`` holds those of the models. An unknown key is named."""
    out: dict[str, Any] = {"time": {}}
    for key, value in row.items():
        field = _BY_WORD.get(_plain(key))
        model = _model_of(key)
        if field == "time":
            out["time"][""] = value
        elif field is not None:
            out[field] = value
        elif model is not None:
            out["time"][model] = value
        else:
            known = ", ".join(w[0] for w in WORDS.values())
            raise OrderError(f"{where}: {key!r} is not known; known are {known}, time MODEL")
    return out


def _times(given: Mapping[str, Any], where: str) -> dict[str, float]:
    if not given:
        raise OrderError(f"{where}: has no time; write it in seconds in 'time / 工时'")
    return {m: _positive(t, where, f"time {m}".strip()) for m, t in given.items()}


def _value(field: str, given: Mapping[str, Any], where: str) -> float:
    least = 1 if field == "servers" else 0
    value = given.get(field, least)
    if field in ("places", "servers"):
        number = whole_of(value, where, WORDS[field][0])
        if not least <= number <= 1000:
            raise OrderError(f"{where}: {WORDS[field][0]} must be {least} to 1000, got {value}")
        return float(number)
    number_s = _positive(value, where, WORDS[field][0])
    if field == "stop_share" and number_s > 1.0:
        raise OrderError(f"{where}: stop share must be 0 to 1, got {value}")
    if field == "mttr" and number_s > 0.0 and not number_of(given.get("mtbf", 0), where, "mtbf"):
        raise OrderError(f"{where}: has mttr and no mtbf; write both, in seconds")
    return number_s


def _positive(value: Any, where: str, what: str) -> float:
    number: Decimal = number_of(value, where, what)
    if not 0 <= number <= Decimal(MOST_SECONDS):
        raise OrderError(f"{where}: {what} must be 0 to {MOST_SECONDS:g}, got {value}")
    return float(number)


def _plain(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text).strip().lower()
    return re.sub(r"[\s_\-()./]+", " ", plain).strip()


def _model_of(header: str) -> str | None:
    """Model of a header like ``time A`` or ``工时A``; None when it is none.

    >>> _model_of("time A 2"), _model_of("工时 B"), _model_of("timer")
    ('A 2', 'B', None)
    """
    text = unicodedata.normalize("NFKC", header).strip()
    for word in sorted(WORDS["time"], key=len, reverse=True):
        if text.lower().startswith(word):
            rest = text[len(word) :]
            if not (word.isascii() and rest[:1].isalnum()):
                return rest.strip(" :_-()[]") or None
    return None


_BY_WORD = {word: field for field, words in WORDS.items() for word in words}
