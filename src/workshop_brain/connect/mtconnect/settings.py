"""Settings of an MTConnect agent; plant.toml's ``[[source]] protocol = "mtconnect"``."""

from dataclasses import dataclass, field
from typing import ClassVar
from urllib.parse import urlsplit

from workshop_brain.connect.choice import Override, choice_fault


@dataclass(frozen=True, slots=True, kw_only=True)
class MtconnectSettings:
    """One MTConnect agent.

    Attributes
    ----------
    url
        ``http://host:port`` of the agent, with a path where it has one.
    device
        Name or uuid of one device; "" takes all.
    root
        Names above the device's, ``site/area/line/cell``.
    interval_ms
        At most how often the agent sends what is new.
    count
        Observations in one document, at most.
    """

    protocol: ClassVar[str] = "mtconnect"
    schemes: ClassVar[tuple[str, ...]] = ("http", "https")

    id: str
    url: str
    device: str = ""
    root: str = ""
    interval_ms: int = 250
    count: int = 5000
    user: str = ""
    password_env: str = ""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    override: tuple[Override, ...] = field(default=(), metadata={"rows": Override})

    def fault(self) -> str:
        """Key and what is wrong with its value; "" when nothing is.

        >>> MtconnectSettings(id="cnc", url="http://cnc:5000", count=0).fault()
        'count: must be 1 to 100000, got 0'
        """
        if not 1 <= self.count <= 100_000:
            return f"count: must be 1 to 100000, got {self.count}"
        if not 1 <= self.interval_ms <= 600_000:
            return f"interval_ms: must be 1 to 600000, got {self.interval_ms}"
        if urlsplit(self.url).query or urlsplit(self.url).fragment:
            return f"url: must have no '?' or '#', got {self.url!r}"
        if "/" in self.device or self.device != self.device.strip():
            return f"device: must be a name or uuid without '/', got {self.device!r}"
        return choice_fault(self.include, self.exclude, self.override)
