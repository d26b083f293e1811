"""The Sparkplug host's state machine: births, aliases, sequence numbers, deaths (Sparkplug 3.0).

No I/O here: messages come in by ``message``, samples go into the outbox, rebirth requests out by
``send``. Time is an argument.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from workshop_brain.connect import packml, tags
from workshop_brain.connect.choice import Choice
from workshop_brain.connect.outbox import Outbox
from workshop_brain.connect.rows import MOST_NAME, MOST_TEXT
from workshop_brain.connect.sparkplug import wire
from workshop_brain.connect.sparkplug.node import LEFT_OUT, NO_SIGNAL, EdgeNode, Row
from workshop_brain.connect.sparkplug.wire import AliasTable, Data, DataType, Metric
from workshop_brain.errors import DecodeError
from workshop_brain.model.curve import Curve
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.signal import Quality, Samples, SignalDef, SignalKind
from workshop_brain.units import NS_PER_H, NS_PER_MS, NS_PER_S

log = logging.getLogger(__name__)

NAMESPACE = "spBv1.0"
REBIRTH_EVERY_NS = 2 * NS_PER_S
_HELD_UP_NS = NS_PER_S // 2
_LOG_EVERY_NS = 10 * NS_PER_S
_CURVES_KNOWN = 8192
_TWINS_BREAKS, _TWINS_NS = 5, 30 * NS_PER_S
"""So many breaks of its sequence in so short a time: two edge nodes use one id."""
_INTEGER_TYPES = frozenset(DataType(n) for n in range(1, 9))


@dataclass(slots=True, eq=False)
class Host:
    """All edge nodes of one broker.

    Parameters
    ----------
    send
        ``(topic, payload)``: publish a command.
    choice
        Which metrics are taken; None takes all as the births tell.
    """

    source: str
    enterprise: str
    outbox: Outbox
    send: Callable[[str, bytes], None]
    choice: Choice | None = None
    nodes: dict[tuple[str, str], EdgeNode] = field(default_factory=dict)
    gaps: int = 0
    rejected: int = 0
    _declared: dict[str, int] = field(default_factory=dict)
    _defs: dict[str, SignalDef] = field(default_factory=dict)
    _last_value: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    _gap: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    _is_text: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    _is_state: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    _any_gap: bool = False
    _curves_seen: OrderedDict[tuple[str, str, int, int], None] = field(default_factory=OrderedDict)
    _watched_ns: int = 0
    _now_ns: int = 0
    _logged: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Cause to when it was last logged and how often it occurred since."""

    def message(self, topic: str, payload: bytes, now_ns: int) -> None:
        """Take one message; what is malformed is counted and logged, never raised."""
        parts = topic.split("/")
        if len(parts) not in (4, 5) or parts[0] != NAMESPACE or parts[1] == "STATE":
            return
        group, kind, node_id = parts[1], parts[2], parts[3]
        device = parts[4] if len(parts) == 5 else ""
        node = self.nodes.get((group, node_id))
        if node is None:
            node = self.nodes[group, node_id] = EdgeNode(group, node_id)
        self._now_ns = now_ns
        try:
            if kind in _SPOKEN:
                self._heard(node, kind, now_ns)
                payload = wire.inflated(payload)
            if kind in ("DDATA", "NDATA"):
                self._data(node, device, payload, now_ns)
            elif kind == "NBIRTH":
                self._node_birth(node, payload, now_ns)
            elif kind == "DBIRTH":
                self._device_birth(node, device, payload, now_ns)
            elif kind == "NDEATH":
                self._node_death(node, payload, now_ns)
            elif kind == "DDEATH":
                self._device_death(node, device, payload, now_ns)
        except DecodeError as error:
            self.reject(topic, error, now_ns, payload)
            if kind != "NDEATH":
                self._rebirth(node, "unreadable message", now_ns)

    def reject(self, topic: str, error: Exception, now_ns: int, payload: bytes) -> None:
        """Count, keep and name a message that could not be taken."""
        self._now_ns = now_ns
        if isinstance(error, DecodeError):
            self._keep("unreadable", topic, str(error), payload)
        else:
            self._keep("broken", topic, f"message is left out: {error!r}", payload, error)

    def _keep(
        self, cause: str, where: str, why: str, payload: bytes, error: Exception | None = None
    ) -> None:
        """Count and keep what could not be taken; of each cause one in ten seconds is logged."""
        self.rejected += 1
        self.outbox.kept.note(cause, where, why, payload)
        since_ns, more = self._logged.get(cause, (-(1 << 62), 0))
        if 0 <= self._now_ns - since_ns < _LOG_EVERY_NS:
            self._logged[cause] = since_ns, more + 1
            return
        self._logged[cause] = self._now_ns, 0
        level = logging.WARNING if error is None else logging.ERROR
        also = f" ({more} more since the last such line)" if more else ""
        log.log(
            level, "%s: %s: %s: %s%s", self.source, cause, where[:300], why, also, exc_info=error
        )

    def connected(self, now_ns: int) -> None:
        """The broker is there: from now on silence counts."""
        self._watched_ns = now_ns
        for node in self.nodes.values():
            node.pace.rest(now_ns)

    # --- silence ---

    def watch(self, now_ns: int) -> None:
        """Look for nodes that are silent for longer than is usual; ten times a second.

        Half way to the limit a node is asked for its births: one that has nothing to say answers.
        When this process itself was held up, nobody's silence counts.
        """
        if not 0 <= now_ns - self._watched_ns < _HELD_UP_NS:
            self.connected(now_ns)
            return
        self._watched_ns = now_ns
        for node in self.nodes.values():
            limit_ns = node.pace.limit_ns()
            if limit_ns is None or node.is_dead or node.is_silent or not node.rows:
                continue
            silent_ns = now_ns - node.pace.heard_ns
            if silent_ns >= limit_ns and node.probed_ns > node.pace.heard_ns:
                self._silent(node, silent_ns, now_ns)
            elif 2 * silent_ns >= limit_ns and node.probed_ns <= node.pace.heard_ns:
                node.probed_ns = now_ns
                self._ask(node, f"silent for {silent_ns / NS_PER_S:.1f} s", now_ns)

    def _silent(self, node: EdgeNode, silent_ns: int, now_ns: int) -> None:
        node.is_silent = True
        silent_s = round(silent_ns / NS_PER_S, 1)
        log.warning("%s: edge node %s is silent for %.1f s", self.source, node.name, silent_s)
        self._event(node, EventKind.DEATH, "", -1, now_ns, silent_s=silent_s)

    def _heard(self, node: EdgeNode, kind: str, now_ns: int) -> None:
        """Note that a node spoke; one that was taken for silent is back.

        The silence of a node that answers requests is not learned, for it would have answered;
        that of another stretches the limit, so that it is not called silent again and again.
        """
        longest_ns = None
        if node.is_silent:
            longest_ns = node.pace.usual_ns() if node.answers else node.pace.limit_ns()
            if node.is_born and kind != "NBIRTH":  # a birth speaks for itself
                node.is_silent = False
                silent_s = round((now_ns - node.pace.heard_ns) / NS_PER_S, 1)
                log.info("%s: edge node %s speaks again", self.source, node.name)
                self._event(node, EventKind.BIRTH, "", -1, now_ns, silent_s=silent_s)
        node.pace.heard(now_ns, longest_ns=longest_ns)

    def disconnected(self) -> None:
        """The broker is away: what comes next may have a hole before it."""
        for node in self.nodes.values():
            if node.is_born:
                self._mark_gap(node.locals())
            node.is_born = False
            node.seq = -1

    # --- births ---

    def _node_birth(self, node: EdgeNode, payload: bytes, now_ns: int) -> None:
        birth = wire.read_payload(payload)
        bd_seq = [m.value for m in birth.metrics if m.name == "bdSeq"]
        node.bd_seq = int(bd_seq[0]) if bd_seq and isinstance(bd_seq[0], int) else -1
        node.rows, node.by_alias, node.by_name = [], {}, {}
        node.curves, node.alive = {}, set()
        node.leaves_out = node.has_states = False
        node.table = AliasTable()
        node.seq = birth.seq if birth.seq >= 0 else 0
        node.is_born = True
        node.is_dead = node.is_silent = False
        node.answers, node.is_asked = node.answers or node.is_asked, False
        self._event(node, EventKind.BIRTH, "", birth.time_ms, now_ns)
        self._born(node, "", birth, now_ns)

    def _device_birth(self, node: EdgeNode, device: str, payload: bytes, now_ns: int) -> None:
        birth = wire.read_payload(payload)
        if not node.is_born:
            self._rebirth(node, "device birth before node birth", now_ns)
            return
        self._sequence(node, birth.seq, now_ns)
        node.alive.add(device)
        self._born(node, device, birth, now_ns)

    def _born(self, node: EdgeNode, device: str, birth: wire.Payload, now_ns: int) -> None:
        known = [m for m in birth.metrics if _is_signal(m)]
        fresh: list[SignalDef] = []
        placed: list[tuple[Metric, SignalDef]] = []
        for metric in known:
            signal = self._signal(node, device, metric)
            if signal is NO_SIGNAL:
                self._leave_out(node, device, metric)
            if signal is None or signal is NO_SIGNAL:
                continue
            placed.append((metric, signal))
            if signal.path not in self._declared:
                self._declared[signal.path] = len(self.outbox.signals) + len(fresh)
                fresh.append(signal)
            elif self._defs[signal.path] != signal:
                # The last birth is right; the local id may not change its kind, so it gets a new.
                self._declared[signal.path] = len(self.outbox.signals) + len(fresh)
                fresh.append(signal)
            self._defs[signal.path] = signal
        if fresh:
            self.outbox.declare(fresh)
            self._grow()
        for metric, signal in placed:
            self._place(node, device, metric, signal)
        for metric in birth.metrics:
            if metric.datatype == DataType.DATASET and 0 <= metric.alias < wire.MOST_ALIASES:
                if place := self._curve_place(node, device, metric):
                    node.curves[metric.alias] = place
                node.by_alias[metric.alias] = len(node.rows)
                node.rows.append(Row(0, NO_SIGNAL, metric.datatype, device))
        node.table = node.columns()
        self._birth_samples(node, birth, placed, now_ns)

    def _birth_samples(
        self,
        node: EdgeNode,
        birth: wire.Payload,
        placed: list[tuple[Metric, SignalDef]],
        now_ns: int,
    ) -> None:
        """The values in a birth are samples like others."""
        if not placed:
            return
        n = len(placed)
        local = np.array([self._declared[s.path] for _, s in placed], np.uint32)
        stamps = [m.time_ms if m.time_ms >= 0 else birth.time_ms for m, _ in placed]
        value = np.array([self._birth_value(m, s) for m, s in placed], np.float64)
        quality = np.zeros(n, np.uint8)
        quality[np.isnan(value)] = Quality.BAD
        quality[[m.historical for m, _ in placed]] |= np.uint8(Quality.HISTORICAL)
        time_ns = np.array([_instant_ns(s, now_ns) for s in stamps], np.int64)
        self._hand_over(node, Samples(local, time_ns, value, quality), now_ns)

    def _birth_value(self, metric: Metric, signal: SignalDef) -> float:
        value = metric.value
        if signal.kind is SignalKind.TEXT:
            return float("nan") if value is None else self._text_code(signal, str(value))
        number = float(value) if isinstance(value, (int, float)) else float("nan")
        return number if np.isfinite(number) else float("nan")

    def _text_code(self, signal: SignalDef, text: str) -> float:
        """Code of a text; NaN, counted, for one that is longer than a signal's may be."""
        if len(text) <= MOST_TEXT:
            return float(self.outbox.text(text))
        why = f"a text of {len(text)} characters; at most {MOST_TEXT} are taken"
        self._keep("long_text", signal.address, why, text.encode())
        return float("nan")

    def _signal(self, node: EdgeNode, device: str, metric: Metric) -> SignalDef | None:
        """The signal of a metric; None when its name cannot be one, NO_SIGNAL when left out."""
        given = metric.properties
        if len(metric.name) > MOST_NAME:
            why = f"a metric name of {len(metric.name)} characters; at most {MOST_NAME} are taken"
            self._keep("long_name", f"{node.name}/{device}", why, metric.name.encode())
            return None
        path = self._path(node, device, metric)
        name = path.rsplit("/", 1)[1]
        kind_name = str(given.get("kind", "")).upper()
        is_text = metric.datatype in wire.TEXT_TYPES
        if kind_name in SignalKind.__members__ and (kind_name == "TEXT") == is_text:
            kind = SignalKind[kind_name]
        else:
            kind = tags.kind_of(
                name,
                is_bool=metric.datatype == DataType.BOOLEAN,
                is_text=is_text,
                is_integer=metric.datatype in _INTEGER_TYPES,
            )
        low, high = tags.range_of(name, kind, _float(given, "engLow"), _float(given, "engHigh"))
        address = f"{node.group}/{node.id}/{device}/{metric.name}"
        try:
            signal = SignalDef(
                path=path,
                kind=kind,
                unit=str(given.get("engUnit") or "")[:40],
                low=low,
                high=high,
                source=self.source,
                address=address,
            )
            return self._shaped(signal, _browse(node, device, metric))
        except ValueError as error:
            log.warning("%s: %s is left out: %s", self.source, address, error)
            return None

    def _shaped(self, signal: SignalDef, browse: str) -> SignalDef:
        if self.choice is None:
            return signal
        return self.choice.shaped(signal, browse) or NO_SIGNAL

    def _path(self, node: EdgeNode, device: str, metric: Metric) -> str:
        parts = [p for p in str(metric.properties.get("path") or "").split("/") if p]
        if not parts:
            parts = [node.group, node.id, *([device] if device else []), *metric.name.split("/")]
        elif len(parts) == 5:
            parts = [*parts, *metric.name.split("/")]
        return tags.signal_path(self.enterprise, parts)

    def _curve_place(self, node: EdgeNode, device: str, metric: Metric) -> tuple[str, str] | None:
        own = SignalDef(path=self._path(node, device, metric), kind=SignalKind.GAUGE)
        signal = self._shaped(own, _browse(node, device, metric))
        if signal is NO_SIGNAL:
            return None
        return signal.unit_path, str(metric.properties.get("program") or "")

    def _place(self, node: EdgeNode, device: str, metric: Metric, signal: SignalDef) -> None:
        node.has_states |= signal.name == tags.STATE_CURRENT
        self._put(node, metric, Row(self._declared[signal.path], signal, metric.datatype, device))

    def _leave_out(self, node: EdgeNode, device: str, metric: Metric) -> None:
        """Its alias stays known, so that its values are dropped and ask for no rebirth."""
        node.leaves_out = True
        self._put(node, metric, Row(LEFT_OUT, NO_SIGNAL, metric.datatype, device))

    def _put(self, node: EdgeNode, metric: Metric, row: Row) -> None:
        if 0 <= metric.alias < wire.MOST_ALIASES:
            node.by_alias[metric.alias] = len(node.rows)
        node.by_name[row.device, metric.name] = len(node.rows)
        node.rows.append(row)

    def _grow(self) -> None:
        n = len(self.outbox.signals)
        new = self.outbox.signals[len(self._gap) :]
        more = n - len(self._gap)
        self._last_value = np.concatenate([self._last_value, np.full(more, np.nan)])
        self._gap = np.concatenate([self._gap, np.zeros(more, np.bool_)])
        text = [s.kind is SignalKind.TEXT for s in new]
        state = [s.name == tags.STATE_CURRENT for s in new]
        self._is_text = np.concatenate([self._is_text, np.array(text, np.bool_)])
        self._is_state = np.concatenate([self._is_state, np.array(state, np.bool_)])

    # --- data ---

    def _data(self, node: EdgeNode, device: str, payload: bytes, now_ns: int) -> None:
        if not node.is_born:
            self._rebirth(node, "data before birth", now_ns)
            return
        data = wire.read_data(payload, node.table)
        self._sequence(node, data.seq, now_ns)
        if device and device not in node.alive:
            self._rebirth(node, f"data of {device} before its birth", now_ns)
        samples = Samples(data.signal, data.time_ns, data.value, data.quality)
        if len(data.special):
            samples = self._specials(node, device, payload, data, samples, now_ns)
        if node.leaves_out:
            samples = _without_left_out(samples)
        if len(samples):
            self._hand_over(node, samples, now_ns)

    def _specials(
        self,
        node: EdgeNode,
        device: str,
        payload: bytes,
        data: Data,
        samples: Samples,
        now_ns: int,
    ) -> Samples:
        extra: list[tuple[int, int, float, int]] = []
        for kind, row, at, size, alias, _, flags, number in data.special.tolist():
            if row >= 0 and samples.signal[row] == LEFT_OUT:
                continue
            if kind == wire.TEXT:
                text = payload[at : at + size].decode("utf-8", "replace")
                signal = self.outbox.signals[int(samples.signal[row])]
                if self._is_text[samples.signal[row]]:
                    samples.value[row] = self._text_code(signal, text)
                if np.isnan(samples.value[row]):
                    samples.quality[row] |= np.uint8(Quality.BAD)
            elif kind == wire.EXACT:
                digits = number + (1 << 64) if flags and number < 0 else number
                extra.append(self._exact(samples, row, digits))
            elif kind == wire.UNKNOWN_ALIAS:
                self._rebirth(node, f"unknown alias {alias}", now_ns)
            elif kind == wire.TABLE:
                self._curve(node, wire.read_metric(payload, at, at + size), data.time_ms)
            elif kind == wire.NAMED:
                named = self._named(node, device, payload, (at, at + size), data)
                if named is not None:
                    extra.append(named)
            else:
                place = f"{node.name}/{device}: alias {alias}"
                self._keep("no_signal_type", place, "bytes, a file or a template", payload)
        if not extra:
            return samples
        columns = list(zip(*extra, strict=True))
        return Samples(
            np.concatenate([samples.signal, np.array(columns[0], np.uint32)]),
            np.concatenate([samples.time_ns, np.array(columns[1], np.int64)]),
            np.concatenate([samples.value, np.array(columns[2], np.float64)]),
            np.concatenate([samples.quality, np.array(columns[3], np.uint8)]),
        )

    def _exact(self, samples: Samples, row: int, digits: int) -> tuple[int, int, float, int]:
        """A text sample with all digits of an integer beyond 2**53."""
        base = self.outbox.signals[int(samples.signal[row])]
        path = f"{base.path}_exact"
        if path not in self._declared:
            self._declared[path] = len(self.outbox.signals)
            self._defs[path] = SignalDef(
                path=path, kind=SignalKind.TEXT, source=self.source, address=base.address
            )
            self.outbox.declare([self._defs[path]])
            self._grow()
        code = self.outbox.text(str(digits))
        time_ns, quality = int(samples.time_ns[row]), int(samples.quality[row])
        return self._declared[path], time_ns, float(code), quality

    def _named(
        self, node: EdgeNode, device: str, payload: bytes, span: tuple[int, int], data: Data
    ) -> tuple[int, int, float, int] | None:
        """A metric that came by name instead of alias."""
        metric = wire.read_metric(payload, *span)
        at = node.by_name.get((device, metric.name))
        if at is None:
            if metric.datatype == DataType.DATASET or metric.table is not None:
                return None
            self._keep("unknown_name", f"{node.name}/{device}: {metric.name[:80]!r}",
                       "no birth named this metric", payload)  # fmt: skip
            return None
        row = node.rows[at]
        if row.local == LEFT_OUT:
            return None
        if not metric.datatype:
            metric.datatype = row.datatype
        stamp = metric.time_ms if metric.time_ms >= 0 else data.time_ms
        value = self._birth_value(metric, row.signal)
        quality = Quality.BAD if np.isnan(value) else Quality.GOOD
        if metric.historical:
            quality |= Quality.HISTORICAL
        return row.local, _instant_ns(stamp, 0), value, int(quality)

    def _curve(self, node: EdgeNode, metric: Metric, payload_ms: int) -> None:
        place = node.curves.get(metric.alias)
        if place is None or metric.table is None:
            return
        columns = metric.table.columns
        if not columns or not len(next(iter(columns.values()))):
            return
        station, program = place
        serial = str(metric.properties.get("serial") or "")
        step = metric.properties.get("step")
        stamp = metric.time_ms if metric.time_ms >= 0 else payload_ms
        curve = Curve(
            serial=serial,
            station=station,
            program=str(metric.properties.get("program") or program),
            step=int(step) if isinstance(step, int) else 0,
            time_ns=_instant_ns(stamp, 0),
            channels=columns,
        )
        key = (station, serial, curve.step, curve.time_ns)
        if key in self._curves_seen:
            return
        self._curves_seen[key] = None
        if len(self._curves_seen) > _CURVES_KNOWN:
            self._curves_seen.popitem(last=False)
        self.outbox.curve(curve)

    def _hand_over(self, node: EdgeNode, samples: Samples, now_ns: int) -> None:
        signal = samples.signal
        if node.has_states and (state := self._is_state[signal]).any():
            samples.value[state], listed = packml.unit_states(samples.value[state])
            samples.quality[state] |= np.where(listed, 0, int(Quality.BAD)).astype(np.uint8)
        live: slice | NDArray[np.intp] = slice(None)
        if samples.quality.any():
            live = np.flatnonzero((samples.quality & np.uint8(Quality.HISTORICAL)) == 0)
        if self._any_gap:
            self._apply_gap(samples, live)
        if len(signal[live]):
            self._last_value[signal[live]] = samples.value[live]
            newest = int(samples.time_ns[live].max())
            # A clock that was put back, or one stamp far ahead, does not keep the later time.
            put_back = newest < node.last_ns - NS_PER_H
            node.last_ns = newest if put_back else max(node.last_ns, newest)
        self.outbox.add(samples, now_ns)

    # --- sequence, gaps, rebirth ---

    def _sequence(self, node: EdgeNode, seq: int, now_ns: int) -> None:
        """seq counts 0..255 over all messages of a node but NDEATH (6.4.21)."""
        expected = (node.seq + 1) % 256
        if seq < 0:
            return
        if seq != expected:
            lost = (seq - expected) % 256
            self.gaps += 1
            self._count_break(node, now_ns)
            self._mark_gap(node.locals())
            payload = {
                "reason": "sequence gap", "expected": expected, "got": seq, "count": lost,
                "node": node.name, "lines": node.lines(),
            }  # fmt: skip
            now = node.last_ns or now_ns
            self.outbox.event(
                Event(time_ns=now, kind=EventKind.GAP, path=self.source, payload=payload)
            )
            self._rebirth(node, f"sequence {seq} where {expected} was due", now_ns)
        node.seq = seq

    def _count_break(self, node: EdgeNode, now_ns: int) -> None:
        if not 0 <= now_ns - node.breaks_since_ns < _TWINS_NS:
            node.breaks, node.breaks_since_ns = 0, now_ns
        node.breaks += 1
        if node.breaks == _TWINS_BREAKS:
            log.error(
                "%s: the sequence of edge node %s broke %d times in %.0f s; do two edge nodes use "
                "this id, or is the line bad?", self.source, node.name, node.breaks,
                (now_ns - node.breaks_since_ns) / NS_PER_S,
            )  # fmt: skip

    def _mark_gap(self, local: list[int]) -> None:
        if local:
            self._gap[local] = True
            self._any_gap = True

    def _apply_gap(self, samples: Samples, live: slice | NDArray[np.intp]) -> None:
        rows = np.arange(len(samples))[live]
        rows = rows[self._gap[samples.signal[rows]]]
        if not len(rows):
            return
        ids, first = np.unique(samples.signal[rows], return_index=True)
        samples.quality[rows[first]] |= np.uint8(Quality.GAP_BEFORE)
        self._gap[ids] = False
        self._any_gap = bool(self._gap.any())

    def _rebirth(self, node: EdgeNode, reason: str, now_ns: int) -> None:
        if now_ns - node.rebirth_asked_ns >= REBIRTH_EVERY_NS:
            self._ask(node, reason, now_ns)

    def _ask(self, node: EdgeNode, reason: str, now_ns: int) -> None:
        node.rebirth_asked_ns = now_ns
        node.is_asked = True
        log.info("%s: rebirth of %s asked for: %s", self.source, node.name, reason)
        topic = f"{NAMESPACE}/{node.group}/NCMD/{node.id}"
        self.send(topic, wire.rebirth_command(now_ns // NS_PER_MS))

    # --- deaths ---

    def _node_death(self, node: EdgeNode, payload: bytes, now_ns: int) -> None:
        death = wire.read_payload(payload)
        bd_seq = [m.value for m in death.metrics if m.name == "bdSeq"]
        if not node.is_born or (bd_seq and node.bd_seq >= 0 and bd_seq[0] != node.bd_seq):
            return  # the death of an earlier connection
        node.is_born = node.is_silent = False
        node.is_dead = True
        node.seq = -1
        self._stale(node, node.rows, now_ns, now_ns)
        self._event(node, EventKind.DEATH, "", -1, now_ns)

    def _device_death(self, node: EdgeNode, device: str, payload: bytes, now_ns: int) -> None:
        death = wire.read_payload(payload)
        self._sequence(node, death.seq, now_ns)
        node.alive.discard(device)
        rows = [row for row in node.rows if row.device == device]
        self._stale(node, rows, _instant_ns(death.time_ms, now_ns), now_ns)
        self._event(node, EventKind.DEATH, device, death.time_ms, now_ns)

    def _stale(self, node: EdgeNode, rows: list[Row], at_ns: int, now_ns: int) -> None:
        """One sample per signal: the last value with bad quality, behind the last that was seen.

        at_ns
            When the death was; one before the last sample, or an hour behind it and more, is of
            another clock than the node's.
        """
        local = np.array([r.local for r in rows if r.signal is not NO_SIGNAL], np.uint32)
        if not len(local):
            return
        n = len(local)
        behind = (node.last_ns or now_ns) + NS_PER_MS
        at = at_ns if behind <= at_ns < behind + NS_PER_H else behind
        node.last_ns = at
        quality = np.full(n, int(Quality.BAD), np.uint8)
        value = self._last_value[local]
        self.outbox.add(Samples(local, np.full(n, at, np.int64), value, quality), now_ns)
        self._mark_gap(local.tolist())

    def _event(
        self,
        node: EdgeNode,
        kind: EventKind,
        device: str,
        time_ms: int,
        now_ns: int,
        **more: object,
    ) -> None:
        """Birth or death of a node, with the lines that it feeds, or of one of its devices."""
        now = _instant_ns(time_ms, node.last_ns or now_ns)
        path = f"{node.name}/{device}" if device else node.name
        payload: dict[str, object] = {"source": self.source, **more}
        if not device:
            payload["lines"] = node.lines()
        self.outbox.event(Event(time_ns=now, kind=kind, path=path, payload=payload))


def _instant_ns(time_ms: int, otherwise: int) -> int:
    """A stamp in ns; one that is missing or fits into no 64-bit nanoseconds is not believed."""
    return time_ms * NS_PER_MS if 0 <= time_ms <= wire.MOST_MS else otherwise


_SPOKEN = frozenset({"DDATA", "NDATA", "NBIRTH", "DBIRTH", "DDEATH"})


def _browse(node: EdgeNode, device: str, metric: Metric) -> str:
    return "/".join(part for part in (node.group, node.id, device, metric.name) if part)


def _without_left_out(samples: Samples) -> Samples:
    kept = samples.signal != np.uint32(LEFT_OUT)
    if kept.all():
        return samples
    return Samples(
        samples.signal[kept], samples.time_ns[kept], samples.value[kept], samples.quality[kept]
    )


def _is_signal(metric: Metric) -> bool:
    if metric.name == "bdSeq" or metric.name.startswith(("Node Control/", "Device Control/")):
        return False
    return metric.datatype in wire.NUMBER_TYPES or metric.datatype in wire.TEXT_TYPES


def _float(given: dict[str, wire.Scalar], key: str) -> float:
    value = given.get(key)
    return float(value) if isinstance(value, (int, float)) else 0.0
