"""Looking at an OPC UA server: endpoints, certificate, variables, companion types, live values."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from asyncua import Client, ua
from asyncua.client.ua_session import UaSession
from asyncua.crypto import security_policies

from workshop_brain.connect.choice import Choice, Override
from workshop_brain.connect.discovery import companion, propose
from workshop_brain.connect.discovery.companion import TypedPlace
from workshop_brain.connect.discovery.options import Certificate, Options
from workshop_brain.connect.discovery.propose import Discovery, Observed, Variable
from workshop_brain.connect.discovery.reach import CONNECT_S, reach, said
from workshop_brain.connect.opcua import browse, issuers, pki
from workshop_brain.connect.opcua.browse import Found, Item, Limits
from workshop_brain.connect.opcua.session import Session
from workshop_brain.connect.settings import OpcUaSettings
from workshop_brain.connect.tags import kind_of, range_of, signal_path
from workshop_brain.errors import SourceError
from workshop_brain.model.signal import SignalDef, path_part

_POLICIES = ("Aes256Sha256RsaPss", "Basic256Sha256", "Aes128Sha256RsaOaep")
_SHOWN = 15
_MOST_SUPERTYPES = 8


async def discover(url: str, options: Options) -> Discovery:
    """Everything about the server at ``opc.tcp://host:port``; SourceError says what is wrong."""
    settings = OpcUaSettings(
        id=options.source, url=url, user=options.user, password_env=options.password_env, queue_s=5
    )
    options.say("endpoints", {"url": url})
    endpoints = await _endpoints(url)
    offered = offers(endpoints)
    settings = replace(settings, security=_secured(endpoints, settings, options))
    options.say("security", {"security": settings.security, "offered": ", ".join(offered)})
    session = Session(settings, options.password, options.pki_dir)
    await _opened(session, endpoints, options)
    try:
        services = session.client.uaclient.session
        return await _look(services, settings, options, offered)
    except (OSError, TimeoutError, ua.UaError) as error:
        raise SourceError(f"{url}: broke off while it was looked at: {said(error)}") from error
    finally:
        await _closed(session)


def offers(endpoints: Sequence[Any]) -> list[str]:
    """``policy,mode`` of each endpoint, once each."""
    names = [f"{_policy(e)},{e.SecurityMode.name}" for e in endpoints]
    return list(dict.fromkeys("none" if n.startswith("None,") else n for n in names))


def strongest(endpoints: Sequence[Any]) -> Any | None:
    """The endpoint with the strongest policy that both sides know; None when all are open."""
    for mode in ("SignAndEncrypt", "Sign"):  # as ``security = "auto"`` chooses
        for policy in _POLICIES:
            known = getattr(security_policies, f"SecurityPolicy{policy}", None)
            for endpoint in endpoints:
                same = known is not None and endpoint.SecurityPolicyUri == known.URI
                if same and endpoint.SecurityMode.name == mode:
                    return endpoint
    return None


def _policy(endpoint: Any) -> str:
    return str(endpoint.SecurityPolicyUri or "").rsplit("#", 1)[-1]


async def _endpoints(url: str) -> list[Any]:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 4840
    await reach(url, host, port)
    try:
        async with asyncio.timeout(CONNECT_S):
            return list(await Client(url, timeout=4.0).connect_and_get_server_endpoints())
    except TimeoutError as error:
        raise SourceError(
            f"{url}: port {port} is open and does not answer as OPC UA; is it the right port?"
        ) from error
    except (ua.UaError, OSError, ValueError, EOFError) as error:
        raise SourceError(
            f"{url}: port {port} does not speak OPC UA ({said(error)}); is it the right port?"
        ) from error


