"""Looking at an HTTP address: an MTConnect agent, or something that can push."""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np

from workshop_brain.connect.discovery import propose
from workshop_brain.connect.discovery.options import Options
from workshop_brain.connect.discovery.propose import Companion, Discovery, Guess, Variable
from workshop_brain.connect.discovery.reach import reach, said
from workshop_brain.connect.discovery.watched import Watched
from workshop_brain.connect.mtconnect.agent import Agent
from workshop_brain.connect.mtconnect.document import (
    MOST_BYTES,
    AgentError,
    DataItem,
    read_devices,
)
from workshop_brain.connect.mtconnect.settings import MtconnectSettings
from workshop_brain.connect.outbox import ended
from workshop_brain.errors import DecodeError, SourceError
from workshop_brain.model.signal import SignalDef, SignalKind

_SHOWN = 15


async def discover(url: str, options: Options) -> Discovery:
    """What the agent at ``http://host:port`` offers; SourceError says what is there instead."""
    base = url.rstrip("/")
    options.say("connecting", {"url": base})
    parts = urlsplit(base)
    await reach(base, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    auth = (options.user, options.password) if options.user else None
    async with httpx.AsyncClient(timeout=8.0, auth=auth, trust_env=False) as client:
        try:
            _, items = read_devices(await _get(client, base, "/probe"))
        except AgentError as error:
            raise SourceError(
                f"{base}: {error}; ask again when the agent has its devices"
            ) from error
        except DecodeError as error:
            raise SourceError(await _what_else(client, base)) from error
    if not items:
        raise SourceError(f"{base}: the MTConnect agent has no device with data items yet")
    settings = MtconnectSettings(
        id=options.source,
        url=base,
        root=options.site,
        user=options.user,
        password_env=options.password_env,
    )
    with tempfile.TemporaryDirectory() as folder:
        box = Watched(options.source, "mtconnect", Path(folder) / "none", Path(folder))
        agent = Agent(
            settings, options.enterprise, box, Path(folder) / "sequence.json", options.password
        )
        seconds = await _followed(agent, box, options)
    return _discovery(settings, items, box, seconds, options)


async def _get(client: httpx.AsyncClient, base: str, path: str) -> bytes:
    try:
        async with client.stream("GET", base + path) as answer:
            content = bytearray()
            async for chunk in answer.aiter_bytes():
                content += chunk
                if len(content) > MOST_BYTES:
                    raise SourceError(f"{base}{path}: answers with more than {MOST_BYTES} bytes")
            if answer.status_code in (401, 403):
                raise SourceError(
                    f"{base}: lets nobody read without a name (HTTP {answer.status_code}); give "
                    "--user and --password-env"
                )
            return bytes(content)
    except httpx.ConnectError as error:
        if "CERTIFICATE" in str(error).upper():
            raise SourceError(
                f"{base}: its certificate is not trusted here ({error}); have the machine show one "
                "that this computer's authorities signed, or use http:// inside the plant"
            ) from error
        raise SourceError(f"{base}: cannot be reached ({said(error)})") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SourceError(
            f"{base}{path}: does not answer as HTTP ({said(error)}); is it the right port?"
        ) from error


async def _what_else(client: httpx.AsyncClient, base: str) -> str:
    health = await _get(client, base, "/api/v1/health")
    if health.startswith(b"{") and b'"status"' in health[:200]:
        return (
            f"{base}: is a Workshop Brain; programs push their samples to it at "
            f"POST {base}/api/v1/samples, nothing has to be connected"
        )
    return (
        f"{base}: answers HTTP and is no MTConnect agent (/probe has no MTConnectDevices); a "
        "program there can push its values to this brain: POST /api/v1/samples"
    )


async def _followed(agent: Agent, box: Watched, options: Options) -> float:
    """Let the collector's own reader follow the agent for the seconds given."""
    options.say("reading", {"s": options.seconds})
    task = asyncio.create_task(agent.run(), name="discovery-agent")
    begin = time.monotonic()
    try:
        while (passed := time.monotonic() - begin) < options.seconds and not task.done():
            await asyncio.sleep(min(0.5, options.seconds - passed))
            options.show(box.liveliest(_SHOWN, time.monotonic() - begin), passed)
    finally:
        await ended(task)
    return time.monotonic() - begin


def _discovery(
    settings: MtconnectSettings,
    items: list[DataItem],
    box: Watched,
    seconds: float,
    options: Options,
) -> Discovery:
    if not box.signals or not box.rows:
        raise SourceError(
            f"{settings.url}: the agent names its devices and tells no values ({box.rejected} "
            "documents cannot be read); is it healthy?"
        )
    browse = {item.id: "/".join((*item.place, item.name)) for item in items}
    variables = [_variable(signal, browse) for signal in box.signals]
    seen = box.observed(list(range(len(variables))), seconds)
    proposals = propose.propose(variables, seen)
    for proposal in proposals:
        proposal.guesses["kind"] = Guess(confidence=0.9, reason="kind.declared")
    devices = list(dict.fromkeys(item.place[0] for item in items))
    table: dict[str, Any] = {"protocol": "mtconnect", "url": settings.url, "root": settings.root}
    if settings.user:
        table |= {"user": settings.user, "password_env": settings.password_env}
    last = [box.shown(n, value) for n, value in enumerate(seen.last)]
    order = np.argsort(-seen.samples, kind="stable")[:_SHOWN].tolist()
    return Discovery(
        url=settings.url,
        protocol="mtconnect",
        source=table,
        proposals=proposals,
        companions=[Companion(id="mtconnect", types={"Device": devices})],
        facts=[("mtconnect", {"devices": ", ".join(devices[:10])})],
        live={
            variables[n].signal.path: (last[n], float(seen.samples[n]) / max(seconds, 0.1))
            for n in order
        },
        seconds=seconds,
        watched=len(variables),
        samples_per_s=propose.total_rate(seen),
    )


def _variable(signal: SignalDef, browse: dict[str, str]) -> Variable:
    return Variable(
        browse=browse.get(signal.address, signal.address),
        signal=signal,
        form="text" if signal.kind is SignalKind.TEXT else "real",
        companion="mtconnect",
    )
