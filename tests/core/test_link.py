# SPDX-License-Identifier: Apache-2.0
"""One connection: its states, its bytes, its PINGs."""

from __future__ import annotations

import pytest

from purecd import errors
from purecd.core import methods
from purecd.core.endpoints import Endpoint, parse_endpoint
from purecd.core.link import KEPT_HEADS, Link, LinkState
from purecd.core.op import Call
from purecd.options import Options, Tls
from purecd.wire.grpc import GrpcStream
from tests.wire import peer

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def link_to(text="a:1", *, now=100.0, keepalive_time=10.0, metadata=(), **options):
    endpoint = Endpoint(parse_endpoint(text))
    return Link(endpoint, Options((text,), **options), now, keepalive_time, "purecd/test", metadata)


def ready(now=100.0, **options):
    """A link that is through its greeting, its output so far written."""
    link = link_to(now=now, **options)
    link.opened(now)
    link.receive(peer.frame(peer.SETTINGS, 0, 0), now)
    link.state = LinkState.READY
    link.data_written(len(link.data_to_send()))
    return link


def open_stream(link):
    stream = GrpcStream(Call(methods.PUT, None), max_receive=100, unary=True)
    link.conn.open_stream(stream, peer.REQUEST_BLOCK, peer.message(b"request"), True)
    link.data_written(len(link.data_to_send()))
    return stream


def sent(link):
    data = link.data_to_send()
    link.data_written(len(data))
    return [(frame.kind, frame.payload) for frame in peer.parse(data)]


PING = (peer.PING, b"purecd\0\0")


# From dialling on.


def test_states():
    link = link_to()
    assert repr(link) == "<Link a:1 CONNECTING>"
    link.opened(100.0)
    assert repr(link) == "<Link a:1 STARTING>"
    assert link.data_to_send().startswith(PREFACE)
    assert not link.usable


def test_a_link_must_be_up_within_the_dial_timeout():
    link = link_to(dial_timeout=3.0)
    for state in (LinkState.CONNECTING, LinkState.STARTING, LinkState.GREETING):
        link.state = state
        assert link.next_timer() == 103.0
        assert link.check(102.9) is None
        assert link.check(103.0) == "no answer within the dial timeout (3 s)"


@pytest.mark.parametrize(
    ("text", "tls", "scheme"),
    [
        ("a:1", None, b"http"),
        ("a:1", Tls(), b"https"),
        ("http://a:1", Tls(), b"http"),
        ("https://a:1", None, b"https"),
        ("unix:/run/a", None, b"http"),
        ("unix:/run/a", Tls(), b"https"),
        ("unixs:/run/a", None, b"https"),
    ],
)
def test_the_scheme_decides_about_tls_or_else_the_options(text, tls, scheme):
    link = link_to(text, tls=tls)
    assert link.uses_tls is (scheme == b"https")
    # RFC 7541 Appendix A: index 6 is :scheme http, 7 is https.
    assert link.headers.block(b"/p")[1:2] == (b"\x87" if scheme == b"https" else b"\x86")


@pytest.mark.parametrize(
    ("text", "authority"),
    [("a:1", b"a:1"), ("https://[::1]:2379/x", b"[::1]:2379"), ("unix:///run/etcd.sock", b"etcd.sock")],
)
def test_what_every_request_carries(text, authority):
    block = link_to(text, metadata=((b"client-api-version", b"3.8"),)).headers.block(b"/p")
    for part in (authority, b"purecd/test", b"client-api-version", b"3.8", b"trailers"):
        assert part in block


def test_a_tls_link_begins_with_the_handshake():
    link = link_to("https://a:1")
    link.opened(100.0)
    hello = link.data_to_send()
    assert hello[:1] == b"\x16", "TLS handshake record"
    assert b"h2" in hello
    assert link.data_to_send() == b""


def test_a_tls_link_to_a_plain_server_names_the_reason():
    link = link_to("https://a:1")
    link.opened(100.0)
    with pytest.raises(errors.TlsError, match="does not speak TLS"):
        link.receive(b"HTTP/1.1 400 Bad Request\r\n\r\n", 100.0)


def test_a_bad_certificate_file_fails_the_link():
    link = link_to("https://a:1", tls=Tls(ca_cert="/nowhere/ca.pem"))
    with pytest.raises(errors.TlsError, match=r"/nowhere/ca\.pem"):
        link.opened(100.0)


def test_bytes_count_as_written_when_the_kernel_has_them():
    link = ready()
    stream = GrpcStream(Call(methods.PUT, None), max_receive=100, unary=True)
    link.conn.open_stream(stream, peer.REQUEST_BLOCK, peer.message(b"request"), True)
    size = len(link.data_to_send())
    assert not stream.request_left
    link.data_written(size - 1)
    assert not stream.request_left
    link.data_written(1)
    assert stream.request_left


# Keepalive.


def test_an_idle_link_has_no_timer():
    assert ready().next_timer() is None
    assert ready().check(10_000.0) is None


def test_a_ping_goes_out_after_silence_with_a_stream_open():
    link = ready()
    open_stream(link)
    assert link.next_timer() == 110.0
    assert link.check(109.9) is None
    assert sent(link) == []
    assert link.check(110.0) is None
    assert sent(link) == [PING]
    assert link.next_timer() == 115.0


