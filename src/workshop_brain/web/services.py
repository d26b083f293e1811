"""What the web back end needs from the rest of the brain, as small protocols.

``app`` fills ``Services`` with the real rooms; tests fill it with real small parts. Methods that
compute for long may be coroutines or plain functions: the routes take both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from workshop_brain.app.push import Pushed
from workshop_brain.connect.push.decode import Body
from workshop_brain.live.table import LiveTable
from workshop_brain.live.units import UnitTable
from workshop_brain.model.curve import Curve
from workshop_brain.model.decision import DecisionClass, Level
from workshop_brain.model.event import Event
from workshop_brain.model.order import WorkRequest
from workshop_brain.model.plant import Plant
from workshop_brain.model.signal import SignalDef
from workshop_brain.ports import Clock
from workshop_brain.production.flow import Layout
from workshop_brain.production.states import StateLog
from workshop_brain.store.historian.catalog import CurveKey, CurveWish
from workshop_brain.web.events import EventFeed


class HistorianReader(Protocol):
    """Reads history; called in a thread, must be safe beside the writer. See ``Historian``."""

    def query(
        self,
        signals: Sequence[str],
        from_ns: int,
        to_ns: int,
        *,
        points: int | None = None,
        method: str = "minmax",
        restated: bool = False,
    ) -> Any:
        """Arrow table: raw (path, time_ns, value, quality, text) or, with points, buckets."""
        ...

    def restated(self, signals: Sequence[str], from_ns: int, to_ns: int) -> Any:
        """Arrow table: path, from_ns, to_ns, rows, at_ns of minutes that late rows changed."""
        ...

    def asof(
        self, signals: Sequence[str], moments: NDArray[np.int64], *, within_ns: int = ...
    ) -> Any:
        """Arrow table: time_ns and the value of each signal at each moment."""
        ...

    def part_events(self, stations: Sequence[str], from_ns: int, to_ns: int) -> Any:
        """Arrow table: station, serial, time_ns of every part that came."""
        ...

    def aggregate(
        self,
        signals: Sequence[str],
        from_ns: int,
        to_ns: int,
        *,
        width_ns: int,
        depth: int = 6,
        time_weighted: bool = False,
        restated: bool = False,
    ) -> Any:
        """Arrow table: aggregates per device and window."""
        ...

    def sql(self, statement: str, *, from_ns: int, to_ns: int, params: Sequence[Any] = ()) -> Any:
        """Arrow table: the answer of one SELECT."""
        ...

    def signals(self) -> list[SignalDef]:
        """Registered signals; position = id."""
        ...

    def last_values(
        self,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.uint8]]:
        """Newest time, value and quality of every signal."""
        ...

    def texts(self, codes: Sequence[int]) -> list[str]:
        """Texts of dictionary codes."""
        ...

    def curves(
        self,
        *,
        serial: str | None = None,
        station: str | None = None,
        program: str | None = None,
        from_ns: int | None = None,
        to_ns: int | None = None,
        before: tuple[int, str, str, int] | None = None,
        limit: int = 100,
    ) -> list[Curve]:
        """Newest curves first."""
        ...

    def list_curves(self, wish: CurveWish, limit: int = 100) -> list[CurveKey]:
        """What curves there are, newest first, without their values."""
        ...

    def stats(self) -> dict[str, Any]:
        """Sizes, rates and positions, JSON-able."""
        ...


class WatchView(Protocol):
    """Live and production, joined: see ``app.watch.Watch``."""

    live: LiveTable
    units: UnitTable
    log: StateLog
    alarms: dict[str, Event]

    def lines(self) -> tuple[Layout, ...]: ...
    def unit_order(self) -> list[str]: ...
    def line_view(self, id: str, plant_ns: int, stale: NDArray[np.bool_]) -> dict[str, Any]: ...
    def kpi_view(self, id: str, plant_ns: int, *, hours: float = 8.0) -> dict[str, Any]: ...


class DeciderView(Protocol):
    """The decision loop: see ``app.decide.Decider``. Any method may be a coroutine."""

    def decisions(self, limit: int = 50) -> Any: ...
    def decision(self, id: str) -> Any: ...
    def approve(self, id: str, user: str, reason: str) -> Any: ...
    def reject(self, id: str, user: str, reason: str) -> Any: ...
    def veto(self, id: str, user: str, reason: str) -> Any: ...
    def set_level(
        self, line: str, decision_class: DecisionClass, level: Level, user: str
    ) -> Any: ...
    def set_switch(self, line: str, on: bool, user: str) -> Any: ...
    def schedule_view(self) -> Any: ...
    def print_page(self, language: str | None = None) -> Any: ...
    def orders_view(self) -> Any: ...
    def explain(self, op: str) -> Any: ...
    def why_not(self, op: str, machine: str) -> Any: ...
    def why_not_then(self, op: str, start_ns: int | None) -> Any: ...
    def what_if(self, events: list[dict[str, Any]]) -> Any: ...
    def scenarios(self, suppositions: list[list[dict[str, Any]]]) -> Any: ...
    def scenario_steps(self, changes: list[dict[str, Any]]) -> Any: ...
    def carry_out(self, changes: list[dict[str, Any]], user: str) -> Any: ...
    def declared_view(self) -> Any: ...
    def withdraw_declared(self, id: str, user: str) -> Any: ...
    def price_pin(self, op: str, machine: str, start_ns: int | None) -> Any: ...
    def take_pin(self, offer: str, user: str) -> Any: ...
    def unpin(self, op: str, user: str) -> Any: ...
    def weights_view(self) -> Any: ...
    def set_weights(self, values: Any, user: str) -> Any: ...
    def autonomy_view(self) -> Any: ...


class OrdersDesk(Protocol):
    """Takes orders in; told to the decision loop by the implementation. May be coroutines."""

    def add(self, request: WorkRequest, user: str) -> Any:
        """Add one order; OrderError when its id is taken."""
        ...

    def import_file(self, name: str, content: bytes, user: str) -> Any:
        """Read a CSV or Excel file: ``{"accepted": n, "errors": [...]}``."""
        ...

    def cancel(self, id: str, user: str) -> Any:
        """Take an order back; KeyError when there is none."""
        ...


class WorkListView(Protocol):
    """The people's way out. May be coroutines."""

    def entries(self, work_center: str | None) -> Any: ...
    def confirm(self, job: str, user: str, good: int | None, scrap: int | None) -> Any: ...


