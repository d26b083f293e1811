"""Settings of the connectors, frozen; plant.toml's [[source]] tables."""

import re
from dataclasses import dataclass, field
from typing import ClassVar

from workshop_brain.connect.choice import Override, choice_fault
from workshop_brain.connect.files.settings import FilesSettings
from workshop_brain.connect.modbus.settings import ModbusSettings
from workshop_brain.connect.mqtt.settings import MqttSettings, tls_fault
from workshop_brain.connect.mtconnect.settings import MtconnectSettings
from workshop_brain.connect.s7.settings import S7Settings
from workshop_brain.connect.slmp.settings import SlmpSettings

SECURITY_POLICIES = (
    "Aes256Sha256RsaPss", "Basic256Sha256", "Aes128Sha256RsaOaep", "Basic256", "Basic128Rsa15",
)  # fmt: skip
SECURITY_MODES = ("SignAndEncrypt", "Sign")


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
    security
        ``none``, ``auto``, or the name of a policy; a mode may follow: ``Basic256Sha256,Sign``.
    trust_first_use
        Pin the first certificate that the server shows, instead of refusing it until somebody has
        trusted it.
    user_cert, user_key
        Certificate and key to sign in with instead of user and password, below DATA/pki or with
        their whole path; ``password_env`` then holds the key's password.
    queue_s
        Longest cut that must lose nothing: server queue depth = rate x queue_s.
    include, exclude, override
        Which variables are taken and what is said of them otherwise, see ``connect.choice``.
    """

    protocol: ClassVar[str] = "opcua"
    schemes: ClassVar[tuple[str, ...]] = ("opc.tcp",)

    id: str
    url: str
    root: str = ""
    publishing_ms: int = 100
    sampling_ms: int = 100
    queue_s: int = 60
    security: str = "none"
    trust_first_use: bool = False
    user: str = ""
    password_env: str = ""
    user_cert: str = ""
    user_key: str = ""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    override: tuple[Override, ...] = field(default=(), metadata={"rows": Override})

    def fault(self) -> str:
        """Key and what is wrong with its value; "" when nothing is.

        >>> OpcUaSettings(id="plc", url="opc.tcp://plc:4840", security="auto,Sign").fault()
        ''
        """
        policy, comma, mode = self.security.partition(",")
        good_mode = mode in SECURITY_MODES if comma else True
        if self.security == "none" or (policy in ("auto", *SECURITY_POLICIES) and good_mode):
            if why := self._user_fault():
                return why
            return choice_fault(self.include, self.exclude, self.override)
        return (
            f"security: no security {self.security!r}; known are none, auto, "
            f"{', '.join(SECURITY_POLICIES)}, with ',{SECURITY_MODES[1]}' behind it to sign only"
        )

    def _user_fault(self) -> str:
        if bool(self.user_cert) != bool(self.user_key):
            return "user_cert and user_key: give both or neither"
        if self.user_cert and self.user:
            return "user_cert: sign in with a certificate or as user, not both"
        if self.user_cert and self.security == "none":
            return "user_cert: needs security other than none"
        return ""


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
    ca_file, cert_file, key_file, verify_host
        For ``mqtts://``, see MqttSettings.
    include, exclude, override
        Which metrics are taken and what is said of them otherwise, see ``connect.choice``.
    """

    protocol: ClassVar[str] = "sparkplug"
    schemes: ClassVar[tuple[str, ...]] = ("mqtt", "mqtts")

    id: str
    url: str = ""
    groups: tuple[str, ...] = ("+",)
    host_id: str = "workshop-brain"
    user: str = ""
    password_env: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    verify_host: bool = True
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    override: tuple[Override, ...] = field(default=(), metadata={"rows": Override})

    def fault(self) -> str:
        """Key and what is wrong with its value; "" when nothing is.

        >>> SparkplugSettings(id="bulk", host_id="a/b").fault()
        "host_id: must be a name without '/', '+' or '#', got 'a/b'"
        """
        if not _is_level(self.host_id):
            return f"host_id: must be a name without '/', '+' or '#', got {self.host_id!r}"
        if not self.groups:
            return "groups: is empty and would follow nothing; leave it out to follow all"
        for i, group in enumerate(self.groups):
            if group != "+" and not _is_level(group):
                return (
                    f"groups[{i}]: must be '+' or a group id without '/', '+' or '#', got {group!r}"
                )
        if why := tls_fault(self.url, self.ca_file, self.cert_file, self.key_file):
            return why
        return choice_fault(self.include, self.exclude, self.override)


def _is_level(text: str) -> bool:
    """Whether a text can stand for one level of an MQTT topic."""
    return 0 < len(text) <= 100 and text == text.strip() and not re.search(r"[/+#]", text)


SourceSettings = (
    OpcUaSettings
    | SparkplugSettings
    | MqttSettings
    | FilesSettings
    | MtconnectSettings
    | ModbusSettings
    | S7Settings
    | SlmpSettings
)
PROTOCOLS: dict[str, type[SourceSettings]] = {
    kind.protocol: kind
    for kind in (
        OpcUaSettings,
        SparkplugSettings,
        MqttSettings,
        FilesSettings,
        MtconnectSettings,
        ModbusSettings,
        S7Settings,
        SlmpSettings,
    )
}
"""Word of ``protocol`` in plant.toml to the settings that follow it."""
