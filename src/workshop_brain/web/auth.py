"""Who may do what: users, sessions, one-time links, tickets, roles.

The records keep passwords as argon2 hashes and tokens as SHA-256 hashes. A session is an HttpOnly,
SameSite=Strict cookie or a bearer token. Sign-ins are audited, failed ones are slowed down.
"""

import asyncio
import hashlib
import json
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workshop_brain.units import NS_PER_H, NS_PER_S
from workshop_brain.web.problem import Problem
from workshop_brain.web.services import User, UserStore

log = logging.getLogger(__name__)

ROLES = ("viewer", "operator", "planner", "admin")
PUSHER = "pusher"
"""May push samples and nothing else; stands beside the other roles, of which admin includes it."""
COOKIE = "brain_session"
SESSION_S = 7 * 86_400
LINK_S = 7 * 86_400
TICKET_NS = 30 * NS_PER_S
PASSWORD_LEAST = 10
FIRST_ADMIN = "admin"
_CACHE_NS = 5 * NS_PER_S
_FREE_TRIES = 5
_FREE_TRIES_OF_PEER = 50
"""Behind a reverse proxy everybody has one address: one who errs must not lock out the others."""
_FIRST_WAIT_S = 15
_LONGEST_WAIT_S = 900
_REMEMBERED = 4096


def allows(role: str, needed: str) -> bool:
    """Whether a role includes another: viewer < operator < planner < admin; pusher < admin.

    >>> allows("planner", "operator"), allows("viewer", "operator"), allows("?", "viewer")
    (True, False, False)
    >>> allows("pusher", "pusher"), allows("pusher", "viewer"), allows("planner", "pusher")
    (True, False, False)
    """
    if needed == PUSHER:
        return role in (PUSHER, ROLES[-1])
    return role in ROLES and ROLES.index(role) >= ROLES.index(needed)


def token_hash(token: str) -> str:
    """What is remembered of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


class Audit:
    """Appends who signed in, failed to, or changed users, one JSON line each."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "audit.jsonl"

    def __call__(self, kind: str, wall_ns: int, **details: Any) -> None:
        entry = {"time_ns": wall_ns, "kind": kind, **details}
        log.info("audit %s", entry)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        except OSError as error:
            log.error("audit entry %s could not be written: %s", entry, error)


