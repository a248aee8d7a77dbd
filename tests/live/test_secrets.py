# SPDX-License-Identifier: Apache-2.0
"""No secret appears where a program shows things: logs, errors, traces, hooks, representations.

Passwords, tokens, the passphrase of a key, keys and values are strings that occur nowhere else. They
go through every public command of both fronts, in success and in failure, while the root logger is
at DEBUG; then they are looked for in clear, in base64, percent-encoded, in hex, and as repr() writes
their bytes.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import io
import logging
import pickle
import traceback
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest

import purecd
import purecd.hooks
from purecd import errors
from purecd.config import from_env
from purecd.options import Options
from tests.live.test_every_method import COMMANDS, GROUPS, KEYWORDS
from tests.support.certificates import Authority
from tests.support.peers import Peer, Silent, refused_endpoint

PASSWORD = "canary password/of+root:ä"
OTHER_PASSWORD = "another canary/password?"
WRONG_PASSWORD = "wrong canary/password#"
TOKEN = "eyJ.canary-token.0123456789abcdef"
PASSPHRASE = "canary passphrase of a key"
KEY = "canary key/of-a-program"
VALUE = "canary value of a program"
GIVEN = (PASSWORD, WRONG_PASSWORD, TOKEN, PASSPHRASE)
ALL = (*GIVEN, OTHER_PASSWORD, KEY, VALUE)


def forms(secret: str) -> set[str]:
    """How a secret may look when it is printed."""
    octets = secret.encode()
    looks = {secret, repr(octets)[2:-1], octets.hex(), ascii(secret)[1:-1]}
    looks |= {urllib.parse.quote(secret), urllib.parse.quote(secret, ""), urllib.parse.quote_plus(secret)}
    for shift in range(3):  # base64 of something longer, wherever in it the secret begins
        code = base64.b64encode(b"\0" * shift + octets).decode().rstrip("=")
        looks.add(code[4 if shift else 0 : -2])
        looks.add(code[4 if shift else 0 : -2].replace("+", "-").replace("/", "_"))
    return looks


def leaks(text: str, secrets: tuple[str, ...]) -> list[str]:
    return [secret for secret in secrets if any(look in text for look in forms(secret))]


@pytest.mark.parametrize(
    "text",
    [
        f"password is {PASSWORD}",
        repr({"password": PASSWORD.encode()}),
        base64.b64encode(f"root:{PASSWORD}".encode()).decode(),
        f"?password={urllib.parse.quote(PASSWORD)}",
        PASSWORD.encode().hex(),
    ],
)
def test_leaks_are_found(text):
    assert leaks(text, (PASSWORD,)) == [PASSWORD]
    assert not leaks("nothing here", ALL)


class Everything(purecd.hooks.Hook):
    """Writes down whatever hooks are told."""

    def __init__(self) -> None:
        self.heard = io.StringIO()

    def call_started(self, method, attempt):
        print(method, attempt, file=self.heard)

    def call_ended(self, state, event):
        print(event, event.error, file=self.heard)

    def connection(self, event, endpoint, detail):
        print(event, endpoint, detail, file=self.heard)

    def watch(self, event, detail):
        print(event, detail, file=self.heard)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All that any logger is told, formatted with its trace."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s %(args)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield written
    root.setLevel(level)
    root.removeHandler(handler)


def shown(error: BaseException) -> Iterator[str]:
    """What programs and crash reporters show of an error, those behind it included."""
    yield from traceback.format_exception(type(error), error, error.__traceback__)
    behind: BaseException | None = error
    seen: set[int] = set()
    while behind is not None and id(behind) not in seen:
        seen.add(id(behind))
        yield str(behind)
        yield repr(behind)
        yield repr(behind.args)
        yield repr(getattr(behind, "__notes__", ()))
        yield repr(vars(behind))
        behind = behind.__cause__ or behind.__context__


def locals_of(trace: TracebackType | None) -> Iterator[str]:
    """The local variables of our frames, as crash reporters print them."""
    ours = str(Path(purecd.__file__).parent)
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code.co_filename.startswith(ours):
            for name, value in frame.f_locals.items():
                yield f"{frame.f_code.co_name}: {name} = {value!r}"
        trace = trace.tb_next


def errors_of(client, tmp_path, timeout) -> Iterator[tuple[str, BaseException]]:
    """Call every command with secrets in its arguments; the errors that come of it."""
    for name, arguments in COMMANDS.items():
        given = [_secret(argument, tmp_path) for argument in arguments]
        options = {**KEYWORDS.get(name, {}), "timeout": timeout}
        if name in ("auth.enable", "auth.disable"):
            continue  # they would end the scene
        group, _, method = name.rpartition(".")
        assert not group or group in GROUPS
        try:
            value = getattr(getattr(client, group) if group else client, method)(*given, **options)
            if name in ("scan", "maintenance.snapshot_chunks"):
                value = list(value)
            yield name, _Shown(value)
            if hasattr(value, "close"):
                value.close()
        except Exception as error:
            yield name, error


class _Shown(Exception):
    """A reply on its way to the same scrutiny; values and keys are its purpose."""

    def __init__(self, value: object) -> None:
        super().__init__()
        self.text = repr(value)


def _secret(argument, tmp_path):
    if argument == "snapshot.db":
        return str(tmp_path / "snapshot.db")
    if isinstance(argument, list) and argument and isinstance(argument[0], purecd.Put):
        return [purecd.Put(KEY, VALUE)]
    return (
        {"password": OTHER_PASSWORD, "k": KEY, "v": VALUE, "key": KEY}.get(argument, argument)
        if (isinstance(argument, str))
        else argument
    )


def scrutinise(client, tmp_path, tokens=(), timeout=0.05):
    """Run every command and look at what comes of it."""
    count = 0
    secrets = (*ALL, *tokens)
    for name, error in errors_of(client, tmp_path, timeout):
        if isinstance(error, _Shown):
            assert not leaks(error.text, (*GIVEN, OTHER_PASSWORD, *tokens)), name
            continue
        count += 1
        for text in shown(error):
            assert not leaks(text, secrets), (name, text)
        # What a caller gives to this very call is in the frames of the call; the rest may not be.
        for text in locals_of(error.__traceback__):
            assert not leaks(text, (*GIVEN, *tokens)), (name, text)
    return count


@pytest.fixture
def guarded(front, start_server):
    """A server that wants passwords."""
    server = start_server()
    admin = front.client(server.endpoint)
    admin.users.add("root", PASSWORD)
    admin.users.grant_role("root", "root")
    admin.auth.enable()
    return server


def issued_tokens(client) -> tuple[str, ...]:
    """The tokens that a client got from servers."""
    client = getattr(client, "wrapped", client)
    links = [driver.channel.current for driver in client._drivers.values()]
    return tuple(link.token.decode() for link in links if link is not None and link.token)


def test_commands_that_work(front, guarded, tmp_path, log):
    hook = Everything()
    client = front.client(guarded.endpoint, user="root", password=PASSWORD, hooks=[hook])
    client.put(KEY, VALUE)
    tokens = issued_tokens(client)
    assert tokens
    scrutinise(client, tmp_path, tokens, timeout=0.5)
    with client.watch(KEY):
        tokens += issued_tokens(client)
    for text in (log.getvalue(), hook.heard.getvalue(), repr(client)):
        assert not leaks(text, (*ALL, *tokens))
    assert "ready" in log.getvalue()


def test_commands_with_a_wrong_password(front, guarded, tmp_path, log):
    hook = Everything()
    client = front.client(guarded.endpoint, user="root", password=WRONG_PASSWORD, hooks=[hook])
    with pytest.raises(errors.AuthFailed):
        client.get(KEY)
    assert scrutinise(client, tmp_path) > 30
    for text in (log.getvalue(), hook.heard.getvalue(), repr(client)):
        assert not leaks(text, ALL)
    assert "auth-failed" in log.getvalue()


def test_commands_with_a_wrong_token(front, guarded, tmp_path, log):
    hook = Everything()
    client = front.client(guarded.endpoint, token=TOKEN, hooks=[hook])
    assert scrutinise(client, tmp_path) > 30
    for text in (log.getvalue(), hook.heard.getvalue(), repr(client)):
        assert not leaks(text, ALL)


@pytest.mark.parametrize("credentials", ["password", "token"])
def test_commands_that_reach_nobody(front, tmp_path, log, credentials):
    hook = Everything()
    given = {"user": "root", "password": PASSWORD} if credentials == "password" else {"token": TOKEN}
    client = front.client(refused_endpoint(), fail_fast=True, hooks=[hook], **given)
    assert scrutinise(client, tmp_path) > 40
    client.close()
    assert scrutinise(client, tmp_path) > 40
    for text in (log.getvalue(), hook.heard.getvalue()):
        assert not leaks(text, ALL)


class Parrot(Peer):
    """Takes the login and breaks HTTP/2 in the middle of it, with the client's own words."""

    def talk(self, client):
        client.sendall(bytes.fromhex("000000 04 00 00000000"))
        while self._read(client):
            if b"root" in self.received:
                client.sendall(self.received[-200:])


