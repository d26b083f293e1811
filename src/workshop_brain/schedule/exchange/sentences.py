"""Messages of the schedule as sentences, for what the commands on files print."""

from datetime import UTC, datetime
from typing import Any

from workshop_brain.model.decision import Message
from workshop_brain.schedule.messages import MESSAGES
from workshop_brain.schedule.structure import Problem


def sentences(problem: Problem, message: Message) -> dict[str, str]:
    """The message in English and Chinese, ``{"en", "zh"}``.

    Instants are ticks where the problem counts from 0, else UTC; durations are seconds.
    """
    params = {key: _shown(problem, key, value) for key, value in message.params.items()}
    english, chinese = MESSAGES[message.id]
    return {"en": english.format(**params), "zh": chinese.format(**params)}


def _shown(problem: Problem, key: str, value: Any) -> Any:
    if key.endswith("_ns"):
        if not problem.origin_ns:
            return problem.ticks(value)
        return datetime.fromtimestamp(value // 10**9, UTC).isoformat(sep=" ")[:19]
    return f"{value} s" if key.endswith("_s") else value
