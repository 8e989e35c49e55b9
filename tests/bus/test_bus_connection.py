"""Who gets in, and what the others are told: one line, with what to do, and without a password."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nkeys
import pytest

from bus.cluster import Cluster
from bus.secured import Authority, Key, Operator
from free_port import free_port
from mertd.bus import nats_client
from mertd.bus.bus_access import BusAccess, parse_servers
from mertd.bus.bus_connection import close_bus, open_bus
from mertd.errors import BusError, UsageError

TLS = """
tls {{ cert_file: "{certificate}", key_file: "{key}", {more} }}
"""


def connect(url: str, **access: Any) -> str:
    """Connect, and return which server let us in."""

    async def run() -> str:
        client = await open_bus(BusAccess(parse_servers(url), **access), "test")
        await client.flush()
        await close_bus(client)
        return str(client.server)

    return asyncio.run(run())


def refusal(url: str, **access: Any) -> str:
    """Connect in vain, and return the reason."""
    with pytest.raises(BusError) as caught:
        connect(url, **access)
    text = str(caught.value)
    assert "\n" not in text
    assert "secret" not in text
    return text


# Addresses


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nats://a", ["nats://a:4222"]),
        ("nats://a:1,b:2, tls://c", ["nats://a:1", "nats://b:2", "tls://c:4222"]),
        ("nats://me:secret@a:1", ["nats://a:1"]),
        ("nats://[::1]:5", ["nats://[::1]:5"]),
    ],
)
def test_addresses(text: str, shown: list[str]) -> None:
    servers = parse_servers(text)
    assert [str(one) for one in servers] == shown
    assert "secret" not in repr(servers)


def test_user_and_password_may_have_any_character() -> None:
    (server,) = parse_servers("nats://m%40e:p%2Fa%3Ass@host")
    assert (server.user, server.password) == ("m@e", "p/a:ss")


@pytest.mark.parametrize(
    "text", ["", ",", "http://a", "nats://", "nats://a:0", "nats://a:99999", "nats://me:secret@a/x", "ws://a"]
)
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_servers(text)
    assert "nats://" in str(caught.value)
    assert "secret" not in str(caught.value)


# Servers


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_client, "CONNECT_S", 0.5)


@contextlib.contextmanager
def listener(greeting: bytes) -> Iterator[str]:
    """Something that is no NATS server: says so much, and nothing more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                with contextlib.suppress(OSError):
                    one, _ = server.accept()
                    accepted.append(one)
                    one.sendall(greeting)

        accepted: list[socket.socket] = []
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"nats://127.0.0.1:{server.getsockname()[1]}"
        finally:
            over.set()
            socket.create_connection(server.getsockname()).close()
            thread.join()
            for one in accepted:
                one.close()


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_nobody_answers_or_somebody_else() -> None:
    assert "connection refused; is nats-server running" in refusal(f"nats://127.0.0.1:{free_port()}")
    assert "is the address right?" in refusal("nats://no-such-host.invalid")
    with listener(b"") as url:
        assert "does not answer as a NATS server" in refusal(url)
    with listener(b"SSH-2.0-OpenSSH\r\n") as url:
        assert "INFO" in refusal(url)


@pytest.mark.slow
def test_the_first_server_that_lets_us_in_is_used() -> None:
    with Cluster() as bus:
        (there,) = bus.urls()
        assert connect(f"nats://127.0.0.1:{free_port()},{there}") == there


@pytest.mark.slow
def test_users_and_passwords() -> None:
    users = 'authorization { users: [ {user: "m@e", password: "sec:ret/secret"} ] }'
    with Cluster(extra=users) as bus:
        address = bus.urls()[0].removeprefix("nats://")
        connect(f"nats://m%40e:sec%3Aret%2Fsecret@{address}")
        assert "user m@e with this password is not accepted" in refusal(f"nats://m%40e:secret@{address}")
        assert "give --credentials" in refusal(f"nats://{address}")
    with Cluster(extra='authorization { token: "secret-token" }') as bus:
        address = bus.urls()[0].removeprefix("nats://")
        connect(f"nats://secret-token@{address}")
        assert "the token is not accepted" in refusal(f"nats://secret-other@{address}")


