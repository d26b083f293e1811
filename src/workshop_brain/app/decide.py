"""Carries out what the decision loop asks for: records, computes, publishes, dispatches.

The rules are in ``autonomy``; here is what waits: threads for plans, the ledger's disk, receivers.
A record is durable before the act that it allows is carried out, and an approval, level or switch
before it holds; only off holds at once.
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from workshop_brain.app import pinning, questions
from workshop_brain.app import schedule_views as views
from workshop_brain.app.decision_book import DecisionBook
from workshop_brain.app.declared_book import DeclaredBook
from workshop_brain.app.plan_state import Returns
from workshop_brain.app.planner import Draft, Known, Planner, Task, left_out_message
from workshop_brain.app.plans import write_plan
from workshop_brain.app.resume import remembered
from workshop_brain.app.scenarios import scenarios, supposed
from workshop_brain.app.supposed import refused, withdrawal
from workshop_brain.app.weights import KEY as WEIGHTS_KEY
from workshop_brain.app.weights import (
    InUse,
    pairs_of,
    remembered_weights,
    weights_body,
    weights_view,
)
from workshop_brain.autonomy import actions as a
from workshop_brain.autonomy import facts as f
from workshop_brain.autonomy.judge import level_of
from workshop_brain.autonomy.loop import may_send, step
from workshop_brain.autonomy.record import message_body
from workshop_brain.autonomy.release import gate
from workshop_brain.autonomy.settings import (
    AutonomySettings,
    EnvelopeSettings,
    PlanningSettings,
)
from workshop_brain.autonomy.state import LoopConfig, LoopState, PlanRef
from workshop_brain.dispatch.settings import DispatchSettings
from workshop_brain.errors import (
    BrainError,
    InfeasibleError,
    LedgerError,
    NotAllowedError,
    StoreError,
)
from workshop_brain.model.decision import DecisionClass, DecisionState, Level, Message
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.order import (
    RUSH_PRIORITY,
    JobOrder,
    JobState,
    RequestState,
    WorkRequest,
)
from workshop_brain.model.plant import Plant, WorkCenterKind
from workshop_brain.model.state import UnitState
from workshop_brain.ports import Clock, CommandOutcome, Confirmation, Dispatcher
from workshop_brain.production.pace import Pace
from workshop_brain.schedule.pins import WITHIN_S, Pin
from workshop_brain.schedule.preferences import read_weights
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
        EventKind.BIRTH, EventKind.DEATH,
    }
)  # fmt: skip
_OPEN = (RequestState.WAITING, RequestState.RUNNING)
_UP_STATES = frozenset({"up"})
_BINDING = frozenset({"approval", "veto", "level", "switch"})
"""Records of what then holds: they are written before the loop takes the fact."""
_UNWRITABLE = (StoreError, LedgerError, OSError)
_PEOPLE = (f.Approved, f.Rejected, f.Vetoed, f.LevelSet, f.SwitchSet)
_RETRY_S = 1.0
_ROOM_BYTES = 4 << 20
_OFFERS = 8
"""Prices kept for people who still think about them."""
_PIN_S = 15.0
_PAIRS = 500
"""Preferences kept for the fit of the weights."""
_ToWrite = tuple[PlanRef, str, bool]
"""A plan for the disk, its decision, and whether it is in force."""


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
    orders_s
        Wall time between two looks for orders that another process wrote to the records.
    """

    tick_s: float = 0.2
    poll_s: float = 1.0
    horizon_days: float = 5.0
    react_iterations: int = 300
    improve_iterations: int = 150_000
    start_iterations: int = 1_000_000
    prepare_s: float = 3.0
    orders_s: float = 2.0
    release_s: int = 1800
    replan_s: int = 900


