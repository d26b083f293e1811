"""Alembic migrations of the records; run at start by ``store.records.Records``."""
