"""Starts a whole house (supervisor, twin, broker, collectors, brain) for a benchmark or a test."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil


def free_port() -> int:
    """A free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class House:
    """A running ``brain up`` in its own data directory."""

    data: Path
    process: subprocess.Popen[bytes]
    url: str
    link: str
    control: str
    lines: list[str] = field(default_factory=list)

    @classmethod
    def start(cls, data: Path, *options: str, timeout_s: float = 90.0) -> "House":
        """Start and wait until the screens answer."""
        port = free_port()
        command = [sys.executable, "-m", "workshop_brain", "up", "--data", str(data)]
        command += ["--port", str(port), "--no-browser", *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        deadline = time.monotonic() + timeout_s
        text = ""
        while "Ctrl-C" not in text:
            if time.monotonic() > deadline or process.poll() is not None:
                process.kill()
                logs = "".join(
                    f"\n--- {p.name}\n{p.read_text()[-2000:]}" for p in (data / "logs").glob("*")
                )
                raise RuntimeError(f"the house did not start: {text}{logs}")
            text += (process.stdout.read() or b"").decode()
            time.sleep(0.05)
        found = re.search(r"Screens:\s+(\S+)", text)
        link = re.search(r"First start:\s+(\S+)", text)
        control = re.search(r"Demo plant:\s+(\S+)", text)
        assert found is not None
        return cls(
            data,
            process,
            found[1].rstrip("/"),
            link[1] if link else "",
            control[1].rstrip("/") if control else "",
            text.splitlines(),
        )

    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        pids: dict[str, int] = json.loads((self.data / "run" / "pids.json").read_text())
        return pids

    def client(self) -> httpx.Client:
        """A signed-in client, made the administrator by the one-time link."""
        client = httpx.Client(base_url=self.url + "/api/v1", timeout=20, trust_env=False)
        client.headers["Origin"] = self.url
        answer = client.post(
            "/link", json={"token": self.link.rsplit("/", 1)[1], "password": "workshop-1"}
        )
        answer.raise_for_status()
        return client

    def break_unit(self, unit: str, minutes: float) -> dict[str, Any]:
        """Break a machine on the plant's own control."""
        answer = httpx.post(
            self.control + "/break", json={"unit": unit, "minutes": minutes}, trust_env=False
        )
        answer.raise_for_status()
        out: dict[str, Any] = answer.json()
        return out

    def stop(self) -> None:
        """Stop everything, in order."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def usage(pids: dict[str, int]) -> dict[str, tuple[float, int]]:
    """CPU seconds so far and resident bytes now, by process name."""
    out: dict[str, tuple[float, int]] = {}
    for name, pid in pids.items():
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            times = process.cpu_times()
            out[name] = (times.user + times.system, process.memory_info().rss)
    return out
