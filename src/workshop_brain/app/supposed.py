"""What a list of supposed changes comes to: the order book and the declared times after it.

Compared and carried out from the same rules, so that what was compared is what is done.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from workshop_brain.autonomy.messages import MESSAGES
from workshop_brain.errors import OrderError
from workshop_brain.model.decision import Message
from workshop_brain.model.declared import Declared, DeclaredKind
from workshop_brain.model.order import WorkRequest
from workshop_brain.model.plant import Plant, WorkCenter
from workshop_brain.schedule.calendars import merge, opened
from workshop_brain.store.orders import MOST_PIECES
from workshop_brain.units import NS_PER_DAY, NS_PER_S

KINDS = ("down", "shift", "add", "cancel", "due")
LONGEST_NS = 62 * NS_PER_DAY
"""A declared time is no change of the plant: what lasts longer belongs into plant.toml."""


class RefusedChange(OrderError):
    """A change that cannot be, as a message for people of both languages.

    Parameters
    ----------
    message
        Its parameters are texts and numbers; the error's own text is the English one.
    """

    def __init__(self, message: Message) -> None:
        super().__init__(MESSAGES[message.id][0].format(**message.params))
        self.message = message


def refused(why: str, **params: Any) -> RefusedChange:
    """The refusal ``scenario.refused_{why}``."""
    return RefusedChange(Message(id=f"scenario.refused_{why}", params=params))


@dataclass(slots=True, kw_only=True)
class Supposed:
    """The order book and the declared times, changed one by one.

    Attributes
    ----------
    taken
        Ids of all orders that ever were; a new order needs another one.
    saved, fresh, cancelled, added
        What the changes so far come to: new and changed orders, ids of the new ones and of those
        taken back, new declared times.
    steps
        One message for each change.
    """

    plant: Plant
    now_ns: int
    requests: dict[str, WorkRequest]
    declared: list[Declared]
    taken: Collection[str] = ()
    by: str = ""
    saved: dict[str, WorkRequest] = field(default_factory=dict)
    fresh: set[str] = field(default_factory=set)
    cancelled: list[str] = field(default_factory=list)
    added: list[Declared] = field(default_factory=list)
    steps: list[Message] = field(default_factory=list)

    def apply(self, changes: Sequence[Mapping[str, Any]]) -> "Supposed":
        """Take changes in: ``{kind: "down", machine, from_ns, until_ns}``, ``{kind: "shift",
        work_center, from_ns, until_ns}`` (open although the calendar says closed), ``{kind: "add",
        id, product, quantity, due_ns, priority}``, ``{kind: "cancel", order}`` and ``{kind: "due",
        order, due_ns}``.

        Raises
        ------
        RefusedChange
            A change is incomplete, about something unknown, or contradicts what holds already.
        """
        for change in changes:
            kind = change.get("kind")
            if kind not in KINDS:
                raise refused("kind", kind=str(kind), known=", ".join(KINDS))
            try:
                getattr(self, f"_{kind}")(change)
            except (KeyError, TypeError, ValueError) as error:
                raise refused("incomplete", change=str(dict(change)), missing=str(error)) from error
        return self

    # -- orders -----------------------------------------------------------------------------

    def _add(self, change: Mapping[str, Any]) -> None:
        id, product = str(change["id"]), str(change["product"])
        if id in self.requests or id in self.taken:
            raise refused("known", order=id)
        known = [p.id for p in self.plant.products]
        if product not in known:
            raise refused("no_product", product=product, known=", ".join(known))
        quantity = int(change["quantity"])
        if quantity > MOST_PIECES:
            raise refused("quantity", order=id, quantity=quantity, limit=MOST_PIECES)
        order = WorkRequest(
            id=id,
            product=product,
            quantity=quantity,
            due_ns=self._later(change, id),
            priority=int(change.get("priority", 1)),
        )
        self.requests[id] = self.saved[id] = order
        self.fresh.add(id)
        names = self.plant.product(product).names or product
        params = {"order": id, "quantity": quantity, "product": names, "due_ns": order.due_ns}
        self.steps.append(Message(id="scenario.add", params=params))

    def _cancel(self, change: Mapping[str, Any]) -> None:
        order = self._known(change)
        del self.requests[order.id]
        if order.id in self.fresh:
            raise refused("add_and_cancel", order=order.id)
        self.saved.pop(order.id, None)
        self.cancelled.append(order.id)
        self.steps.append(Message(id="scenario.cancel", params={"order": order.id}))

    def _due(self, change: Mapping[str, Any]) -> None:
        order = self._known(change)
        changed = replace(order, due_ns=self._later(change, order.id))
        self.requests[order.id] = self.saved[order.id] = changed
        params = {"order": order.id, "before_ns": order.due_ns, "due_ns": changed.due_ns}
        self.steps.append(Message(id="scenario.due", params=params))

    def _known(self, change: Mapping[str, Any]) -> WorkRequest:
        id = str(change["order"])
        if id not in self.requests:
            raise refused("no_order", order=id)
        return self.requests[id]

    def _later(self, change: Mapping[str, Any], id: str) -> int:
        due_ns = int(change["due_ns"])
        if due_ns <= self.now_ns:
            raise refused("due_past", order=id)
        return due_ns

    # -- working times ----------------------------------------------------------------------

    def _down(self, change: Mapping[str, Any]) -> None:
        path = str(change["machine"])
        try:
            self.plant.unit(path)
        except KeyError as error:
            raise refused("no_machine", machine=path) from error
        row = self._declare(change, DeclaredKind.DOWN, path)
        params = {"unit": path, "from_ns": row.from_ns, "until_ns": row.until_ns}
        self.steps.append(Message(id="scenario.down", params=params))

    def _shift(self, change: Mapping[str, Any]) -> None:
        id = str(change["work_center"])
        try:
            center = self.plant.work_center(id)
        except KeyError as error:
            raise refused("no_center", center=id) from error
        row = self._declare(change, DeclaredKind.SHIFT, id)
        open_s = _opened_s(center, row)
        if open_s <= 0:
            raise refused("open_anyway", center=id)
        params = {
            "center": center.names or id,
            "from_ns": row.from_ns,
            "until_ns": row.until_ns,
            "open_s": open_s,
        }
        self.steps.append(Message(id="scenario.shift", params=params))

    def _declare(self, change: Mapping[str, Any], kind: DeclaredKind, place: str) -> Declared:
        low, high = max(int(change["from_ns"]), self.now_ns), int(change["until_ns"])
        if high <= low:
            raise refused("span", place=place)
        if high - low > LONGEST_NS:
            raise refused("too_long", place=place, days=LONGEST_NS // NS_PER_DAY)
        for old in self.declared:
            if (old.kind, old.place) == (kind, place) and old.from_ns < high and low < old.until_ns:
                raise refused(f"overlap_{kind.value}", place=place)
        # The whole place stands in it: units of two places may have the same short name.
        id = f"{kind.value}-{place.replace('/', '.')}-{low // NS_PER_S}"
        row = Declared(id=id, kind=kind, place=place, from_ns=low, until_ns=high, by=self.by)
        self.declared.append(row)
        self.added.append(row)
        return row


def withdrawal(plant: Plant, row: Declared) -> Message:
    """What taking a declared time back means, in words."""
    params: dict[str, Any] = {"from_ns": row.from_ns, "until_ns": row.until_ns}
    if row.kind is DeclaredKind.DOWN:
        params["unit"] = row.place
    else:
        names = {center.id: center.names for center in plant.work_centers}
        params["center"] = names.get(row.place) or row.place
    return Message(id=f"scenario.withdraw_{row.kind.value}", params=params)


def _opened_s(center: WorkCenter, shift: Declared) -> int:
    """Seconds of a shift in which the work center's calendar is closed."""
    closed = merge(center.calendar.closed(shift.from_ns, shift.until_ns))
    left = opened(closed, [(shift.from_ns, shift.until_ns)])
    return (sum(b - a for a, b in closed) - sum(b - a for a, b in left)) // NS_PER_S
