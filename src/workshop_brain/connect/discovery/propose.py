"""What was found at an address, and what is proposed of it: path, kind, unit, rate, how sure.

Pure: variables and what was observed of them come in as values and columns.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workshop_brain.connect import tags
from workshop_brain.model.signal import SignalDef, SignalKind, path_part

_MOST_PLACE = 5
_GROUPING = frozenset(
    {"plant", "machines", "machine", "devices", "device_set", "deviceset", "factory", "root",
     "equipment", "data", "tags", "plc"}
)  # fmt: skip
_DIAGNOSTIC = re.compile(
    r"(^|/)(Server|[^/]*Diagnostics?[^/]*|Aliases|ServerStatus|LastTransition|AvailableStates"
    r"|AvailableTransitions|LocationPath)(/|$)",
    re.IGNORECASE,
)
_STATE_WORDS = ("state", "mode", "status", "step", "program", "phase", "recipe")
_FEW_STATES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One thing with a value at a source.

    Attributes
    ----------
    browse
        Its names at the source with ``/`` between them.
    signal
        What the collector makes of it when the plant file says nothing.
    form
        ``flag``, ``integer``, ``real`` or ``text``.
    has_states, has_range, has_path
        The source itself names the states, gives a range, says where it belongs.
    companion
        Id of the companion specification that its object follows, "" for none.
    """

    browse: str
    signal: SignalDef
    form: str
    has_states: bool = False
    has_range: bool = False
    has_path: bool = False
    companion: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of n variables in some seconds, as columns of length n.

    Attributes
    ----------
    seconds
        How long was watched.
    watched : bool, whether the variable was among those watched
    samples : int64, values that came after the first
    rises, falls : int64, by how many of them the value went up or down
    distinct : int64, different values seen, at most 1000
    last : float64, NaN for texts and for nothing seen
    """

    seconds: float
    watched: NDArray[np.bool_]
    samples: NDArray[np.int64]
    rises: NDArray[np.int64]
    falls: NDArray[np.int64]
    distinct: NDArray[np.int64]
    last: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """How sure one part of a proposal is, 0..1, and the id of the reason."""

    confidence: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One signal as proposed.

    Attributes
    ----------
    rate_hz
        Values a second, NaN when it was not watched.
    guesses
        ``path``, ``kind``, ``unit`` and ``rate`` with confidence and reason.
    """

    signal: SignalDef
    browse: str
    companion: str
    rate_hz: float
    guesses: dict[str, Guess]

    @property
    def confidence(self) -> float:
        """That of the less sure of path and kind: they decide what the signal is used for."""
        return min(self.guesses["path"].confidence, self.guesses["kind"].confidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Companion:
    """A companion specification that was recognised.

    Attributes
    ----------
    id
        As in ``companion.SPECIFICATIONS``.
    types
        Names of its types to the browse paths of their instances.
    """

    id: str
    types: dict[str, list[str]]


@dataclass(slots=True, kw_only=True)
class Discovery:
    """All that was found at one address.

    Attributes
    ----------
    source
        The ``[[source]]`` table of the plant file, without ``id``; rows are lists of dicts.
    receivers
        Browse paths of objects that take job orders.
    skipped
        Reason to how many variables were left out.
    facts
        Id of a remark to its parameters.
    live
        Path to (text of the last value, values a second), the liveliest first.
    """

    url: str
    protocol: str
    source: dict[str, Any]
    proposals: list[Proposal]
    companions: list[Companion] = field(default_factory=list)
    receivers: list[str] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    facts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    live: dict[str, tuple[str, float]] = field(default_factory=dict)
    seconds: float = 0.0
    watched: int = 0
    samples_per_s: float = 0.0


def observe(
    n: int,
    seconds: float,
    watched: Sequence[int],
    index: NDArray[np.int64],
    value: NDArray[np.float64],
) -> Observed:
    """Columns of what was seen; ``index`` and ``value`` are the samples in the order of coming.

    >>> seen = observe(2, 1.0, [0, 1], np.array([0, 0, 1, 0]), np.array([1.0, 2.0, 5.0, 3.0]))
    >>> seen.samples.tolist(), seen.rises.tolist(), seen.falls.tolist(), seen.last.tolist()
    ([2, 0], [2, 0], [0, 0], [3.0, 5.0])
    """
    is_watched = np.zeros(n, np.bool_)
    is_watched[list(watched)] = True
    order = np.argsort(index, kind="stable")
    i, v = index[order], value[order]
    same = i[1:] == i[:-1]
    step = np.diff(v)
    last = np.full(n, np.nan)
    last[i] = v
    pairs = np.unique(np.column_stack([i, v]), axis=0) if len(i) else np.zeros((0, 2))
    return Observed(
        seconds=seconds,
        watched=is_watched,
        samples=np.bincount(i[1:][same], minlength=n).astype(np.int64),
        rises=np.bincount(i[1:][same & (step > 0)], minlength=n).astype(np.int64),
        falls=np.bincount(i[1:][same & (step < 0)], minlength=n).astype(np.int64),
        distinct=np.bincount(pairs[:, 0].astype(np.int64), minlength=n).astype(np.int64),
        last=last,
    )


def is_diagnostic(browse: str) -> bool:
    """Whether a browse path is about the server or the protocol, not about the plant.

    >>> is_diagnostic("PLC1/Diagnostics/Load"), is_diagnostic("PLC1/Spindle/Load")
    (True, False)
    """
    return _DIAGNOSTIC.search(browse) is not None


def choose_root(browses: Sequence[str]) -> str:
    """The folders that all variables share and that are no level of the plant.

    Leading shared names are taken off while more than five levels would remain above the signal,
    or while the name only groups (``Plant``, ``Machines``, ``DeviceSet``).

    >>> choose_root(["Plant/w/a/l/c/u/X", "Plant/w/a/l/c/u2/Y"])
    'Plant'
    >>> choose_root(["Works/Press/X", "Works/Mill/Y"])
    ''
    """
    names = [browse.split("/") for browse in browses]
    if not names:
        return ""
    shortest, deepest = min(map(len, names)), max(map(len, names))
    taken = 0
    while taken < shortest - 2:
        name = names[0][taken]
        shared = all(parts[taken] == name for parts in names)
        too_deep = deepest - taken - 1 > _MOST_PLACE
        if not shared or not (too_deep or path_part(name) in _GROUPING):
            break
        taken += 1
    return "/".join(names[0][:taken])


def folder_rows(browses: Sequence[str]) -> list[dict[str, Any]]:
    """Override rows for top folders of which a server has several and one is no level of the plant:
    six names lie between it and the signal's, where five have room.

    >>> folder_rows(["Plant/w/a/l/c/u/X", "Other/Y"])
    [{'match': 'Plant/*/*/*/*/*/*', 'path': '*/*/*/*/*/*'}]
    """
    names = [browse.split("/") for browse in browses]
    tops = dict.fromkeys(parts[0] for parts in names)
    if len(tops) < 2:
        return []
    deep = {parts[0] for parts in names if len(parts) > _MOST_PLACE + 1}
    stars = "/".join("*" * (_MOST_PLACE + 1))
    return [{"match": f"{top}/{stars}", "path": stars} for top in tops if top in deep]


def propose(variables: Sequence[Variable], seen: Observed | None) -> list[Proposal]:
    """A proposal for each variable."""
    out = []
    for i, variable in enumerate(variables):
        kind, kind_guess = _kind(variable, seen, i)
        signal = variable.signal
        if kind is not signal.kind:
            low, high = tags.range_of(signal.name, kind, *_given_range(variable))
            signal = _replaced(signal, kind, low, high)
        rate, rate_guess = _rate(seen, i)
        guesses = {
            "path": _path(variable),
            "kind": kind_guess,
            "unit": _unit(variable),
            "rate": rate_guess,
        }
        out.append(
            Proposal(
                signal=signal,
                browse=variable.browse,
                companion=variable.companion,
                rate_hz=rate,
                guesses=guesses,
            )
        )
    return out


def overrides(variables: Sequence[Variable], proposals: Sequence[Proposal]) -> list[dict[str, Any]]:
    """``[[source.override]]`` rows that make the collector take what is proposed: few.

    One row for each last name whose signals are all to get the same kind.
    """
    wanted: dict[str, Counter[str]] = {}
    for variable, proposal in zip(variables, proposals, strict=True):
        name = variable.browse.rsplit("/", 1)[-1]
        same = variable.signal.kind is proposal.signal.kind
        said = "" if same else proposal.signal.kind.name.lower()
        wanted.setdefault(name, Counter())[said] += 1
    return [
        {"match": f"*/{name}", "kind": kind}
        for name, kinds in sorted(wanted.items())
        for kind in kinds
        if len(kinds) == 1 and kind and not set("*?") & set(name)
    ]


def total_rate(seen: Observed) -> float:
    """Values a second of all variables, those not watched counted as those watched."""
    watched = int(seen.watched.sum())
    if not watched or seen.seconds <= 0:
        return 0.0
    return float(seen.samples.sum()) / seen.seconds * len(seen.watched) / watched


def _replaced(signal: SignalDef, kind: SignalKind, low: float, high: float) -> SignalDef:
    return SignalDef(
        path=signal.path,
        kind=kind,
        unit=signal.unit,
        low=low,
        high=high,
        source=signal.source,
        address=signal.address,
    )


def _given_range(variable: Variable) -> tuple[float, float]:
    signal = variable.signal
    return (signal.low, signal.high) if variable.has_range else (0.0, 0.0)


def _path(variable: Variable) -> Guess:
    places = variable.signal.path.split("/")[1:6]
    if variable.has_path:
        return Guess(confidence=1.0, reason="path.given")
    if "_" not in places:
        return Guess(confidence=0.9, reason="path.levels")
    if variable.companion:
        return Guess(confidence=0.7, reason="path.companion")
    missing = places.count("_")
    return Guess(confidence=round(0.7 - 0.1 * missing, 2), reason="path.short")


def _kind(variable: Variable, seen: Observed | None, i: int) -> tuple[SignalKind, Guess]:
    known = variable.signal.kind
    if variable.form in ("text", "flag"):
        return known, Guess(confidence=1.0, reason=f"kind.{variable.form}")
    if variable.has_states:
        return SignalKind.STATE, Guess(confidence=0.95, reason="kind.states")
    if known is SignalKind.STATE:
        return known, Guess(confidence=0.9, reason="kind.name")
    changes = 0 if seen is None else int(seen.rises[i] + seen.falls[i])
    rises_only = seen is not None and seen.rises[i] >= 3 and not seen.falls[i]
    if known is SignalKind.COUNTER:
        if rises_only:
            return known, Guess(confidence=0.97, reason="kind.name_and_rises")
        falls = seen is not None and seen.falls[i] > 1
        return known, Guess(confidence=0.5 if falls else 0.8, reason="kind.name")
    if variable.form == "integer":
        return _integer(variable, seen, i, rises_only=rises_only)
    reason = "kind.real_moves" if changes else "kind.real"
    return SignalKind.GAUGE, Guess(confidence=0.95 if changes else 0.85, reason=reason)


def _integer(
    variable: Variable, seen: Observed | None, i: int, *, rises_only: bool
) -> tuple[SignalKind, Guess]:
    words = variable.signal.name.split("_")
    few = seen is None or seen.distinct[i] <= _FEW_STATES
    if any(word in _STATE_WORDS for word in words) and few:
        return SignalKind.STATE, Guess(confidence=0.6, reason="kind.state_word")
    if rises_only:
        return SignalKind.COUNTER, Guess(confidence=0.6, reason="kind.rises")
    return SignalKind.GAUGE, Guess(confidence=0.5, reason="kind.integer")


def _unit(variable: Variable) -> Guess:
    if variable.signal.unit:
        return Guess(confidence=1.0, reason="unit.given")
    if variable.form in ("text", "flag") or variable.signal.kind is not SignalKind.GAUGE:
        return Guess(confidence=0.9, reason="unit.none_needed")
    return Guess(confidence=0.0, reason="unit.none")


def _rate(seen: Observed | None, i: int) -> tuple[float, Guess]:
    if seen is None or not seen.watched[i] or seen.seconds <= 0:
        return math.nan, Guess(confidence=0.0, reason="rate.unwatched")
    count = int(seen.samples[i])
    rate = count / seen.seconds
    if count >= 10:
        return rate, Guess(confidence=0.9, reason="rate.seen")
    return rate, Guess(
        confidence=0.6 if count else 0.4, reason="rate.few" if count else "rate.still"
    )
