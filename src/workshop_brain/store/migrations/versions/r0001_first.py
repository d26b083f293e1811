"""The first tables: users, sessions, links, work requests, jobs, settings, decisions."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _tenant() -> sa.Column[str]:
    return sa.Column("enterprise", sa.String(120), primary_key=True)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "users",
        _tenant(),
        sa.Column("name", sa.String(120), primary_key=True),
        sa.Column("password_hash", sa.String(200), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("language", sa.String(8), nullable=False),
    )
    op.create_table(
        "sessions",
        _tenant(),
        sa.Column("token_hash", sa.String(64), primary_key=True),
        sa.Column("user_name", sa.String(120), nullable=False, index=True),
        sa.Column("expires_ns", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "one_time_links",
        _tenant(),
        sa.Column("token_hash", sa.String(64), primary_key=True),
        sa.Column("user_name", sa.String(120), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("expires_ns", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "work_requests",
        _tenant(),
        sa.Column("id", sa.String(120), primary_key=True),
        sa.Column("product", sa.String(120), nullable=False),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.Column("due_ns", sa.BigInteger, nullable=False),
        sa.Column("release_ns", sa.BigInteger, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("state", sa.String(20), nullable=False, index=True),
        sa.Column("end_ns", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "jobs",
        _tenant(),
        sa.Column("id", sa.String(160), primary_key=True),
        sa.Column("work_center", sa.String(120), nullable=False, index=True),
        sa.Column("way", sa.String(40), nullable=False),
        sa.Column("decision", sa.String(120), nullable=False),
        sa.Column("job", sa.JSON, nullable=False),
        sa.Column("state", sa.String(30), nullable=False, index=True),
        sa.Column("response", sa.JSON),
    )
    op.create_table(
        "settings",
        _tenant(),
        sa.Column("key", sa.String(200), primary_key=True),
        sa.Column("value", sa.JSON, nullable=False),
    )
    op.create_table(
        "decisions",
        _tenant(),
        sa.Column("id", sa.String(120), primary_key=True),
        sa.Column("time_ns", sa.BigInteger, nullable=False, index=True),
        sa.Column("line", sa.String(120), nullable=False, index=True),
        sa.Column("decision_class", sa.String(20), nullable=False),
        sa.Column("state", sa.String(30), nullable=False),
        sa.Column("entry", sa.BigInteger, nullable=False),
        sa.Column("approved_by", sa.String(120), nullable=False),
        sa.Column("decision", sa.JSON, nullable=False),
        sa.Column("outcome", sa.JSON),
    )


def downgrade() -> None:
    """Remove the tables."""
    for name in (
        "decisions", "settings", "jobs", "work_requests", "one_time_links", "sessions", "users",
    ):  # fmt: skip
        op.drop_table(name)
