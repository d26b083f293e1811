"""Samples that programs push over HTTP: into the registry, the history and the live values.

A path belongs to the source that brought it first; a sender writes only its own. A body is stored
once, by the sender's ``(source, session, seq)`` or by its idempotency key; both are kept in the
history's log beside the samples themselves, so a restart forgets neither.
"""

import asyncio
import logging
import re
import secrets
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workshop_brain.app.ingest import Ingest
from workshop_brain.connect.push.decode import MOST_SIGNALS, Body, Described, digest63
from workshop_brain.connect.rejected import Shelf
from workshop_brain.connect.rows import (
    TEXT,
    Fault,
    Faults,
    Rows,
    cause_of,
    definition,
    full_path,
    kinds,
)
from workshop_brain.errors import PushError
from workshop_brain.live.table import LiveTable
from workshop_brain.model.signal import Quality, Samples, SignalDef, SignalKind
from workshop_brain.ports import Clock
from workshop_brain.units import NS_PER_DAY, NS_PER_H, NS_PER_S

log = logging.getLogger(__name__)

PROTOCOL = "http"
MOST_OF_SENDER = 50_000
"""Signals that one sender may add in all."""
_LATE_NS = 60 * NS_PER_S
"""Older rows are history: they do not carry plant time."""
_ANSWERS = 2000
_KEYS_OF_DAY = re.compile(rf"#(\d{{1,9}})/{PROTOCOL}/")
_LOG_EVERY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What became of one body.

    Attributes
    ----------
    errors
        The first hundred rows that were not taken; ``rejected`` counts all.
    is_repeat
        The body was stored before; nothing was stored now.
    """

    taken: int
    rejected: int
    errors: tuple[Fault, ...] = ()
    is_repeat: bool = False


@dataclass(frozen=True, slots=True)
class _Number:
    """Under what the history keeps a body: ``source`` is a name of its own, not the signals'."""

    source: str
    session: int
    seq: int
    is_key: bool = False


