"""The decision loop: every level, every refusal, in the order in which things must happen."""

from dataclasses import replace
from typing import Any

import pytest

from workshop_brain.autonomy import actions as a
from workshop_brain.autonomy import facts as f
from workshop_brain.autonomy.envelope import (
    Move,
    MoveBudget,
    frozen_violations,
    receiver_violation,
    to_send_again,
)
from workshop_brain.autonomy.judge import Case, judge
from workshop_brain.autonomy.loop import may_send, step
from workshop_brain.autonomy.messages import MESSAGES
from workshop_brain.autonomy.record import decision_body, read_decision
from workshop_brain.autonomy.settings import AutonomySettings, EnvelopeSettings
from workshop_brain.autonomy.state import JobPhase, LoopConfig, LoopState, Planned, PlanRef
from workshop_brain.errors import LedgerError, NotAllowedError
from workshop_brain.model.decision import (
    Candidate,
    Decision,
    DecisionClass,
    DecisionState,
    Level,
    Message,
)
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.order import JobOrder, JobResponse, JobState
from workshop_brain.ports import CommandOutcome, Confirmation
from workshop_brain.units import NS_PER_H, NS_PER_MIN, NS_PER_S

U1, U2, FLOW = "local/w/a/l1/c1/u1", "local/w/a/l1/c1/u2", "local/w/b/l2/main/l2"
STATION = "local/w/b/l2/zone1/op010"
NOW = 1_800_000_000_000_000_000


def config(level: Level = Level.REPORT, release: Level = Level.REPORT, **more: Any) -> LoopConfig:
    """Two lines, fed by one source, all classes at one level but for release."""
    levels = {**dict.fromkeys(DecisionClass, level), DecisionClass.RELEASE: release}
    values: dict[str, Any] = {
        "lines": ("l1", "l2"),
        "autonomy": AutonomySettings(default=levels, veto_s=60),
        "envelope": EnvelopeSettings(),
        "receivers": {"l1": "R1", "l2": "R2"},
        "units": {U1: "l1", U2: "l1", FLOW: "l2"},
        "flow_units": {"l2": FLOW},
    }
    return LoopConfig(**{**values, **more})


def order(id: str = "A.l1", unit: str = U1, start_s: int = 60, **more: Any) -> JobOrder:
    """A job of an hour."""
    start = NOW + start_s * NS_PER_S
    values: dict[str, Any] = {
        "id": id, "requests": (("A", 10),), "work_center": "l1", "equipment": unit,
        "product": "p", "program": "f", "quantity": 10, "start_ns": start,
        "end_ns": start + NS_PER_H,
    }  # fmt: skip
    return JobOrder(**{**values, **more})


def plan(
    *orders: JobOrder, hash: str = "P1", after: dict[str, tuple[str, ...]] | None = None
) -> PlanRef:
    """A plan of the jobs."""
    return PlanRef.of(
        hash, tuple(Planned(order=o, after=(after or {}).get(o.id, ())) for o in orders)
    )


def draft(id: str, kind: DecisionClass = DecisionClass.PLAN, line: str = "l1") -> Decision:
    """What the computation hands over."""
    return Decision(
        id=id, time_ns=NOW, decision_class=kind, line=line, trigger={"kind": "start"},
        input_hash="00", seed=1, iterations=5,
        candidates=(Candidate(name="best", kpis={}, objective=80.0),
                    Candidate(name="stay", kpis={}, objective=90.0)),
        chosen=0, reasons=(), changes=(), effect={}, level=Level.OBSERVE,
        state=DecisionState.PROPOSED, plan_hash="",
    )  # fmt: skip


class Run:
    """The loop with a clock in the hand and everything it asked for."""

    def __init__(self, cfg: LoopConfig) -> None:
        self.config, self.state = cfg, LoopState()
        self.time_s = 0.0
        self.log: list[a.Action] = []

    def now(self) -> dict[str, int]:
        at = NOW + round(self.time_s * NS_PER_S)
        return {"time_ns": at, "wall_ns": at}

    def tell(self, fact: type[f.Fact], **values: Any) -> tuple[a.Action, ...]:
        self.state, actions = step(self.config, self.state, fact(**self.now(), **values))
        self.log += actions
        return actions

    def good(self) -> "Run":
        """Inputs are there and fresh, the receivers have been read."""
        self.tell(f.LinesFed, sources={"l1": frozenset({"s"}), "l2": frozenset({"s"})})
        self.tell(f.SourcesSeen, ages={"s": 0.1})
        for line in self.config.lines:
            self.tell(f.JobsListed, line=line, jobs=())
        return self

    def propose(
        self,
        ref: PlanRef,
        id: str = "D1",
        *,
        kind: DecisionClass = DecisionClass.PLAN,
        moves: tuple[Move, ...] = (),
        **more: Any,
    ) -> tuple[a.Action, ...]:
        """Ask for a plan and answer with one."""
        if self.state.computing is None:
            self.tell(f.Happened, event=event(EventKind.RUSH_ORDER, ""))
        assert self.state.computing is not None
        options = more.pop("options", (f.Option(plan=ref, chosen=0, moves=moves),))
        return self.tell(
            f.Proposed,
            token=self.state.computing.token,
            decision=draft(id, kind),
            options=options,
            **more,
        )

    def kinds(self) -> list[str]:
        return [x.kind if isinstance(x, a.Record) else type(x).__name__ for x in self.log]


def event(kind: EventKind, path: str, **payload: Any) -> Event:
    return Event(time_ns=NOW, kind=kind, path=path, payload=payload)


def found(actions: tuple[a.Action, ...] | list[a.Action], kind: type[Any]) -> list[Any]:
    return [x for x in actions if isinstance(x, kind)]


def moved(op: str = "A.l1", start_s: int = 3600, to: str = U2, by_s: int = 0) -> Move:
    """A job that goes elsewhere."""
    start = NOW + start_s * NS_PER_S
    return Move(
        op=op, line="l1", from_unit=U1, to_unit=to, from_start_ns=start,
        to_start_ns=start + by_s * NS_PER_S,
    )  # fmt: skip


def in_force(level: Level = Level.REPORT, **more: Any) -> Run:
    """A plan of two jobs is in force, whatever the level of what comes after."""
    run = Run(config(level, **more)).good()
    run.propose(plan(order(start_s=7200), order("B.l1", start_s=12000)))
    if run.state.proposal is not None:
        run.tell(f.Approved, decision="D1", user="anna")
    assert run.state.in_force is not None
    return run