class _Tries:
    """Failed sign-ins per key, oldest forgotten first; after some the waiting time doubles."""

    def __init__(self, free: int) -> None:
        self._free = free
        self._failed: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def wait_s(self, key: str, now_ns: int) -> int:
        count, last_ns = self._failed.get(key, (0, 0))
        if count < self._free:
            return 0
        wait = min(_FIRST_WAIT_S << min(count - self._free, 10), _LONGEST_WAIT_S)
        return max(0, wait - (now_ns - last_ns) // NS_PER_S)

    def failed(self, key: str, now_ns: int) -> None:
        count, last_ns = self._failed.pop(key, (0, 0))
        if now_ns - last_ns > NS_PER_H:
            count = 0
        self._failed[key] = (count + 1, now_ns)
        while len(self._failed) > _REMEMBERED:
            self._failed.popitem(last=False)

    def forget(self, key: str) -> None:
        self._failed.pop(key, None)


@dataclass(frozen=True, slots=True)
class _Anybody:
    """Who everybody is when sign-in is off."""

    name: str = FIRST_ADMIN
    role: str = "admin"
    language: str = "en"


class Auth:
    """Signs people and programs in and says who a token is."""

    def __init__(
        self, users: UserStore, *, wall_ns: Callable[[], int], audit: Audit, open_to_all: bool
    ) -> None:
        self.users = users
        self.audit = audit
        self.wall_ns = wall_ns
        self.open_to_all = open_to_all
        self._hashing = asyncio.Semaphore(2)
        self._tries = _Tries(_FREE_TRIES)
        self._peers = _Tries(_FREE_TRIES_OF_PEER)
        self._known: OrderedDict[str, tuple[int, User | None]] = OrderedDict()
        self._tickets: OrderedDict[str, tuple[int, str]] = OrderedDict()

    def first_link(self) -> str | None:
        """A one-time token for the first administrator; None once there is one."""
        if self.open_to_all or any(u.role == "admin" for u in self.users.users()):
            return None
        return self.new_link(FIRST_ADMIN, "admin")

    def new_link(self, user: str, role: str) -> str:
        """A one-time token that signs in once as ``user``, good for a week.

        A new user gets ``role``; one who exists keeps his.
        """
        return self.users.add_link(role=role, now_ns=self.wall_ns(), ttl_s=LINK_S, user=user)

    async def login(self, name: str, password: str, peer: str) -> tuple[str, User]:
        """Session token and user for a password; Problem 401, or 429 after too many tries."""
        user = await self.verify(name, password, peer)
        self.audit("sign_in", self.wall_ns(), user=name, peer=peer)
        return self.new_session(user.name), user

    async def verify(self, name: str, password: str, peer: str) -> User:
        """The user whose password this is; Problem 401, or 429 after too many tries."""
        now, keys = self.wall_ns(), (f"{peer} {name.casefold()}", f"* {name.casefold()}")
        waits = [self._tries.wait_s(key, now) for key in keys]
        wait = max(waits[0], waits[1] // 4, self._peers.wait_s(peer, now))
        if wait > 0:
            raise Problem(429, "web.too_many_tries", {"Retry-After": str(wait)}, seconds=wait)
        async with self._hashing:
            user = await asyncio.to_thread(self.users.check_password, name, password)
        if user is None:
            for key in keys:
                self._tries.failed(key, now)
            self._peers.failed(peer, now)
            self.audit("sign_in_failed", now, user=name, peer=peer)
            raise Problem(401, "web.wrong_password")
        for key in keys:
            self._tries.forget(key)
        self._peers.forget(peer)
        return user

    async def link(self, token: str, password: str | None, peer: str) -> tuple[str, User]:
        """Session token and user for a one-time link, whose user is made if he is new.

        A new user needs a password; one who exists may set one. Problem 401 for a bad link.
        """
        if password is not None:
            self.check_password(password)
        now = self.wall_ns()
        link = self.users.use_link(token, now_ns=now)
        if link is None:
            self.audit("link_failed", now, peer=peer)
            raise Problem(401, "web.bad_link")
        user = self.users.user(link.user)
        if user is None and password is None:
            # Nothing was done with the link: hand it out again rather than lock him out.
            raise Problem(
                422, "web.password_needed", user=link.user, link=self.new_link(link.user, link.role)
            )
        if user is None and password is not None:
            async with self._hashing:
                user = await asyncio.to_thread(
                    self.users.add_user, link.user, password, str(link.role)
                )
        elif user is not None and password is not None:
            await self.set_password(user.name, password)
        assert user is not None
        self.audit("sign_in_by_link", now, user=user.name, peer=peer)
        return self.new_session(user.name), user

    def new_session(self, user: str, lasts_s: float = SESSION_S) -> str:
        """A fresh session token of a user."""
        return self.users.open_session(user, now_ns=self.wall_ns(), ttl_s=lasts_s)

    def logout(self, token: str) -> None:
        """End a session."""
        self.users.close_session(token)
        self._known.pop(token_hash(token), None)

    def forget(self) -> None:
        """Look everybody up again: users changed."""
        self._known.clear()

    def identify(self, token: str) -> User | None:
        """The user of a session token, looked up at most every 5 s; None when there is none."""
        if self.open_to_all:
            return _Anybody()
        if not token or len(token) > 200:
            return None
        now, hashed = self.wall_ns(), token_hash(token)
        at, user = self._known.get(hashed, (0, None))
        if at and 0 <= now - at < _CACHE_NS:
            return user
        user = self.users.session(token, now_ns=now)
        self._known[hashed] = (now, user)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return user

    def ticket(self, user: User) -> str:
        """A token for the first message of a WebSocket: used once, within 30 s."""
        ticket = secrets.token_urlsafe(24)
        self._tickets[ticket] = (self.wall_ns() + TICKET_NS, user.name)
        while len(self._tickets) > _REMEMBERED:
            self._tickets.popitem(last=False)
        return ticket

    def take_ticket(self, ticket: str) -> User | None:
        """The user of a ticket, which is used up."""
        until, name = self._tickets.pop(ticket, (0, ""))
        return self.current(name) if until > self.wall_ns() else None

    def current(self, name: str) -> User | None:
        """A user by name, as he is now; None when gone."""
        return _Anybody() if self.open_to_all else self.users.user(name)

    def check_password(self, password: str) -> None:
        """Problem 422 for a password that is too short."""
        if len(password) < PASSWORD_LEAST:
            raise Problem(422, "web.password_short", least=PASSWORD_LEAST)

    async def set_password(self, user: str, password: str) -> None:
        """Store a new password; all sessions of the user end."""
        self.check_password(password)
        async with self._hashing:
            await asyncio.to_thread(self.users.set_password, user, password)
        self.forget()
