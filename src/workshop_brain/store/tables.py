"""Tables of the records as SQLAlchemy sees them; made and changed by ``store/migrations``.

Every table carries the enterprise (the tenant) as the first part of its key.
"""

from typing import Any

from sqlalchemy import JSON, BigInteger, Integer, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Table(DeclarativeBase):
    """Base of all tables."""

    enterprise: Mapped[str] = mapped_column(String(120), primary_key=True, sort_order=-1)


class UserTable(Table):
    """People who may sign in."""

    __tablename__ = "users"
    name: Mapped[str] = mapped_column(String(120), primary_key=True)
    password_hash: Mapped[str] = mapped_column(String(200))
    role: Mapped[str] = mapped_column(String(20))
    language: Mapped[str] = mapped_column(String(8))


class SessionTable(Table):
    """Open sessions, by the hash of their token."""

    __tablename__ = "sessions"
    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_name: Mapped[str] = mapped_column(String(120), index=True)
    expires_ns: Mapped[int] = mapped_column(BigInteger)


class LinkTable(Table):
    """One-time links that have not been used, by the hash of their token."""

    __tablename__ = "one_time_links"
    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_name: Mapped[str] = mapped_column(String(120))
    role: Mapped[str] = mapped_column(String(20))
    expires_ns: Mapped[int] = mapped_column(BigInteger)


class RequestTable(Table):
    """Work requests."""

    __tablename__ = "work_requests"
    id: Mapped[str] = mapped_column(String(120), primary_key=True)
    product: Mapped[str] = mapped_column(String(120))
    quantity: Mapped[int] = mapped_column(Integer)
    due_ns: Mapped[int] = mapped_column(BigInteger)
    release_ns: Mapped[int] = mapped_column(BigInteger)
    priority: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(String(20), index=True)
    end_ns: Mapped[int] = mapped_column(BigInteger)


class JobTable(Table):
    """Job orders that were dispatched, with what the plant last said of them."""

    __tablename__ = "jobs"
    id: Mapped[str] = mapped_column(String(160), primary_key=True)
    work_center: Mapped[str] = mapped_column(String(120), index=True)
    way: Mapped[str] = mapped_column(String(40))
    decision: Mapped[str] = mapped_column(String(120))
    job: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(30), index=True)
    response: Mapped[dict[str, Any] | None] = mapped_column(JSON)


class SettingTable(Table):
    """Levels, switches and other values that people set while the brain runs."""

    __tablename__ = "settings"
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    value: Mapped[Any] = mapped_column(JSON)


class DecisionTable(Table):
    """Decisions for listing; the ledger holds the record that counts."""

    __tablename__ = "decisions"
    id: Mapped[str] = mapped_column(String(120), primary_key=True)
    time_ns: Mapped[int] = mapped_column(BigInteger, index=True)
    line: Mapped[str] = mapped_column(String(120), index=True)
    decision_class: Mapped[str] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(30))
    entry: Mapped[int] = mapped_column(BigInteger)
    approved_by: Mapped[str] = mapped_column(String(120))
    decision: Mapped[dict[str, Any]] = mapped_column(JSON)
    outcome: Mapped[dict[str, Any] | None] = mapped_column(JSON)