class Push:
    """Takes bodies in, one after the other; the waiting for the disk is shared.

    Parameters
    ----------
    live
        Tells which signals there are and whose they are.
    kept
        Where rows and bodies that could not be taken are kept for diagnosis.
    """

    def __init__(
        self,
        *,
        enterprise: str,
        ingest: Ingest,
        live: LiveTable,
        clock: Clock,
        kept: Shelf,
    ) -> None:
        self.kept = kept
        self._enterprise = enterprise
        self._ingest = ingest
        self._live = live
        self._clock = clock
        self._one = asyncio.Lock()
        self._own_session = secrets.randbits(63)
        self._own_seq = 0
        self._answers: OrderedDict[tuple[str, int, int], Pushed] = OrderedDict()
        self._seen: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._day = 0
        self._logged: dict[tuple[str, str], float] = {}

    async def take(
        self,
        sender: str,
        body: Body,
        *,
        key: str = "",
        digest: int = 0,
        every_s: float = 0.0,
    ) -> Pushed:
        """Store a body and return once it is durable.

        Parameters
        ----------
        sender
            Name of the user whose token it came with; its source is ``http/sender``.
        key, digest
            Idempotency key and digest of the body's bytes; without a key the body's own
            ``(source, session, seq)`` counts, without either it is stored whenever it comes.
        every_s
            How often this sender pushes, seconds; after three times that in silence its values are
            stale. 0: it comes now and then.

        Raises
        ------
        PushError
            The key was used for another body.
        StoreError
            History cannot be written now; nothing is acknowledged, send the same again.
        """
        source = f"{PROTOCOL}/{sender}"
        async with self._one:
            self._forget_old_keys()
            number = self._number(source, body, key, digest)
            known = self._known(number)
            if known and number.is_key and known != number.seq:
                raise PushError(
                    f"idempotency key {key[:80]!r} was used for another body; take a new key for "
                    "each body"
                )
            is_repeat = known >= number.seq if not number.is_key else known > 0
            told = self._answers.get((number.source, number.session, number.seq))
            if told is None:
                told = await self._store(source, body, number, every_s, store=not is_repeat)
        await self._ingest.durable()
        return replace(told, is_repeat=is_repeat)

    def unreadable(self, sender: str, data: bytes, why: str) -> None:
        """Count and keep a body that cannot be decoded at all."""
        source = f"{PROTOCOL}/{sender}"
        self._ingest.refused(source, PROTOCOL, 1)
        self.kept.note(source, "unreadable", "POST samples", why, data)
        if time.monotonic() - self._logged.get((source, ""), -_LOG_EVERY_S) >= _LOG_EVERY_S:
            self._logged[source, ""] = time.monotonic()
            log.warning("%s: a body cannot be read: %s", source, why)

    # -- numbers --

    def _number(self, source: str, body: Body, key: str, digest: int) -> _Number:
        if key:
            return self._key_number(source, digest63(key.encode()), digest >> 1 or 1)
        if body.seq:
            name = f"{source}/{body.source[:120]}" if body.source else f"{source}/"
            return _Number(name, body.session, body.seq)
        self._own_seq += 1
        return _Number(source, self._own_session, self._own_seq)

    def _key_number(self, source: str, session: int, seq: int) -> _Number:
        """Keys live for today and tomorrow (UTC), so that their number stays bounded."""
        for day in (self._day, self._day - 1):
            number = _Number(f"#{day}/{source}", session, seq, is_key=True)
            if self._known(number):
                return number
        return _Number(f"#{self._day}/{source}", session, seq, is_key=True)

    def _known(self, number: _Number) -> int:
        """Last sequence number of its session, durable or on the way."""
        where = number.source, number.session
        return self._seen.get(where, 0) or self._ingest.historian.last_seq(*where)

    def _forget_old_keys(self) -> None:
        day = self._clock.wall_ns() // NS_PER_DAY
        if day == self._day:
            return
        self._day = day

        def keep(name: str) -> bool:
            found = _KEYS_OF_DAY.match(name)
            return found is None or int(found[1]) >= day - 1

        gone = self._ingest.historian.forget_sessions(keep)
        log.info("%d idempotency keys of before yesterday are forgotten", gone)

    # -- storing --

    async def _store(
        self, source: str, body: Body, number: _Number, every_s: float, *, store: bool
    ) -> Pushed:
        rows, faults = self._checked(source, body)
        samples = self._samples(source, rows, body.described, store=store)
        told = Pushed(taken=len(rows), rejected=faults.count, errors=tuple(faults.named))
        if not store:
            return told
        if len(samples):
            await asyncio.to_thread(
                self._ingest.historian.append,
                samples, source=number.source, session=number.session, seq=number.seq,
            )  # fmt: skip
            self._remember(number, told)
        patience_s = 3.0 * every_s if every_s > 0 else float("inf")
        received_ns = self._clock.wall_ns()
        self._ingest.pushed(source, PROTOCOL, samples, received_ns, patience_s=patience_s)
        if faults.count:
            self._ingest.refused(source, PROTOCOL, faults.count)
            self._log(source, faults)
        return told

    def _remember(self, number: _Number, told: Pushed) -> None:
        self._seen[number.source, number.session] = number.seq
        self._answers[number.source, number.session, number.seq] = told
        while len(self._answers) > _ANSWERS:
            self._answers.popitem(last=False)
        while len(self._seen) > _ANSWERS:
            self._seen.popitem(last=False)

    def _checked(self, source: str, body: Body) -> tuple[Rows, Faults]:
        """The rows that this sender may write, and all that is wrong with the others."""
        rows = body.rows
        faults = Faults(body.faults.count, list(body.faults.named), dict(body.faults.by_cause))
        now = max(self._clock.plant_ns(), self._clock.wall_ns())
        late = rows.time_ns > now + NS_PER_H
        _note(faults, rows, late, "time", "samples.far_time", rows.time_ns)
        rows = rows.where(~late)
        paths = [full_path(self._enterprise, name) for name in rows.names]
        owner = self._owners(source, paths)
        foreign = np.array([o != source for o in owner] or [False])[rows.name]
        for k in np.flatnonzero(foreign).tolist():
            at = int(rows.name[k])
            id = "samples.foreign_path" if owner[at] else "samples.too_many"
            params = {"owner": owner[at]} if owner[at] else {"most": MOST_OF_SENDER}
            faults.add(int(rows.row[k]), "path", rows.names[at], id, **params)
        rows = rows.where(~foreign)
        wants_text = self._wants_text(paths, rows, body.described)[rows.name]
        is_text = rows.form == TEXT
        number = wants_text & ~is_text & ~np.isnan(rows.value)
        _note(faults, rows, number, "value", "samples.is_text", rows.value)
        text = ~wants_text & is_text
        _note(faults, rows, text, "value", "samples.is_number", rows.value)
        return rows.where(~number & ~text), faults

    def _owners(self, source: str, paths: list[str]) -> list[str]:
        """Whose each path is: this source's when nobody's; "" when it would be one too many."""
        live = self._live
        fresh = {p for p in paths if p not in live.ids}
        room = MOST_SIGNALS
        if fresh:
            own = Counter(s.source for s in live.signals)[source]
            room = min(MOST_SIGNALS, MOST_OF_SENDER - own)
        allowed = set(sorted(fresh)[: max(room, 0)]) if len(fresh) > room else fresh
        return [
            live.signals[live.ids[p]].source or "?"
            if p in live.ids
            else (source if p in allowed else "")
            for p in paths
        ]

    def _wants_text(
        self, paths: list[str], rows: Rows, described: dict[str, Described]
    ) -> NDArray[np.bool_]:
        """Whether each name's signal holds texts; shape (names,)."""
        out = []
        for path, name, kind in zip(paths, rows.names, kinds(rows), strict=True):
            if path in self._live.ids:
                kind = self._live.signals[self._live.ids[path]].kind
            elif (told := described.get(name)) is not None and told.kind is not None:
                kind = told.kind
            out.append(kind is SignalKind.TEXT)
        return np.array(out or [False])

    def _samples(
        self, source: str, rows: Rows, described: dict[str, Described], *, store: bool
    ) -> Samples:
        """Columns with registry ids; unknown signals are declared when it is to be stored."""
        ids = np.zeros(max(len(rows.names), 1), np.uint32)
        value = rows.value
        if store:
            ids = self._declare(source, rows, described)
            if (is_text := rows.form == TEXT).any():
                used = np.unique(value[is_text]).astype(np.int64)
                codes = np.zeros(len(rows.texts))
                codes[used] = self._ingest.historian.intern([_text(rows.texts[k]) for k in used])
                value = value.copy()
                value[is_text] = codes[value[is_text].astype(np.int64)]
        quality = rows.quality
        past = rows.time_ns < self._clock.plant_ns() - _LATE_NS
        quality = quality | np.where(past, int(Quality.HISTORICAL), 0).astype(np.uint8)
        return Samples(ids[rows.name], rows.time_ns, value, quality)

    def _declare(
        self, source: str, rows: Rows, described: dict[str, Described]
    ) -> NDArray[np.uint32]:
        live, used = self._live, set(np.unique(rows.name).tolist())
        out = np.zeros(max(len(rows.names), 1), np.uint32)
        new: dict[str, SignalDef] = {}
        paths = [full_path(self._enterprise, name) for name in rows.names]
        for at, (name, path, kind) in enumerate(zip(rows.names, paths, kinds(rows), strict=True)):
            if at in used and path not in live.ids and path not in new:
                told = described.get(name, Described())
                kind = kind if told.kind is None else told.kind
                new[path] = definition(
                    path, kind, source=source, address=name,
                    unit=told.unit, low=told.low, high=told.high,
                )  # fmt: skip
        if new:
            ids = self._ingest.historian.declare(list(new.values()))
            self._ingest.on_declared(list(ids), list(new.values()))
        for at in used:
            out[at] = live.ids[paths[at]]
        return out

    def _log(self, source: str, faults: Faults) -> None:
        now = time.monotonic()
        for fault, count in faults.once_per_cause():
            shown = f"{fault.row}\t{fault.column}\t{fault.value}".encode("utf-8", "replace")
            self.kept.note(source, cause_of(fault), f"row {fault.row}", str(fault), shown)
            at = source, fault.id
            if now - self._logged.get(at, -_LOG_EVERY_S) >= _LOG_EVERY_S:
                self._logged[at] = now
                log.warning("%s: %d rows are left out, the first: %s", source, count, fault)


def _note(
    faults: Faults, rows: Rows, wrong: NDArray[np.bool_], column: str, id: str, shown: Any
) -> None:
    for k in np.flatnonzero(wrong).tolist():
        value = shown[k] if rows.form[k] != TEXT or column != "value" else rows.texts[int(shown[k])]
        faults.add(int(rows.row[k]), column, value, id)


def _text(text: str) -> str:
    """A text that can be stored: lone surrogates replaced."""
    return text.encode("utf-8", "replace").decode()
