"""Settings of the connectors, frozen; plant.toml's [[source]] tables."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class OpcUaSettings:
    """One OPC UA server.

    Attributes
    ----------
    root
        Browse path below Objects whose variables are collected; browse names below it become the
        ISA-95 path. "" takes all of Objects but the Server object.
    publishing_ms, sampling_ms
        Requested publishing and sampling interval.
    queue_s
        Longest cut that must lose nothing: server queue depth = rate x queue_s.
    """

    id: str
    url: str
    root: str = ""
    publishing_ms: int = 100
    sampling_ms: int = 100
    queue_s: int = 60
    security: str = "none"
    user: str = ""
    password_env: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SparkplugSettings:
    """One MQTT broker with Sparkplug B edge nodes.

    Attributes
    ----------
    url
        ``mqtt://host:port``; "" starts a broker of our own on loopback.
    groups
        Sparkplug group ids to follow; "+" takes all.
    host_id
        This brain's primary host id (STATE topic).
    """

    id: str
    url: str = ""
    groups: tuple[str, ...] = ("+",)
    host_id: str = "workshop-brain"
    user: str = ""
    password_env: str = ""


SourceSettings = OpcUaSettings | SparkplugSettings