def test_the_start_asks_for_a_plan_and_an_event_for_a_repair() -> None:
    run = Run(config()).good()
    (build,) = found(run.log, a.Build)
    assert build.triggers[0]["kind"] == "start"
    run.propose(plan(order()))
    (react,) = found(run.tell(f.Happened, event=event(EventKind.BREAKDOWN, U1)), a.React)
    assert react.triggers[0]["path"] == U1
    assert run.state.down == {U1: "breakdown"}


def test_the_first_plan_waits_for_lists_and_inputs_and_is_the_only_one() -> None:
    run = Run(config())
    run.tell(f.Tick)
    run.tell(f.Happened, event=event(EventKind.ORDERS_CHANGED, ""))
    run.tell(f.Happened, event=event(EventKind.BREAKDOWN, U1))
    run.tell(f.LinesFed, sources={"l1": frozenset({"s"}), "l2": frozenset({"s"})})
    run.tell(f.SourcesSeen, ages={"s": 0.1})
    run.tell(f.JobsListed, line="l1", jobs=())
    assert run.state.computing is None
    (build,) = found(run.tell(f.JobsListed, line="l2", jobs=()), a.Build)
    assert [t["kind"] for t in build.triggers] == ["start"]
    actions = run.propose(plan(order()))
    assert not found(actions, a.Improve)
    assert not run.state.pending
    assert run.state.computing is None


def test_the_first_plan_does_not_wait_for_ever() -> None:
    run = Run(config(start_wait_s=15.0))
    run.tell(f.Tick)
    run.time_s = 14
    run.tell(f.Tick)
    assert run.state.computing is None
    run.time_s = 15
    assert found(run.tell(f.Tick), a.Build)


@pytest.mark.parametrize("kind", [EventKind.RESTORED, EventKind.ORDERS_CHANGED])
def test_routine_is_gathered_and_planned_at_most_every_five_minutes(kind: EventKind) -> None:
    run = in_force(routine_s=300)
    for second in range(0, 299, 20):
        run.time_s = second
        run.tell(f.Happened, event=event(kind, U1))
        run.tell(f.Happened, event=event(kind, U2))
    assert run.state.computing is None
    run.time_s = 300
    (work,) = found(run.tell(f.Tick), a.React | a.Build)
    assert {t["path"] for t in work.triggers} == {U1, U2}


def test_a_late_finish_is_repaired_at_once_but_not_under_the_eyes_of_people() -> None:
    run = in_force(Level.APPROVE)
    (react,) = found(
        run.tell(f.Happened, event=event(EventKind.LATE_FINISH, U1, job="A.l1")), a.React
    )
    assert react.triggers[0]["kind"] == "late_finish"
    run.propose(plan(order(), order("B.l1")), "D2", kind=DecisionClass.REPAIR, moves=(moved(),))
    assert list(run.state.open) == ["D2"]
    assert not found(run.tell(f.Happened, event=event(EventKind.LATE_FINISH, U2)), a.React)


def test_routine_waits_for_the_answer_to_a_proposal() -> None:
    run = in_force(Level.APPROVE)
    run.tell(f.Happened, event=event(EventKind.BREAKDOWN, U1))
    run.propose(plan(order(), order("B.l1")), "D2", kind=DecisionClass.REPAIR, moves=(moved(),))
    before = len(run.log)
    run.tell(f.Happened, event=event(EventKind.RESTORED, U2))
    for run.time_s in (301, 500, 800):
        run.tell(f.Tick)
    assert not found(run.log[before:], a.React | a.Build | a.Improve)
    assert list(run.state.open) == ["D2"]
    run.tell(f.Rejected, decision="D2", user="anna")
    (react,) = found(run.log[before:], a.React)
    assert {t["kind"] for t in react.triggers} >= {"restored"}


def test_an_urgent_event_while_a_proposal_waits_gives_one_that_covers_both() -> None:
    run = in_force(Level.APPROVE)
    run.tell(f.Happened, event=event(EventKind.BREAKDOWN, U1))
    assert run.state.computing is not None
    first = replace(draft("D2", DecisionClass.REPAIR), trigger=run.state.computing.triggers[0])
    option = f.Option(plan=plan(order(), order("B.l1")), chosen=0, moves=(moved(),))
    run.tell(f.Proposed, token=run.state.token, decision=first, options=(option,))
    (react,) = found(run.tell(f.Happened, event=event(EventKind.QUALITY_STOP, U2)), a.React)
    assert [(t["kind"], t["path"]) for t in react.triggers] == [
        ("quality_stop", U2), ("breakdown", U1),
    ]  # fmt: skip
    run.propose(plan(order(), hash="P3"), "D3", kind=DecisionClass.REPAIR, moves=(moved(),))
    assert list(run.state.open) == ["D3"]
    assert run.state.replaced_by["D2"] == "D3"


def test_a_plan_that_only_moves_times_asks_nobody() -> None:
    run = in_force(Level.APPROVE)
    run.tell(f.Happened, event=event(EventKind.BREAKDOWN, U1))
    late = moved(to=U1, by_s=600)
    timed = plan(order(start_s=7800), order("B.l1", start_s=12000), hash="P2")
    actions = run.propose(timed, "D2", kind=DecisionClass.REPAIR, moves=(late,))
    assert run.state.states["D2"] is DecisionState.IN_FORCE
    assert run.state.in_force is not None
    assert run.state.in_force.hash == "P2"
    assert not found(actions, a.AskApproval)
    (record, approval) = found(actions, a.Record)
    assert record.body["state"] == "in_force"
    assert record.body["reasons"][-1]["id"] == "reason.only_times"
    assert approval.body["by"] == "forecast"
    assert run.state.budget.left("l1", run.state.time_ns, run.config.envelope) == 60


