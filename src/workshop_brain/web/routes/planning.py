"""Orders, schedule, decisions, autonomy and the people's work list."""

from asyncio import to_thread
from decimal import Decimal
from typing import Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from workshop_brain.app.line_balance import balance_view
from workshop_brain.model.decision import DecisionClass, Level
from workshop_brain.model.order import WorkRequest
from workshop_brain.units import NS_PER_MS
from workshop_brain.web.context import (
    Context,
    Here,
    Operator,
    Planner,
    Viewer,
    answer,
    language,
)
from workshop_brain.web.gate import PRINT_POLICY
from workshop_brain.web.plain import Json, ask, plain
from workshop_brain.web.problem import Problem
from workshop_brain.web.series import instant

router = APIRouter(tags=["planning"])
MOST_IMPORT = 10 * 1024 * 1024


class NewOrder(BaseModel):
    """One order; due and release as ms since the epoch or ISO 8601 with offset."""

    id: str = Field(min_length=1, max_length=64)
    product: str
    quantity: int = Field(ge=1)
    due: float | str
    release: float | str | None = None
    priority: int = Field(default=1, ge=1, le=9)


class Reason(BaseModel):
    """Why somebody decided so."""

    reason: str = Field(default="", max_length=1000)


class LevelWish(BaseModel):
    """An autonomy level by name or number."""

    level: str | int


class SwitchWish(BaseModel):
    """Brain on or off for a line."""

    on: bool


class WhatIf(BaseModel):
    """Events to suppose."""

    events: list[dict[str, Any]] = Field(max_length=100)


class Done(BaseModel):
    """What a person reports of a job; pieces left out mean: as ordered."""

    good: int | None = Field(default=None, ge=0)
    scrap: int | None = Field(default=None, ge=0)


# -- orders ---------------------------------------------------------------------------------


@router.get("/orders")
async def orders(request: Request, user: Viewer, here: Here) -> Json:
    """All open orders with their progress and predicted end."""
    return answer(request, plain(await ask(here.services.decider.orders_view)))


@router.post("/orders")
async def add_order(body: NewOrder, user: Planner, here: Here) -> Json:
    """Add one order."""
    now = here.services.clock.plant_ns()
    products = [p.id for p in here.services.plant.products]
    if body.product not in products:
        reason = f"one of {', '.join(products)}"
        raise Problem(422, "web.bad_value", field="product", reason=reason, value=body.product)
    try:
        order = WorkRequest(
            id=body.id,
            product=body.product,
            quantity=body.quantity,
            due_ns=instant(str(body.due), now, "due"),
            release_ns=0 if body.release is None else instant(str(body.release), now, "release"),
            priority=body.priority,
        )
    except ValueError as error:
        raise Problem(422, "web.refused", reason=str(error)) from error
    await ask(here.services.orders.add, order, user.name)
    return Json(plain(order), status_code=201)


@router.post("/orders/import")
async def import_orders(request: Request, user: Planner, here: Here) -> Json:
    """Import a CSV or Excel file, as form field ``file`` or as the body."""
    name, content = await _file(request)
    return answer(
        request, plain(await ask(here.services.orders.import_file, name, content, user.name))
    )


async def _file(request: Request) -> tuple[str, bytes]:
    size = int(request.headers.get("content-length") or 0)
    if size > MOST_IMPORT + 4096:
        raise Problem(413, "web.too_large", size=size, limit=MOST_IMPORT)
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        async with request.form(max_files=1, max_fields=10) as form:
            file = next((v for v in form.values() if isinstance(v, UploadFile)), None)
            if file is None:
                raise Problem(422, "web.bad_value", field="file", reason="a file", value="nothing")
            return file.filename or "orders.csv", await file.read()
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_IMPORT:
            raise Problem(413, "web.too_large", size=len(body), limit=MOST_IMPORT)
    return request.query_params.get("name", "orders.csv"), bytes(body)


@router.delete("/orders/{id}")
async def cancel_order(id: str, user: Planner, here: Here) -> Response:
    """Take an order back."""
    try:
        await ask(here.services.orders.cancel, id, user.name)
    except KeyError as error:
        raise Problem(404, "web.not_found", what="order", id=id) from error
    return Response(status_code=204)


