"""JSON that the reader itself cannot bear, refused by the name of its file."""

import json
from pathlib import Path

from workshop_brain.errors import ConfigError


def readable(path: Path, text: str) -> str:
    """The same text; ConfigError when it is JSON nested too deeply or with an endless number.

    Other faults of JSON are told by the reader that knows what the file should be.
    """
    if text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return text
    except RecursionError as error:
        raise ConfigError(f"{path}: is nested too deeply to be what is asked for") from error
    except ValueError as error:
        raise ConfigError(
            f"{path}: holds a number of thousands of digits; write one that can be meant"
        ) from error
    return text
