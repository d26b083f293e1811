"""Compile, or load from the cache, every kernel of line balancing."""

from dataclasses import replace
from decimal import Decimal

import numpy as np

from workshop_brain.schedule.balance.flow import plain_flow
from workshop_brain.schedule.balance.form import contract
from workshop_brain.schedule.balance.line import make_line
from workshop_brain.schedule.balance.rebalance import rebalance
from workshop_brain.schedule.balance.sequence import sequence
from workshop_brain.schedule.balance.solve import Effort, decide, solve


def warm_up() -> None:
    """Run every kernel once on a tiny line."""
    line = make_line(name="warm", tasks=["a", "b"], times=[[Decimal(2), Decimal(1)]])
    solve(line, stations=2, seconds=600.0, loads=100)
    decide(contract(replace(line, apart=((0, 1),))), 4, 2, Effort(seconds=600.0, loads=100))
    rebalance(line, {"a": 2, "b": 1}, stations=2, seconds=600.0, walks=1)
    flow = plain_flow(np.ones((2, 2)), np.array([1]))
    sequence(flow, np.array([0, 1]), seconds=600.0, steps=1)
