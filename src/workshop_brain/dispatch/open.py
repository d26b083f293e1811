"""From settings to ways out."""

from collections.abc import Sequence

from workshop_brain.dispatch.book import JobBook, MemoryBook
from workshop_brain.dispatch.dry_run import DryRunDispatcher
from workshop_brain.dispatch.settings import DispatchSettings
from workshop_brain.errors import ConfigError
from workshop_brain.ports import Dispatcher

WAYS = ("job_order", "handshake", "work_list", "dry_run")


def open_dispatchers(
    settings: Sequence[DispatchSettings], *, book: JobBook | None = None
) -> dict[str, Dispatcher]:
    """Work center to its way out; ways to one OPC UA endpoint share one session.

    ``book`` keeps the jobs of ways without a receiver of their own (people, handshake).
    """
    links: dict[tuple[str, float], object] = {}
    out: dict[str, Dispatcher] = {}
    for row in settings:
        if row.work_center in out:
            raise ConfigError(f"dispatch: work center {row.work_center!r} has two ways out")
        out[row.work_center] = open_dispatcher(row, book=book, links=links)
    return out


def open_dispatcher(
    settings: DispatchSettings,
    *,
    book: JobBook | None = None,
    links: dict[tuple[str, float], object] | None = None,
) -> Dispatcher:
    """The way out that the settings name; nothing is connected yet.

    Raises
    ------
    ConfigError
        An unknown way, or an OPC UA way without url or receiver.
    """
    where = f"dispatch for {settings.work_center!r}"
    if settings.way not in WAYS:
        raise ConfigError(f"{where}: way must be one of {', '.join(WAYS)}, got {settings.way!r}")
    if settings.way == "dry_run":
        return DryRunDispatcher(work_center=settings.work_center)
    if settings.way == "work_list":
        from workshop_brain.dispatch.work_list import WorkListDispatcher

        return WorkListDispatcher(
            work_center=settings.work_center,
            book=book if book is not None else MemoryBook(),
            timeout_s=settings.timeout_s,
        )
    if not settings.url or not settings.receiver:
        missing = "url" if not settings.url else "receiver"
        raise ConfigError(f"{where}: {settings.way} needs {missing}")
    from workshop_brain.dispatch.handshake import HandshakeDispatcher
    from workshop_brain.dispatch.opcua_job import JobOrderDispatcher
    from workshop_brain.dispatch.opcua_link import OpcUaLink

    links = links if links is not None else {}
    link = links.setdefault(
        (settings.url, settings.timeout_s), OpcUaLink(settings.url, timeout_s=settings.timeout_s)
    )
    assert isinstance(link, OpcUaLink)
    if settings.way == "handshake":
        return HandshakeDispatcher(
            link,
            receiver=settings.receiver,
            work_center=settings.work_center,
            timeout_s=settings.timeout_s,
            book=book,
        )
    return JobOrderDispatcher(
        link,
        receiver=settings.receiver,
        work_center=settings.work_center,
        timeout_s=settings.timeout_s,
    )
