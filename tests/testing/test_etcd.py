# SPDX-License-Identifier: Apache-2.0
"""A real etcd server: its life, its faults, what it leaves behind."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
from base64 import b64decode, b64encode
from typing import Any

import pytest

from purecd.testing import EtcdServer, TlsFiles
from purecd.testing import etcd as module
from tests.live import etcds
from tests.live.etcds import QUICK

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def shared():
    with EtcdServer(args=QUICK) as server:
        yield server


@pytest.fixture
def server(shared):
    """A running server; tests here may do to it what they like."""
    if not shared.running:
        shared.start()
    return shared


def post(server: EtcdServer, method: str, **fields: str) -> dict[str, Any]:
    """One call through etcd's JSON gateway, which needs no client of ours."""
    connection = http.client.HTTPConnection("127.0.0.1", server.client_port, timeout=2)
    try:
        connection.request("POST", method, json.dumps(fields))
        return dict(json.loads(connection.getresponse().read()))
    finally:
        connection.close()


def put(server: EtcdServer, key: bytes, value: bytes) -> None:
    post(server, "/v3/kv/put", key=b64encode(key).decode(), value=b64encode(value).decode())


def get(server: EtcdServer, key: bytes) -> bytes | None:
    answer = post(server, "/v3/kv/range", key=b64encode(key).decode())
    return b64decode(answer["kvs"][0]["value"]) if "kvs" in answer else None


