"""Records: users, sessions, orders, jobs, settings and the index of decisions, in SQL.

SQLite (write-ahead log, every commit synced) by default, PostgreSQL by URL; the tables are brought
up to date at start. Passwords are kept as argon2 hashes, tokens as SHA-256 hashes.
"""

import hashlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Engine, create_engine, delete, event, select
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from workshop_brain.errors import DamageError, StoreError
from workshop_brain.model.decision import (
    Candidate,
    Decision,
    DecisionClass,
    DecisionState,
    Level,
    Message,
)
from workshop_brain.model.order import (
    JobOrder,
    JobResponse,
    JobState,
    RequestState,
    WorkRequest,
)
from workshop_brain.store.tables import (
    DecisionTable,
    JobTable,
    LinkTable,
    RequestTable,
    SessionTable,
    SettingTable,
    UserTable,
)


class Role(StrEnum):
    """What a user may do; each role may do what the ones before it may, but for the pusher.

    A pusher is a program that may push samples and nothing else.
    """

    VIEWER = "viewer"
    OPERATOR = "operator"
    PLANNER = "planner"
    ADMIN = "admin"
    PUSHER = "pusher"


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One person who may sign in."""

    name: str
    role: Role
    language: str = "en"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What a one-time link stands for."""

    user: str
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """A work request and how far it is. ``end_ns``: when it was completed; 0 before."""

    request: WorkRequest
    state: RequestState
    end_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A dispatched job order. ``response`` is None until the plant has said something of it."""

    job: JobOrder
    state: JobState
    response: JobResponse | None
    way: str
    decision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRow:
    """A decision in the index. ``entry`` is its number in the ledger, 0 when not written yet."""

    decision: Decision
    entry: int
    approved_by: str
    outcome: dict[str, Any] | None


class Records:
    """All records of one enterprise; safe to use from several threads.

    Parameters
    ----------
    url
        A file path or ``sqlite:///...``, or ``postgresql+psycopg://...`` (install ``psycopg``).
    """

    def __init__(self, url: str | Path, *, enterprise: str = "local") -> None:
        self._enterprise = enterprise
        self._engine = _engine(url)
        try:
            with _clear(self._engine):
                migrate(self._engine)
        except BaseException:
            self._engine.dispose()
            raise

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with _clear(self._engine), Session(self._engine, expire_on_commit=False) as session:
            yield session
            session.commit()

    # -- users

    def add_user(self, name: str, password: str, role: Role | str, *, language: str = "en") -> User:
        """Add a user; ValueError when the name is taken or a value is not acceptable."""
        user = User(name=_name(name), role=Role(role), language=language)
        row = UserTable(
            enterprise=self._enterprise,
            name=user.name,
            password_hash=_hasher().hash(_password(password)),
            role=user.role.value,
            language=language,
        )
        with self._session() as session:
            if session.get(UserTable, (self._enterprise, name)) is not None:
                raise ValueError(f"user {name!r} exists already")
            session.add(row)
        return user

    def users(self) -> list[User]:
        """All users by name."""
        with self._session() as session:
            rows = session.scalars(
                select(UserTable)
                .where(UserTable.enterprise == self._enterprise)
                .order_by(UserTable.name)
            )
            return [_user(row) for row in rows]

    def user(self, name: str) -> User | None:
        """One user; None when there is none."""
        with self._session() as session:
            row = session.get(UserTable, (self._enterprise, name))
            return None if row is None else _user(row)

    def set_password(self, name: str, password: str) -> None:
        """Change a password and end all sessions of the user."""
        hashed = _hasher().hash(_password(password))
        with self._session() as session:
            self._known(session, name).password_hash = hashed
            session.execute(self._sessions_of(name))

    def set_role(self, name: str, role: Role | str) -> None:
        """Change what a user may do; ValueError when the last administrator would be gone."""
        with self._session() as session:
            row = self._known(session, name)
            if Role(role) is not Role.ADMIN:
                self._keep_an_admin(session, row)
            row.role = Role(role).value

    def set_language(self, name: str, language: str) -> None:
        """Change a user's language."""
        with self._session() as session:
            self._known(session, name).language = language

    def remove_user(self, name: str) -> None:
        """Remove a user and all sessions; ValueError for the last administrator."""
        with self._session() as session:
            row = self._known(session, name)
            self._keep_an_admin(session, row)
            session.delete(row)
            session.execute(self._sessions_of(name))

    def check_password(self, name: str, password: str) -> User | None:
        """The user when the password is right; as slow for an unknown name as for a wrong one."""
        with self._session() as session:
            row = session.get(UserTable, (self._enterprise, name))
        hashed = _nobody() if row is None else row.password_hash
        try:
            _hasher().verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return None
        if row is None:
            return None
        if _hasher().check_needs_rehash(hashed):
            with self._session() as session:
                self._known(session, name).password_hash = _hasher().hash(password)
        return _user(row)

    def _known(self, session: Session, name: str) -> UserTable:
        row = session.get(UserTable, (self._enterprise, name))
        if row is None:
            raise ValueError(f"no user {name!r}")
        return row

    def _keep_an_admin(self, session: Session, row: UserTable) -> None:
        others = session.scalars(
            select(UserTable.name).where(
                UserTable.enterprise == self._enterprise,
                UserTable.role == Role.ADMIN.value,
                UserTable.name != row.name,
            )
        ).first()
        if row.role == Role.ADMIN.value and others is None:
            raise ValueError(f"user {row.name!r} is the last administrator; name another one first")

    def _sessions_of(self, name: str) -> Any:
        return delete(SessionTable).where(
            SessionTable.enterprise == self._enterprise, SessionTable.user_name == name
        )

    # -- sessions and one-time links

    def open_session(self, user_name: str, *, now_ns: int, ttl_s: float) -> str:
        """A new session's token; only its hash is kept. Expired sessions are cleared away."""
        token = secrets.token_urlsafe(32)
        with self._session() as session:
            self._known(session, user_name)
            session.execute(
                delete(SessionTable).where(
                    SessionTable.enterprise == self._enterprise, SessionTable.expires_ns <= now_ns
                )
            )
            session.add(
                SessionTable(
                    enterprise=self._enterprise,
                    token_hash=_digest(token),
                    user_name=user_name,
                    expires_ns=now_ns + round(ttl_s * 1e9),
                )
            )
        return token

    def session(self, token: str, *, now_ns: int) -> User | None:
        """The user of a session that has not expired."""
        with self._session() as session:
            row = session.get(SessionTable, (self._enterprise, _digest(token)))
            if row is None or row.expires_ns <= now_ns:
                return None
            user = session.get(UserTable, (self._enterprise, row.user_name))
            return None if user is None else _user(user)

    def close_session(self, token: str) -> None:
        """End a session; nothing happens when there is none."""
        with self._session() as session:
            row = session.get(SessionTable, (self._enterprise, _digest(token)))
            if row is not None:
                session.delete(row)

    def add_link(self, *, role: Role | str, now_ns: int, ttl_s: float, user: str = "admin") -> str:
        """Token of a link that signs in once as ``user`` with a role."""
        token = secrets.token_urlsafe(32)
        with self._session() as session:
            session.add(
                LinkTable(
                    enterprise=self._enterprise,
                    token_hash=_digest(token),
                    user_name=_name(user),
                    role=Role(role).value,
                    expires_ns=now_ns + round(ttl_s * 1e9),
                )
            )
        return token

    def use_link(self, token: str, *, now_ns: int) -> Link | None:
        """What the link stands for; None when it is unknown, used or expired. Works once."""
        where = (
            LinkTable.enterprise == self._enterprise,
            LinkTable.token_hash == _digest(token),
        )
        with self._session() as session:
            found = session.execute(
                delete(LinkTable)
                .where(*where)
                .returning(LinkTable.user_name, LinkTable.role, LinkTable.expires_ns)
            ).first()
        if found is None or found.expires_ns <= now_ns:
            return None
        return Link(user=found.user_name, role=Role(found.role))

    # -- orders

    def save_requests(self, requests: Sequence[WorkRequest]) -> None:
        """Add requests, or change those with a known id (their state stays); all or none."""
        with self._session() as session:
            for request in requests:
                self._put_request(session, request)

    def _put_request(self, session: Session, request: WorkRequest) -> None:
        row = session.get(RequestTable, (self._enterprise, request.id))
        if row is None:
            row = RequestTable(
                enterprise=self._enterprise,
                id=request.id,
                state=RequestState.WAITING.value,
                end_ns=0,
            )
            session.add(row)
        row.product, row.quantity = request.product, request.quantity
        row.due_ns, row.release_ns = request.due_ns, request.release_ns
        row.priority = request.priority

    def change_plan(
        self,
        *,
        requests: Sequence[WorkRequest],
        cancelled: Sequence[str],
        declared: Sequence[Mapping[str, Any]],
    ) -> None:
        """Save requests, cancel others and replace the declared times; all or nothing."""
        with self._session() as session:
            for request in requests:
                self._put_request(session, request)
            for id in cancelled:
                row = session.get(RequestTable, (self._enterprise, id))
                if row is None:
                    raise ValueError(f"no work request {id!r}")
                row.state, row.end_ns = RequestState.CANCELLED.value, 0
            self._put_setting(session, "declared", [dict(row) for row in declared])

    def requests(self, *states: RequestState) -> list[RequestRow]:
        """Requests (of the given states), the earliest due first."""
        query = select(RequestTable).where(RequestTable.enterprise == self._enterprise)
        if states:
            query = query.where(RequestTable.state.in_([s.value for s in states]))
        with self._session() as session:
            rows = session.scalars(query.order_by(RequestTable.due_ns, RequestTable.id))
            return [_request(row) for row in rows]

    def request(self, id: str) -> RequestRow | None:
        """One request; None when there is none."""
        with self._session() as session:
            row = session.get(RequestTable, (self._enterprise, id))
            return None if row is None else _request(row)

    def set_request_state(self, id: str, state: RequestState, *, end_ns: int = 0) -> None:
        """Change how far a request is; ValueError when there is no such request."""
        with self._session() as session:
            row = session.get(RequestTable, (self._enterprise, id))
            if row is None:
                raise ValueError(f"no work request {id!r}")
            row.state, row.end_ns = state.value, end_ns

    def remove_request(self, id: str) -> bool:
        """Remove a request; whether there was one."""
        with self._session() as session:
            row = session.get(RequestTable, (self._enterprise, id))
            if row is not None:
                session.delete(row)
            return row is not None

    # -- jobs

    def save_job(self, job: JobOrder, *, way: str, decision: str = "") -> None:
        """Keep a job order before it is sent; a known id keeps its state and response."""
        with self._session() as session:
            row = session.get(JobTable, (self._enterprise, job.id))
            if row is None:
                row = JobTable(enterprise=self._enterprise, id=job.id, state=JobState.PLANNED.value)
                session.add(row)
            row.work_center, row.way, row.decision = job.work_center, way, decision
            row.job = asdict(job)

    def save_response(self, response: JobResponse) -> bool:
        """Keep what the plant says of a job; False when the job is not in the records."""
        with self._session() as session:
            row = session.get(JobTable, (self._enterprise, response.job))
            if row is not None:
                row.state, row.response = response.state.value, asdict(response)
            return row is not None

    def jobs(self, *states: JobState, work_center: str | None = None) -> list[JobRow]:
        """Jobs (of the given states and work center) by id."""
        query = select(JobTable).where(JobTable.enterprise == self._enterprise)
        if states:
            query = query.where(JobTable.state.in_([s.value for s in states]))
        if work_center is not None:
            query = query.where(JobTable.work_center == work_center)
        with self._session() as session:
            return [_job(row) for row in session.scalars(query.order_by(JobTable.id))]

    def job(self, id: str) -> JobRow | None:
        """One job; None when there is none."""
        with self._session() as session:
            row = session.get(JobTable, (self._enterprise, id))
            return None if row is None else _job(row)

    def remove_job(self, id: str) -> bool:
        """Remove a job; whether there was one."""
        with self._session() as session:
            row = session.get(JobTable, (self._enterprise, id))
            if row is not None:
                session.delete(row)
            return row is not None

    # -- settings

    def setting(self, key: str, default: Any = None) -> Any:
        """Value of a setting (JSON)."""
        with self._session() as session:
            row = session.get(SettingTable, (self._enterprise, key))
            return default if row is None else row.value

    def set_setting(self, key: str, value: Any) -> None:
        """Keep a setting (anything JSON can say)."""
        with self._session() as session:
            self._put_setting(session, key, value)

    def _put_setting(self, session: Session, key: str, value: Any) -> None:
        row = session.get(SettingTable, (self._enterprise, key))
        if row is None:
            session.add(SettingTable(enterprise=self._enterprise, key=key, value=value))
        else:
            row.value = value

    def settings(self, prefix: str = "") -> dict[str, Any]:
        """All settings whose key starts with a prefix."""
        with self._session() as session:
            rows = session.scalars(
                select(SettingTable)
                .where(
                    SettingTable.enterprise == self._enterprise,
                    SettingTable.key.startswith(prefix, autoescape=True),
                )
                .order_by(SettingTable.key)
            )
            return {row.key: row.value for row in rows}

    def anchor(self, name: str = "ledger") -> "RecordsAnchor":
        """Where a ledger keeps its head, apart from its file."""
        return RecordsAnchor(self, f"anchor.{name}")

    # -- decisions

    def save_decision(
        self,
        decision: Decision,
        *,
        entry: int = 0,
        approved_by: str = "",
        outcome: dict[str, Any] | None = None,
    ) -> None:
        """Add a decision or update it; values left out keep what is known."""
        with self._session() as session:
            row = session.get(DecisionTable, (self._enterprise, decision.id))
            if row is None:
                row = DecisionTable(
                    enterprise=self._enterprise, id=decision.id, entry=0, approved_by=""
                )
                session.add(row)
            row.time_ns, row.line = decision.time_ns, decision.line
            row.decision_class, row.state = decision.decision_class.value, decision.state.value
            row.decision = decision_to_json(decision)
            row.entry, row.approved_by = entry or row.entry, approved_by or row.approved_by
            row.outcome = outcome if outcome is not None else row.outcome

    def decisions(
        self, limit: int = 50, *, before_ns: int | None = None, line: str | None = None
    ) -> list[DecisionRow]:
        """Newest decisions first."""
        query = select(DecisionTable).where(DecisionTable.enterprise == self._enterprise)
        if before_ns is not None:
            query = query.where(DecisionTable.time_ns < before_ns)
        if line is not None:
            query = query.where(DecisionTable.line == line)
        query = query.order_by(DecisionTable.time_ns.desc(), DecisionTable.id.desc()).limit(limit)
        with self._session() as session:
            return [_decision(row) for row in session.scalars(query)]

    def decision(self, id: str) -> DecisionRow | None:
        """One decision; None when there is none."""
        with self._session() as session:
            row = session.get(DecisionTable, (self._enterprise, id))
            return None if row is None else _decision(row)


