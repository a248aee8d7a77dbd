# SPDX-License-Identifier: Apache-2.0
"""One real etcd process for tests: started, stopped, killed, paused and restarted at will."""

from __future__ import annotations

import atexit
import http.client
import os
import shutil
import signal
import subprocess
import tempfile
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, TypeVar

from purecd.testing.binary import etcd_version, find_etcd
from purecd.testing.ports import give_back, take_ports
from purecd.testing.process import reap, spawn, tail

BIND_ATTEMPTS = 5
POLL_INTERVAL = 0.02  # seconds; an answer of etcd to a refused or early question takes 1 ms

_Self = TypeVar("_Self", bound="EtcdServer")
_open_servers: weakref.WeakSet[EtcdServer] = weakref.WeakSet()


class TlsFiles(NamedTuple):
    """PEM files for a server with TLS.

    Attributes:
        cert: the server's certificate chain.
        key: its private key.
        client_ca: CA of client certificates; when given, clients must show one.
    """

    cert: str
    key: str
    client_ca: str | None = None


class AddressInUse(RuntimeError):
    """etcd ended at once because one of its ports was taken by someone else."""


class EtcdServer:
    """A real etcd member on free ports of 127.0.0.1.

    As a context manager it starts on entry and is closed on exit. The process never outlives
    this one. All times are seconds.

    Args:
        name: the member's name.
        data_dir: kept as it is; ``None`` for a temporary one, removed by `close`.
        args: more flags for etcd, such as ``["--quota-backend-bytes=1000000"]``; they win
            over those given here. Heartbeat and election time are etcd's, 100 ms and 1 s.
        binary: the etcd program; ``None`` for `find_etcd`.
        tls: ``True`` for a self-signed certificate that etcd makes (`ca_file` names it), or files.
        fsync: whether etcd syncs to disk. Without it, tests are quick and data outlives etcd's
            death, not the machine's. etcd before 3.5 always syncs.

    Attributes:
        version: etcd's, such as ``(3, 5, 16)``.
        client_port, peer_port, metrics_port: TCP ports on 127.0.0.1; the last serves
            ``/health`` and ``/metrics`` without TLS.
        initial_cluster: member name to peer URL, for the first start.
        initial_cluster_state: ``new``, or ``existing`` to join.
        log_path: what etcd printed, over all its starts. Kept when starting failed or the
            ``with`` block raised; otherwise `close` removes it.
    """

    def __init__(
        self,
        name: str = "default",
        *,
        data_dir: str | os.PathLike[str] | None = None,
        args: Sequence[str] = (),
        binary: str | os.PathLike[str] | None = None,
        tls: bool | TlsFiles = False,
        fsync: bool = False,
    ) -> None:
        self.name = name
        self.binary = Path(binary) if binary is not None else find_etcd()
        self.version = etcd_version(self.binary)
        self.args = list(args)
        self.tls = tls
        self.fsync = fsync
        self.initial_cluster_state = "new"
        self._folder = Path(tempfile.mkdtemp(prefix="purecd-etcd-"))
        self.data_dir = Path(data_dir) if data_dir is not None else self._folder / "data"
        self.log_path = self._folder / "etcd.log"
        self._owner = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0  # offset in the log at which the present process began
        self._served = False  # whether its endpoint has been in use, so the ports must stay
        self._closed = False
        self._take_ports()
        _open_servers.add(self)

    # --- what it is ---

    @property
    def endpoint(self) -> str:
        """Client URL, such as ``http://127.0.0.1:12379``."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.client_port}"

    @property
    def endpoints(self) -> list[str]:
        """`endpoint` in a list, for code that takes a server or a cluster."""
        return [self.endpoint]

    @property
    def peer_url(self) -> str:
        """URL at which the other members reach this one."""
        return f"http://127.0.0.1:{self.peer_port}"

    @property
    def ca_file(self) -> Path:
        """With ``tls=True``: PEM file by which a client trusts the server, there once it serves."""
        if self.tls is not True:
            raise ValueError("only with tls=True etcd makes its own certificate")
        return self.data_dir / "fixtures" / "client" / "cert.pem"

    @property
    def pid(self) -> int:
        """Process id. Raises `RuntimeError` when it is not running."""
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"{self} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process exists, paused or not."""
        return self._process is not None and self._process.poll() is None

    def __repr__(self) -> str:
        version = ".".join(map(str, self.version))
        return f"<etcd {version} {self.name} at {self.endpoint}, log {self.log_path}>"

    # --- its life ---

    def start(self, *, wait: bool = True) -> None:
        """Start etcd on its data directory.

        Args:
            wait: until it serves. When a port was taken meanwhile, another is tried, but only on
                the first start: later the endpoint stays.

        Raises:
            RuntimeError: it is running, or it did not come up (the end of the log is in the text).
        """
        if not wait:
            self._spawn()
            return
        for attempt in range(BIND_ATTEMPTS):
            self._spawn()
            try:
                self.wait_ready()
                return
            except AddressInUse:
                if attempt == BIND_ATTEMPTS - 1:
                    raise
                if self._served or len(self.initial_cluster) > 1:
                    time.sleep(0.2)  # others know the ports: perhaps whoever took one leaves
                else:
                    self.change_ports()

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Wait until the member answers a linearizable read, so there is a leader too.

        Raises:
            RuntimeError: etcd ended, or `timeout` seconds passed.
        """
        deadline = time.monotonic() + timeout
        while not self.is_ready():
            if time.monotonic() > deadline:
                raise self._failure(f"did not serve within {timeout:g} s")
            time.sleep(POLL_INTERVAL)

    def is_ready(self) -> bool:
        """Whether the member answers a linearizable read now.

        Raises:
            RuntimeError: etcd is not running; `AddressInUse` when a taken port was the reason.
        """
        # Alarms (no space, corruption) make a member unhealthy but it serves, and tests raise them.
        try:
            status, body = self._fetch("/health?exclude=NOSPACE&exclude=CORRUPT")
        except (OSError, http.client.HTTPException):
            if not self.running:
                raise self._failure(self._ended()) from None
            return False
        healthy = status == 200 and '"health":"true"' in body
        self._served = self._served or healthy
        return healthy

    def stop(self, timeout: float = 15.0) -> None:
        """End it in order (SIGTERM); nothing happens when it is not running.

        Raises:
            TimeoutError: it still ran after `timeout` seconds and was killed.
        """
        self.terminate()
        try:
            self._reap(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimeoutError(f"{self} still ran {timeout:g} s after SIGTERM and was killed") from None

    def terminate(self) -> None:
        """Send SIGTERM without waiting for the end; a paused process is resumed to see it."""
        self._send(signal.SIGTERM, signal.SIGCONT)

    def kill(self) -> None:
        """End it at once (SIGKILL); nothing happens when it is not running."""
        self._send(signal.SIGKILL)
        self._reap(None)

    def _send(self, *signals: signal.Signals) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            for each in signals:
                os.kill(process.pid, each)  # it may end meanwhile; its id is taken until it is reaped

    def restart(self, *, wait: bool = True) -> None:
        """Stop in order and start again, on the same ports and data."""
        self.stop()
        self.start(wait=wait)

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open and nobody answers. Returns when it stands still."""
        os.kill(self.pid, signal.SIGSTOP)
        deadline = time.monotonic() + 1.0
        # Its threads stop one by one, and may answer meanwhile.
        while _is_moving(self.pid) and time.monotonic() < deadline:
            time.sleep(0.001)

    def resume(self) -> None:
        """Let a paused process go on (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def wipe(self) -> None:
        """Remove the data of a member that is not running."""
        if self.running:
            raise RuntimeError(f"{self} is running")
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def change_ports(self) -> None:
        """Use other ports, of a member that has never served: one was taken by someone else."""
        give_back(self._ports)
        self._take_ports()

    def close(self, *, keep_log: bool = False) -> None:
        """Kill it and remove what it left: the temporary data, and the log unless `keep_log`."""
        # A forked child has a copy of this object; the process and the files are the parent's.
        if self._closed or os.getpid() != self._owner:
            return
        self._closed = True
        self.kill()
        give_back(self._ports)
        if keep_log:
            shutil.rmtree(self._folder / "data", ignore_errors=True)
        else:
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self: _Self) -> _Self:
        try:
            self.start()
        except BaseException:
            self.close(keep_log=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        add_note = getattr(error, "add_note", None)  # from Python 3.11 on
        if add_note is not None:
            add_note(f"etcd's log: {self.log_path}")
        self.close(keep_log=error is not None)

    # --- what it says ---

    def log_tail(self, lines: int = 30) -> str:
        """The last `lines` lines of the log."""
        return tail(self.log_path, lines)

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the samples of Prometheus metric `name`, 0 when there is none.

        Args:
            labels: only samples with these, such as ``grpc_method="Authenticate"``.

        Raises:
            OSError: the member does not answer within a second.
        """
        status, body = self._fetch("/metrics")
        if status != 200:
            raise OSError(f"{self} answered {status} to /metrics")
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        samples = (line.rpartition(" ") for line in body.splitlines() if not line.startswith("#"))
        return sum(
            float(value)
            for sample, _, value in samples
            if sample.partition("{")[0] == name and all(each in sample for each in wanted)
        )

    # --- inside ---

    def _take_ports(self) -> None:
        self._ports = take_ports(3)
        self.client_port, self.peer_port, self.metrics_port = self._ports
        self.initial_cluster = {self.name: self.peer_url}

    def _flags(self) -> list[str]:
        flags = [
            f"--name={self.name}",
            f"--data-dir={self.data_dir}",
            f"--listen-client-urls={self.endpoint}",
            f"--advertise-client-urls={self.endpoint}",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--listen-metrics-urls=http://127.0.0.1:{self.metrics_port}",
            "--initial-cluster=" + ",".join(f"{name}={url}" for name, url in self.initial_cluster.items()),
            f"--initial-cluster-state={self.initial_cluster_state}",
        ]
        if isinstance(self.tls, TlsFiles):
            flags += [f"--cert-file={self.tls.cert}", f"--key-file={self.tls.key}"]
            if self.tls.client_ca is not None:
                flags += ["--client-cert-auth", f"--trusted-ca-file={self.tls.client_ca}"]
        elif self.tls:
            flags.append("--auto-tls")
        if not self.fsync and self.version >= (3, 5, 0):
            flags.append("--unsafe-no-fsync")
        return flags + self.args

    def _spawn(self) -> None:
        if self._closed:
            raise RuntimeError(f"{self} is closed")
        if self.running:
            raise RuntimeError(f"{self} is already running")
        self._reap(None)  # it may have ended by itself
        # etcd takes every flag from the environment as well; a test must not depend on that.
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("ETCD_") or name == "ETCD_UNSUPPORTED_ARCH"
        }
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            self._process = spawn([str(self.binary), *self._flags()], environment, log)

    def _reap(self, timeout: float | None) -> None:
        if self._process is not None:
            reap(self._process, timeout)
            self._process = None

    def _ended(self) -> str:
        status = self._process.returncode if self._process is not None else None
        self._reap(None)
        return "is not running" if status is None else f"ended with status {status}"

    def _failure(self, what: str) -> RuntimeError:
        printed = b""
        if self.log_path.exists():  # not before the first start
            with self.log_path.open("rb") as log:
                log.seek(self._log_start)
                printed = log.read()
        kind = AddressInUse if b"address already in use" in printed else RuntimeError
        return kind(f"{self} {what}; the log ends with:\n{self.log_tail()}")

    def _fetch(self, target: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=1.0)
        try:
            connection.request("GET", target)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()


def _is_moving(pid: int) -> bool:
    """Whether a thread of the process is not stopped yet; False where that cannot be seen."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        states = []
        for thread in threads:
            with open(f"/proc/{pid}/task/{thread}/stat", encoding="ascii", errors="replace") as file:
                states.append(file.read().rpartition(")")[2].split()[0])
    except OSError:
        return False
    return any(state not in "Tt" for state in states)


@atexit.register
def _close_all() -> None:
    for server in list(_open_servers):
        server.close()