def test_whatever_arrives_is_a_sign_of_life():
    link = ready()
    open_stream(link)
    link.check(110.0)
    link.receive(peer.frame(peer.PING, 0, 0, b"12345678"), 112.0)
    assert link.next_timer() == 122.0
    assert link.check(115.0) is None


def test_without_an_answer_the_link_is_dead():
    link = ready(keepalive_timeout=3.0)
    open_stream(link)
    link.check(110.0)
    assert link.check(112.9) is None
    assert link.check(113.0) == "no answer to a PING within 3 s"


def test_a_stream_on_a_link_that_was_silent_for_long_is_preceded_by_a_test():
    link = ready()
    open_stream(link)
    assert link.check(500.0) is None
    assert sent(link) == [PING]


def test_keepalive_can_be_switched_off():
    link = ready(keepalive_time=None)
    open_stream(link)
    assert link.next_timer() is None


def test_a_draining_link_is_tested_even_then():
    link = ready(keepalive_time=None)
    link.state = LinkState.DRAINING
    assert link.next_timer() is None, "without a stream it is about to be closed"
    open_stream(link)
    assert link.next_timer() == 130.0
    assert link.check(130.0) is None
    assert sent(link) == [PING]
    assert link.check(135.0) == "no answer to a PING within 5 s"


# Suspicion.


def test_a_suspect_link_is_tested_at_once_and_takes_no_calls():
    link = ready()
    assert link.usable
    link.probe(100.0)
    assert not link.usable
    assert sent(link) == [PING]
    assert link.next_timer() == 102.0
    assert link.check(102.0) == "no answer to a PING within 2 s"


def test_a_short_keepalive_timeout_holds_for_it_as_well():
    link = ready(keepalive_timeout=0.5)
    link.probe(100.0)
    assert link.next_timer() == 100.5


def test_an_answer_clears_it():
    link = ready()
    link.probe(100.0)
    link.receive(peer.frame(peer.PING, peer.ACK, 0, b"purecd\0\0"), 101.0)
    assert link.usable
    assert link.next_timer() is None
    assert link.conn.pings == 1


def test_no_ping_within_5_s_of_the_last():
    # etcd --grpc-keepalive-min-time: three PINGs that come earlier end the connection.
    link = ready()
    link.probe(100.0)
    link.receive(peer.frame(peer.PING, peer.ACK, 0, b"purecd\0\0"), 100.1)
    sent(link)
    link.probe(104.9)
    assert not link.usable
    assert sent(link) == []
    link.probe(105.0)
    assert sent(link) == [PING]


def test_one_ping_at_a_time():
    link = ready()
    open_stream(link)
    link.check(110.0)
    link.probe(111.0)
    assert sent(link) == [PING]
    assert link.next_timer() == 115.0, "the answer is due when the first one said"


def test_what_answers_badly_takes_no_calls_whatever_arrives():
    link = ready()
    link.avoided = True
    link.receive(peer.frame(peer.PING, 0, 0, b"12345678"), 101.0)
    assert not link.usable


# Hints.


def lost(link):
    return link.lost(errors.Unavailable("connection closed by the peer"))


def test_a_peer_that_closes_without_a_word_may_expect_tls():
    link = link_to()
    link.opened(100.0)
    assert "may expect TLS (https://)" in str(lost(link))


@pytest.mark.parametrize("state", [LinkState.CONNECTING, LinkState.GREETING, LinkState.READY])
def test_later_a_loss_is_what_it_is(state):
    link = link_to()
    if state is not LinkState.CONNECTING:
        link.opened(100.0)
        link.receive(peer.frame(peer.SETTINGS, 0, 0), 100.0)
        link.state = state
    assert str(lost(link)) == "connection closed by the peer"


def test_a_peer_that_said_something_gives_no_hint():
    link = link_to()
    link.opened(100.0)
    link.receive(peer.frame(peer.SETTINGS, 0, 0), 100.0)
    assert str(lost(link)) == "connection closed by the peer"


def test_a_tls_alert_to_a_plain_client_is_recognised():
    link = link_to()
    link.opened(100.0)
    with pytest.raises(errors.TlsError, match="https://"):
        link.receive(b"\x15\x03\x01\x00\x02\x02\x46", 100.0)


def test_a_tls_handshake_that_breaks_off():
    link = link_to("https://a:1")
    link.opened(100.0)
    error = lost(link)
    assert type(error) is errors.TlsError
    assert type(error.__cause__) is errors.Unavailable


def test_header_blocks_are_kept_and_told_in_milliseconds():
    link = link_to()
    head = link.request_head(methods.RANGE, 9.99995, ())
    assert link.request_head(methods.RANGE, 9.9999, ()) is head
    assert head.endswith(b"10000000u")
    assert link.request_head(methods.RANGE, 9.999, ()).endswith(b"9999000u")
    assert link.request_head(methods.RANGE, 0.99995, ()).endswith(b"999950u")
    assert b"grpc-timeout" not in link.request_head(methods.RANGE, None, ())
    assert link.request_head(methods.RANGE, 9.99995, ((b"hasleader", b"true"),)) != head
    link.token = b"t1"
    assert b"t1" in link.request_head(methods.RANGE, 9.99995, ())
    assert link.request_head(methods.AUTHENTICATE, 9.99995, ()).endswith(b"10000000u")


def test_few_header_blocks_are_kept():
    link = link_to()
    for number in range(1000):
        link.request_head(methods.RANGE, 2 + number, ())
    assert len(link._heads) <= KEPT_HEADS