@dataclass(frozen=True, slots=True)
class RecordsAnchor:
    """Head of a ledger, kept in the settings."""

    records: Records
    key: str

    def read(self) -> tuple[int, str] | None:
        """Number and hash of the last entry; None before the first."""
        found = self.records.setting(self.key)
        return None if found is None else (int(found["n"]), str(found["hash"]))

    def write(self, n: int, hash: str) -> None:
        """Keep number and hash of the last entry."""
        self.records.set_setting(self.key, {"n": n, "hash": hash})


def migrate(engine: Engine) -> None:
    """Bring the tables to the newest version; nothing happens when they are."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)

    def steps(revision: Any, context: Any) -> Any:
        return script._upgrade_revs("head", revision)

    with engine.begin() as connection, EnvironmentContext(config, script, fn=steps) as context:
        context.configure(connection=connection, transactional_ddl=True)
        context.run_migrations()


def decision_to_json(decision: Decision) -> dict[str, Any]:
    """A decision as plain JSON values."""
    return asdict(decision) | {"level": int(decision.level)}


def decision_from_json(data: dict[str, Any]) -> Decision:
    """A decision from plain JSON values."""
    return Decision(
        **{
            **data,
            "decision_class": DecisionClass(data["decision_class"]),
            "candidates": tuple(Candidate(**c) for c in data["candidates"]),
            "reasons": tuple(Message(**m) for m in data["reasons"]),
            "changes": tuple(data["changes"]),
            "level": Level(data["level"]),
            "state": DecisionState(data["state"]),
        }
    )


def _engine(url: str | Path) -> Engine:
    if isinstance(url, Path) or "://" not in url:
        try:
            Path(url).parent.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise StoreError(f"{url}: cannot be made: {error}; name another directory") from error
        url = f"sqlite:///{url}"
    try:
        parsed = make_url(url)
        is_sqlite = parsed.get_backend_name() == "sqlite"
        engine = create_engine(parsed, connect_args={"timeout": 15} if is_sqlite else {})
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise StoreError(
            f"records: {url!r} cannot be used ({error}); give a file, or "
            "postgresql+psycopg://user@host/database with the package psycopg installed"
        ) from error
    if is_sqlite:
        event.listen(engine, "connect", _tune)
        event.listen(engine, "begin", _begin)
    return engine


def _tune(connection: Any, entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


_WAY_OUT = (
    "stop the brain and restore the file from a backup, or move it away with its -wal and -shm to "
    "begin without users and orders"
)


@contextmanager
def _clear(engine: Engine) -> Iterator[None]:
    """Database errors as ours, naming the database and the way out."""
    name = engine.url.render_as_string(hide_password=True).removeprefix("sqlite:///")
    try:
        yield
    except OperationalError as error:
        if "full" in str(error.orig):
            raise StoreError(f"{name}: the disk is full; free some space and try again") from error
        if "already exists" in str(error.orig):
            raise DamageError(f"{name}: holds tables that are not ours; {_WAY_OUT}") from error
        raise StoreError(f"{name}: {error.orig}; check that it can be reached") from error
    except DatabaseError as error:
        if "malformed" in str(error.orig) or "not a database" in str(error.orig):
            raise DamageError(f"{name}: {error.orig}; {_WAY_OUT}") from error
        raise


@cache
def _hasher() -> PasswordHasher:
    return PasswordHasher()


@cache
def _nobody() -> str:
    return _hasher().hash(secrets.token_urlsafe(16))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _name(name: str) -> str:
    if not name or name != name.strip() or len(name) > 120:
        raise ValueError(f"user name {name!r} must be 1 to 120 characters without outer spaces")
    return name


def _password(password: str) -> str:
    if len(password) < 8:
        raise ValueError(f"the password must have at least 8 characters, got {len(password)}")
    return password


def _user(row: UserTable) -> User:
    return User(name=row.name, role=Role(row.role), language=row.language)


def _request(row: RequestTable) -> RequestRow:
    request = WorkRequest(
        id=row.id,
        product=row.product,
        quantity=row.quantity,
        due_ns=row.due_ns,
        release_ns=row.release_ns,
        priority=row.priority,
    )
    return RequestRow(request=request, state=RequestState(row.state), end_ns=row.end_ns)


def _job(row: JobTable) -> JobRow:
    requests = tuple((str(id), int(n)) for id, n in row.job["requests"])
    response = row.response
    return JobRow(
        job=JobOrder(**{**row.job, "requests": requests}),
        state=JobState(row.state),
        response=None
        if response is None
        else JobResponse(**{**response, "state": JobState(response["state"])}),
        way=row.way,
        decision=row.decision,
    )


def _decision(row: DecisionTable) -> DecisionRow:
    return DecisionRow(
        decision=decision_from_json(row.decision),
        entry=row.entry,
        approved_by=row.approved_by,
        outcome=row.outcome,
    )
