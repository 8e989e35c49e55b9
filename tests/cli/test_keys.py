"""`mertd keys`, and a daemon that runs with --curve: real commands, each with the same user's folders."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from command_process import PATIENCE_S, complaints, mertd, running, wait_until
from daemon_process import SHORT, TINY, Daemon
from mertd.errors import EndpointError
from mertd.stream.client.subscriber import Subscriber
from mertd.stream.curve_keys import make_pair
from mertd.stream.keyring import Keyring
from mertd.stream.request import ask
from mertd.stream.server.rejections import Rejections
from mertd.wire import Embedding

RUN = [*TINY, "--window", "1", "--hop", "0.25", "--source", "synth:chords"]
ANYWHERE = ("tcp://127.0.0.1:*", "tcp://127.0.0.1:*")


@pytest.fixture
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keyring:
    """One user's key folder, and the folder in which daemons are found."""
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return Keyring(tmp_path / "config" / "mertd" / "keys")


def said(*words: object) -> str:
    done = mertd("keys", *words)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def refused(*words: object) -> str:
    done = mertd(*words)
    (line,) = complaints(done.stderr)
    assert done.returncode in (2, 3)
    return line


def test_keys_are_made_shown_allowed_and_revoked_and_no_secret_is_printed(ring: Keyring) -> None:
    shown = [said("new", "--server"), said("new", "viewer"), said("allow", "viewer")]
    assert ring.server().public in shown[0]
    (command,) = re.findall("`mertd keys (allow .*)`,", shown[1])
    assert shlex.split(command) == ["allow", "viewer", ring.client("viewer").public]
    facts = json.loads(said("show", "--json"))
    assert facts == {
        "folder": str(ring.folder),
        "server": ring.server().public,
        "own": {name: ring.client(name).public for name in ("local", "viewer")},
        "faults": {},
        "allowed": {
            "local": {"public": ring.client().public, "control": True},
            "viewer": {"public": ring.client("viewer").public, "control": False},
        },
    }
    shown += [said("allow", "viewer", facts["own"]["viewer"], "--control"), said("show"), said("revoke", "viewer"), str(facts)]
    assert "viewer: may listen and command" in shown[4]
    assert list(ring.clients()) == ["local"]
    for secret in (ring.server().secret, ring.client().secret, ring.client("viewer").secret):
        assert not any(secret in text for text in shown)


@pytest.mark.parametrize("key", ["-28O/mo.=yfqPpN8aSjwb85zhz/4XlFzEWvc7+&(", "P$.28O/mo.=(fqPpN8aSjwb85zhz/4XlFzEWvc7!"])
def test_the_logged_command_that_allows_a_key_can_be_copied(key: str, ring: Keyring, caplog: pytest.LogCaptureFixture) -> None:
    """Keys that other programs made may begin with a hyphen."""
    Rejections().add("unknown_key", "publish", key)
    (command,) = re.findall("`mertd keys (.*)`", caplog.text)
    said(*shlex.split(command.replace("NAME", "guest")))
    assert ring.clients()["guest"].public == key


@pytest.mark.slow
def test_mistakes_are_explained(ring: Keyring) -> None:
    assert "mertd keys new --server` makes them" in refused("run", *RUN, "--curve")
    assert "keys: not used without curve = true" in refused("run", *RUN, "--keys", ring.folder)
    assert "needs a NAME for a client's keys, or --server" in refused("keys", "new")
    said("new", "--server")
    assert "exists already" in refused("keys", "new", "--server")
    assert "needs a NAME for a client's keys, or --server" in refused("keys", "new", "x", "--server")
    assert "viewer is not on the list" in refused("keys", "revoke", "viewer")
    assert "no key 'viewer'" in refused("status", "--key", "viewer")
    assert "is not a public key" in refused("status", "--server-key", "short")
    (ring.folder / "server.key").chmod(0o644)
    assert "is open to other users (mode 644): chmod 600 it" in refused("run", *RUN, "--curve")


@pytest.mark.slow
def test_on_the_same_machine_it_just_works_and_a_revoked_client_is_cut_off(ring: Keyring) -> None:
    """Also one that has listened for long; the other ones miss nothing, and the daemon runs on."""
    said("new", "--server")
    said("new", "viewer")
    said("allow", "viewer")
    with Daemon(*RUN, "--curve", endpoints=ANYWHERE, keys=ring.client()) as daemon:
        daemon.until(lambda s: s.streams["chords"]["embedded"] > 0)
        where = ["--connect", daemon.publish, "--control", daemon.control]
        done = mertd("tail", *where, "--count", "2", "--last", "1", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        done = mertd("status", "--control", daemon.control)
        assert f"curve   {ring.server().public}, 2 clients allowed; rejected: none" in done.stdout
        with pytest.raises(EndpointError, match="viewer may listen, but not control"):
            ask(daemon.control, {"request": "shutdown"}, keys=ring.client("viewer"))
        tail = [sys.executable, "-m", "mertd", "tail", *where, "--key", "viewer"]
        with (
            Subscriber(daemon.publish, control=daemon.control, keys=ring.client()) as local,
            running(tail, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as viewer,
        ):
            assert viewer.stdout is not None
            assert "chords#" in viewer.stdout.readline()
            seen = [hear(local)]
            said("revoke", "viewer")
            _, error = viewer.communicate(timeout=PATIENCE_S)
            assert viewer.returncode == 3
            assert complaints(error)[0].startswith(f"mertd: the daemon at {daemon.publish} refuses this key")
            while len(seen) < 20:
                seen.append(hear(local))
        assert seen == list(range(seen[0], seen[0] + 20))
        daemon.said("viewer is revoked; its connections are cut off")
        status = daemon.until(lambda s: s.processes["supervisor"]["rejected"].get("unknown_key", 0) > 0)
        assert status.processes["supervisor"]["clients_allowed"] == 1
        assert "refuses this key" in refused("status", "--control", daemon.control, "--key", "viewer")
        wait_until(lambda: daemon.stderr.count(ring.client("viewer").public) == 2, PATIENCE_S, lambda: daemon.stderr)


@pytest.mark.slow
def test_strangers_are_told_and_counted_each_by_what_is_wrong(ring: Keyring, tmp_path: Path) -> None:
    said("new", "--server")
    elsewhere = tmp_path / "elsewhere"
    Keyring(elsewhere).new_client("stranger", ring.server().public)
    Keyring(elsewhere).new_client("misled", make_pair().public)
    with Daemon(*TINY, *SHORT, "--source", "synth:chords", "--curve", "--keys", ring.folder, keys=ring.client()) as daemon:
        daemon.bound()
        for command in (["tail", "--connect", daemon.publish], ["status", "--control", daemon.control]):
            assert "refuses this key" in refused(*command, "--key", "stranger", "--keys", elsewhere)
            assert "breaks off the handshake" in refused(*command, "--key", "misled", "--keys", elsewhere)
        with pytest.raises(EndpointError, match="wants a key"):
            ask(daemon.control, {"request": "status"})
        status = daemon.until(
            lambda s: (
                {"unknown_key", "wrong_server_key"} <= s.processes["supervisor"]["rejected"].keys()
                and len(s.processes["supervisor"]["rejected"]) >= 3
            )
        )
        assert status.processes["supervisor"]["rejected"]["unknown_key"] == 2
        assert daemon.stderr.count("its key is not on the list") == 2
        assert daemon.stderr.count("it expects another server key than this daemon's") == 2


def hear(subscriber: Subscriber) -> int:
    received = subscriber.receive(PATIENCE_S)
    assert received is not None
    assert isinstance(received.message, Embedding)
    assert received.lost == 0
    return received.message.seq