@dataclass(slots=True, eq=False)
class _Batch:
    """Actions of one step. ``entries``: numbers of its records once they are in the ledger."""

    actions: tuple[a.Action, ...]
    done: asyncio.Future[None]
    entries: list[int] | None = None

    @property
    def records(self) -> list[a.Record]:
        return [action for action in self.actions if isinstance(action, a.Record)]

    def take_sends(self) -> list[a.Dispatch | a.Withdraw]:
        """The commands, which are then no part of it any more."""
        sends = [x for x in self.actions if isinstance(x, a.Dispatch | a.Withdraw)]
        self.actions = tuple(x for x in self.actions if not isinstance(x, a.Dispatch | a.Withdraw))
        return sends


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
    stops
        Stops of units from before this start that had not ended, as events.
    planning
        How this plant wants its plans.
    pace
        Speed and risk of units as measured now.
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
        stops: Sequence[Event] = (),
        planning: PlanningSettings | None = None,
        pace: Callable[[], Pace] = Pace,
    ) -> None:
        self.options = options or DecideOptions()
        self._pace = pace
        self._own_weights = read_weights((planning or PlanningSettings()).weights)
        self._weights = remembered_weights(records, ledger, self._own_weights)
        self.plant = plant
        self.config = loop_config(plant, autonomy, envelope, dispatch, self.options)
        self.planner = Planner(
            plant,
            self.config,
            horizon_days=self.options.horizon_days,
            react_iterations=self.options.react_iterations,
            improve_iterations=self.options.improve_iterations,
            start_iterations=self.options.start_iterations,
            weights=self._weights.weights,
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
        self._book = DecisionBook(records, ledger)
        self._drafts: dict[str, bytes] = {}
        self._left_out: frozenset[str] = frozenset()
        self._ghost: PlanRef | None = None
        self._offers: dict[str, pinning.Offer] = {}
        self._preferred: list[dict[str, Any]] = records.setting("preferences", [])
        self.planner.pins = tuple(Pin(**row) for row in records.setting("pins", []))
        self._declared = DeclaredBook(records, ledger)
        self._turn = asyncio.Lock()
        """Held while a record is written that comes before its step: nothing else is stepped."""
        self._late: deque[f.Fact] = deque()
        """Events that came meanwhile."""
        self._batches: deque[_Batch] = deque()
        self._batched = asyncio.Event()
        self._calm = asyncio.Event()
        """No batch waits for the ledger, or the ledger cannot be written."""
        self._calm.set()
        self._fault = ""
        self._plan_fault = ""
        self._closing: set[str] = set()
        """Lines that a person is turning off at this moment."""
        self._unsaved: dict[str, Mapping[str, Any] | None] = {}
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
        self._to_write: tuple[_ToWrite, ...] = ()
        self._write_wake = asyncio.Event()
        self._resume(stops)

    # -- life -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run until cancelled. Plans first appear once the receivers have been read."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry_out())
                # Which sources there are must be known before the first job may go out.
                await self._told(f.SourcesSeen(**self._now(), ages=self._ages()))
                group.create_task(self._write_plans())
                group.create_task(self._prepare())
                group.create_task(self._watch_orders())
                for line in self._dispatchers:
                    group.create_task(self._poll(line))
                    group.create_task(self._send(line))
                group.create_task(self._ticks())
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._write(self._to_write)
            for dispatcher in self._dispatchers.values():
                await dispatcher.close()

    def _resume(self, stops: Sequence[Event]) -> None:
        """Go on from what was known before a restart."""
        for event in stops:
            self._note_stop(event)
        self._read_requests()
        self._book.recall()
        fact = remembered(
            self._records,
            self._ledger,
            self._plans_dir,
            stops=tuple(stops),
            time_ns=self._clock.plant_ns(),
            wall_ns=self._clock.wall_ns(),
        )
        self.state, _ = step(self.config, self.state, fact)
        if fact.in_force is not None:
            self._shown = self._in_force_shown = fact.in_force

    async def _ticks(self) -> None:
        feeds: Mapping[str, frozenset[str]] = {}
        while True:
            now = self._feeds()
            if now != feeds:
                feeds = dict(now)
                await self._told(f.LinesFed(**self._now(), sources=feeds))
            await self._told(f.SourcesSeen(**self._now(), ages=self._ages()))
            await self._told(f.Tick(**self._now()))
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
                self._note_stop(event)
            elif event.kind in _RETURNS:
                self._returns.returned(event.path, event.time_ns)
            elif event.kind is EventKind.LATE_MATERIAL and event.payload.get("until_ns"):
                self._material[event.path] = int(event.payload["until_ns"])
            self._late.append(f.Happened(**self._now(), event=event))
        if not self._turn.locked():
            self._catch_up()

    def _note_stop(self, event: Event) -> None:
        until = int(event.payload.get("until_ns") or 0)
        self._returns.stopped(event.path, event.kind, event.time_ns, until)

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
        await self._told(f.Happened(**self._now(), event=event))

    async def _watch_orders(self) -> None:
        """Orders that came by another door, such as the command line, are seen within seconds."""
        seen: frozenset[str] = frozenset()
        while True:
            await asyncio.sleep(self.options.orders_s)
            try:
                seen = await self._look_for_orders(seen)
            except StoreError as error:
                _log.warning("new orders are not looked for: %s", error)

    async def _look_for_orders(self, seen: frozenset[str]) -> frozenset[str]:
        rows = await asyncio.to_thread(self._records.requests)
        known = {row.request.id for row in self._rows}
        new = {r.request.id: r.request for r in rows if r.request.id not in known}
        again = [id for id in new if id in seen]  # twice: not one that is just being added
        if again:
            body = {"user": "", "file": "", "orders": again}
            await asyncio.to_thread(self._ledger.append, "import", body)
            rush = any(new[id].priority >= RUSH_PRIORITY for id in again)
            await self.orders_changed(again, rush=rush)
        return frozenset(new)

    def _read_requests(self) -> None:
        rows = self._records.requests()
        self._rows = list(rows)
        self._requests = tuple(row.request for row in rows if row.state in _OPEN)

    def _tell(self, fact: f.Fact) -> asyncio.Future[None]:
        """One step of the loop; the future is done when its records are durable.

        Nobody may hold the turn but the caller.
        """
        return self._take(fact, *step(self.config, self.state, fact))

    async def _told(self, fact: f.Fact) -> asyncio.Future[None]:
        """As ``_tell``, but what a binding record is about holds only once that is durable.

        When it cannot be written, a person hears StoreError and nothing has changed; what the
        loop would do by itself is judged anew with every line blocked.
        """
        async with self._turn:
            try:
                state, actions = step(self.config, self.state, fact)
                entries = None
                if _binds(fact, actions):
                    try:
                        entries = await self._recorded(actions)
                    except _UNWRITABLE as error:
                        self._fail(error)
                        self._block()
                        if isinstance(fact, _PEOPLE):
                            raise StoreError(f"this is not in effect: {error}") from error
                        state, actions = step(self.config, self.state, fact)
                return self._take(fact, state, actions, entries)
            finally:
                self._catch_up()

    async def _recorded(self, actions: Sequence[a.Action]) -> list[int]:
        """Write the records of a step behind all earlier ones; StoreError when that cannot be."""
        await self._calm.wait()
        if self._fault:
            raise StoreError(self._fault)
        await asyncio.to_thread(_must_have_room, self._ledger.path.parent)
        return await asyncio.to_thread(
            self._record, [action for action in actions if isinstance(action, a.Record)]
        )

    def _catch_up(self) -> None:
        while self._late:
            self._tell(self._late.popleft())

    def _take(
        self,
        fact: f.Fact,
        state: LoopState,
        actions: Sequence[a.Action],
        entries: list[int] | None = None,
    ) -> asyncio.Future[None]:
        """The state after a step holds from now on; its actions wait for their turn."""
        self.state = state
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        later = []
        for action in actions:
            if isinstance(action, a.React | a.Build | a.Improve):
                self._start(action, fact.wall_ns)
            else:
                later.append(action)
        if not later:
            done.set_result(None)
            return done
        self._batches.append(_Batch(tuple(later), done, entries))
        self._batched.set()
        if self._fault:
            _refuse(done, self._fault)
        else:
            self._calm.clear()
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
            orders=self.known_orders(),
            down=self._returns.down(tuple(self.state.down), now_ns),
            material={k: v for k, v in self._material.items() if v > now_ns},
            pace=self._pace(),
            declared=self._declared.at(now_ns),
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

    def known_orders(self) -> dict[str, JobOrder]:
        """Every job order known, by id: what receivers hold and what was sent."""
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
            await self._told(f.NothingFound(**self._now(), token=task.token, reason=why))
            return
        except Exception:  # noqa: BLE001
            # The edge of a supervised task: the loop must hear that its computation is over.
            _log.exception("computing a plan (%s) failed", task.kind)
            why = Message(id="plan.none", params={"why": "internal error, see the log"})
            await self._told(f.NothingFound(**self._now(), token=task.token, reason=why))
            return
        self._drafts[draft.decision.id] = draft.data
        await self._told(_proposed(task, draft, self._now()))
        if draft.decision.id not in self.state.states:
            self._drafts.pop(draft.decision.id, None)

    # -- carrying out -----------------------------------------------------------------------

    async def _carry_out(self) -> None:
        """Batches of actions one after the other; nothing is done before it is recorded.

        What cannot be recorded waits, in order, and is tried again.
        """
        while True:
            if self._fault and not self._batches:
                await self._recover()
                continue
            await self._batched.wait()
            batch = self._batches[0]
            records = batch.records
            is_stuck = False
            try:
                if records and batch.entries is None:
                    batch.entries = await asyncio.to_thread(self._record, records)
            except _UNWRITABLE as error:
                is_stuck = True
                await self._failed(error)
                continue
            finally:
                if not is_stuck:
                    self._batches.popleft()
                if not self._batches:
                    self._batched.clear()
                    self._calm.set()
            await self._carry_out_batch(batch)
            if not batch.done.done():
                batch.done.set_result(None)

    def _fail(self, error: Exception) -> None:
        """The ledger cannot be written: whoever waits for a record hears of it."""
        if not self._fault:
            _log.error("nothing can be recorded, so nothing is decided: %s", error)
        self._fault = str(error)
        self._calm.set()
        for batch in self._batches:
            _refuse(batch.done, self._fault)

    def _block(self) -> None:
        """No line is free any more, and commands that were not recorded do not go out later."""
        if not self.state.is_recording:
            return
        for send in [send for batch in self._batches for send in batch.take_sends()]:
            self._tell(f.Withheld(**self._now(), job=_job(send)))
        self._tell(f.Recording(**self._now(), why=self._fault))

    async def _failed(self, error: Exception) -> None:
        self._fail(error)
        async with self._turn:
            self._block()
            self._catch_up()
        await asyncio.sleep(_RETRY_S)

    async def _recover(self) -> None:
        """All that waited is recorded: go on once there is some room."""
        try:
            await asyncio.to_thread(_must_have_room, self._ledger.path.parent)
        except _UNWRITABLE as error:
            self._fault = str(error)
            await asyncio.sleep(_RETRY_S)
            return
        async with self._turn:
            if not self._batches:
                self._fault = ""
                _log.info("decisions are recorded again")
                self._tell(f.Recording(**self._now(), why=""))
            self._catch_up()

    async def _carry_out_batch(self, batch: _Batch) -> None:
        """All records at the price of one, then what people see, then what goes to machines.

        The inputs and the ledger's anchor follow the news, but stand before any command leaves;
        the index for the screens comes last.
        """
        sends = batch.take_sends()
        for action in batch.actions:
            match action:
                case a.Record():
                    continue
                case a.Publish():
                    self._publish(action)
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
        if batch.entries is not None:
            sends = await self._settle(batch, sends)
        for send in sends:
            self._senders[send.line].put_nowait(send)
        if batch.entries is not None:
            recorded = list(zip(batch.records, batch.entries, strict=True))
            await asyncio.to_thread(self._book.index, recorded)
            if self._book.behind:
                self._write_wake.set()

    async def _settle(
        self, batch: _Batch, sends: list[a.Dispatch | a.Withdraw]
    ) -> list[a.Dispatch | a.Withdraw]:
        """Inputs and anchor to disk, however long that takes; the commands that may still go."""
        while True:
            try:
                await asyncio.to_thread(self._ledger.settle)
                return sends
            except _UNWRITABLE as error:
                if not batch.done.done():  # what it is about is in the ledger
                    batch.done.set_result(None)
                self._fail(error)
                async with self._turn:
                    for send in sends:
                        self._tell(f.Withheld(**self._now(), job=_job(send)))
                sends = []
                await self._failed(error)

    def _record(self, actions: Sequence[a.Record]) -> list[int]:
        """Ledger entries, durable on return, and what the screens show of them; their numbers."""
        ids = [x.body["id"] for x in actions if x.kind == "decision"]
        inputs = [self._drafts[id] for id in ids if id in self._drafts]
        entries = self._ledger.append_all([(x.kind, x.body) for x in actions], inputs)
        for id in ids:
            self._drafts.pop(id, None)
        for action in actions:
            self._book.note(action)
            self._keep_setting(action)
        return [entry.n for entry in entries]

    def _keep_setting(self, action: a.Record) -> None:
        """Levels and switches hold after a restart."""
        body = action.body
        if action.kind == "level":
            self._book.keep(f"level.{body['line']}.{body['class']}", body["level"])
        elif action.kind == "switch":
            self._book.keep(f"switch.{body['line']}", body["on"])

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
        body = self._book.body(action.decision)
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
        self._to_write = _newest((*self._to_write, (plan, action.decision, action.in_force)))
        self._write_wake.set()

    async def _write_plans(self) -> None:
        """The newest plan goes to disk beside the decisions: printing must not delay them.

        What cannot be written is tried again, so that a restart knows what is in force.
        """
        while True:
            is_behind = bool(self._plan_fault or self._book.behind)
            with suppress(TimeoutError):
                async with asyncio.timeout(_RETRY_S if is_behind else None):
                    await self._write_wake.wait()
            self._write_wake.clear()
            jobs, self._to_write = self._to_write, ()
            left = await asyncio.to_thread(self._write, jobs)
            self._to_write = _newest((*left, *self._to_write))

    def _write(self, jobs: tuple[_ToWrite, ...]) -> tuple[_ToWrite, ...]:
        """Write plans and what the records lag behind; the plans that could not be written."""
        if any(in_force for _, _, in_force in jobs):
            self._book.keep("budget", [list(row) for row in self.state.budget.spent])
        self._book.pay()
        left, fault = [], ""
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
                left.append((plan, decision, in_force))
                fault = str(error)
        if fault and not self._plan_fault:
            _log.error("%s", fault)
        self._plan_fault = fault
        return tuple(left)

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
            job = _job(action)
            is_free = may_send(self.config, self.state, line, job) and line not in self._closing
            if not is_free or (isinstance(action, a.Dispatch) and not await self._kept(action)):
                await self._told(f.Withheld(**self._now(), job=job))
                continue
            if isinstance(action, a.Dispatch):
                answer = await _answered(dispatcher.dispatch(action.job), job)
                await self._told(f.Confirmed(**self._now(), line=line, confirmation=answer))
            else:
                answer = await _answered(dispatcher.withdraw(job), job)
                await self._told(f.Withdrawn(**self._now(), line=line, confirmation=answer))

    async def _kept(self, action: a.Dispatch) -> bool:
        """Whether the records know the job that is about to leave."""
        way = self._ways.get(action.line, "")
        try:
            await asyncio.to_thread(
                self._records.save_job, action.job, way=way, decision=action.decision
            )
        except StoreError as error:
            _log.error("job %s stays here: %s", action.job.id, error)
            self._fail(error)
            async with self._turn:
                self._block()
                self._catch_up()
            return False
        return True

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
                before = self._unsaved.pop(line, self.state.listed.get(line))
                await self._told(fact)
                try:
                    await self._keep_progress(line, before)
                except StoreError as error:
                    self._unsaved[line] = before
                    _log.error("line %s: job states are not kept yet: %s", line, error)
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
        done = views.completed(self._requests, self.plant, self.state, self.known_orders())
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
        await self._said(f.Approved(**self._now(), decision=id, user=user, reason=reason))
        return await self.decision(id)

    async def reject(self, id: str, user: str, reason: str = "") -> dict[str, Any]:
        """Reject a decision that waits; NotAllowedError when it does not."""
        await self._said(f.Rejected(**self._now(), decision=id, user=user, reason=reason))
        return await self.decision(id)

    async def veto(self, id: str, user: str, reason: str = "") -> dict[str, Any]:
        """Veto a decision within its time; NotAllowedError when there is none to veto."""
        await self._said(f.Vetoed(**self._now(), decision=id, user=user, reason=reason))
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
        await self._said(fact)
        return self.autonomy_view()

    async def set_switch(self, line: str, on: bool, user: str) -> dict[str, Any]:
        """Turn a line's brain switch; off stops dispatch there at once.

        Off holds even when it cannot be recorded: StoreError says so.
        """
        fact = f.SwitchSet(**self._now(), line=line, on=on, user=user)
        if on:
            await self._said(fact)
            return self.autonomy_view()
        self._closing.add(line)
        try:
            done = await self._told(fact)
        finally:
            self._closing.discard(line)
        try:
            await done
        except StoreError as error:
            raise StoreError(
                f"the brain is OFF for line {line}, but that is not recorded yet and a restart "
                f"would turn it on again: {error}"
            ) from error
        return self.autonomy_view()

    async def _said(self, fact: f.Fact) -> None:
        """What a person says, recorded before it holds; StoreError when it does not hold."""
        await (await self._told(fact))

    def faults(self) -> dict[str, str]:
        """What cannot be written now, each with the reason: ledger, records, plans."""
        found = {"ledger": self._fault, "records": self._book.behind, "plans": self._plan_fault}
        return {what: why for what, why in found.items() if why}

    # -- views ------------------------------------------------------------------------------

    def decisions(self, limit: int = 50) -> list[dict[str, Any]]:
        """Newest decisions first, without their plan changes."""
        return self._book.newest(limit, self.state)

    async def decision(self, id: str) -> dict[str, Any]:
        """One decision with its life; KeyError when there is none."""
        return await asyncio.to_thread(self._book.one, id, self.state)

    def schedule_view(self) -> dict[str, Any]:
        """``GET schedule``: the newest plan, what happened, the plan before as ghost."""
        state = self.state
        shown = self._shown
        proposal = next(
            (
                id
                for id, entry in state.open.items()
                if entry.plan is not None and self._book.body(id) and entry.plan == shown
            ),
            None,
        )
        ghost = state.in_force if proposal is not None else self._ghost
        known = self.planner.known(shown.hash) if shown is not None else None
        now_ns = self._clock.plant_ns()
        view = views.schedule(
            self.plant,
            state,
            shown=shown,
            known=known,
            ghost=ghost,
            proposal=proposal,
            requests=self._requests,
            orders=self.known_orders(),
            now_ns=now_ns,
            frozen_s=self.config.envelope.frozen_min * 60,
            declared_times=self._declared.at(now_ns),
        )
        return {**view, "pins": self.pins_view(), "declared": self.declared_view()}

    def orders_view(self) -> list[dict[str, Any]]:
        """``GET orders``: every order with its promise and its predicted end."""
        return views.orders(self.plant, self.state, self._rows, self.known_orders())

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
        return await asyncio.to_thread(questions.explain_op, await self._current(), op)

    async def why_not(self, op: str, machine: str) -> dict[str, Any]:
        """``GET schedule/why-not``: what it would cost to have it on another machine."""
        return await asyncio.to_thread(questions.why_not_there, await self._current(), op, machine)

    async def why_not_then(self, op: str, start_ns: int | None) -> dict[str, Any]:
        """``GET schedule/why-not?start=``: what it would cost to have it start then, or earlier
        (None); KeyError when the plan does not know the operation."""
        task, frozen_s = self._now_task("react"), self.config.envelope.frozen_min * 60
        return await asyncio.to_thread(
            questions.why_not_then, self.planner, task, op, start_ns, frozen_s
        )

    async def what_if(self, events: list[dict[str, Any]]) -> dict[str, Any]:
        """``POST schedule/what-if``: the plan after events that have not happened."""
        return await asyncio.to_thread(
            questions.what_if,
            await self._current(),
            events,
            now_ns=self._clock.plant_ns(),
            frozen_s=self.config.envelope.frozen_min * 60,
            iterations=self.options.react_iterations,
        )

    async def scenarios(self, suppositions: list[list[dict[str, Any]]]) -> dict[str, Any]:
        """``POST schedule/scenarios``: up to three suppositions side by side."""
        task, frozen_s = self._now_task("react"), self.config.envelope.frozen_min * 60
        return await asyncio.to_thread(scenarios, self.planner, task, suppositions, frozen_s)

    async def scenario_steps(self, changes: list[dict[str, Any]]) -> dict[str, Any]:
        """``POST schedule/scenarios/steps``: what carrying out changes would do, step by step;
        RefusedChange when they cannot be. Nothing is changed."""
        found = supposed(self.planner, self._now_task("react"), changes, taken=self._taken_ids())
        lines = [
            {
                "line": line,
                "on": self.state.is_on(line),
                "level": level_of(
                    self.config.autonomy, self.state.levels, line, DecisionClass.REPAIR
                ).name.lower(),
            }
            for line in self.config.lines
        ]
        return {"steps": [message_body(step) for step in found.steps], "lines": lines}

    async def carry_out(self, changes: list[dict[str, Any]], user: str) -> dict[str, Any]:
        """``POST schedule/scenarios/carry-out``: make supposed changes real, all or none, and have
        the plan made anew; it goes through level and envelope like every decision. RefusedChange
        when a change cannot be."""
        async with self._declared.changing:
            await asyncio.to_thread(self._read_requests)
            task = self._now_task("react")
            found = supposed(self.planner, task, changes, taken=self._taken_ids(), by=user)
            if not found.steps:
                raise refused("nothing")
            steps = [message_body(step) for step in found.steps]
            await self._declared.keep(
                found.declared,
                user=user,
                time_ns=task.time_ns,
                steps=steps,
                requests=list(found.saved.values()),
                cancelled=found.cancelled,
            )
            await asyncio.to_thread(self._read_requests)
        await self._plan_changed(user, steps)
        return {"steps": steps, "declared": self.declared_view()}

    async def withdraw_declared(self, id: str, user: str) -> list[dict[str, Any]]:
        """``DELETE schedule/declared/{id}``: take a declared time back and have the plan made
        anew; KeyError when there is none."""
        async with self._declared.changing:
            now_ns = self._clock.plant_ns()
            row = self._declared.one(id, now_ns)
            steps = [message_body(withdrawal(self.plant, row))]
            left = [other for other in self._declared.at(now_ns) if other is not row]
            await self._declared.keep(left, user=user, time_ns=now_ns, steps=steps)
        await self._plan_changed(user, steps)
        return self.declared_view()

    def declared_view(self) -> list[dict[str, Any]]:
        """``GET schedule/declared``: planned stops and extra shifts that are not over."""
        return [views.declared(row) for row in self._declared.at(self._clock.plant_ns())]

    def _taken_ids(self) -> frozenset[str]:
        return frozenset(row.request.id for row in self._rows)

    async def _plan_changed(self, user: str, steps: Sequence[Mapping[str, Any]]) -> None:
        payload = {"by": user, "steps": list(steps)}
        event = Event(
            time_ns=self._clock.plant_ns(),
            kind=EventKind.PLANNED_CHANGE,
            path="",
            payload=payload,
        )
        await self._told(f.Happened(**self._now(), event=event))

    async def price_pin(self, op: str, machine: str, start_ns: int | None) -> dict[str, Any]:
        """``POST schedule/pins/price``: what a pin would cost, or why it cannot be; KeyError when
        the plan does not know the operation."""
        pin = Pin(op=op, machine=machine, start_ns=start_ns)
        frozen_s = self.config.envelope.frozen_min * 60
        task = self._now_task("react")
        found = await asyncio.to_thread(pinning.price, self.planner, task, pin, frozen_s)
        if not isinstance(found, pinning.Offer):
            return views.answer(found)
        self._offers[found.id] = found
        while len(self._offers) > _OFFERS:
            self._offers.pop(next(iter(self._offers)))
        return views.answer(found.body())

    async def take_pin(self, offer: str, user: str) -> dict[str, Any]:
        """``POST schedule/pins``: decide on a priced pin, approved in the user's name where the
        level asks a person. KeyError when there is no such offer; NotAllowedError when the
        envelope or the level forbids it: then nothing is pinned."""
        found = self._offers.pop(offer)
        if self._clock.plant_ns() - found.time_ns > pinning.FRESH_NS:
            raise NotAllowedError("this price is too old; ask for it again")
        pin = replace(found.pin, by=user)
        before = self.planner.pins
        planned = self._shown.index if self._shown is not None else {}
        kept = (p for p in before if p.op != pin.op and p.op in planned)
        self.planner.pins = (*kept, pin)
        self.planner.taken = {offer: found.taken(user)}
        payload = {"pin": pin.as_dict(), "offer": offer}
        event = Event(
            time_ns=self._clock.plant_ns(), kind=EventKind.PINNED, path=pin.op, payload=payload
        )
        seen = set(self.state.states)
        try:
            await self._told(f.Happened(**self._now(), event=event))
            id = await self._decided(offer, seen)
            if id in self.state.open:
                self._must_be_as_priced(id)
                await self.approve(id, user, f"pin {pin.op}")
            found_state = self.state.states[id]
            if found_state not in (DecisionState.IN_FORCE, DecisionState.APPROVED):
                raise NotAllowedError(
                    f"nothing is pinned: decision {id} is {found_state.value}, see its reasons"
                )
        except BaseException:
            self.planner.pins = before
            raise
        self._keep_pins()
        pair = await asyncio.to_thread(found.preference)
        self._preferred = [*self._preferred, {**pair, "decision": id, "by": user}][-_PAIRS:]
        self._book.keep("preferences", self._preferred)
        return await self.decision(id)

    def weights_view(self) -> dict[str, Any]:
        """``GET schedule/weights``: the weights in use, beside those that fit taken pins best."""
        pairs = pairs_of(self._preferred)
        return weights_view(self._weights, self._own_weights, pairs)

    async def set_weights(self, values: Mapping[str, float] | None, user: str) -> dict[str, Any]:
        """``PUT``, ``DELETE schedule/weights``: what plans are judged by from now on, also after
        a restart; what is left out stays as it is, None goes back to the plant's own.

        Raises
        ------
        ValueError
            A name is unknown, or a value is no weight; nothing has changed.
        """
        now, time_ns = self._weights, self._clock.plant_ns()
        after = InUse(weights=self._own_weights)
        if values is not None:
            weights = read_weights(values, now.weights)
            after = InUse(weights=weights, by=user, time_ns=time_ns)
        kept = None if values is None else after.weights
        body = weights_body(now.weights, kept, by=user, time_ns=time_ns)
        await asyncio.to_thread(self._ledger.append, WEIGHTS_KEY, body)
        self._weights, self.planner.weights = after, after.weights
        self._offers.clear()  # they were priced with the weights before
        self._book.keep(WEIGHTS_KEY, body)
        event = Event(time_ns=time_ns, kind=EventKind.WEIGHTS_CHANGED, path=user)
        await self._told(f.Happened(**self._now(), event=event))
        return self.weights_view()

    def _must_be_as_priced(self, id: str) -> None:
        """A person who took a price answers for that plan only, not for one that came of more."""
        reasons = (self._book.body(id) or {}).get("reasons", ())
        if all(reason["id"] != "schedule.pinned" for reason in reasons):
            raise NotAllowedError(
                f"other things happened meanwhile: decision {id} waits for approval with another "
                "plan than the one whose cost was shown; answer it, then ask for the cost again"
            )

    async def _decided(self, offer: str, seen: set[str]) -> str:
        """The decision that answers a pin, as soon as there is one."""
        async with asyncio.timeout(_PIN_S):
            while True:
                for id in self.state.states.keys() - seen:
                    body = self._book.body(id)
                    trigger = (body or {}).get("trigger", {})
                    for cause in trigger.get("all", [trigger]):
                        if (cause.get("payload") or {}).get("offer") == offer:
                            return id
                await asyncio.sleep(0.02)

    async def unpin(self, op: str, user: str) -> list[dict[str, Any]]:
        """``DELETE schedule/pins/{op}``: let an operation go again; KeyError when it is free."""
        if all(p.op != op for p in self.planner.pins):
            raise KeyError(op)
        body = {"op": op, "by": user, "time_ns": self._clock.plant_ns()}
        await asyncio.to_thread(self._ledger.append, "unpin", body)
        self.planner.pins = tuple(p for p in self.planner.pins if p.op != op)
        self._keep_pins()
        return self.pins_view()

    def _keep_pins(self) -> None:
        self._book.keep("pins", [p.as_dict() for p in self.planner.pins])

    def pins_view(self) -> list[dict[str, Any]]:
        """Pins whose operation is still planned, each with whether the plan shown keeps it."""
        jobs = self._shown.index if self._shown is not None else {}
        out = []
        for pin in self.planner.pins:
            if planned := jobs.get(pin.op):
                late_ns = planned.order.start_ns - (pin.start_ns or planned.order.start_ns)
                met = planned.order.equipment == pin.machine and late_ns <= WITHIN_S * 10**9
                start_ms = None if pin.start_ns is None else pin.start_ns / NS_PER_MS
                row = {"op": pin.op, "machine": pin.machine, "start_ms": start_ms, "by": pin.by}
                out.append({**row, "met": met})
        return out

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


def _binds(fact: f.Fact, actions: Sequence[a.Action]) -> bool:
    """Whether a step puts something in force, so that its records come first. Off never waits."""
    if isinstance(fact, f.SwitchSet) and not fact.on:
        return False
    return any(isinstance(x, a.Record) and x.kind in _BINDING for x in actions)


def _must_have_room(directory: Path) -> None:
    """StoreError when a plan, its inputs and its records would hardly fit on the disk any more."""
    there = next(place for place in (directory, *directory.parents) if place.exists())
    disk = os.statvfs(there)
    free = disk.f_bavail * disk.f_frsize
    if disk.f_blocks and free < _ROOM_BYTES:
        raise StoreError(
            f"the disk of {directory} is full: {free // 1024} kB are free, "
            f"{_ROOM_BYTES // 1024} kB are needed; free some space and try again"
        )


def _refuse(done: asyncio.Future[None], why: str) -> None:
    if not done.done():
        done.set_exception(StoreError(why))
        done.exception()  # nobody need wait for it


def _job(send: a.Dispatch | a.Withdraw) -> str:
    return send.job.id if isinstance(send, a.Dispatch) else send.job


def _newest(jobs: tuple[_ToWrite, ...]) -> tuple[_ToWrite, ...]:
    """The newest plan in force and, behind it, a newer one that is not."""
    in_force = [job for job in jobs if job[2]][-1:]
    return (*in_force, *(job for job in jobs[-1:] if not job[2]))


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
