"""Who may do what: users, sessions, one-time links, tickets, roles.

Passwords are argon2 hashes; tokens are 256 random bits of which only SHA-256 is stored. A session
is an HttpOnly, SameSite=Strict cookie or a bearer token. Sign-ins are audited, failed ones slowed.
"""

import asyncio
import hashlib
import json
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import argon2

from workshop_brain.units import NS_PER_DAY, NS_PER_H, NS_PER_S
from workshop_brain.web.problem import Problem
from workshop_brain.web.services import User, UserStore

log = logging.getLogger(__name__)

ROLES = ("viewer", "operator", "planner", "admin")
COOKIE = "brain_session"
SESSION_NS = 7 * NS_PER_DAY
LINK_NS = 7 * NS_PER_DAY
TICKET_NS = 30 * NS_PER_S
PASSWORD_LEAST = 10
FIRST_ADMIN = "admin"
_CACHE_NS = 5 * NS_PER_S
_FREE_TRIES = 5
_FIRST_WAIT_S = 15
_LONGEST_WAIT_S = 900
_REMEMBERED = 4096


def allows(role: str, needed: str) -> bool:
    """Whether a role includes another: viewer < operator < planner < admin.

    >>> allows("planner", "operator"), allows("viewer", "operator"), allows("?", "viewer")
    (True, False, False)
    """
    return role in ROLES and ROLES.index(role) >= ROLES.index(needed)


def token_hash(token: str) -> str:
    """What is stored of a token."""
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
    """Failed sign-ins per key, oldest forgotten first; waiting time doubles after five."""

    def __init__(self) -> None:
        self._failed: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def wait_s(self, key: str, now_ns: int) -> int:
        count, last_ns = self._failed.get(key, (0, 0))
        if count < _FREE_TRIES:
            return 0
        wait = min(_FIRST_WAIT_S << min(count - _FREE_TRIES, 10), _LONGEST_WAIT_S)
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


class Auth:
    """Signs people and programs in and says who a token is."""

    def __init__(
        self, users: UserStore, *, wall_ns: Callable[[], int], audit: Audit, open_to_all: bool
    ) -> None:
        self.users = users
        self.audit = audit
        self.wall_ns = wall_ns
        self.open_to_all = open_to_all
        self._hasher = argon2.PasswordHasher()
        self._nobody = self._hasher.hash(secrets.token_urlsafe(16))
        self._hashing = asyncio.Semaphore(2)
        self._tries = _Tries()
        self._known: OrderedDict[str, tuple[int, User | None]] = OrderedDict()
        self._tickets: OrderedDict[str, tuple[int, str]] = OrderedDict()

    def first_link(self) -> str | None:
        """A one-time token for the first administrator, while no admin has a password."""
        if self.open_to_all:
            return None
        admins = [u for u in self.users.users() if u.role == "admin" and not u.disabled]
        if any(u.password_hash for u in admins):
            return None
        if not admins:
            self.users.put_user(User(name=FIRST_ADMIN, role="admin"))
        return self.new_link(admins[0].name if admins else FIRST_ADMIN)

    def new_link(self, user: str) -> str:
        """A one-time sign-in token for a user, good for a week."""
        token = secrets.token_urlsafe(32)
        self.users.put_link(token_hash(token), user, self.wall_ns() + LINK_NS)
        return token

    async def login(self, name: str, password: str, peer: str) -> tuple[str, User]:
        """Session token and user for a password; Problem 401, or 429 after too many tries."""
        now, keys = self.wall_ns(), (f"{peer} {name.casefold()}", f"{peer} *", f"* {name}")
        waits = [self._tries.wait_s(key, now) for key in keys]
        wait = max(waits[0], waits[1] // 4, waits[2] // 4)
        if wait > 0:
            raise Problem(429, "web.too_many_tries", {"Retry-After": str(wait)}, seconds=wait)
        user = self.users.user(name)
        stored = user.password_hash if user and not user.disabled else ""
        good = await self._verify(stored or self._nobody, password)
        if user is None or not stored or not good:
            for key in keys:
                self._tries.failed(key, now)
            self.audit("sign_in_failed", now, user=name, peer=peer)
            raise Problem(401, "web.wrong_password")
        for key in keys:
            self._tries.forget(key)
        self.audit("sign_in", now, user=name, peer=peer)
        return self.new_session(user.name), user

    async def link(self, token: str, password: str | None, peer: str) -> tuple[str, User]:
        """Session token and user for a one-time link, which also sets a password if given."""
        if password is not None:
            self.check_password(password)
        now = self.wall_ns()
        name = self.users.take_link(token_hash(token), now)
        user = self.users.user(name) if name else None
        if user is None or user.disabled:
            self.audit("link_failed", now, peer=peer)
            raise Problem(401, "web.bad_link")
        if password is not None:
            user = await self.set_password(user, password)
        self.audit("sign_in_by_link", now, user=user.name, peer=peer)
        return self.new_session(user.name), user

    def new_session(self, user: str, lasts_ns: int = SESSION_NS) -> str:
        """A fresh session token of a user."""
        token = secrets.token_urlsafe(32)
        self.users.put_session(token_hash(token), user, self.wall_ns() + lasts_ns)
        return token

    def logout(self, token: str) -> None:
        """End a session."""
        hashed = token_hash(token)
        self.users.delete_session(hashed)
        self._known.pop(hashed, None)

    def forget(self) -> None:
        """Look everybody up again: users changed."""
        self._known.clear()

    def identify(self, token: str) -> User | None:
        """The user of a session token, looked up at most every 5 s; None when there is none."""
        if self.open_to_all:
            return User(name=FIRST_ADMIN, role="admin")
        if not token:
            return None
        now, hashed = self.wall_ns(), token_hash(token)
        at, user = self._known.get(hashed, (0, None))
        if at and 0 <= now - at < _CACHE_NS:
            return user
        name = self.users.session_user(hashed, now)
        user = self.users.user(name) if name else None
        if user is not None and user.disabled:
            user = None
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
        """A user by name, as he is now; None when gone or disabled."""
        if self.open_to_all:
            return User(name=FIRST_ADMIN, role="admin")
        user = self.users.user(name)
        return None if user is None or user.disabled else user

    def check_password(self, password: str) -> None:
        """Problem 422 for a password that is too short."""
        if len(password) < PASSWORD_LEAST:
            raise Problem(422, "web.password_short", least=PASSWORD_LEAST)

    async def set_password(self, user: User, password: str) -> User:
        """Store a new password; all sessions of the user end."""
        self.check_password(password)
        async with self._hashing:
            hashed = await asyncio.to_thread(self._hasher.hash, password)
        changed = replace(user, password_hash=hashed)
        self.users.put_user(changed)
        self.users.delete_sessions_of(user.name)
        self.forget()
        return changed

    async def _verify(self, stored: str, password: str) -> bool:
        async with self._hashing:
            try:
                return await asyncio.to_thread(self._hasher.verify, stored, password)
            except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
                return False
