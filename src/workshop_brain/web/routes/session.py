"""Sign-in, one-time links, tickets, the own account, and users."""

import asyncio
import re
import secrets
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from workshop_brain.web.auth import COOKIE, PUSHER, ROLES, SESSION_S
from workshop_brain.web.context import Admin, Context, Here, Viewer, token_of
from workshop_brain.web.plain import Json
from workshop_brain.web.problem import Problem
from workshop_brain.web.services import User

router = APIRouter(tags=["session"])
_NAME = re.compile(r"[\w.@+-]{1,64}")
Role = Literal["viewer", "operator", "planner", "admin", "pusher"]
Language = Literal["en", "zh"]


class Login(BaseModel):
    """Name and password."""

    user: str = Field(max_length=64)
    password: str = Field(max_length=1024)


class Link(BaseModel):
    """A one-time token, with the account's new password."""

    token: str = Field(max_length=128)
    password: str | None = Field(default=None, max_length=1024)


class OwnChange(BaseModel):
    """What one may change of one's own account."""

    language: Language | None = None
    password: str | None = Field(default=None, max_length=1024)
    old_password: str = Field(default="", max_length=1024)


class NewUser(BaseModel):
    """A user to add; without a password he sets one by the one-time link in the answer."""

    name: str = Field(max_length=64)
    role: Role = "viewer"
    password: str | None = Field(default=None, max_length=1024)


class UserChange(BaseModel):
    """What an administrator may change of a user."""

    role: Role | None = None
    language: Language | None = None


class TokenWish(BaseModel):
    """How long a bearer token shall last."""

    days: int = Field(default=365, ge=1, le=3650)


def _me(user: User) -> dict[str, str]:
    return {"user": user.name, "role": str(user.role), "language": user.language}


def _peer(request: Request) -> str:
    return request.client.host if request.client else "?"


def _signed_in(here: Context, token: str, user: User) -> Response:
    response = Json(_me(user))
    response.set_cookie(
        COOKIE,
        token,
        max_age=SESSION_S,
        httponly=True,
        samesite="strict",
        secure=here.services.secure_cookie,
    )
    return response


@router.post("/login")
async def login(body: Login, request: Request, here: Here) -> Response:
    """Sign in with a password; the session comes as a cookie."""
    token, user = await here.auth.login(body.user, body.password, _peer(request))
    return _signed_in(here, token, user)


@router.post("/link")
async def link(body: Link, request: Request, here: Here) -> Response:
    """Sign in with a one-time link and set the password."""
    token, user = await here.auth.link(body.token, body.password, _peer(request))
    return _signed_in(here, token, user)


@router.post("/logout")
async def logout(request: Request, here: Here) -> Response:
    """End this session."""
    token = token_of(request)
    if token:
        here.auth.logout(token)
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


@router.get("/me")
async def me(user: Viewer) -> Json:
    """Who is signed in."""
    return Json(_me(user))


@router.put("/me")
async def change_me(body: OwnChange, request: Request, user: Viewer, here: Here) -> Response:
    """Change the own language or password; a new password ends all other sessions."""
    users = here.services.users
    _find(here, user.name)
    if body.language is not None:
        users.set_language(user.name, body.language)
        here.auth.forget()
    if body.password is None:
        return Json(_me(_find(here, user.name)))
    await here.auth.verify(user.name, body.old_password, _peer(request))
    await here.auth.set_password(user.name, body.password)
    here.auth.audit("password_changed", here.auth.wall_ns(), user=user.name)
    return _signed_in(here, here.auth.new_session(user.name), _find(here, user.name))


@router.post("/ticket")
async def ticket(user: Viewer, here: Here) -> Json:
    """A ticket for the first message of the live WebSocket, good once for 30 s."""
    return Json({"ticket": here.auth.ticket(user)})


def _shown(user: User) -> dict[str, object]:
    return {"name": user.name, "role": str(user.role), "language": user.language}


def _find(here: Context, name: str) -> User:
    user = here.services.users.user(name)
    if user is None:
        raise Problem(404, "web.not_found", what="user", id=name)
    return user


def _keep_an_admin(here: Context, name: str) -> None:
    others = [u for u in here.services.users.users() if u.role == ROLES[-1] and u.name != name]
    if not others:
        raise Problem(409, "web.last_admin", user=name)


@router.get("/users")
async def users(user: Admin, here: Here) -> Json:
    """All users, without secrets."""
    return Json([_shown(u) for u in here.services.users.users()])


@router.post("/users")
async def add_user(body: NewUser, user: Admin, here: Here) -> Json:
    """Add a user; without a password the answer carries a one-time link token to hand over.

    A pusher is a program: without a password the answer carries its bearer token instead.
    """
    if not _NAME.fullmatch(body.name):
        reason = "1 to 64 letters, digits, . @ + - _"
        raise Problem(422, "web.bad_value", field="name", reason=reason, value=body.name)
    if here.services.users.user(body.name) is not None:
        raise Problem(409, "web.user_exists", user=body.name)
    here.auth.audit("user_added", here.auth.wall_ns(), user=body.name, role=body.role, by=user.name)
    if body.password is None and body.role == PUSHER:
        secret = secrets.token_urlsafe(32)  # nobody signs in as a program
        await asyncio.to_thread(here.services.users.add_user, body.name, secret, body.role)
        token = here.auth.new_session(body.name, TokenWish().days * 86_400)
        made = {"name": body.name, "role": body.role, "token": token}
        return Json(made, status_code=201)
    if body.password is None:
        link = here.auth.new_link(body.name, body.role)
        return Json({"name": body.name, "role": body.role, "link": link}, status_code=201)
    here.auth.check_password(body.password)
    new = await asyncio.to_thread(here.services.users.add_user, body.name, body.password, body.role)
    return Json(_shown(new), status_code=201)


@router.put("/users/{name}")
async def change_user(name: str, body: UserChange, user: Admin, here: Here) -> Json:
    """Change a user's role or language."""
    known = _find(here, name)
    if body.role is not None:
        if known.role == ROLES[-1] and body.role != ROLES[-1]:
            _keep_an_admin(here, name)
        here.services.users.set_role(name, body.role)
    if body.language is not None:
        here.services.users.set_language(name, body.language)
    here.auth.forget()
    changes = body.model_dump(exclude_none=True)
    here.auth.audit("user_changed", here.auth.wall_ns(), user=name, by=user.name, **changes)
    return Json(_shown(_find(here, name)))


@router.delete("/users/{name}")
async def delete_user(name: str, user: Admin, here: Here) -> Response:
    """Remove a user and end his sessions."""
    if _find(here, name).role == ROLES[-1]:
        _keep_an_admin(here, name)
    here.services.users.remove_user(name)
    here.auth.forget()
    here.auth.audit("user_deleted", here.auth.wall_ns(), user=name, by=user.name)
    return Response(status_code=204)


@router.post("/users/{name}/link")
async def new_link(name: str, user: Admin, here: Here) -> Json:
    """A new one-time link token, for a forgotten password."""
    known = _find(here, name)
    here.auth.audit("link_made", here.auth.wall_ns(), user=name, by=user.name)
    return Json({"link": here.auth.new_link(name, str(known.role))})


@router.post("/users/{name}/token")
async def new_token(name: str, body: TokenWish, user: Admin, here: Here) -> Json:
    """A bearer token for a program; shown this once."""
    _find(here, name)
    here.auth.audit("token_made", here.auth.wall_ns(), user=name, by=user.name, days=body.days)
    return Json({"token": here.auth.new_session(name, body.days * 86_400)})