@pytest.mark.parametrize("level", [Level.OBSERVE, Level.ADVISE])
def test_at_observe_and_advise_not_even_times_come_into_force(level: Level) -> None:
    run = in_force(Level.REPORT)
    repair = DecisionClass.REPAIR
    run.tell(f.LevelSet, line="l1", decision_class=repair, level=level, user="anna")
    run.tell(f.Happened, event=event(EventKind.BREAKDOWN, U1))
    timed = plan(order(start_s=7800), order("B.l1", start_s=12000), hash="P2")
    run.propose(timed, "D2", kind=DecisionClass.REPAIR, moves=(moved(to=U1, by_s=600),))
    assert run.state.states["D2"] is DecisionState.PROPOSED
    assert run.state.in_force is not None
    assert run.state.in_force.hash != "P2"


def test_a_plan_without_a_job_that_is_not_over_is_more_than_another_time() -> None:
    run = in_force(Level.APPROVE)
    run.tell(f.Happened, event=event(EventKind.BREAKDOWN, U1))
    run.propose(plan(order(start_s=7800), hash="P2"), "D2", kind=DecisionClass.REPAIR)
    assert run.state.states["D2"] is DecisionState.WAITING_APPROVAL


def test_that_nothing_has_to_change_is_an_answer_to_an_urgent_event_only() -> None:
    run = in_force(Level.APPROVE)
    same = plan(order(start_s=7200), order("B.l1", start_s=12000), hash="P2")
    run.tell(f.Happened, event=event(EventKind.BREAKDOWN, U2))
    (record, _) = found(run.propose(same, "D2", kind=DecisionClass.REPAIR), a.Record)
    assert record.body["reasons"][-1]["id"] == "reason.nothing_to_do"
    run.tell(f.NothingFound, token=run.state.token, reason=Message(id="plan.no_better"))
    searched = [x.path for x in found(run.log, a.Announce) if x.topic == "searched"]
    assert searched == ["D2"]
    run.time_s = 301
    run.tell(f.Happened, event=event(EventKind.RESTORED, U2))
    assert not found(run.propose(same, "D3", kind=DecisionClass.REPAIR), a.Record)


def test_an_unanswered_proposal_is_made_anew_after_a_restart() -> None:
    run = Run(config(Level.APPROVE))
    cause = {"kind": "breakdown", "path": U1, "time_ns": NOW}
    run.tell(f.Resumed, in_force=plan(order()), causes=(cause,))
    run.good()
    (react,) = found(run.log, a.React)
    assert [t["kind"] for t in react.triggers] == ["start", "breakdown"]


def test_what_was_down_before_a_restart_is_down_for_the_first_plan() -> None:
    run = Run(config())
    stops = (event(EventKind.BREAKDOWN, U1), event(EventKind.BREAKDOWN, STATION))
    run.tell(f.Resumed, in_force=plan(order()), stops=stops)
    assert run.state.down == {U1: "breakdown"}
    assert run.state.stations == {STATION: NOW}
    run.tell(f.Happened, event=event(EventKind.RESTORED, U1))
    assert run.state.down == {}


def test_orders_of_a_refused_plan_are_planned_again() -> None:
    run = in_force(Level.APPROVE)
    more = plan(order(start_s=7200), order("B.l1", start_s=12000), order("C.l1"), hash="P2")
    new = Move(op="C.l1", line="l1", from_unit="", to_unit=U1, from_start_ns=0, to_start_ns=NOW)
    run.propose(more, "D2", moves=(new,))
    run.tell(f.Rejected, decision="D2", user="anna")
    before = len(run.log)
    run.time_s += 301
    run.tell(f.Tick)
    (build,) = found(run.log[before:], a.Build)
    assert [t["kind"] for t in build.triggers] == ["orders_changed"]


def test_the_moves_of_the_last_hour_outlast_a_restart() -> None:
    run = Run(config())
    run.tell(f.Resumed, in_force=plan(order()), budget=MoveBudget(((NOW, "l1", 40),)))
    assert run.state.budget.left("l1", NOW + 1, run.config.envelope) == 20


def test_a_new_job_is_more_than_another_time() -> None:
    run = in_force(Level.APPROVE)
    more = plan(order(start_s=7200), order("B.l1", start_s=12000), order("C.l1"), hash="P2")
    new = Move(op="C.l1", line="l1", from_unit="", to_unit=U1, from_start_ns=0, to_start_ns=NOW)
    run.propose(more, "D2", moves=(new,))
    assert run.state.states["D2"] is DecisionState.WAITING_APPROVAL


def test_routine_moves_jobs_only_for_a_clear_gain() -> None:
    run = in_force()
    run.time_s = 400
    run.tell(f.Happened, event=event(EventKind.RESTORED, U1))
    late = moved(to=U1, by_s=600)
    timed = plan(order(start_s=7800), order("B.l1", start_s=12000), hash="P3")
    options = (
        f.Option(plan=plan(order(unit=U2), hash="P2"), chosen=0, moves=(moved(),)),
        f.Option(plan=timed, chosen=1, moves=(late,)),
    )
    run.propose(timed, "D2", kind=DecisionClass.REPAIR, options=options, objective_before=80.5)
    assert run.state.in_force is not None
    assert run.state.in_force.hash == "P3"


def test_only_moves_of_the_next_hours_use_up_the_budget() -> None:
    run = in_force(near_s=4 * 3600)
    far = moved("B.l1", start_s=5 * 3600)
    run.tell(f.Happened, event=event(EventKind.BREAKDOWN, U1))
    both = plan(order(unit=U2), order("B.l1", unit=U2), hash="P2")
    run.propose(both, "D2", kind=DecisionClass.REPAIR, moves=(moved(), far))
    assert run.state.budget.left("l1", run.state.time_ns, run.config.envelope) == 59


def test_an_improvement_beyond_the_budget_is_named_as_withheld() -> None:
    run = in_force(envelope=EnvelopeSettings(moves_per_hour=1))
    run.tell(f.Happened, event=event(EventKind.BREAKDOWN, U1))
    one = plan(order(unit=U2), order("B.l1", start_s=12000), hash="P2")
    run.propose(one, "D2", kind=DecisionClass.REPAIR, moves=(moved(),))
    assert run.state.computing is not None
    assert run.state.computing.kind == "improve"
    run.propose(
        plan(order(), order("B.l1"), hash="P3"), "D3", kind=DecisionClass.IMPROVE,
        moves=(moved(), moved("B.l1")), optional=True, objective_before=100.0,
    )  # fmt: skip
    assert run.state.states["D3"] is DecisionState.BLOCKED
    (record,) = [r for r in found(run.log, a.Record) if r.body.get("id") == "D3"]
    assert record.body["reasons"][-1]["id"] == "envelope.moves"