def connects(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_it_serves_when_the_block_is_entered_and_is_gone_after():
    with EtcdServer() as server:
        pid, folder = server.pid, server.log_path.parent
        assert server.endpoint == f"http://127.0.0.1:{server.client_port}"
        assert server.endpoints == [server.endpoint]
        put(server, b"k", b"v")
        assert get(server, b"k") == b"v"
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(RuntimeError, match="is closed"):
        server.start()


@pytest.mark.parametrize("way", ["stop", "kill", "restart"])
def test_data_and_endpoint_outlive_the_process(server, way):
    endpoint, pid = server.endpoint, server.pid
    put(server, b"k", way.encode())
    getattr(server, way)()
    if way != "restart":
        assert not server.running
        assert not connects(server.client_port)
        server.start()
    assert server.endpoint == endpoint
    assert server.pid != pid
    assert get(server, b"k") == way.encode()


def test_stop_is_in_order_and_kill_is_not(server):
    server.stop()
    # With SIGTERM etcd closes its store and says so; with SIGKILL it says nothing more.
    assert "received signal; shutting down" in server.log_tail(40)
    server.start()
    before = server.log_path.stat().st_size
    server.kill()
    assert server.log_path.stat().st_size == before


def test_stop_and_kill_of_what_does_not_run_do_nothing(server):
    server.stop()
    server.stop()
    server.kill()
    with pytest.raises(RuntimeError, match="is not running"):
        server.pause()
    with pytest.raises(RuntimeError, match="is not running"):
        _ = server.pid


def test_a_paused_server_accepts_and_does_not_answer_until_it_resumes(server):
    server.pause()
    assert server.running
    assert connects(server.client_port)  # the kernel accepts
    with pytest.raises(OSError, match="timed out"):
        server.metric("etcd_server_is_leader")
    server.resume()
    server.wait_ready()
    assert server.metric("etcd_server_is_leader") == 1


def test_stop_ends_a_paused_server(server):
    server.pause()
    server.stop()
    assert not server.running


def test_a_server_that_does_not_stop_in_time_is_killed(server):
    with pytest.raises(TimeoutError, match="still ran 0 s after SIGTERM and was killed"):
        server.stop(timeout=0)
    assert not server.running


def test_start_of_what_runs_is_refused(server):
    with pytest.raises(RuntimeError, match="is already running"):
        server.start()


def test_wiped_data_are_gone(server):
    put(server, b"k", b"v")
    with pytest.raises(RuntimeError, match="is running"):
        server.wipe()
    server.stop()
    server.wipe()
    server.start()
    assert get(server, b"k") is None


def test_a_given_data_dir_is_kept(tmp_path):
    with EtcdServer(data_dir=tmp_path / "data", args=QUICK) as server:
        put(server, b"k", b"v")
    with EtcdServer(data_dir=tmp_path / "data", args=QUICK) as server:
        assert get(server, b"k") == b"v"


def test_a_start_that_fails_shows_the_log_and_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(RuntimeError, match="(?s)ended with status .*log ends with:.*no-such-flag") as caught:
        with EtcdServer(args=["--no-such-flag"]):
            pass
    (kept,) = tmp_path.rglob("*.log")
    assert str(kept) in str(caught.value)
    assert "no-such-flag" in kept.read_text()


def test_the_log_is_kept_when_the_block_raises(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(KeyError) as caught:
        with EtcdServer() as server:
            raise KeyError
    assert "ready to serve" in server.log_path.read_text()
    if hasattr(caught.value, "__notes__"):  # Python 3.11
        assert str(server.log_path) in caught.value.__notes__[0]
    assert list(server.log_path.parent.iterdir()) == [server.log_path]


def test_a_port_lost_before_the_first_start_is_replaced():
    server = EtcdServer()
    lost = server.client_port
    with socket.create_server(("127.0.0.1", lost)), server:
        assert server.client_port != lost
        put(server, b"k", b"v")


def test_a_port_lost_later_is_an_error(monkeypatch):
    monkeypatch.setattr(module, "BIND_ATTEMPTS", 2)
    with EtcdServer(args=QUICK) as server:
        server.stop()
        with socket.create_server(("127.0.0.1", server.client_port)):
            with pytest.raises(module.AddressInUse, match="address already in use"):
                server.start()
        server.start()


def test_the_environment_does_not_configure_etcd(monkeypatch):
    monkeypatch.setenv("ETCD_QUOTA_BACKEND_BYTES", "not a number")
    with EtcdServer() as server:
        assert server.metric("etcd_server_quota_backend_bytes") == 2 * 1024**3


def test_given_flags_win():
    with EtcdServer(
        args=["--quota-backend-bytes=12345678", "--advertise-client-urls=http://proxy:1"]
    ) as server:
        assert server.metric("etcd_server_quota_backend_bytes") == 12345678
        (member,) = post(server, "/v3/cluster/member/list")["members"]
        assert member["clientURLs"] == ["http://proxy:1"]


def test_a_metric_is_summed_over_its_labels(server):
    assert server.metric("no_such_metric") == 0
    put(server, b"k", b"v")
    # One series per RPC type, service and method: their sum is what the name alone means.
    assert server.metric("grpc_server_handled_total") > 1


def handshake(server: EtcdServer, context: ssl.SSLContext) -> str | None:
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", server.client_port), timeout=5) as connection:
        with context.wrap_socket(connection, server_hostname="127.0.0.1") as secured:
            secured.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000 04 00 00000000"))
            assert secured.recv(1)  # with TLS 1.3 a refused client certificate shows only here
            return secured.selected_alpn_protocol()


def test_tls_with_etcds_own_certificate(server):
    with pytest.raises(ValueError, match="only with tls=True"):
        _ = server.ca_file
    with EtcdServer(tls=True) as secured:
        assert secured.endpoint.startswith("https://127.0.0.1:")
        assert handshake(secured, ssl.create_default_context(cafile=str(secured.ca_file))) == "h2"


def test_tls_with_files_and_client_certificates(tmp_path):
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    for name in ("127.0.0.1", "client"):
        issued = authority.issue_cert(name)
        issued.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))
        issued.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.pem"))
    ca = str(tmp_path / "ca.pem")
    files = TlsFiles(str(tmp_path / "127.0.0.1.pem"), str(tmp_path / "127.0.0.1.key"), client_ca=ca)
    with EtcdServer(tls=files) as server:
        context = ssl.create_default_context(cafile=ca)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            handshake(server, context)
        context.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
        assert handshake(server, context) == "h2"


@pytest.mark.parametrize("etcd", etcds.present()[1:], ids=lambda etcd: etcd.version)
def test_every_version_starts_and_restarts(etcd):
    with EtcdServer(binary=etcd.path, args=QUICK) as server:
        assert ".".join(map(str, server.version)) == etcd.version
        put(server, b"k", b"v")
        server.restart()
        assert get(server, b"k") == b"v"
