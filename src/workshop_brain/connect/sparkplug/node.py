"""What is known of one Sparkplug edge node: its births' metrics, its sequence, its silence."""

from dataclasses import dataclass, field

import numpy as np

from workshop_brain.connect.sparkplug import wire
from workshop_brain.connect.sparkplug.pace import Pace
from workshop_brain.connect.sparkplug.wire import AliasTable
from workshop_brain.model.signal import SignalDef, SignalKind

NO_SIGNAL = SignalDef(path="_/_/_/_/_/_/_", kind=SignalKind.GAUGE)
"""Stands for tables and for what the plant file leaves out."""
LEFT_OUT = 0xFFFFFFFF
"""Local id of metrics that the plant file leaves out."""


@dataclass(slots=True)
class Row:
    """One metric of an edge node."""

    local: int
    signal: SignalDef
    datatype: int
    device: str


@dataclass(slots=True, eq=False)
class EdgeNode:
    """What is known of one edge node.

    Attributes
    ----------
    seq
        Sequence number of the last message, -1 before the first birth.
    answers
        Whether a birth has ever followed a request for one.
    breaks, breaks_since_ns
        Breaks of its sequence, counted anew after half a minute.
    probed_ns
        When its silence was last answered by a request for its births.
    """

    group: str
    id: str
    is_born: bool = False
    is_dead: bool = False
    is_silent: bool = False
    is_asked: bool = False
    answers: bool = False
    breaks: int = 0
    breaks_since_ns: int = 0
    probed_ns: int = 0
    pace: Pace = field(default_factory=Pace)
    bd_seq: int = -1
    seq: int = -1
    last_ns: int = 0
    rebirth_asked_ns: int = -(1 << 62)
    table: AliasTable = field(default_factory=AliasTable)
    rows: list[Row] = field(default_factory=list)
    by_alias: dict[int, int] = field(default_factory=dict)
    by_name: dict[tuple[str, str], int] = field(default_factory=dict)
    curves: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Alias to (station path, program) of DataSet metrics."""
    alive: set[str] = field(default_factory=set)
    has_states: bool = False
    """Whether a PackML state is among its metrics."""
    leaves_out: bool = False
    """Whether the plant file leaves some of its metrics out."""

    @property
    def name(self) -> str:
        """``group/node``."""
        return f"{self.group}/{self.id}"

    def lines(self) -> list[str]:
        """Lines (work centers) that its signals speak of."""
        known = (row.signal.path for row in self.rows if row.signal is not NO_SIGNAL)
        return sorted({path.split("/")[3] for path in known})

    def locals(self) -> list[int]:
        """Local ids of its signals; tables and what is left out have none."""
        return [row.local for row in self.rows if row.signal is not NO_SIGNAL]

    def columns(self) -> AliasTable:
        """What its births said, for the kernel that reads data."""
        if not self.by_alias:
            return AliasTable()
        aliases = np.fromiter(self.by_alias.keys(), np.int64)
        row_of_alias = np.full(int(aliases.max()) + 1, wire.NO_ROW, np.int32)
        row_of_alias[aliases] = np.fromiter(self.by_alias.values(), np.int32)
        bits = [wire.SIGNED_BITS.get(r.datatype, 0) for r in self.rows]  # type: ignore[call-overload]
        return AliasTable(
            row_of_alias,
            np.array([r.local for r in self.rows], np.uint32),
            np.array(bits, np.uint8),
        )