def _secured(endpoints: Sequence[Any], settings: OpcUaSettings, options: Options) -> str:
    """``security`` for the plant file; the certificate is trusted here when a person says so."""
    endpoint = strongest(endpoints)
    if endpoint is None:
        if not any(_policy(e) == "None" for e in endpoints):
            raise SourceError(
                f"{settings.url}: offers {', '.join(offers(endpoints))}, of which none is known "
                f"here; let the server offer one of {', '.join(_POLICIES)}"
            )
        return "none"
    chain = bytes(endpoint.ServerCertificate or b"")
    der = issuers.leaf(chain)
    pinned = options.pki_dir / "trusted" / f"{settings.id}.der"
    uri = str(endpoint.Server.ApplicationUri or "")
    known = (
        pinned.read_bytes() == der
        if pinned.exists()
        else issuers.vouched(options.pki_dir, settings.id, settings.url, chain, uri)
    )
    shown = Certificate(
        policy=_policy(endpoint),
        mode=endpoint.SecurityMode.name,
        fingerprint=pki.fingerprint(der),
        der=der,
        known=known,
    )
    if not options.trust(shown):
        raise SourceError(
            f"{settings.url}: the server's certificate with the fingerprint {shown.fingerprint} "
            "is not trusted; compare it with the one that the server displays and say --yes, or "
            "answer y on a terminal"
        )
    if not known:
        pinned.parent.mkdir(parents=True, exist_ok=True)
        pinned.write_bytes(der)
    return "auto,Sign" if shown.mode == "Sign" else "auto"


async def _opened(session: Session, endpoints: Sequence[Any], options: Options) -> None:
    url = session.settings.url
    try:
        async with asyncio.timeout(2 * CONNECT_S):
            await session.open()
    except (OSError, TimeoutError, ua.UaError) as error:
        await session.drop()
        raise SourceError(f"{url}: {_refusal(error, endpoints, options)}") from error


def _refusal(error: BaseException, endpoints: Sequence[Any], options: Options) -> str:
    text = said(error)
    tokens = {t.TokenType.name for e in endpoints for t in e.UserIdentityTokens or []}
    if "IdentityToken" in text or "UserAccess" in text:
        if options.user:
            return f"user {options.user!r} is refused ({text}); check --user and the password"
        return (
            f"does not let anybody in without a name ({text}; it takes "
            f"{', '.join(sorted(tokens)) or 'nothing'}); give --user and --password-env"
        )
    if "Certificate" in text or "SecurityChecks" in text:
        own = options.pki_dir / "own" / "cert.der"
        return (
            f"does not trust our certificate ({text}); trust {own} on the server, in most "
            "by moving it from its 'rejected' to its 'trusted' folder, and connect again"
        )
    return f"refuses the session ({text}); free a session on the server or check its log"


async def _closed(session: Session) -> None:
    """Leave nothing behind on the server."""
    with suppress(OSError, TimeoutError, ua.UaError):
        async with asyncio.timeout(2.0):
            await session.client.close_session()
    await session.drop()


# --- looking ---


async def _look(
    services: UaSession, settings: OpcUaSettings, options: Options, offered: list[str]
) -> Discovery:
    begin = time.monotonic()
    limits = await browse.read_limits(services)
    everything = Choice(enterprise=options.enterprise)
    found = await browse.find(
        services, root="", choice=everything, source=settings.id, limits=limits
    )
    shown = [item for item in found.items if not propose.is_diagnostic(item.browse)]
    items = [
        part
        for item in shown
        for part in ([item] if item.composite is None else item.composite.items(item.node_id))
    ]
    browsed_s = time.monotonic() - begin
    options.say("browsed", {"n": len(items), "s": browsed_s})
    if not items:
        raise SourceError(
            f"{settings.url}: no variable that can be collected "
            f"({len(found.items)} for diagnostics, {found.skipped.total()} of other types); "
            "does the user see the machine's folder?"
        )
    typed = await _typed(services, found, limits)
    root = propose.choose_root([item.browse for item in items])
    machines = companion.machines(typed)
    variables, nodes, rows = _variables(items, root, machines, options)
    seen, texts = await _watched(services, nodes, variables, options, limits)
    proposals = propose.propose(variables, seen)
    companions = companion.recognise(typed, found.uris)
    table = _table(settings, root, rows + propose.overrides(variables, proposals), found)
    skipped = dict(found.skipped)
    if len(found.items) > len(shown):
        skipped["diagnostics"] = len(found.items) - len(shown)
    return Discovery(
        url=settings.url,
        protocol="opcua",
        source=table,
        proposals=proposals,
        companions=companions + _tags_by_name(proposals),
        receivers=companion.receivers(companions),
        skipped=skipped,
        facts=[
            ("endpoints", {"offered": ", ".join(offered), "chosen": settings.security}),
            ("browsed", {"n": len(items), "s": browsed_s}),
        ],
        live=liveliest(variables, seen, texts),
        seconds=seen.seconds,
        watched=int(seen.watched.sum()),
        samples_per_s=propose.total_rate(seen),
    )


