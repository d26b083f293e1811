"""One instance per data directory: an advisory lock that dies with its holder."""

import errno
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from workshop_brain.errors import StoreError, StoreLockedError


class DataLock:
    """Holds ``DIRECTORY/NAME`` with flock; the kernel frees it when the process dies.

    Raises StoreLockedError, naming the holder's process id, when another process has it.
    """

    def __init__(self, directory: Path, name: str = "lock") -> None:
        self._path = directory / name
        self._fd: int | None = None
        try:
            directory.mkdir(parents=True, exist_ok=True)
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(
                f"{self._path}: cannot be opened ({error.strerror}); "
                "give a data directory that this user may write"
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(fd)
            os.close(fd)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise StoreError(f"{self._path}: cannot be locked ({error.strerror})") from error
            raise StoreLockedError(
                f"{directory} is in use by process {holder}; stop it, or give another data "
                "directory with --data"
            ) from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Free the lock; a second call does nothing."""
        if self._fd is not None:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _holder(fd: int) -> str:
    text = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
    return text if text.isdigit() else "unknown"


_OWN = frozenset(
    {
        "historian", "ledger", "plans", "spool", "run", "pki", "rejected", "logs", "records.sqlite",
        "lock", "brain.lock",
    }
)  # fmt: skip


def is_own(data: Path, path: Path) -> bool:
    """Whether a path lies among the files that the brain itself keeps in a data directory."""
    place, root = path.resolve(), data.resolve()
    return place.is_relative_to(root) and bool({*place.relative_to(root).parts[:1]} & _OWN)
