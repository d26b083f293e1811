"""``/prom/api/v1``: what a Prometheus data source of Grafana asks for."""

import asyncio
import base64
import binascii
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.datastructures import ImmutableMultiDict
from starlette.requests import Request

from workshop_brain.errors import StoreError
from workshop_brain.model.signal import SignalDef
from workshop_brain.units import NS_PER_S
from workshop_brain.web.auth import allows
from workshop_brain.web.context import Context, Here, identify
from workshop_brain.web.plain import Json
from workshop_brain.web.problem import Problem
from workshop_brain.web.prom import answers
from workshop_brain.web.prom.evaluate import LOOKBACK_NS
from workshop_brain.web.prom.labels import SeriesIndex
from workshop_brain.web.prom.promql import PromError, Selector, parse
from workshop_brain.web.services import User

router = APIRouter(prefix="/prom/api/v1", tags=["prometheus"])
_STATUS = {"bad_data": 400, "execution": 422, "timeout": 503}
_REMEMBER_NS = 60 * NS_PER_S
_MOST_REMEMBERED = 256
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="Workshop Brain"'}


class Room:
    """What one application remembers between questions: labels of all signals, who was let in."""

    def __init__(self) -> None:
        self.parallel = asyncio.Semaphore(2)
        self._known: OrderedDict[str, tuple[int, str]] = OrderedDict()
        self._index = SeriesIndex(())

    def index(self, signals: Sequence[SignalDef]) -> SeriesIndex:
        """Labels of all signals, made anew only when there are others."""
        if len(self._index.signals) != len(signals) or self._index.signals != list(signals):
            self._index = SeriesIndex(signals)
        return self._index

    def known(self, key: str, now_ns: int) -> str:
        """The user that a header let in a short while ago; "" when there is none."""
        until, name = self._known.get(key, (0, ""))
        return name if now_ns < until else ""

    def remember(self, key: str, name: str, now_ns: int) -> None:
        """Spare the password's hash for a minute: a dashboard asks many times a second."""
        self._known[key] = (now_ns + _REMEMBER_NS, name)
        while len(self._known) > _MOST_REMEMBERED:
            self._known.popitem(last=False)


def _room(request: Request) -> Room:
    room: Room = request.app.state.prom_room
    return room


async def reads(request: Request, here: Here) -> User:
    """Who is asking: bearer token, cookie, or Basic with a password or a token as password."""
    user = identify(request)
    if user is None:
        user = await _basic(request, here)
    if user is None:
        raise Problem(401, "web.sign_in_needed", _CHALLENGE)
    if not allows(user.role, "viewer"):
        raise Problem(403, "web.role_needed", needed="viewer", role=user.role)
    return user


async def _basic(request: Request, here: Context) -> User | None:
    header = request.headers.get("authorization", "")
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    user = here.auth.identify(password)
    if user is not None:
        return user if user.name == name else None
    now, key = here.services.clock.wall_ns(), hashlib.sha256(header.encode()).hexdigest()
    room = _room(request)
    known = room.known(key, now)
    if not known:
        peer = request.client.host if request.client else "?"
        known = (await here.auth.verify(name, password, peer)).name
        room.remember(key, known, now)
    return here.auth.current(known)


Reader = Annotated[User, Depends(reads)]


class _Wishes:
    """Parameters of the address and of a posted form."""

    def __init__(self, *parts: ImmutableMultiDict[str, Any]) -> None:
        self._parts = parts

    def one(self, name: str, default: str | None = None) -> str:
        """One value; PromError without it when there is no default."""
        for part in self._parts:
            if name in part:
                return str(part[name])
        if default is None:
            raise PromError(f"{name}: is missing")
        return default

    def all(self, name: str) -> list[str]:
        """All values of a name that may be repeated."""
        return [str(v) for part in self._parts for v in part.getlist(name)]


async def _wishes(request: Request) -> _Wishes:
    if request.method == "POST":
        return _Wishes(await request.form(), request.query_params)
    return _Wishes(request.query_params)


def _signal_index(request: Request, here: Context) -> SeriesIndex:
    return _room(request).index(here.services.watch.live.signals)


async def _answer(request: Request, work: Callable[[], Any]) -> Json:
    """``{status, data}``, or the error in the form that Prometheus clients know."""
    try:
        async with _room(request).parallel:
            data = await asyncio.to_thread(work)
    except PromError as error:
        return _failed(error.kind, str(error))
    except StoreError as error:
        return _failed("execution", str(error))
    return Json({"status": "success", "data": data})


def _failed(kind: str, text: str) -> Json:
    body = {"status": "error", "errorType": kind, "error": text}
    return Json(body, status_code=_STATUS.get(kind, 422))


