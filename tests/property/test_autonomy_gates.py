"""Whatever happens in whatever order: nothing leaves against switch, inputs, level or approval."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from workshop_brain.autonomy import actions as a
from workshop_brain.autonomy import facts as f
from workshop_brain.autonomy.envelope import Move
from workshop_brain.autonomy.judge import level_of
from workshop_brain.autonomy.loop import may_send, step
from workshop_brain.autonomy.release import gate
from workshop_brain.autonomy.settings import AutonomySettings, EnvelopeSettings
from workshop_brain.autonomy.state import LoopConfig, LoopState, Planned, PlanRef
from workshop_brain.errors import NotAllowedError
from workshop_brain.model.decision import Candidate, Decision, DecisionClass, DecisionState, Level
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.order import JobOrder, JobResponse, JobState
from workshop_brain.ports import CommandOutcome, Confirmation
from workshop_brain.units import NS_PER_S

NOW = 1_800_000_000_000_000_000
UNITS = ("e/s/a/l1/c1/u1", "e/s/a/l1/c1/u2")
JOBS = ("A", "B", "C")
PLAN_CLASSES = (DecisionClass.PLAN, DecisionClass.REPAIR)
PEOPLE = (f.Approved, f.Rejected, f.Vetoed)

CONFIG = LoopConfig(
    lines=("l1",),
    autonomy=AutonomySettings(default=dict.fromkeys(DecisionClass, Level.REPORT), veto_s=20),
    envelope=EnvelopeSettings(max_input_age_s=5.0),
    receivers={"l1": "R1"},
    units=dict.fromkeys(UNITS, "l1"),
    replan_s=60,
    proposal_s=40.0,
)

plans = st.lists(st.tuples(st.sampled_from(UNITS), st.integers(0, 3000)), min_size=3, max_size=3)
steps = st.one_of(
    st.tuples(st.just("tick"), st.floats(0.1, 40)),
    st.tuples(st.just("age"), st.sampled_from([0.1, 4.9, 5.1, 60.0])),
    st.tuples(st.just("event"), st.sampled_from(["breakdown", "restored", "orders_changed"])),
    st.tuples(st.just("source"), st.sampled_from(["source_lost", "source_up", "gap"])),
    st.tuples(st.just("switch"), st.booleans()),
    st.tuples(st.just("level"), st.tuples(st.sampled_from(DecisionClass), st.sampled_from(Level))),
    st.tuples(st.just("propose"), st.tuples(plans, st.booleans())),
    st.tuples(st.just("person"), st.sampled_from(PEOPLE)),
    st.tuples(st.just("answer"), st.sampled_from(CommandOutcome)),
    st.tuples(st.just("list"), st.lists(st.sampled_from(JobState), min_size=3, max_size=3)),
)


class World:
    """The loop and a memory of its own of what was recorded and sent."""

    def __init__(self) -> None:
        self.state = LoopState()
        self.wall = NOW
        self.decisions = 0
        self.recorded: dict[str, set[str]] = {"decision": set(), "approval": set()}
        self.commanded: list[tuple[str, str]] = []
        self.answered: dict[str, int] = {}
        self.tell(f.LinesFed, sources={"l1": frozenset({"s"})})
        self.tell(f.SourcesSeen, ages={"s": 0.0})
        self.tell(f.JobsListed, line="l1", jobs=())

    def tell(self, fact: type[f.Fact], **values: Any) -> None:
        self._step(fact, **values)
        assert sum(o.plan is not None for o in self.state.open.values()) <= 1
        computing = self.state.computing
        if computing is not None and self.state.proposal is not None:
            assert {t["kind"] for t in computing.triggers} & {"breakdown", "start", "level_lowered"}

    def _step(self, fact: type[f.Fact], **values: Any) -> None:
        try:
            self.state, actions = step(
                CONFIG, self.state, fact(time_ns=self.wall, wall_ns=self.wall, **values)
            )
        except NotAllowedError:
            return
        for action in actions:
            self.see(action)

    def see(self, action: a.Action) -> None:
        """Check each action against what was recorded before it and against the state."""
        if isinstance(action, a.Record):
            body = action.body
            if action.kind == "decision":
                assert body["id"] not in self.recorded["decision"]
                self.recorded["decision"].add(body["id"])
            elif action.kind == "approval" and body["verdict"] == "approved":
                assert body["decision"] in self.recorded["decision"]
                self.recorded["approval"].add(body["decision"])
            elif action.kind == "command":
                assert not body["decision"] or body["decision"] in self.recorded["approval"]
                self.commanded.append((body["command"], body["job"]))
            elif action.kind == "confirmation" and body.get("by") == "command":
                assert any(job == body["job"] for _, job in self.commanded)
            return
        if isinstance(action, a.Publish) and action.in_force:
            assert action.decision in self.recorded["approval"]
        if not isinstance(action, a.Dispatch | a.Withdraw):
            return
        job = action.job.id if isinstance(action, a.Dispatch) else action.job
        verb = "dispatch" if isinstance(action, a.Dispatch) else "withdraw"
        assert self.commanded[-1] == (verb, job) or (verb, job) in self.commanded
        assert gate(CONFIG, self.state, "l1") is None
        assert self.state.is_on("l1")
        assert not self.state.blocked
        assert may_send(CONFIG, self.state, "l1", job)
        release = level_of(CONFIG.autonomy, self.state.levels, "l1", DecisionClass.RELEASE)
        assert release >= Level.APPROVE
        assert self.state.in_force is not None
        assert action.decision in self.recorded["approval"]
        if isinstance(action, a.Dispatch):
            assert action.job.equipment not in self.state.down

    def propose(self, rows: list[tuple[str, int]], sound: bool) -> None:
        if self.state.computing is None:
            return
        self.decisions += 1
        jobs = tuple(
            Planned(order=order(id, unit, start))
            for id, (unit, start) in zip(JOBS, rows, strict=True)
        )
        ref = PlanRef.of(f"P{self.decisions}", jobs)
        kind = {"react": DecisionClass.REPAIR, "improve": DecisionClass.IMPROVE}.get(
            self.state.computing.kind, DecisionClass.PLAN
        )
        decision = Decision(
            id=f"D{self.decisions}", time_ns=self.wall, decision_class=kind, line="l1",
            trigger={}, input_hash="", seed=0, iterations=0,
            candidates=(Candidate(name="x", kpis={}, objective=1.0),), chosen=0, reasons=(),
            changes=(), effect={}, level=Level.OBSERVE, state=DecisionState.PROPOSED, plan_hash="",
        )  # fmt: skip
        move = Move(op="A", line="l1", from_unit=UNITS[0], to_unit=UNITS[1],
                    from_start_ns=self.wall + 3600 * NS_PER_S, to_start_ns=self.wall)  # fmt: skip
        option = f.Option(plan=ref, chosen=0, moves=(move,), findings=() if sound else ("overlap",))
        self.tell(
            f.Proposed, token=self.state.computing.token, decision=decision, options=(option,),
            objective_before=100.0,
        )  # fmt: skip


def order(id: str, unit: str, start_s: int) -> JobOrder:
    start = NOW + start_s * NS_PER_S
    return JobOrder(
        id=id, requests=(("W", 1),), work_center="l1", equipment=unit, product="p", program="f",
        quantity=1, start_ns=start, end_ns=start + 600 * NS_PER_S,
    )  # fmt: skip


def play(world: World, kind: str, value: Any) -> None:
    """One thing that happens."""
    if kind == "tick":
        world.wall += round(value * NS_PER_S)
        world.tell(f.Tick)
    elif kind == "age":
        world.tell(f.SourcesSeen, ages={"s": value})
    elif kind == "event":
        event = Event(time_ns=world.wall, kind=EventKind(value), path=UNITS[0])
        world.tell(f.Happened, event=event)
    elif kind == "source":
        world.tell(f.Happened, event=Event(time_ns=world.wall, kind=EventKind(value), path="s"))
    elif kind == "switch":
        world.tell(f.SwitchSet, line="l1", on=value, user="u")
    elif kind == "level":
        world.tell(f.LevelSet, line="l1", decision_class=value[0], level=value[1], user="u")
    elif kind == "propose":
        world.propose(*value)
    elif kind == "person" and world.state.open:
        world.tell(value, decision=next(iter(world.state.open)), user="u")
    elif kind == "answer":
        for job in list(world.state.tracks):
            world.tell(f.Confirmed, line="l1", confirmation=Confirmation(job=job, outcome=value))
    elif kind == "list":
        jobs = tuple(
            JobResponse(job=j, state=s)
            for j, s in zip(JOBS, value, strict=True)
            if j in world.state.tracks
        )
        world.tell(f.JobsListed, line="l1", jobs=jobs)


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=60))
def test_nothing_leaves_against_the_rules(script: list[tuple[str, Any]]) -> None:
    world = World()
    world.tell(f.Tick)
    for kind, value in script:
        play(world, kind, value)


@settings(max_examples=50, deadline=None)
@given(st.lists(steps, max_size=40))
def test_the_loop_is_a_function_of_what_it_is_told(script: list[tuple[str, Any]]) -> None:
    first, second = World(), World()
    for kind, value in script:
        play(first, kind, value)
        play(second, kind, value)
    assert first.state == second.state
    assert first.commanded == second.commanded