@pytest.mark.parametrize("kind", [Silent, Parrot])
def test_a_server_that_is_none(front, log, kind):
    hook = Everything()
    with kind() as peer:
        for given in ({"user": "root", "password": PASSWORD}, {"token": TOKEN}):
            client = front.client(peer.endpoint, dial_timeout=0.2, hooks=[hook], **given)
            with pytest.raises(errors.EtcdError) as caught:
                client.put(KEY, VALUE, timeout=0.4)
            for text in (*shown(caught.value), *locals_of(caught.value.__traceback__)):
                assert not leaks(text, GIVEN), text
            client.close()
    for text in (log.getvalue(), hook.heard.getvalue()):
        assert not leaks(text, ALL)


def test_a_key_whose_passphrase_is_wrong(front, server, tmp_path, log):
    authority = Authority(tmp_path)
    cert, key = authority.issue("client", "client.example", password="something else")
    tls = purecd.Tls(authority.ca_file, cert, key, key_password=PASSPHRASE)
    assert not leaks(repr(tls), ALL)
    client = front.client(server.endpoint.replace("http:", "https:"), tls=tls, fail_fast=True)
    with pytest.raises(errors.TlsError) as caught:
        client.put(KEY, VALUE)
    for text in shown(caught.value):
        assert not leaks(text, ALL), text
    assert not leaks(log.getvalue(), ALL)


