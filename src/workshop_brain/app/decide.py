"""Carries out what the decision loop asks for: records, computes, publishes, dispatches.

The rules are in ``autonomy``; here is what waits: threads for plans, the ledger's disk, receivers.
A record is durable before the act that it allows is carried out.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from workshop_brain.app import schedule_views as views
from workshop_brain.app.plan_state import Returns
from workshop_brain.app.planner import Draft, Known, Planner, Task, left_out_message
from workshop_brain.app.plans import IN_FORCE, read_plan, write_plan
from workshop_brain.autonomy import actions as a
from workshop_brain.autonomy import facts as f
from workshop_brain.autonomy.judge import level_of
from workshop_brain.autonomy.loop import may_send, step
from workshop_brain.autonomy.record import decision_body, message_body, read_decision
from workshop_brain.autonomy.release import gate
from workshop_brain.autonomy.settings import AutonomySettings, EnvelopeSettings
from workshop_brain.autonomy.state import LoopConfig, LoopState, PlanRef
from workshop_brain.dispatch.settings import DispatchSettings
from workshop_brain.errors import BrainError, InfeasibleError, NotAllowedError, StoreError
from workshop_brain.model.decision import DecisionClass, DecisionState, Level, Message
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.order import JobOrder, JobState, RequestState, WorkRequest
from workshop_brain.model.plant import Plant, WorkCenterKind
from workshop_brain.model.state import UnitState
from workshop_brain.ports import Clock, CommandOutcome, Confirmation, Dispatcher
from workshop_brain.schedule.explain import explain, why_not
from workshop_brain.schedule.objective import objective
from workshop_brain.schedule.react import react
from workshop_brain.store.ledger import Ledger
from workshop_brain.store.records import Records
from workshop_brain.units import NS_PER_MS

_log = logging.getLogger(__name__)
_STOPS = (EventKind.BREAKDOWN, EventKind.QUALITY_STOP, EventKind.OPERATOR_ABSENT)
_RETURNS = (EventKind.RESTORED, EventKind.OPERATOR_BACK)
_WANTED = frozenset(
    {
        *_STOPS, *_RETURNS, EventKind.RUSH_ORDER, EventKind.ORDERS_CHANGED, EventKind.LATE_FINISH,
        EventKind.LATE_MATERIAL, EventKind.SOURCE_LOST, EventKind.SOURCE_UP, EventKind.GAP,
    }
)  # fmt: skip
_OPEN = (RequestState.WAITING, RequestState.RUNNING)
_UP_STATES = frozenset({"up"})


class SourceRow(Protocol):
    """What the ingest knows of a source, as far as decisions need it."""

    @property
    def id(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def age_s(self) -> float: ...


@runtime_checkable
class Observer(Protocol):
    """A way out that takes a unit's own signal for a person's tap."""

    async def observe(self, equipment: str, *, running: bool, time_ns: int) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DecideOptions:
    """How the decision loop is run.

    Attributes
    ----------
    tick_s, poll_s
        Wall time between two ticks, and between two reads of a receiver's job list.
    horizon_days
        Orders released within this time are planned.
    improve_iterations, start_iterations
        Search budget after each repair (some tenths of a second), and for the first plan
        (2.4 s for 311 operations).
    prepare_s
        Wall time between two renewals of the problem that the next repair starts from.
    """

    tick_s: float = 0.2
    poll_s: float = 1.0
    horizon_days: float = 5.0
    react_iterations: int = 300
    improve_iterations: int = 150_000
    start_iterations: int = 1_000_000
    prepare_s: float = 3.0
    release_s: int = 1800
    replan_s: int = 900


class Decider:
    """The brain's decisions: takes events in, gives plans, commands and answers out.

    Parameters
    ----------
    dispatchers
        Work center to its way out (``dispatch.open.open_dispatchers``).
    sources
        Status of every source now (``Ingest.sources``).
    feeds
        Work center to the ids of the sources that feed it, as far as signals are declared.
    announce
        Takes events for the screens: decisions, commands, blocked lines.
    """

    def __init__(
        self,
        *,
        plant: Plant,
        autonomy: AutonomySettings,
        envelope: EnvelopeSettings,
        dispatch: Sequence[DispatchSettings],
        dispatchers: Mapping[str, Dispatcher],
        records: Records,
        ledger: Ledger,
        clock: Clock,
        plans_dir: Path,
        sources: Callable[[], Sequence[SourceRow]],
        feeds: Callable[[], Mapping[str, frozenset[str]]],
        announce: Callable[[Event], None] = lambda event: None,
        options: DecideOptions | None = None,
    ) -> None:
        self.options = options or DecideOptions()
        self.plant = plant
        self.config = loop_config(plant, autonomy, envelope, dispatch, self.options)
        self.planner = Planner(
            plant,
            self.config,
            horizon_days=self.options.horizon_days,
            react_iterations=self.options.react_iterations,
            improve_iterations=self.options.improve_iterations,
            start_iterations=self.options.start_iterations,
        )
        self.state = LoopState()
        self._dispatchers = dict(dispatchers)
        self._ways = {row.work_center: row.way for row in dispatch}
        self._records, self._ledger, self._clock = records, ledger, clock
        self._plans_dir, self._sources, self._feeds = plans_dir, sources, feeds
        self._announce = announce
        self._returns = Returns(self.config.units)
        self._material: dict[str, int] = {}
        self._requests: tuple[WorkRequest, ...] = ()
        self._rows: list[Any] = []
        self._orders: dict[str, JobOrder] = {}
        self._decisions: dict[str, dict[str, Any]] = {}
        self._commands: dict[str, list[dict[str, Any]]] = {}
        self._outcomes: dict[str, list[dict[str, Any]]] = {}
        self._approvals: dict[str, dict[str, Any]] = {}
        self._drafts: dict[str, bytes] = {}
        self._left_out: frozenset[str] = frozenset()
        self._ghost: PlanRef | None = None
        self._batches: asyncio.Queue[tuple[tuple[a.Action, ...], asyncio.Future[None]]]
        self._batches = asyncio.Queue()
        self._senders: dict[str, asyncio.Queue[a.Dispatch | a.Withdraw]] = {
            line: asyncio.Queue() for line in self._dispatchers
        }
        self._polls: dict[str, asyncio.Event] = {
            line: asyncio.Event() for line in self._dispatchers
        }
        self._tasks: set[asyncio.Task[None]] = set()
        self._receiver_errors: dict[str, str] = {}
        self.last_reaction_ms: float | None = None
        self._signal_wall: dict[int, int] = {}
        self._shown: PlanRef | None = None
        self._in_force_shown: PlanRef | None = None
        self._to_write: tuple[tuple[PlanRef, str, bool], ...] = ()
        self._write_wake = asyncio.Event()
        self._resume()

    # -- life -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run until cancelled. Plans first appear once the receivers have been read."""
        # Which sources there are must be known before the first job may go out.
        self._tell(f.SourcesSeen(**self._now(), ages=self._ages()))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry_out())
                group.create_task(self._write_plans())
                group.create_task(self._prepare())
                for line in self._dispatchers:
                    group.create_task(self._poll(line))
                    group.create_task(self._send(line))
                group.create_task(self._ticks())
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._write_newest()
            for dispatcher in self._dispatchers.values():
                await dispatcher.close()

    def _resume(self) -> None:
        """What was known before a restart: levels, switches, open orders, the plan in force."""
        levels: dict[tuple[str, DecisionClass], Level] = {}
        for key, value in self._records.settings("level.").items():
            _, line, kind = key.split(".", 2)
            levels[line, DecisionClass(kind)] = Level[str(value).upper()]
        switches = {
            key.split(".", 1)[1]: bool(value)
            for key, value in self._records.settings("switch.").items()
        }
        plan, decision = None, ""
        kept = read_plan(self._plans_dir, IN_FORCE)
        if kept is not None and kept[2]:
            plan, decision = kept[0], kept[1]
        self._read_requests()
        fact = f.Resumed(
            time_ns=self._clock.plant_ns(),
            wall_ns=self._clock.wall_ns(),
            levels=levels,
            switches=switches,
            in_force=plan,
            in_force_decision=decision,
            causes=self._unanswered(),
        )
        self.state, _ = step(self.config, self.state, fact)
        if plan is not None:
            self._shown = self._in_force_shown = plan

    def _unanswered(self) -> tuple[dict[str, Any], ...]:
        """Triggers of the newest plan proposal, when nobody had answered it before the stop."""
        rows = self._records.decisions(50)
        plans = (r for r in rows if r.decision.decision_class is not DecisionClass.RELEASE)
        row = next(plans, None)
        waiting = (DecisionState.WAITING_APPROVAL, DecisionState.WAITING_VETO)
        if row is None or row.decision.state not in waiting or row.approved_by:
            return ()
        try:
            later = self._ledger.entries(after=row.entry)
            answered = any(e.body.get("decision") == row.decision.id for e in later)
        except BrainError as error:
            _log.error("whether %s was answered is not known: %s", row.decision.id, error)
            return ()
        first = row.decision.trigger
        causes = tuple(dict(t) for t in first.get("all") or [first])
        return () if answered else tuple(t for t in causes if t.get("kind") != "improve")

    async def _ticks(self) -> None:
        feeds: Mapping[str, frozenset[str]] = {}
        while True:
            now = self._feeds()
            if now != feeds:
                feeds = dict(now)
                self._tell(f.LinesFed(**self._now(), sources=feeds))
            self._tell(f.SourcesSeen(**self._now(), ages=self._ages()))
            self._tell(f.Tick(**self._now()))
            await asyncio.sleep(self.options.tick_s)

    def _ages(self) -> dict[str, float]:
        out = {}
        for row in self._sources():
            age = row.age_s if row.age_s == row.age_s else float("inf")
            out[row.id] = age if row.state in _UP_STATES else float("inf")
        return out

    def _now(self) -> dict[str, int]:
        return {"time_ns": self._clock.plant_ns(), "wall_ns": self._clock.wall_ns()}

    # -- in ---------------------------------------------------------------------------------

    def on_events(self, events: Sequence[Event]) -> None:
        """Events of the floor and of the sources; on the reaction path, returns at once."""
        for event in events:
            if event.kind is EventKind.STATE_CHANGED:
                self._observe(event)
            if event.kind not in _WANTED:
                continue
            if event.kind in _STOPS:
                until = int(event.payload.get("until_ns") or 0)
                self._returns.stopped(event.path, event.kind, event.time_ns, until)
            elif event.kind in _RETURNS:
                self._returns.returned(event.path, event.time_ns)
            elif event.kind is EventKind.LATE_MATERIAL and event.payload.get("until_ns"):
                self._material[event.path] = int(event.payload["until_ns"])
            self._tell(f.Happened(**self._now(), event=event))

    def _observe(self, event: Event) -> None:
        """A unit on a people's line begins to run: that is as good as a tap on its next job."""
        line = self.config.units.get(event.path, "")
        dispatcher: object = self._dispatchers.get(line)
        running = event.payload.get("state") == UnitState.EXECUTE.name
        if running and isinstance(dispatcher, Observer):
            sight = dispatcher.observe(event.path, running=True, time_ns=event.time_ns)
            self._own(self._seen(line, sight))

    async def _seen(self, line: str, sight: Coroutine[Any, Any, None]) -> None:
        try:
            await sight
        except BrainError as error:
            _log.warning("line %s: a job that begins is not noted: %s", line, error)
        self._polls[line].set()

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        """A task that ends with the decider."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def plant_ns(self) -> int:
        """Plant time now, ns."""
        return self._clock.plant_ns()

    async def orders_changed(self, ids: Sequence[str] = (), *, rush: bool = False) -> None:
        """The order book changed: plan again, at once for a rush order."""
        await asyncio.to_thread(self._read_requests)
        kind = EventKind.RUSH_ORDER if rush else EventKind.ORDERS_CHANGED
        path = ids[0] if len(ids) == 1 else ""
        event = Event(time_ns=self._clock.plant_ns(), kind=kind, path=path)
        self._tell(f.Happened(**self._now(), event=event))

    def _read_requests(self) -> None:
        rows = self._records.requests()
        self._rows = list(rows)
        self._requests = tuple(row.request for row in rows if row.state in _OPEN)

    def _tell(self, fact: f.Fact) -> asyncio.Future[None]:
        """One step of the loop; the future is done when its records are durable."""
        self.state, actions = step(self.config, self.state, fact)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        later = []
        for action in actions:
            if isinstance(action, a.React | a.Build | a.Improve):
                self._start(action, fact.wall_ns)
            else:
                later.append(action)
        if later:
            self._batches.put_nowait((tuple(later), done))
        else:
            done.set_result(None)
        return done

    # -- plans ------------------------------------------------------------------------------

    def _start(self, action: a.React | a.Build | a.Improve, wall_ns: int) -> None:
        """Compute in a thread; a search that nobody waits for any more is simply not heard."""
        self._signal_wall[action.token] = wall_ns
        self._own(self._compute(self._task(action)))

    async def _prepare(self) -> None:
        """Keep a problem ready for the next repair; the first round also runs a repair dry, so
        that no real one pays for loading the kernels."""
        is_warm = False
        while True:
            await asyncio.sleep(self.options.prepare_s)
            computing = self.state.computing
            if self.state.reference is None or (computing and computing.kind != "build"):
                continue
            try:
                task = self._now_task("react")
                await asyncio.to_thread(self.planner.prepare, task)
                if not is_warm:
                    await asyncio.to_thread(self.planner.rehearse, task)
                    is_warm = True
            except BrainError as error:
                _log.debug("no problem made ready: %s", error)

    def _now_task(self, kind: str) -> Task:
        """A computation on what is known now, which nobody asked for."""
        now_ns = self._clock.plant_ns()
        return Task(
            kind=kind,
            token=0,
            time_ns=now_ns,
            state=self.state,
            requests=self._requests,
            orders=self._known_orders(),
            down=self._returns.down(tuple(self.state.down), now_ns),
            material={k: v for k, v in self._material.items() if v > now_ns},
            triggers=({"kind": "periodic", "path": "", "time_ns": now_ns},),
        )

    def _task(self, action: a.React | a.Build | a.Improve) -> Task:
        plain = self._now_task(type(action).__name__.lower())
        base = None
        triggers: tuple[dict[str, Any], ...]
        if isinstance(action, a.Improve):
            base = self.planner.known(action.plan_hash)
            triggers = ({"kind": "improve", "of": action.decision, "time_ns": plain.time_ns},)
        else:
            minutes = self.config.replan_s // 60
            triggers = tuple(
                {**t, "minutes": minutes} if t["kind"] == "periodic" else t for t in action.triggers
            )
        in_force = self.state.in_force
        return replace(
            plain,
            token=action.token,
            triggers=triggers,
            optional=isinstance(action, a.Build) and action.optional,
            base=base,
            base_is_in_force=base is not None
            and in_force is not None
            and in_force.hash == base.ref.hash,
        )

    def _known_orders(self) -> dict[str, JobOrder]:
        known = dict(self._orders)
        for job, track in self.state.tracks.items():
            known.setdefault(job, track.order)
        return known

    async def _say_left_out(self, task: Task) -> None:
        """Say once of each order that it is too large to be planned."""
        found = await asyncio.to_thread(self.planner.left_out, task)
        rows = {row.request: row for row in found}
        for id in rows.keys() - self._left_out:
            reason = left_out_message(rows[id])
            _log.warning("order %s is not planned, it is too large: %s", id, dict(reason.params))
            self._say("left_out", id, {"reason": message_body(reason)})
        self._left_out = frozenset(rows)

    async def _compute(self, task: Task) -> None:
        self._own(self._say_left_out(task))
        try:
            draft = await asyncio.to_thread(self.planner.work, task)
        except BrainError as error:
            why = Message(id="plan.none", params={"why": str(error)})
            self._tell(f.NothingFound(**self._now(), token=task.token, reason=why))
            return
        except Exception:  # noqa: BLE001
            # The edge of a supervised task: the loop must hear that its computation is over.
            _log.exception("computing a plan (%s) failed", task.kind)
            why = Message(id="plan.none", params={"why": "internal error, see the log"})
            self._tell(f.NothingFound(**self._now(), token=task.token, reason=why))
            return
        self._drafts[draft.decision.id] = draft.data
        self._tell(_proposed(task, draft, self._now()))
        if draft.decision.id not in self.state.states:
            self._drafts.pop(draft.decision.id, None)

    # -- carrying out -----------------------------------------------------------------------

    async def _carry_out(self) -> None:
        """Batches of actions one after the other; nothing is done before it is recorded."""
        while True:
            batch, done = await self._batches.get()
            try:
                await self._carry_out_batch(batch)
            except StoreError as error:
                # Not recorded, so not done: commands of this batch are given back to the loop.
                _log.error("decision not recorded: %s", error)
                for action in batch:
                    if isinstance(action, a.Dispatch):
                        self._tell(f.Withheld(**self._now(), job=action.job.id))
                if not done.done():
                    done.set_exception(error)
                    done.exception()
                await asyncio.sleep(1.0)
            else:
                if not done.done():
                    done.set_result(None)

    async def _carry_out_batch(self, batch: tuple[a.Action, ...]) -> None:
        """All records at the price of one, then what people see, then what goes to machines.

        The inputs and the ledger's anchor follow the news, but stand before any command leaves;
        the index for the screens comes last.
        """
        records = [action for action in batch if isinstance(action, a.Record)]
        entries = await asyncio.to_thread(self._record, records) if records else []
        sends: list[a.Dispatch | a.Withdraw] = []
        for action in batch:
            match action:
                case a.Record():
                    continue
                case a.Publish():
                    self._publish(action)
                case a.Dispatch() | a.Withdraw():
                    sends.append(action)
                case a.ReadBack():
                    self._polls[action.line].set()
                case a.Announce():
                    if action.topic == "no_plan":
                        _log.warning("no plan: %s", action.payload["reason"])
                    self._say(action.topic, action.path, action.payload)
                case a.AskApproval() | a.StartVetoTimer():
                    self._say("waiting", action.decision, {})
                case _:
                    raise AssertionError(f"unknown action {action!r}")
        if records:
            await asyncio.to_thread(self._ledger.settle)
        for send in sends:
            self._senders[send.line].put_nowait(send)
        if records:
            await asyncio.to_thread(self._index, list(zip(records, entries, strict=True)))

    def _index(self, recorded: Sequence[tuple[a.Record, int]]) -> None:
        """What the lists of decisions show after a restart; the ledger alone is the truth."""
        for action, entry in recorded:
            if action.kind == "decision":
                self._records.save_decision(read_decision(action.body), entry=entry)
        for action, _ in recorded:
            if action.kind == "approval":
                self._save_approval(action.body)

    def _record(self, actions: Sequence[a.Record]) -> list[int]:
        """Ledger entries, durable on return, and what the screens show of them; their numbers."""
        ids = [x.body["id"] for x in actions if x.kind == "decision"]
        inputs = [self._drafts[id] for id in ids if id in self._drafts]
        entries = self._ledger.append_all([(x.kind, x.body) for x in actions], inputs)
        for id in ids:
            self._drafts.pop(id, None)
        for action in actions:
            self._note(action)
        return [entry.n for entry in entries]

    def _note(self, action: a.Record) -> None:
        """What the screens show of a record."""
        body = action.body
        if action.kind == "decision":
            self._decisions[body["id"]] = body
            while len(self._decisions) > 500:
                self._decisions.pop(next(iter(self._decisions)))
        elif action.kind == "level":
            self._records.set_setting(f"level.{body['line']}.{body['class']}", body["level"])
        elif action.kind == "switch":
            self._records.set_setting(f"switch.{body['line']}", body["on"])
        elif action.kind in ("approval", "veto"):
            self._approvals[body["decision"]] = body
        elif action.kind == "command":
            self._commands.setdefault(body["decision"], []).append(dict(body))
        elif action.kind == "confirmation":
            self._note_confirmation(body)
        elif action.kind == "outcome":
            self._outcomes.setdefault(body["decision"], []).append(dict(body))

    def _save_approval(self, body: Mapping[str, Any]) -> None:
        row = self._records.decision(body["decision"])
        if row is not None and body["verdict"] == "approved":
            self._records.save_decision(row.decision, entry=row.entry, approved_by=body["by"])

    def _note_confirmation(self, body: Mapping[str, Any]) -> None:
        for commands in self._commands.values():
            for command in reversed(commands):
                if command["job"] == body["job"]:
                    command["outcome"] = body["outcome"]
                    command["message"] = body.get("message", "")
                    command["confirmed_ns"] = body["time_ns"]
                    return

    def _publish(self, action: a.Publish) -> None:
        """Show a plan and have it put on disk for printing."""
        state = self.state
        plan = state.in_force if action.in_force else state.basis
        known = self.planner.known(action.plan_hash)
        if known is not None:
            plan = known.ref
        if plan is None or plan.hash != action.plan_hash:
            return
        if action.in_force:
            before, self._in_force_shown = self._in_force_shown, plan
            if before is not None and before.hash != plan.hash:
                self._ghost = before
        self._shown = plan
        self.planner.keep([action.plan_hash])
        body = self._decisions.get(action.decision)
        now_ns = self._clock.wall_ns()
        token = body["seed"] if body else -1
        begun = self._signal_wall.pop(token, None)
        if begun is not None:
            self.last_reaction_ms = (now_ns - begun) / NS_PER_MS
        self._say(
            "plan",
            action.decision,
            {"plan": action.plan_hash, "in_force": action.in_force, "ms": self.last_reaction_ms},
        )
        waiting = tuple(job for job in self._to_write[-1:] if job[2] and not action.in_force)
        self._to_write = (*waiting, (plan, action.decision, action.in_force))
        self._write_wake.set()

    async def _write_plans(self) -> None:
        """The newest plan goes to disk beside the decisions: printing must not delay them."""
        while True:
            await self._write_wake.wait()
            self._write_wake.clear()
            await asyncio.to_thread(self._write_newest)

    def _write_newest(self) -> None:
        jobs, self._to_write = self._to_write, ()
        for plan, decision, in_force in jobs:
            try:
                write_plan(
                    self._plans_dir,
                    self.plant,
                    plan,
                    decision=decision,
                    in_force=in_force,
                    time_ns=self._clock.plant_ns(),
                )
            except StoreError as error:
                _log.error("%s", error)

    def _say(self, topic: str, path: str, payload: Mapping[str, Any]) -> None:
        kind = EventKind.COMMAND if topic in ("command", "outcome") else EventKind.DECISION
        self._announce(
            Event(
                time_ns=self._clock.plant_ns(),
                kind=kind,
                path=path,
                payload={"topic": topic, **payload},
            )
        )

    # -- receivers --------------------------------------------------------------------------

    async def _send(self, line: str) -> None:
        """Commands of one line, one after the other; each is asked again right before it leaves."""
        queue, dispatcher = self._senders[line], self._dispatchers[line]
        while True:
            action = await queue.get()
            job = action.job.id if isinstance(action, a.Dispatch) else action.job
            if not may_send(self.config, self.state, line, job):
                self._tell(f.Withheld(**self._now(), job=job))
                continue
            if isinstance(action, a.Dispatch):
                await asyncio.to_thread(
                    self._records.save_job,
                    action.job,
                    way=self._ways.get(line, ""),
                    decision=action.decision,
                )
                answer = await _answered(dispatcher.dispatch(action.job), job)
                self._tell(f.Confirmed(**self._now(), line=line, confirmation=answer))
            else:
                answer = await _answered(dispatcher.withdraw(job), job)
                self._tell(f.Withdrawn(**self._now(), line=line, confirmation=answer))

    async def _poll(self, line: str) -> None:
        """Read the receiver's job list every second, and at once when asked."""
        dispatcher, wake = self._dispatchers[line], self._polls[line]
        while True:
            try:
                jobs = tuple(await dispatcher.jobs())
                orders = tuple(await dispatcher.orders())
            except BrainError as error:
                if self._receiver_errors.get(line) != str(error):
                    self._receiver_errors[line] = str(error)
                    _log.warning("line %s: %s", line, error)
            else:
                self._receiver_errors.pop(line, None)
                self._orders.update({order.id: order for order in orders})
                fact = f.JobsListed(**self._now(), line=line, jobs=jobs, orders=orders)
                before = self.state.listed.get(line)
                self._tell(fact)
                await self._keep_progress(line, before)
            wake.clear()
            try:
                async with asyncio.timeout(self.options.poll_s):
                    await wake.wait()
            except TimeoutError:
                continue

    async def _keep_progress(self, line: str, before: Mapping[str, Any] | None) -> None:
        """Changed job states go to the records, and orders whose last step ended are completed."""
        now = self.state.listed.get(line, {})
        changed = [r for job, r in now.items() if (before or {}).get(job) != r]
        if not changed:
            return
        if before is not None:
            for response in changed:
                await asyncio.to_thread(self._records.save_response, response)
                if before.get(response.job) is None or (
                    before[response.job].state is not response.state
                ):
                    self._say_job(response.job, response.state)
        done = views.completed(self._requests, self.plant, self.state, self._known_orders())
        for id, end_ns in done.items():
            await asyncio.to_thread(
                self._records.set_request_state, id, RequestState.COMPLETED, end_ns=end_ns
            )
        if done:
            await asyncio.to_thread(self._read_requests)

    def _say_job(self, job: str, state: JobState) -> None:
        self._announce(
            Event(
                time_ns=self._clock.plant_ns(),
                kind=EventKind.JOB_STATE,
                path=job,
                payload={"state": state.value},
            )
        )

    # -- people -----------------------------------------------------------------------------

    async def approve(self, id: str, user: str, reason: str = "") -> dict[str, Any]:
        """Approve a decision that waits; NotAllowedError when it does not."""
        await self._tell(f.Approved(**self._now(), decision=id, user=user, reason=reason))
        return await self.decision(id)

    async def reject(self, id: str, user: str, reason: str = "") -> dict[str, Any]:
        """Reject a decision that waits; NotAllowedError when it does not."""
        await self._tell(f.Rejected(**self._now(), decision=id, user=user, reason=reason))
        return await self.decision(id)

    async def veto(self, id: str, user: str, reason: str = "") -> dict[str, Any]:
        """Veto a decision within its time; NotAllowedError when there is none to veto."""
        await self._tell(f.Vetoed(**self._now(), decision=id, user=user, reason=reason))
        return await self.decision(id)

    async def set_level(
        self, line: str, decision_class: DecisionClass | str, level: Level | str, user: str
    ) -> dict[str, Any]:
        """Set an autonomy level; it holds from now on and after a restart."""
        fact = f.LevelSet(
            **self._now(),
            line=line,
            decision_class=_class(decision_class),
            level=_level(level),
            user=user,
        )
        await self._tell(fact)
        return self.autonomy_view()

    async def set_switch(self, line: str, on: bool, user: str) -> dict[str, Any]:
        """Turn a line's brain switch; off stops dispatch there at once."""
        await self._tell(f.SwitchSet(**self._now(), line=line, on=on, user=user))
        return self.autonomy_view()

    # -- views ------------------------------------------------------------------------------

    def decisions(self, limit: int = 50) -> list[dict[str, Any]]:
        """Newest decisions first, without their plan changes."""
        rows = [self._with_life(body) for body in list(self._decisions.values())[::-1][:limit]]
        if len(rows) < limit:
            known = {row["id"] for row in rows}
            for row in self._records.decisions(limit):
                if row.decision.id not in known:
                    body = decision_body(row.decision)
                    rows.append(self._with_life(body, approved_by=row.approved_by))
        rows = sorted(rows, key=lambda row: -row["time_ns"])[:limit]
        return [
            {**row, "changes": row["changes"][:5], "moved": views.moved(row["changes"])}
            for row in rows
        ]

    async def decision(self, id: str) -> dict[str, Any]:
        """One decision with its life; KeyError when there is none."""
        body, approved_by = self._decisions.get(id), ""
        if body is None:
            row = await asyncio.to_thread(self._records.decision, id)
            if row is None:
                raise KeyError(id)
            body, approved_by = decision_body(row.decision), row.approved_by
            await asyncio.to_thread(self._recall, id)
        return self._with_life(body, approved_by=approved_by)

    def _recall(self, id: str) -> None:
        """Commands and outcomes of an older decision, read from the ledger."""
        if id in self._commands:
            return
        found: list[dict[str, Any]] = []
        for entry in self._ledger.entries():
            if entry.kind == "command" and entry.body.get("decision") == id:
                found.append(dict(entry.body))
            elif entry.kind == "outcome" and entry.body.get("decision") == id:
                self._outcomes.setdefault(id, []).append(dict(entry.body))
            elif entry.kind in ("approval", "veto") and entry.body.get("decision") == id:
                self._approvals[id] = dict(entry.body)
        self._commands[id] = found

    def _with_life(self, body: dict[str, Any], approved_by: str = "") -> dict[str, Any]:
        id = body["id"]
        state = self.state.states.get(id)
        recorded = DecisionState(body["state"])
        if state is None:
            # Of an earlier run of the brain: what waited then does not wait any more.
            waited = recorded in (DecisionState.WAITING_APPROVAL, DecisionState.WAITING_VETO)
            gone = waited and id not in self._decisions
            state = DecisionState.SUPERSEDED if gone else recorded
            acted = recorded in (DecisionState.APPROVED, DecisionState.IN_FORCE)
            if acted and body["decision_class"] != DecisionClass.RELEASE.value:
                state = DecisionState.SUPERSEDED
        entry = self.state.open.get(id)
        answer = self._approvals.get(id, {})
        by = answer.get("by", approved_by) if answer.get("verdict") != "rejected" else ""
        return {
            **body,
            "state": state.value,
            "approved_by": by,
            "answer": answer or None,
            "until_ns": entry.until_wall_ns if entry else None,
            "superseded_by": self.state.replaced_by.get(id),
            "commands": self._commands.get(id, []),
            "outcome": views.outcome(self._outcomes.get(id, [])),
        }

    def schedule_view(self) -> dict[str, Any]:
        """``GET schedule``: the newest plan, what happened, the plan before as ghost."""
        state = self.state
        shown = self._shown
        proposal = next(
            (
                id
                for id, entry in state.open.items()
                if entry.plan is not None and id in self._decisions and entry.plan == shown
            ),
            None,
        )
        ghost = state.in_force if proposal is not None else self._ghost
        known = self.planner.known(shown.hash) if shown is not None else None
        return views.schedule(
            self.plant,
            state,
            shown=shown,
            known=known,
            ghost=ghost,
            proposal=proposal,
            requests=self._requests,
            orders=self._known_orders(),
            now_ns=self._clock.plant_ns(),
            frozen_s=self.config.envelope.frozen_min * 60,
        )

    def orders_view(self) -> list[dict[str, Any]]:
        """``GET orders``: every order with its promise and its predicted end."""
        return views.orders(self.plant, self.state, self._rows, self._known_orders())

    def print_page(self, language: str | None = None) -> str:
        """``GET schedule/print``: the newest plan as an HTML sheet."""
        from workshop_brain.app.plans import print_page

        plan = self._shown or PlanRef.of("", ())
        in_force = self.state.in_force is not None and self.state.in_force.hash == plan.hash
        return print_page(
            self.plant,
            plan,
            decision=self.state.in_force_decision if in_force else "",
            in_force=in_force,
            time_ns=self._clock.plant_ns(),
            language=language,
        )

    async def explain(self, op: str) -> dict[str, Any]:
        """``GET schedule/explain``: why an operation stands where it stands."""
        known = await self._current()
        _must_know(known, op)
        answer = await asyncio.to_thread(explain, known.problem, known.plan, op)
        return views.answer(answer)

    async def why_not(self, op: str, machine: str) -> dict[str, Any]:
        """``GET schedule/why-not``: what it would cost to have it on another machine."""
        known = await self._current()
        _must_know(known, op)
        answer = await asyncio.to_thread(why_not, known.problem, known.plan, op, machine)
        return views.answer(answer)

    async def what_if(self, events: list[dict[str, Any]]) -> dict[str, Any]:
        """``POST schedule/what-if``: the plan after events that have not happened."""
        return await asyncio.to_thread(self._what_if, await self._current(), events)

    def _what_if(self, known: Known, events: list[dict[str, Any]]) -> dict[str, Any]:
        problem, plan = known.problem, known.plan
        before = objective(problem, plan, None).as_dict()
        for row in events:
            event = Event(
                time_ns=int(row.get("time_ns") or self._clock.plant_ns()),
                kind=EventKind(str(row.get("kind"))),
                path=str(row.get("path", "")),
                payload=dict(row.get("payload") or {}),
            )
            reaction = react(
                problem,
                plan,
                event,
                frozen_s=self.config.envelope.frozen_min * 60,
                iterations=self.options.react_iterations,
            )
            problem, plan = reaction.problem, reaction.plan
        return {
            "kpis_before": before,
            "kpis_after": objective(problem, plan, None).as_dict(),
            "changes": views.plan_changes(known, problem, plan),
        }

    async def _current(self) -> Known:
        """The plan on the screens with its problem; built again when it is from before a start."""
        shown = self._shown
        if shown is None:
            raise InfeasibleError("there is no plan yet; try again in a moment")
        known = self.planner.known(shown.hash)
        if known is None:
            known = await asyncio.to_thread(self.planner.recall, shown, self._now_task("recall"))
        return known

    def autonomy_view(self) -> dict[str, Any]:
        """``GET autonomy``: levels, switches, limits, what blocks each line, moves left."""
        state, config = self.state, self.config
        lines = []
        for line in config.lines:
            reason = gate(config, state, line)
            lines.append(
                {
                    "line": line,
                    "on": state.is_on(line),
                    "levels": {
                        kind.value: level_of(config.autonomy, state.levels, line, kind).name.lower()
                        for kind in DecisionClass
                    },
                    "blocked": message_body(reason) if reason else None,
                    "moves_left": state.budget.left(line, state.time_ns, config.envelope),
                    "way": self._ways.get(line, ""),
                    "receiver": config.receivers.get(line),
                    "receiver_error": self._receiver_errors.get(line),
                }
            )
        return {
            "lines": lines,
            "envelope": {
                "frozen_min": config.envelope.frozen_min,
                "moves_per_hour": config.envelope.moves_per_hour,
                "max_input_age_s": config.envelope.max_input_age_s,
                "receivers": list(config.envelope.receivers),
            },
            "veto_s": config.autonomy.veto_s,
            "levels": [level.name.lower() for level in Level],
            "classes": [kind.value for kind in DecisionClass],
        }