# -- schedule -------------------------------------------------------------------------------


@router.get("/schedule")
async def schedule(request: Request, user: Viewer, here: Here) -> Json:
    """The plan in force with the actual course and the previous plan as ghost."""
    return Json(await ask(here.services.decider.schedule_view))


@router.get("/schedule/print")
async def schedule_print(
    request: Request, user: Viewer, here: Here, lang: Literal["en", "zh"] | None = None
) -> Response:
    """The printable sheet of the current plan, in ``lang`` or the reader's language."""
    page = await ask(here.services.decider.print_page, lang or language(request))
    return HTMLResponse(page, headers={"content-security-policy": PRINT_POLICY})


@router.get("/schedule/explain")
async def explain(request: Request, user: Viewer, here: Here, op: str) -> Json:
    """Why an operation stands where it stands, by re-solving."""
    return _messages(request, await _known(ask(here.services.decider.explain, op), "operation", op))


@router.get("/schedule/why-not")
async def why_not(
    request: Request,
    user: Viewer,
    here: Here,
    op: str,
    machine: str | None = None,
    start: str | None = None,
) -> Json:
    """What would happen with an operation on another machine (id or path), or with another start
    (an instant, or ``earlier``), by re-solving."""
    if start is not None:
        now = here.services.clock.plant_ns()
        start_ns = None if start == "earlier" else instant(start, now, "start")
        work = ask(here.services.decider.why_not_then, op, start_ns)
        return _messages(request, await _known(work, "operation", op))
    if machine is None:
        raise Problem(422, "web.missing", field="machine or start")
    units = {u.id: u.path for c in here.services.plant.work_centers for u in c.units}
    path = units.get(machine, machine)
    if path not in units.values():
        raise Problem(404, "web.not_found", what="machine", id=machine)
    found = await _known(ask(here.services.decider.why_not, op, path), "operation", op)
    return _messages(request, found)


class Scenarios(BaseModel):
    """Suppositions to compare, each a list of changes; instants as ms or ISO 8601."""

    scenarios: list[list[dict[str, Any]]] = Field(min_length=1, max_length=3)


@router.post("/schedule/scenarios")
async def scenarios(body: Scenarios, request: Request, user: Operator, here: Here) -> Json:
    """Up to three suppositions beside the plan in force, each solved from the present state."""
    now = here.services.clock.plant_ns()
    asked = [[_in_ns(change, now) for change in row[:20]] for row in body.scenarios]
    return answer(request, plain(await ask(here.services.decider.scenarios, asked)))


class Changes(BaseModel):
    """Changes of one compared scenario; instants as ms or ISO 8601."""

    changes: list[dict[str, Any]] = Field(min_length=1, max_length=20)


@router.post("/schedule/scenarios/steps")
async def scenario_steps(body: Changes, request: Request, user: Operator, here: Here) -> Json:
    """What carrying a scenario out would do, step by step; nothing is changed."""
    now = here.services.clock.plant_ns()
    asked = [_in_ns(change, now) for change in body.changes]
    return answer(request, plain(await ask(here.services.decider.scenario_steps, asked)))


@router.post("/schedule/scenarios/carry-out")
async def carry_out(body: Changes, request: Request, user: Planner, here: Here) -> Json:
    """Carry a scenario out, all or nothing: order changes become orders, stops and extra shifts
    declared times; the brain then plans anew through level and envelope."""
    now = here.services.clock.plant_ns()
    asked = [_in_ns(change, now) for change in body.changes]
    return answer(request, plain(await ask(here.services.decider.carry_out, asked, user.name)))


@router.get("/schedule/declared")
async def declared(user: Viewer, here: Here) -> Json:
    """Planned stops and extra shifts on top of the calendars, as long as they are not over."""
    return Json(plain(await ask(here.services.decider.declared_view)))


@router.delete("/schedule/declared/{id}")
async def withdraw_declared(id: str, user: Planner, here: Here) -> Json:
    """Take a planned stop or an extra shift back; the brain plans anew."""
    work = ask(here.services.decider.withdraw_declared, id, user.name)
    return Json(plain(await _known(work, "declared time", id)))


