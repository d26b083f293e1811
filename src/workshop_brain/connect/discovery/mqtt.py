"""Listening to a broker: Sparkplug edge nodes, JSON, single values."""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gmqtt
import numpy as np

from workshop_brain.connect import tags
from workshop_brain.connect.choice import Choice
from workshop_brain.connect.discovery import companion, propose
from workshop_brain.connect.discovery.options import Options
from workshop_brain.connect.discovery.propose import Discovery, Observed, Variable
from workshop_brain.connect.discovery.topics import Tally
from workshop_brain.connect.discovery.watched import Watched
from workshop_brain.connect.mqtt import link
from workshop_brain.connect.mqtt.mapping import Mapping
from workshop_brain.connect.mqtt.settings import MqttSettings, TopicRow
from workshop_brain.connect.sparkplug import wire
from workshop_brain.connect.sparkplug.host import NAMESPACE, Host
from workshop_brain.connect.sparkplug.wire import DataType
from workshop_brain.errors import SourceError
from workshop_brain.model.signal import Samples, SignalDef, SignalKind

_SHOWN = 15
_MOST_BYTES = 64 * 1024**2
_INTEGERS = frozenset(DataType(n) for n in range(1, 9))


@dataclass(slots=True, eq=False)
class _Ear:
    """Everything that is heard while listening."""

    host: Host
    tally: Tally = field(default_factory=Tally)
    messages: list[tuple[str, bytes, int, bool]] = field(default_factory=list)
    kept: int = 0
    sparkplug: int = 0
    other: int = 0

    def take(self, topic: str, payload: bytes, retained: bool) -> None:
        """One message."""
        now_ns = time.time_ns()
        if topic.startswith(f"{NAMESPACE}/"):
            self.sparkplug += not topic.startswith(f"{NAMESPACE}/STATE/")
            self.host.message(topic, payload, now_ns)
            return
        self.other += 1
        self.tally.take(topic, payload)
        self.kept += len(payload)
        if self.kept < _MOST_BYTES:
            self.messages.append((topic, payload, now_ns, retained))


async def discover(url: str, options: Options) -> list[Discovery]:
    """A discovery for Sparkplug and one for all else; SourceError when neither is there."""
    await asyncio.to_thread(wire.warm)
    with tempfile.TemporaryDirectory() as folder:
        return await _listened(url, options, Path(folder))


async def _listened(url: str, options: Options, folder: Path) -> list[Discovery]:
    box = Watched(options.source, "sparkplug", folder / "none", folder)
    client: Any = gmqtt.Client(f"workshop-brain-look-{time.time_ns() % 10**9}", clean_session=True)
    client.set_config({"reconnect_retries": link.NO_OWN_RECONNECT})
    ear = _Ear(Host(options.source, options.enterprise, box, _asking(client)))
    lost = asyncio.Event()
    client.on_disconnect = lambda *_: lost.set()

    def on_message(_: Any, topic: str, payload: bytes, qos: int, properties: Any) -> int:
        ear.take(topic, payload, bool(properties.get("retain")))
        return 0

    client.on_message = on_message
    options.say("connecting", {"url": url})
    await link.connect(
        client,
        _given(url, options),
        password=options.password,
        folder=options.pki_dir,
        lost=lost,
        told_keepalive_s=30,
        own_keepalive_s=10,
    )
    options.say("listening", {"s": options.seconds})
    client.subscribe("#", qos=0)
    client.subscribe(f"{NAMESPACE}/#", qos=0)
    begin = time.monotonic()
    while (passed := time.monotonic() - begin) < options.seconds and not lost.is_set():
        await asyncio.sleep(min(0.5, options.seconds - passed))
        options.show(_shown(ear, box, time.monotonic() - begin), passed)
    seconds = time.monotonic() - begin
    was_lost = lost.is_set()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(1.0):
            await client.disconnect()
    if was_lost:
        raise SourceError(f"{url}: the broker closed the connection; may this user read '#'?")
    out = [_sparkplug(url, options, ear, box, seconds)] if box.signals else []
    out += _plain(url, options, ear, seconds)
    if not out:
        raise SourceError(_nothing(url, ear, seconds))
    return out