def test_messages_that_are_too_large(front, server, log):
    client = front.client(server.endpoint, max_send_size=1000)
    with pytest.raises(errors.MessageTooLarge) as caught:
        client.put(KEY, VALUE * 100)
    for text in shown(caught.value):
        assert not leaks(text, ALL), text
    assert not leaks(log.getvalue(), ALL)


# Without a server.


@pytest.mark.parametrize("front", [purecd.Client, purecd.AsyncClient])
def test_clients_and_options(front):
    tls = purecd.Tls("ca.pem", "cert.pem", "key.pem", key_password=PASSPHRASE)
    for given in ({"user": "root", "password": PASSWORD}, {"token": TOKEN}):
        client = front("https://127.0.0.1:1", tls=tls, **given)
        view = client.namespace("app/")
        for thing in (client, client._options, view, client.users, tls, client.hooks):
            assert not leaks(repr(thing), ALL)
            assert not leaks(str(thing), ALL)
        for steal in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="credentials"):
                steal(client)


def test_options_that_are_refused():
    for given in (
        {"user": "root"},
        {"password": PASSWORD},
        {"user": "root", "password": PASSWORD, "token": TOKEN},
        {"token": TOKEN + "\n"},
        {"token": TOKEN, "timeout": -1},
        {"user": "root", "password": PASSWORD, "require_tls_for_auth": True},
    ):
        with pytest.raises(ValueError) as caught:
            purecd.Client("10.0.0.1:2379", **given)
        for text in shown(caught.value):
            assert not leaks(text, ALL), text


def test_endpoints_with_credentials():
    for endpoint in (f"http://root:{TOKEN}@h:1", f"root:{TOKEN}@h:1", f"ftp://root:{TOKEN}@h:1"):
        with pytest.raises(ValueError) as caught:
            purecd.Client(endpoint)
        assert not leaks(str(caught.value), ALL)


def test_environment(caplog):
    with caplog.at_level(logging.DEBUG):
        for environ in (
            {"ETCDCTL_USER": PASSWORD.replace(":", "")},
            {"ETCDCTL_USER": f"root:{PASSWORD}", "ETCDCTL_DIAL_TIMEOUT": "x"},
            {"ETCDCTL_PASSWORD": PASSWORD, "ETCDCTL_CERT": "c"},
            {"ETCDCTL_AUTH_JWT_TOKEN": TOKEN, "ETCDCTL_INSECURE_TRANSPORT": "x"},
        ):
            with pytest.raises(ValueError) as caught:
                from_env(environ)
            assert not leaks(str(caught.value), (*ALL, PASSWORD.replace(":", "")))
        from_env({"ETCDCTL_TOKEN": TOKEN, "ETCDCTL_PASS": PASSWORD})
    assert not leaks(caplog.text, ALL)


def test_warnings_about_plaintext(caplog):
    purecd.Client("10.0.0.1:2379", user="root", password=PASSWORD)
    assert "without TLS" in caplog.text
    assert not leaks(caplog.text, ALL)


def test_options_are_not_printed_by_accident():
    options = Options(("127.0.0.1:1",), user="root", password=PASSWORD, retry=purecd.options.Retry())
    assert not leaks(f"{options} {options!r}", ALL)
    assert "root" in repr(options), "all else is"


def test_development_mode_of_asyncio(server, log):
    async def main():
        async with purecd.AsyncClient(server.endpoint) as client:
            await client.put(KEY, VALUE)
            call = asyncio.ensure_future(client.users.add("", OTHER_PASSWORD))
            with contextlib.suppress(errors.EtcdError, ValueError):
                await call
            assert not leaks(repr(call), ALL)

    asyncio.run(main(), debug=True)
    assert not leaks(log.getvalue(), ALL)
