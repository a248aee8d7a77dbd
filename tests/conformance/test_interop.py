# SPDX-License-Identifier: Apache-2.0
"""gRPC's interoperability cases (G10 to G26), through the runners of both fronts.

The clients have no generic call: operations of a few lines are run on them, with methods of the
interoperability service and messages that are octets.

Source: grpc/grpc doc/interop-test-descriptions.md.
"""

from __future__ import annotations

import gc
import os
import sys

import pytest

from purecd import errors
from purecd.core.methods import Method, Policy
from purecd.core.op import Attach, Call, Detach, Next
from purecd.core.retry import call
from purecd.core.serverstream import ServerStream
from purecd.errors import StatusCode
from tests.conformance.interop import (
    INITIAL,
    SERVICE,
    TRAILING,
    Interop,
    body_of,
    simple_request,
    streaming_request,
)
from tests.live.fronts import together
from tests.support.answering import eventually

CANCEL = 8
SIZES = (31_415, 9, 2_653, 58_979)
LARGE = simple_request(314_159, bytes(271_828))


def method(name, service=SERVICE):
    return Method(service + name, bytes, bytes, Policy.READ)


EMPTY, UNARY, STREAMING = method("EmptyCall"), method("UnaryCall"), method("StreamingOutputCall")


ELSEWHERE = os.environ.get("INTEROP_SERVER")
"""host:port of a server of another make to call instead, in a run by hand."""


@pytest.fixture
def server():
    with Interop() as server:
        yield server


@pytest.fixture
def client(front, server):
    return front.client(ELSEWHERE or server.endpoint, timeout=20)


def run(client, op, timeout=20.0):
    return client._run(op, timeout)


def unary(client, request, of=UNARY, **options):
    return run(client, call(of, request, **options))


def read(request, count=None):
    """The messages of a streamed reply, or the first `count` of them before it is given up."""
    stream = ServerStream(STREAMING, request)
    yield Attach(stream)
    messages = []
    while count is None or len(messages) < count:
        message = yield Next(stream)
        if message is None:
            return messages
        messages.append(message)
    yield Detach(stream)
    return messages


def test_g10_empty_unary(client):
    assert unary(client, b"", EMPTY) == b""


def test_g11_large_unary(client):
    assert body_of(unary(client, LARGE)) == bytes(314_159)


def test_g13_server_streaming(client):
    messages = run(client, read(streaming_request(*SIZES)))
    assert [len(body_of(each)) for each in messages] == list(SIZES)


def test_g15_empty_stream(client):
    assert run(client, read(streaming_request())) == []


@pytest.mark.parametrize("value", [b"\xab\xab\xab", b"\x0a\x0b\x0a\x0b\x0a\x0b", b"\0"])
def test_g16_custom_metadata(client, value):
    seen = []

    def asking():
        attempt = Call(
            UNARY,
            simple_request(3),
            metadata=[(INITIAL.encode(), b"test_initial_metadata_value"), (TRAILING.encode(), value)],
        )
        yield attempt
        seen.append(attempt.stream)

    run(client, asking())
    (stream,) = seen
    assert stream.metadata[INITIAL] == ("test_initial_metadata_value",)
    assert stream.trailers[TRAILING] == (value,)


@pytest.mark.parametrize(
    "text", ["test status message", "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"]
)
def test_g17_g18_status_code_and_message(client, text):
    with pytest.raises(errors.RpcError) as caught:
        unary(client, simple_request(0, status=(2, text)))
    assert caught.value.code is StatusCode.UNKNOWN
    assert caught.value.message == text


@pytest.mark.parametrize("service", [SERVICE, "/grpc.testing.UnimplementedService/"])
def test_g19_unimplemented(client, service):
    with pytest.raises(errors.EtcdError) as caught:
        unary(client, b"", method("UnimplementedCall", service))
    assert caught.value.code is StatusCode.UNIMPLEMENTED


def test_g20_cancel_after_begin(client, server):
    unary(client, b"", EMPTY)
    server.sleeping = True

    def given_up():
        stream = ServerStream(STREAMING, streaming_request(*SIZES))
        yield Attach(stream)
        with pytest.raises(TimeoutError):
            yield Next(stream, 0.1)
        yield Detach(stream)

    run(client, given_up())
    eventually(lambda: server.resets == [CANCEL])
    server.sleeping = False
    assert unary(client, b"", EMPTY) == b""
    assert server.connections == 1


def test_g21_cancel_after_first_response(client, server):
    server.endless = True
    (message,) = run(client, read(streaming_request(*SIZES), 1))
    assert len(body_of(message)) == SIZES[0]
    eventually(lambda: server.resets == [CANCEL])
    server.endless = False
    assert unary(client, b"", EMPTY) == b""
    assert server.connections == 1


def test_g22_timeout_on_sleeping_server(client, server):
    unary(client, b"", EMPTY)
    server.sleeping = True
    with pytest.raises(errors.DeadlineExceeded) as caught:
        run(client, call(UNARY, simple_request(0)), 0.001)
    assert caught.value.code is StatusCode.DEADLINE_EXCEEDED
    eventually(lambda: server.resets == [CANCEL])
    server.sleeping = False
    assert unary(client, b"", EMPTY) == b""


@pytest.mark.parametrize(
    "count", [30, pytest.param(1000, marks=[pytest.mark.faults, pytest.mark.timeout(300)])]
)
def test_g24_concurrent_large_unary(client, count):
    bodies = together(count, lambda number: len(body_of(run(client, call(UNARY, LARGE), 200))), 250)
    assert bodies == [314_159] * count


@pytest.mark.skipif(sys.platform != "linux", reason="memory in use is read from /proc")
@pytest.mark.parametrize("again", [False, True], ids=["rpc", "channel"])
@pytest.mark.parametrize(
    "count", [100, pytest.param(10_000, marks=[pytest.mark.faults, pytest.mark.timeout(600)])]
)
def test_g26_soak(front, server, count, again):
    """rpc_soak on one client; channel_soak with a new one for each hundred calls."""
    from tests.conformance.hostile import MIB, give_back, resident

    client = front.client(ELSEWHERE or server.endpoint, timeout=20)
    sizes = set()
    before = 0
    for number in range(count):
        if again and number % 100 == 99:
            client.close()
            client = front.client(ELSEWHERE or server.endpoint, timeout=20)
        sizes.add(len(body_of(unary(client, LARGE))))
        if number == count // 5:
            give_back()
            before = resident()
    gc.collect()
    give_back()
    assert sizes == {314_159}
    print(f"FIGURES {count} calls, {(resident() - before) / MIB:.2f} MiB more at the end than after a fifth")
    assert resident() - before < 8 * MIB