@pytest.mark.slow
def test_nkeys(tmp_path: Path) -> None:
    known, other = Key(nkeys.PREFIX_BYTE_USER), Key(nkeys.PREFIX_BYTE_USER)
    for name, content in (("known", known.seed), ("other", other.seed), ("junk", b"secret"), ("wrong", b"SUsecret")):
        (tmp_path / name).write_bytes(content + b"\n")
    with Cluster(extra=f"authorization {{ users: [ {{nkey: {known.public}}} ] }}") as bus:
        (url,) = bus.urls()
        connect(url, nkey=str(tmp_path / "known"))
        assert f"the key of {tmp_path}/other is not accepted" in refusal(url, nkey=str(tmp_path / "other"))
        assert "not the seed of a user's key" in refusal(url, nkey=str(tmp_path / "junk"))
        assert "not the seed of a user's key" in refusal(url, nkey=str(tmp_path / "wrong"))
        assert "No such file" in refusal(url, nkey=str(tmp_path / "absent"))


@pytest.mark.slow
def test_credentials(tmp_path: Path) -> None:
    operator = Operator()
    with Cluster(extra=operator.configuration, jetstream=False) as bus:
        (url,) = bus.urls()
        connect(url, credentials=str(operator.credentials(tmp_path / "good.creds")))
        expired = operator.credentials(tmp_path / "expired.creds", seconds=-10)
        assert "expired.creds" in refusal(url, credentials=str(expired))
        other = Operator().credentials(tmp_path / "other.creds")
        assert "other.creds is not accepted" in refusal(url, credentials=str(other))
        (tmp_path / "junk.creds").write_text("secret")
        assert "not a credentials file of NATS" in refusal(url, credentials=str(tmp_path / "junk.creds"))


@pytest.mark.slow
def test_certificates(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    certificate, key = authority.certificate("server")
    ca = str(authority.file)
    with Cluster(extra=TLS.format(certificate=certificate, key=key, more="")) as bus:
        (url,) = bus.urls()
        connect(url, ca=ca)
        connect(url.replace("nats://", "tls://"), ca=ca)
        assert "certificate is not accepted" in refusal(url)
        assert "give the file of who signed it" in refusal(url, ca=str(stranger.file))
    certificate, key = authority.certificate("old", days=-1)
    with Cluster(extra=TLS.format(certificate=certificate, key=key, more="")) as bus:
        text = refusal(bus.url(), ca=ca)
        assert "expired; renew it" in text
    with Cluster() as bus:
        assert "does not encrypt" in refusal(bus.url().replace("nats://", "tls://me:secret@"))
        assert "does not encrypt" in refusal(bus.url(), ca=ca)


@pytest.mark.slow
def test_certificates_of_clients(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    certificate, key = authority.certificate("server")
    ca = str(authority.file)
    more = f'ca_file: "{ca}", verify: true'
    with Cluster(extra=TLS.format(certificate=certificate, key=key, more=more)) as bus:
        url = bus.url()
        own, own_key = (str(path) for path in authority.certificate("client"))
        connect(url, ca=ca, certificate=own, private_key=own_key)
        assert "give --certificate" in refusal(url, ca=ca)
        old, old_key = (str(path) for path in authority.certificate("late", days=-1))
        text = refusal(url, ca=ca, certificate=old, private_key=old_key)
        assert "late.pem" in text
        assert "expired" in text
        foreign, foreign_key = (str(path) for path in stranger.certificate("foreign"))
        assert "foreign.pem" in refusal(url, ca=ca, certificate=foreign, private_key=foreign_key)
        assert "the private key that belongs to it" in refusal(url, ca=ca, certificate=own, private_key=old_key)
        assert "No such file" in refusal(url, ca=ca, certificate="/absent.pem")