def _given(url: str, options: Options) -> MqttSettings:
    return MqttSettings(
        id=options.source,
        url=url,
        user=options.user,
        ca_file=options.ca_file,
        cert_file=options.cert_file,
        key_file=options.key_file,
    )


def _asking(client: Any) -> Any:
    """Sends requests for births: without them metrics have numbers and no names."""

    def send(topic: str, payload: bytes) -> None:
        if client.is_connected:
            client.publish(topic, payload, qos=0)

    return send


def _nothing(url: str, ear: _Ear, seconds: float) -> str:
    if ear.sparkplug:
        nodes = ", ".join(sorted(node.name for node in ear.host.nodes.values())[:5])
        return (
            f"{url}: {ear.sparkplug} Sparkplug messages and no birth in {seconds:.0f} s ({nodes}); "
            "the edge nodes do not answer requests for their births: listen with more --seconds "
            "while one restarts"
        )
    if ear.other:
        return (
            f"{url}: {ear.other} messages in {seconds:.0f} s and none that can be read as JSON, "
            "number or text; the payloads are of a format of their own"
        )
    return (
        f"{url}: the broker is there and nothing came in {seconds:.0f} s; listen with more "
        "--seconds, or give a --user that may read '#'"
    )


def _table(protocol: str, url: str, options: Options) -> dict[str, Any]:
    table: dict[str, Any] = {"protocol": protocol, "url": url}
    for key in ("user", "password_env", "ca_file", "cert_file", "key_file"):
        if value := getattr(options, key):
            table[key] = value
    return table


# --- Sparkplug ---


def _sparkplug(url: str, options: Options, ear: _Ear, box: Watched, seconds: float) -> Discovery:
    rows = [
        (node, row)
        for node in ear.host.nodes.values()
        for row in node.rows
        if row.signal.source == options.source
    ]
    rows = list({row.local: (node, row) for node, row in rows}.values())
    variables = [_metric(options.enterprise, row.signal, row.datatype) for _, row in rows]
    local = [row.local for _, row in rows]
    seen = box.observed(local, seconds)
    proposals = propose.propose(variables, seen)
    table = _table("sparkplug", url, options)  # all groups: those of later are not missed
    unborn = sorted(node.name for node in ear.host.nodes.values() if not node.rows)
    groups = sorted({node.group for node, _ in rows})
    if more := propose.overrides(variables, proposals):
        table["override"] = more
    return Discovery(
        url=url,
        protocol="sparkplug",
        source=table,
        proposals=proposals,
        companions=_tags_by_name(proposals),
        facts=[
            (
                "sparkplug",
                {
                    "groups": ", ".join(groups),
                    "nodes": len({node.name for node, _ in rows}),
                    "devices": len({(node.name, row.device) for node, row in rows if row.device}),
                    "metrics": len(rows),
                },
            ),
            *([("unborn", {"nodes": ", ".join(unborn[:10])})] if unborn else []),
        ],
        live=_liveliest(
            variables, seen, [box.shown(n, v) for n, v in zip(local, seen.last, strict=True)]
        ),
        seconds=seconds,
        watched=len(rows),
        samples_per_s=propose.total_rate(seen),
    )


def _metric(enterprise: str, signal: SignalDef, datatype: int) -> Variable:
    names = [part for part in signal.address.split("/") if part]
    default = tags.range_of(signal.name, signal.kind, 0.0, 0.0)
    form = "real"
    if datatype == DataType.BOOLEAN:
        form = "flag"
    elif datatype in wire.TEXT_TYPES:
        form = "text"
    elif datatype in _INTEGERS:
        form = "integer"
    return Variable(
        browse="/".join(names),
        signal=signal,
        form=form,
        has_range=(signal.low, signal.high) != default,
        has_path=signal.path != tags.signal_path(enterprise, names),
    )


def _tags_by_name(proposals: Sequence[propose.Proposal]) -> list[propose.Companion]:
    units: dict[str, list[str]] = {}
    for proposal in proposals:
        units.setdefault(proposal.signal.name, []).append(proposal.signal.unit_path)
    found = companion.pack_tags(units)
    return [found] if found else []


