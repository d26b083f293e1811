"""Settings of the ways out, frozen; plant.toml's [[dispatch]] tables and [envelope]."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchSettings:
    """How job orders reach one work center.

    Attributes
    ----------
    way
        "job_order" (OPC 10031-4 methods), "handshake" (PLC tags), "work_list" (people),
        "dry_run" (nothing leaves the house).
    url
        OPC UA endpoint, for job_order and handshake.
    receiver
        Browse path of the receiver object (or of the handshake folder) below Objects.
    timeout_s
        After this a command is "unconfirmed" and is read back.
    """

    work_center: str
    way: str = "dry_run"
    url: str = ""
    receiver: str = ""
    timeout_s: float = 5.0
