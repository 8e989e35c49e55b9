"""What bridges to NATS were reported to do wrong: each report is tried on ours. Its number stands at the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.cluster import Cluster
from bus.made_daemon import MadeDaemon, made_daemon
from bus.relayed import on_bus, relay, relaying, until
from bus.test_relay_faults import assert_all_once_in_order, errors
from command_process import PATIENCE_S, wait_until
from free_port import free_port
from mertd.bus.bus_stream import StreamWish
from mertd.bus.message_id import HoleId
from mertd.bus.subjects import parse_subject

pytestmark = pytest.mark.slow


@pytest.fixture
def made() -> Iterator[MadeDaemon]:
    with made_daemon(f"d{uuid.uuid4().hex[:8]}") as one:
        yield one


def test_a_server_that_is_about_to_stop_is_left_before(
    made: MadeDaemon, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """nats.py #868, NATS.jl #14: a client stays until it is thrown out, and what it sent then is lost."""
    with Cluster(3) as bus:
        with relay(relaying(made, bus.url(), "all", tmp_path, wish=StreamWish("all", True, 3))) as one:
            made.send()
            until(made, lambda: one.stored == 1)
            leaving = bus.nodes[0]
            assert leaving._process
            leaving._process.send_signal(signal.SIGUSR2)
            wait_until(lambda: "lame duck" in leaving.text.lower(), PATIENCE_S, lambda: leaving.text)
            for _ in range(50):
                made.send()
            until(made, lambda: one.stored == 51)
            until(made, lambda: one._writer and one._writer._client and str(one._writer._client.server) == bus.urls()[1])
        assert not [text for text in errors(caplog) if "broke" in text]
        assert_all_once_in_order(made, bus.urls()[1], "all")


def test_a_message_beyond_max_payload_does_not_break_the_connection(made: MadeDaemon, tmp_path: Path) -> None:
    """peer-observer #99, nats.net #376, nats.go #82: one large message, and nothing goes through any more."""
    with Cluster(extra="max_payload: 100KB") as bus:
        with relay(relaying(made, bus.url(), "all", tmp_path)) as one:
            for text in ("a", "x" * 200_000, "b"):
                made.send("event", detail={"text": text})
            until(made, lambda: one.stored == 3)
        (hole,) = [identity for _, identity, _ in on_bus(bus.url(), "all") if isinstance(identity, HoleId)]
        assert (hole.first, hole.end) == (1, 2)


def test_names_may_have_any_character(made: MadeDaemon, tmp_path: Path) -> None:
    """nats-server #4836 and #8611, evcc #33818, mosquitto #1756: spaces and wildcards in names break a bridge."""
    names = ["hall 1.left", "*", ">", "a\tb\r\nPUB x 1", "straße/#+", "😀", "%20", "$JS.API"]
    with Cluster() as bus:
        with relay(relaying(made, bus.url(), "all", tmp_path)) as one:
            for name in names:
                made.send(stream=name)
            until(made, lambda: one.stored == len(names))
        found = [(parse_subject(subject), identity.stream) for subject, identity, _ in on_bus(bus.url(), "all")]
        assert [at.stream for at, _ in found] == [stream for _, stream in found] == names
        assert_all_once_in_order(made, bus.url(), "all")


def test_a_password_is_shown_nowhere(made: MadeDaemon, tmp_path: Path) -> None:
    """nats.py #1006, onchain-mon #142, liftbridge #468, hm2mqtt #424: addresses with passwords in a log."""
    with Cluster(extra='authorization { users: [ {user: "me", password: "other"} ] }', jetstream=False) as bus:
        for port in (bus.nodes[0].client, free_port()):
            words = ["relay", "--to", f"nats://me:topsecret@127.0.0.1:{port}", "--cursor", f"{tmp_path}/{port}"]
            command = [sys.executable, "-m", "mertd", *words, "--connect", made.endpoint, "--control", made.control]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as started:
                assert started.stdout
                said = ""
                while "trying again" not in said:
                    said += started.stdout.readline()
                started.send_signal(signal.SIGTERM)
                said += started.stdout.read()
            assert started.returncode == 0
            assert "topsecret" not in said
        environment = {**os.environ, "MERTD_RELAY": "nats://me:topsecret@a,b"}
        for more in ([], ["--json"]):
            shown = subprocess.run(
                [sys.executable, "-m", "mertd", "config", "show", *more],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            assert "nats://a:4222,nats://b:4222" in shown.stdout
            assert "topsecret" not in shown.stdout + shown.stderr


def test_a_relay_that_is_stopped_writes_what_it_has(made: MadeDaemon, tmp_path: Path) -> None:
    """data-systems #77: what waits when a program is told to end is thrown away."""
    with Cluster() as bus:
        words = ["relay", "--to", bus.url(), "--create", "--cursor", f"{tmp_path}/place", "--since", "2000-01-01"]
        command = [sys.executable, "-m", "mertd", *words, "--connect", made.endpoint, "--control", made.control]
        made.send()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as started:
            until(made, lambda: (tmp_path / "place").exists())
            for _ in range(2_000):
                made.send()
            started.send_signal(signal.SIGTERM)
            assert started.wait(PATIENCE_S) == 0
        there = len(on_bus(bus.url(), "mertd"))
        with relay(relaying(made, bus.url(), "mertd", tmp_path, cursor=tmp_path / "place")) as one:
            made.send()
            until(made, lambda: one.stored == 2_002 - there)
            assert one._writer
            assert not one._writer.skipped, "its place was saved"
        assert_all_once_in_order(made, bus.url(), "mertd")
