"""What the words of a device that names nothing may be: proposals of low confidence. Pure."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workshop_brain.connect import tags
from workshop_brain.connect.discovery import registers
from workshop_brain.connect.discovery.options import Options
from workshop_brain.connect.discovery.propose import Discovery, Guess, Proposal
from workshop_brain.errors import SourceError
from workshop_brain.model.signal import SignalDef, SignalKind

_SHOWN = 15
Row = Callable[["Area", registers.Guessed], tuple[str, str]]
"""Address and type, in the words of the protocol, of a value in an area."""


@dataclass(slots=True)
class Area:
    """A run of readable words from the start of a data block or device, and how it read."""

    name: str
    count: int
    reads: list[NDArray[np.uint16]] = field(default_factory=list)


def discovered(
    url: str,
    protocol: str,
    areas: list[Area],
    row: Row,
    *,
    word_order: str,
    facts: list[tuple[str, dict[str, Any]]],
    seconds: float,
    options: Options,
) -> Discovery:
    """The proposals for all areas; SourceError when every word is 0."""
    rows: list[dict[str, Any]] = []
    proposals: list[Proposal] = []
    live: dict[str, tuple[str, float]] = {}
    for area in areas:
        words = np.stack(area.reads)
        for found in _in_order(words, word_order):
            address, type_ = row(area, found)
            names = [options.site, options.source, address.replace(".", "_").lower()]
            name = names[-1]
            low, high = tags.range_of(name, SignalKind.GAUGE, 0.0, 0.0)
            signal = SignalDef(
                path=tags.signal_path(options.enterprise, names), kind=SignalKind.GAUGE, low=low,
                high=high, source=options.source, address=address,
            )  # fmt: skip
            values = series(words, found)
            rows.append({"path": "/".join(names), "address": address, "type": type_})
            proposals.append(proposal(signal, found, values, seconds))
            live[signal.path] = (f"{values[-1]:.6g}", proposals[-1].rate_hz)
    if not rows:
        raise SourceError(
            f"{url}: {sum(area.count for area in areas)} words can be read and all are 0; look "
            "again while the machine runs, or write [[source.tag]] rows from the PLC's program"
        )
    ordered = sorted(live.items(), key=lambda item: -item[1][1])[:_SHOWN]
    return Discovery(
        url=url,
        protocol=protocol,
        source={"protocol": protocol, "url": url, "tag": rows},
        proposals=proposals,
        facts=[*facts, ("unnamed", {})],
        live=dict(ordered),
        seconds=seconds,
        watched=len(proposals),
        samples_per_s=sum(p.rate_hz for p in proposals),
    )


def _in_order(words: NDArray[np.uint16], word_order: str) -> Iterator[registers.Guessed]:
    """Guesses; what would be a float in the order that this protocol has not is two words."""
    for found in registers.guess(words):
        if found.type != "float32" or found.word_order == word_order:
            yield found
            continue
        for at in (found.offset, found.offset + 1):
            if words[:, at].any():
                yield registers.Guessed(at, "uint16", "", 0.2)


def series(words: NDArray[np.uint16], found: registers.Guessed) -> NDArray[np.float64]:
    """How a value read over time, shape (n_reads,)."""
    column = words[:, found.offset]
    if found.type == "float32":
        other = words[:, found.offset + 1]
        pair = (column, other) if found.word_order == "big" else (other, column)
        return registers.floats(*pair).astype(np.float64)
    if found.type == "int16":
        return column.view(np.int16).astype(np.float64)
    return column.astype(np.float64)


def proposal(
    signal: SignalDef, found: registers.Guessed, values: NDArray[np.float64], seconds: float
) -> Proposal:
    """A signal that stands for a value without a name."""
    changes = int((np.diff(values) != 0).sum())
    reason = "rate.few" if changes else "rate.still"
    return Proposal(
        signal=signal,
        browse=signal.address,
        companion="",
        rate_hz=changes / max(seconds, 0.1),
        guesses={
            "path": Guess(confidence=0.1, reason="path.register"),
            "kind": Guess(confidence=found.confidence, reason="kind.register"),
            "unit": Guess(confidence=0.0, reason="unit.none"),
            "rate": Guess(confidence=0.6 if changes else 0.4, reason=reason),
        },
    )