class PushDoor(Protocol):
    """Takes pushed samples in: see ``app.push.Push``."""

    async def take(
        self, sender: str, body: Body, *, key: str = "", digest: int = 0, every_s: float = 0.0
    ) -> Pushed: ...
    def unreadable(self, sender: str, data: bytes, why: str) -> None: ...


class User(Protocol):
    """Somebody who may sign in; ``role`` is viewer, operator, planner, admin or pusher."""

    @property
    def name(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def language(self) -> str: ...


class Link(Protocol):
    """What a one-time link stands for: a user, and the role he gets if he is new."""

    @property
    def user(self) -> str: ...
    @property
    def role(self) -> str: ...


class UserStore(Protocol):
    """Users, sessions and one-time links: see ``store.records.Records``. Times are wall ns.

    ValueError says what is not acceptable.
    """

    def users(self) -> Sequence[User]: ...
    def user(self, name: str) -> User | None: ...
    def add_user(self, name: str, password: str, role: str, *, language: str = "en") -> User: ...
    def check_password(self, name: str, password: str) -> User | None: ...
    def set_password(self, name: str, password: str) -> None: ...
    def set_role(self, name: str, role: str) -> None: ...
    def set_language(self, name: str, language: str) -> None: ...
    def remove_user(self, name: str) -> None: ...
    def open_session(self, user_name: str, *, now_ns: int, ttl_s: float) -> str: ...
    def session(self, token: str, *, now_ns: int) -> User | None: ...
    def close_session(self, token: str) -> None: ...
    def add_link(self, *, role: str, now_ns: int, ttl_s: float, user: str = "admin") -> str: ...
    def use_link(self, token: str, *, now_ns: int) -> Link | None: ...


class SettingStore(Protocol):
    """Keeps small JSON values: see ``store.records.Records``."""

    def setting(self, key: str, default: Any = None) -> Any: ...
    def set_setting(self, key: str, value: Any) -> None: ...


@dataclass(slots=True, kw_only=True)
class Services:
    """The rooms behind the API.

    Attributes
    ----------
    feed
        Where ``app`` publishes events for the screens.
    sources
        Status of every source: ``[{id, protocol, state, since_ns, rate, age_s, gaps}]``.
    plant_dir
        Directory of the plant file, with further documents of the plant.
    settings
        Keeps the acknowledgement of alarms over a restart.
    latency
        Source stamp to durable: ``{stored_p50_ms, stored_p99_ms}``.
    faults
        What cannot be written now (ledger, records, plans, history), each with the reason.
    loopback
        The server listens on loopback only: requests for other host names are refused (DNS
        rebinding).
    hosts
        Host names under which the screens may be opened when not on loopback; empty: any.
    sign_in
        False makes everybody an admin; for demonstrations on loopback only.
    """

    plant: Plant
    clock: Clock
    watch: WatchView
    historian: HistorianReader
    decider: DeciderView
    users: UserStore
    orders: OrdersDesk
    work_list: WorkListView
    data_dir: Path
    sources: Callable[[], list[dict[str, Any]]]
    settings: SettingStore | None = None
    push: PushDoor | None = None
    plant_dir: Path | None = None
    version: str = ""
    simulated: bool = False
    feed: EventFeed = field(default_factory=EventFeed)
    plant_rate: Callable[[], float] = field(default=lambda: 1.0)
    latency: Callable[[], dict[str, float]] = field(default=dict)
    faults: Callable[[], dict[str, str]] = field(default=dict)
    loopback: bool = True
    hosts: tuple[str, ...] = ()
    secure_cookie: bool = False
    sign_in: bool = True
    language: str = "en"
