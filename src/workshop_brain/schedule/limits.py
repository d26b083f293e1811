"""What a plan must keep besides machines and precedence: tools, operators, lags, buffers, power.

A problem without limits pays nothing for them. Limits name operations and machines by their index
in the problem, and tools, skills and buffers by their ids. ``serial`` builds plans that keep them,
``lists`` searches among such plans, ``verify`` checks them anew without either.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import InfeasibleError

Ints = NDArray[np.int64]
MOST_SKILLS = 6
"""Skills that may hang together through operators who have several of them."""
Windows = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A kind of tool or fixture, of which there are a few.

    Attributes
    ----------
    quantity
        How many there are, >= 1.
    closed
        Windows ``(from, to)`` in ticks in which none can be had (regrinding, calibration).
    """

    id: str
    quantity: int = 1
    closed: Windows = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """A person.

    Attributes
    ----------
    skills
        What the person may be called for; one call at a time. Work may be handed over to another
        person with the skill (a shift ends before the run does).
    closed
        Windows ``(from, to)`` in ticks outside the person's shifts.
    """

    id: str
    skills: tuple[str, ...]
    closed: Windows = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """Places between machines.

    Attributes
    ----------
    capacity
        Lots that may stand there; 0 = none: a lot stays on its machine until the next takes it.
    """

    id: str
    capacity: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Limits:
    """Everything beyond machines, changeovers, calendars and precedence.

    Attributes
    ----------
    op_needs
        ``(operation, tool or skill, quantity)`` while the operation runs. A tool is held from
        start to end, closed time included; an operator is needed in open time only.
    machine_needs
        ``(machine, tool or skill, quantity)`` while anything runs there; adds to ``op_needs``.
    op_setup_needs, machine_setup_needs
        The same during the changeover before the operation, or any on the machine.
    max_lags
        ``(before, after, ticks)``: ``after`` starts at most so late after the end of ``before``.
    buffered
        ``(before, after, buffer)``: between the two the lot stands in the buffer. It leaves the
        machine of ``before`` when the buffer has a place or ``after`` takes it; until then the
        machine is blocked. Transport time is the lag of the arc.
    deadlines
        ``(operation, tick)``: latest end. Due dates may be missed at a price, deadlines not.
    batches
        ``(machine, capacity)``: operations of one family and duration may run there together, as
        one load: they start together, and what they take of the capacity does not exceed it. The
        machine's own needs count once a load, and its changeover needs what any of them asks.
    sizes
        ``(operation, size)``: what it takes of a load; 1 where nothing is said.
    tariff
        ``(from tick, price per kWh)``, by tick; before the first power costs nothing.
    power_kw
        Power that each machine draws while it works, shape (n_machines,); empty = none.
    """

    tools: tuple[Tool, ...] = ()
    operators: tuple[Operator, ...] = ()
    buffers: tuple[Buffer, ...] = ()
    op_needs: tuple[tuple[int, str, int], ...] = ()
    machine_needs: tuple[tuple[int, str, int], ...] = ()
    op_setup_needs: tuple[tuple[int, str, int], ...] = ()
    machine_setup_needs: tuple[tuple[int, str, int], ...] = ()
    max_lags: tuple[tuple[int, int, int], ...] = ()
    buffered: tuple[tuple[int, int, str], ...] = ()
    deadlines: tuple[tuple[int, int], ...] = ()
    tariff: tuple[tuple[int, float], ...] = ()
    power_kw: tuple[float, ...] = ()
    batches: tuple[tuple[int, int], ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()

    @property
    def skills(self) -> tuple[str, ...]:
        """All skills that somebody has, sorted."""
        return tuple(sorted({skill for operator in self.operators for skill in operator.skills}))

    @property
    def has_setup_needs(self) -> bool:
        """Whether changeovers need anybody or anything, so that their instants count."""
        return bool(self.op_setup_needs or self.machine_setup_needs)


def check(
    limits: Limits,
    op_ids: Sequence[str],
    machine_ids: Sequence[str],
    lag_of: dict[tuple[int, int], int],
) -> None:
    """InfeasibleError that names what of the limits contradicts itself or the problem.

    Parameters
    ----------
    lag_of
        Least lag of each precedence ``(before, after)`` of the problem.
    """
    for what, ids in (
        ("tool or skill", [*(tool.id for tool in limits.tools), *limits.skills]),
        ("operator", [operator.id for operator in limits.operators]),
        ("buffer", [buffer.id for buffer in limits.buffers]),
    ):
        double = sorted({id for id in ids if ids.count(id) > 1})
        if double:
            raise InfeasibleError(f"{what} {double[0]!r} stands twice; give each one id")
    for tool in limits.tools:
        if tool.quantity < 1:
            raise InfeasibleError(f"tool {tool.id!r}: quantity must be >= 1, got {tool.quantity}")
    for buffer in limits.buffers:
        if buffer.capacity < 0:
            raise InfeasibleError(
                f"buffer {buffer.id!r}: capacity must be >= 0, got {buffer.capacity}"
            )
    _check_needs(limits, op_ids, machine_ids)
    _check_arcs(limits, op_ids, lag_of)
    for o, tick in limits.deadlines:
        if not 0 <= o < len(op_ids):
            raise InfeasibleError(f"deadline {tick}: no operation {o} in the problem")
    _check_power(limits, machine_ids)
    _check_batches(limits, op_ids, machine_ids)


def _check_batches(limits: Limits, op_ids: Sequence[str], machine_ids: Sequence[str]) -> None:
    seen: set[int] = set()
    for m, capacity in limits.batches:
        if not 0 <= m < len(machine_ids) or m in seen:
            raise InfeasibleError(f"batch machine {m}: stands twice, or is none of the problem")
        if capacity < 1:
            raise InfeasibleError(
                f"machine {machine_ids[m]!r}: a load must hold 1 or more, got {capacity}"
            )
        seen.add(m)
    for o, size in limits.sizes:
        if not 0 <= o < len(op_ids) or size < 1:
            raise InfeasibleError(f"size {size}: must be >= 1, of an operation of the problem")


def _check_needs(limits: Limits, op_ids: Sequence[str], machine_ids: Sequence[str]) -> None:
    there = {tool.id: tool.quantity for tool in limits.tools}
    for skill in limits.skills:
        there[skill] = sum(skill in operator.skills for operator in limits.operators)
    for what, ids, rows in (
        ("operation", op_ids, (*limits.op_needs, *limits.op_setup_needs)),
        ("machine", machine_ids, (*limits.machine_needs, *limits.machine_setup_needs)),
    ):
        for index, name, quantity in rows:
            if not 0 <= index < len(ids):
                raise InfeasibleError(f"need of {name!r}: no {what} {index} in the problem")
            if name not in there:
                raise InfeasibleError(
                    f"{what} {ids[index]!r}: there is no tool {name!r} and no operator with that "
                    f"skill; known are {', '.join(sorted(there)) or 'none'}"
                )
            if not 1 <= quantity <= there[name]:
                raise InfeasibleError(
                    f"{what} {ids[index]!r}: needs {quantity} of {name!r}, there are {there[name]}"
                )


def _check_arcs(limits: Limits, op_ids: Sequence[str], lag_of: dict[tuple[int, int], int]) -> None:
    buffers = {buffer.id for buffer in limits.buffers}
    arcs = [(p, s, "maximum lag") for p, s, _ in limits.max_lags]
    arcs += [(p, s, f"buffer {name!r}") for p, s, name in limits.buffered]
    for p, s, what in arcs:
        if (p, s) not in lag_of:
            names = [op_ids[o] if 0 <= o < len(op_ids) else o for o in (p, s)]
            raise InfeasibleError(
                f"{what} between {names[0]!r} and {names[1]!r}: the second does not follow the "
                "first; add the precedence"
            )
    for p, s, most in limits.max_lags:
        if most < lag_of[p, s]:
            raise InfeasibleError(
                f"operation {op_ids[s]!r} must start within {most} after {op_ids[p]!r} and cannot "
                f"before {lag_of[p, s]}; raise the maximum lag"
            )
    seen: set[int] = set()
    for p, _, name in limits.buffered:
        if name not in buffers:
            raise InfeasibleError(
                f"operation {op_ids[p]!r}: no buffer {name!r}; known are "
                f"{', '.join(sorted(buffers)) or 'none'}"
            )
        if p in seen:
            raise InfeasibleError(f"operation {op_ids[p]!r}: its lot can stand in one buffer only")
        seen.add(p)


def _check_power(limits: Limits, machine_ids: Sequence[str]) -> None:
    ticks = [tick for tick, _ in limits.tariff]
    if ticks != sorted(set(ticks)):
        raise InfeasibleError("tariff: its ticks must rise")
    for tick, price in limits.tariff:
        if not 0 <= price < 1e9:
            raise InfeasibleError(f"tariff: price at {tick} must be >= 0, got {price}")
    if limits.power_kw and len(limits.power_kw) != len(machine_ids):
        raise InfeasibleError(
            f"power_kw: {len(limits.power_kw)} values for {len(machine_ids)} machines"
        )
    for id, power in zip(machine_ids, limits.power_kw, strict=False):
        if not 0 <= power < 1e9:
            raise InfeasibleError(f"machine {id!r}: power_kw must be >= 0, got {power}")
