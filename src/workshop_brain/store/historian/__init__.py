"""Every sample and curve, kept: write-ahead log, memory table, sorted segments, catalog, reads."""

from workshop_brain.store.historian.historian import Historian
from workshop_brain.store.settings import HistorianSettings

__all__ = ["Historian", "HistorianSettings"]
