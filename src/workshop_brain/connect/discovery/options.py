"""What every way of discovery is told, and how it talks back while it works."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """The certificate that a server shows.

    Attributes
    ----------
    der
        The certificate itself.
    known
        Whether the same one was trusted before.
    """

    policy: str
    mode: str
    fingerprint: str
    der: bytes
    known: bool = False


def _nothing(step: str, params: dict[str, Any]) -> None:
    """Nobody listens."""


def _nobody(rows: dict[str, tuple[str, float]], seconds: float) -> None:
    """Nobody looks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to look.

    Attributes
    ----------
    seconds
        How long values are watched.
    source
        Id that the source has or will have.
    pki_dir
        Folder of our certificate and of the trusted ones.
    trust
        Asked whether a server's certificate is to be trusted.
    say
        ``(id of a step, its parameters)`` as the work goes on.
    show
        ``(path -> (value, values a second), seconds watched)``, a few times a second.
    most_watched
        Signals watched at most.
    units
        Modbus: unit ids 1..n that are asked.
    """

    seconds: float = 10.0
    enterprise: str = "local"
    site: str = "site"
    source: str = "source"
    pki_dir: Path = Path("data/pki")
    user: str = ""
    password: str = ""
    password_env: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    trust: Callable[[Certificate], bool] = lambda certificate: certificate.known
    say: Callable[[str, dict[str, Any]], None] = field(default=_nothing)
    show: Callable[[dict[str, tuple[str, float]], float], None] = field(default=_nobody)
    most_watched: int = 3000
    units: int = 4
