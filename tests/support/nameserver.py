# SPDX-License-Identifier: Apache-2.0
"""A DNS server for SRV records, on a free port of 127.0.0.1.

with NameServer({"_etcd-client._tcp.example.test": [(0, 0, 2379, "localhost")]}) as dns:
    discover("example.test", nameservers=["127.0.0.1"], port=dns.port)
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType

import dns.message
import dns.rcode
import dns.rrset

Record = tuple[int, int, int, str]  # priority, weight, port, target


class NameServer:
    """Answers SRV questions about the names it knows, and NXDOMAIN about others.

    Args:
        records: by name, without the trailing dot.
        silent: never answer.

    Attributes:
        port: UDP port.
        asked: the names of all questions, in order.
    """

    def __init__(self, records: Mapping[str, Sequence[Record]], *, silent: bool = False) -> None:
        self._records = records
        self._silent = silent
        self.asked: list[str] = []

    def __enter__(self) -> NameServer:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._answer, name="NameServer", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _answer(self) -> None:
        while True:
            octets, peer = self._socket.recvfrom(4096)
            if not octets:
                return
            query = dns.message.from_wire(octets)
            (question,) = query.question
            name = question.name.to_text(omit_final_dot=True)
            self.asked.append(name)
            if self._silent:
                continue
            reply = dns.message.make_response(query)
            records = self._records.get(name)
            if records is None:
                reply.set_rcode(dns.rcode.NXDOMAIN)
            else:
                texts = [
                    f"{priority} {weight} {port} {target}." for priority, weight, port, target in records
                ]
                reply.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", "SRV", *texts))
            self._socket.sendto(reply.to_wire(), peer)