# --- JSON and single values ---


@dataclass(frozen=True, slots=True)
class _Read:
    """What the collector's mapping makes of the messages kept."""

    signals: list[SignalDef]
    samples: Samples
    words: list[str]
    rejected: int


def _read(ear: _Ear, rows: list[dict[str, Any]], options: Options) -> _Read:
    signals: list[SignalDef] = []
    texts: dict[str, int] = {}

    def declare(new: Sequence[SignalDef]) -> int:
        signals.extend(new)
        return len(signals) - len(new)

    mapping = Mapping(
        source=options.source,
        choice=Choice(enterprise=options.enterprise),
        rows=[TopicRow(**row) for row in rows],
        declare=declare,
        text=lambda text: texts.setdefault(text, len(texts)),
    )
    for topic, payload, now_ns, retained in ear.messages:
        mapping.take(topic, payload, now_ns, retained=retained)
    return _Read(signals, mapping.drain(), list(texts), mapping.rejected)


def _plain(url: str, options: Options, ear: _Ear, seconds: float) -> list[Discovery]:
    """Nothing when no topic can be read."""
    rows = ear.tally.rows()
    if not rows:
        return []
    read = _read(ear, rows, options)
    n, index = len(read.signals), read.samples.signal.astype(np.int64)
    seen = propose.observe(n, seconds, range(n), index, read.samples.value)
    whole = _whole(n, index, read.samples.value)
    variables = [_topic_variable(s, bool(whole[i])) for i, s in enumerate(read.signals)]
    proposals = propose.propose(variables, seen)
    table = _table("mqtt", url, options) | {"topic": rows}
    if more := propose.overrides(variables, proposals):
        table["override"] = more
    forms = ear.tally.forms()
    topics = {
        "topics": len(ear.tally.topics),
        "json": forms["json"],
        "values": forms["value"] + forms["text"],
        "rejected": read.rejected,
    }
    return [
        Discovery(
            url=url,
            protocol="mqtt",
            source=table,
            proposals=proposals,
            companions=_tags_by_name(proposals),
            skipped={"binary": forms["binary"]} if forms["binary"] else {},
            facts=[("topics", topics)],
            live=_liveliest(variables, seen, _shown_last(read, seen)),
            seconds=seconds,
            watched=n,
            samples_per_s=propose.total_rate(seen),
        )
    ]


def _shown_last(read: _Read, seen: Observed) -> list[str]:
    return [
        read.words[int(value)]
        if signal.kind is SignalKind.TEXT and not np.isnan(value)
        else f"{value:.6g}"
        for signal, value in zip(read.signals, seen.last, strict=True)
    ]


def _whole(n: int, index: Any, value: Any) -> Any:
    """Which signals had whole numbers only."""
    broken = np.zeros(n, np.bool_)
    broken[index[value != np.floor(value)]] = True
    return ~broken


def _topic_variable(signal: SignalDef, is_whole: bool) -> Variable:
    form = "integer" if is_whole else "real"
    if signal.kind is SignalKind.TEXT:
        form = "text"
    elif signal.kind is SignalKind.FLAG:
        form = "flag"
    return Variable(browse=signal.address, signal=signal, form=form)


# --- showing ---


def _shown(ear: _Ear, box: Watched, seconds: float) -> dict[str, tuple[str, float]]:
    """The liveliest signals or topics so far."""
    span = max(seconds, 0.1)
    out = box.liveliest(_SHOWN, seconds)
    busy = sorted(ear.tally.topics.items(), key=lambda item: -item[1].messages)
    for name, topic in busy[: _SHOWN - len(out)]:
        out[name] = (topic.last, topic.messages / span)
    return out


def _liveliest(
    variables: Sequence[Variable], seen: Observed, shown: Sequence[str]
) -> dict[str, tuple[str, float]]:
    order = np.argsort(-seen.samples, kind="stable")[:_SHOWN].tolist()
    span = max(seen.seconds, 0.1)
    return {variables[i].signal.path: (shown[i], float(seen.samples[i]) / span) for i in order}
