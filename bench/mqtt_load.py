"""The load of bench/mqtt.py: Sparkplug, JSON documents or single values, paced, on a bare socket.

    python -m bench.mqtt_load --port 1883 --kind sparkplug|json|value [--devices 150] [--hz 4]

Every value is the number of its tick. A line ``stop`` on standard input ends it; then it prints the
last tick and how many messages came late by more than a tick.
"""

import argparse
import os
import select
import socket
import sys
import time

import numpy as np
import orjson

from workshop_brain.twin import sparkplug_wire as wire

NODES = 10
GROUP = "bench"
K = wire.DataType


def connect(port: int) -> socket.socket:
    """A connection to the broker as MQTT 3.1.1 client."""
    link = socket.create_connection(("127.0.0.1", port))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    name = f"load-{os.getpid()}".encode()
    body = b"\0\4MQTT\4\2\0\0" + len(name).to_bytes(2, "big") + name
    link.sendall(b"\x10" + wire.varint(len(body)) + body)
    if link.recv(4) != b"\x20\2\0\0":
        raise OSError("the broker does not take us")
    return link


def publish(topic: bytes, payload: bytes) -> bytes:
    """A PUBLISH packet of quality of service 0."""
    size = 2 + len(topic) + len(payload)
    return b"".join((b"\x30", wire.varint(size), len(topic).to_bytes(2, "big"), topic, payload))


class Sparkplug:
    """NODES edge nodes that share the devices; every metric is a double."""

    def __init__(self, devices: int, metrics: int) -> None:
        self.devices, self.metrics = devices, metrics
        self.seq = [0] * NODES
        self.alias = np.arange(devices * metrics, dtype=np.int64)
        self.kinds = np.full(devices * metrics, K.DOUBLE, np.uint8)

    def _numbered(self, node: int) -> int:
        seq = self.seq[node]
        self.seq[node] = (seq + 1) % 256
        return seq

    def births(self) -> bytes:
        """All births; their values are tick 0."""
        now = time.time_ns() // 1_000_000
        parts = []
        for node in range(NODES):
            self.seq[node] = 0
            zero = wire.scalar(K.INT64, 0)
            number = wire.metric_bytes(name="bdSeq", time_ms=now, datatype=K.INT64, value=zero)
            payload = wire.payload_bytes(now, [number], self._numbered(node))
            parts.append(publish(f"spBv1.0/{GROUP}/NBIRTH/n{node}".encode(), payload))
        for device in range(self.devices):
            rows = [
                wire.metric_bytes(name=f"v{m}", alias=device * self.metrics + m, time_ms=now,
                                  datatype=K.DOUBLE, value=wire.scalar(K.DOUBLE, 0.0))
                for m in range(self.metrics)
            ]  # fmt: skip
            payload = wire.payload_bytes(now, rows, self._numbered(device % NODES))
            parts.append(publish(self._topic("DBIRTH", device), payload))
        return b"".join(parts)

    def _topic(self, kind: str, device: int) -> bytes:
        return f"spBv1.0/{GROUP}/{kind}/n{device % NODES}/d{device}".encode()

    def message(self, device: int, tick: int) -> bytes:
        """All metrics of one device."""
        now = time.time_ns() // 1_000_000
        first = device * self.metrics
        payload = wire.data_payload(
            time_ms=now, seq=self._numbered(device % NODES),
            signal=np.arange(first, first + self.metrics), alias=self.alias, datatype=self.kinds,
            sample_ms=np.full(self.metrics, now), value=np.full(self.metrics, float(tick)),
        )  # fmt: skip
        return publish(self._topic("DDATA", device), payload)


class Json:
    """One document a device with all its values."""

    def __init__(self, devices: int, metrics: int) -> None:
        self.names = [f"v{m}" for m in range(metrics)]
        self.devices = devices

    def births(self) -> bytes:
        """Documents of tick 0."""
        return b"".join(self.message(device, 0) for device in range(self.devices))

    def message(self, device: int, tick: int) -> bytes:
        """All values of one device."""
        body = {"ts": time.time_ns() // 1_000_000, **dict.fromkeys(self.names, float(tick))}
        return publish(f"plant/d{device}".encode(), orjson.dumps(body))


class Value(Json):
    """One topic a value."""

    def message(self, device: int, tick: int) -> bytes:
        """All values of one device, each in a message of its own."""
        payload = b"%d.5" % tick if tick else b"0.0"
        return b"".join(publish(f"unit/d{device}/{n}".encode(), payload) for n in self.names)


KINDS = {"sparkplug": Sparkplug, "json": Json, "value": Value}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--kind", choices=list(KINDS), required=True)
    parser.add_argument("--devices", type=int, default=150)
    parser.add_argument("--metrics", type=int, default=80)
    parser.add_argument("--hz", type=float, default=4.0)
    given = parser.parse_args()
    link = connect(given.port)
    source = KINDS[given.kind](given.devices, given.metrics)
    source.message(0, 0)  # compiles what writes a message
    link.sendall(source.births())
    print("born", flush=True)
    time.sleep(2.0)
    step, late = 1.0 / given.hz / given.devices, 0
    start, sent, tick = time.perf_counter(), 0, 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        tick += 1
        for device in range(given.devices):
            link.sendall(source.message(device, tick))
            sent += 1
            wait = start + sent * step - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            elif wait < -1.0 / given.hz:
                late += 1
    print(tick, late, flush=True)
    time.sleep(1.0)
    link.sendall(b"\xe0\0")


if __name__ == "__main__":
    main()
