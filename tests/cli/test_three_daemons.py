"""One client, three daemons whose streams have the same name: never confused, not even when one is started again."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from daemon_process import SHORT, TINY, Daemon
from mertd.stream.client.subscriber import Subscriber
from mertd.wire import Embedding

PATIENCE_S = 60.0


def follow(subscriber: Subscriber, expected: dict[str, int]) -> list[tuple[str, str, bytes, int]]:
    """(daemon, endpoint, boot, seq) of embeddings, until there are so many of each daemon."""
    found: list[tuple[str, str, bytes, int]] = []
    deadline = time.monotonic() + PATIENCE_S
    while any(sum(name == other for other, *_ in found) < count for name, count in expected.items()):
        received = subscriber.receive(deadline - time.monotonic())
        assert received is not None, f"only {found}"
        assert received.lost == 0
        message = received.message
        assert isinstance(message, Embedding)
        assert message.stream == "chords"
        found.append((message.daemon, received.endpoint, message.boot, message.seq))
    return found


@pytest.mark.slow
def test_three_daemons_and_a_restart() -> None:
    with ExitStack() as stack:
        options = [*TINY, *SHORT, "--source", "synth:chords", "--name"]
        daemons = {name: stack.enter_context(Daemon(*options, name)) for name in ("attic", "bar")}
        cellar = Daemon(*options, "cellar")
        everything = [*daemons.values(), cellar]
        with cellar:
            for daemon in everything:
                daemon.until(lambda s: s.streams["chords"]["embedded"] > 0)
            publish, control = [d.publish for d in everything], [d.control for d in everything]
            subscriber = stack.enter_context(Subscriber(publish, control=control, last=1_000))
            first = follow(subscriber, {"attic": 4, "bar": 4, "cellar": 4})
            cellar.stop()
        with Daemon(*options, "cellar", endpoints=(cellar.publish, cellar.control)) as again:
            again.until(lambda s: s.streams["chords"]["embedded"] > 0)
            second = follow(subscriber, {"cellar": 4, "attic": 1, "bar": 1})
            again.stop()
        assert {(name, where) for name, where, *_ in first + second} == set(
            zip(("attic", "bar", "cellar"), publish, strict=True)
        )
        for name in ("attic", "bar", "cellar"):
            runs: dict[bytes, list[int]] = {}
            for _, _, boot, seq in [entry for entry in first + second if entry[0] == name]:
                runs.setdefault(boot, []).append(seq)
            assert len(runs) == (2 if name == "cellar" else 1)
            assert all(seqs == list(range(len(seqs))) for seqs in runs.values()), "each run from its beginning, without a hole"
        assert subscriber.lost == 0


@pytest.mark.slow
def test_without_a_name_daemons_are_told_apart_by_their_endpoint() -> None:
    with Daemon(*TINY, *SHORT, "--source", "synth:chords") as daemon:
        daemon.bound()
        name = daemon.status().daemon
        endpoints = (daemon.publish, daemon.control)
        daemon.stop()
    with Daemon(*TINY, *SHORT, "--source", "synth:chords") as other:
        other.bound()
        assert other.status().daemon != name
        other.stop()
    folder_is_gone = Daemon(*TINY, *SHORT, "--source", "synth:chords", endpoints=endpoints)
    with folder_is_gone as again:
        again.bound()
        assert again.status().daemon == name
        again.stop()