def test_a_repair_on_bad_inputs_is_made_at_once_when_they_are_good_again() -> None:
    run = in_force()
    run.tell(f.Happened, event=event(EventKind.SOURCE_LOST, "s"))
    run.tell(f.Happened, event=event(EventKind.BREAKDOWN, U1))
    run.propose(plan(order(unit=U2)), "D2", kind=DecisionClass.REPAIR, moves=(moved(),))
    assert run.state.states["D2"] is DecisionState.BLOCKED
    (react,) = found(run.tell(f.Happened, event=event(EventKind.SOURCE_UP, "s")), a.React)
    assert react.triggers[0]["kind"] == "breakdown"


def test_lateness_is_told_again_only_when_it_has_grown_by_as_much() -> None:
    run = in_force(release_s=100)
    run.tell(f.JobsListed, line="l1", jobs=(JobResponse(job="A.l1", state=JobState.RUNNING),))
    seen = []
    end_s = 7200 + 3600
    for late_s in range(0, 1500, 50):
        run.time_s = end_s + late_s
        for action in found(run.tell(f.Tick), a.React):
            seen.append(late_s)
            assert action.triggers[0]["payload"] == {"job": "A.l1"}
        if run.state.computing is not None:
            none = Message(id="plan.none", params={"why": ""})
            run.tell(f.NothingFound, token=run.state.token, reason=none)
    assert seen == [600, 1200]


def test_material_is_late_only_while_a_job_before_is_not_over() -> None:
    after = {"A.l1": ("X.l1",), "B.l1": ("GONE.l1",)}
    run = Run(config(release_s=0)).good()
    run.propose(plan(order(), order("B.l1", U2), order("X.l1", U2, start_s=9000), after=after))
    run.time_s = 700
    run.tell(f.Tick)
    (react,) = found(run.log, a.React)
    assert [t["payload"]["job"] for t in react.triggers] == ["A.l1"]


def test_a_repair_does_not_wait_for_a_search() -> None:
    run = in_force()
    actions = run.propose(
        plan(order(), order("B.l1"), hash="P2"), "D2", kind=DecisionClass.REPAIR, moves=(moved(),)
    )
    (improve,) = found(actions, a.Improve)
    assert found(run.tell(f.Happened, event=event(EventKind.BREAKDOWN, U2)), a.React)
    assert run.state.computing is not None
    late = run.tell(
        f.Proposed,
        token=improve.token,
        decision=draft("D9", DecisionClass.IMPROVE),
        options=(f.Option(plan=plan(order(), hash="P9"), chosen=0),),
    )
    assert not found(late, a.Record)


@pytest.mark.parametrize(
    ("level", "state", "published", "in_force"),
    [
        (Level.OBSERVE, DecisionState.PROPOSED, 0, False),
        (Level.ADVISE, DecisionState.PROPOSED, 1, False),
        (Level.APPROVE, DecisionState.WAITING_APPROVAL, 1, False),
        (Level.VETO, DecisionState.WAITING_VETO, 1, False),
        (Level.REPORT, DecisionState.IN_FORCE, 1, True),
    ],
)
def test_each_level_goes_as_far_as_it_may(
    level: Level, state: DecisionState, published: int, in_force: bool
) -> None:
    run = Run(config(level)).good()
    actions = run.propose(plan(order()))
    assert run.state.states["D1"] is state
    assert len(found(actions, a.Publish)) == published
    assert (run.state.in_force is not None) is in_force
    assert bool(found(actions, a.Dispatch)) is in_force
    assert bool(found(actions, a.AskApproval)) is (level is Level.APPROVE)
    assert bool(found(actions, a.StartVetoTimer)) is (level is Level.VETO)


def test_records_stand_before_the_acts_they_allow() -> None:
    run = Run(config(Level.APPROVE)).good()
    run.propose(plan(order()))
    run.tell(f.Approved, decision="D1", user="anna")
    run.tell(
        f.Confirmed,
        line="l1",
        confirmation=Confirmation(job="A.l1", outcome=CommandOutcome.CONFIRMED),
    )
    wanted = ["decision", "approval", "command", "Dispatch", "confirmation"]
    assert [k for k in run.kinds() if k in wanted] == wanted


def test_approval_puts_the_plan_in_force_and_sends_what_is_due() -> None:
    run = Run(config(Level.APPROVE)).good()
    run.propose(plan(order(), order("B.l1", U2, start_s=7200)))
    actions = run.tell(f.Approved, decision="D1", user="anna")
    assert run.state.states["D1"] is DecisionState.IN_FORCE
    assert [d.job.id for d in found(actions, a.Dispatch)] == ["A.l1"]
    assert may_send(run.config, run.state, "l1", "A.l1")


def test_a_rejected_plan_is_not_followed() -> None:
    run = Run(config(Level.APPROVE)).good()
    run.propose(plan(order()))
    actions = run.tell(f.Rejected, decision="D1", user="anna", reason="no")
    assert found(actions, a.Record)[0].body["verdict"] == "rejected"
    assert run.state.in_force is None
    assert run.state.basis is None
    with pytest.raises(NotAllowedError, match="rejected"):
        run.tell(f.Approved, decision="D1", user="anna")


def test_without_a_veto_the_plan_goes_in_force_when_the_time_is_over() -> None:
    run = Run(config(Level.VETO)).good()
    run.propose(plan(order()))
    run.time_s = 59
    run.tell(f.Tick)
    assert run.state.in_force is None
    run.time_s = 60
    run.tell(f.Tick)
    assert run.state.in_force is not None


def test_a_veto_stops_it_and_comes_too_late_afterwards() -> None:
    run = Run(config(Level.VETO)).good()
    run.propose(plan(order()))
    (record,) = found(run.tell(f.Vetoed, decision="D1", user="bo", reason="bad"), a.Record)
    assert (record.kind, record.body["by"]) == ("veto", "bo")
    run.time_s = 100
    run.tell(f.Tick)
    assert run.state.in_force is None


def test_a_lowered_level_ends_a_running_veto_time() -> None:
    run = Run(config(Level.VETO)).good()
    run.propose(plan(order()))
    run.tell(
        f.LevelSet, line="l1", decision_class=DecisionClass.PLAN, level=Level.APPROVE, user="x"
    )
    run.time_s = 61
    run.tell(f.Tick)
    assert run.state.in_force is None
    assert run.state.states["D1"] is DecisionState.SUPERSEDED


