"""Compile, or load from the cache, every kernel of this room: at set-up and before the first
event, since the reaction path must never wait for a compiler."""

from workshop_brain.model.event import Event, EventKind
from workshop_brain.schedule.limits import Limits
from workshop_brain.schedule.objective import DOCUMENT_WEIGHTS
from workshop_brain.schedule.react import react
from workshop_brain.schedule.rules import construct
from workshop_brain.schedule.search import improve
from workshop_brain.schedule.structure import Problem, assemble


def warm_up() -> None:
    """Run every kernel once on a tiny problem."""
    event = Event(time_ns=2 * 10**9, kind=EventKind.BREAKDOWN, path="0")
    for problem in (_tiny(), _tiny().with_(limits=Limits(tariff=((0, 1.0),)))):
        plan = construct(problem)
        react(problem, plan, event, frozen_s=2, iterations=20)
        improve(problem, plan, iterations=20)
    path = _tiny(target="makespan")
    improve(path, construct(path), iterations=20, stable=False, weights=DOCUMENT_WEIGHTS)


def _tiny(target: str = "tardiness") -> Problem:
    return assemble(
        target=target,
        alternatives=[[(0, 3), (1, 4)], [(0, 2)], [(1, 5)]],
        preds=[[], [(0, 1)], []],
        op_job=[0, 0, 1],
        job_due=[4, 6],
        n_machines=2,
        calendar=[[] if target == "makespan" else [(20, 30)], []],
        machines={"resumable": [0, 1]},
    )
