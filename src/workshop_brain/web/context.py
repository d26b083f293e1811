"""What every route needs: the services, who is asking, in which language."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import HTTPConnection, Request

from workshop_brain.web.alarms import AlarmBook
from workshop_brain.web.auth import COOKIE, PUSHER, Auth, allows
from workshop_brain.web.live_hub import LiveHub
from workshop_brain.web.messages import language_of, with_texts
from workshop_brain.web.plain import Json
from workshop_brain.web.problem import Problem
from workshop_brain.web.services import Services, User


@dataclass(slots=True, kw_only=True)
class Context:
    """One web server's parts, kept in ``app.state.context``."""

    services: Services
    auth: Auth
    hub: LiveHub
    alarms: AlarmBook


def context(connection: HTTPConnection) -> Context:
    """The context of the server that a connection belongs to."""
    found: Context = connection.app.state.context
    return found


def token_of(connection: HTTPConnection) -> str:
    """Bearer token or session cookie of a connection; "" without."""
    scheme, _, value = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value:
        return value.strip()
    return connection.cookies.get(COOKIE, "")


def identify(connection: HTTPConnection) -> User | None:
    """Who is asking; None when not signed in."""
    return context(connection).auth.identify(token_of(connection))


def needs(role: str) -> Callable[[Request], User]:
    """A dependency that answers 401 or 403 unless the user has at least ``role``."""

    def check(request: Request) -> User:
        user = identify(request)
        if user is None:
            raise Problem(401, "web.sign_in_needed")
        if not allows(user.role, role):
            raise Problem(403, "web.role_needed", needed=role, role=user.role)
        return user

    return check


def language(request: HTTPConnection) -> str:
    """Language of the answer, from Accept-Language."""
    default = context(request).services.language
    return language_of(request.headers.get("accept-language", ""), default)


def answer(request: HTTPConnection, value: Any, status: int = 200) -> Json:
    """A JSON answer whose messages carry their text in the reader's language."""
    zone = context(request).services.plant.timezone
    return Json(with_texts(value, language(request), zone), status_code=status)


Here = Annotated[Context, Depends(context)]
Viewer = Annotated[User, Depends(needs("viewer"))]
Operator = Annotated[User, Depends(needs("operator"))]
Planner = Annotated[User, Depends(needs("planner"))]
Pusher = Annotated[User, Depends(needs(PUSHER))]
Admin = Annotated[User, Depends(needs("admin"))]
