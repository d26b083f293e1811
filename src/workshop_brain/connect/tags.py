"""What a tag's name, data type and range say about the signal: kind, display range, path."""

from collections.abc import Sequence

from workshop_brain.model.signal import SignalKind, path_part

_LEVELS = ("site", "area", "line", "cell", "unit")

# Names of the PackTags and of this product's reference plant, as path parts.
_KINDS: dict[str, SignalKind] = {
    "state_current": SignalKind.STATE,
    "state": SignalKind.STATE,
    "unit_mode_current": SignalKind.STATE,
    "mode": SignalKind.STATE,
    "stop_reason": SignalKind.STATE,
    "alarm_code": SignalKind.STATE,
}
_RANGES: dict[str, tuple[float, float]] = {
    "state_current": (0.0, 17.0),
    "unit_mode_current": (0.0, 3.0),
    "stop_reason": (0.0, 12.0),
}
_BY_KIND: dict[SignalKind, tuple[float, float]] = {
    SignalKind.GAUGE: (0.0, 100.0),
    SignalKind.COUNTER: (0.0, 1e6),
    SignalKind.STATE: (0.0, 20.0),
    SignalKind.FLAG: (0.0, 1.0),
    SignalKind.TEXT: (0.0, 1.0),
}
STATE_CURRENT = "state_current"


def kind_of(name: str, *, is_bool: bool, is_text: bool, is_integer: bool) -> SignalKind:
    """Kind of a signal from its name (a path part) and data type.

    >>> kind_of("prod_processed_count", is_bool=False, is_text=False, is_integer=True).name
    'COUNTER'
    """
    if is_text:
        return SignalKind.TEXT
    if is_bool:
        return SignalKind.FLAG
    if name in _KINDS:
        return _KINDS[name]
    if is_integer and (name.endswith(("count", "counter", "total")) or "_count_" in name):
        return SignalKind.COUNTER
    return SignalKind.GAUGE


def range_of(name: str, kind: SignalKind, low: float, high: float) -> tuple[float, float]:
    """Display range: the source's when it is one, else by name, else by kind.

    >>> range_of("stop_reason", SignalKind.STATE, 0.0, 0.0)
    (0.0, 12.0)
    """
    if low < high and abs(low) < float("inf") and abs(high) < float("inf"):
        return low, high
    return _RANGES.get(name, _BY_KIND[kind])


def signal_path(enterprise: str, names: Sequence[str]) -> str:
    """The 7-level path of browse or metric names below the enterprise, signal name last.

    Missing levels between the line and the unit are filled with ``_``; levels below the unit join
    the signal's name.

    >>> signal_path("local", ["works", "Assembly", "Asm1", "Z1", "OP010", "StateCurrent"])
    'local/works/assembly/asm1/z1/op010/state_current'
    >>> signal_path("local", ["works", "Press 1", "Force"])
    'local/works/_/_/_/press_1/force'
    >>> signal_path("local", ["w", "a", "l", "c", "u", "Spindle", "Torque"])
    'local/w/a/l/c/u/spindle_torque'
    """
    parts = [path_part(name) for name in names]
    place, signal = parts[:-1], parts[-1:]
    if len(place) > len(_LEVELS):
        place, signal = place[: len(_LEVELS)], place[len(_LEVELS) :] + signal
    missing = len(_LEVELS) - len(place)
    if missing:
        place = [*place[:-1], *["_"] * missing, *place[-1:]]
    return "/".join([path_part(enterprise), *place, "_".join(signal)])
