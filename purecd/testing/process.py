# SPDX-License-Identifier: Apache-2.0
"""Start programs that cannot outlive the process that started them, however it ends.

One small shell per process, the guard, reads process ids from a pipe whose only writing end is
ours. The kernel closes that end when this process ends, SIGKILL included; the guard then sees
the end of file and kills what is left. A program enters its own id before it is executed, so
there is no moment at which it runs unguarded. (PR_SET_PDEATHSIG would need `preexec_fn`,
which is unsafe beside threads, and fires when the starting *thread* ends.)
"""

from __future__ import annotations

import atexit
import os
import subprocess
import threading
from pathlib import Path
from typing import IO

_GUARD = """
trap '' HUP INT TERM
pids=
while read -r what pid; do
    case $what in
    add) pids="$pids $pid" ;;
    del) kept=
        for one in $pids; do [ "$one" = "$pid" ] || kept="$kept $one"; done
        pids=$kept ;;
    esac
done
[ -z "$pids" ] || kill -9 $pids
"""

# Standard input is the guard's pipe until the program itself takes over.
_ENTER = 'echo "add $$" >&0; exec "$@" </dev/null'


class _Guard:
    """The guard of this process, started with its first program."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards pipe and shell: one guard for all threads
        self._pipe: int | None = None
        self._shell: subprocess.Popen[bytes] | None = None

    def pipe(self) -> int:
        """Writing end of the guard's pipe; starts the guard when there is none."""
        with self._lock:
            if self._pipe is None:
                reading, self._pipe = os.pipe()
                self._shell = subprocess.Popen(
                    ["/bin/sh", "-c", _GUARD],
                    stdin=reading,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # out of reach of the terminal's Ctrl-C
                )
                os.close(reading)
            return self._pipe

    def remove(self, pid: int) -> None:
        """Forget `pid`, which has ended and been waited for."""
        with self._lock:
            if self._pipe is not None:
                os.write(self._pipe, b"del %d\n" % pid)

    def close(self) -> None:
        """Let the guard kill what is left, and wait for it."""
        with self._lock:
            if self._pipe is not None and self._shell is not None:
                os.close(self._pipe)
                self._shell.wait()
                self._pipe = self._shell = None

    def forget(self) -> None:
        """In a forked child: the pipe and the programs are the parent's."""
        self._lock = threading.Lock()
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None
        if self._shell is not None:
            self._shell.returncode = 0  # not our child; without this, Popen warns about it
            self._shell = None


_guard = _Guard()
atexit.register(_guard.close)
os.register_at_fork(after_in_child=_guard.forget)


def spawn(command: list[str], environment: dict[str, str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start `command` guarded, in a session of its own, both output streams into `output`."""
    return subprocess.Popen(
        ["/bin/sh", "-c", _ENTER, "sh", *command],
        stdin=_guard.pipe(),
        stdout=output,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )


def reap(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
    """Wait for `process` for `timeout` seconds and take it off the guard's list; its exit status.

    Raises:
        subprocess.TimeoutExpired: it still runs.
    """
    status = process.wait(timeout)
    _guard.remove(process.pid)
    return status


def tail(path: Path, lines: int = 30) -> str:
    """The last `lines` lines of a text file, of at most its last 16 KiB."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16_384))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
