"""Which signals of a source are taken, and what the plant file says of them otherwise.

A glob is matched against the whole path (``local/works/.../torque``) and against the whole browse
path at the source (``Plant/works/.../Torque``; for Sparkplug ``group/node/device/metric``), capital
letters as written. ``*`` stands for any characters, also ``/``; ``?`` for one; all others for
themselves.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from workshop_brain.connect.tags import signal_path
from workshop_brain.model.signal import SignalDef, SignalKind, path_part

_KINDS = tuple(kind.name.lower() for kind in SignalKind)
_MOST_GLOB = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """What is said of the signals that a glob matches; "" and NaN leave what the source says.

    Attributes
    ----------
    path
        Names below the enterprise, the signal's last. Its last ``*`` takes what the last ``*`` of
        ``match`` stood for, as one name, and so on to the left.
    low, high
        Display range, both or neither.
    """

    match: str
    path: str = ""
    kind: str = ""
    unit: str = ""
    low: float = field(default=math.nan, metadata={"signed": True})
    high: float = field(default=math.nan, metadata={"signed": True})

    def fault(self) -> str:
        """Key and what is wrong with its value; "" when nothing is.

        >>> Override(match="*/Count", kind="number").fault()
        "kind: no kind 'number'; known are gauge, counter, state, flag, text"
        """
        if why := _glob_fault(self.match):
            return f"match: {why}"
        if self.path.count("*") > self.match.count("*"):
            return f"path: {self.path!r} has more '*' than match {self.match!r}"
        if self.path and not all(self.path.split("/")):
            return f"path: must be names with '/' between them, got {self.path!r}"
        if self.kind and self.kind not in _KINDS:
            return f"kind: no kind {self.kind!r}; known are {', '.join(_KINDS)}"
        if math.isnan(self.low) != math.isnan(self.high):
            return "low and high: give both or neither"
        if self.low >= self.high:
            return f"low: must be below high, got low = {self.low:g}, high = {self.high:g}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The globs and overrides of one source."""

    enterprise: str
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    overrides: Sequence[Override] = ()

    def shaped(self, signal: SignalDef, browse: str) -> SignalDef | None:
        """The signal as the plant file wants it; None when it is not to be taken.

        Overrides apply in their order; where two say something of one key, the later one is right.
        A text stays a text and a number a number, whatever ``kind`` says.
        """
        names = (signal.path, browse)
        if self.include and not _any(self.include, names):
            return None
        if _any(self.exclude, names):
            return None
        for row in self.overrides:
            found = _pattern(row.match).fullmatch(browse) or _pattern(row.match).fullmatch(
                signal.path
            )
            if found:
                signal = _overridden(signal, row, found.groups(), self.enterprise)
        return signal


def choice_fault(
    include: Sequence[str], exclude: Sequence[str], overrides: Sequence[Override]
) -> str:
    """Key and what is wrong with its value; "" when nothing is."""
    for key, globs in (("include", include), ("exclude", exclude)):
        for i, glob in enumerate(globs):
            if why := _glob_fault(glob):
                return f"{key}[{i}]: {why}"
    for i, row in enumerate(overrides):
        if why := row.fault():
            return f"override[{i}].{why}"
    return ""


def matches(glob: str, name: str) -> bool:
    """Whether a glob stands for a name.

    >>> matches("*/Diag*", "Plant/Diagnostics/Load"), matches("a?c", "abc"), matches("a[b]", "ab")
    (True, True, False)
    """
    return _pattern(glob).fullmatch(name) is not None


def _overridden(
    signal: SignalDef, row: Override, stood_for: Sequence[str], enterprise: str
) -> SignalDef:
    path, kind = signal.path, signal.kind
    if row.path:
        first, *others = row.path.split("*")
        taken = stood_for[len(stood_for) - len(others) :]
        filled = first + "".join(
            path_part(text) + part for text, part in zip(taken, others, strict=True)
        )
        path = signal_path(enterprise, filled.split("/"))
    if row.kind and (row.kind == "text") == (kind is SignalKind.TEXT):
        kind = SignalKind[row.kind.upper()]
    low, high = signal.low, signal.high
    if not math.isnan(row.low):
        low, high = row.low, row.high
    return replace(signal, path=path, kind=kind, unit=row.unit or signal.unit, low=low, high=high)


def _any(globs: Sequence[str], names: Sequence[str]) -> bool:
    return any(_pattern(glob).fullmatch(name) for glob in globs for name in names)


def _glob_fault(glob: str) -> str:
    if not glob or glob != glob.strip():
        return f"must be a pattern like 'Plant/*' without outer spaces, got {glob!r}"
    if len(glob) > _MOST_GLOB:
        return f"must have at most {_MOST_GLOB} characters, got {len(glob)}"
    if glob.count("*") > 8:
        return f"must have at most 8 '*', got {glob!r}"
    return ""


@lru_cache(maxsize=4096)
def _pattern(glob: str) -> re.Pattern[str]:
    """Each ``*`` is a group; all but the last take as little as they can."""
    last = glob.rfind("*")
    out = []
    for at, sign in enumerate(glob):
        if sign == "*":
            out.append("(.*)" if at == last else "(.*?)")
        else:
            out.append("." if sign == "?" else re.escape(sign))
    return re.compile("".join(out), re.DOTALL)