def _tags_by_name(proposals: Sequence[propose.Proposal]) -> list[propose.Companion]:
    units: dict[str, list[str]] = {}
    for proposal in proposals:
        units.setdefault(proposal.signal.name, []).append(proposal.signal.unit_path)
    tags = companion.pack_tags(units)
    return [tags] if tags else []


def _variables(
    items: Sequence[Item], root: str, machines: dict[str, str], options: Options
) -> tuple[list[Variable], list[ua.NodeId], list[dict[str, Any]]]:
    """Variables with their proposed paths, their nodes, and the override rows that give machines
    their place.

    A machine of a companion specification is one unit; what lies in it becomes one name.
    """
    skip = len(root) + 1 if root else 0
    parents = {m[skip:].rpartition("/")[0] for m in machines if m.startswith(root)}
    rows = propose.folder_rows([item.browse for item in items])
    rows += [_machine_row(parent, options.site) for parent in sorted(parents)]
    shaped = Choice(enterprise=options.enterprise, overrides=[Override(**r) for r in rows])
    out: list[Variable] = []
    nodes: list[ua.NodeId] = []
    taken: set[str] = set()
    for item in items:
        own = item.browse[skip:]
        machine = companion.owner(item.browse, machines)
        plain = _placed(item, signal_path(options.enterprise, own.split("/")))
        signal = shaped.shaped(plain, own) or plain
        if signal.path in taken:
            continue
        taken.add(signal.path)
        nodes.append(item.node_id)
        out.append(
            Variable(
                browse=own,
                signal=signal,
                form=item.form,
                has_states=item.has_states,
                has_range=item.has_range,
                companion=machines.get(machine, ""),
            )
        )
    return out, nodes, rows


def _placed(item: Item, path: str) -> SignalDef:
    """The signal that the collector makes of an item at another path."""
    name = item.name or path_part(item.browse.rsplit("/", 1)[-1])
    kind = kind_of(
        "state" if item.has_states else name,
        is_bool=item.form == "flag",
        is_text=item.form == "text",
        is_integer=item.form == "integer",
    )
    given = (item.signal.low, item.signal.high) if item.has_range else (0.0, 0.0)
    low, high = range_of(name, kind, *given)
    return replace(item.signal, path=path, kind=kind, low=low, high=high)


def _machine_row(parent: str, site: str) -> dict[str, Any]:
    above = [name for name in parent.split("/") if name]
    place = "/".join([site, *above][:4])
    return {"match": "/".join([*above, "*", "*"]), "path": f"{place}/*/*"}


def _table(
    settings: OpcUaSettings, root: str, rows: list[dict[str, Any]], found: Found
) -> dict[str, Any]:
    table: dict[str, Any] = {"protocol": "opcua", "url": settings.url}
    if root:
        table["root"] = root
    if settings.security != "none":
        table["security"] = settings.security
    if settings.user:
        table |= {"user": settings.user, "password_env": settings.password_env}
    named = {
        part
        for item in found.items
        if propose.is_diagnostic(item.browse) and (item.browse.startswith(f"{root}/") or not root)
        for part in item.browse.split("/")
        if propose.is_diagnostic(part)
    }
    if named:
        table["exclude"] = sorted(
            glob for part in named for glob in (f"*/{part}", f"*/{part}/*", f"{part}/*")
        )
    if rows:
        table["override"] = rows
    return table


