"""How often an edge node speaks, and from when on its silence is no longer usual.

A node whose process hangs keeps its MQTT session until the broker's keep-alive ends; its silence
is the only sign. What silence means is learned from the node itself: it reports by exception, and
one that speaks once a minute is as well as one that speaks ten times a second.
"""

from collections import deque
from dataclasses import dataclass, field

from workshop_brain.units import NS_PER_S

LEAST_NS = 16 * NS_PER_S // 10
"""No silence is judged sooner: with the look every 100 ms, two seconds to a stale screen."""
_TIMES = 2.5
_SLOT_NS = 10 * NS_PER_S
_SLOTS = 16
_LEARNED_NS = 5 * NS_PER_S
_LEARNED_GAPS = 10


@dataclass(slots=True)
class Pace:
    """The longest gaps between a node's messages, newest ``_SLOTS`` slots of 10 s with any.

    A fast node is judged by its last minutes, one that speaks once a minute by its last 16 gaps.

    Attributes
    ----------
    heard_ns
        Wall time of the last message, or from when on silence counts; 0 before the first.
    """

    first_ns: int = 0
    heard_ns: int = 0
    _gaps: deque[list[int]] = field(default_factory=lambda: deque(maxlen=_SLOTS))
    """(slot, longest gap that ended in it)."""

    def heard(self, now_ns: int, *, longest_ns: int | None = None) -> None:
        """Take one message; a gap longer than ``longest_ns`` is learned as one of that length."""
        if not self.first_ns:
            self.first_ns = self.heard_ns = now_ns
            return
        gap = max(now_ns - self.heard_ns, 0)
        if longest_ns is not None:
            gap = min(gap, longest_ns)
        self.heard_ns = now_ns
        slot = now_ns // _SLOT_NS
        if self._gaps and self._gaps[-1][0] == slot:
            self._gaps[-1][1] = max(self._gaps[-1][1], gap)
        else:
            self._gaps.append([slot, gap])

    def rest(self, now_ns: int) -> None:
        """Count silence from now on: what was before is not the node's."""
        if self.first_ns:
            self.heard_ns = now_ns

    def usual_ns(self) -> int | None:
        """The longest usual gap; None until the node was heard for ten of them and 5 s."""
        longest = max((gap for _, gap in self._gaps), default=0)
        known = self.heard_ns - self.first_ns >= max(_LEARNED_NS, _LEARNED_GAPS * longest)
        return longest if known else None

    def limit_ns(self) -> int | None:
        """The silence that is no longer usual; None while nothing is known.

        >>> pace = Pace()
        >>> for k in range(100):
        ...     pace.heard((1 + k) * NS_PER_S)
        >>> pace.limit_ns() / NS_PER_S
        2.5
        """
        usual = self.usual_ns()
        return None if usual is None else max(LEAST_NS, round(_TIMES * usual))