def test_a_veto_needs_a_veto_time() -> None:
    run = Run(config(Level.APPROVE)).good()
    run.propose(plan(order()))
    with pytest.raises(NotAllowedError, match="reject"):
        run.tell(f.Vetoed, decision="D1", user="bo")
    with pytest.raises(NotAllowedError, match="not known"):
        run.tell(f.Approved, decision="D77", user="bo")


def test_a_newer_proposal_takes_the_place_of_an_open_one() -> None:
    run = Run(config(Level.APPROVE)).good()
    run.propose(plan(order()))
    run.tell(f.Happened, event=event(EventKind.BREAKDOWN, U1))
    move = Move(
        op="A.l1",
        line="l1",
        from_unit=U1,
        to_unit=U2,
        from_start_ns=NOW + NS_PER_H,
        to_start_ns=NOW,
    )
    run.propose(plan(order(unit=U2), hash="P2"), "D2", kind=DecisionClass.REPAIR, moves=(move,))
    with pytest.raises(NotAllowedError, match="'D2' took its place"):
        run.tell(f.Approved, decision="D1", user="anna")
    run.tell(f.Approved, decision="D2", user="anna")
    assert run.state.in_force is not None
    assert run.state.in_force.hash == "P2"


def test_a_repair_is_improved_once_it_is_approved() -> None:
    cfg = config(Level.REPORT)
    levels = {**cfg.autonomy.default, DecisionClass.REPAIR: Level.APPROVE}
    run = Run(replace(cfg, autonomy=AutonomySettings(default=levels))).good()
    run.propose(plan(order(start_s=7200)))
    run.tell(f.Happened, event=event(EventKind.BREAKDOWN, U1))
    move = Move(
        op="A.l1",
        line="l1",
        from_unit=U1,
        to_unit=U2,
        from_start_ns=NOW + 2 * NS_PER_H,
        to_start_ns=NOW,
    )
    actions = run.propose(
        plan(order(unit=U2), hash="P2"), "D2", kind=DecisionClass.REPAIR, moves=(move,)
    )
    assert not found(actions, a.Improve)
    assert run.state.states["D2"] is DecisionState.WAITING_APPROVAL
    assert found(run.tell(f.Approved, decision="D2", user="anna"), a.Improve)


def test_an_improvement_below_the_margin_is_dropped() -> None:
    run = Run(config()).good()
    run.propose(plan(order()))
    run.state = replace(run.state, pending=({"kind": "periodic", "path": "", "time_ns": NOW},))
    run.time_s = 900
    run.tell(f.Tick)
    before = len(run.log)
    move = Move(
        op="A.l1",
        line="l1",
        from_unit=U1,
        to_unit=U2,
        from_start_ns=NOW + NS_PER_H,
        to_start_ns=NOW,
    )
    run.propose(
        plan(order(start_s=90), hash="P3"), "D3", kind=DecisionClass.PLAN, moves=(move,),
        optional=True, objective_before=80.5,
    )  # fmt: skip
    assert not found(run.log[before:], a.Record)
    assert run.state.in_force is not None
    assert run.state.in_force.hash == "P1"


def test_switched_off_nothing_leaves_and_on_again_it_does() -> None:
    run = Run(config()).good()
    actions = run.tell(f.SwitchSet, line="l1", on=False, user="anna")
    assert found(actions, a.Record)[0].kind == "switch"
    assert not found(run.propose(plan(order())), a.Dispatch)
    assert found(run.tell(f.SwitchSet, line="l1", on=True, user="anna"), a.Dispatch)


def test_a_command_under_way_is_held_back_when_the_switch_goes_off() -> None:
    run = Run(config()).good()
    assert found(run.propose(plan(order())), a.Dispatch)
    run.tell(f.SwitchSet, line="l1", on=False, user="anna")
    assert not may_send(run.config, run.state, "l1", "A.l1")
    (record,) = found(run.tell(f.Withheld, job="A.l1"), a.Record)
    assert record.body["reason"]["id"] == "gate.switch_off"
    assert found(run.tell(f.SwitchSet, line="l1", on=True, user="anna"), a.Dispatch)


def source_event(kind: EventKind, path: str = "s", **payload: Any) -> Any:
    return lambda run: run.tell(f.Happened, event=event(kind, path, **payload))


def seen(age_s: float) -> Any:
    return lambda run: run.tell(f.SourcesSeen, ages={"s": age_s})


def wait(run: Run) -> None:
    run.time_s += 6
    run.tell(f.Tick)


@pytest.mark.parametrize(
    ("spoil", "heal", "reason"),
    [
        (seen(9.0), seen(0.0), "blocked.stale"),
        (
            source_event(EventKind.SOURCE_LOST),
            source_event(EventKind.SOURCE_UP),
            "blocked.source_lost",
        ),
        (source_event(EventKind.GAP), wait, "blocked.gap"),
        (source_event(EventKind.GAP, lines=["l1"]), wait, "blocked.gap"),
        (
            source_event(EventKind.DEATH, path="g/n", source="s", lines=["l1"]),
            source_event(EventKind.BIRTH, path="g/n", source="s", lines=[]),
            "blocked.node_dead",
        ),
    ],
)
def test_bad_inputs_block_dispatch_and_good_ones_free_it(
    spoil: Any, heal: Any, reason: str
) -> None:
    run = Run(config()).good()
    run.propose(plan(order(start_s=4000)))
    spoil(run)
    assert run.state.blocked["l1"].id == reason
    run.time_s = 2500.0 if reason != "blocked.gap" else run.time_s
    assert not found(run.tell(f.Tick), a.Dispatch)
    heal(run)
    assert "l1" not in run.state.blocked
    run.time_s = max(run.time_s, 2500.0)
    run.tell(f.Tick)
    assert found(run.log, a.Dispatch)


def test_a_hole_at_one_edge_node_blocks_the_lines_that_it_feeds_alone() -> None:
    run = Run(config()).good()
    source_event(EventKind.GAP, node="g/n", lines=["l2"])(run)
    assert run.state.blocked.keys() == {"l2"}
    source_event(EventKind.DEATH, path="g/m", source="s", lines=["l1"])(run)
    wait(run)
    assert {line: reason.id for line, reason in run.state.blocked.items()} == {
        "l1": "blocked.node_dead"
    }
    assert run.state.sources.keys() == {"s"}