def _chosen(index: SeriesIndex, wishes: _Wishes) -> list[dict[str, str]]:
    """Series of any of the ``match[]`` selectors; all without one."""
    selectors = wishes.all("match[]")
    if not selectors:
        return index.labels
    found: dict[str, dict[str, str]] = {}
    for text in selectors:
        node = parse(text)
        if not isinstance(node, Selector) or node.range_ns or node.offset_ns:
            raise PromError(f"match[]: {text!r} is no series selector")
        found.update({labels["path"]: labels for labels in index.find(node.matchers)})
    return list(found.values())


def _bound(rows: Sequence[Any], wishes: _Wishes) -> list[Any]:
    limit = wishes.one("limit", "0")
    if not limit.isdecimal():
        raise PromError(f"limit: {limit!r} is no number")
    return list(rows)[: int(limit) or None]


@router.post("/query", include_in_schema=False)
@router.get("/query")
async def query(request: Request, user: Reader, here: Here) -> Json:
    """PromQL at one instant."""
    wishes = await _wishes(request)

    def work() -> Any:
        now = here.services.clock.plant_ns() / NS_PER_S
        at_ns = answers.instant_ns(wishes.one("time", repr(now)), "time")
        lookback = wishes.one("lookback_delta", f"{LOOKBACK_NS // NS_PER_S}")
        read = answers.reader(here.services.historian, _signal_index(request, here))
        back_ns = answers.span_ns(lookback, "lookback_delta")
        return answers.query(wishes.one("query"), at_ns, back_ns, read)

    return await _answer(request, work)


@router.post("/query_range", include_in_schema=False)
@router.get("/query_range")
async def query_range(request: Request, user: Reader, here: Here) -> Json:
    """PromQL at equal steps."""
    wishes = await _wishes(request)

    def work() -> Any:
        lookback = wishes.one("lookback_delta", f"{LOOKBACK_NS // NS_PER_S}")
        steps = answers.steps_of(
            answers.instant_ns(wishes.one("start"), "start"),
            answers.instant_ns(wishes.one("end"), "end"),
            answers.span_ns(wishes.one("step"), "step"),
            answers.span_ns(lookback, "lookback_delta"),
        )
        read = answers.reader(here.services.historian, _signal_index(request, here))
        return answers.query_range(wishes.one("query"), steps, read)

    return await _answer(request, work)


@router.post("/series", include_in_schema=False)
@router.get("/series")
async def series(request: Request, user: Reader, here: Here) -> Json:
    """Labels of the series that ``match[]`` selects."""
    wishes = await _wishes(request)

    def work() -> Any:
        if not wishes.all("match[]"):
            raise PromError("no match[] parameter provided")
        return _bound(_chosen(_signal_index(request, here), wishes), wishes)

    return await _answer(request, work)


@router.post("/labels", include_in_schema=False)
@router.get("/labels")
async def labels(request: Request, user: Reader, here: Here) -> Json:
    """Names of all labels."""
    wishes = await _wishes(request)

    def work() -> Any:
        chosen = _chosen(_signal_index(request, here), wishes)
        return _bound(sorted({name for found in chosen for name in found}), wishes)

    return await _answer(request, work)


@router.get("/label/{name}/values")
async def label_values(name: str, request: Request, user: Reader, here: Here) -> Json:
    """Values of one label."""
    wishes = await _wishes(request)

    def work() -> Any:
        chosen = _chosen(_signal_index(request, here), wishes)
        return _bound(sorted({found[name] for found in chosen if name in found}), wishes)

    return await _answer(request, work)


@router.get("/metadata")
async def metadata(request: Request, user: Reader, here: Here) -> Json:
    """Type and unit of every metric."""
    wishes = await _wishes(request)

    def work() -> Any:
        found = _signal_index(request, here).metadata()
        if metric := wishes.one("metric", ""):
            found = {k: v for k, v in found.items() if k == metric}
        return dict(_bound(list(found.items()), wishes))

    return await _answer(request, work)


@router.get("/status/buildinfo")
async def buildinfo(user: Reader, here: Here) -> Json:
    """What is asked before the first query: whose semantics the answers have."""
    version = here.services.version or "0"
    data = {
        "version": "3.0.0", "revision": f"workshop-brain-{version}", "branch": "", "buildUser": "",
        "buildDate": "", "goVersion": "", "application": "Workshop Brain",
    }  # fmt: skip
    return Json({"status": "success", "data": data})


@router.post("/query_exemplars", include_in_schema=False)
@router.get("/query_exemplars")
async def query_exemplars(user: Reader) -> Json:
    """Exemplars: signals of machines have none."""
    return Json({"status": "success", "data": []})


@router.get("/rules")
async def rules(user: Reader) -> Json:
    """Alerting rules: none are kept here; alarms are under ``/api/v1/alarms``."""
    return Json({"status": "success", "data": {"groups": []}})