def loop_config(
    plant: Plant,
    autonomy: AutonomySettings,
    envelope: EnvelopeSettings,
    dispatch: Sequence[DispatchSettings],
    options: DecideOptions,
) -> LoopConfig:
    """The loop's fixed facts from plant and settings."""
    free_ways = ("work_list", "dry_run")
    flow = {c.id: c.units[0].path for c in plant.work_centers if c.kind is WorkCenterKind.LINE}
    return LoopConfig(
        lines=tuple(c.id for c in plant.work_centers),
        autonomy=autonomy,
        envelope=envelope,
        receivers={row.work_center: row.receiver or row.way for row in dispatch},
        blind_lines=frozenset(row.work_center for row in dispatch if row.way in free_ways),
        people_lines=frozenset(row.work_center for row in dispatch if row.way == "work_list"),
        units={unit.path: c.id for c in plant.work_centers for unit in c.units},
        flow_units=flow,
        release_s=options.release_s,
        replan_s=options.replan_s,
    )


def feeds_of(plant: Plant, signals: Sequence[Any]) -> dict[str, frozenset[str]]:
    """Work center to the sources whose signals speak of its units (``SignalDef.source``)."""
    lines = {c.id for c in plant.work_centers}
    found: dict[str, set[str]] = {}
    for signal in signals:
        line = signal.path.split("/")[3]
        if line in lines and signal.source:
            found.setdefault(line, set()).add(signal.source)
    return {line: frozenset(sources) for line, sources in found.items()}


def _proposed(task: Task, draft: Draft, now: dict[str, int]) -> f.Proposed:
    return f.Proposed(
        **now,
        token=task.token,
        decision=draft.decision,
        options=draft.options,
        objective_before=draft.objective_before,
        optional=draft.optional,
    )


async def _answered(sending: Awaitable[Confirmation], job: str) -> Confirmation:
    """A dispatcher's answer; one that fails in its own way counts as unconfirmed."""
    try:
        return await sending
    except (BrainError, OSError) as error:
        return Confirmation(job=job, outcome=CommandOutcome.UNCONFIRMED, message=str(error))


def _must_know(known: Known, op: str) -> None:
    if op not in known.problem.op_ids:
        raise KeyError(op)


def _class(value: DecisionClass | str) -> DecisionClass:
    try:
        return DecisionClass(value)
    except ValueError as error:
        names = ", ".join(DecisionClass)
        raise NotAllowedError(f"no decision class {value!r}; known are {names}") from error


def _level(value: Level | str) -> Level:
    if isinstance(value, Level):
        return value
    try:
        return Level[value.upper()]
    except KeyError as error:
        names = ", ".join(level.name.lower() for level in Level)
        raise NotAllowedError(f"no level {value!r}; known are {names}") from error