def test_a_decision_on_bad_inputs_is_blocked_and_made_anew() -> None:
    run = Run(config()).good()
    run.tell(f.Tick)
    run.tell(f.Happened, event=event(EventKind.SOURCE_LOST, "s"))
    run.propose(plan(order()))
    assert run.state.states["D1"] is DecisionState.BLOCKED
    assert run.state.in_force is None
    (build,) = found(run.tell(f.Happened, event=event(EventKind.SOURCE_UP, "s")), a.Build)
    assert {t["kind"] for t in build.triggers} == {"start", "inputs_restored"}


def test_lines_nobody_feeds_are_blocked_unless_people_do() -> None:
    run = Run(config(blind_lines=frozenset({"l2"})))
    run.tell(f.Tick)
    assert run.state.blocked["l1"].id == "blocked.no_inputs"
    assert "l2" not in run.state.blocked


def test_only_listed_receivers_are_written() -> None:
    run = Run(config(envelope=EnvelopeSettings(receivers=("R2",)))).good()
    assert not found(run.propose(plan(order())), a.Dispatch)
    envelope = EnvelopeSettings(receivers=("R2",))
    assert receiver_violation("l1", None, envelope=envelope) is not None
    assert receiver_violation("l2", "R2", envelope=envelope) is None


def test_a_plan_with_findings_is_blocked_whatever_the_level() -> None:
    run = Run(config()).good()
    bad = f.Option(plan=plan(order()), chosen=0, findings=("overlap: A B",))
    run.propose(plan(order()), options=(bad,))
    assert run.state.states["D1"] is DecisionState.BLOCKED
    assert not found(run.log, a.Dispatch)


def test_outside_the_envelope_the_next_option_is_taken_and_the_refusal_said() -> None:
    run = Run(config()).good()
    run.propose(plan(order(), order("B.l1", start_s=4000)))
    run.tell(f.Happened, event=event(EventKind.BREAKDOWN, U2))
    near = Move(
        op="A.l1",
        line="l1",
        from_unit=U1,
        to_unit=U2,
        from_start_ns=NOW + NS_PER_MIN,
        to_start_ns=NOW,
    )
    shift = Move(
        op="B.l1",
        line="l1",
        from_unit=U1,
        to_unit=U1,
        from_start_ns=NOW + 4000 * NS_PER_S,
        to_start_ns=NOW + 5000 * NS_PER_S,
    )
    options = (
        f.Option(plan=plan(order(unit=U2), hash="P2"), chosen=0, moves=(near,)),
        f.Option(plan=plan(order(), order("C.l1"), hash="P3"), chosen=1, moves=(shift,)),
    )
    actions = run.propose(plan(order()), "D2", kind=DecisionClass.REPAIR, options=options)
    body = found(actions, a.Record)[0].body
    assert body["plan_hash"] == "P3"
    assert body["reasons"][0]["id"] == "judge.refused_candidate"


def test_jobs_wait_for_their_material() -> None:
    run = Run(config()).good()
    second = order("A.l2", FLOW, work_center="l2", start_s=600)
    actions = run.propose(plan(order(), second, after={"A.l2": ("A.l1",)}))
    assert [d.job.id for d in found(actions, a.Dispatch)] == ["A.l1"]
    run.tell(f.Confirmed, line="l1", confirmation=confirmed("A.l1"))
    assert [d.job.id for d in found(run.log, a.Dispatch)] == ["A.l1", "A.l2"]


def confirmed(job: str, outcome: CommandOutcome = CommandOutcome.CONFIRMED) -> Confirmation:
    ok = outcome is CommandOutcome.CONFIRMED
    listed = JobResponse(job=job, state=JobState.ALLOWED_TO_START, equipment=U1) if ok else None
    return Confirmation(job=job, outcome=outcome, read_back=listed)


def test_nothing_is_sent_to_a_unit_that_is_down() -> None:
    run = Run(config()).good()
    run.tell(f.Happened, event=event(EventKind.BREAKDOWN, U1))
    assert not found(run.propose(plan(order())), a.Dispatch)


def test_an_unconfirmed_command_is_read_back_and_never_blindly_repeated() -> None:
    run = Run(config()).good()
    run.propose(plan(order()))
    actions = run.tell(
        f.Confirmed, line="l1", confirmation=confirmed("A.l1", CommandOutcome.UNCONFIRMED)
    )
    assert found(actions, a.ReadBack)
    before = len(found(run.log, a.Dispatch))
    run.time_s = 100
    run.tell(f.Tick)
    assert len(found(run.log, a.Dispatch)) == before
    run.tell(
        f.JobsListed, line="l1", jobs=(JobResponse(job="A.l1", state=JobState.ALLOWED_TO_START),)
    )
    assert run.state.tracks["A.l1"].phase is JobPhase.CONFIRMED
    assert found(run.log, a.Record)[-1].body["by"] == "read_back"
    run.tell(f.Tick)
    assert len(found(run.log, a.Dispatch)) == before


def test_after_read_back_shows_no_job_it_is_sent_again_at_most_three_times() -> None:
    run = Run(config()).good()
    run.propose(plan(order()))
    for _ in range(6):
        run.tell(f.Confirmed, line="l1", confirmation=confirmed("A.l1", CommandOutcome.UNCONFIRMED))
        run.time_s += 40
        for _ in range(2):
            run.tell(f.JobsListed, line="l1", jobs=())
    sent = found(run.log, a.Dispatch)
    assert [d.attempt for d in sent] == [1, 2, 3]


def test_a_job_that_moved_is_taken_back_before_it_goes_elsewhere() -> None:
    run = Run(config()).good()
    run.propose(plan(order(start_s=1200)))
    run.tell(f.Confirmed, line="l1", confirmation=confirmed("A.l1"))
    move = Move(
        op="A.l1",
        line="l1",
        from_unit=U1,
        to_unit=U2,
        from_start_ns=NOW + 1200 * NS_PER_S,
        to_start_ns=NOW,
    )
    actions = run.propose(plan(order(unit=U2, start_s=900), hash="P2"), "D2", moves=(move,))
    assert [w.job for w in found(actions, a.Withdraw)] == ["A.l1"]
    assert not found(actions, a.Dispatch)
    back = Confirmation(job="A.l1", outcome=CommandOutcome.CONFIRMED)
    (again,) = found(run.tell(f.Withdrawn, line="l1", confirmation=back), a.Dispatch)
    assert again.job.equipment == U2