def _in_ns(change: dict[str, Any], now: int) -> dict[str, Any]:
    """Keys ``from, until, due`` as ``*_ns``."""
    out = dict(change)
    for key in ("from", "until", "due"):
        if key in out:
            out[f"{key}_ns"] = instant(str(out.pop(key)), now, key)
    return out


@router.get("/line/{id}/balance")
async def line_balance(
    id: str,
    user: Viewer,
    here: Here,
    cycle: float | None = Query(None, gt=0, le=86_400),
    before: float | None = Query(None, gt=0, le=86_400),
) -> Json:
    """Yamazumi of a line: who does what now, and after rebalancing for a cycle in seconds; without
    one for the cycle of the longest station today."""
    _line(here, id)
    folders = [f for f in (here.services.data_dir, here.services.plant_dir) if f is not None]
    wanted, old = (None if s is None else Decimal(str(s)) for s in (cycle, before))
    return Json(plain(await to_thread(balance_view, folders, id, wanted, old)))


class PinWish(BaseModel):
    """An operation on a machine (id or path), at a time or at any."""

    op: str
    machine: str
    start_ms: float | None = Field(default=None, gt=0)


class TakenPin(BaseModel):
    """A priced pin that is to hold."""

    id: str


@router.post("/schedule/pins/price")
async def price_pin(body: PinWish, request: Request, user: Operator, here: Here) -> Json:
    """What keeping an operation there costs, by re-solving; nothing holds yet."""
    units = {u.id: u.path for c in here.services.plant.work_centers for u in c.units}
    path = units.get(body.machine, body.machine)
    if path not in units.values():
        raise Problem(404, "web.not_found", what="machine", id=body.machine)
    start_ns = None if body.start_ms is None else round(body.start_ms * NS_PER_MS)
    work = ask(here.services.decider.price_pin, body.op, path, start_ns)
    return answer(request, plain(await _known(work, "operation", body.op)))


@router.post("/schedule/pins")
async def take_pin(body: TakenPin, request: Request, user: Planner, here: Here) -> Json:
    """Have a priced pin decided on; it goes through level and envelope like every decision."""
    work = ask(here.services.decider.take_pin, body.id, user.name)
    return answer(request, plain(await _known(work, "price", body.id)))


@router.delete("/schedule/pins/{op}")
async def unpin(op: str, request: Request, user: Planner, here: Here) -> Json:
    """Let an operation go; the next plan may move it."""
    work = ask(here.services.decider.unpin, op, user.name)
    return answer(request, plain(await _known(work, "pin", op)))


@router.get("/schedule/weights")
async def weights(user: Viewer, here: Here) -> Json:
    """Weights of the objective in use, and those that agree best with the pins people took."""
    return Json(plain(await ask(here.services.decider.weights_view)))


class WeightsWish(BaseModel):
    """Weights by name; those left out stay as they are."""

    weights: dict[str, float] = Field(min_length=1, max_length=20)


@router.put("/schedule/weights")
async def set_weights(body: WeightsWish, user: Planner, here: Here) -> Json:
    """Judge plans by these weights from now on."""
    try:
        found = await ask(here.services.decider.set_weights, body.weights, user.name)
    except ValueError as error:
        raise Problem(422, "web.refused", reason=str(error)) from error
    return Json(plain(found))


@router.delete("/schedule/weights")
async def reset_weights(user: Planner, here: Here) -> Json:
    """Judge plans by the plant's own weights again."""
    return Json(plain(await ask(here.services.decider.set_weights, None, user.name)))


def _messages(request: Request, found: Any) -> Json:
    value = plain(found)
    return answer(request, value if isinstance(value, dict) else {"messages": value})


@router.post("/schedule/what-if")
async def what_if(body: WhatIf, request: Request, user: Operator, here: Here) -> Json:
    """The plan's KPIs if these events happened, beside those of now."""
    try:
        found = await ask(here.services.decider.what_if, body.events)
    except (KeyError, TypeError, ValueError) as error:
        raise Problem(422, "web.refused", reason=f"events: {error}") from error
    return answer(request, plain(found))


# -- decisions ------------------------------------------------------------------------------


@router.get("/decisions")
async def decisions(
    request: Request, user: Viewer, here: Here, limit: int = Query(50, ge=1, le=1000)
) -> Json:
    """Newest decisions first."""
    return answer(request, plain(await ask(here.services.decider.decisions, limit)))


