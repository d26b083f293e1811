"""A table of cells as samples: which column is what, and the cells as numbers, texts and times."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from workshop_brain.connect import stamps
from workshop_brain.connect.rows import (
    BOOL,
    FLOAT,
    INTEGER,
    MOST_NAME,
    MOST_TEXT,
    TEXT,
    Faults,
    Rows,
)
from workshop_brain.errors import DecodeError
from workshop_brain.model.signal import Quality

TIMES = (
    "time_ns", "time_ms", "time", "timestamp", "datetime", "date time", "date_time", "ts", "zeit",
    "zeitstempel", "时间", "时间戳", "日期时间", "采样时间", "采集时间", "记录时间",
)  # fmt: skip
SIGNALS = (
    "signal", "path", "tag", "name", "variable", "item", "channel", "messstelle", "信号", "变量",
    "标签", "测点", "名称", "点位",
)  # fmt: skip
VALUES = ("value", "val", "reading", "wert", "值", "数值", "测量值")
QUALITIES = ("quality", "q", "质量")
_EMPTY = pa.array(["", "nan", "null", "none", "n/a", "-", "--", "#n/a"])
_BOOLS = {"true": 1.0, "false": 0.0, "是": 1.0, "否": 0.0}
_UNIT = re.compile(r"(.*?)\s*[\[(（]([^\])）]{1,20})[\])）]\s*")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_QUALITY = {"good": 0, "uncertain": 1, "bad": 2}
MOST_COLUMNS = 5000


@dataclass(frozen=True, slots=True)
class Signal:
    """One column of a wide table."""

    column: int
    name: str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """Which column is what; ``signals`` is empty in the long form."""

    headers: tuple[str, ...]
    time: int
    signal: int = -1
    value: int = -1
    quality: int = -1
    text: int = -1
    signals: tuple[Signal, ...] = ()


def layout_of(
    headers: Sequence[str],
    *,
    form: str = "auto",
    time: str = "",
    signal: str = "",
    value: str = "",
) -> Layout:
    """The layout of a table by its headers; DecodeError says what is missing.

    >>> layout_of(["Time", "Force [kN]", "Door"]).signals[0]
    Signal(column=1, name='Force', unit='kN')
    >>> layout_of(["tag", "timestamp", "value"]).signals
    ()
    """
    heads = tuple(str(h).strip().lstrip("\ufeff") for h in headers)
    if not any(heads) or len(heads) > MOST_COLUMNS:
        raise DecodeError(f"has {len(heads)} columns with a header; 1 to {MOST_COLUMNS} are taken")
    at_time = _find(heads, time, TIMES, "time_column")
    if at_time < 0:
        raise DecodeError(f"has no time column among {_shown(heads)}; name it with time_column")
    at_signal = _find(heads, signal, SIGNALS, "signal_column")
    at_value = _find(heads, value, VALUES, "value_column")
    is_long = form == "long" or (form == "auto" and at_signal >= 0 and at_value >= 0)
    quality = _find(heads, "", QUALITIES, "")
    if is_long:
        if at_signal < 0 or at_value < 0:
            raise DecodeError(
                f"is long, but has no signal or value column among {_shown(heads)}; name them "
                "with signal_column and value_column"
            )
        text = _find(heads, "", ("text",), "")
        return Layout(heads, at_time, at_signal, at_value, quality, text)
    signals = tuple(_signal(at, head) for at, head in enumerate(heads) if at != at_time and head)
    if not signals:
        raise DecodeError(f"has no column of values among {_shown(heads)}")
    return Layout(heads, at_time, signals=signals)


def _shown(heads: tuple[str, ...]) -> str:
    return ", ".join(repr(h[:40]) for h in heads[:8]) + (", ..." if len(heads) > 8 else "")


def _find(heads: tuple[str, ...], wanted: str, usual: Sequence[str], key: str) -> int:
    if wanted:
        if wanted not in heads:
            raise DecodeError(f"has no column {wanted!r} ({key}) among {_shown(heads)}")
        return heads.index(wanted)
    lower = [_UNIT.sub(r"\1", h.casefold()) for h in heads]
    return next((lower.index(name) for name in usual if name in lower), -1)


def _signal(at: int, head: str) -> Signal:
    found = _UNIT.fullmatch(head)
    if found is not None and found[1]:
        return Signal(at, found[1][:MOST_NAME], found[2].strip())
    return Signal(at, head[:MOST_NAME])


@dataclass(slots=True)
class TableReader:
    """Turns blocks of one table's columns into rows.

    Parameters
    ----------
    zone
        Of times that name no offset.
    decimal
        ``.`` or ``,``; with a comma, points are taken for thousands.
    latest_ns
        A stamp beyond it comes from a wrong clock.
    """

    layout: Layout
    zone: tzinfo
    decimal: str = "."
    latest_ns: int = stamps.LAST_NS
    _is_text: dict[str, bool] = field(default_factory=dict)

    def rows(self, columns: Sequence[pa.Array], first_row: int, faults: Faults) -> Rows:
        """Samples of a block; columns in the order of the headers, all of one length."""
        layout = self.layout
        time_ns, good = self._times(columns[layout.time], first_row, faults)
        if layout.signals:
            return self._wide(columns, time_ns, good, first_row, faults)
        return self._long(columns, time_ns, good, first_row, faults)

    # -- the two forms --

    def _wide(
        self,
        columns: Sequence[pa.Array],
        time_ns: NDArray[np.int64],
        good: NDArray[np.bool_],
        first_row: int,
        faults: Faults,
    ) -> Rows:
        texts: dict[str, int] = {}
        parts: list[tuple[NDArray[Any], ...]] = []
        for k, signal in enumerate(self.layout.signals):
            cells = _Cells.of(columns[signal.column], self.decimal)
            keep = self._kept(signal.name, cells, good, first_row, signal.column, faults)
            at = np.flatnonzero(keep)
            value = cells.coded(at, texts)
            parts.append((np.full(len(at), k, np.int32), at, value, cells.form[at]))
        name, at, value, form = (np.concatenate(c) for c in zip(*parts, strict=True))
        order = np.argsort(at, kind="stable")
        at = at[order]
        return Rows(
            names=[s.name for s in self.layout.signals],
            name=name[order],
            time_ns=time_ns[at],
            value=value[order],
            quality=np.zeros(len(at), np.uint8),
            form=form[order],
            row=first_row + at.astype(np.int64),
            texts=list(texts),
        )

    def _long(
        self,
        columns: Sequence[pa.Array],
        time_ns: NDArray[np.int64],
        good: NDArray[np.bool_],
        first_row: int,
        faults: Faults,
    ) -> Rows:
        layout, texts = self.layout, dict[str, int]()
        coded = pc.fill_null(_text(columns[layout.signal]), "").dictionary_encode()
        names = [str(n).strip() for n in coded.dictionary.to_pylist()]
        code = coded.indices.to_numpy(zero_copy_only=False).astype(np.int32)
        fits = np.array([0 < len(n) <= MOST_NAME for n in names] or [True])
        for at in np.flatnonzero(good & ~fits[code]).tolist():
            faults.add(
                first_row + at, layout.headers[layout.signal], names[code[at]],
                "samples.bad_path", most=MOST_NAME,
            )  # fmt: skip
        good = good & fits[code]
        values = columns[layout.value]
        if layout.text >= 0:
            values = pc.coalesce(_text(columns[layout.text]), _text(values))
        cells = _Cells.of(values, self.decimal)
        quality, good = self._quality(columns, good, first_row, faults)
        keep = np.zeros(len(good), np.bool_)
        for k, name in enumerate(names):
            mine = good & (code == k)
            keep |= self._kept(name, cells, mine, first_row, layout.value, faults)
        kept = np.flatnonzero(keep)
        return Rows(
            names=names,
            name=code[kept],
            time_ns=time_ns[kept],
            value=cells.coded(kept, texts),
            quality=quality[kept],
            form=cells.form[kept],
            row=first_row + kept.astype(np.int64),
            texts=list(texts),
        )

    def _kept(
        self,
        name: str,
        cells: "_Cells",
        good: NDArray[np.bool_],
        first_row: int,
        column: int,
        faults: Faults,
    ) -> NDArray[np.bool_]:
        """Which cells are samples of this signal; the first that are tell what it holds."""
        told = good & cells.told
        if not told.any():
            return told
        is_text = cells.form == TEXT
        if name not in self._is_text:
            self._is_text[name] = bool(is_text[told].all())
        head = self.layout.headers[column]
        if self._is_text[name]:
            cells.make_text(told)
        checks = (
            ("samples.no_number", is_text if not self._is_text[name] else np.zeros_like(told)),
            ("samples.infinite", ~is_text & np.isinf(cells.value)),
            ("samples.long_text", cells.long),
        )
        for id, wrong in checks:
            for at in np.flatnonzero(told & wrong).tolist():
                faults.add(first_row + at, head, cells.shown(at), id, most=MOST_TEXT)
            told &= ~wrong
        return told

    # -- columns --

    def _times(
        self, column: pa.Array, first_row: int, faults: Faults
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        head = self.layout.headers[self.layout.time]
        time_ns, why = _instants(column, self.zone, head.casefold())
        far = ((time_ns < stamps.FIRST_NS) | (time_ns > self.latest_ns)) & np.array(
            [not w for w in why], np.bool_
        )
        good = np.ones(len(time_ns), np.bool_)
        for at, reason in enumerate(why):
            if reason or far[at]:
                good[at] = False
                shown = column[at].as_py()
                if reason:
                    faults.add(first_row + at, head, shown, "samples.file_time", why=reason)
                else:
                    faults.add(first_row + at, head, shown, "samples.far_time")
        return time_ns, good

    def _quality(
        self,
        columns: Sequence[pa.Array],
        good: NDArray[np.bool_],
        first_row: int,
        faults: Faults,
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        out = np.zeros(len(good), np.uint8)
        if self.layout.quality < 0:
            return out, good
        good = good.copy()
        head = self.layout.headers[self.layout.quality]
        for at, cell in enumerate(_text(columns[self.layout.quality]).to_pylist()):
            text = (cell or "").strip().casefold()
            if text in _QUALITY:
                out[at] = _QUALITY[text]
            elif re.fullmatch(r"\d{1,2}(\.0)?", text) and float(text) <= 31:
                out[at] = int(float(text))
            elif text and good[at]:
                faults.add(first_row + at, head, cell, "samples.bad_quality")
                good[at] = False
        return out, good


@dataclass(slots=True)
class _Cells:
    """Cells of one column: numbers where they are some, texts elsewhere.

    ``told``: not empty. ``long``: too long a text.
    """

    source: pa.Array
    value: NDArray[np.float64]
    form: NDArray[np.uint8]
    told: NDArray[np.bool_]
    long: NDArray[np.bool_]

    @classmethod
    def of(cls, column: pa.Array, decimal: str) -> "_Cells":
        """Read a typed column as it is, and texts as numbers where they are some."""
        kind = column.type
        n = len(column)
        no = np.zeros(n, np.bool_)
        if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
            is_bool, is_integer = pa.types.is_boolean(kind), pa.types.is_integer(kind)
            as_what = BOOL if is_bool else INTEGER if is_integer else FLOAT
            flat = column.cast(pa.int8()) if is_bool else column
            value = np.array(
                flat.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64
            )
            return cls(column, value, np.full(n, as_what, np.uint8), ~np.isnan(value), no)
        text = pc.utf8_trim_whitespace(pc.fill_null(_text(column), ""))
        told = ~np.asarray(
            pc.is_in(pc.utf8_lower(text), _EMPTY).to_numpy(zero_copy_only=False), np.bool_
        )
        value, form = _numbers(text, told, decimal)
        long = np.asarray(pc.utf8_length(text).to_numpy(zero_copy_only=False)) > MOST_TEXT
        return cls(text, value, form, told, long & (form == TEXT))

    def make_text(self, where: NDArray[np.bool_]) -> None:
        """Take these cells as the texts that they are, also those that look like numbers."""
        self.form[where] = TEXT

    def coded(self, at: NDArray[np.int64], texts: dict[str, int]) -> NDArray[np.float64]:
        """Values of some cells; those of texts are their positions in ``texts``."""
        value = self.value[at]
        is_text = self.form[at] == TEXT
        for k in np.flatnonzero(is_text).tolist():
            text = str(self.source[int(at[k])].as_py())
            value[k] = texts.setdefault(text, len(texts))
        return value

    def shown(self, at: int) -> object:
        """The cell as it stands in the file."""
        return self.source[at].as_py()


def _numbers(
    text: pa.Array, told: NDArray[np.bool_], decimal: str
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Numbers of texts, and the form of each; TEXT where a told one is no number."""
    n = len(text)
    plain = text
    if decimal == ",":
        plain = pc.replace_substring(pc.replace_substring(text, ".", ""), ",", ".")
    known = pc.if_else(pa.array(told), plain, pa.scalar(None, pa.string()))
    try:
        value = np.array(known.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
        is_number = told.copy()
    except pa.ArrowInvalid:
        value, is_number = _one_by_one(known.to_pylist())
    form = np.where(told & ~is_number, TEXT, FLOAT).astype(np.uint8)
    dotted = pc.match_substring_regex(plain, "[.eE]").to_numpy(zero_copy_only=False)
    form[is_number & np.isfinite(value) & ~np.asarray(dotted, np.bool_)] = INTEGER
    for at in np.flatnonzero(form == TEXT).tolist():
        word = _BOOLS.get(str(text[at].as_py()).casefold())
        if word is not None:
            value[at], form[at] = word, BOOL
    return (value if n else np.zeros(0)), form


def _one_by_one(cells: list[str | None]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    value, is_number = np.full(len(cells), np.nan), np.zeros(len(cells), np.bool_)
    for at, cell in enumerate(cells):
        if cell is None or "_" in cell:
            continue
        try:
            value[at] = float(cell)
        except ValueError:
            continue
        is_number[at] = True
    return value, is_number


def _text(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column if pa.types.is_string(column.type) else column.cast(pa.string())


def _instants(column: pa.Array, zone: tzinfo, head: str) -> tuple[NDArray[np.int64], list[str]]:
    """Instants of a column, and why a cell is none ("" when it is one)."""
    kind = column.type
    n = len(column)
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        whole = column.cast(pa.timestamp("ns", "UTC"), safe=False).cast(pa.int64())
    elif head == "time_ns" and pa.types.is_integer(kind):
        whole = column.cast(pa.int64())
    else:
        out = np.zeros(n, np.int64)
        why = [""] * n
        cells = _moments(column)
        for at, cell in enumerate(cells):
            try:
                out[at] = _instant(cell, zone, head)
            except (ValueError, OverflowError) as error:
                why[at] = str(error)
        return out, why
    valid = np.asarray(pc.is_valid(whole).to_numpy(zero_copy_only=False), np.bool_)
    stamp = pc.fill_null(whole, 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return stamp, ["" if v else "is empty; every row needs a time" for v in valid.tolist()]


def _moments(column: pa.Array) -> list[Any]:
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ns"), safe=False).cast(pa.string())
    cells: list[Any] = column.to_pylist()
    return cells


def _instant(cell: Any, zone: tzinfo, head: str) -> int:
    if isinstance(cell, str):
        cell = cell.strip()
        if _NUMBER.fullmatch(cell):
            cell = int(cell) if cell.lstrip("+-").isdecimal() else float(cell)
    if cell is None or cell == "":
        raise ValueError("is empty; every row needs a time")
    if isinstance(cell, str):
        found = stamps.text_ns(cell, zone)
    elif isinstance(cell, bool) or not isinstance(cell, (int, float)) or cell != cell:
        raise ValueError("is not a time; write it as 2026-03-01T08:00:00Z")
    elif head == "time_ms":
        found = round(cell * 1_000_000)
    else:
        found = int(cell) if head == "time_ns" else stamps.guessed_ns(cell)
    if not -(2**63) <= found < 2**63:
        raise ValueError("is a time that does not exist")
    return found


def late(rows: Rows, now_ns: int) -> NDArray[np.uint8]:
    """Quality with the historical flag where a row is older than a minute."""
    past = rows.time_ns < now_ns - 60_000_000_000
    return rows.quality | np.where(past, int(Quality.HISTORICAL), 0).astype(np.uint8)
