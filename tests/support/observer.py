# SPDX-License-Identifier: Apache-2.0
"""A witness of what etcd did: its events, read without purecd from the JSON gateway.

The gateway of a member answers ``POST /v3/watch`` with one line of JSON per response. A watch from
revision 1 made at the end tells the whole history; one that runs along sees it before a compaction.
"""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from tests.support.history import Change


def gateway(endpoint: str, path: str, body: dict[str, Any], timeout: float = 5.0) -> dict[str, Any]:
    """The answer to one request, such as ``gateway(url, "kv/put", {...})``."""
    connection = _post(endpoint, path, body, timeout)
    try:
        response = connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
        if response.status != 200:
            raise OSError(f"{endpoint} {path}: {answer}")
        return answer
    finally:
        connection.close()


def put(endpoint: str, key: str, value: str) -> int:
    """Write a key; the revision."""
    return int(gateway(endpoint, "kv/put", {"key": _to64(key), "value": _to64(value)})["header"]["revision"])


def delete(endpoint: str, key: str) -> int:
    """Delete a key; the revision."""
    return int(gateway(endpoint, "kv/deleterange", {"key": _to64(key)})["header"]["revision"])


def seconds_left(endpoint: str, lease_id: int) -> int:
    """How long a lease still lives, -1 when it is gone."""
    answer = gateway(endpoint, "lease/timetolive", {"ID": str(lease_id)})
    return int(answer.get("TTL", 0))


def read_log(endpoint: str, until: int, timeout: float = 20.0) -> list[Change]:
    """Every change from revision 1 to `until`, from one member.

    Raises:
        OSError: it does not tell them all within `timeout` seconds.
    """
    witness = Observer([endpoint])
    deadline = time.monotonic() + timeout
    while witness.revision < until:
        if time.monotonic() > deadline:
            raise OSError(f"{endpoint} told changes up to {witness.revision} of {until}")
        witness.read(until, timeout)
    return witness.changes


class Observer:
    """Watches all keys from revision 1 on, through whatever member answers.

    Args:
        endpoints: client URLs.

    Attributes:
        changes: what was seen, in order.
        revision: up to where.
    """

    def __init__(self, endpoints: Sequence[str]) -> None:
        self.changes: list[Change] = []
        self.revision = 0
        self._endpoints = list(endpoints)
        self._stopping = False
        self._until = 1 << 62
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="Observer", daemon=True)

    def start(self) -> Observer:
        """Watch beside the test from now on."""
        self._thread.start()
        return self

    def finish(self, until: int, timeout: float = 20.0) -> list[Change]:
        """All changes up to a revision; ends the watching."""
        deadline = time.monotonic() + timeout
        while self.revision < until and self._error is None and time.monotonic() < deadline:
            time.sleep(0.02)
        self._stopping = True
        self._thread.join(5)
        if self._error is not None or self.revision < until:
            raise OSError(f"the observer saw changes up to {self.revision} of {until}") from self._error
        return [each for each in self.changes if each.revision <= until]

    def _run(self) -> None:
        try:
            while not self._stopping:
                self.read(1 << 62, 1.0)
                self._endpoints.append(self._endpoints.pop(0))
                time.sleep(0.02)
        except BaseException as error:
            self._error = error

    def read(self, until: int, timeout: float) -> None:
        """Watch through the first endpoint until a revision is seen or the connection ends."""
        request = {"key": "AA==", "range_end": "AA==", "start_revision": str(self.revision + 1)}
        try:
            connection = _post(self._endpoints[0], "watch", {"create_request": request}, timeout)
        except OSError:
            return
        try:
            response = connection.getresponse()
            while not self._stopping and self.revision < until:
                line = response.readline()
                if not line:
                    return
                self._take(json.loads(line)["result"])
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            return  # the member went away, maybe in the middle of a line
        finally:
            connection.close()

    def _take(self, result: dict[str, Any]) -> None:
        if result.get("canceled"):
            raise RuntimeError(f"the observer's watch was cancelled: {result}")
        for event in result.get("events", ()):
            kv = event["kv"]
            revision = int(kv["mod_revision"])
            gone = event.get("type") == "DELETE"
            self.changes.append(
                Change(
                    revision,
                    _from64(kv["key"]),
                    None if gone else _from64(kv.get("value", "")),
                    int(kv.get("create_revision", 0)),
                    int(kv.get("version", 0)),
                )
            )
            # Events of one revision come in one response, and fragments were not asked for.
            self.revision = revision


def _post(endpoint: str, path: str, body: dict[str, Any], timeout: float) -> http.client.HTTPConnection:
    parts = urlsplit(endpoint)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=timeout)
    try:
        connection.request("POST", f"/v3/{path}", json.dumps(body))
    except BaseException:
        connection.close()
        raise
    return connection


def _to64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _from64(text: str) -> str:
    return base64.b64decode(text).decode()