@router.get("/decisions/{id}")
async def decision(id: str, request: Request, user: Viewer, here: Here) -> Json:
    """One decision with its candidates, reasons, commands and outcome."""
    return answer(
        request, plain(await _known(ask(here.services.decider.decision, id), "decision", id))
    )


@router.post("/decisions/{id}/approve")
async def approve(id: str, body: Reason, request: Request, user: Planner, here: Here) -> Json:
    """Let a waiting decision act."""
    work = ask(here.services.decider.approve, id, user.name, body.reason)
    return answer(request, plain(await _known(work, "decision", id)))


@router.post("/decisions/{id}/reject")
async def reject(id: str, body: Reason, request: Request, user: Operator, here: Here) -> Json:
    """Refuse a waiting decision."""
    work = ask(here.services.decider.reject, id, user.name, body.reason)
    return answer(request, plain(await _known(work, "decision", id)))


@router.post("/decisions/{id}/veto")
async def veto(id: str, body: Reason, request: Request, user: Operator, here: Here) -> Json:
    """Stop a decision that acts unless somebody says no."""
    work = ask(here.services.decider.veto, id, user.name, body.reason)
    return answer(request, plain(await _known(work, "decision", id)))


async def _known(work: Any, what: str, id: str) -> Any:
    """Await ``work``; KeyError or None becomes 404."""
    try:
        found = await work
    except KeyError as error:
        raise Problem(404, "web.not_found", what=what, id=id) from error
    if found is None:
        raise Problem(404, "web.not_found", what=what, id=id)
    return found


# -- autonomy -------------------------------------------------------------------------------


@router.get("/autonomy")
async def autonomy(request: Request, user: Viewer, here: Here) -> Json:
    """Levels, switches, envelope, and moves left this hour."""
    return answer(request, plain(await ask(here.services.decider.autonomy_view)))


@router.put("/autonomy/{line}/{decision_class}")
async def set_level(
    line: str, decision_class: str, body: LevelWish, request: Request, user: Planner, here: Here
) -> Json:
    """How far the brain may go by itself, for one line and kind of decision."""
    _line(here, line)
    try:
        kind = DecisionClass(decision_class)
    except ValueError as error:
        raise Problem(404, "web.not_found", what="class", id=decision_class) from error
    try:
        level = Level(body.level) if isinstance(body.level, int) else Level[body.level.upper()]
    except (KeyError, ValueError) as error:
        reason = f"one of {', '.join(m.lower() for m in Level.__members__)}"
        raise Problem(
            422, "web.bad_value", field="level", reason=reason, value=body.level
        ) from error
    await ask(here.services.decider.set_level, line, kind, level, user.name)
    return answer(request, plain(await ask(here.services.decider.autonomy_view)))


@router.post("/autonomy/{line}/switch")
async def switch(line: str, body: SwitchWish, request: Request, user: Operator, here: Here) -> Json:
    """Brain off stops dispatch of a line at once (operators too); on needs a planner."""
    _line(here, line)
    if body.on and user.role == "operator":
        raise Problem(403, "web.role_needed", needed="planner", role=user.role)
    await ask(here.services.decider.set_switch, line, body.on, user.name)
    return answer(request, plain(await ask(here.services.decider.autonomy_view)))


def _line(here: Context, id: str) -> None:
    if id not in {c.id for c in here.services.plant.work_centers}:
        raise Problem(404, "web.not_found", what="line", id=id)


# -- people's way out -----------------------------------------------------------------------


@router.get("/work-list")
async def work_list(
    request: Request, user: Viewer, here: Here, work_center: str | None = None
) -> Json:
    """Jobs that people carry out, per work center."""
    return answer(request, plain(await ask(here.services.work_list.entries, work_center)))


@router.post("/work-list/{job}/confirm")
async def confirm(job: str, body: Done, request: Request, user: Operator, here: Here) -> Json:
    """A person reports a job done."""
    work = ask(here.services.work_list.confirm, job, user.name, body.good, body.scrap)
    try:
        found = await work
    except KeyError as error:
        raise Problem(404, "web.not_found", what="job", id=job) from error
    return answer(request, plain({"job": job} if found is None else found))