async def _typed(services: UaSession, found: Found, limits: Limits) -> list[TypedPlace]:
    """The objects with the nearest known type above their own type."""
    uris = found.uris
    base: dict[ua.NodeId, ua.NodeId | None] = {}
    open_ = {p.type_id for p in found.places if p.type_id.NamespaceIndex}
    for _ in range(_MOST_SUPERTYPES):
        unknown = [t for t in open_ if t not in base and not _specified(t, uris)]
        if not unknown:
            break
        above = await _supertypes(services, unknown, limits)
        base.update(zip(unknown, above, strict=True))
        open_ = {t for t in above if t is not None and t.NamespaceIndex}
    nearest = {p.type_id: _nearest(p.type_id, base, uris) for p in found.places}
    known = sorted({t for t in nearest.values() if t is not None}, key=lambda t: t.to_string())
    name_of = dict(zip(known, await browse.names(services, known, limits), strict=True))
    return [
        TypedPlace(p.browse, uris[t.NamespaceIndex], name_of[t])
        for p in found.places
        if (t := nearest[p.type_id]) is not None
    ]


def _specified(node: ua.NodeId, uris: Sequence[str]) -> bool:
    index = node.NamespaceIndex
    return 0 < index < len(uris) and bool(companion.specification(uris[index]))


def _nearest(
    node: ua.NodeId | None, base: dict[ua.NodeId, ua.NodeId | None], uris: Sequence[str]
) -> ua.NodeId | None:
    for _ in range(_MOST_SUPERTYPES):
        if node is None or _specified(node, uris):
            return node
        node = base.get(node)
    return None


async def _supertypes(
    services: UaSession, nodes: Sequence[ua.NodeId], limits: Limits
) -> list[ua.NodeId | None]:
    out: list[ua.NodeId | None] = []
    for at in range(0, len(nodes), limits.nodes_per_browse):
        parameters = ua.BrowseParameters()
        parameters.NodesToBrowse = [_upwards(n) for n in nodes[at : at + limits.nodes_per_browse]]
        for result in await services.browse(parameters):
            references = list(result.References or [])
            out.append(references[0].NodeId if references else None)
    return out


def _upwards(node: ua.NodeId) -> ua.BrowseDescription:
    description = ua.BrowseDescription()
    description.NodeId = node
    description.BrowseDirection = ua.BrowseDirection.Inverse
    description.ReferenceTypeId = ua.NodeId(ua.ObjectIds.HasSubtype)
    description.ResultMask = ua.BrowseResultMask.All
    return description


# --- watching ---


@dataclass(slots=True)
class _Seen:
    """What came, as long lists that become columns."""

    index: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    texts: dict[int, str] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)

    def take(self, result: Any) -> None:
        """One PublishResult."""
        for data in result.NotificationMessage.NotificationData or []:
            for item in getattr(data, "MonitoredItems", None) or []:
                value = item.Value.Value.Value if item.Value.Value is not None else None
                while isinstance(value, list):  # of an array its first element is watched
                    value = value[0] if value else None
                at = item.ClientHandle
                self.index.append(at)
                if isinstance(value, (int, float)):
                    self.value.append(float(value))
                    self.texts[at] = f"{value:.6g}"
                else:  # texts count by being different
                    words = getattr(value, "Text", value)
                    self.value.append(float(hash(str(words)) % 1000))
                    self.texts[at] = "" if words is None else str(words)
                self.counts[at] = self.counts.get(at, -1) + 1