def test_a_refused_withdrawal_is_not_repeated_at_once() -> None:
    run = Run(config()).good()
    run.propose(plan(order(start_s=1200)))
    run.tell(f.Confirmed, line="l1", confirmation=confirmed("A.l1"))
    move = Move(
        op="A.l1",
        line="l1",
        from_unit=U1,
        to_unit=U2,
        from_start_ns=NOW + 1200 * NS_PER_S,
        to_start_ns=NOW,
    )
    run.propose(plan(order(unit=U2, start_s=900), hash="P2"), "D2", moves=(move,))
    run.tell(
        f.Withdrawn,
        line="l1",
        confirmation=Confirmation(job="A.l1", outcome=CommandOutcome.REJECTED),
    )
    run.tell(f.Tick)
    assert len(found(run.log, a.Withdraw)) == 1


@pytest.mark.parametrize("level", [Level.APPROVE, Level.VETO])
def test_release_at_approve_and_veto_asks_once_for_all_that_is_due(level: Level) -> None:
    run = Run(config(release=level)).good()
    run.propose(plan(order(), order("B.l1", U2)))
    assert not found(run.log, a.Dispatch)
    releases = [d for d in run.state.open if d.startswith("R")]
    assert len(releases) == 1
    if level is Level.APPROVE:
        run.tell(f.Approved, decision=releases[0], user="anna")
    else:
        run.time_s = 60
        run.tell(f.Tick)
    assert {d.job.id for d in found(run.log, a.Dispatch)} == {"A.l1", "B.l1"}
    assert all(d.decision == releases[0] for d in found(run.log, a.Dispatch))


@pytest.mark.parametrize("level", [Level.OBSERVE, Level.ADVISE])
def test_release_at_observe_and_advise_sends_nothing(level: Level) -> None:
    run = Run(config(release=level)).good()
    run.propose(plan(order()))
    run.time_s = 1000
    run.tell(f.Tick)
    assert not found(run.log, a.Dispatch)


def test_the_outcome_is_compared_with_the_plan() -> None:
    run = Run(config()).good()
    run.propose(plan(order()))
    run.tell(f.Confirmed, line="l1", confirmation=confirmed("A.l1"))
    end = order().end_ns + 90 * NS_PER_S
    done = JobResponse(job="A.l1", state=JobState.ENDED, good=9, scrap=1, start_ns=NOW, end_ns=end)
    run.tell(f.JobsListed, line="l1", jobs=(done,))
    run.tell(f.JobsListed, line="l1", jobs=(done,))
    outcomes = [r for r in found(run.log, a.Record) if r.kind == "outcome"]
    assert [r.body["late_s"] for r in outcomes] == [90.0]


def replace_plan_time(run: Run) -> Run:
    """As if the plan had been renewed half an hour before the job's end."""
    at = NOW + 3000 * NS_PER_S
    run.state = replace(run.state, last_plan_ns=at + 800 * NS_PER_S, last_plan_wall_ns=at)
    return run


def test_a_job_that_runs_over_becomes_an_event_once() -> None:
    run = Run(config(release_s=100)).good()
    run.propose(plan(order()))
    run.tell(f.JobsListed, line="l1", jobs=(JobResponse(job="A.l1", state=JobState.RUNNING),))
    run = replace_plan_time(run)
    run.time_s = 60 + 3600 + 599
    run.tell(f.Tick)
    assert not found(run.log, a.React)
    run.time_s += 2
    (react,) = found(run.tell(f.Tick), a.React)
    assert react.triggers[0]["kind"] == "late_finish"


def test_short_stops_of_a_station_are_daily_life_long_ones_stop_the_line() -> None:
    run = Run(config()).good()
    run.propose(plan(order()))
    run.tell(f.Happened, event=event(EventKind.BREAKDOWN, STATION))
    assert not found(run.log, a.React)
    run.time_s = 181
    run.tell(f.Tick)
    assert run.state.down == {FLOW: "breakdown"}
    assert found(run.log, a.React)
    run.tell(f.Happened, event=event(EventKind.RESTORED, STATION))
    assert run.state.down == {}


def test_the_plan_is_renewed_after_a_while_but_not_under_a_persons_eyes() -> None:
    run = Run(config(Level.APPROVE)).good()
    run.tell(f.Tick)
    run.propose(plan(order(start_s=9000)))
    run.time_s = 500
    run.tell(f.NothingFound, token=run.state.token, reason=Message(id="plan.no_better"))
    run.time_s = 599
    run.tell(f.Tick)
    assert run.state.open
    assert run.state.computing is None
    run.tell(f.Approved, decision="D1", user="anna")
    run.time_s = 1500
    (build,) = found(run.tell(f.Tick), a.Build)
    assert build.optional


def test_an_unanswered_proposal_is_made_anew() -> None:
    run = Run(config(Level.APPROVE)).good()
    run.tell(f.Tick)
    run.propose(plan(order(start_s=9000)))
    run.tell(f.NothingFound, token=run.state.token, reason=Message(id="plan.no_better"))
    run.time_s = 901
    (build,) = found(run.tell(f.Tick), a.Build)
    assert build.triggers[0]["kind"] == "proposal_expired"
    assert run.state.states["D1"] is DecisionState.SUPERSEDED


def test_waiting_jobs_of_others_are_adopted() -> None:
    run = Run(config()).good()
    waiting = JobResponse(job="A.l1", state=JobState.ALLOWED_TO_START, equipment=U1)
    run.tell(f.JobsListed, line="l1", jobs=(waiting,), orders=(order(),))
    assert run.state.tracks["A.l1"].phase is JobPhase.CONFIRMED
    run.propose(plan(order()))
    assert not found(run.log, a.Dispatch)


# -- envelope, judge, record --------------------------------------------------------------------


