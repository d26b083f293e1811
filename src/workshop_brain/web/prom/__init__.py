"""The Prometheus read API: PromQL (a stated part of it) over the history of signals."""

from workshop_brain.web.prom.evaluate import Series, Steps, evaluate
from workshop_brain.web.prom.promql import PromError, parse

__all__ = ["PromError", "Series", "Steps", "evaluate", "parse"]
