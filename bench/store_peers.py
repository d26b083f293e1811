"""PostgreSQL and VictoriaMetrics as peers of the store: private servers on free loopback ports.

Both are Debian packages (``postgresql``, ``victoria-metrics``); where one is missing, ``why_not``
says so and the benchmark goes on without it.
"""

import http.client
import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from bench.line import free_port

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
VICTORIA = shutil.which("victoria-metrics")
_TABLE = (
    "CREATE TABLE samples (signal int4 NOT NULL, time_ns int8 NOT NULL, value float8 NOT NULL, "
    "quality int2 NOT NULL, text text)"
)


def size_of(directory: Path) -> int:
    """Bytes of all files below a directory."""
    return sum(f.stat().st_size for f in directory.rglob("*") if f.is_file())


class Postgres:
    """One table, filled by binary COPY of files that the server reads itself: no client in between.

    Default settings but for ``max_wal_size``, so that no checkpoint falls into the run.
    """

    def __init__(self, directory: Path) -> None:
        self._bin, self.directory = POSTGRES[-1], directory
        self._user = "postgres" if os.getuid() == 0 else None  # it refuses to run as root
        directory.mkdir()
        if self._user:
            directory.parent.chmod(0o711)  # a temporary directory lets nobody else through
            shutil.chown(directory, self._user)
        self._run("initdb", "-D", str(directory / "data"), "-A", "trust", "-U", "bench")
        port = free_port()
        self._server = subprocess.Popen(
            [
                self._bin / "postgres", "-D", directory / "data", "-p", str(port),
                "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={directory}",
                "-c", "max_wal_size=8GB",
            ],
            stderr=subprocess.DEVNULL, user=self._user,
        )  # fmt: skip
        address = ["-h", "127.0.0.1", "-p", str(port), "-U", "bench", "-d", "postgres"]
        for _ in range(100):
            ready = subprocess.run(
                [self._bin / "pg_isready", *address[:4]], stdout=subprocess.DEVNULL, check=False
            )
            if ready.returncode == 0:
                break
            time.sleep(0.1)
        else:
            self._server.kill()
            raise RuntimeError("PostgreSQL did not come up")
        self._client = subprocess.Popen(
            [self._bin / "psql", "-qAtX", "-v", "ON_ERROR_STOP=1", *address],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.ask(_TABLE)

    def _run(self, program: str, *options: str) -> None:
        subprocess.run(
            [self._bin / program, *options],
            stdout=subprocess.DEVNULL, check=True, user=self._user, cwd="/",
        )  # fmt: skip

    def ask(self, sql: str) -> list[str]:
        """Lines of the answer of one statement; it is committed when this returns."""
        client = self._client
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(f"{sql};\n\\echo done\n")
        client.stdin.flush()
        lines = []
        for line in client.stdout:
            if line == "done\n":
                return lines
            lines.append(line.strip())
        raise RuntimeError(f"PostgreSQL ended at: {sql}")

    def copy(self, file: Path) -> None:
        """Take over one file of rows in the binary COPY format."""
        self.ask(f"COPY samples FROM '{file}' (FORMAT binary)")

    def close(self) -> None:
        """Stop the server and the client."""
        self._client.communicate()
        self._server.terminate()
        self._server.wait()


class VictoriaMetrics:
    """Fed over HTTP in the line protocol of InfluxDB, one line for all signals of a device."""

    def __init__(self, directory: Path) -> None:
        assert VICTORIA is not None
        self.directory, self._port = directory, free_port()
        self._server = subprocess.Popen(
            [
                VICTORIA, f"-storageDataPath={directory}", "-retentionPeriod=100y",
                f"-httpListenAddr=127.0.0.1:{self._port}", "-loggerLevel=ERROR",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for _ in range(100):
            with suppress(OSError):
                self._line = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
                self.ask("GET", "/health")
                return
            time.sleep(0.1)
        self.kill()
        raise RuntimeError("VictoriaMetrics did not come up")

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Body of an answer, over one kept connection."""
        self._line.request(method, path, body)
        answer = self._line.getresponse()
        found = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"VictoriaMetrics: {answer.status} {found[:200]!r}")
        return found

    def write(self, lines: bytes) -> None:
        """Send lines and wait for the answer."""
        self.ask("POST", "/write", lines)

    def kill(self) -> None:
        """kill -9."""
        self._server.kill()
        self._server.wait()

    def close(self) -> None:
        """Stop the server in peace: it writes what it holds in memory."""
        self._server.terminate()
        self._server.wait()


def why_not(peer: type) -> str:
    """Why a peer cannot take part; "" when it can."""
    if peer is Postgres and not POSTGRES:
        return "not installed: apt-get install postgresql"
    if peer is VictoriaMetrics and VICTORIA is None:
        return "not installed: apt-get install victoria-metrics"
    return ""