def test_the_frozen_zone_holds_but_for_units_that_are_down() -> None:
    envelope = EnvelopeSettings(frozen_min=10)
    move = Move(
        op="A",
        line="l1",
        from_unit=U1,
        to_unit=U2,
        from_start_ns=NOW + 9 * NS_PER_MIN,
        to_start_ns=NOW,
    )
    args: dict[str, Any] = {"now_ns": NOW, "envelope": envelope}
    assert frozen_violations([move], down_units=frozenset(), **args)
    assert not frozen_violations([move], down_units=frozenset({U1}), **args)
    later = replace(move, from_start_ns=NOW + 10 * NS_PER_MIN)
    shifted = replace(move, to_unit=U1)
    assert not frozen_violations([later, shifted], down_units=frozenset(), **args)


def test_the_budget_counts_an_hour_and_forgets_it() -> None:
    envelope = EnvelopeSettings(moves_per_hour=5)
    budget = MoveBudget().spend({"l1": 4}, NOW)
    assert budget.left("l1", NOW + 1, envelope) == 1
    assert budget.violations({"l1": 2, "l2": 5}, NOW + 1, envelope)[0].params["left"] == 1
    assert not budget.violations({"l1": 5}, NOW + NS_PER_H, envelope)


def test_stored_jobs_are_sent_again_only_when_their_order_is_wrong() -> None:
    assert to_send_again({"A": (0, 10)}, [("A", 99)]) == []
    assert to_send_again({"A": (0, 10), "B": (0, 20)}, [("B", 20), ("A", 40)]) == ["A"]


def test_the_judge_names_limits_before_levels() -> None:
    reason = Message(id="blocked.stale")
    case = Case(decision_class=DecisionClass.PLAN, line="l1", level=Level.REPORT)
    assert judge(case).state is DecisionState.APPROVED
    assert judge(replace(case, blocked=reason)).reasons == (reason,)
    assert judge(replace(case, violations=(reason,))).state is DecisionState.BLOCKED
    assert judge(replace(case, findings=("x",))).reasons[0].id == "judge.not_verified"


def test_a_decision_survives_its_record() -> None:
    decision = replace(draft("D1"), bound=1.5, reasons=(Message(id="x", params={"a": 1}),))
    assert read_decision(decision_body(decision)) == decision
    with pytest.raises(LedgerError, match="'D1'"):
        read_decision({**decision_body(decision), "level": "boss"})


def test_every_message_has_both_languages_with_the_same_parameters() -> None:
    import re

    for id, (english, chinese) in MESSAGES.items():
        names = [set(re.findall(r"{(\w+)}", text)) for text in (english, chinese)]
        assert names[0] == names[1], id


def building() -> Run:
    """A plan in force, and a new one being built for changed orders."""
    run = in_force()
    run.time_s = 400
    run.tell(f.Happened, event=event(EventKind.ORDERS_CHANGED, "A"))
    assert run.state.computing is not None
    assert run.state.computing.kind == "build"
    return run


def test_a_breakdown_does_not_wait_for_a_plan_being_built() -> None:
    run = building()
    assert run.state.computing is not None
    late = run.state.computing.token
    (react,) = found(run.tell(f.Happened, event=event(EventKind.BREAKDOWN, U2)), a.React)
    assert [t["kind"] for t in react.triggers] == ["breakdown", "orders_changed"]
    options = (f.Option(plan=plan(order(), hash="P9"), chosen=0),)
    told = run.tell(f.Proposed, token=late, decision=draft("D9"), options=options)
    assert not found(told, a.Record)


def test_a_computation_that_does_not_end_is_said_and_given_up() -> None:
    run = building()
    run.time_s += 29
    run.tell(f.Tick)
    assert run.state.computing is not None
    run.time_s += 2
    (said,) = [x for x in found(run.tell(f.Tick), a.Announce) if x.topic == "no_plan"]
    assert said.payload["reason"]["id"] == "plan.too_long"
    assert run.state.computing is None
    assert found(run.tell(f.Happened, event=event(EventKind.BREAKDOWN, U1)), a.React)


def test_a_start_with_a_plan_in_force_asks_as_a_repair_does() -> None:
    levels = {DecisionClass.REPAIR: Level.APPROVE}
    cfg = config()
    default = {**cfg.autonomy.default, **levels}
    run = Run(replace(cfg, autonomy=replace(cfg.autonomy, default=default)))
    kept = plan(order(start_s=7200), hash="P0")
    run.tell(f.Resumed, in_force=kept, in_force_decision="D0")
    assert run.state.states == {"D0": DecisionState.IN_FORCE}
    run.good()
    (react,) = found(run.log, a.React)
    assert react.triggers[0]["kind"] == "start"
    assert not found(run.log, a.Build)


def test_only_the_newest_plan_is_in_force_after_a_restart() -> None:
    run = Run(config())
    run.tell(f.Resumed, in_force=plan(order(start_s=7200), hash="P0"), in_force_decision="D0")
    run.good()
    new = PlanRef.of("P1", (Planned(order=order(start_s=7200)), Planned(order=order("B.l1", U2))))
    run.propose(new, "D1", kind=DecisionClass.REPAIR)
    assert run.state.states["D0"] is DecisionState.SUPERSEDED
    assert run.state.replaced_by["D0"] == "D1"
    assert run.state.states["D1"] is DecisionState.IN_FORCE


def test_a_line_without_inputs_is_blocked_once_any_source_is_configured() -> None:
    run = Run(config(blind_lines=frozenset({"l1", "l2"})))
    run.tell(f.Tick)
    assert not run.state.blocked
    run.tell(f.SourcesSeen, ages={"dead": float("inf")})
    assert {m.id for m in run.state.blocked.values()} == {"blocked.no_inputs"}
    run.tell(f.Resumed, in_force=plan(order()), in_force_decision="D0")
    for line in run.config.lines:
        run.tell(f.JobsListed, line=line, jobs=())
    assert not found(run.log, a.Dispatch)


def test_a_plant_that_turns_out_to_live_at_another_time_is_followed_back() -> None:
    settings = config()
    state, _ = step(settings, LoopState(), f.Tick(time_ns=NOW, wall_ns=NOW))
    late = NOW - 5 * NS_PER_S
    state, _ = step(settings, state, f.Tick(time_ns=late, wall_ns=NOW + 1))
    assert state.time_ns == NOW  # a late fact does not turn the clock back
    long_ago = NOW - 1000 * NS_PER_H
    state, _ = step(settings, state, f.Tick(time_ns=long_ago, wall_ns=NOW + 2))
    assert state.time_ns == long_ago