async def _watched(
    services: UaSession,
    nodes: Sequence[ua.NodeId],
    variables: Sequence[Variable],
    options: Options,
    limits: Limits,
) -> tuple[Observed, dict[int, str]]:
    """Subscribe to an even choice of the variables for the seconds given."""
    n = len(variables)
    most = min(options.most_watched, limits.items_per_subscription or n, n)
    chosen = sorted({int(i) for i in np.linspace(0, n - 1, most)}) if n else []
    # An array or a structure is watched once, for its first part.
    first = {nodes[i].to_string(): i for i in reversed(range(n))}
    chosen = [i for i in chosen if first[nodes[i].to_string()] == i]
    seen = _Seen()
    parameters = ua.CreateSubscriptionParameters()
    parameters.RequestedPublishingInterval = 250
    parameters.RequestedMaxKeepAliveCount = 4
    parameters.RequestedLifetimeCount = 240
    parameters.MaxNotificationsPerPublish = 10_000
    parameters.PublishingEnabled = True
    options.say("watching", {"n": len(chosen), "of": n, "s": options.seconds})
    result = await services.create_subscription(parameters, seen.take)
    try:
        wanted = {i: nodes[i] for i in chosen}
        watched = await _monitored(services, result.SubscriptionId, wanted, limits)
        begin = time.monotonic()
        while (passed := time.monotonic() - begin) < options.seconds:
            await asyncio.sleep(min(0.5, options.seconds - passed))
            options.show(_shown(seen, variables, time.monotonic() - begin), passed)
    finally:
        with suppress(OSError, TimeoutError, ua.UaError):
            await services.delete_subscriptions([result.SubscriptionId])
    seconds = time.monotonic() - begin
    index, value = np.array(seen.index, np.int64), np.array(seen.value, np.float64)
    return propose.observe(n, seconds, watched, index, value), seen.texts


async def _monitored(
    services: UaSession, subscription: int, nodes: dict[int, ua.NodeId], limits: Limits
) -> list[int]:
    """Handles that the server monitors."""
    handles = list(nodes)
    out: list[int] = []
    for at in range(0, len(handles), limits.items_per_call):
        part = handles[at : at + limits.items_per_call]
        parameters = ua.CreateMonitoredItemsParameters()
        parameters.SubscriptionId = subscription
        parameters.TimestampsToReturn = ua.TimestampsToReturn.Neither
        parameters.ItemsToCreate = [_item(nodes[handle], handle) for handle in part]
        results = await services.create_monitored_items(parameters)
        out += [h for h, r in zip(part, results, strict=True) if r.StatusCode.is_good()]
    return out


def _item(node: ua.NodeId, handle: int) -> ua.MonitoredItemCreateRequest:
    item = ua.MonitoredItemCreateRequest()
    item.ItemToMonitor.NodeId = node
    item.ItemToMonitor.AttributeId = ua.AttributeIds.Value
    item.MonitoringMode = ua.MonitoringMode.Reporting
    item.RequestedParameters.ClientHandle = handle
    item.RequestedParameters.SamplingInterval = 100
    item.RequestedParameters.QueueSize = 20
    return item


def _shown(
    seen: _Seen, variables: Sequence[Variable], seconds: float
) -> dict[str, tuple[str, float]]:
    busy = sorted(seen.counts, key=lambda i: (-seen.counts[i], i))[:_SHOWN]
    return {
        variables[i].signal.path: (seen.texts[i], seen.counts[i] / max(seconds, 0.1)) for i in busy
    }


def liveliest(
    variables: Sequence[Variable], seen: Observed, texts: dict[int, str], most: int = _SHOWN
) -> dict[str, tuple[str, float]]:
    """Path to (last value, values a second) of the variables that changed most."""
    order = np.argsort(-seen.samples, kind="stable")[:most].tolist()
    return {
        variables[i].signal.path: (texts[i], float(seen.samples[i]) / max(seen.seconds, 0.1))
        for i in order
        if i in texts
    }
