"""Signals as Prometheus series: a name from the signal, labels from its place."""

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from workshop_brain.model.signal import SignalDef, SignalKind
from workshop_brain.web.prom.promql import Matcher, PromError

PLACES = ("enterprise", "site", "area", "line", "cell", "unit")
NAME = "__name__"


def metric_name(signal: str) -> str:
    """A Prometheus name of a signal's last path part.

    >>> metric_name("torque-max"), metric_name("3d_force")
    ('torque_max', '_3d_force')
    """
    name = re.sub(r"[^a-zA-Z0-9_]", "_", signal)
    return f"_{name}" if name[:1].isdigit() else name


def labels_of(signal: SignalDef) -> dict[str, str]:
    """Labels of a signal: name, the parts of its place, path, kind, and uom when it has a unit.

    >>> signal = SignalDef(path="e/s/a/l/c/u/torque", kind=SignalKind.GAUGE, unit="N.m")
    >>> sorted(labels_of(signal).items())[:3]
    [('__name__', 'torque'), ('area', 'a'), ('cell', 'c')]
    """
    parts = signal.path.split("/")
    labels = {NAME: metric_name(parts[6])} | dict(zip(PLACES, parts, strict=False))
    labels |= {"path": signal.path, "kind": signal.kind.name.lower()}
    return labels | {"uom": signal.unit} if signal.unit else labels


def matching(matcher: Matcher, values: Sequence[str]) -> NDArray[np.bool_]:
    """Which values fulfil a condition. Regular expressions are anchored and of RE2, as in
    Prometheus, so that none takes exponential time; PromError for one that is wrong."""
    array = pa.array(values, pa.string())
    if matcher.op in ("=", "!="):
        found = pc.equal(array, pa.scalar(matcher.value))
    else:
        try:
            found = pc.match_substring_regex(array, pattern=f"^(?s:{matcher.value})$")
        except pa.ArrowInvalid as error:
            raise PromError(
                f"label {matcher.label!r}: {matcher.value!r} is no regular expression: {error}"
            ) from error
    hits: NDArray[np.bool_] = found.to_numpy(zero_copy_only=False)
    return ~hits if matcher.op in ("!=", "!~") else hits


class SeriesIndex:
    """Labels of all signals with numbers, found by conditions."""

    def __init__(self, signals: Sequence[SignalDef]) -> None:
        self.signals = list(signals)
        kept = [s for s in signals if s.kind is not SignalKind.TEXT]
        self.labels = [labels_of(s) for s in kept]
        names = sorted({name for labels in self.labels for name in labels})
        self._columns = {name: self._column(name) for name in names}

    def _column(self, name: str) -> tuple[list[str], NDArray[np.int64]]:
        values = sorted({labels.get(name, "") for labels in self.labels})
        place = {value: k for k, value in enumerate(values)}
        codes = np.array([place[labels.get(name, "")] for labels in self.labels], np.int64)
        return values, codes

    def find(self, matchers: Sequence[Matcher]) -> list[dict[str, str]]:
        """Labels of the series that fulfil all conditions."""
        keep = np.ones(len(self.labels), bool)
        for matcher in matchers:
            values, codes = self._columns.get(
                matcher.label, ([""], np.zeros(len(self.labels), np.int64))
            )
            keep &= matching(matcher, values)[codes]
        return [self.labels[k] for k in np.flatnonzero(keep).tolist()]

    def metadata(self) -> dict[str, list[dict[str, str]]]:
        """Type and unit per name."""
        out: dict[str, list[dict[str, str]]] = {}
        for labels in self.labels:
            kind = "counter" if labels["kind"] == "counter" else "gauge"
            entry = {"type": kind, "help": labels[NAME], "unit": labels.get("uom", "")}
            entries = out.setdefault(labels[NAME], [])
            if entry not in entries:
                entries.append(entry)
        return out
