"""Values of the core as JSON values: plain dicts and lists, times in milliseconds."""

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping
from enum import Enum, IntEnum
from typing import Any

import numpy as np
import orjson
from starlette.responses import Response

from workshop_brain.units import NS_PER_MS


def plain(value: Any) -> Any:
    """A JSON value: dataclasses become objects, ``*_ns`` keys become ``*_ms``, NaN null.

    IntEnum members become their lower-case names, other enums their values.

    >>> plain({"time_ns": 2_000_000, "x": float("nan")})
    {'time_ms': 2.0, 'x': None}
    """
    if value is None or isinstance(value, (str, bool)):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, IntEnum):
        return value.name.lower()
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, (int, np.integer)):
        return int(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return plain(fields)
    if isinstance(value, Mapping):
        return dict(_entry(str(key), item) for key, item in value.items())
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return str(value)


def _entry(key: str, value: Any) -> tuple[str, Any]:
    if key.endswith("_ns") and isinstance(value, (int, np.integer)):
        return key[:-3] + "_ms", int(value) / NS_PER_MS
    return key, plain(value)


class Json(Response):
    """A JSON answer; NaN becomes null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode."""
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


async def ask(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a plain function or a coroutine function of a room."""
    answer = function(*args, **kwargs)
    return await answer if inspect.isawaitable(answer) else answer
